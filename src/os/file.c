#define _GNU_SOURCE
#include "os/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/check.h"

static int real_open(const char *path, int flags, unsigned mode) {
    return open(path, flags, (mode_t)mode);
}

static long real_pread(int fd, void *p, size_t n, long offset) {
    return pread(fd, p, n, offset);
}

static long real_pwrite(int fd, const void *p, size_t n, long offset) {
    return pwrite(fd, p, n, offset);
}

static int real_fallocate(int fd, long offset, long n) {
    return fallocate(fd, 0, offset, n);
}

static int real_ftruncate(int fd, long n) {
    return ftruncate(fd, n);
}

static const struct os_file_ops real_ops = {
    .open = real_open,
    .close = close,
    .pread = real_pread,
    .pwrite = real_pwrite,
    .fdatasync = fdatasync,
    .fallocate = real_fallocate,
    .ftruncate = real_ftruncate,
    .rename = rename,
    .unlink = unlink,
    .fsync_dir = fsync,
};

static const struct os_file_ops *ops = &real_ops;

void os_file_install(const struct os_file_ops *replacement) {
    ops = replacement != NULL ? replacement : &real_ops;
}

const struct os_file_ops *os_file_real_ops(void) {
    return &real_ops;
}

static int code_of_errno(void) {
    switch (errno) {
    case ENOSPC:
    case EDQUOT:
        return BH_E_NOSPACE;
    case ENOENT:
    case ENOTDIR:
        return BH_E_NOTFOUND;
    case EEXIST:
        return BH_E_EXISTS;
    case EWOULDBLOCK:
        return BH_E_BUSY;
    case EACCES:
    case EPERM:
        return BH_E_DENIED;
    default:
        return BH_E_IO;
    }
}

static int open_retried(const char *path, int flags, unsigned mode) {
    int fd = -1;
    do {
        fd = ops->open(path, flags | O_CLOEXEC, mode);
    } while (fd < 0 && errno == EINTR);
    return fd;
}

int os_file_open(const char *path, unsigned flags, struct os_file *ret_file) {
    check((flags & (OS_OPEN_READ | OS_OPEN_WRITE)) != 0);
    int os_flags = (flags & OS_OPEN_WRITE) != 0 ? O_RDWR : O_RDONLY;
    os_flags |= (flags & OS_OPEN_CREATE) != 0 ? O_CREAT : 0;
    os_flags |= (flags & OS_OPEN_EXCLUSIVE) != 0 ? O_EXCL : 0;
    os_flags |= (flags & OS_OPEN_TRUNCATE) != 0 ? O_TRUNC : 0;
    int fd = open_retried(path, os_flags, (flags & OS_OPEN_SECRET) != 0 ? 0400 : 0600);
    if (fd < 0) {
        return code_of_errno();
    }
    *ret_file = (struct os_file){fd};
    return 0;
}

void os_file_close(struct os_file *file) {
    if (file->fd >= 0) {
        /* Whatever had to last was synced before; nobody could act on a failed close. */
        (void)ops->close(file->fd);
        file->fd = -1;
    }
}

int os_file_read_at(struct os_file file, uint64_t offset, void *p, size_t n, size_t *ret_n) {
    check(file.fd >= 0);
    if (offset > (uint64_t)LONG_MAX - n) {
        *ret_n = 0;
        return 0;
    }
    size_t done = 0;
    while (done < n) {
        long got = ops->pread(file.fd, (uint8_t *)p + done, n - done, (long)(offset + done));
        if (got == 0) {
            break;
        }
        if (got < 0) {
            if (errno == EINTR) {
                continue;
            }
            return code_of_errno();
        }
        done += (size_t)got;
    }
    *ret_n = done;
    return 0;
}

int os_file_write_at(struct os_file file, uint64_t offset, const void *p, size_t n) {
    check(file.fd >= 0);
    check(offset <= (uint64_t)LONG_MAX - n);
    size_t done = 0;
    while (done < n) {
        long put = ops->pwrite(file.fd, (const uint8_t *)p + done, n - done, (long)(offset + done));
        if (put < 0) {
            if (errno == EINTR) {
                continue;
            }
            return code_of_errno();
        }
        if (put == 0) {
            errno = EIO;
            return BH_E_IO;
        }
        done += (size_t)put;
    }
    return 0;
}

