/*
 * Answers, as SDKs want them. Both look at the status; the browser SDK also reads the body of every
 * answer and stops sending for a minute when it finds "quota_limited", so no answer has that key. Of
 * /i/v1/analytics/events an empty `results` says that all is well.
 *
 * What the SDK does with a refusal: 503 is repeated by all; 413 is halved by the server SDK and
 * dropped by the browser's; other 4xx are dropped by both.
 */
#include "protocol/posthog/posthog_int.h"

struct answer_row {
    unsigned status;
    const char *body;
};

static const struct answer_row answers[] = {
    [REPLY_KEPT] = {200, "{\"status\":\"Ok\"}"},
    [REPLY_MALFORMED] = {400, "{\"error\":\"malformed or empty request\"}"},
    [REPLY_UNAUTHORIZED] = {401, "{\"error\":\"unknown project API key\"}"},
    [REPLY_TOO_BIG] = {413, "{\"error\":\"request is too large\"}"},
    [REPLY_UNAVAILABLE] = {503, "{\"error\":\"unavailable, try again\"}"},
    [REPLY_NOT_FOUND] = {404, "{\"error\":\"not found\"}"},
    [REPLY_BAD_METHOD] = {405, "{\"error\":\"method not allowed\"}"},
};

/*
 * Flags that the SDK knows stay as they are: an answer that says it is incomplete adds to them. The
 * two older forms of the answer stand beside it.
 */
#define NO_FLAGS                                                            \
    "{\"errorsWhileComputingFlags\":true,\"flags\":{},\"featureFlags\":{}," \
    "\"featureFlagPayloads\":{},\"quotaLimited\":[]," POSTHOG_FLAGS_REST

/*
 * A 404 would stand in the page's console as an error. An SDK that was told in the page to use one of these scripts goes
 * without.
 */
#define NO_SCRIPT "/* PostHog's further scripts are not served here. */\n"
#define NO_LISTS \
    "{\"surveys\":[],\"earlyAccessFeatures\":[],\"product_tours\":[],\"experiments\":[]}"

/* All that loads more of the vendor's code or data is off; gzip keeps the SDK from preflights. */
#define CONFIG                                                                                \
    "\"supportedCompression\":[\"gzip\",\"gzip-js\"],"                                        \
    "\"captureDeadClicks\":false,\"capturePerformance\":false,\"autocapture_opt_out\":false," \
    "\"autocaptureExceptions\":false,\"analytics\":{\"endpoint\":\"/i/v0/e/\"},"              \
    "\"elementsChainAsString\":true,\"sessionRecording\":false,\"heatmaps\":false,"           \
    "\"surveys\":false,\"defaultIdentifiedOnly\":true,\"siteApps\":[]}"

static void put_config(struct buf *out, const struct protocol_envelope *envelope) {
    buf_put_str(out, "{\"token\":\"");
    buf_put_span(out, envelope->api_key);
    buf_put_str(out,
                envelope->asks ? "\",\"hasFeatureFlags\":true," : "\",\"hasFeatureFlags\":false,");
    buf_put_str(out, CONFIG);
}

static void put_config_js(struct buf *out, const struct protocol_envelope *envelope) {
    buf_put_str(out, "(function(){window._POSTHOG_REMOTE_CONFIG=window._POSTHOG_REMOTE_CONFIG||{};"
                     "window._POSTHOG_REMOTE_CONFIG[\"");
    buf_put_span(out, envelope->api_key);
    buf_put_str(out, "\"]={config:");
    put_config(out, envelope);
    buf_put_str(out, ",siteApps:[]}})();");
}

void posthog_reply(const struct protocol_envelope *envelope, enum reply_kind kind,
                   const struct protocol_item *items, size_t item_count, struct buf *memory,
                   struct protocol_reply *ret) {
    (void)items;
    (void)item_count;
    size_t before = memory->n;
    *ret = (struct protocol_reply){.status = answers[kind].status,
                                   .content_type = "application/json",
                                   .body = span_str(answers[kind].body)};
    if (kind != REPLY_KEPT) {
        return;
    }
    switch ((enum posthog_path)envelope->endpoint) {
    case POSTHOG_BATCH:
    case POSTHOG_CAPTURE:
    case POSTHOG_RECORD:
        return;
    case POSTHOG_EVENTS:
        ret->body = SPAN_LIT("{\"results\":{}}");
        return;
    case POSTHOG_LOGS:
        ret->body = SPAN_LIT("{}");
        return;
    case POSTHOG_FLAGS:
        ret->body = SPAN_LIT(NO_FLAGS);
        return;
    case POSTHOG_DEFINITIONS:
        ret->body = SPAN_LIT("{\"flags\":[],\"group_type_mapping\":{},\"cohorts\":{}}");
        return;
    case POSTHOG_LISTS:
        ret->body = SPAN_LIT(NO_LISTS);
        return;
    case POSTHOG_STATIC:
        ret->content_type = "application/javascript";
        ret->body = SPAN_LIT(NO_SCRIPT);
        return;
    case POSTHOG_CONFIG_JS:
        ret->content_type = "application/javascript";
        put_config_js(memory, envelope);
        break;
    case POSTHOG_CONFIG:
        put_config(memory, envelope);
        break;
    }
    ret->body = memory->full ? SPAN_LIT("{}") : span_of(memory->p + before, memory->n - before);
}
