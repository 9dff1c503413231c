/*
 * Cost of each protocol on one core: the same 50 events in its SDK's words, decoded; the same encoded for its vendor; and each source's in the words of
 * each target. Best of 5 runs. --json: the last line is one JSON object.
 */
/* depends: protocol mixpanel posthog segment amplitude wire crypto json http model base */
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "crypto/crypto.h"
#include "engine/http/http_parse.h"
#include "protocol/translate.h"
#include "protocol/wire/wire.h"

enum { EVENTS = 50, TEXT_MAX = 256 * 1024, TOKENS_MAX = 16384, RUNS = 5, PASSES = 400 };

struct facts {
    const char *name;
    const char *system;
    unsigned user;
    unsigned a;
    unsigned b;
};

struct dialect {
    const char *protocol;
    const char *path;
    const char *before;
    const char *after;
    const char *authorization;
    void (*put)(struct buf *b, const struct facts *f);
};

static uint8_t body[TEXT_MAX];
static uint8_t text[2 * TEXT_MAX];
static uint8_t out[2][TEXT_MAX];
static struct json_token tokens[TOKENS_MAX];
static struct json_token item_tokens[LIMIT_EVENT_TOKENS];
static struct protocol_item items[EVENTS];
static struct protocol_decoded decoded;
static struct span spans[EVENTS];
static struct wire *wire;
static uint64_t seed = 42;

static unsigned below(unsigned n) {
    seed = seed * 6364136223846793005U + 1442695040888963407U;
    return (unsigned)((seed >> 33) % n);
}

static void put_mixpanel(struct buf *b, const struct facts *f) {
    buf_printf(
        b,
        "{\"event\":\"%s\",\"properties\":{\"$os\":\"%s\",\"$browser\":\"Chrome\",\"$current_url\":\"https://console.example.com/runs/%u\","
        "\"$browser_version\":%u,\"$screen_height\":900,\"$screen_width\":1440,\"mp_lib\":\"web\",\"$lib_version\":\"2.83.0\","
        "\"$insert_id\":\"%08x%08x\",\"time\":1795489911.%03u,\"distinct_id\":\"user_%u\",\"$device_id\":\"%08x-9ccd-4e5d-bfe2-%012x\","
        "\"$user_id\":\"user_%u\",\"$referrer\":\"https://www.example.org/\",\"$referring_domain\":\"www.example.org\","
        "\"model\":\"lumen-%u\",\"prompt_tokens\":%u,\"stream\":true,\"title\":\"Dashboard\",\"token\":\"source_token\"}}",
        f->name, f->system, f->a % 1000, 100 + f->a % 40, f->a, f->b, f->a % 1000, f->user, f->user,
        f->user, f->user, f->a % 9, f->b);
}

static void put_posthog(struct buf *b, const struct facts *f) {
    buf_printf(
        b,
        "{\"event\":\"%s\",\"distinct_id\":\"user_%u\",\"uuid\":\"01a20b8a-668a-7b0e-%04x-%012x\",\"timestamp\":\"2026-11-24T10:11:12.%03uZ\","
        "\"properties\":{\"$os\":\"%s\",\"$browser\":\"Chrome\",\"$current_url\":\"https://console.example.com/runs/%u\","
        "\"$browser_version\":%u,\"$screen_height\":900,\"$screen_width\":1440,\"$lib\":\"web\",\"$lib_version\":\"1.449.2\","
        "\"$device_id\":\"%08x-9ccd-7e5d-bfe2-%012x\",\"$session_id\":\"01a20b8a-668a-7b0e-b5b6-%012x\","
        "\"$referrer\":\"https://www.example.org/\",\"$referring_domain\":\"www.example.org\",\"model\":\"lumen-%u\","
        "\"prompt_tokens\":%u,\"stream\":true,\"title\":\"Dashboard\"}}",
        f->name, f->user, 0x8000 | (f->a & 0xfff), f->b, f->a % 1000, f->system, f->a % 1000,
        100 + f->a % 40, f->user, f->user, f->b, f->a % 9, f->b);
}

