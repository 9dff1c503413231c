/*
 * Pseudonyms: AES-256 under the vendor's key of the domain, over the id's aid. A permutation, so two ids never meet and the key alone leads
 * back to the aid; another vendor's key makes another permutation.
 *
 *   UUID in     a UUIDv4 shape out: 122 of the 128 bits, version and variant set (the way back tries the 64 that are missing)
 *   UUIDv7 in   of a session: UUIDv7 out, since PostHog takes no other as one. Its time is floored to the contract's precision and moved
 *               within the unit by the same permutation, so that sessions keep their order to the unit; no way leads back
 *   a time in   of a session: a time out, moved in the same way (pseudonym_time)
 *   else        26 characters of base32, lower case, the last of 3 bits
 *   $device:    the prefix stays, and is no part of the aid
 *
 * A hash of recent ids saves the HMAC; it holds what it would compute again, so output never depends on it.
 */
#include "base/check.h"
#include "base/hash.h"
#include "flow/policy/policy_int.h"

static const char base32[] = "abcdefghijklmnopqrstuvwxyz234567";

/* 26 characters. */
static void base32_put(const uint8_t block[16], uint8_t out[26]) {
    for (size_t i = 0; i < 3; i++) {
        const uint8_t *b = block + 5 * i;
        uint64_t bits = (uint64_t)b[0] << 32 | (uint64_t)b[1] << 24 | (uint64_t)b[2] << 16 |
                        (uint64_t)b[3] << 8 | b[4];
        for (unsigned k = 0; k < 8; k++) {
            out[8 * i + k] = (uint8_t)base32[bits >> (35 - 5 * k) & 31];
        }
    }
    out[24] = (uint8_t)base32[block[15] >> 3];
    out[25] = (uint8_t)base32[block[15] << 2 & 31];
}

static int base32_value(uint8_t c) {
    if (c >= 'a' && c <= 'z') {
        return c - 'a';
    }
    return c >= '2' && c <= '7' ? c - '2' + 26 : -1;
}

static bool base32_read(struct span text, uint8_t out[16]) {
    uint32_t bits = 0;
    unsigned have = 0;
    size_t n = 0;
    if (text.n != 26) {
        return false;
    }
    for (size_t i = 0; i < 26; i++) {
        int value = base32_value(text.p[i]);
        if (value < 0) {
            return false;
        }
        bits = bits << 5 | (uint32_t)value;
        have += 5;
        if (have >= 8 && n < 16) {
            have -= 8;
            out[n++] = (uint8_t)(bits >> have);
        }
    }
    return (bits & ((1U << have) - 1)) == 0;
}

static bool uuid_read(struct span text, uint8_t out[16]) {
    if (text.n != 36) {
        return false;
    }
    size_t n = 0;
    for (size_t i = 0; i < 36; i++) {
        if (i == 8 || i == 13 || i == 18 || i == 23) {
            if (text.p[i] != '-') {
                return false;
            }
            continue;
        }
        int high = hex_digit_value(text.p[i]);
        int low = hex_digit_value(text.p[i + 1]);
        if (high < 0 || low < 0) {
            return false;
        }
        out[n++] = (uint8_t)(high << 4 | low);
        i++;
    }
    return n == 16;
}

static void uuid_put(const uint8_t block[16], unsigned version, uint8_t out[36]) {
    static const char digits[] = "0123456789abcdef";
    size_t n = 0;
    for (size_t i = 0; i < 16; i++) {
        uint8_t byte = i == 6   ? (uint8_t)((block[i] & 0x0f) | version << 4)
                       : i == 8 ? (block[i] & 0x3f) | 0x80
                                : block[i];
        if (i == 4 || i == 6 || i == 8 || i == 10) {
            out[n++] = '-';
        }
        out[n++] = (uint8_t)digits[byte >> 4];
        out[n++] = (uint8_t)digits[byte & 15];
    }
}

static bool is_uuid7(const uint8_t id[16]) {
    return id[6] >> 4 == 7 && id[8] >> 6 == 2;
}

/* The 48 bits of time of a UUIDv7, big-endian. */
static uint64_t get_u48(const uint8_t *p) {
    uint64_t value = 0;
    for (unsigned i = 0; i < 6; i++) {
        value = value << 8 | p[i];
    }
    return value;
}

/* The bits that move the time are not among those that follow it. */
static void uuid7_make(uint8_t precision, const uint8_t id[16], uint8_t block[16]) {
    uint64_t unit = (uint64_t)time_precision_ms((enum time_precision)precision);
    uint64_t ms = get_u48(id);
    ms = ms - ms % unit + get_u48(block) % unit;
    for (unsigned i = 0; i < 6; i++) {
        block[i] = (uint8_t)(ms >> (40 - 8 * i));
    }
}

static void make(struct policy *p, uint8_t domain, struct span id, struct id_entry *e) {
    uint8_t block[16];
    uint8_t uuid[16];
    aid_make(p->aids, p->in->space, id, &e->aid);
    aes_block_encrypt(p->keys[domain], e->aid.b, block);
    e->time = p->time;
    if (uuid_read(id, uuid)) {
        bool is_time = domain == DOMAIN_SESSION && is_uuid7(uuid);
        if (is_time) {
            uuid7_make(p->time, uuid, block);
        }
        uuid_put(block, is_time ? 7 : 4, e->out);
        e->out_size = 36;
    } else {
        base32_put(block, e->out);
        e->out_size = 26;
    }
}

