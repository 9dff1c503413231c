#include "base/errors.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const char *bh_error_text(int code) {
    switch (code) {
    case 0:
        return "no error";
#define ERROR(name, number, text) \
    case -(number):               \
        return text;
#include "base/errors.def"
#undef ERROR
    default:
        return "unknown error";
    }
}

BH_PRINTF(6, 0)
static int err_fill(struct err *err, int code, const char *file, unsigned line, unsigned column,
                    const char *format, va_list args) {
    if (err == NULL) {
        return code;
    }
    err->code = code;
    err->os_errno = errno;
    err->line = line;
    err->column = column;
    (void)snprintf(err->file, sizeof err->file, "%s", file != NULL ? file : "");
    (void)vsnprintf(err->text, sizeof err->text, format, args);
    return code;
}

int err_set(struct err *err, int code, const char *format, ...) {
    va_list args;
    va_start(args, format);
    int result = err_fill(err, code, NULL, 0, 0, format, args);
    va_end(args);
    return result;
}

int err_set_at(struct err *err, int code, const char *file, unsigned line, unsigned column,
               const char *format, ...) {
    va_list args;
    va_start(args, format);
    int result = err_fill(err, code, file, line, column, format, args);
    va_end(args);
    return result;
}