static void put_segment(struct buf *b, const struct facts *f) {
    buf_printf(
        b,
        "{\"type\":\"track\",\"event\":\"%s\",\"userId\":\"user_%u\",\"anonymousId\":\"%08x-9ccd-4e5d-bfe2-%012x\","
        "\"messageId\":\"ajs-next-1795489911555-%08x\",\"timestamp\":\"2026-11-24T10:11:12.%03uZ\",\"integrations\":{},"
        "\"context\":{\"library\":{\"name\":\"analytics.js\",\"version\":\"npm:next-1.84.3\"},\"os\":{\"name\":\"%s\"},"
        "\"page\":{\"url\":\"https://console.example.com/runs/%u\",\"path\":\"/runs\",\"referrer\":\"https://www.example.org/\","
        "\"title\":\"Dashboard\"},\"screen\":{\"width\":1440,\"height\":900},\"locale\":\"en-GB\"},"
        "\"properties\":{\"model\":\"lumen-%u\",\"prompt_tokens\":%u,\"stream\":true,\"title\":\"Dashboard\"}}",
        f->name, f->user, f->user, f->user, f->b, f->a % 1000, f->system, f->a % 1000, f->a % 9,
        f->b);
}

static void put_amplitude(struct buf *b, const struct facts *f) {
    buf_printf(
        b,
        "{\"event_type\":\"%s\",\"user_id\":\"user_%u\",\"device_id\":\"%08x-9ccd-4e5d-bfe2-%012x\",\"session_id\":17954899%05u,"
        "\"insert_id\":\"01a20b8a-668a-7b0e-b5b6-%012x\",\"time\":1795489911%03u,\"event_id\":%u,\"os_name\":\"%s\",\"os_version\":\"138\","
        "\"platform\":\"Web\",\"language\":\"en-GB\",\"library\":\"amplitude-ts/2.47.0\",\"event_properties\":{"
        "\"[Amplitude] Page Location\":\"https://console.example.com/runs/%u\",\"[Amplitude] Page Path\":\"/runs\","
        "\"referrer\":\"https://www.example.org/\",\"referring_domain\":\"www.example.org\",\"model\":\"lumen-%u\","
        "\"prompt_tokens\":%u,\"stream\":true,\"title\":\"Dashboard\"}}",
        f->name, f->user, f->user, f->user, f->user % 100000, f->b, f->a % 1000, f->a % 500,
        f->system, f->a % 1000, f->a % 9, f->b);
}

static const struct dialect dialects[] = {
    {"mixpanel", "/track/", "[", "]", NULL, put_mixpanel},
    {"posthog", "/batch/", "{\"api_key\":\"source_token\",\"batch\":[", "]}", NULL, put_posthog},
    {"segment", "/v1/batch", "{\"writeKey\":\"source_token\",\"batch\":[", "]}", NULL, put_segment},
    {"rudder", "/v1/batch", "{\"batch\":[", "]}", "Basic c291cmNlX3Rva2VuOg==", put_segment},
    {"amplitude", "/2/httpapi", "{\"api_key\":\"source_token\",\"events\":[", "]}", NULL,
     put_amplitude},
};
enum { DIALECTS = sizeof dialects / sizeof dialects[0] };

static struct span batch_of(const struct dialect *dialect, uint8_t *memory) {
    static const char *const names[] = {"Completion Run", "Dashboard", "Billing Page Viewed",
                                        "API Key Created", "Signed In"};
    static const char *const systems[] = {"Linux", "Windows", "Mac OS X", "Android", "iOS"};
    struct buf b = buf_of(memory, TEXT_MAX);
    seed = 42;
    buf_put_str(&b, dialect->before);
    for (unsigned e = 0; e < EVENTS; e++) {
        struct facts f = {names[below(5)], systems[below(5)], below(100000), below(1u << 30),
                          below(1u << 30)};
        buf_put_str(&b, e == 0 ? "" : ",");
        dialect->put(&b, &f);
    }
    buf_put_str(&b, dialect->after);
    if (b.full) {
        exit(1);
    }
    return buf_span(&b);
}

