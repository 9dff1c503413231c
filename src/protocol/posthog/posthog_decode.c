/*
 * Requests of the SDKs -> items.
 *
 * path and query -> envelope; body or data= -> JSON text (wire); text -> tokens (one parse); tokens
 * -> items: the elements of `batch`, those of a bare array, or one event alone. The token may stand
 * in the header, in the batch or in each item; the nearest one counts.
 */
#include "base/check.h"
#include "base/compiler.h"
#include "engine/http/http_parse.h"
#include "protocol/posthog/posthog_int.h"
#include "protocol/wire/item.h"
#include "protocol/wire/wire.h"

enum {
    TOKEN_MAX = 128,
};

struct path_row {
    const char *path;
    uint8_t number;
    uint8_t use;
};

static const struct path_row paths[] = {
    {"/batch", POSTHOG_BATCH, ENDPOINT_ITEMS},
    {"/e", POSTHOG_CAPTURE, ENDPOINT_ITEMS},
    {"/i/v0/e", POSTHOG_CAPTURE, ENDPOINT_ITEMS},
    {"/capture", POSTHOG_CAPTURE, ENDPOINT_ITEMS},
    {"/track", POSTHOG_CAPTURE, ENDPOINT_ITEMS},
    {"/engage", POSTHOG_CAPTURE, ENDPOINT_ITEMS},
    {"/i/v1/analytics/events", POSTHOG_EVENTS, ENDPOINT_ITEMS},
    {"/flags", POSTHOG_FLAGS, ENDPOINT_ASK},
    {"/decide", POSTHOG_FLAGS, ENDPOINT_ASK},
    {"/flags/definitions", POSTHOG_DEFINITIONS, ENDPOINT_LOCAL},
    {"/s", POSTHOG_RECORD, ENDPOINT_SHED},
    {"/i/v1/logs", POSTHOG_LOGS, ENDPOINT_SHED},
    {"/i/v1/metrics", POSTHOG_LOGS, ENDPOINT_SHED},
    {"/api/surveys", POSTHOG_LISTS, ENDPOINT_LOCAL},
    {"/api/early_access_features", POSTHOG_LISTS, ENDPOINT_LOCAL},
    {"/api/product_tours", POSTHOG_LISTS, ENDPOINT_LOCAL},
    {"/api/web_experiments", POSTHOG_LISTS, ENDPOINT_LOCAL},
};

/* What can stand in a script and in JSON as it is. */
static bool is_token(struct span s) {
    for (size_t i = 0; i < s.n; i++) {
        uint8_t c = s.p[i];
        bool is_letter = (c | 0x20) >= 'a' && (c | 0x20) <= 'z';
        if (!is_letter && !(c >= '0' && c <= '9') && c != '_' && c != '-') {
            return false;
        }
    }
    return s.n != 0 && s.n <= TOKEN_MAX;
}

/* /array/<token>/config.js */
static void read_array_path(struct span rest, struct protocol_envelope *envelope) {
    size_t end = span_find_byte(rest, '/');
    struct span token = span_cut(rest, 0, end);
    struct span what = end == SIZE_MAX ? SPAN_NONE : span_from(rest, end + 1);
    bool is_js = span_is(what, "config.js");
    if (is_token(token) && (is_js || span_is(what, "config"))) {
        envelope->endpoint = is_js ? POSTHOG_CONFIG_JS : POSTHOG_CONFIG;
        envelope->use = ENDPOINT_LOCAL;
        envelope->api_key = token;
    }
}

static void read_path(struct span path, struct protocol_envelope *envelope) {
    static const struct span array = {(const uint8_t *)"/array/", 7};
    if (path.n > 1 && path.p[path.n - 1] == '/') {
        path.n--;
    }
    if (span_starts(path, array)) {
        read_array_path(span_from(path, array.n), envelope);
    } else if (span_starts(path, SPAN_LIT("/static/"))) {
        envelope->endpoint = POSTHOG_STATIC;
        envelope->use = ENDPOINT_LOCAL;
    }
    for (size_t i = 0; i < BH_COUNT(paths); i++) {
        if (span_is(path, paths[i].path)) {
            envelope->endpoint = paths[i].number;
            envelope->use = paths[i].use;
            envelope->form = span_is(path, "/decide") ? FORM_DECIDE : FORM_FLAGS;
        }
    }
}

