#define _GNU_SOURCE
#include "os/thread.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"

enum { STACK_DEFAULT = 1024 * 1024, NAME_MAX_BYTES = 15, HELD_MAX = 16 };

/* What a new thread needs; lives on the starter's stack until the thread has copied it. */
struct start {
    void (*run)(void *context);
    void *context;
    char name[NAME_MAX_BYTES + 1];
    pthread_mutex_t mutex;
    pthread_cond_t taken_cond;
    bool taken;
};

static void *run_thread(void *argument) {
    struct start *start = (struct start *)argument;
    void (*run)(void *) = start->run;
    void *context = start->context;
    (void)pthread_setname_np(pthread_self(), start->name);
    (void)pthread_mutex_lock(&start->mutex);
    start->taken = true;
    (void)pthread_cond_signal(&start->taken_cond);
    (void)pthread_mutex_unlock(&start->mutex);
    run(context);
    return NULL;
}

int os_thread_start(struct os_thread *thread, const char *name, size_t stack,
                    void (*run)(void *context), void *context) {
    struct start start = {.run = run,
                          .context = context,
                          .mutex = PTHREAD_MUTEX_INITIALIZER,
                          .taken_cond = PTHREAD_COND_INITIALIZER};
    size_t length = strlen(name);
    check(length <= NAME_MAX_BYTES);
    memcpy(start.name, name, length + 1);
    pthread_attr_t attributes;
    if (pthread_attr_init(&attributes) != 0) {
        return BH_E_NOMEM;
    }
    int failed = pthread_attr_setstacksize(&attributes, stack != 0 ? stack : STACK_DEFAULT);
    check(failed == 0);
    /* Signals are the main thread's: the new thread inherits a mask that blocks all. */
    sigset_t all;
    sigset_t before;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    failed = pthread_create(&thread->_id, &attributes, run_thread, &start);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    (void)pthread_attr_destroy(&attributes);
    thread->_started = failed == 0;
    if (failed != 0) {
        return BH_E_NOMEM;
    }
    (void)pthread_mutex_lock(&start.mutex);
    while (!start.taken) {
        (void)pthread_cond_wait(&start.taken_cond, &start.mutex);
    }
    (void)pthread_mutex_unlock(&start.mutex);
    (void)pthread_cond_destroy(&start.taken_cond);
    (void)pthread_mutex_destroy(&start.mutex);
    return 0;
}

void os_thread_join(struct os_thread *thread) {
    if (thread->_started) {
        int failed = pthread_join(thread->_id, NULL);
        check(failed == 0);
        thread->_started = false;
    }
}

void os_thread_set_nice(int nice) {
    /* On Linux the value of a thread id is that thread's alone. A refusal costs only smoothness. */
    (void)setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), nice);
}

unsigned os_cpu_count(void) {
    cpu_set_t set;
    CPU_ZERO(&set);
    if (sched_getaffinity(0, sizeof set, &set) != 0) {
        return 1;
    }
    int count = CPU_COUNT(&set);
    return count > 0 ? (unsigned)count : 1;
}

/* Ranks of the locks that this thread holds, rising: os_lock admits no other order. */
static _Thread_local unsigned held[HELD_MAX];
static _Thread_local unsigned held_count;
/* Its address is the thread's identity as a lock's owner. */
static _Thread_local char self_mark;

static uint64_t self(void) {
    return (uint64_t)(uintptr_t)&self_mark;
}

static void held_remove(unsigned rank) {
    unsigned at = held_count;
    while (at > 0 && held[at - 1] != rank) {
        at--;
    }
    check(at > 0);
    for (; at < held_count; at++) {
        held[at - 1] = held[at];
    }
    held_count--;
}

void os_lock_init(struct os_lock *lock, enum os_lock_rank rank) {
    int failed = pthread_mutex_init(&lock->_mutex, NULL);
    check(failed == 0);
    atomic_init(&lock->_owner, 0);
    lock->_rank = (unsigned)rank;
}

void os_lock_fini(struct os_lock *lock) {
    check(atomic_load_explicit(&lock->_owner, memory_order_relaxed) == 0);
    int failed = pthread_mutex_destroy(&lock->_mutex);
    check(failed == 0);
}

void os_lock(struct os_lock *lock) {
    check(held_count < HELD_MAX);
    check(held_count == 0 || held[held_count - 1] < lock->_rank);
    int failed = pthread_mutex_lock(&lock->_mutex);
    check(failed == 0);
    atomic_store_explicit(&lock->_owner, self(), memory_order_relaxed);
    held[held_count++] = lock->_rank;
}

bool os_lock_try(struct os_lock *lock) {
    check(held_count < HELD_MAX);
    check(held_count == 0 || held[held_count - 1] < lock->_rank);
    int failed = pthread_mutex_trylock(&lock->_mutex);
    check(failed == 0 || failed == EBUSY);
    if (failed != 0) {
        return false;
    }
    atomic_store_explicit(&lock->_owner, self(), memory_order_relaxed);
    held[held_count++] = lock->_rank;
    return true;
}

void os_unlock(struct os_lock *lock) {
    os_lock_assert_held(lock);
    held_remove(lock->_rank);
    atomic_store_explicit(&lock->_owner, 0, memory_order_relaxed);
    int failed = pthread_mutex_unlock(&lock->_mutex);
    check(failed == 0);
}

void os_lock_assert_held(struct os_lock *lock) {
    check(atomic_load_explicit(&lock->_owner, memory_order_relaxed) == self());
}

void os_cond_init(struct os_cond *cond) {
    pthread_condattr_t attributes;
    int failed = pthread_condattr_init(&attributes);
    check(failed == 0);
    failed = pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    check(failed == 0);
    failed = pthread_cond_init(&cond->_cond, &attributes);
    check(failed == 0);
    (void)pthread_condattr_destroy(&attributes);
}

void os_cond_fini(struct os_cond *cond) {
    int failed = pthread_cond_destroy(&cond->_cond);
    check(failed == 0);
}

bool os_cond_wait(struct os_cond *cond, struct os_lock *lock, uint64_t timeout_us) {
    os_lock_assert_held(lock);
    int failed = 0;
    atomic_store_explicit(&lock->_owner, 0, memory_order_relaxed);
    if (timeout_us == UINT64_MAX) {
        failed = pthread_cond_wait(&cond->_cond, &lock->_mutex);
    } else {
        struct timespec until;
        (void)clock_gettime(CLOCK_MONOTONIC, &until);
        uint64_t ns = (uint64_t)until.tv_nsec + timeout_us % 1000000U * 1000U;
        until.tv_sec += (time_t)(timeout_us / 1000000U + ns / 1000000000U);
        until.tv_nsec = (long)(ns % 1000000000U);
        failed = pthread_cond_timedwait(&cond->_cond, &lock->_mutex, &until);
    }
    atomic_store_explicit(&lock->_owner, self(), memory_order_relaxed);
    check(failed == 0 || failed == ETIMEDOUT);
    return failed == 0;
}

void os_cond_signal_all(struct os_cond *cond) {
    int failed = pthread_cond_broadcast(&cond->_cond);
    check(failed == 0);
}
