#define _GNU_SOURCE
#include "os/log.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/bytes.h"
#include "os/clock.h"
#include "os/thread.h"

enum {
    LINES_PER_SECOND = 100,
    MESSAGES = 256, /* distinct messages counted apart; more share a slot */
    LINE_MAX_BYTES = 2048,
    WORD_MAX_BYTES = 64,
};

/* How often one message was written in the running second. */
struct tally {
    const char *message;
    uint64_t second;
    uint32_t written;
    uint64_t suppressed;
};

static struct os_lock lock = {PTHREAD_MUTEX_INITIALIZER, 0, OS_LOCK_LOG};
static struct tally tallies[MESSAGES];
static _Atomic int level_max = LOG_INFO;

static bool word_is_plain(const char *word) {
    size_t n = strnlen(word, WORD_MAX_BYTES + 1);
    if (n == 0 || n > WORD_MAX_BYTES) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        char c = word[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        /* strchr would also find the terminating zero, which cannot occur here. */
        if (!letter && strchr("._:/@-", c) == NULL) {
            return false;
        }
    }
    return true;
}

static void put_time(struct buf *b, uint64_t now_us) {
    time_t seconds = (time_t)(now_us / 1000000U);
    struct tm utc;
    char text[32] = "";
    if (gmtime_r(&seconds, &utc) != NULL) {
        (void)strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &utc);
    }
    buf_printf(b, "{\"time\":\"%s.%03uZ\"", text, (unsigned)(now_us / 1000U % 1000U));
}

static void put_line(struct buf *b, enum log_level level, const char *message,
                     const struct log_field *fields, size_t count, uint64_t suppressed) {
    static const char *const names[] = {"error", "warn", "info", "debug"};
    put_time(b, os_wall_us());
    buf_printf(b, ",\"level\":\"%s\",\"message\":\"%s\"", names[level], message);
    for (size_t i = 0; i < count; i++) {
        if (fields[i].word == NULL) {
            buf_printf(b, ",\"%s\":%lld", fields[i].key, (long long)fields[i].number);
        } else {
            buf_printf(b, ",\"%s\":\"%s\"", fields[i].key,
                       word_is_plain(fields[i].word) ? fields[i].word : "?");
        }
    }
    if (suppressed != 0) {
        buf_printf(b, ",\"suppressed\":%llu", (unsigned long long)suppressed);
    }
    buf_put_str(b, "}\n");
}

/* Whether the line may be written; *ret_suppressed = lines of this message kept back since the last
 * one written. */
static bool admit(const char *message, uint64_t *ret_suppressed) {
    struct tally *tally = &tallies[((uintptr_t)message >> 3) % MESSAGES];
    uint64_t second = os_mono_us() / 1000000U;
    if (tally->message != message) {
        *tally = (struct tally){message, second, 0, 0};
    }
    if (tally->second != second) {
        tally->second = second;
        tally->written = 0;
    }
    if (tally->written >= LINES_PER_SECOND) {
        tally->suppressed++;
        return false;
    }
    tally->written++;
    *ret_suppressed = tally->suppressed;
    tally->suppressed = 0;
    return true;
}

void log_write(enum log_level level, const char *message, const struct log_field *fields,
               size_t count) {
    if ((int)level > atomic_load_explicit(&level_max, memory_order_relaxed)) {
        return;
    }
    uint64_t suppressed = 0;
    os_lock(&lock);
    bool admitted = admit(message, &suppressed);
    os_unlock(&lock);
    if (!admitted) {
        return;
    }
    uint8_t line[LINE_MAX_BYTES];
    struct buf b = buf_of(line, sizeof line);
    put_line(&b, level, message, fields, count, suppressed);
    if (!b.full) {
        /* One write, so that lines of two threads do not mix; a log that cannot be written has
         * nowhere to say so. */
        ssize_t ignored = write(STDERR_FILENO, b.p, b.n);
        (void)ignored;
    }
}

static void put_quoted(struct buf *b, const char *key, const char *text) {
    buf_printf(b, ",\"%s\":\"", key);
    for (const char *c = text; *c != '\0'; c++) {
        if (*c == '"' || *c == '\\') {
            buf_put_byte(b, '\\');
            buf_put_byte(b, (uint8_t)*c);
        } else if (*c == '\n') {
            buf_put_str(b, "\\n");
        } else {
            buf_put_byte(b, (uint8_t)*c < 0x20 ? ' ' : (uint8_t)*c);
        }
    }
    buf_put_byte(b, '"');
}

void log_problem(enum log_level level, const char *message, const struct err *err) {
    uint8_t line[LINE_MAX_BYTES * 2];
    struct buf b = buf_of(line, sizeof line);
    put_line(&b, level, message, NULL, 0, 0);
    b.n -= 2; /* the closing brace and newline */
    put_quoted(&b, "file", err->file);
    buf_printf(&b, ",\"line\":%u,\"column\":%u", err->line, err->column);
    put_quoted(&b, "text", err->text[0] != '\0' ? err->text : bh_error_text(err->code));
    buf_put_str(&b, "}\n");
    if (!b.full) {
        ssize_t ignored = write(STDERR_FILENO, b.p, b.n);
        (void)ignored;
    }
}

void log_set_level(enum log_level level) {
    atomic_store_explicit(&level_max, (int)level, memory_order_relaxed);
}