/* Of the query: the data of a GET, and when an old SDK sent it (_=ms). */
static struct span read_query(struct span query, struct span *ret_sent) {
    struct span data = SPAN_NONE;
    struct span key;
    struct span value;
    while (http_query_next(&query, &key, &value)) {
        if (span_is(key, "data")) {
            data = value;
        } else if (span_is(key, "_")) {
            *ret_sent = value;
        }
    }
    return data;
}

/* Version (v=2) of a question's answer, of those that there are. */
static uint8_t read_form(struct span query, uint8_t form) {
    struct span key;
    struct span value;
    while (http_query_next(&query, &key, &value)) {
        uint64_t version = 0;
        uint64_t newest = form == FORM_DECIDE ? 4 : 2;
        if (span_is(key, "v") && span_to_u64(value, &version) && version >= 1) {
            return (uint8_t)(form + (version < newest ? version : newest) - 1);
        }
    }
    return form;
}

static struct span bearer(struct span authorization) {
    static const struct span scheme = {(const uint8_t *)"bearer ", 7};
    return span_equal_nocase(span_cut(authorization, 0, scheme.n), scheme)
               ? span_trim(span_from(authorization, scheme.n))
               : SPAN_NONE;
}

static void note_skew(struct posthog_batch *batch, enum json_kind kind, struct span sent) {
    int64_t ms;
    if (field_time_ms(kind, sent, &ms)) {
        batch->skew_ms = batch->now_ms - ms;
    }
}

/* What the object around the items says; the token of *ret goes into scratch when it has escapes. */
static void read_object(struct protocol_decoded *ret, struct buf *scratch,
                        struct posthog_batch *batch) {
    const struct json_token *tokens = ret->tokens;
    uint32_t sent = json_get(ret->text, tokens, 0, SPAN_LIT("sent_at"));
    if (sent != 0) {
        note_skew(batch, (enum json_kind)tokens[sent].kind, json_span(ret->text, &tokens[sent]));
    }
    static const char *const keys[] = {"token", "api_key"};
    for (size_t i = 0; i < BH_COUNT(keys); i++) {
        uint32_t key = json_get(ret->text, tokens, 0, span_str(keys[i]));
        if (key != 0 && tokens[key].kind == JSON_STRING) {
            ret->envelope.user = json_text(ret->text, &tokens[key], scratch);
        }
    }
    uint32_t historic = json_get(ret->text, tokens, 0, SPAN_LIT("historical_migration"));
    batch->is_historic = historic != 0 && tokens[historic].kind == JSON_TRUE;
}

static int list_items(struct protocol_decoded *ret, struct protocol_work *work, struct buf *scratch,
                      struct posthog_batch *batch) {
    const struct json_token *tokens = ret->tokens;
    uint32_t list = 0;
    if (tokens[0].kind == JSON_OBJECT) {
        read_object(ret, scratch, batch);
        list = json_get(ret->text, tokens, 0, SPAN_LIT("batch"));
        if (list == 0) {
            work->items[ret->item_count++] =
                (struct protocol_item){.json = json_span(ret->text, &tokens[0])};
            return 0;
        }
    }
    if (tokens[list].kind != JSON_ARRAY) {
        return BH_E_SYNTAX;
    }
    for (uint32_t i = list + 1; i < tokens[list].next; i = tokens[i].next) {
        if (ret->item_count == work->items_cap) {
            return BH_E_TOO_MANY;
        }
        work->items[ret->item_count++] =
            (struct protocol_item){.root = i, .json = json_span(ret->text, &tokens[i])};
    }
    return 0;
}

