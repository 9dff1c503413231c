#define _GNU_SOURCE
#include "os/fault.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/check.h"
#include "os/env.h"
#include "os/fault_int.h"
#include "os/file.h"

/*
 * A file is known by its inode, so that two descriptors of one file see each other's writes as they
 * do in the page cache. Its unsynced writes are a list in the order in which they were made;
 * reading lays them over what the kernel has. The size is never delayed: a write behind the end
 * extends the file with zeros at once, which is one of the things that a crash can leave.
 */

enum { FDS_MAX = 65536, FILES_MAX = 1024, RULES_MAX = 16, PATH_BYTES = 512 };

struct pending {
    struct pending *next;
    long offset;
    size_t n;
    uint8_t bytes[];
};

struct faulty_file {
    bool used;
    bool dead; /* unlinked: the inode number may come again */
    dev_t device;
    ino_t inode;
    unsigned descriptors;
    char path[PATH_BYTES];
    struct pending *first;
    struct pending **last;
};

enum operation { OP_SYNC, OP_WRITE, OP_READ, OP_TRUNCATE, OP_RENAME, OP_DIR, OP_RESERVE };

struct rule {
    enum operation operation;
    int error;
    char part[64];
    char switch_file[PATH_BYTES]; /* "": by count */
    uint64_t from;
    uint64_t to;
    uint64_t seen;
};

static const struct {
    const char *name;
    enum operation operation;
    int error;
} rule_names[] = {
    {"eio_sync", OP_SYNC, EIO},     {"eio_write", OP_WRITE, EIO},
    {"eio_read", OP_READ, EIO},     {"eio_truncate", OP_TRUNCATE, EIO},
    {"eio_rename", OP_RENAME, EIO}, {"eio_dir", OP_DIR, EIO},
    {"enospc", OP_RESERVE, ENOSPC}, {"enospc_write", OP_WRITE, ENOSPC},
};

static struct {
    pthread_mutex_t mutex;
    const struct os_file_ops *real;
    uint64_t random;
    uint64_t operations;
    uint64_t loss_at; /* 0 = never */
    bool garble;
    bool names; /* changes of names are lost too when their folder was not synced */
    bool on_signal;
    struct rule rules[RULES_MAX];
    unsigned rule_count;
    int file_of_fd[FDS_MAX]; /* index + 1 */
    struct faulty_file files[FILES_MAX];
} disk = {.mutex = PTHREAD_MUTEX_INITIALIZER};

static sem_t loss_signal;

static uint64_t next_random(void) {
    disk.random ^= disk.random << 13;
    disk.random ^= disk.random >> 7;
    disk.random ^= disk.random << 17;
    return disk.random * UINT64_C(0x2545f4914f6cdd1d) >> 11;
}

static void forget_pending(struct faulty_file *file) {
    while (file->first != NULL) {
        struct pending *next = file->first->next;
        free(file->first);
        file->first = next;
    }
    file->last = &file->first;
}

static struct faulty_file *file_of(int fd) {
    check(fd >= 0 && fd < FDS_MAX);
    int index = disk.file_of_fd[fd];
    return index != 0 ? &disk.files[index - 1] : NULL;
}

static void release_if_idle(struct faulty_file *file) {
    if (file->descriptors == 0 && (file->dead || file->first == NULL)) {
        forget_pending(file);
        file->used = false;
    }
}

static void track(int fd, const char *path) {
    struct stat st;
    struct faulty_file *spare = NULL;
    check(fd < FDS_MAX);
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        disk.file_of_fd[fd] = 0;
        return;
    }
    for (int i = 0; i < FILES_MAX; i++) {
        struct faulty_file *file = &disk.files[i];
        if (file->used && !file->dead && file->device == st.st_dev && file->inode == st.st_ino) {
            file->descriptors++;
            disk.file_of_fd[fd] = i + 1;
            return;
        }
        if (!file->used && spare == NULL) {
            spare = file;
        }
    }
    check(spare != NULL);
    *spare = (struct faulty_file){
        .used = true, .device = st.st_dev, .inode = st.st_ino, .descriptors = 1};
    spare->last = &spare->first;
    (void)snprintf(spare->path, sizeof spare->path, "%s", path);
    disk.file_of_fd[fd] = (int)(spare - disk.files) + 1;
}

