/*
 * tap: the last verdicts, without values, for whoever looks.
 *
 * A ring of fixed text lines (NDJSON). Couriers and loops write only while somebody has looked within the last 10 s; a writer that finds the lock taken
 * drops its line and counts it, so that looking never slows the way of an event.
 * Thread: any.
 */
#ifndef BH_GATEWAY_TAP_H
#define BH_GATEWAY_TAP_H

#include "base/bytes.h"
#include "flow/deliver/deliver.h"
#include "os/thread.h"

enum { TAP_LINES = 2048, TAP_LINE_MAX = 480 };

struct tap {
    struct os_lock lock;
    _Atomic uint64_t looked_us;
    _Atomic uint64_t dropped;
    uint64_t next; /* number of the next line; line n lies in slot n % TAP_LINES */
    uint16_t sizes[TAP_LINES];
    char lines[TAP_LINES][TAP_LINE_MAX];
};

void tap_init(struct tap *tap);
bool tap_is_watched(struct tap *tap);
/* Courier's callback; context is the tap. */
void tap_verdict(void *context, const struct tap_line *line);
void tap_refused(struct tap *tap, uint16_t source, const char *source_name, const char *reason,
                 unsigned count);
/* Lines from number `after` on, as {"next":N,"dropped":N,"lines":[...]}. Marks the tap as watched. */
void tap_read(struct tap *tap, uint64_t after, struct buf *out);

#endif
