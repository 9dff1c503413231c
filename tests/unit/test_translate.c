/*
 * Every recorded item of every SDK in the words of every target, compared to the byte with tests/golden/translate/SOURCE-TARGET.ndjson: what is
 * written, and the names that are lost. The first item of each call, name and set of keys stands for the others; all are translated.
 *
 * BH_GOLDEN=write writes the files anew: read the difference before it is kept.
 */
/* depends: protocol mixpanel posthog segment amplitude webhook wire json http model base */
/* sources: mixpanel_kit.c */
#define _POSIX_C_SOURCE 200809L
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/hash.h"
#include "engine/http/http_parse.h"
#include "protocol/translate.h"
#include "protocol/wire/wire.h"
#include "unit/mixpanel_kit.h"

enum { FILE_MAX = 1 << 20, RECORDS_MAX = 300, SEEN_MAX = 512, OUT_MAX = 1 << 22 };

static const struct {
    const char *folder;
    const char *protocol;
} sources[] = {
    {"mixpanel-browser", "mixpanel"}, {"mixpanel-node", "mixpanel"},
    {"posthog-js", "posthog"},        {"posthog-node", "posthog"},
    {"segment-browser", "segment"},   {"segment-node", "segment"},
    {"rudder-node", "rudder"},        {"amplitude-browser", "amplitude"},
    {"amplitude-node", "amplitude"},
};

static uint8_t http[FILE_MAX];
static struct json_token tokens[LIMIT_EVENT_TOKENS];
static struct json_token out_tokens[LIMIT_EVENT_TOKENS];
static uint8_t out_memory[OUT_MAX];
static uint8_t line_memory[OUT_MAX];
static uint8_t golden_memory[OUT_MAX];
static uint64_t seen[SEEN_MAX];
static size_t seen_count;

static struct span read_file(const char *path, uint8_t *memory, size_t size) {
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        return SPAN_NONE;
    }
    size_t n = fread(memory, 1, size, file);
    (void)fclose(file);
    return span_of(memory, n);
}

/* Call, name and keys. */
static bool is_new(const struct protocol_item *item, size_t count) {
    uint64_t h = item->kind;
    h = hash64(item->event_name.p, item->event_name.n, h);
    for (size_t i = 0; i < count; i++) {
        struct span key = json_span(item->json, &tokens[i]);
        h = tokens[i].kind == JSON_KEY ? hash64(key.p, key.n, h) : h;
    }
    for (size_t i = 0; i < seen_count; i++) {
        if (seen[i] == h) {
            return false;
        }
    }
    assert_true(seen_count < SEEN_MAX);
    seen[seen_count++] = h;
    return true;
}

struct losses {
    struct buf *out;
    bool first;
};

static void note_lost(void *context, struct span key) {
    struct losses *l = context;
    buf_put_str(l->out, l->first ? "\"" : ",\"");
    buf_put_span(l->out, key);
    buf_put_byte(l->out, '"');
    l->first = false;
}

static bool is_company(const void *context, struct span name) {
    (void)context;
    return span_is(name, "company");
}

/* No object has a key twice, and each item is whole. */
static void check_json(struct span json) {
    size_t count = 0;
    size_t offset = 0;
    if (json_parse(json, LIMIT_JSON_DEPTH, out_tokens, LIMIT_EVENT_TOKENS, &count, &offset) != 0) {
        fail_msg("%.*s", (int)json.n, (const char *)json.p);
    }
    assert_int_equal(out_tokens[0].kind, JSON_OBJECT);
    for (uint32_t i = 0; i < count; i++) {
        if (out_tokens[i].kind != JSON_OBJECT) {
            continue;
        }
        for (uint32_t k = i + 1; k < out_tokens[i].next; k = out_tokens[k].next) {
            for (uint32_t e = out_tokens[k].next; e < out_tokens[i].next; e = out_tokens[e].next) {
                if (span_equal(json_span(json, &out_tokens[k]), json_span(json, &out_tokens[e]))) {
                    fail_msg("twice: %.*s", (int)json.n, (const char *)json.p);
                }
            }
        }
    }
}

/* -- the target's own decoder takes what was written -------------------------------------------------- */

static struct wire *wire;
static uint8_t plain_memory[FILE_MAX];
static uint8_t packed_memory[FILE_MAX];
static uint8_t work_text[2 * FILE_MAX];
static uint8_t body_memory[FILE_MAX];
static struct json_token work_tokens[LIMIT_EVENT_TOKENS];
static struct protocol_item work_items[8];