/* The name is about to go away: its inode is no longer the file that we know. */
static void name_goes(const char *path) {
    struct stat st;
    if (stat(path, &st) != 0 || st.st_nlink > 1) {
        return;
    }
    for (int i = 0; i < FILES_MAX; i++) {
        struct faulty_file *file = &disk.files[i];
        if (file->used && !file->dead && file->device == st.st_dev && file->inode == st.st_ino) {
            file->dead = true;
            release_if_idle(file);
        }
    }
}

/* Whether a rule makes this operation fail; errno says how. */
static bool refused(enum operation operation, const char *path) {
    int error = 0;
    for (unsigned i = 0; i < disk.rule_count; i++) {
        struct rule *rule = &disk.rules[i];
        if (rule->operation != operation || strstr(path, rule->part) == NULL) {
            continue;
        }
        rule->seen++;
        bool hit = rule->switch_file[0] != 0 ? access(rule->switch_file, F_OK) == 0
                                             : rule->seen >= rule->from && rule->seen <= rule->to;
        error = hit ? rule->error : error;
    }
    errno = error != 0 ? error : errno;
    return error != 0;
}

static void put_real(int fd, const uint8_t *p, size_t n, long offset) {
    while (n != 0) {
        long put = disk.real->pwrite(fd, p, n, offset);
        if (put <= 0) {
            return; /* a disk that is really full or broken loses even more */
        }
        p += put;
        n -= (size_t)put;
        offset += put;
    }
}

enum fate { FATE_LOST, FATE_KEPT, FATE_GARBLED };

/* One write, sector by sector. */
static void let_some_through(int fd, const struct pending *write, unsigned kept_of_eight,
                             bool garble) {
    for (size_t at = 0; at < write->n;) {
        long offset = write->offset + (long)at;
        size_t room = OS_FAULT_SECTOR - (size_t)(offset % OS_FAULT_SECTOR);
        size_t n = write->n - at < room ? write->n - at : room;
        enum fate fate = next_random() % 8 < kept_of_eight ? FATE_KEPT : FATE_LOST;
        /* A sector that also holds synced bytes keeps them: it is never garbled. */
        if (fate == FATE_LOST && garble && n == OS_FAULT_SECTOR && next_random() % 4 == 0) {
            fate = FATE_GARBLED;
        }
        if (fate == FATE_KEPT) {
            put_real(fd, write->bytes + at, n, offset);
        } else if (fate == FATE_GARBLED) {
            uint8_t noise[OS_FAULT_SECTOR];
            for (size_t i = 0; i < n; i++) {
                noise[i] = (uint8_t)next_random();
            }
            put_real(fd, noise, n, offset);
        }
        at += n;
    }
}

/* A random part of a file's unsynced writes reaches the disk: none, all, or each sector by itself,
 * in any order. */
static void spill(struct faulty_file *file) {
    static const unsigned shares[] = {0, 1, 4, 7, 8};
    unsigned kept_of_eight = shares[next_random() % BH_COUNT(shares)];
    int fd = open(file->path, O_RDWR | O_CLOEXEC);
    struct stat st;
    if (fd >= 0 && fstat(fd, &st) == 0 && st.st_ino == file->inode) {
        bool backwards = next_random() % 2 == 0;
        for (int round = 0; round < 2; round++) {
            /* Where writes overlap, the older one may win: every second in one round, the rest in
             * the other. */
            unsigned index = 0;
            for (const struct pending *write = file->first; write != NULL;
                 write = write->next, index++) {
                bool second = (index % 2 != 0) != backwards;
                if (second == (round != 0)) {
                    let_some_through(fd, write, kept_of_eight, disk.garble);
                }
            }
        }
    }
    if (fd >= 0) {
        (void)close(fd);
    }
}

