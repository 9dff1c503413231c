#include "unit/policy_keys.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"

/* The real maker takes its key from a keyring of random keys; kept outputs need one that stays. */
struct aid_maker {
    struct hmac_key *key;
};

struct aid_maker *aid_maker_new(const struct keyring *keyring) {
    static const uint8_t key[KEY_SIZE] = {7, 7, 7};
    struct aid_maker *maker = calloc(1, sizeof *maker);
    (void)keyring;
    check(maker != NULL);
    maker->key = hmac_key_new(key, sizeof key);
    check(maker->key != NULL);
    return maker;
}

void aid_maker_free(struct aid_maker *maker) {
    hmac_key_free(maker->key);
    free(maker);
}

void aid_make(const struct aid_maker *maker, struct span space, struct span id,
              struct aid *ret_aid) {
    static const uint8_t zero = 0;
    uint8_t mac[SHA256_SIZE];
    const struct span parts[] = {space, {&zero, 1}, id};
    hmac_sha256(maker->key, parts, 3, mac);
    memcpy(ret_aid->b, mac, sizeof ret_aid->b);
}

uint64_t aid_dedupe(const struct aid_maker *maker, uint16_t source, struct span dedupe_id) {
    uint8_t mac[SHA256_SIZE];
    uint8_t head[3] = {0xff, (uint8_t)source, (uint8_t)(source >> 8)};
    const struct span parts[] = {{head, 3}, dedupe_id};
    hmac_sha256(maker->key, parts, 2, mac);
    return get_u64(mac) | 1;
}

static struct aid_maker *aids;

const struct aid_maker *policy_keys_aids(void) {
    if (aids == NULL) {
        check(crypto_init() == 0);
        aids = aid_maker_new(NULL);
    }
    return aids;
}

struct policy *policy_keys_vendor(const char *name) {
    static uint8_t keys[8][SHA256_SIZE];
    struct vendor_keys vendor = {.generation = 1};
    const struct aid_maker *maker = policy_keys_aids();
    for (unsigned domain = 1; domain < 8; domain++) {
        char label[64];
        (void)snprintf(label, sizeof label, "%s %u", name, domain);
        sha256(span_str(label), keys[domain]);
        vendor.domain_key[domain] = keys[domain];
    }
    struct policy *policy = NULL;
    check(policy_new(&vendor, maker, 1, &policy) == 0);
    return policy;
}
