#include "gateway/tap.h"

#include "engine/json/json.h"
#include "model/class.h"
#include "os/clock.h"

enum { WATCH_US = 10 * 1000 * 1000 };

void tap_init(struct tap *tap) {
    os_lock_init(&tap->lock, OS_LOCK_TAP);
    atomic_init(&tap->looked_us, 0);
    atomic_init(&tap->dropped, 0);
    tap->next = 0;
}

bool tap_is_watched(struct tap *tap) {
    uint64_t looked = atomic_load_explicit(&tap->looked_us, memory_order_relaxed);
    return looked != 0 && os_mono_us() - looked < WATCH_US;
}

static void add(struct tap *tap, const struct buf *line) {
    if (line->full || !os_lock_try(&tap->lock)) {
        atomic_fetch_add_explicit(&tap->dropped, 1, memory_order_relaxed);
        return;
    }
    size_t slot = tap->next % TAP_LINES;
    memcpy(tap->lines[slot], line->p, line->n);
    tap->sizes[slot] = (uint16_t)line->n;
    tap->next++;
    os_unlock(&tap->lock);
}

static const char *kind_word(uint8_t kind) {
    static const char *const words[] = {"",      "track",   "identify", "alias",
                                        "merge", "profile", "group"};
    return kind < BH_COUNT(words) ? words[kind] : "";
}

void tap_verdict(void *context, const struct tap_line *line) {
    struct tap *tap = context;
    if (!tap_is_watched(tap)) {
        return;
    }
    char text[TAP_LINE_MAX];
    struct buf b = buf_of(text, sizeof text);
    buf_printf(&b, "{\"seq\":%llu,\"vendor\":\"%s\",\"source\":%u,\"kind\":\"%s\"",
               (unsigned long long)line->seq, line->vendor, line->source, kind_word(line->kind));
    if (line->event_name.n != 0) {
        buf_put_str(&b, ",\"event\":");
        json_put_string(&b, line->event_name);
    }
    buf_printf(&b, ",\"sends\":%s", line->sends ? "true" : "false");
    if (!line->sends) {
        const char *word = reason_word(line->reason);
        buf_printf(&b, ",\"reason\":\"%s\"", word != NULL ? word : "none");
    }
    buf_printf(&b, ",\"withheld\":%u,\"leaves\":[", line->verdict->withheld_leaves);
    for (unsigned i = 0; i < line->verdict->disclosed_count && b.n < TAP_LINE_MAX - 96; i++) {
        const struct disclosed *d = &line->verdict->disclosed[i];
        buf_printf(&b, "%s\"%s:%s\"", i != 0 ? "," : "", class_name(d->class_id),
                   form_name(d->form));
    }
    buf_put_str(&b, "]}");
    add(tap, &b);
}

void tap_refused(struct tap *tap, uint16_t source, const char *source_name, const char *reason,
                 unsigned count) {
    char text[TAP_LINE_MAX];
    struct buf b = buf_of(text, sizeof text);
    buf_printf(&b, "{\"refused\":%u,\"source\":%u,\"name\":\"%s\",\"reason\":\"%s\"}", count,
               source, source_name, reason);
    add(tap, &b);
}

void tap_read(struct tap *tap, uint64_t after, struct buf *out) {
    atomic_store_explicit(&tap->looked_us, os_mono_us(), memory_order_relaxed);
    os_lock(&tap->lock);
    uint64_t oldest = tap->next > TAP_LINES ? tap->next - TAP_LINES : 0;
    uint64_t at = after < oldest ? oldest : after;
    at = at > tap->next ? tap->next : at;
    buf_printf(out, "{\"next\":%llu,\"dropped\":%llu,\"lines\":[", (unsigned long long)tap->next,
               (unsigned long long)(atomic_load_explicit(&tap->dropped, memory_order_relaxed) +
                                    (at - (after < at ? after : at))));
    for (bool first = true; at < tap->next; at++, first = false) {
        size_t slot = at % TAP_LINES;
        if (!first) {
            buf_put_byte(out, ',');
        }
        buf_put(out, tap->lines[slot], tap->sizes[slot]);
    }
    os_unlock(&tap->lock);
    buf_put_str(out, "]}\n");
}
