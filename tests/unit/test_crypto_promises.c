/* Sealed: two numbers never share a nonce. */
/* depends: crypto os base */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "crypto/crypto.h"

/*
 * The key stream of a nonce shows in the sealed form of zeros: equal for two numbers would mean that whoever holds both frames
 * holds the difference of their contents.
 */
static void every_number_has_its_own_nonce(void **state) {
    (void)state;
    enum { NUMBERS = 64 + 2, SIZE = 16 };
    static const uint8_t zeros[SIZE];
    uint8_t key[KEY_SIZE] = {7};
    uint8_t sealed[NUMBERS][SIZE + GCM_TAG_SIZE];
    uint64_t numbers[NUMBERS];
    struct gcm *gcm = gcm_new(key);
    assert_non_null(gcm);
    for (unsigned i = 0; i < NUMBERS; i++) {
        numbers[i] = i < 64 ? UINT64_C(1) << i : i - 64 == 0 ? 0 : 3;
        gcm_seal(gcm, numbers[i], SPAN_NONE, span_of(zeros, SIZE), sealed[i]);
        for (unsigned k = 0; k < i; k++) {
            assert_memory_not_equal(sealed[k], sealed[i], SIZE);
        }
    }
    gcm_free(gcm);
}

static int set_up(void **state) {
    (void)state;
    return crypto_init();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_number_has_its_own_nonce),
    };
    return cmocka_run_group_tests_name("crypto_promises", tests, set_up, NULL);
}
