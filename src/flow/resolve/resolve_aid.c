/*
 * Aids: keyed hashes of ids. One key for all instances of a deployment, so that an id is the same
 * person at each of them.
 *
 * The message of an aid begins with a space word ([a-z0-9-] or its end, 0); that of a dedupe
 * fingerprint with 0xff, which begins no space word, so neither can be read as the other.
 */
#include <stdlib.h>

#include "base/check.h"
#include "flow/resolve/resolve.h"

struct aid_maker {
    struct hmac_key *key;
};

struct aid_maker *aid_maker_new(const struct keyring *keyring) {
    struct aid_maker *maker = (struct aid_maker *)calloc(1, sizeof(*maker));
    uint8_t *key = (uint8_t *)secret_new(KEY_SIZE);
    if (maker != NULL && key != NULL) {
        keyring_derive(keyring, "bulkhead/id", key);
        maker->key = hmac_key_new(key, KEY_SIZE);
    }
    secret_free(key);
    if (maker == NULL || maker->key == NULL) {
        free(maker);
        return NULL;
    }
    return maker;
}

void aid_maker_free(struct aid_maker *maker) {
    if (maker != NULL) {
        hmac_key_free(maker->key);
        free(maker);
    }
}

void aid_make(const struct aid_maker *maker, struct span space, struct span id,
              struct aid *ret_aid) {
    static const uint8_t zero = 0;
    uint8_t mac[SHA256_SIZE];
    const struct span parts[] = {space, {&zero, 1}, id};
    hmac_sha256(maker->key, parts, BH_COUNT(parts), mac);
    memcpy(ret_aid->b, mac, sizeof(ret_aid->b));
    /* All zero means nobody; a hash that is so, once in 2^128, is moved out of the way. */
    if (aid_is_zero(ret_aid)) {
        ret_aid->b[0] = 1;
    }
}

/* Bytes of the HMAC over a dedupe id: its fingerprint, then the key of the content's. */
static void mac_dedupe_id(const struct aid_maker *maker, uint16_t source, struct span dedupe_id,
                          uint8_t ret_mac[SHA256_SIZE]) {
    uint8_t head[3] = {0xff, 0, 0};
    put_u16(head + 1, source);
    const struct span parts[] = {{head, sizeof(head)}, dedupe_id};
    hmac_sha256(maker->key, parts, BH_COUNT(parts), ret_mac);
}

static uint64_t dedupe_of(const uint8_t mac[SHA256_SIZE]) {
    uint64_t fingerprint = get_u64(mac);
    return fingerprint != 0 ? fingerprint : 1;
}

uint64_t aid_dedupe(const struct aid_maker *maker, uint16_t source, struct span dedupe_id) {
    uint8_t mac[SHA256_SIZE];
    mac_dedupe_id(maker, source, dedupe_id, mac);
    return dedupe_of(mac);
}

void aid_repeat(const struct aid_maker *maker, const struct repeat_facts *facts,
                struct repeat_key *ret_key) {
    uint8_t mac[SHA256_SIZE];
    mac_dedupe_id(maker, facts->source, facts->dedupe_id, mac);
    const uint8_t *key = mac + 8;
    uint8_t message[8 + sizeof(facts->aid.b) + 8 + 8] = {facts->kind};
    memcpy(message + 8, facts->aid.b, sizeof(facts->aid.b));
    put_u64(message + 24, (uint64_t)facts->said_ms);
    put_u64(message + 32, siphash(key, facts->event_name));
    uint32_t content = (uint32_t)siphash(key, span_of(message, sizeof(message)));
    *ret_key = (struct repeat_key){dedupe_of(mac), content != 0 ? content : 1};
}
