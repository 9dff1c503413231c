#include "base/net.h"

#include <string.h>

#include "base/compiler.h"

/* -- text --------------------------------------------------------------------------------------- */

/* Takes a run of at most `digits_max` digits of the base off the front; false when there is none, or a needless zero before a decimal. */
static bool take_number(struct span *text, unsigned base, unsigned digits_max, unsigned *ret) {
    unsigned value = 0;
    size_t n = 0;
    for (; n < text->n; n++) {
        int digit = hex_digit_value(text->p[n]);
        if (digit < 0 || (unsigned)digit >= base) {
            break;
        }
        if (n == digits_max || (base == 10 && n != 0 && value == 0)) {
            return false;
        }
        value = value * base + (unsigned)digit;
    }
    *text = span_from(*text, n);
    *ret = value;
    return n != 0;
}

static bool parse_v4(struct span text, uint8_t out[4]) {
    for (unsigned i = 0; i < 4; i++) {
        unsigned value = 0;
        if (i != 0) {
            if (text.n == 0 || text.p[0] != '.') {
                return false;
            }
            text = span_from(text, 1);
        }
        if (!take_number(&text, 10, 3, &value) || value > 255) {
            return false;
        }
        out[i] = (uint8_t)value;
    }
    return text.n == 0;
}

/* Groups up to the end or a "::"; the last one may be an IPv4 address. Returns the bytes written, SIZE_MAX for what is none. */
static size_t parse_groups(struct span text, uint8_t out[16]) {
    size_t at = 0;
    while (text.n != 0) {
        unsigned value = 0;
        if (at != 0) {
            if (text.p[0] != ':') {
                return SIZE_MAX;
            }
            text = span_from(text, 1);
        }
        if (at <= 12 && span_find_byte(text, ':') == SIZE_MAX && parse_v4(text, out + at)) {
            return at + 4;
        }
        if (at > 14 || !take_number(&text, 16, 4, &value)) {
            return SIZE_MAX;
        }
        out[at++] = (uint8_t)(value >> 8);
        out[at++] = (uint8_t)value;
    }
    return at;
}

static bool parse_v6(struct span text, uint8_t out[16]) {
    uint8_t head[16];
    uint8_t tail[16];
    size_t gap = span_find(text, SPAN_LIT("::"));
    size_t head_size = parse_groups(gap == SIZE_MAX ? text : span_cut(text, 0, gap), head);
    size_t tail_size = gap == SIZE_MAX ? 0 : parse_groups(span_from(text, gap + 2), tail);
    bool is_v4_head = gap != SIZE_MAX && span_find_byte(span_cut(text, 0, gap), '.') != SIZE_MAX;
    if (head_size == SIZE_MAX || tail_size == SIZE_MAX || is_v4_head) {
        return false;
    }
    bool fits = gap == SIZE_MAX ? head_size == 16 : head_size + tail_size <= 14;
    if (fits) {
        memset(out, 0, 16);
        memcpy(out, head, head_size);
        memcpy(out + 16 - tail_size, tail, tail_size);
    }
    return fits;
}

static bool has_bits_behind(const struct net *net) {
    for (unsigned bit = net->bits; bit < 128; bit++) {
        if ((net->address[bit / 8] >> (7 - bit % 8) & 1) != 0) {
            return true;
        }
    }
    return false;
}

bool net_parse(struct span text, struct net *ret_net) {
    size_t slash = span_find_byte(text, '/');
    struct span name = slash != SIZE_MAX ? span_cut(text, 0, slash) : text;
    uint64_t bits = 128;
    unsigned before = 0; /* bits of ::ffff:0:0/96 */
    *ret_net = (struct net){.bits = 128};
    if (parse_v4(name, ret_net->address + 12)) {
        ret_net->address[10] = ret_net->address[11] = 0xff;
        before = 96;
        bits = 32;
    } else if (!parse_v6(name, ret_net->address)) {
        return false;
    }
    uint64_t bits_max = bits;
    if (slash != SIZE_MAX && (!span_to_u64(span_from(text, slash + 1), &bits) || bits > bits_max)) {
        return false;
    }
    ret_net->bits = (uint8_t)(before + bits);
    return !has_bits_behind(ret_net);
}

bool net_is_v4(const uint8_t address[16]) {
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    return memcmp(address, mapped, sizeof mapped) == 0;
}

