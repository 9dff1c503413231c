#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/check.h"
#include "os/file.h"
#include "os/thread.h"

int os_signals_fd(int *ret_fd) {
    sigset_t set;
    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGTERM);
    (void)sigaddset(&set, SIGINT);
    (void)sigaddset(&set, SIGHUP);
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    if (pthread_sigmask(SIG_BLOCK, &set, NULL) != 0 || sigaction(SIGPIPE, &ignore, NULL) != 0) {
        return BH_E_IO;
    }
    int fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    if (fd < 0) {
        return BH_E_IO;
    }
    *ret_fd = fd;
    return 0;
}

enum os_signal os_signals_read(int fd) {
    struct signalfd_siginfo info;
    if (read(fd, &info, sizeof info) != (ssize_t)sizeof info) {
        return OS_SIGNAL_NONE;
    }
    return info.ssi_signo == SIGHUP ? OS_SIGNAL_RELOAD : OS_SIGNAL_STOP;
}

int os_process_harden(bool allow_core) {
    struct rlimit locked;
    /* NOLINTNEXTLINE(concurrency-mt-unsafe): there is one thread yet */
    if (unsetenv("SSLKEYLOGFILE") != 0) {
        return BH_E_DENIED;
    }
    if (getrlimit(RLIMIT_MEMLOCK, &locked) == 0) {
        locked.rlim_cur = locked.rlim_max;
        /* Without the right to raise it, libsodium still guards keys, unlocked. */
        (void)setrlimit(RLIMIT_MEMLOCK, &locked);
    }
    if (allow_core) {
        return 0;
    }
    struct rlimit none = {0, 0};
    if (setrlimit(RLIMIT_CORE, &none) != 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0) {
        return BH_E_DENIED;
    }
    return 0;
}

uint64_t os_process_rss_anon(void) {
    char status[8192];
    size_t n = 0;
    if (os_file_read_whole("/proc/self/status", status, sizeof status, &n) != 0) {
        return 0;
    }
    struct span text = span_of(status, n);
    size_t at = span_find(text, SPAN_LIT("RssAnon:"));
    if (at == SIZE_MAX) {
        return 0;
    }
    struct span rest = span_from(text, at + 8);
    size_t end = span_find(rest, SPAN_LIT(" kB"));
    uint64_t kib = 0;
    if (end == SIZE_MAX || !span_to_u64(span_trim(span_cut(rest, 0, end)), &kib)) {
        return 0;
    }
    return kib * 1024;
}

uint32_t os_process_id(void) {
    return (uint32_t)getpid();
}

_Noreturn void os_process_end(int status) {
    _exit(status);
}

/* Reads fd to its end into p; TOO_BIG when there is more than cap. */
static int read_to_end(int fd, uint8_t *p, size_t cap, size_t *ret_n) {
    size_t n = 0;
    for (;;) {
        uint8_t beyond = 0;
        ssize_t got = n < cap ? read(fd, p + n, cap - n) : read(fd, &beyond, 1);
        if (got < 0) {
            if (errno == EINTR) {
                continue;
            }
            return BH_E_IO;
        }
        if (got == 0) {
            *ret_n = n;
            return 0;
        }
        if (n == cap) {
            return BH_E_TOO_BIG;
        }
        n += (size_t)got;
    }
}

static int spawn_shell(const char *command, int out_fd, pid_t *ret_child) {
    extern char **environ;
    posix_spawn_file_actions_t actions;
    if (posix_spawn_file_actions_init(&actions) != 0) {
        return BH_E_NOMEM;
    }
    char shell[] = "sh";
    char option[] = "-c";
    char *text = strdup(command);
    int failed =
        text == NULL ? ENOMEM : posix_spawn_file_actions_adddup2(&actions, out_fd, STDOUT_FILENO);
    if (failed == 0) {
        char *const argv[] = {shell, option, text, NULL};
        failed = posix_spawn(ret_child, "/bin/sh", &actions, NULL, argv, environ);
    }
    free(text);
    (void)posix_spawn_file_actions_destroy(&actions);
    return failed == 0 ? 0 : BH_E_IO;
}

int os_command_output(const char *command, void *out, size_t cap, size_t *ret_n) {
    int pipe_fds[2];
    if (pipe2(pipe_fds, O_CLOEXEC) != 0) {
        return BH_E_IO;
    }
    pid_t child = 0;
    int code = spawn_shell(command, pipe_fds[1], &child);
    (void)close(pipe_fds[1]);
    if (code != 0) {
        (void)close(pipe_fds[0]);
        return code;
    }
    size_t n = 0;
    code = read_to_end(pipe_fds[0], (uint8_t *)out, cap, &n);
    (void)close(pipe_fds[0]);
    int status = 0;
    pid_t waited = 0;
    do {
        waited = waitpid(child, &status, 0);
    } while (waited < 0 && errno == EINTR);
    if (code == 0 && (waited != child || !WIFEXITED(status) || WEXITSTATUS(status) != 0)) {
        code = BH_E_IO;
    }
    if (code == 0) {
        *ret_n = n;
    }
    return code;
}

void os_random(void *p, size_t n) {
    uint8_t *at = (uint8_t *)p;
    while (n != 0) {
        ssize_t got = getrandom(at, n, 0);
        if (got < 0) {
            check(errno == EINTR);
            continue;
        }
        at += got;
        n -= (size_t)got;
    }
}

void *os_memory_map(size_t size) {
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return p != MAP_FAILED ? p : NULL;
}

void os_memory_prefer_large(void *p, size_t size) {
    (void)madvise(p, size, MADV_HUGEPAGE);
}

void os_memory_unmap(void *p, size_t size) {
    if (p != NULL) {
        int failed = munmap(p, size);
        check(failed == 0);
    }
}

void os_memory_release(void *p, size_t size) {
    int failed = madvise(p, size, MADV_DONTNEED);
    check(failed == 0);
}