static _Noreturn void lose_power(void) {
    for (int i = 0; i < FILES_MAX; i++) {
        struct faulty_file *file = &disk.files[i];
        if (file->used && !file->dead && file->first != NULL) {
            spill(file);
        }
    }
    /* After the bytes, which are found by the names that their files have now. */
    fault_names_lose(next_random());
    _exit(OS_FAULT_LOSS_STATUS);
}

_Noreturn void os_fault_power_loss(void) {
    (void)pthread_mutex_lock(&disk.mutex);
    lose_power();
}

/* Every changing operation begins here, under the mutex. */
static void step(void) {
    (void)pthread_mutex_lock(&disk.mutex);
    disk.operations++;
    if (disk.operations == disk.loss_at) {
        lose_power();
    }
}

static void leave(void) {
    int saved = errno;
    (void)pthread_mutex_unlock(&disk.mutex);
    errno = saved;
}

static int fault_open(const char *path, int flags, unsigned mode) {
    (void)pthread_mutex_lock(&disk.mutex);
    bool creates = disk.names && (flags & O_CREAT) != 0 && access(path, F_OK) != 0;
    int fd = disk.real->open(path, flags, mode);
    if (fd >= 0 && creates) {
        fault_names_created(path);
    }
    if (fd >= 0) {
        track(fd, path);
        struct faulty_file *file = file_of(fd);
        if (file != NULL && (flags & O_TRUNC) != 0) {
            forget_pending(file);
        }
    }
    leave();
    return fd;
}

static int fault_close(int fd) {
    (void)pthread_mutex_lock(&disk.mutex);
    struct faulty_file *file = file_of(fd);
    if (file != NULL) {
        disk.file_of_fd[fd] = 0;
        file->descriptors--;
        release_if_idle(file);
    }
    int result = disk.real->close(fd);
    leave();
    return result;
}

static long fault_pread(int fd, void *p, size_t n, long offset) {
    (void)pthread_mutex_lock(&disk.mutex);
    struct faulty_file *file = file_of(fd);
    long got = -1;
    if (file == NULL || !refused(OP_READ, file->path)) {
        got = disk.real->pread(fd, p, n, offset);
    }
    for (const struct pending *write = file != NULL && got > 0 ? file->first : NULL; write != NULL;
         write = write->next) {
        long from = write->offset > offset ? write->offset : offset;
        long write_end = write->offset + (long)write->n;
        long to = write_end < offset + got ? write_end : offset + got;
        if (from < to) {
            memcpy((uint8_t *)p + (from - offset), write->bytes + (from - write->offset),
                   (size_t)(to - from));
        }
    }
    leave();
    return got;
}

static long fault_pwrite(int fd, const void *p, size_t n, long offset) {
    step();
    struct faulty_file *file = file_of(fd);
    struct stat st;
    long put = -1;
    if (file == NULL) {
        put = disk.real->pwrite(fd, p, n, offset);
    } else if (!refused(OP_WRITE, file->path) && fstat(fd, &st) == 0 &&
               (offset + (long)n <= st.st_size || ftruncate(fd, offset + (long)n) == 0)) {
        struct pending *write = (struct pending *)malloc(sizeof *write + n);
        check(write != NULL);
        write->next = NULL;
        write->offset = offset;
        write->n = n;
        memcpy(write->bytes, p, n);
        *file->last = write;
        file->last = &write->next;
        put = (long)n;
    }
    leave();
    return put;
}

static int fault_fdatasync(int fd) {
    step();
    struct faulty_file *file = file_of(fd);
    int result = 0;
    if (file == NULL) {
        result = disk.real->fdatasync(fd);
    } else if (refused(OP_SYNC, file->path)) {
        int saved = errno;
        spill(file);
        forget_pending(file);
        errno = saved;
        result = -1;
    } else {
        for (const struct pending *write = file->first; write != NULL; write = write->next) {
            put_real(fd, write->bytes, write->n, write->offset);
        }
        forget_pending(file);
    }
    leave();
    return result;
}

static int fault_fallocate(int fd, long offset, long n) {
    step();
    struct faulty_file *file = file_of(fd);
    int result =
        file != NULL && refused(OP_RESERVE, file->path) ? -1 : disk.real->fallocate(fd, offset, n);
    leave();
    return result;
}

