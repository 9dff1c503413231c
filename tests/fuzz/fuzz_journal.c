/*
 * A frame's plain text as the journal's readers take it apart: chunks, LZ4, requests, events,
 * findings, and the footer's counts.
 *
 * The first byte chooses the door: raw bytes of a chunk, a whole plain text, a footer's blob.
 * Whatever decodes must write back to the same bytes.
 */
/* depends: journal inspect keyring seglog json model crypto os base */
#include <stdlib.h>
#include <string.h>

#include "fuzz_entry.h"

#include "base/check.h"
#include "flow/journal/journal_int.h"

static struct record_room room;
static uint8_t *opened;
static uint8_t *written;

static void set_up(void) {
    if (opened == NULL) {
        check(record_room_init(&room) == 0);
        opened = (uint8_t *)malloc(CHUNK_RAW_MAX);
        written = (uint8_t *)malloc(CHUNK_RAW_MAX);
        check(opened != NULL && written != NULL);
    }
}

/* Writes the batch as a writer would. */
static struct span write_back(const struct journal_batch *batch) {
    struct buf b = buf_of(written, CHUNK_RAW_MAX);
    uint8_t *part = NULL;
    uint16_t events = 0;
    for (uint32_t i = 0; i < batch->count; i++) {
        if (i == 0 || batch->request_of[i] != batch->request_of[i - 1]) {
            if (part != NULL) {
                record_set_events(part, events);
            }
            const struct record_request *request = &batch->requests[batch->request_of[i]];
            part = b.p + b.n;
            events = 0;
            record_put_request(&b, request, (request->kind & RECORD_CONTINUED) != 0);
        }
        record_put_event(&b, &batch->events[i]);
        events++;
    }
    record_set_events(part, events);
    return buf_span(&b);
}

static void read_raw(struct span raw) {
    long count = record_count(raw, NULL, NULL);
    struct journal_batch batch;
    int r = record_decode(raw, 100, 1, &room, true, &batch);
    if (count < 0 || r != 0) {
        /*
         * Only findings, and more events than a chunk of ours can hold, are looked at by one of
         * them alone.
         */
        check(r == BH_E_CORRUPT);
        return;
    }
    check((long)batch.count == count);
    check(batch.events[0].seq == 100 && batch.events[batch.count - 1].seq == 99 + (uint64_t)count);
    check(span_equal(write_back(&batch), raw));
    struct journal_batch tail;
    check(record_decode(raw, 100, 100 + (uint64_t)count / 2, &room, false, &tail) == 0);
    check(tail.count == batch.count - (uint32_t)(count / 2));
}

static void read_plain(struct span plain) {
    struct chunk_bytes chunk;
    uint32_t at = 0;
    while (chunk_at(plain, at, &chunk) == 0) {
        check(chunk.next_at > at && chunk.next_at <= plain.n);
        at = chunk.next_at;
        if (chunk_open(&chunk, opened) == 0) {
            read_raw(span_of(opened, chunk.raw_len));
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    set_up();
    if (size == 0) {
        return 0;
    }
    struct span rest = span_of(data + 1, size - 1);
    switch (data[0] % 3) {
    case 0:
        if (rest.n <= CHUNK_RAW_MAX) {
            read_raw(rest);
        }
        break;
    case 1:
        read_plain(rest);
        break;
    default: {
        static struct footer_count counts[2048];
        (void)footer_counts_read(rest, counts, BH_COUNT(counts));
        break;
    }
    }
    return 0;
}
