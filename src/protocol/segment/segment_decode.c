/*
 * Requests of the SDKs -> items.
 *
 * path -> envelope; body -> JSON text (wire) -> tokens (one parse); the elements of `batch`, or the root, -> items. A
 * request that cannot be parsed is refused whole; a message that is wrong by itself is marked and the others are kept.
 *
 * A single message may leave it to the path to say which call it is (the HTTP API; SDKs say it in `type`, too). What is
 * kept has to say it by itself, so the word is put into the text before the parse that counts.
 */
#include "base/check.h"
#include "base/compiler.h"
#include "engine/http/http_parse.h"
#include "protocol/segment/segment_int.h"
#include "protocol/wire/item.h"
#include "protocol/wire/wire.h"

enum {
    KEY_MAX = 64,
};

/* clang-format off */
static const struct segment_path_row paths[] = {
    {"/v1/batch", SEGMENT_BATCH, ENDPOINT_ITEMS, NULL},
    {"/v1/b", SEGMENT_BATCH, ENDPOINT_ITEMS, NULL},
    {"/v1/import", SEGMENT_IMPORT, ENDPOINT_ITEMS, NULL},
    {"/v1/t", SEGMENT_TRACK, ENDPOINT_ITEMS, "track"},
    {"/v1/track", SEGMENT_TRACK, ENDPOINT_ITEMS, "track"},
    {"/v1/p", SEGMENT_PAGE, ENDPOINT_ITEMS, "page"},
    {"/v1/page", SEGMENT_PAGE, ENDPOINT_ITEMS, "page"},
    {"/v1/s", SEGMENT_SCREEN, ENDPOINT_ITEMS, "screen"},
    {"/v1/screen", SEGMENT_SCREEN, ENDPOINT_ITEMS, "screen"},
    {"/v1/i", SEGMENT_IDENTIFY, ENDPOINT_ITEMS, "identify"},
    {"/v1/identify", SEGMENT_IDENTIFY, ENDPOINT_ITEMS, "identify"},
    {"/v1/g", SEGMENT_GROUP, ENDPOINT_ITEMS, "group"},
    {"/v1/group", SEGMENT_GROUP, ENDPOINT_ITEMS, "group"},
    {"/v1/a", SEGMENT_ALIAS, ENDPOINT_ITEMS, "alias"},
    {"/v1/alias", SEGMENT_ALIAS, ENDPOINT_ITEMS, "alias"},
    {"/v1/projects/*/settings", SEGMENT_SETTINGS, ENDPOINT_LOCAL, NULL},
    {"/v1/m", SEGMENT_METRICS, ENDPOINT_LOCAL, NULL},
};
/* clang-format on */

/* Letters, digits, - and _: nothing that would have to be escaped where it is repeated. */
static bool is_write_key(struct span s) {
    for (size_t i = 0; i < s.n; i++) {
        uint8_t c = s.p[i];
        bool letter = (c | 0x20) >= 'a' && (c | 0x20) <= 'z';
        if (!letter && !(c >= '0' && c <= '9') && c != '-' && c != '_') {
            return false;
        }
    }
    return s.n > 0 && s.n <= KEY_MAX;
}

static bool path_fits(struct span path, const char *pattern, struct span *ret_key) {
    struct span whole = span_str(pattern);
    size_t star = span_find_byte(whole, '*');
    if (star == SIZE_MAX) {
        return span_equal(path, whole);
    }
    struct span before = span_cut(whole, 0, star);
    struct span after = span_from(whole, star + 1);
    if (path.n <= before.n + after.n || !span_starts(path, before) ||
        !span_equal(span_from(path, path.n - after.n), after)) {
        return false;
    }
    *ret_key = span_cut(path, before.n, path.n - before.n - after.n);
    return is_write_key(*ret_key);
}

static const struct segment_path_row *find_path(const struct segment_path_row *rows,
                                                size_t row_count, struct span path,
                                                struct protocol_envelope *envelope) {
    if (path.n > 1 && path.p[path.n - 1] == '/') {
        path.n--;
    }
    for (size_t i = 0; i < row_count; i++) {
        if (path_fits(path, rows[i].path, &envelope->project_id)) {
            envelope->endpoint = rows[i].number;
            envelope->use = rows[i].use;
            return &rows[i];
        }
    }
    return NULL;
}

/* A beacon cannot carry a header, so its URL carries the key. */
static struct span key_in_query(struct span query) {
    struct span key;
    struct span value;
    struct span found = SPAN_NONE;
    while (http_query_next(&query, &key, &value)) {
        found = span_is(key, "writeKey") ? value : found;
    }
    return found;
}

static int parse(struct span text, struct protocol_work *work, struct protocol_decoded *ret,
                 bool *ret_deep) {
    int rc = item_parse(text, work, ret, ret_deep);
    if (rc == BH_E_TOO_DEEP || (rc == 0 && work->tokens[0].kind != JSON_OBJECT)) {
        return BH_E_SYNTAX;
    }
    return rc;
}