int os_file_sync(struct os_file file) {
    check(file.fd >= 0);
    /* Not retried, not even after EINTR: the kernel may already have dropped the dirty pages. */
    return ops->fdatasync(file.fd) == 0 ? 0 : BH_E_IO;
}

int os_file_size(struct os_file file, uint64_t *ret_size) {
    struct stat st;
    if (fstat(file.fd, &st) != 0) {
        return code_of_errno();
    }
    *ret_size = (uint64_t)st.st_size;
    return 0;
}

/* For file systems without fallocate: the zeros are written. */
static int reserve_by_writing(struct os_file file, uint64_t from, uint64_t size) {
    static const uint8_t zeros[65536];
    for (uint64_t at = from; at < size;) {
        size_t n = size - at < sizeof zeros ? (size_t)(size - at) : sizeof zeros;
        int code = os_file_write_at(file, at, zeros, n);
        if (code != 0) {
            return code;
        }
        at += n;
    }
    return 0;
}

int os_file_reserve(struct os_file file, uint64_t size) {
    check(size <= (uint64_t)LONG_MAX);
    uint64_t old_size = 0;
    int code = os_file_size(file, &old_size);
    if (code != 0 || size <= old_size) {
        return code;
    }
    int failed = 0;
    do {
        failed = ops->fallocate(file.fd, (long)old_size, (long)(size - old_size));
    } while (failed != 0 && errno == EINTR);
    if (failed == 0) {
        return 0;
    }
    code = errno == EOPNOTSUPP || errno == ENOSYS ? reserve_by_writing(file, old_size, size)
                                                  : code_of_errno();
    if (code != 0) {
        int saved = errno;
        /* Some file systems keep the part that they could reserve. */
        (void)ops->ftruncate(file.fd, (long)old_size);
        errno = saved;
    }
    return code;
}

int os_file_truncate(struct os_file file, uint64_t size) {
    check(size <= (uint64_t)LONG_MAX);
    return ops->ftruncate(file.fd, (long)size) == 0 ? 0 : code_of_errno();
}

int os_file_map(struct os_file file, uint64_t size, const uint8_t **ret_bytes) {
    void *p = mmap(NULL, (size_t)size, PROT_READ, MAP_SHARED, file.fd, 0);
    if (p == MAP_FAILED) {
        return errno == ENOMEM ? BH_E_NOMEM : code_of_errno();
    }
    (void)madvise(p, (size_t)size, MADV_RANDOM);
    *ret_bytes = (const uint8_t *)p;
    return 0;
}

void os_file_unmap(const uint8_t *bytes, uint64_t size) {
    if (bytes != NULL) {
        /* NOLINTNEXTLINE(performance-no-int-to-ptr): the kernel takes what it gave */
        int failed = munmap((void *)(uintptr_t)bytes, (size_t)size);
        check(failed == 0);
    }
}

int os_file_lock(struct os_file file) {
    return flock(file.fd, LOCK_EX | LOCK_NB) == 0 ? 0 : code_of_errno();
}

int os_dir_make(const char *path) {
    if (mkdir(path, 0700) == 0) {
        return 0;
    }
    struct stat st;
    if (errno == EEXIST && stat(path, &st) == 0 && S_ISDIR(st.st_mode)) {
        return 0;
    }
    return code_of_errno();
}

int os_dir_sync(const char *path) {
    int fd = open_retried(path, O_RDONLY | O_DIRECTORY, 0);
    if (fd < 0) {
        return code_of_errno();
    }
    int code = ops->fsync_dir(fd) == 0 ? 0 : BH_E_IO;
    (void)ops->close(fd);
    return code;
}

