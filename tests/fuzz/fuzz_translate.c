/*
 * Translation of anything that parses: whole items, no key twice, no text that was not there, and the same again. First byte: source, second: target,
 * third: kind of item.
 */
/* depends: protocol mixpanel posthog segment amplitude webhook wire json http model crypto base */
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/compiler.h"
#include "base/hash.h"
#include "fuzz/fuzz_entry.h"
#include "model/limits.h"
#include "protocol/translate.h"

enum { PROTOCOLS_MAX = 8, OUT_MAX = 1 << 21, KEYS_MAX = 1 << 16 };

#define INSERT_ID "aaaaaaaaaaaaaaaaaaaaaaaaaa"

static struct translator *translators[PROTOCOLS_MAX][PROTOCOLS_MAX];
static struct json_token tokens[LIMIT_EVENT_TOKENS];
static struct json_token out_tokens[KEYS_MAX];
static uint8_t memory[2][OUT_MAX];

static bool is_group(const void *context, struct span name) {
    (void)context;
    return span_is(name, "company");
}

/* What a target's writer says itself. */
static bool is_constant(struct span text) {
    static const char *const words[] = {"",
                                        "-",
                                        INSERT_ID,
                                        INSERT_ID "g",
                                        "2026-09-21T14:13:20.007Z",
                                        "1790000000.007",
                                        "1790000000007",
                                        "$mp_web_page_view",
                                        "Loaded a Screen",
                                        "$identify",
                                        "$create_alias",
                                        "$merge",
                                        "$pageview",
                                        "$screen",
                                        "$set",
                                        "$merge_dangerously",
                                        "$groupidentify",
                                        "track",
                                        "page",
                                        "screen",
                                        "identify",
                                        "alias",
                                        "merge",
                                        "profile",
                                        "group",
                                        "[Amplitude] Page Viewed",
                                        "[Amplitude] Screen Viewed"};
    for (size_t i = 0; i < BH_COUNT(words); i++) {
        if (span_is(text, words[i])) {
            return true;
        }
    }
    return false;
}

static void check_value(struct span item, struct span json, uint32_t i) {
    static const struct span device = {(const uint8_t *)"$device:", 8};
    struct span text = json_span(json, &out_tokens[i]);
    text = span_starts(text, device) ? span_from(text, device.n) : text;
    struct span key = i > 0 && out_tokens[i - 1].kind == JSON_KEY
                          ? json_span(json, &out_tokens[i - 1])
                          : SPAN_NONE;
    /* One shape of a session's id is made of another. */
    bool is_session =
        span_is(key, "$session_id") || span_is(key, "sessionId") || span_is(key, "session_id");
    check(text.n == 0 || is_session || is_constant(text) || span_find(item, text) != SIZE_MAX);
}

/* Keys of one object; quadratic, so of small ones only. */
static void check_keys(struct span json, uint32_t object) {
    unsigned count = 0;
    for (uint32_t k = object + 1; k < out_tokens[object].next; k = out_tokens[k].next) {
        if (++count > 64) {
            return;
        }
        for (uint32_t e = out_tokens[k].next; e < out_tokens[object].next; e = out_tokens[e].next) {
            check(!span_equal(json_span(json, &out_tokens[k]), json_span(json, &out_tokens[e])));
        }
    }
}

/* Objects that stood in the item may have a key twice; those that a writer made may not: two levels. */
static void check_item(struct span item, struct span json) {
    size_t count = 0;
    size_t offset = 0;
    check(json_parse(json, LIMIT_JSON_DEPTH + 4, out_tokens, KEYS_MAX, &count, &offset) == 0);
    check(count > 0 && out_tokens[0].kind == JSON_OBJECT);
    check_keys(json, 0);
    for (uint32_t i = 1; i < count; i++) {
        if (out_tokens[i].kind == JSON_KEY && (span_is(json_span(json, &out_tokens[i]), "$unset") ||
                                               span_is(json_span(json, &out_tokens[i]), "unset"))) {
            i = out_tokens[i].next - 1; /* names, which are the target's */
            continue;
        }
        if (out_tokens[i].kind == JSON_STRING || out_tokens[i].kind == JSON_NUMBER) {
            check_value(item, json, i);
        } else if (out_tokens[i].kind == JSON_OBJECT && out_tokens[i].depth == 1) {
            check_keys(json, i);
        }
    }
}

static struct translator *translator_for(unsigned s, unsigned t) {
    size_t count = 0;
    const char *const *names = protocol_list(&count);
    s %= (unsigned)count;
    t %= (unsigned)count;
    if (translators[s][t] == NULL &&
        translator_new(protocol_by_name(span_str(names[s])), protocol_by_name(span_str(names[t])),
                       &translators[s][t]) != 0) {
        return NULL;
    }
    return translators[s][t];
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    size_t count = 0;
    size_t offset = 0;
    struct translated result;
    struct translated again;
    if (size < 4 || size > LIMIT_EVENT_BYTES) {
        return 0;
    }
    struct translator *t = translator_for(data[0], data[1]);
    struct span item = span_of(data + 3, size - 3);
    if (t == NULL ||
        json_parse(item, LIMIT_JSON_DEPTH, tokens, LIMIT_EVENT_TOKENS, &count, &offset) != 0 ||
        tokens[0].kind != JSON_OBJECT) {
        return 0;
    }
    struct translate_input in = {.kind = (uint8_t)(EVENT_TRACK + data[2] % EVENT_GROUP),
                                 .item = item,
                                 .tokens = tokens,
                                 .time_ms = INT64_C(1790000000007),
                                 .insert_id = SPAN_LIT(INSERT_ID),
                                 .is_group = is_group,
                                 .only_group = data[2] >= 128 ? SPAN_LIT("company") : SPAN_NONE};
    struct buf out = buf_of(memory[0], OUT_MAX);
    struct buf twice = buf_of(memory[1], OUT_MAX);
    int r = translate(t, &in, &out, &result, NULL, NULL);
    check(r == 0 || r == BH_E_TOO_MANY || r == BH_E_FULL);
    unsigned items = r == 0 ? result.item_count : 0;
    for (unsigned i = 0; i < items; i++) {
        check_item(item, span_of(out.p + result.items[i].at, result.items[i].size));
    }
    uint32_t lost = result.lost;
    check(translate(t, &in, &twice, &again, NULL, NULL) == r && again.lost == lost);
    check(span_equal(buf_span(&out), buf_span(&twice)));
    return 0;
}