static const char *path_of(const struct protocol_post *post, char *memory, size_t size) {
    (void)snprintf(memory, size, "%.*s", (int)strcspn(post->path, "?"), post->path);
    return memory;
}

/* Encoded and decoded again, an item says the same: one item, good, at the same time, under the same dedupe id. */
static void check_round_trip(const struct protocol_ops *target, const struct translate_input *in,
                             uint8_t kind, struct span json) {
    struct buf plain = buf_of(plain_memory, sizeof plain_memory);
    struct buf packed = buf_of(packed_memory, sizeof packed_memory);
    struct protocol_post post;
    struct protocol_decoded decoded;
    char path[64];
    unsigned endpoint = target->endpoint((enum event_kind)kind);
    assert_in_range(endpoint, 1, target->endpoints);
    assert_int_equal(
        target->encode(endpoint, &json, 1, SPAN_LIT("vendor_token"), wire, &plain, &packed, &post),
        0);
    assert_true(post.plain.n <= 64 + target->encoded_size(endpoint, json.n, 12));
    if (target->decode == NULL) {
        return;
    }
    memcpy(body_memory, post.plain.p, post.plain.n);
    struct protocol_request request = {.method = HTTP_POST,
                                       .path = span_str(path_of(&post, path, sizeof path)),
                                       .authorization = SPAN_LIT("Basic dmVuZG9yX3Rva2VuOg=="),
                                       .body = body_memory,
                                       .body_len = post.plain.n,
                                       .now_ms = KIT_NOW_MS};
    struct protocol_work work = {.text = work_text,
                                 .text_cap = sizeof work_text,
                                 .tokens = work_tokens,
                                 .tokens_cap = LIMIT_EVENT_TOKENS,
                                 .items = work_items,
                                 .items_cap = 8,
                                 .decoded_max = FILE_MAX,
                                 .wire = wire};
    assert_int_equal(target->decode(&request, &work, &decoded), 0);
    assert_int_equal(decoded.item_count, 1);
    const struct protocol_item *item = &decoded.items[0];
    if (item->reason != REASON_NONE) {
        fail_msg("%s refuses (%s) %.*s", target->name, reason_word(item->reason), (int)json.n,
                 (const char *)json.p);
    }
    bool is_update = kind == EVENT_PROFILE || kind == EVENT_GROUP;
    if (target->names.at_root || !is_update) {
        assert_int_equal(item->time_ms, in->time_ms);
        assert_true(span_starts(item->dedupe, in->insert_id));
    }
}

static void translate_item(struct translator *t, const char *name, size_t index,
                           const struct protocol_item *item, struct buf *lines) {
    size_t count = 0;
    size_t offset = 0;
    assert_int_equal(
        json_parse(item->json, LIMIT_JSON_DEPTH, tokens, LIMIT_EVENT_TOKENS, &count, &offset), 0);
    struct translate_input input = {.kind = item->kind,
                                    .item = item->json,
                                    .tokens = tokens,
                                    .time_ms = INT64_C(1790000000007),
                                    .insert_id = SPAN_LIT("aaaaaaaaaaaaaaaaaaaaaaaaaa"),
                                    .is_group = is_company,
                                    .only_group = SPAN_LIT("company")};
    struct buf out = buf_of(out_memory, sizeof out_memory);
    struct translated result;
    size_t before = lines->n;
    struct losses losses = {lines, true};
    buf_printf(lines, "{\"item\":\"%s #%zu\",\"lost\":[", name, index);
    assert_int_equal(translate(t, &input, &out, &result, note_lost, &losses), 0);
    buf_put_str(lines, "],\"items\":[");
    for (unsigned i = 0; i < result.item_count; i++) {
        struct span json = span_of(out.p + result.items[i].at, result.items[i].size);
        check_json(json);
        check_round_trip(translator_target(t), &input, result.items[i].kind, json);
        buf_put_str(lines, i == 0 ? "\n " : ",\n ");
        buf_put_span(lines, json);
    }
    buf_put_str(lines, "]}\n");
    if (!is_new(item, count)) {
        lines->n = before;
    }
}

