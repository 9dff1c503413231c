/*
 * Unwrapping by sniffing. Every step either shrinks the bytes where they stand (percent-encoding,
 * base64) or writes them to `out` under a hard cap (gzip, lz64); the number of steps is bounded, so a
 * body that wraps itself again and again ends as malformed.
 */
#include "protocol/wire/wire.h"

#include <isa-l/igzip_lib.h>
#include <libdeflate.h>
#include <stdlib.h>

#include "base/check.h"
#include "crypto/crypto.h"
#include "engine/http/http_parse.h"
#include "protocol/wire/lz64.h"

enum {
    WRAPPINGS_MAX = 4,
    /*
     * The courier shares its core with ingest. 922 KB of events as they leave, on one core: igzip level 1 takes 0.47 ms and leaves 88.9 KB (with a larger
     * buffer no less), libdeflate level 1 takes 1.6 ms and leaves 86.9 KB.
     */
    GZIP_LEVEL = 1,
    GZIP_ROOM = ISAL_DEF_LVL1_SMALL,
    /* What does not compress is stored, in blocks of at most 65535 bytes with five bytes before each. */
    GZIP_FRAME = 10 + 8,
    STORED_MAX = 65535,
    STORED_HEAD = 5,
    /* libdeflate looks where it is after a match and some literals, copied by words: 299 bytes. */
    INFLATE_AHEAD = 512,
};

/* Pages of the packing side, and of lz64, are touched by those who meet it. */
struct wire {
    struct libdeflate_decompressor *decompressor;
    struct isal_zstream packing;
    uint8_t packing_room[GZIP_ROOM];
    struct lz64 lz64;
};

struct wire *wire_new(void) {
    struct wire *wire = calloc(1, sizeof *wire);
    if (wire == NULL) {
        return NULL;
    }
    wire->decompressor = libdeflate_alloc_decompressor();
    if (wire->decompressor == NULL) {
        wire_free(wire);
        return NULL;
    }
    return wire;
}

void wire_free(struct wire *wire) {
    if (wire != NULL) {
        libdeflate_free_decompressor(wire->decompressor);
        free(wire);
    }
}

int wire_gunzip(struct wire *wire, struct span in, struct buf *out) {
    while (in.n > 0) {
        size_t used = 0;
        size_t made = 0;
        enum libdeflate_result result = libdeflate_gzip_decompress_ex(
            wire->decompressor, in.p, in.n, out->p + out->n, out->cap - out->n, &used, &made);
        if (result == LIBDEFLATE_INSUFFICIENT_SPACE) {
            return BH_E_TOO_BIG;
        }
        if (result != LIBDEFLATE_SUCCESS || used == 0) {
            return BH_E_SYNTAX;
        }
        check(made <= out->cap - out->n && used <= in.n);
        out->n += made;
        in = span_from(in, used);
    }
    return 0;
}

int wire_gzip(struct wire *wire, struct span in, struct buf *out) {
    struct isal_zstream *z = &wire->packing;
    check(in.n <= UINT32_MAX);
    if (out->full) {
        return BH_E_FULL;
    }
    size_t room = out->cap - out->n;
    isal_deflate_stateless_init(z);
    z->gzip_flag = IGZIP_GZIP;
    z->level = GZIP_LEVEL;
    z->level_buf = wire->packing_room;
    z->level_buf_size = GZIP_ROOM;
    z->end_of_stream = 1;
    /* NOLINTNEXTLINE(performance-no-int-to-ptr): it reads only, but its type does not say so */
    z->next_in = (uint8_t *)(uintptr_t)in.p;
    z->avail_in = (uint32_t)in.n;
    z->next_out = out->p + out->n;
    z->avail_out = room < UINT32_MAX ? (uint32_t)room : UINT32_MAX;
    if (isal_deflate_stateless(z) != COMP_OK) {
        return BH_E_FULL;
    }
    out->n += z->total_out;
    return 0;
}

size_t wire_gzip_bound(size_t n) {
    return n + GZIP_FRAME + STORED_HEAD * (n / STORED_MAX + 1);
}

static bool is_gzip(struct span s) {
    return s.n >= 2 && s.p[0] == 0x1F && s.p[1] == 0x8B;
}

static bool is_json(struct span s) {
    return s.n > 0 && (s.p[0] == '{' || s.p[0] == '[');
}

/* The mutable bytes under a part of them. */
static uint8_t *at(uint8_t *whole, struct span part) {
    return whole + (part.p - whole);
}

static int inflate(struct wire *wire, struct span in, size_t max, struct buf *out,
                   uint8_t **ret_text, size_t *ret_len) {
    struct buf room = buf_of(out->p + out->n, out->cap - out->n);
    if (room.cap > max) {
        room.cap = max;
    }
    int rc = is_gzip(in) ? wire_gunzip(wire, in, &room) : lz64_decode(&wire->lz64, in, &room);
    if (rc != 0) {
        return rc;
    }
    out->n += room.n;
    *ret_text = room.p;
    *ret_len = room.n;
    return 0;
}

