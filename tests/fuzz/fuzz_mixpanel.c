/* Mixpanel: see protocol_fuzz.h. The first byte is the path, the second the method. */
/* depends: mixpanel wire json http model crypto base */
/* sources: protocol_fuzz.c */
#include "base/compiler.h"
#include "fuzz/protocol_fuzz.h"
#include "protocol/mixpanel/mixpanel.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char *const paths[] = {
        "/track", "/engage/", "/groups", "/import", "/settings/",
        "/flags", "/decide",  "/record", "/x",
    };
    if (size < 2) {
        return 0;
    }
    const struct fuzzed_protocol protocol = {.ops = &mixpanel_ops,
                                             .path = paths[data[0] % BH_COUNT(paths)],
                                             .frame = 2,
                                             .encodes_all = true};
    fuzz_protocol(&protocol, data[1] % 2 == 0, span_of(data + 2, size - 2));
    return 0;
}