static void translate_request(struct translator *t, const char *folder, int number,
                              struct buf *lines) {
    char path[512];
    (void)snprintf(path, sizeof path, "%s/tests/fixtures/sdk-requests/%s/%03d.http",
                   BULKHEAD_SOURCE_DIR, folder, number);
    struct span request = read_file(path, http, sizeof http);
    struct http_head head;
    unsigned status = 0;
    if (request.n == 0) {
        return;
    }
    assert_int_equal(http_parse_head(request, LIMIT_HTTP_HEAD, LIMIT_HTTP_TARGET, &head, &status),
                     0);
    (void)snprintf(path, sizeof path, "%.*s", (int)head.path.n, (const char *)head.path.p);
    if (head.method == HTTP_OPTIONS ||
        kit_decode(head.method, path, head.query, http_header(&head, "authorization"),
                   span_from(request, head.head_size)) != 0) {
        return;
    }
    const struct protocol_decoded *decoded = &kit_get()->decoded;
    for (size_t i = 0; i < decoded->item_count; i++) {
        /* A question is never translated. */
        if (decoded->items[i].reason == REASON_NONE && decoded->envelope.use == ENDPOINT_ITEMS) {
            char name[64];
            (void)snprintf(name, sizeof name, "%s/%03d", folder, number);
            translate_item(t, name, i, &decoded->items[i], lines);
        }
    }
}

static void compare(const char *source, const char *target, struct span lines) {
    char path[512];
    (void)snprintf(path, sizeof path, "%s/tests/golden/translate/%s-%s.ndjson", BULKHEAD_SOURCE_DIR,
                   source, target);
    if (getenv("BH_GOLDEN") != NULL) {
        FILE *file = fopen(path, "wb");
        assert_non_null(file);
        assert_int_equal(fwrite(lines.p, 1, lines.n, file), lines.n);
        (void)fclose(file);
        return;
    }
    struct span kept = read_file(path, golden_memory, sizeof golden_memory);
    if (!span_equal(kept, lines)) {
        size_t i = 0;
        while (i < kept.n && i < lines.n && kept.p[i] == lines.p[i]) {
            i++;
        }
        fail_msg("%s differs at byte %zu: ...%.*s...", path, i,
                 (int)(lines.n - i < 200 ? lines.n - i : 200), (const char *)lines.p + i);
    }
}

static void test_pair(const struct protocol_ops *source, const struct protocol_ops *target) {
    struct translator *t = NULL;
    wire = wire != NULL ? wire : wire_new();
    struct buf lines = buf_of(line_memory, sizeof line_memory);
    assert_int_equal(translator_new(source, target, &t), 0);
    kit_use(source);
    seen_count = 0;
    for (size_t i = 0; i < sizeof sources / sizeof sources[0]; i++) {
        for (int n = 1; n <= RECORDS_MAX && strcmp(sources[i].protocol, source->name) == 0; n++) {
            translate_request(t, sources[i].folder, n, &lines);
        }
    }
    translator_free(t);
    assert_true(seen_count > 3);
    assert_false(lines.full);
    compare(source->name, target->name, buf_span(&lines));
}

static void test_matrix(void **state) {
    (void)state;
    size_t count = 0;
    const char *const *names = protocol_list(&count);
    for (size_t s = 0; s < count; s++) {
        for (size_t t = 0; t < count; t++) {
            const struct protocol_ops *source = protocol_by_name(span_str(names[s]));
            const struct protocol_ops *target = protocol_by_name(span_str(names[t]));
            if (s != t && source->decode != NULL) {
                test_pair(source, target);
            }
        }
    }
}

/* The table of docs/translation.md: what a target has a field for, what becomes a property, what is lost. */
static void put_table(struct buf *out) {
    static const struct {
        const char *path;
        const char *plain;
    } slots[] = {
#define SLOT(name, path, plain) {path, plain},
#include "protocol/wire/slots.def"
#undef SLOT
    };
    size_t count = 0;
    const char *const *names = protocol_list(&count);
    buf_put_str(out, "| |");
    for (size_t t = 0; t < count; t++) {
        buf_printf(out, " %s |", names[t]);
    }
    buf_put_str(out, "\n| --- |");
    for (size_t t = 0; t < count; t++) {
        buf_put_str(out, " --- |");
    }
    buf_put_byte(out, '\n');
    for (unsigned slot = 1; slot < SLOT_LIMIT; slot++) {
        buf_printf(out, "| `%s` |", slots[slot - 1].path);
        for (size_t t = 0; t < count; t++) {
            const struct protocol_model *model = protocol_by_name(span_str(names[t]))->model;
            const char *key = NULL;
            for (size_t r = 0; r < model->row_count && key == NULL; r++) {
                key = model->rows[r].slot == slot ? model->rows[r].key : NULL;
            }
            if (key != NULL) {
                buf_printf(out, " `%s` |", key);
            } else if (slots[slot - 1].plain != NULL) {
                buf_printf(out, " (`%s`) |", slots[slot - 1].plain);
            } else {
                buf_put_str(out, " lost |");
            }
        }
        buf_put_byte(out, '\n');
    }
}