/* What was written behind the new end is gone for good. */
static void cut_pending(struct faulty_file *file, long n) {
    for (struct pending **at = &file->first; *at != NULL;) {
        struct pending *write = *at;
        if (write->offset >= n) {
            *at = write->next;
            free(write);
            continue;
        }
        if (write->offset + (long)write->n > n) {
            write->n = (size_t)(n - write->offset);
        }
        at = &write->next;
    }
    file->last = &file->first;
    while (*file->last != NULL) {
        file->last = &(*file->last)->next;
    }
}

static int fault_ftruncate(int fd, long n) {
    step();
    struct faulty_file *file = file_of(fd);
    int result =
        file != NULL && refused(OP_TRUNCATE, file->path) ? -1 : disk.real->ftruncate(fd, n);
    if (result == 0 && file != NULL) {
        cut_pending(file, n);
    }
    leave();
    return result;
}

/* Rules and power loss find a file by the name that it has now. */
static void rename_known(const char *from, const char *to) {
    struct stat st;
    if (stat(from, &st) != 0) {
        return;
    }
    for (int i = 0; i < FILES_MAX; i++) {
        struct faulty_file *file = &disk.files[i];
        if (file->used && !file->dead && file->device == st.st_dev && file->inode == st.st_ino) {
            (void)snprintf(file->path, sizeof file->path, "%s", to);
        }
    }
}

static int fault_rename(const char *from, const char *to) {
    step();
    int result = -1;
    if (!refused(OP_RENAME, from)) {
        struct fault_names_before before = fault_names_before(disk.names ? to : "");
        name_goes(to);
        rename_known(from, to);
        result = disk.real->rename(from, to);
        if (result == 0 && disk.names) {
            fault_names_renamed(from, to, before);
        } else {
            fault_names_forget(before);
        }
    }
    leave();
    return result;
}

static int fault_unlink(const char *path) {
    step();
    struct fault_names_before before = fault_names_before(disk.names ? path : "");
    name_goes(path);
    int result = disk.real->unlink(path);
    if (result == 0 && disk.names) {
        fault_names_unlinked(path, before);
    } else {
        int saved = errno;
        fault_names_forget(before);
        errno = saved;
    }
    leave();
    return result;
}

static int fault_fsync_dir(int fd) {
    step();
    int result = refused(OP_DIR, "") ? -1 : 0;
    if (result == 0) {
        fault_names_synced(fd);
    }
    leave();
    return result;
}

static const struct os_file_ops fault_ops = {
    .open = fault_open,
    .close = fault_close,
    .pread = fault_pread,
    .pwrite = fault_pwrite,
    .fdatasync = fault_fdatasync,
    .fallocate = fault_fallocate,
    .ftruncate = fault_ftruncate,
    .rename = fault_rename,
    .unlink = fault_unlink,
    .fsync_dir = fault_fsync_dir,
};

static void on_loss_signal(int number) {
    (void)number;
    (void)sem_post(&loss_signal);
}

static void *wait_for_loss_signal(void *context) {
    (void)context;
    while (sem_wait(&loss_signal) != 0) {
    }
    os_fault_power_loss();
}

/* The handler may interrupt anything, so it only wakes a thread that may wait for the mutex. */
static int watch_signal(void) {
    struct sigaction action = {.sa_handler = on_loss_signal, .sa_flags = SA_RESTART};
    pthread_t thread;
    sigset_t all;
    sigset_t before;
    if (sem_init(&loss_signal, 0, 0) != 0 || sigaction(SIGUSR2, &action, NULL) != 0) {
        return BH_E_IO;
    }
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = pthread_create(&thread, NULL, wait_for_loss_signal, NULL);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    return failed == 0 ? pthread_detach(thread) : BH_E_NOMEM;
}