static double now(void) {
    struct timespec t;
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* -- what is measured ---------------------------------------------------------------------------------- */

struct work {
    const struct dialect *dialect;
    const struct protocol_ops *ops;
    struct span batch;
    struct translator *translator;
};

static void decode(const struct work *w) {
    struct protocol_work work = {.text = text,
                                 .text_cap = sizeof text,
                                 .tokens = tokens,
                                 .tokens_cap = TOKENS_MAX,
                                 .items = items,
                                 .items_cap = EVENTS,
                                 .decoded_max = sizeof body,
                                 .wire = wire};
    /* The body is changed by decoding, so each turn gets a fresh copy; the copy is part of the figure. */
    memcpy(body, w->batch.p, w->batch.n);
    const struct protocol_request request = {
        .method = HTTP_POST,
        .path = span_str(w->dialect->path),
        .authorization =
            w->dialect->authorization != NULL ? span_str(w->dialect->authorization) : SPAN_NONE,
        .body = body,
        .body_len = w->batch.n,
        .now_ms = 1795489911555};
    if (w->ops->decode(&request, &work, &decoded) != 0 || decoded.item_count != EVENTS ||
        decoded.items[7].reason != REASON_NONE) {
        (void)fprintf(stderr, "%s: not decoded\n", w->ops->name);
        exit(1);
    }
}

/* Of what decode left. */
static void encode(const struct work *w) {
    struct protocol_post post;
    struct buf plain = buf_of(out[0], sizeof out[0]);
    struct buf packed = buf_of(out[1], sizeof out[1]);
    if (w->ops->encode(w->ops->endpoint(EVENT_TRACK), spans, EVENTS, SPAN_LIT("vendor_token"), wire,
                       &plain, &packed, &post) != 0) {
        (void)fprintf(stderr, "%s: not encoded\n", w->ops->name);
        exit(1);
    }
}

static void translate_all(const struct work *w) {
    struct buf b = buf_of(out[0], sizeof out[0]);
    for (unsigned i = 0; i < EVENTS; i++) {
        size_t count = 0;
        size_t offset = 0;
        struct translated result;
        struct translate_input in = {.kind = EVENT_TRACK,
                                     .item = spans[i],
                                     .tokens = item_tokens,
                                     .time_ms = 1795489911000,
                                     .insert_id = SPAN_LIT("aaaaaaaaaaaaaaaaaaaaaaaaaa")};
        if (json_parse(spans[i], LIMIT_JSON_DEPTH, item_tokens, LIMIT_EVENT_TOKENS, &count,
                       &offset) != 0 ||
            translate(w->translator, &in, &b, &result, NULL, NULL) != 0 || result.item_count == 0) {
            (void)fprintf(stderr, "%s: not translated\n", w->ops->name);
            exit(1);
        }
    }
}

static double ns_of(const struct work *w, void (*run)(const struct work *)) {
    double best = 1e9;
    for (int r = 0; r < RUNS; r++) {
        double start = now();
        for (int pass = 0; pass < PASSES; pass++) {
            run(w);
        }
        double took = now() - start;
        best = took < best ? took : best;
    }
    return best / PASSES / EVENTS * 1e9;
}

static void take_items(const struct work *w) {
    decode(w);
    for (unsigned i = 0; i < EVENTS; i++) {
        spans[i] = decoded.items[i].json;
    }
}

int main(int argc, char **argv) {
    static uint8_t memory[TEXT_MAX];
    double dec[DIALECTS];
    double enc[DIALECTS];
    double cross[DIALECTS][DIALECTS];
    bool json = argc > 1 && strcmp(argv[1], "--json") == 0;
    wire = wire_new();
    printf("ns an event, batches of %d     decode  encode", EVENTS);
    for (unsigned t = 0; t < DIALECTS; t++) {
        printf("  to %-9s", dialects[t].protocol);
    }
    printf("\n");
    for (unsigned s = 0; s < DIALECTS; s++) {
        struct work w = {.dialect = &dialects[s],
                         .ops = protocol_by_name(span_str(dialects[s].protocol)),
                         .batch = batch_of(&dialects[s], memory)};
        dec[s] = ns_of(&w, decode);
        take_items(&w);
        enc[s] = ns_of(&w, encode);
        printf("%-12s %6zu bytes each  %7.0f %7.0f", w.ops->name, w.batch.n / EVENTS, dec[s],
               enc[s]);
        for (unsigned t = 0; t < DIALECTS; t++) {
            cross[s][t] = 0;
            if (translator_new(w.ops, protocol_by_name(span_str(dialects[t].protocol)),
                               &w.translator) == 0 &&
                s != t) {
                cross[s][t] = ns_of(&w, translate_all);
            }
            translator_free(w.translator);
            if (s != t) {
                printf("  %12.0f", cross[s][t]);
            } else {
                printf("  %12s", "-");
            }
        }
        printf("\n");
    }
    double worst_dec = 0;
    double worst_enc = 0;
    for (unsigned s = 0; s < DIALECTS; s++) {
        worst_dec = dec[s] / dec[0] > worst_dec ? dec[s] / dec[0] : worst_dec;
        worst_enc = enc[s] / enc[0] > worst_enc ? enc[s] / enc[0] : worst_enc;
    }
    printf("slowest over Mixpanel: decode %.2f, encode %.2f (aim: at most 3)\n", worst_dec,
           worst_enc);
    if (json) {
        printf("{");
        for (unsigned s = 0; s < DIALECTS; s++) {
            printf("\"%s\":{\"decode_ns\":%.0f,\"encode_ns\":%.0f},", dialects[s].protocol, dec[s],
                   enc[s]);
        }
        printf("\"decode_ratio\":%.2f,\"encode_ratio\":%.2f}\n", worst_dec, worst_enc);
    }
    wire_free(wire);
    return 0;
}
