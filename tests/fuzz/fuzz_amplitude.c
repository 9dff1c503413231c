/* Amplitude: see protocol_fuzz.h. The first byte is the path, the second the method. */
/* depends: amplitude wire json http model crypto base */
/* sources: protocol_fuzz.c */
#include "base/compiler.h"
#include "fuzz/protocol_fuzz.h"
#include "protocol/amplitude/amplitude.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char *const paths[] = {
        "/2/httpapi",         "/batch/", "/identify", "/groupidentify", "/config/k",
        "/sessions/v2/track", "/x",
    };
    if (size < 2) {
        return 0;
    }
    const struct fuzzed_protocol protocol = {
        .ops = &amplitude_ops, .path = paths[data[0] % BH_COUNT(paths)], .frame = 72};
    fuzz_protocol(&protocol, data[1] % 2 == 0, span_of(data + 2, size - 2));
    return 0;
}
