/*
 * Files: the only way to a disk.
 *
 * Every function returns 0 (or a count) or a negative BH_E_ code: NOSPACE for ENOSPC and EDQUOT,
 * NOTFOUND, EXISTS, BUSY for a held lock, IO for all else (errno stays set). Short reads and writes
 * are completed here; EINTR is retried. All calls go through one table of operations, which the
 * fault layer (os/fault.h) replaces to lose, tear or reorder unsynced writes and to inject ENOSPC
 * and EIO. Any thread; the table is set before threads start.
 */
#ifndef BH_OS_FILE_H
#define BH_OS_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/errors.h"

struct os_file {
    int fd; /* -1 = none */
};

#define OS_FILE_NONE ((struct os_file){-1})

enum os_open {
    OS_OPEN_READ = 1,
    OS_OPEN_WRITE = 2,     /* read and write */
    OS_OPEN_CREATE = 4,    /* with mode 0600 */
    OS_OPEN_EXCLUSIVE = 8, /* fails with EXISTS */
    OS_OPEN_TRUNCATE = 16,
    OS_OPEN_SECRET = 32, /* created with mode 0400 */
};

int os_file_open(const char *path, unsigned flags, struct os_file *ret_file) BH_MUST_USE;
void os_file_close(struct os_file *file);
/* Reads up to n bytes; *ret_n < n only at the end of the file. */
int os_file_read_at(struct os_file file, uint64_t offset, void *p, size_t n,
                    size_t *ret_n) BH_MUST_USE;
int os_file_write_at(struct os_file file, uint64_t offset, const void *p, size_t n) BH_MUST_USE;
int os_file_sync(struct os_file file) BH_MUST_USE; /* fdatasync */
int os_file_size(struct os_file file, uint64_t *ret_size) BH_MUST_USE;
/* Reserves [0, size) on disk and extends the file with zeros; NOSPACE leaves the file as it was. */
int os_file_reserve(struct os_file file, uint64_t size) BH_MUST_USE;
int os_file_truncate(struct os_file file, uint64_t size) BH_MUST_USE;
/* [0, size) of the file, which is at least so long, to be read; looked up at random. A read that the disk refuses ends the process. */
int os_file_map(struct os_file file, uint64_t size, const uint8_t **ret_bytes) BH_MUST_USE;
void os_file_unmap(const uint8_t *bytes, uint64_t size);
int os_file_lock(struct os_file file) BH_MUST_USE; /* exclusive, not waiting: BUSY */

int os_dir_make(const char *path) BH_MUST_USE; /* mode 0700; one that exists is fine */
int os_dir_sync(const char *path) BH_MUST_USE;
/* Calls `each` for every entry but . and .., in no order; a non-zero return of it ends the walk and
 * is returned. */
int os_dir_list(const char *path, int (*each)(void *context, const char *name),
                void *context) BH_MUST_USE;
int os_path_rename(const char *from, const char *to) BH_MUST_USE; /* then sync the folder */
int os_path_unlink(const char *path) BH_MUST_USE;
bool os_path_exists(const char *path);
int os_path_space(const char *path, uint64_t *ret_free, uint64_t *ret_total) BH_MUST_USE;
/* Owner's permission bits (st_mode & 07777). */
int os_path_mode(const char *path, unsigned *ret_mode) BH_MUST_USE;
/* Absolute path without links, or NOTFOUND. */
int os_path_real(const char *path, char *out, size_t cap) BH_MUST_USE;

/* A whole small file into memory of the caller; TOO_BIG when it does not fit. */
int os_file_read_whole(const char *path, void *p, size_t cap, size_t *ret_n) BH_MUST_USE;
/* Whole file replaced so that after a crash it is the old or the new one: temp, sync, rename, sync
 * folder. */
int os_file_replace(const char *path, const void *p, size_t n, unsigned mode) BH_MUST_USE;

struct os_file_ops {
    int (*open)(const char *path, int flags, unsigned mode);
    int (*close)(int fd);
    long (*pread)(int fd, void *p, size_t n, long offset);
    long (*pwrite)(int fd, const void *p, size_t n, long offset);
    int (*fdatasync)(int fd);
    int (*fallocate)(int fd, long offset, long n);
    int (*ftruncate)(int fd, long n);
    int (*rename)(const char *from, const char *to);
    int (*unlink)(const char *path);
    int (*fsync_dir)(int fd);
};

/* NULL restores the real calls. Before any thread starts. */
void os_file_install(const struct os_file_ops *replacement);
const struct os_file_ops *os_file_real_ops(void);

#endif
