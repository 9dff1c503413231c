/*
 * A run or a state of the store of repeats as anybody may have left it, with checksums that are
 * right: reading refuses it or stays within its bytes, and what is found stands there.
 */
/* depends: resolve journal inspect keyring seglog protocol mixpanel wire json model crypto os base */
/* libs: lmdb */
#include <string.h>

#include "base/check.h"
#include "base/hash.h"
#include "flow/resolve/repeat_int.h"
#include "fuzz/fuzz_entry.h"

enum { HEADER_CRC = REPEAT_RUN_HEADER_SIZE - 4, HEAD = 64, SIZE_MAX_HERE = 64 * 1024 };

static uint8_t room[SIZE_MAX_HERE];
static uint8_t again[REPEAT_STATE_MAX];

static void read_state(struct span data) {
    struct repeat_state state;
    memcpy(room, data.p, data.n);
    if (data.n >= 4) {
        put_u32(room + data.n - 4, crc32c(room, data.n - 4));
    }
    if (repeat_state_read(span_of(room, data.n), &state) == 0) {
        struct repeat_state same;
        size_t n = repeat_state_write(&state, again);
        check(n == data.n && repeat_state_read(span_of(again, n), &same) == 0);
        check(memcmp(&state, &same, sizeof(state)) == 0);
    }
}

/* The input is the head of the header and the places; the zeros between are put in here. */
static void read_run(struct span data) {
    struct repeat_run run;
    if (data.n < HEAD || data.n + REPEAT_RUN_HEADER_SIZE > sizeof(room)) {
        return;
    }
    memset(room, 0, REPEAT_RUN_HEADER_SIZE);
    memcpy(room, data.p, HEAD);
    memcpy(room + REPEAT_RUN_HEADER_SIZE, data.p + HEAD, data.n - HEAD);
    put_u32(room + HEADER_CRC, crc32c(room, HEADER_CRC));
    if (repeat_run_read(span_of(room, REPEAT_RUN_HEADER_SIZE + data.n - HEAD), &run) != 0) {
        return;
    }
    for (uint64_t place = 0; place < run.places; place++) {
        struct repeat_entry entry = repeat_run_at(&run, place);
        uint32_t second = 0;
        if (repeat_run_find(&run, entry.key, entry.content, &second)) {
            check(second != 0);
        }
        (void)repeat_run_find(&run, entry.key - 1, entry.content, &second);
        (void)repeat_run_find(&run, UINT64_MAX - entry.key, UINT32_MAX, &second);
    }
    (void)repeat_run_is_whole(&run);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0 || size > sizeof(room)) {
        return 0;
    }
    struct span rest = span_of(data + 1, size - 1);
    if ((data[0] & 1) == 0) {
        read_state(rest);
    } else {
        read_run(rest);
    }
    return 0;
}