int os_dir_list(const char *path, int (*each)(void *context, const char *name), void *context) {
    DIR *dir = opendir(path);
    if (dir == NULL) {
        return code_of_errno();
    }
    int code = 0;
    while (code == 0) {
        errno = 0;
        /* readdir is safe here: the stream belongs to this call alone.
         * NOLINTNEXTLINE(concurrency-mt-unsafe) */
        const struct dirent *entry = readdir(dir);
        if (entry == NULL) {
            code = errno != 0 ? code_of_errno() : 0;
            break;
        }
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            code = each(context, entry->d_name);
        }
    }
    (void)closedir(dir);
    return code;
}

int os_path_rename(const char *from, const char *to) {
    return ops->rename(from, to) == 0 ? 0 : code_of_errno();
}

int os_path_unlink(const char *path) {
    return ops->unlink(path) == 0 ? 0 : code_of_errno();
}

bool os_path_exists(const char *path) {
    struct stat st;
    return stat(path, &st) == 0;
}

int os_path_space(const char *path, uint64_t *ret_free, uint64_t *ret_total) {
    struct statvfs st;
    if (statvfs(path, &st) != 0) {
        return code_of_errno();
    }
    *ret_free = (uint64_t)st.f_bavail * st.f_frsize;
    *ret_total = (uint64_t)st.f_blocks * st.f_frsize;
    return 0;
}

int os_path_mode(const char *path, unsigned *ret_mode) {
    struct stat st;
    if (stat(path, &st) != 0) {
        return code_of_errno();
    }
    *ret_mode = (unsigned)st.st_mode & 07777U;
    return 0;
}

int os_path_real(const char *path, char *out, size_t cap) {
    char real[PATH_MAX];
    if (realpath(path, real) == NULL) {
        return code_of_errno();
    }
    size_t n = strlen(real);
    if (n >= cap) {
        return BH_E_TOO_BIG;
    }
    memcpy(out, real, n + 1);
    return 0;
}

int os_file_read_whole(const char *path, void *p, size_t cap, size_t *ret_n) {
    struct os_file file = OS_FILE_NONE;
    int code = os_file_open(path, OS_OPEN_READ, &file);
    if (code != 0) {
        return code;
    }
    uint8_t beyond = 0;
    size_t n = 0;
    size_t more = 0;
    code = os_file_read_at(file, 0, p, cap, &n);
    if (code == 0 && n == cap) {
        code = os_file_read_at(file, cap, &beyond, 1, &more);
    }
    os_file_close(&file);
    if (code != 0) {
        return code;
    }
    if (more != 0) {
        return BH_E_TOO_BIG;
    }
    *ret_n = n;
    return 0;
}

/* The folder that holds `path`, for syncing the name. */
static void folder_of(const char *path, char *out, size_t cap) {
    const char *slash = strrchr(path, '/');
    size_t n = slash == NULL ? 0 : (size_t)(slash - path);
    check(n + 2 <= cap);
    if (slash == NULL) {
        (void)snprintf(out, cap, ".");
    } else if (n == 0) {
        (void)snprintf(out, cap, "/");
    } else {
        memcpy(out, path, n);
        out[n] = 0;
    }
}

int os_file_replace(const char *path, const void *p, size_t n, unsigned mode) {
    char temporary[PATH_MAX];
    char folder[PATH_MAX];
    int length = snprintf(temporary, sizeof temporary, "%s.tmp", path);
    if (length < 0 || (size_t)length >= sizeof temporary) {
        return BH_E_TOO_BIG;
    }
    folder_of(path, folder, sizeof folder);
    /* One that a crash left behind may be read-only. */
    (void)ops->unlink(temporary);
    int fd = open_retried(temporary, O_RDWR | O_CREAT | O_EXCL, mode);
    if (fd < 0) {
        return code_of_errno();
    }
    struct os_file file = {fd};
    int code = os_file_write_at(file, 0, p, n);
    if (code == 0) {
        code = os_file_sync(file);
    }
    os_file_close(&file);
    if (code == 0) {
        code = os_path_rename(temporary, path);
    }
    if (code == 0) {
        return os_dir_sync(folder);
    }
    (void)ops->unlink(temporary);
    return code;
}