static void test_table(void **state) {
    (void)state;
    struct buf table = buf_of(line_memory, sizeof line_memory);
    put_table(&table);
    if (getenv("BH_GOLDEN") != NULL) {
        (void)fwrite(table.p, 1, table.n, stdout);
        return;
    }
    struct span doc =
        read_file(BULKHEAD_SOURCE_DIR "/docs/translation.md", golden_memory, sizeof golden_memory);
    if (span_find(doc, buf_span(&table)) == SIZE_MAX) {
        fail_msg("docs/translation.md is not what the tables say: BH_GOLDEN=write prints it");
    }
}

/* A fact that becomes a property does not take the name of a field that means something else. */
static void test_plain_names(void **state) {
    (void)state;
    static const char *const plain[] = {
#define SLOT(name, path, plain) plain,
#include "protocol/wire/slots.def"
#undef SLOT
    };
    size_t count = 0;
    const char *const *names = protocol_list(&count);
    for (size_t t = 0; t < count; t++) {
        const struct protocol_ops *ops = protocol_by_name(span_str(names[t]));
        for (unsigned slot = 1; slot < SLOT_LIMIT; slot++) {
            bool has_row = plain[slot - 1] == NULL;
            for (size_t r = 0; r < ops->model->row_count && !has_row; r++) {
                has_row = ops->model->rows[r].slot == slot;
            }
            const struct field *field =
                has_row ? NULL : ops->field(PLACE_EVENT_PROPERTY, span_str(plain[slot - 1]));
            if (field != NULL && (field->role != ROLE_DATA || field->domain != DOMAIN_NONE)) {
                fail_msg("%s: %s", names[t], plain[slot - 1]);
            }
        }
    }
}

/* -- one item ------------------------------------------------------------------------------------------ */

struct case_row {
    const char *source;
    const char *target;
    uint8_t kind;
    const char *item;
    const char *out; /* items, joined; "" = none */
    unsigned lost;
};

