/* data/keys as anybody may have left it: refused, or exactly what encoding it again gives. */
/* depends: keyring crypto os base */
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/hash.h"
#include "engine/keyring/keyring_int.h"
#include "fuzz/fuzz_entry.h"

enum { SIZE_MAX_BYTES = 64 * 1024 };

static struct keyring *keyring;
static uint8_t bytes[SIZE_MAX_BYTES];
static uint8_t again[SIZE_MAX_BYTES + 4096];

static void prepare(void) {
    int code = crypto_init();
    keyring = (struct keyring *)calloc(1, sizeof *keyring);
    check(code == 0 && keyring != NULL);
    os_lock_init(&keyring->lock, OS_LOCK_KEYRING);
    keyring->roots = (struct keyring_roots *)secret_new(sizeof *keyring->roots);
    check(keyring->roots != NULL);
}

/* First byte: 1 = make the checksum right, 2 = the MAC of an all-zero root too, 4 = put a good
 * wrapped root in front. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const uint8_t root[KEY_SIZE] = {0};
    if (keyring == NULL) {
        prepare();
    }
    if (size < 1 || size - 1 > sizeof bytes) {
        return 0;
    }
    size_t n = size - 1;
    memcpy(bytes, data + 1, n);
    memset(keyring->roots->master, 1, KEY_SIZE);
    if ((data[0] & 4) != 0 && n >= 80) {
        key_wrap(keyring->roots->master, root, bytes + 40);
    }
    if ((data[0] & 2) != 0 && n >= 36) {
        uint8_t key[KEY_SIZE];
        struct span covered = span_of(bytes, n - 36);
        hkdf_sha256(root, "bulkhead/keys", key, sizeof key);
        struct hmac_key *hmac = hmac_key_new(key, sizeof key);
        check(hmac != NULL);
        hmac_sha256(hmac, &covered, 1, bytes + n - 36);
        hmac_key_free(hmac);
    }
    if ((data[0] & 3) != 0 && n >= 4) {
        put_u32(bytes + n - 4, crc32c(bytes, n - 4));
    }
    int code = keyring_decode(keyring, span_of(bytes, n));
    check(code <= 0);
    if (code == 0) {
        struct buf b = buf_of(again, sizeof again);
        keyring_encode(keyring, &b);
        /* Names, generations and keys are what was read; reserved bytes are written as zeros. */
        check(b.n == n);
    }
    for (uint32_t i = 0; i < keyring->entry_count; i++) {
        keyring_entry_free(keyring->entries[i]);
        keyring->entries[i] = NULL;
    }
    keyring->entry_count = 0;
    return 0;
}
