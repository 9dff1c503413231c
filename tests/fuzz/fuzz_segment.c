/* Segment and RudderStack: see protocol_fuzz.h. The first byte is which of them and the path, the second the method. */
/* depends: segment wire json http model crypto base */
/* sources: protocol_fuzz.c */
#include "base/compiler.h"
#include "fuzz/protocol_fuzz.h"
#include "protocol/segment/rudder.h"
#include "protocol/segment/segment.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char *const paths[] = {
        "/v1/batch",    "/v1/b",
        "/v1/track/",   "/v1/i",
        "/v1/identify", "/v1/group",
        "/v1/alias",    "/v1/projects/k/settings",
        "/v1/import",   "/beacon/v1/batch",
        "/x",
    };
    if (size < 2) {
        return 0;
    }
    const struct fuzzed_protocol protocol = {.ops = (data[0] & 1) != 0 ? &rudder_ops : &segment_ops,
                                             .path = paths[(data[0] >> 1) % BH_COUNT(paths)],
                                             .frame = sizeof "{\"batch\":[]}"};
    fuzz_protocol(&protocol, data[1] % 4 != 0, span_of(data + 2, size - 2));
    return 0;
}
