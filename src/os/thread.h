/*
 * Threads, locks with a rank, and what belongs to the process.
 *
 * A lock knows its owner and its rank: taking a lock while holding one of the same or a higher rank
 * aborts. Ranks live in locks.def. Signals are blocked in every thread; os_signals_fd of the main
 * thread delivers them.
 */
#ifndef BH_OS_THREAD_H
#define BH_OS_THREAD_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/errors.h"

struct os_thread {
    pthread_t _id;
    bool _started;
};

enum os_nice { OS_NICE_NORMAL = 0, OS_NICE_LOW = 5, OS_NICE_IDLE = 19 };

/* name at most 15 bytes; stack 0 = 1 MiB. */
int os_thread_start(struct os_thread *thread, const char *name, size_t stack,
                    void (*run)(void *context), void *context) BH_MUST_USE;
void os_thread_join(struct os_thread *thread);
void os_thread_set_nice(int nice); /* this thread */
unsigned os_cpu_count(void);

enum os_lock_rank {
#define LOCK(name, rank) OS_LOCK_##name = (rank),
#include "os/locks.def"
#undef LOCK
};

struct os_lock {
    pthread_mutex_t _mutex;
    _Atomic uint64_t _owner;
    unsigned _rank;
};

void os_lock_init(struct os_lock *lock, enum os_lock_rank rank);
void os_lock_fini(struct os_lock *lock);
void os_lock(struct os_lock *lock);
bool os_lock_try(struct os_lock *lock) BH_MUST_USE; /* false: another thread has it */
void os_unlock(struct os_lock *lock);
void os_lock_assert_held(struct os_lock *lock);

struct os_cond {
    pthread_cond_t _cond;
};
void os_cond_init(struct os_cond *cond);
void os_cond_fini(struct os_cond *cond);
/* Waits up to timeout_us (UINT64_MAX = for ever); false at the time-out. */
bool os_cond_wait(struct os_cond *cond, struct os_lock *lock, uint64_t timeout_us);
void os_cond_signal_all(struct os_cond *cond);

/* Blocks SIGTERM, SIGINT, SIGHUP (ignores SIGPIPE) for all later threads; the fd becomes readable
 * per signal. */
int os_signals_fd(int *ret_fd) BH_MUST_USE;
enum os_signal { OS_SIGNAL_NONE, OS_SIGNAL_STOP, OS_SIGNAL_RELOAD };
enum os_signal os_signals_read(int fd);

/*
 * No core, no ptrace, and (where the limit allows) no swap for what is locked later. The environment names no file into which a library writes
 * the keys of TLS connections (SSLKEYLOGFILE). Before the first other thread.
 */
int os_process_harden(bool allow_core);
uint64_t os_process_rss_anon(void); /* bytes; RssAnon of /proc/self/status */
uint32_t os_process_id(void);
_Noreturn void os_process_end(int status); /* at once, no handlers: for a failed sync */

/* Runs /bin/sh -c command and takes its standard output: BH_E_IO when it does not exit with 0,
 * BH_E_TOO_BIG beyond cap. Waits as long as it runs. */
int os_command_output(const char *command, void *out, size_t cap, size_t *ret_n) BH_MUST_USE;

/* From the kernel; never fails once the process has started. */
void os_random(void *p, size_t n);

/* Big anonymous memory for pools, zeroed, never given back to malloc. NULL when there is none. */
void *os_memory_map(size_t size);
/* Of a mapping that is read at random: large pages, where the system has them. */
void os_memory_prefer_large(void *p, size_t size);
void os_memory_unmap(void *p, size_t size);
/* Gives the pages back to the kernel and keeps the addresses. */
void os_memory_release(void *p, size_t size);

#endif
