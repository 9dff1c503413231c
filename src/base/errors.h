/*
 * Error codes and the error that a person reads.
 *
 * Fallible functions return 0 or a negative BH_E_ code. Where a person must act, the function also
 * fills a `struct err` (file, line, column, text); it is untouched on success. No value of an event
 * ever goes into its text.
 */
#ifndef BH_BASE_ERRORS_H
#define BH_BASE_ERRORS_H

#include "base/compiler.h"

enum bh_error {
#define ERROR(name, number, text) BH_E_##name = -(number),
#include "base/errors.def"
#undef ERROR
};

struct err {
    int code;        /* a BH_E_ code */
    int os_errno;    /* errno of the failed call, or 0 */
    unsigned line;   /* from 1; 0 = none */
    unsigned column; /* from 1, in bytes; 0 = none */
    char file[256];
    char text[512];
};

/* The fixed text of a code; "unknown error" for a number that is none. Any thread. */
const char *bh_error_text(int code);

/* Fills *err and returns code, so that `return err_set(err, BH_E_IO, "...")` is one line. err may be NULL. */
int err_set(struct err *err, int code, const char *format, ...) BH_PRINTF(3, 4);
int err_set_at(struct err *err, int code, const char *file, unsigned line, unsigned column,
               const char *format, ...) BH_PRINTF(6, 7);

#endif
