/*
 * Structured logs without any value of an event.
 *
 * A line is one JSON object on standard error: time, level, a literal message, and fields whose
 * values are integers or words from the configuration or a table of ours (a vendor's or source's
 * name, a state, a reason). There is no way to log bytes that came from the network: the message is
 * a literal (enforced by the macro) and a word is printed only if it is 1 to 64 characters of
 * [A-Za-z0-9._:/@-]. Any thread; at most 100 lines a second of one message, the rest are counted
 * and said once ("suppressed").
 */
#ifndef BH_OS_LOG_H
#define BH_OS_LOG_H

#include <stddef.h>
#include <stdint.h>

#include "base/errors.h"

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

struct log_field {
    const char *key;  /* literal */
    const char *word; /* NULL: number is printed */
    int64_t number;
};

#define LOG_WORD(key_literal, text) ((struct log_field){"" key_literal, (text), 0})
#define LOG_INT(key_literal, value) ((struct log_field){"" key_literal, NULL, (int64_t)(value)})

void log_write(enum log_level level, const char *message, const struct log_field *fields,
               size_t count);
/* A failure of configuration or start, with its file, line, column and text. These are made of our
 * own words and of configuration files; an error that an event caused never comes here. */
void log_problem(enum log_level level, const char *message, const struct err *err);
void log_set_level(enum log_level level);

/* log_event(LOG_WARN, "vendor parked", LOG_WORD("vendor", name), LOG_INT("status", 401)); at least
 * one field. */
#define log_event(level, message_literal, ...)                                      \
    log_write((level), "" message_literal, (const struct log_field[]){__VA_ARGS__}, \
              sizeof((const struct log_field[]){__VA_ARGS__}) / sizeof(struct log_field))

#endif
