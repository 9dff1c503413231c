/* lz64: any text, any room. Input: room u16 in units of 16 bytes; text. What unpacks does so in exactly that room again, with the same bytes. */
/* depends: wire base */
#include <string.h>

#include "base/check.h"
#include "fuzz/fuzz_entry.h"
#include "protocol/wire/lz64.h"

enum { OUT_MAX = 1 << 20 };

static struct lz64 lz64;
static uint8_t out[2][OUT_MAX];

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 2) {
        return 0;
    }
    size_t room = 16 * (size_t)get_u16(data);
    struct span text = span_of(data + 2, size - 2);
    struct buf first = buf_of(out[0], room);
    int rc = lz64_decode(&lz64, text, &first);
    check(rc == 0 || rc == BH_E_SYNTAX || rc == BH_E_TOO_BIG);
    check(first.n <= room && (rc != 0 || first.n > 0));
    if (rc == 0) {
        struct buf again = buf_of(out[1], first.n);
        check(lz64_decode(&lz64, text, &again) == 0 && again.n == first.n);
        check(memcmp(out[0], out[1], first.n) == 0);
    }
    return 0;
}