/* {...} -> {"type":"track",...}, in scratch. */
static int name_call(struct protocol_decoded *ret, struct protocol_work *work, const char *call,
                     struct buf *scratch, bool *ret_deep) {
    size_t before = scratch->n;
    struct span rest = span_from(ret->text, ret->tokens[0].start + 1);
    buf_put_str(scratch, "{\"type\":\"");
    buf_put_str(scratch, call);
    buf_put_str(scratch, ret->tokens[0].next > 1 ? "\"," : "\"");
    buf_put_span(scratch, rest);
    if (scratch->full) {
        return BH_E_TOO_BIG;
    }
    return parse(span_of(scratch->p + before, scratch->n - before), work, ret, ret_deep);
}

/* The messages of a batch, and what it says of all of them. */
static int list_batch(struct protocol_decoded *ret, struct protocol_work *work, struct buf *scratch,
                      struct segment_batch *batch) {
    uint32_t list = json_get(ret->text, ret->tokens, 0, SPAN_LIT("batch"));
    uint32_t key = json_get(ret->text, ret->tokens, 0, SPAN_LIT("writeKey"));
    if (list == 0 || ret->tokens[list].kind != JSON_ARRAY) {
        return BH_E_SYNTAX;
    }
    if (key != 0 && ret->tokens[key].kind == JSON_STRING) {
        ret->envelope.api_key = json_text(ret->text, &ret->tokens[key], scratch);
    }
    batch->has_sent = segment_time_of(ret, 0, "sentAt", scratch, &batch->sent_ms);
    for (uint32_t i = list + 1; i < ret->tokens[list].next; i = ret->tokens[i].next) {
        if (ret->item_count == work->items_cap) {
            return BH_E_TOO_MANY;
        }
        work->items[ret->item_count++] =
            (struct protocol_item){.root = i, .json = json_span(ret->text, &ret->tokens[i])};
    }
    return 0;
}

static int list_items(const struct segment_path_row *row, struct protocol_decoded *ret,
                      struct protocol_work *work, struct buf *scratch,
                      struct segment_batch *batch) {
    if (row->call == NULL) {
        return list_batch(ret, work, scratch, batch);
    }
    if (json_get(ret->text, ret->tokens, 0, SPAN_LIT("type")) == 0) {
        int rc = name_call(ret, work, row->call, scratch, &batch->deep);
        if (rc != 0) {
            return rc;
        }
    }
    work->items[0] = (struct protocol_item){.json = json_span(ret->text, &ret->tokens[0])};
    ret->item_count = 1;
    return 0;
}

int segment_decode_by(const struct segment_path_row *rows, size_t row_count,
                      const struct protocol_request *request, struct protocol_work *work,
                      struct protocol_decoded *ret) {
    check(work->items_cap > 0 && work->tokens_cap > 0);
    work->text_used = 0;
    struct span text = SPAN_NONE;
    struct buf scratch = buf_of(work->text, work->text_cap);
    struct segment_batch batch = {.now_ms = request->now_ms};
    *ret = (struct protocol_decoded){.items = work->items, .tokens = work->tokens};
    const struct segment_path_row *row = find_path(rows, row_count, request->path, &ret->envelope);
    if (row == NULL) {
        return BH_E_NOTFOUND;
    }
    bool is_local = row->use == ENDPOINT_LOCAL;
    bool reads = request->method == HTTP_GET || request->method == HTTP_HEAD;
    if (request->method != HTTP_POST && !(is_local && reads)) {
        return BH_E_UNSUPPORTED;
    }
    (void)wire_basic(request->authorization, &scratch, &ret->envelope.user, &ret->envelope.secret);
    work->text_used = scratch.n;
    if (is_local) {
        return 0;
    }
    ret->envelope.api_key = key_in_query(request->query);
    int rc = item_unwrap(request, SPAN_NONE, work, &scratch, &text);
    /* A decompressor that fails does not say how far it came, and one that succeeds writes ahead. */
    work->text_used = rc == 0 ? wire_reach(&scratch) : work->text_cap;
    rc = rc == 0 ? parse(text, work, ret, &batch.deep) : rc;
    rc = rc == 0 ? list_items(row, ret, work, &scratch, &batch) : rc;
    for (size_t i = 0; rc == 0 && i < ret->item_count; i++) {
        segment_read_item(ret, &batch, &scratch, &ret->items[i]);
    }
    if (rc == 0 || wire_reach(&scratch) > work->text_used) {
        work->text_used = wire_reach(&scratch);
    }
    if (rc != 0) {
        ret->item_count = 0;
    }
    return rc;
}

int segment_decode(const struct protocol_request *request, struct protocol_work *work,
                   struct protocol_decoded *ret) {
    return segment_decode_by(paths, BH_COUNT(paths), request, work, ret);
}

void segment_env_by(const struct segment_path_row *rows, size_t row_count,
                    const struct protocol_envelope *envelope, struct buf *out) {
    const char *path = "";
    for (size_t i = row_count; i > 0; i--) {
        path = rows[i - 1].number == envelope->endpoint ? rows[i - 1].path : path;
    }
    buf_put_str(out, "{\"path\":\"");
    buf_put_str(out, path);
    buf_put_str(out, "\"}");
}

void segment_env(const struct protocol_envelope *envelope, struct buf *out) {
    segment_env_by(paths, BH_COUNT(paths), envelope, out);
}