static const struct case_row cases[] = {
    /* Declared names that mean something else at the target. */
    {"segment", "mixpanel", EVENT_TRACK,
     "{\"type\":\"track\",\"event\":\"a\",\"userId\":\"u\",\"properties\":{\"distinct_id\":\"x\",\"time\":1,\"ip\":\"192.0.2.1\",\"n\":1}}",
     "{\"event\":\"a\",\"properties\":{\"distinct_id\":\"u\",\"$user_id\":\"u\",\"time\":1790000000.007,\"$insert_id\":\"i\",\"n\":1}}",
     3},
    /* No name, no text for an id, a whole object where a name should be. */
    {"segment", "mixpanel", EVENT_TRACK, "{\"type\":\"identify\",\"userId\":\"u\"}", "", 0},
    {"amplitude", "mixpanel", EVENT_TRACK,
     "{\"event_type\":{\"a\":1},\"user_id\":\"u\",\"event_properties\":{}}", "", 1},
    {"amplitude", "segment", EVENT_TRACK,
     "{\"event_type\":\"a\",\"user_id\":{\"a\":1},\"event_properties\":{}}", "", 1},
    /* Who: the device alone, both, and neither. */
    {"mixpanel", "posthog", EVENT_TRACK,
     "{\"event\":\"a\",\"properties\":{\"distinct_id\":\"$device:d\",\"$device_id\":\"d\"}}",
     "{\"event\":\"a\",\"distinct_id\":\"d\",\"timestamp\":\"2026-09-21T14:13:20.007Z\",\"uuid\":\"i\",\"properties\":{\"$device_id\":\"d\"}}",
     0},
    {"mixpanel", "segment", EVENT_TRACK,
     "{\"event\":\"a\",\"properties\":{\"distinct_id\":\"u\",\"$user_id\":\"u\",\"$device_id\":\"d\"}}",
     "{\"type\":\"track\",\"userId\":\"u\",\"anonymousId\":\"d\",\"messageId\":\"i\",\"timestamp\":\"2026-09-21T14:13:20.007Z\",\"event\":\"a\"}",
     0},
    {"mixpanel", "posthog", EVENT_TRACK,
     "{\"event\":\"a\",\"properties\":{\"distinct_id\":\"\",\"n\":1}}",
     "{\"event\":\"a\",\"distinct_id\":\"\",\"timestamp\":\"2026-09-21T14:13:20.007Z\",\"uuid\":\"i\",\"properties\":{\"n\":1}}",
     0},
    {"mixpanel", "segment", EVENT_TRACK,
     "{\"event\":\"a\",\"properties\":{\"distinct_id\":\"\",\"n\":1}}", "", 1},
    /* Operations: one update each; what the target has no word for is lost, and with nothing left there is no item. */
    {"amplitude", "mixpanel", EVENT_PROFILE,
     "{\"event_type\":\"$identify\",\"user_id\":\"u\",\"user_properties\":{\"$add\":{\"n\":1},\"$postInsert\":{\"l\":\"x\"},\"$prepend\":{\"l\":\"y\"},\"$unset\":{\"o\":\"-\"}}}",
     "{\"$distinct_id\":\"u\",\"$add\":{\"n\":1}}\x1e{\"$distinct_id\":\"u\",\"$union\":{\"l\":[\"x\"]}}\x1e{\"$distinct_id\":\"u\",\"$unset\":[\"o\"]}",
     1},
    {"amplitude", "segment", EVENT_PROFILE,
     "{\"event_type\":\"$identify\",\"user_id\":\"u\",\"user_properties\":{\"$add\":{\"n\":1}}}",
     "", 1},
    {"mixpanel", "posthog", EVENT_PROFILE, "{\"$distinct_id\":\"u\",\"$delete\":\"\"}", "", 0},
    /* Sessions. */
    {"amplitude", "posthog", EVENT_TRACK,
     "{\"event_type\":\"a\",\"user_id\":\"u\",\"session_id\":1790000000000,\"event_properties\":{}}",
     "{\"event\":\"a\",\"distinct_id\":\"u\",\"timestamp\":\"2026-09-21T14:13:20.007Z\",\"uuid\":\"i\",\"properties\":{\"$session_id\":\"01a0c450-6c00-7",
     0},
    {"posthog", "amplitude", EVENT_TRACK,
     "{\"event\":\"a\",\"distinct_id\":\"u\",\"properties\":{\"$session_id\":\"01a0c450-6c00-7abc-8def-0123456789ab\"}}",
     "{\"event_type\":\"a\",\"user_id\":\"u\",\"time\":1790000000007,\"insert_id\":\"i\",\"session_id\":1790000000000}",
     0},
    {"mixpanel", "amplitude", EVENT_TRACK,
     "{\"event\":\"a\",\"properties\":{\"distinct_id\":\"u\",\"$session_id\":\"xyz\"}}",
     "{\"event_type\":\"a\",\"user_id\":\"u\",\"time\":1790000000007,\"insert_id\":\"i\"}", 1},
    /* An alias of oneself says nothing; of three that are merged no pair is right. */
    {"segment", "mixpanel", EVENT_ALIAS,
     "{\"type\":\"alias\",\"userId\":\"u\",\"previousId\":\"u\"}", "", 0},
    {"mixpanel", "posthog", EVENT_MERGE,
     "{\"event\":\"$merge\",\"properties\":{\"$distinct_ids\":[\"a\",\"b\",\"c\"]}}", "", 0},
};

static void test_cases(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct case_row *row = &cases[i];
        struct translator *t = NULL;
        struct translated result;
        size_t count = 0;
        size_t offset = 0;
        assert_int_equal(translator_new(protocol_by_name(span_str(row->source)),
                                        protocol_by_name(span_str(row->target)), &t),
                         0);
        struct span item = span_str(row->item);
        assert_int_equal(
            json_parse(item, LIMIT_JSON_DEPTH, tokens, LIMIT_EVENT_TOKENS, &count, &offset), 0);
        struct translate_input input = {.kind = row->kind,
                                        .item = item,
                                        .tokens = tokens,
                                        .time_ms = INT64_C(1790000000007),
                                        .insert_id = SPAN_LIT("i")};
        struct buf out = buf_of(out_memory, sizeof out_memory);
        assert_int_equal(translate(t, &input, &out, &result, NULL, NULL), 0);
        bool fits =
            row->out[0] == '\0' ? out.n == 0 : span_starts(buf_span(&out), span_str(row->out));
        if (!fits || result.lost != row->lost) {
            fail_msg("%s to %s, lost %u: %s\n%.*s", row->source, row->target, result.lost,
                     row->item, (int)out.n, (const char *)out.p);
        }
        translator_free(t);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_matrix),
        cmocka_unit_test(test_cases),
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_plain_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