/* JSON, or gzip, base64 or lz64 of it, without percent-encoding. */
static int unwrap(struct wire *wire, uint8_t *p, size_t n, size_t max, struct buf *out,
                  uint8_t **ret_text, size_t *ret_len) {
    for (int i = 0; i < WRAPPINGS_MAX; i++) {
        struct span s = is_gzip(span_of(p, n)) ? span_of(p, n) : span_trim(span_of(p, n));
        if (is_gzip(s) || lz64_is_likely(s)) {
            int rc = inflate(wire, s, max, out, &p, &n);
            if (rc != 0) {
                return rc;
            }
            continue;
        }
        if (s.n > 0) {
            p = at(p, s);
        }
        n = s.n;
        if (is_json(s)) {
            *ret_text = p;
            *ret_len = n;
            return n <= max ? 0 : BH_E_TOO_BIG;
        }
        if (n == 0 || base64_decode(s, p, n, &n) != 0) {
            return BH_E_SYNTAX;
        }
    }
    return BH_E_SYNTAX;
}

/*
 * A form turns '+' into a space, but SDKs send base64 unencoded, where '+' is a letter; and JSON
 * that was not encoded either means its '+'. Only JSON that begins percent-encoded came from a form
 * encoder.
 */
static bool plus_means_space(struct span raw) {
    return raw.n >= 3 && raw.p[0] == '%' && (raw.p[1] == '7' || raw.p[1] == '5') &&
           (raw.p[2] | 0x20) == 'b';
}

/*
 * The same as http_percent_decode, in place or not, by runs: base64 of a browser has one escape in
 * a thousand bytes or none.
 */
static size_t percent_decode(struct span raw, uint8_t *out) {
    if (plus_means_space(raw)) {
        return http_percent_decode(raw, out, true);
    }
    size_t n = 0;
    while (raw.n > 0) {
        size_t run = span_find_byte(raw, '%');
        run = run == SIZE_MAX ? raw.n : run;
        memmove(out + n, raw.p, run);
        n += run;
        raw = span_from(raw, run);
        if (raw.n > 0) {
            /* Three bytes become one, or the first is a percent sign alone, which is kept. */
            uint8_t decoded[3];
            bool is_escape = http_percent_decode(span_cut(raw, 0, 3), decoded, false) == 1;
            out[n++] = decoded[0];
            raw = span_from(raw, is_escape ? 3 : 1);
        }
    }
    return n;
}

int wire_unwrap_value(struct wire *wire, struct span raw, size_t max, struct buf *out,
                      uint8_t **ret_text, size_t *ret_len) {
    uint8_t *text = buf_room(out, raw.n);
    if (text == NULL) {
        return BH_E_TOO_BIG;
    }
    size_t n = percent_decode(raw, text);
    return unwrap(wire, text, n, max, out, ret_text, ret_len);
}

int wire_unwrap_body(struct wire *wire, uint8_t *body, size_t body_len, size_t max, struct buf *out,
                     uint8_t **ret_text, size_t *ret_len) {
    if (is_gzip(span_of(body, body_len))) {
        int rc = inflate(wire, span_of(body, body_len), max, out, &body, &body_len);
        if (rc != 0) {
            return rc;
        }
    }
    struct span rest = span_trim(span_of(body, body_len));
    if (is_json(rest) || is_gzip(rest)) {
        return unwrap(wire, at(body, rest), rest.n, max, out, ret_text, ret_len);
    }
    struct span key;
    struct span value;
    while (http_query_next(&rest, &key, &value)) {
        if (span_is(key, "data") && value.n > 0) {
            uint8_t *text = at(body, value);
            size_t n = percent_decode(value, text);
            return unwrap(wire, text, n, max, out, ret_text, ret_len);
        }
    }
    return BH_E_SYNTAX;
}

size_t wire_reach(const struct buf *out) {
    size_t ahead = out->cap - out->n;
    return out->n + (ahead < INFLATE_AHEAD ? ahead : INFLATE_AHEAD);
}

bool wire_basic(struct span authorization, struct buf *out, struct span *ret_user,
                struct span *ret_secret) {
    static const struct span scheme = {(const uint8_t *)"basic ", 6};
    if (!span_equal_nocase(span_cut(authorization, 0, scheme.n), scheme)) {
        return false;
    }
    struct span coded = span_trim(span_from(authorization, scheme.n));
    size_t n = 0;
    uint8_t *room = coded.n != 0 ? buf_room(out, coded.n) : NULL;
    if (room == NULL || base64_decode(coded, room, coded.n, &n) != 0) {
        return false;
    }
    struct span both = span_of(room, n);
    size_t colon = span_find_byte(both, ':');
    if (colon == SIZE_MAX) {
        return false;
    }
    *ret_user = span_cut(both, 0, colon);
    *ret_secret = span_from(both, colon + 1);
    return true;
}

void wire_put_basic(struct span credential, struct buf *out) {
    uint8_t both[512];
    uint8_t coded[700];
    size_t n = 0;
    struct buf b = buf_of(both, sizeof both);
    buf_put_span(&b, credential);
    buf_put_byte(&b, ':');
    if (b.full || base64_encode(buf_span(&b), coded, sizeof coded, &n) != 0) {
        out->full = true;
    } else {
        buf_put_str(out, "Basic ");
        buf_put(out, coded, n);
    }
    secret_wipe(both, sizeof both);
    secret_wipe(coded, sizeof coded);
}