/* Entry of a bare id, from the table or made; long ids are made each time, in the table's spare entry. */
static const struct id_entry *entry_of(struct policy *p, uint8_t domain, struct span id) {
    struct id_entry *spare = &p->ids[ID_ENTRIES];
    if (id.n == 0 || id.n > sizeof spare->id) {
        make(p, domain, id, spare);
        return spare;
    }
    uint64_t hash = hash64(id.p, id.n, p->space_hash + domain);
    struct id_entry *set = &p->ids[hash % (ID_ENTRIES / ID_WAYS) * ID_WAYS];
    for (unsigned i = 0; i < ID_WAYS; i++) {
        if (set[i].hash == hash && set[i].domain == domain && set[i].id_size == id.n &&
            (domain != DOMAIN_SESSION || set[i].time == p->time) &&
            memcmp(set[i].id, id.p, id.n) == 0) {
            return &set[i];
        }
    }
    struct id_entry *e = &set[p->id_next++ % ID_WAYS];
    make(p, domain, id, e);
    e->hash = hash;
    e->domain = domain;
    e->id_size = (uint8_t)id.n;
    memcpy(e->id, id.p, id.n);
    return e;
}

struct span pseudonym_of(struct policy *p, uint8_t domain, struct span id, struct aid *ret_aid) {
    struct span prefix = p->device_prefix;
    check(domain > DOMAIN_NONE && domain <= DOMAIN_VALUE);
    if (domain != DOMAIN_PERSON || prefix.n == 0 || !span_starts(id, prefix)) {
        prefix = SPAN_NONE;
    }
    const struct id_entry *e = entry_of(p, domain, span_from(id, prefix.n));
    struct buf out = buf_of(p->shaped, sizeof p->shaped);
    buf_put_span(&out, prefix);
    buf_put(&out, e->out, e->out_size);
    *ret_aid = e->aid;
    return buf_span(&out);
}

bool pseudonym_time(struct policy *p, struct span id, int64_t *ret_ms, struct aid *ret_aid) {
    /* Below are counters and seconds, beyond no time that double numbers tell apart. */
    const int64_t first = 100000000000;
    const int64_t last = 1000000000000000;
    uint8_t block[16];
    int64_t ms;
    if (!json_integer(id, &ms) || (ms != -1 && (ms < first || ms > last))) {
        return false;
    }
    if (ms == -1) {
        *ret_ms = ms;
        return true;
    }
    uint8_t room[24];
    struct buf digits = buf_of(room, sizeof room);
    buf_put_i64_dec(&digits, ms); /* 1e12 and 1000000000000 are one id */
    const struct id_entry *e = entry_of(p, DOMAIN_SESSION, buf_span(&digits));
    bool is_block = base32_read(span_of(e->out, e->out_size), block);
    check(is_block);
    uint8_t precision = p->time == TIME_MS ? TIME_SECOND : p->time;
    uint64_t unit = (uint64_t)time_precision_ms((enum time_precision)precision);
    *ret_ms = time_floor(ms, precision) + (int64_t)(get_u64(block) % unit);
    *ret_aid = e->aid;
    return true;
}

/*
 * Equal over the SDK's retries (its own dedupe id), ours, crash and replay (the seq). The two inputs never meet: the first byte tells them
 * apart. 26 letters and digits are within every vendor's form.
 */
size_t insert_id_make(struct policy *p, uint8_t form, uint8_t out[36]) {
    const struct record_event *event = p->in->event;
    uint8_t block[16] = {0};
    uint8_t sealed[16];
    if (event->dedupe != 0) {
        block[0] = 1;
        put_u16(block + 2, p->in->request->source);
        put_u64(block + 8, event->dedupe);
    } else {
        block[0] = 2;
        put_u16(block + 2, p->instance);
        put_u64(block + 8, event->seq);
    }
    aes_block_encrypt(p->keys[DOMAIN_EVENT], block, sealed);
    if (form == INSERT_FORM_UUID) {
        uuid_put(sealed, 4, out);
        return 36;
    }
    base32_put(sealed, out);
    return 26;
}

size_t policy_pseudonym_aids(struct policy *policy, enum id_domain domain, struct span pseudonym,
                             struct aid *out, size_t cap) {
    static const struct span prefix = {(const uint8_t *)"$device:", 8};
    uint8_t block[16];
    if (domain <= DOMAIN_NONE || domain > DOMAIN_VALUE || cap == 0) {
        return 0;
    }
    if (span_starts(pseudonym, prefix)) {
        pseudonym = span_from(pseudonym, prefix.n);
    }
    if (base32_read(pseudonym, block)) {
        aes_block_decrypt(policy->keys[domain], block, out[0].b);
        return 1;
    }
    if (!uuid_read(pseudonym, block) || (domain == DOMAIN_SESSION && is_uuid7(block))) {
        return 0;
    }
    size_t count = 0;
    for (unsigned lost = 0; lost < 64 && count < cap; lost++) {
        uint8_t candidate[16];
        memcpy(candidate, block, 16);
        candidate[6] = (uint8_t)((block[6] & 0x0f) | (lost & 15) << 4);
        candidate[8] = (uint8_t)((block[8] & 0x3f) | (lost >> 4) << 6);
        aes_block_decrypt(policy->keys[domain], candidate, out[count++].b);
    }
    return count;
}

bool policy_pseudonym_reverse(struct policy *policy, enum id_domain domain, struct span pseudonym,
                              struct aid *ret_aid) {
    struct aid aids[2];
    if (policy_pseudonym_aids(policy, domain, pseudonym, aids, 2) != 1) {
        return false;
    }
    *ret_aid = aids[0];
    return true;
}
