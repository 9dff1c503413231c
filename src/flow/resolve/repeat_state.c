/* State of the repeats: a small file that is replaced whole (docs/format/repeats.md). Pure. */
#include "base/hash.h"
#include "flow/resolve/repeat_int.h"

enum { STATE_FORMAT = 1, STATE_FIXED = 56, STATE_WINDOW = 16, STATE_RUN = 24, STATE_CRC = 4 };

static const uint8_t magic[8] = "BHREPST";

_Static_assert(STATE_FIXED + REPEAT_WINDOWS_MAX * STATE_WINDOW + REPEAT_RUNS_MAX * STATE_RUN +
                       STATE_CRC <=
                   REPEAT_STATE_MAX,
               "the largest state fits");

size_t repeat_state_write(const struct repeat_state *state, uint8_t out[REPEAT_STATE_MAX]) {
    struct buf b = buf_of(out, REPEAT_STATE_MAX);
    buf_put(&b, magic, sizeof(magic));
    buf_put_u16(&b, STATE_FORMAT);
    buf_put_u16(&b, STATE_FORMAT);
    buf_put_u32(&b, state->latest);
    buf_put_u64(&b, state->covered_until);
    buf_put_u64(&b, state->since_us);
    buf_put_u64(&b, state->next_number);
    buf_put_u32(&b, state->window_count);
    buf_put_u32(&b, state->run_count);
    buf_put_u64(&b, 0);
    for (uint32_t i = 0; i < state->window_count; i++) {
        buf_put_u64(&b, state->windows[i].from_seq);
        buf_put_u32(&b, state->windows[i].seconds);
        buf_put_u32(&b, 0);
    }
    for (uint32_t i = 0; i < state->run_count; i++) {
        buf_put_u64(&b, state->runs[i].number);
        buf_put_u64(&b, state->runs[i].entries);
        buf_put_u32(&b, state->runs[i].crc);
        buf_put_u32(&b, 0);
    }
    buf_put_u32(&b, crc32c(b.p, b.n));
    return b.n;
}

static bool take_lists(struct reader *r, struct repeat_state *state) {
    if (state->window_count == 0 || state->window_count > REPEAT_WINDOWS_MAX ||
        state->run_count > REPEAT_RUNS_MAX) {
        return false;
    }
    for (uint32_t i = 0; i < state->window_count; i++) {
        state->windows[i].from_seq = read_u64(r);
        state->windows[i].seconds = read_u32(r);
        (void)read_u32(r);
        if (i != 0 && state->windows[i].from_seq <= state->windows[i - 1].from_seq) {
            return false;
        }
    }
    for (uint32_t i = 0; i < state->run_count; i++) {
        state->runs[i].number = read_u64(r);
        state->runs[i].entries = read_u64(r);
        state->runs[i].crc = read_u32(r);
        (void)read_u32(r);
        if (state->runs[i].number >= state->next_number) {
            return false;
        }
    }
    return !r->short_ && r->n == 0;
}

int repeat_state_read(struct span bytes, struct repeat_state *ret_state) {
    *ret_state = (struct repeat_state){0};
    if (bytes.n < STATE_FIXED + STATE_CRC || memcmp(bytes.p, magic, sizeof(magic)) != 0 ||
        crc32c(bytes.p, bytes.n - STATE_CRC) != get_u32(bytes.p + bytes.n - STATE_CRC)) {
        return BH_E_CORRUPT;
    }
    struct reader r =
        reader_of(span_of(bytes.p + sizeof(magic), bytes.n - sizeof(magic) - STATE_CRC));
    (void)read_u16(&r);
    if (read_u16(&r) > STATE_FORMAT) {
        return BH_E_VERSION;
    }
    ret_state->latest = read_u32(&r);
    ret_state->covered_until = read_u64(&r);
    ret_state->since_us = read_u64(&r);
    ret_state->next_number = read_u64(&r);
    ret_state->window_count = read_u32(&r);
    ret_state->run_count = read_u32(&r);
    (void)read_u64(&r);
    return take_lists(&r, ret_state) ? 0 : BH_E_CORRUPT;
}
