/* PostHog: see protocol_fuzz.h. The first byte is the path, the second the method. */
/* depends: posthog wire json http model crypto base */
/* sources: protocol_fuzz.c */
#include "base/compiler.h"
#include "fuzz/protocol_fuzz.h"
#include "protocol/posthog/posthog.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char *const paths[] = {
        "/batch/", "/e",      "/i/v1/analytics/events", "/flags",
        "/s/",     "/decide", "/array/phc_1/config.js", "/static/a.js",
        "/x",
    };
    if (size < 2) {
        return 0;
    }
    const struct fuzzed_protocol protocol = {
        .ops = &posthog_ops, .path = paths[data[0] % BH_COUNT(paths)], .groups_alone = true};
    fuzz_protocol(&protocol, data[1] % 2 == 0, span_of(data + 2, size - 2));
    return 0;
}