void net_put_address(const uint8_t address[16], struct buf *out) {
    if (net_is_v4(address)) {
        buf_printf(out, "%u.%u.%u.%u", address[12], address[13], address[14], address[15]);
        return;
    }
    unsigned best = 8;
    unsigned best_count = 1; /* one group of zero is written */
    for (unsigned from = 0; from < 8; from++) {
        unsigned to = from;
        while (to < 8 && address[to * 2ULL] == 0 && address[to * 2ULL + 1] == 0) {
            to++;
        }
        if (to - from > best_count) {
            best = from;
            best_count = to - from;
        }
    }
    for (unsigned i = 0; i < 8; i++) {
        if (i == best) {
            buf_put_str(out, "::");
            i += best_count - 1;
            continue;
        }
        bool is_after_gap = i == best + best_count && best != 8;
        buf_printf(out, "%s%x", i == 0 || is_after_gap ? "" : ":",
                   (unsigned)address[i * 2ULL] << 8 | address[i * 2ULL + 1]);
    }
}

/* -- ranges --------------------------------------------------------------------------------------- */

bool net_has(const struct net *net, const uint8_t address[16]) {
    size_t whole = net->bits / 8;
    unsigned rest = net->bits % 8;
    return memcmp(net->address, address, whole) == 0 &&
           (rest == 0 || (net->address[whole] ^ address[whole]) >> (8 - rest) == 0);
}

struct v4_range {
    uint8_t first[4];
    uint8_t bits;
};

/* IANA's IPv4 special-purpose registry, multicast and reserved space. */
static const struct v4_range closed_v4[] = {
    {{0, 0, 0, 0}, 8},        /* this network */
    {{10, 0, 0, 0}, 8},       /* private */
    {{100, 64, 0, 0}, 10},    /* shared by carriers; a cloud's metadata at 100.100.100.200 */
    {{127, 0, 0, 0}, 8},      /* loopback */
    {{168, 63, 129, 16}, 32}, /* Azure's own services, from its machines only */
    {{169, 254, 0, 0}, 16},   /* link-local, and metadata at 169.254.169.254 */
    {{172, 16, 0, 0}, 12},    /* private */
    {{192, 0, 0, 0}, 24},     /* protocol assignments; metadata at 192.0.0.192 */
    {{192, 0, 2, 0}, 24},     /* documentation */
    {{192, 88, 99, 0}, 24},   /* 6to4 relays */
    {{192, 168, 0, 0}, 16},   /* private */
    {{198, 18, 0, 0}, 15},    /* benchmarks */
    {{198, 51, 100, 0}, 24},  /* documentation */
    {{203, 0, 113, 0}, 24},   /* documentation */
    {{224, 0, 0, 0}, 3},      /* multicast, reserved, broadcast */
};

static bool is_public_v4(const uint8_t address[4]) {
    uint32_t value = (uint32_t)address[0] << 24 | (uint32_t)address[1] << 16 |
                     (uint32_t)address[2] << 8 | address[3];
    for (size_t i = 0; i < BH_COUNT(closed_v4); i++) {
        const uint8_t *f = closed_v4[i].first;
        uint32_t first = (uint32_t)f[0] << 24 | (uint32_t)f[1] << 16 | (uint32_t)f[2] << 8 | f[3];
        if ((value ^ first) >> (32 - closed_v4[i].bits) == 0) {
            return false;
        }
    }
    return true;
}

bool net_is_public(const uint8_t address[16]) {
    static const struct net open = {{0x20}, 3}; /* all that was ever given out */
    static const struct net nat64 = {{0, 0x64, 0xff, 0x9b}, 96};
    static const struct net closed[] = {
        {{0x20, 0x01, 0x00}, 23},       /* protocol assignments: Teredo, ORCHID, benchmarks */
        {{0x20, 0x01, 0x0d, 0xb8}, 32}, /* documentation */
        {{0x20, 0x02}, 16},             /* 6to4 */
        {{0x3f, 0xff}, 20},             /* documentation */
    };
    if (net_is_v4(address) || net_has(&nat64, address)) {
        return is_public_v4(address + 12);
    }
    bool is_open = net_has(&open, address);
    for (size_t i = 0; i < BH_COUNT(closed); i++) {
        is_open &= !net_has(&closed[i], address);
    }
    return is_open;
}