/* PART:WHEN */
static bool parse_rule(struct span value, struct rule *rule) {
    size_t colon = span_find_byte(value, ':');
    struct span part = span_cut(value, 0, colon);
    struct span when = span_from(value, colon == SIZE_MAX ? value.n : colon + 1);
    if (colon == SIZE_MAX || part.n >= sizeof rule->part || when.n == 0) {
        return false;
    }
    memcpy(rule->part, part.p, part.n);
    if (when.p[0] == '@') {
        if (when.n < 2 || when.n > sizeof rule->switch_file) {
            return false;
        }
        memcpy(rule->switch_file, when.p + 1, when.n - 1);
        return true;
    }
    size_t dash = span_find_byte(when, '-');
    if (dash != SIZE_MAX) {
        return span_to_u64(span_cut(when, 0, dash), &rule->from) &&
               span_to_u64(span_from(when, dash + 1), &rule->to);
    }
    bool open_end = when.p[when.n - 1] == '+';
    when.n -= open_end ? 1 : 0;
    if (!span_to_u64(when, &rule->from)) {
        return false;
    }
    rule->to = open_end ? UINT64_MAX : rule->from;
    return true;
}

static bool parse_setting(struct span name, struct span value) {
    uint64_t number = 0;
    bool is_number = span_to_u64(value, &number);
    if (span_is(name, "seed") && is_number) {
        disk.random = number * UINT64_C(0x9e3779b97f4a7c15) + 1;
    } else if (span_is(name, "loss_at") && is_number) {
        disk.loss_at = number;
    } else if (span_is(name, "garble") && is_number) {
        disk.garble = number != 0;
    } else if (span_is(name, "names") && is_number) {
        disk.names = number != 0;
    } else if (span_is(name, "signal") && is_number) {
        disk.on_signal = number != 0;
    } else {
        for (size_t i = 0; i < BH_COUNT(rule_names); i++) {
            if (span_is(name, rule_names[i].name) && disk.rule_count < RULES_MAX) {
                struct rule *rule = &disk.rules[disk.rule_count++];
                *rule = (struct rule){.operation = rule_names[i].operation,
                                      .error = rule_names[i].error};
                return parse_rule(value, rule);
            }
        }
        return false;
    }
    return true;
}

void os_fault_remove(void) {
    os_file_install(NULL);
    for (int i = 0; i < FILES_MAX; i++) {
        forget_pending(&disk.files[i]);
        disk.files[i].used = false;
    }
    fault_names_reset();
    memset(disk.file_of_fd, 0, sizeof disk.file_of_fd);
    disk.rule_count = 0;
    disk.operations = 0;
    disk.loss_at = 0;
    disk.garble = false;
    disk.names = false;
    disk.on_signal = false;
}

int os_fault_install(const char *spec, struct err *err) {
    os_fault_remove();
    disk.real = os_file_real_ops();
    disk.random = 1;
    struct span rest = span_str(spec);
    while (rest.n != 0) {
        size_t comma = span_find_byte(rest, ',');
        struct span setting = span_cut(rest, 0, comma);
        rest = comma == SIZE_MAX ? SPAN_NONE : span_from(rest, comma + 1);
        size_t equals = span_find_byte(setting, '=');
        if (equals == SIZE_MAX ||
            !parse_setting(span_cut(setting, 0, equals), span_from(setting, equals + 1))) {
            os_fault_remove();
            return err_set(err, BH_E_CONFIG, "BULKHEAD_FAULTS does not know '%.*s'", (int)setting.n,
                           (const char *)setting.p);
        }
    }
    int code = disk.on_signal ? watch_signal() : 0;
    if (code == 0) {
        os_file_install(&fault_ops);
    }
    return code;
}

int os_fault_from_environment(bool *ret_installed, struct err *err) {
    *ret_installed = false;
#ifdef BH_FAULTS
    const char *spec = os_env("BULKHEAD_FAULTS");
    if (spec != NULL) {
        int code = os_fault_install(spec, err);
        *ret_installed = code == 0;
        return code;
    }
#else
    (void)err;
#endif
    return 0;
}

uint64_t os_fault_operations(void) {
    (void)pthread_mutex_lock(&disk.mutex);
    uint64_t operations = disk.operations;
    (void)pthread_mutex_unlock(&disk.mutex);
    return operations;
}
