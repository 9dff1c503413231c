#define _GNU_SOURCE
#include "os/env.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/errors.h"

const char *os_env(const char *name) {
    /* NOLINTNEXTLINE(concurrency-mt-unsafe): nobody in this program changes the environment */
    return getenv(name);
}

bool os_is_terminal(int fd) {
    return isatty(fd) == 1;
}

long os_stdin_read(void *p, size_t n) {
    for (;;) {
        ssize_t got = read(STDIN_FILENO, p, n);
        if (got >= 0) {
            return (long)got;
        }
        if (errno != EINTR) {
            return BH_E_IO;
        }
    }
}

void os_program_path(char *out, size_t cap) {
    ssize_t n = readlink("/proc/self/exe", out, cap - 1);
    out[n > 0 ? n : 0] = '\0';
}

int os_exec(const char *path, char *const argv[]) {
    (void)execv(path, argv);
    return BH_E_IO;
}
