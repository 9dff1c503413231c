/*
 * Command line: one table of commands (commands.def), one way to parse options, one exit code rule.
 *
 * Exit codes: 0 done, 1 the answer is no (nobody exposed, a check failed), 2 usage or failure. Tables for people when standard output is a
 * terminal or --json is not given; JSON (one object, or NDJSON for lists) with --json. Errors go to standard error as "bulkhead COMMAND: text".
 */
#ifndef BH_CLI_H
#define BH_CLI_H

#include <stdbool.h>
#include <stdio.h>

#include "base/bytes.h"
#include "base/errors.h"
#include "gateway/settings.h"

enum { CLI_DONE = 0, CLI_NO = 1, CLI_FAILED = 2, CLI_VALUES_MAX = 16 };

struct cli_option {
    const char *name;  /* "--from" */
    const char *value; /* "TIME" or NULL for a switch */
    const char *help;
};

struct cli_args {
    const char *dir; /* -c */
    bool json;
    unsigned positional_count;
    const char *positional[8];
    const struct cli_option *options;
    unsigned option_count;
    const char *values
        [CLI_VALUES_MAX]; /* parallel to options; "" for a switch that was given, NULL when not */
};

struct cli_command {
    const char *name;    /* "cut", "ledger verify" */
    const char *usage;   /* "cut VENDOR [--why TEXT]" */
    const char *summary; /* one line */
    const char *details; /* paragraphs and at least one example */
    unsigned positional_min;
    unsigned positional_max;
    const struct cli_option *options;
    unsigned option_count;
    int (*run)(const struct cli_args *args);
};

/* NULL when the option was not given. */
const char *cli_value(const struct cli_args *args, const char *option);
bool cli_has(const struct cli_args *args, const char *option);

/* Prints "bulkhead: ..." with place and cause; returns CLI_FAILED. */
int cli_fail(const struct err *err);
int cli_fail_text(const char *format, ...) BH_PRINTF(1, 2);

/* Settings of the folder chosen; prints the error. NULL on failure. */
struct settings *cli_settings(const struct cli_args *args, bool secrets);

/* The source or vendor of this name; else says which there are, and returns NULL or false. */
const struct settings_source *cli_source(const struct settings *settings, const char *name);
bool cli_vendor_exists(const struct settings *settings, const char *name);

/* "2026-11-09", "2026-11-09T12:00", "...Z", "-7d", "now" -> UTC milliseconds; false when it is none of these. */
bool cli_time(const char *text, uint64_t *ret_ms);
/* ISO 8601 UTC, seconds. */
void cli_time_text(uint64_t ms, char out[32]);

/* -- admin socket ------------------------------------------------------------------------------------------------------------- */
struct cli_answer {
    unsigned status;
    uint8_t *body; /* malloc; ends with a zero byte */
    size_t size;
};
/* NOTFOUND when no daemon listens. body NULL = GET. */
int cli_admin(const struct settings *settings, const char *method, const char *path,
              struct span body, struct cli_answer *ret_answer);
void cli_answer_free(struct cli_answer *answer);

/* -- look ------------------------------------------------------------------------------------------------------------------------ */
bool cli_colour(void); /* standard output is a terminal and NO_COLOR is not set */
const char *cli_style(const char *sequence); /* the sequence, or "" without colour */
#define CLI_BOLD   cli_style("\033[1m")
#define CLI_DIM    cli_style("\033[2m")
#define CLI_RED    cli_style("\033[31m")
#define CLI_GREEN  cli_style("\033[32m")
#define CLI_YELLOW cli_style("\033[33m")
#define CLI_PLAIN  cli_style("\033[0m")
/* "####----" of `width` cells for part of whole; block characters on a terminal. */
void cli_bar(char *out, size_t cap, uint64_t part, uint64_t whole, unsigned width);
/* "12,345". */
void cli_number(uint64_t value, char out[32]);
/*
 * Words filled into 80 columns from `column` on; lines after the first begin at `indent`. An empty line and one that begins with a space stay
 * as they are.
 */
void cli_flow(const char *text, size_t indent, size_t column);
void cli_progress(const char *what, uint64_t done,
                  uint64_t total); /* on a terminal's standard error only */

int cli_main(int argc, char **argv);

#endif
