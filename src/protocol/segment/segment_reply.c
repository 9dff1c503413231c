/*
 * Answers. The SDKs look at the status alone; what stands in the body is for people.
 *
 * What cannot be kept now is 429 with Retry-After, not 503: both SDKs wait as long as it says and count no try, where a
 * 503 uses up one of ten. A refusal that time does not heal is a 4xx, which they drop at once.
 */
#include "base/compiler.h"
#include "protocol/segment/segment_int.h"

struct answer_row {
    unsigned status;
    const char *body;
};

static const struct answer_row answers[] = {
    [REPLY_KEPT] = {200, "{\"success\":true}"},
    [REPLY_MALFORMED] = {400, "{\"success\":false,\"message\":\"malformed\"}"},
    [REPLY_UNAUTHORIZED] = {401, "{\"success\":false,\"message\":\"unauthorized\"}"},
    [REPLY_TOO_BIG] = {413, "{\"success\":false,\"message\":\"too large\"}"},
    [REPLY_UNAVAILABLE] = {429, "{\"success\":false,\"message\":\"unavailable, try again\"}"},
    [REPLY_NOT_FOUND] = {404, "{\"success\":false,\"message\":\"not found\"}"},
    [REPLY_BAD_METHOD] = {405, "{\"success\":false,\"message\":\"method not allowed\"}"},
};

/* What a page's SDK asks for before it sends: one integration, us. The same for every key, known or not. */
static void put_settings(struct buf *out, struct span key) {
    buf_put_str(out, "{\"integrations\":{\"Segment.io\":{\"apiKey\":\"");
    buf_put_span(out, key);
    buf_put_str(out, "\",\"unbundledIntegrations\":[],\"addBundledMetadata\":true}},"
                     "\"plan\":{\"track\":{\"__default\":{\"enabled\":true,\"integrations\":{}}}},"
                     "\"metrics\":{\"sampleRate\":0}}");
}

void segment_reply(const struct protocol_envelope *envelope, enum reply_kind kind,
                   const struct protocol_item *items, size_t item_count, struct buf *memory,
                   struct protocol_reply *ret) {
    (void)items;
    (void)item_count;
    *ret = (struct protocol_reply){.status = answers[kind].status,
                                   .content_type = "application/json",
                                   .body = span_str(answers[kind].body)};
    if (envelope->endpoint == SEGMENT_SETTINGS && kind == REPLY_KEPT) {
        size_t before = memory->n;
        put_settings(memory, envelope->project_id);
        ret->body = memory->full ? SPAN_LIT("{}") : span_of(memory->p + before, memory->n - before);
    }
}