static int read_items(const struct protocol_request *request, struct protocol_work *work,
                      struct protocol_decoded *ret) {
    struct posthog_batch batch = {.now_ms = request->now_ms};
    struct buf scratch = buf_of(work->text, work->text_cap);
    struct span text = SPAN_NONE;
    struct span sent = SPAN_NONE;
    struct span data = read_query(request->query, &sent);
    note_skew(&batch, JSON_NUMBER, sent);
    ret->envelope.user = bearer(request->authorization);
    int rc = item_unwrap(request, data, work, &scratch, &text);
    /* A decompressor that fails does not say how far it came, and one that succeeds writes ahead. */
    work->text_used = rc == 0 ? wire_reach(&scratch) : work->text_cap;
    if (rc == 0) {
        rc = item_parse(text, work, ret, &batch.is_deep);
    }
    if (rc == 0) {
        rc = list_items(ret, work, &scratch, &batch);
    }
    if (rc != 0) {
        ret->item_count = 0;
        return rc == BH_E_TOO_DEEP ? BH_E_SYNTAX : rc;
    }
    for (size_t i = 0; i < ret->item_count; i++) {
        posthog_read_item(ret, &batch, &scratch, &ret->items[i]);
    }
    work->text_used = wire_reach(&scratch);
    return 0;
}

/* A question that cannot be read is answered as one that nobody passes on. */
static void read_question(const struct protocol_request *request, struct protocol_work *work,
                          struct protocol_decoded *ret) {
    struct posthog_batch batch = {.now_ms = request->now_ms};
    struct buf scratch = buf_of(work->text, work->text_cap);
    struct span text = SPAN_NONE;
    struct span sent = SPAN_NONE;
    struct span data = read_query(request->query, &sent);
    ret->envelope.form = read_form(request->query, ret->envelope.form);
    int rc = item_unwrap(request, data, work, &scratch, &text);
    work->text_used = rc == 0 ? wire_reach(&scratch) : work->text_cap;
    if (rc != 0 || item_parse(text, work, ret, &batch.is_deep) != 0 || batch.is_deep) {
        return;
    }
    work->items[0] = (struct protocol_item){.json = json_span(text, &ret->tokens[0]),
                                            .time_ms = request->now_ms};
    ret->item_count = posthog_read_question(ret, &scratch, &work->items[0]);
    work->text_used = wire_reach(&scratch);
}

int posthog_decode(const struct protocol_request *request, struct protocol_work *work,
                   struct protocol_decoded *ret) {
    check(work->items_cap > 0 && work->tokens_cap > 0);
    work->text_used = 0;
    *ret = (struct protocol_decoded){.items = work->items, .tokens = work->tokens};
    read_path(request->path, &ret->envelope);
    if (ret->envelope.use == ENDPOINT_NONE) {
        return BH_E_NOTFOUND;
    }
    /* HEAD must change nothing, so it cannot carry items. */
    bool is_local = ret->envelope.use == ENDPOINT_LOCAL || ret->envelope.use == ENDPOINT_ASK;
    bool head_is_fine = is_local && request->method == HTTP_HEAD;
    if (request->method != HTTP_GET && request->method != HTTP_POST && !head_is_fine) {
        return BH_E_UNSUPPORTED;
    }
    if (ret->envelope.use == ENDPOINT_ASK) {
        read_question(request, work, ret);
    }
    return ret->envelope.use == ENDPOINT_ITEMS ? read_items(request, work, ret) : 0;
}

void posthog_env(const struct protocol_envelope *envelope, struct buf *out) {
    const char *path = "";
    for (size_t i = BH_COUNT(paths); i-- > 0;) {
        if (paths[i].number == envelope->endpoint) {
            path = paths[i].path; /* the first of them */
        }
    }
    buf_put_str(out, "{\"path\":\"");
    buf_put_str(out, path);
    buf_put_str(out, "\"}");
}
