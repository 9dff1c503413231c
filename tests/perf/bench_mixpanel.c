/*
 * Cost of the Mixpanel protocol on one core: decode of a POST of 50 events (plain JSON, and form + base64), the walk over ids alone,
 * encode of the same for the vendor with and without gzip. Best of 5 runs; one line per case.
 */
/* depends: mixpanel wire crypto json http model base */
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "crypto/crypto.h"
#include "engine/http/http_parse.h"
#include "protocol/mixpanel/mixpanel.h"
#include "protocol/wire/wire.h"

enum {
    BATCHES = 32,
    EVENTS = 50,
    BATCH_MAX = 64 * 1024,
    TOKENS_MAX = 16384,
    RUNS = 5,
    PASSES = 20
};

struct batch {
    uint8_t plain[BATCH_MAX];
    size_t plain_len;
    uint8_t form[2 * BATCH_MAX];
    size_t form_len;
};

static struct batch batches[BATCHES];
static uint8_t body[2 * BATCH_MAX];
static uint8_t text[4 * BATCH_MAX];
static uint8_t out[2][4 * BATCH_MAX];
static struct json_token tokens[TOKENS_MAX];
static struct protocol_item items[EVENTS];
static struct wire *wire;
static uint64_t seed = 42;

static unsigned below(unsigned n) {
    seed = seed * 6364136223846793005U + 1442695040888963407U;
    return (unsigned)((seed >> 33) % n);
}

static void put_event(struct buf *b) {
    static const char *const names[] = {"Completion Run", "Dashboard", "Billing Page Viewed",
                                        "API Key Created", "Signed In"};
    static const char *const systems[] = {"Linux", "Windows", "Mac OS X", "Android", "iOS"};
    unsigned user = below(100000);
    buf_printf(
        b,
        "{\"event\":\"%s\",\"properties\":{\"$os\":\"%s\",\"$browser\":\"Chrome\",\"$current_url\":\"https://console.example.com/runs/%u\","
        "\"$browser_version\":%u,\"$screen_height\":%u,\"$screen_width\":%u,\"mp_lib\":\"web\",\"$lib_version\":\"2.83.0\","
        "\"$insert_id\":\"%08x%08x\",\"time\":%u.%03u,\"distinct_id\":\"user_%u\",\"$device_id\":\"%08x-9ccd-4e5d-bfe2-%012x\","
        "\"$user_id\":\"user_%u\",\"$initial_referrer\":\"$direct\",\"$initial_referring_domain\":\"$direct\","
        "\"model\":\"lumen-%u\",\"prompt_tokens\":%u,\"stream\":%s,\"title\":\"Dashboard\",\"token\":\"mp_browser_token_a\"}}",
        names[below(5)], systems[below(5)], below(1000), 100 + below(40), 600 + below(900),
        800 + below(1800), below(UINT32_MAX), below(UINT32_MAX), 1795489911 + below(100000),
        below(1000), user, below(UINT32_MAX), below(UINT32_MAX), user, below(9), below(100000),
        below(2) ? "true" : "false");
}

static void make(struct batch *batch) {
    struct buf b = buf_of(batch->plain, BATCH_MAX);
    for (unsigned e = 0; e < EVENTS; e++) {
        buf_put_byte(&b, e == 0 ? '[' : ',');
        put_event(&b);
    }
    buf_put_byte(&b, ']');
    batch->plain_len = b.n;
    memcpy(batch->form, "data=", 5);
    if (b.full || base64_encode(buf_span(&b), batch->form + 5, sizeof batch->form - 5,
                                &batch->form_len) != 0) {
        exit(1);
    }
    batch->form_len += 5;
}

static double now(void) {
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void decode(struct span in, struct protocol_decoded *ret) {
    struct protocol_work work = {.text = text,
                                 .text_cap = sizeof text,
                                 .tokens = tokens,
                                 .tokens_cap = TOKENS_MAX,
                                 .items = items,
                                 .items_cap = EVENTS,
                                 .decoded_max = sizeof body,
                                 .wire = wire};
    /* The body is changed by decoding, so each turn gets a fresh copy; the copy is part of the figure. */
    memcpy(body, in.p, in.n);
    const struct protocol_request request = {.method = HTTP_POST,
                                             .path = SPAN_LIT("/track/"),
                                             .query = SPAN_LIT("verbose=1&ip=1&_=1795489911555"),
                                             .body = body,
                                             .body_len = in.n,
                                             .now_ms = 1795489911555};
    if (mixpanel_ops.decode(&request, &work, ret) != 0 || ret->item_count != EVENTS ||
        ret->items[7].reason != REASON_NONE) {
        exit(1);
    }
}

static void run_plain(const struct batch *batch) {
    struct protocol_decoded decoded;
    decode(span_of(batch->plain, batch->plain_len), &decoded);
}

static void run_form(const struct batch *batch) {
    struct protocol_decoded decoded;
    decode(span_of(batch->form, batch->form_len), &decoded);
}

static void encode(const struct batch *batch, unsigned endpoint) {
    struct span spans[EVENTS];
    struct protocol_decoded decoded;
    struct protocol_post post;
    struct buf plain = buf_of(out[0], sizeof out[0]);
    struct buf packed = buf_of(out[1], sizeof out[1]);
    decode(span_of(batch->plain, batch->plain_len), &decoded);
    for (unsigned i = 0; i < EVENTS; i++) {
        spans[i] = decoded.items[i].json;
    }
    if (mixpanel_ops.encode(endpoint, spans, EVENTS, SPAN_LIT("vendor_token"), wire, &plain,
                            &packed, &post) != 0) {
        exit(1);
    }
}

static void run_encode(const struct batch *batch) {
    encode(batch, MIXPANEL_SEND_LINKS);
}

static void run_encode_gzip(const struct batch *batch) {
    encode(batch, MIXPANEL_SEND_EVENTS);
}

static double measure(const char *name, void (*run)(const struct batch *), double without) {
    double best = 1e9;
    for (int r = 0; r < RUNS; r++) {
        double start = now();
        for (int pass = 0; pass < PASSES; pass++) {
            for (unsigned i = 0; i < BATCHES; i++) {
                run(&batches[i]);
            }
        }
        double took = now() - start;
        best = took < best ? took : best;
    }
    double us = best / (PASSES * BATCHES) * 1e6 - without;
    printf("%-28s %7.1f us a batch of %d, %6.1f ns/event\n", name, us, EVENTS, us * 1000 / EVENTS);
    return us;
}

int main(void) {
    wire = wire_new();
    for (unsigned i = 0; i < BATCHES; i++) {
        make(&batches[i]);
    }
    double plain = measure("decode, JSON", run_plain, 0);
    (void)measure("decode, form and base64", run_form, 0);
    (void)measure("encode, plain", run_encode, plain);
    (void)measure("encode, gzip", run_encode_gzip, plain);
    wire_free(wire);
    return 0;
}
