/*
 * Environment and terminal: what a program may ask of its surroundings. Any thread; nothing here changes them.
 */
#ifndef BH_OS_ENV_H
#define BH_OS_ENV_H

#include <stdbool.h>
#include <stddef.h>

/* The variable's text, or NULL. Belongs to the environment. */
const char *os_env(const char *name);
/* Whether standard output (1) or error (2) is a terminal. */
bool os_is_terminal(int fd);
/* Whole of standard input's next block; bytes read, 0 at the end, negative BH_E_ on failure. */
long os_stdin_read(void *p, size_t n);
/* The running program's own path, or "". */
void os_program_path(char *out, size_t cap);
/* Replaces the process by another program; returns only on failure. argv ends with NULL. */
int os_exec(const char *path, char *const argv[]);

#endif
