#include "base/check.h"
#include "base/hash.h"
#include "engine/keyring/keyring_int.h"

/*
 * data/keys: a header, the wrapped root, entries, a MAC and a checksum. Offsets are those of
 * docs/format/keys.md.
 *
 * The checksum tells rot (CORRUPT) from a wrong master key (KEY). The MAC, under a key derived from
 * the root, ties names to wrapped keys: without it two entries could be exchanged, and a vendor
 * would get another's pseudonyms.
 */

#define KEYS_MAGIC UINT64_C(0x315359454b4c4b42) /* "BKLKEYS1" */

enum {
    FORMAT = 1,
    HEADER_SIZE = 40,
    ENTRY_HEADER_SIZE = 8,
    VENDOR_BODY_SIZE = WRAPPED_KEY_SIZE,
    LOG_BODY_SIZE = 2 * WRAPPED_KEY_SIZE + SIGN_PUBLIC_SIZE,
    TRAILER_SIZE = SHA256_SIZE + 4,
};

static size_t body_size(enum keyring_kind kind) {
    return kind == KEYRING_VENDOR ? VENDOR_BODY_SIZE : LOG_BODY_SIZE;
}

size_t keyring_encoded_size(const struct keyring *keyring) {
    size_t size = HEADER_SIZE + WRAPPED_KEY_SIZE + TRAILER_SIZE;
    for (uint32_t i = 0; i < keyring->entry_count; i++) {
        const struct keyring_entry *entry = keyring->entries[i];
        size += ENTRY_HEADER_SIZE + strlen(entry->name) + body_size(entry->kind);
    }
    return size;
}

static void put_wrapped(const struct keyring *keyring, const uint8_t key[KEY_SIZE], struct buf *b) {
    uint8_t *at = buf_room(b, WRAPPED_KEY_SIZE);
    check(at != NULL);
    key_wrap(keyring->roots->master, key, at);
}

static void authenticate(const struct keyring *keyring, struct span bytes,
                         uint8_t ret_mac[SHA256_SIZE]) {
    uint8_t key[KEY_SIZE];
    hkdf_sha256(keyring->roots->root, "bulkhead/keys", key, sizeof key);
    struct hmac_key *hmac = hmac_key_new(key, sizeof key);
    check(hmac != NULL);
    hmac_sha256(hmac, &bytes, 1, ret_mac);
    hmac_key_free(hmac);
    secret_wipe(key, sizeof key);
}

void keyring_encode(const struct keyring *keyring, struct buf *b) {
    uint8_t mac[SHA256_SIZE];
    check(b->n == 0);
    buf_put_u64(b, KEYS_MAGIC);
    buf_put_u16(b, FORMAT);
    buf_put_u16(b, FORMAT);
    buf_put_u16(b, keyring->instance);
    buf_put_u16(b, 0);
    buf_put(b, keyring->deployment, KEYRING_DEPLOYMENT_SIZE);
    buf_put_u32(b, keyring->entry_count);
    buf_put_u32(b, 0);
    check(b->n == HEADER_SIZE);
    put_wrapped(keyring, keyring->roots->root, b);
    for (uint32_t i = 0; i < keyring->entry_count; i++) {
        const struct keyring_entry *entry = keyring->entries[i];
        buf_put_byte(b, (uint8_t)entry->kind);
        buf_put_byte(b, (uint8_t)strlen(entry->name));
        buf_put_u16(b, 0);
        buf_put_u32(b, entry->generation);
        buf_put_str(b, entry->name);
        put_wrapped(keyring, entry->secrets->key, b);
        if (entry->kind == KEYRING_LOG) {
            put_wrapped(keyring, entry->secrets->seed, b);
            buf_put(b, entry->sign_public, SIGN_PUBLIC_SIZE);
        }
    }
    authenticate(keyring, buf_span(b), mac);
    buf_put(b, mac, sizeof mac);
    buf_put_u32(b, crc32c(b->p, b->n));
    check(!b->full && b->n == keyring_encoded_size(keyring));
}

static int take_wrapped(const struct keyring *keyring, struct reader *r,
                        uint8_t ret_key[KEY_SIZE]) {
    struct span wrapped = reader_take(r, WRAPPED_KEY_SIZE);
    if (wrapped.p == NULL) {
        return BH_E_CORRUPT;
    }
    return key_unwrap(keyring->roots->master, wrapped.p, ret_key) == 0 ? 0 : BH_E_KEY;
}

static int decode_entry(struct keyring *keyring, struct reader *r) {
    uint8_t kind = read_u8(r);
    uint8_t name_size = read_u8(r);
    uint16_t zero = read_u16(r);
    uint32_t generation = read_u32(r);
    struct span name = reader_take(r, name_size);
    if (r->short_ || zero != 0) {
        return BH_E_CORRUPT;
    }
    if (kind != KEYRING_VENDOR && kind != KEYRING_LOG) {
        return BH_E_VERSION;
    }
    struct keyring_entry *entry =
        keyring_entry_new(kind == KEYRING_VENDOR ? KEYRING_VENDOR : KEYRING_LOG, name, generation);
    if (entry == NULL) {
        return BH_E_CORRUPT;
    }
    int code = take_wrapped(keyring, r, entry->secrets->key);
    if (code == 0 && entry->kind == KEYRING_LOG) {
        code = take_wrapped(keyring, r, entry->secrets->seed);
    }
    if (code == 0) {
        keyring_entry_complete(entry);
        if (entry->kind == KEYRING_LOG) {
            struct span sign_public = reader_take(r, SIGN_PUBLIC_SIZE);
            code = span_equal(sign_public, span_of(entry->sign_public, SIGN_PUBLIC_SIZE))
                       ? 0
                       : BH_E_CORRUPT;
        }
    }
    if (code != 0) {
        keyring_entry_free(entry);
        return code;
    }
    keyring->entries[keyring->entry_count++] = entry;
    return 0;
}

int keyring_decode(struct keyring *keyring, struct span bytes) {
    uint8_t mac[SHA256_SIZE];
    check(keyring->entry_count == 0);
    if (bytes.n < HEADER_SIZE + WRAPPED_KEY_SIZE + TRAILER_SIZE || get_u64(bytes.p) != KEYS_MAGIC ||
        get_u32(bytes.p + bytes.n - 4) != crc32c(bytes.p, bytes.n - 4)) {
        return BH_E_CORRUPT;
    }
    if (get_u16(bytes.p + 10) > FORMAT) {
        return BH_E_VERSION;
    }
    keyring->instance = get_u16(bytes.p + 12);
    memcpy(keyring->deployment, bytes.p + 16, KEYRING_DEPLOYMENT_SIZE);
    uint32_t count = get_u32(bytes.p + 32);
    struct reader r = reader_of(span_cut(bytes, HEADER_SIZE, bytes.n - HEADER_SIZE - TRAILER_SIZE));
    int code = take_wrapped(keyring, &r, keyring->roots->root);
    if (code != 0) {
        return code;
    }
    authenticate(keyring, span_cut(bytes, 0, bytes.n - TRAILER_SIZE), mac);
    if (!secret_equal(mac, bytes.p + bytes.n - TRAILER_SIZE, sizeof mac)) {
        return BH_E_TAMPERED;
    }
    if (count > KEYRING_ENTRIES_MAX) {
        return BH_E_CORRUPT;
    }
    for (uint32_t i = 0; i < count && code == 0; i++) {
        code = decode_entry(keyring, &r);
    }
    return code == 0 && r.n != 0 ? BH_E_CORRUPT : code;
}
