/*
 * Requests of the SDKs -> items.
 *
 * path and query -> envelope; body or data= -> JSON text (wire); text -> tokens (one parse); tokens
 * -> items. A request that cannot be parsed is refused whole; an item that is wrong by itself is
 * marked and the others are kept. Newline-delimited JSON, which /import takes, is tried when a
 * first object is followed by more.
 */
#include "base/check.h"
#include "base/compiler.h"
#include "engine/http/http_parse.h"
#include "protocol/mixpanel/mixpanel_int.h"
#include "protocol/wire/item.h"
#include "protocol/wire/wire.h"

enum {
    CALLBACK_MAX = 64,
};

struct path_row {
    const char *path;
    uint8_t number;
    uint8_t use;
};

static const struct path_row paths[] = {
    {"/track", MIXPANEL_TRACK, ENDPOINT_ITEMS},       {"/engage", MIXPANEL_ENGAGE, ENDPOINT_ITEMS},
    {"/groups", MIXPANEL_GROUPS, ENDPOINT_ITEMS},     {"/import", MIXPANEL_IMPORT, ENDPOINT_ITEMS},
    {"/settings", MIXPANEL_SETTINGS, ENDPOINT_LOCAL}, {"/flags", MIXPANEL_FLAGS, ENDPOINT_LOCAL},
    {"/decide", MIXPANEL_DECIDE, ENDPOINT_LOCAL},     {"/record", MIXPANEL_RECORD, ENDPOINT_SHED},
};

static void read_path(struct span path, struct protocol_envelope *envelope) {
    if (path.n > 1 && path.p[path.n - 1] == '/') {
        path.n--;
    }
    for (size_t i = 0; i < BH_COUNT(paths); i++) {
        if (span_is(path, paths[i].path)) {
            envelope->endpoint = paths[i].number;
            envelope->use = paths[i].use;
        }
    }
}

static bool is_true(struct span value) {
    return span_is(value, "1") || span_is(value, "true");
}

/* A name that cannot be anything but a name in a script; else none. */
static struct span safe_callback(struct span value) {
    for (size_t i = 0; i < value.n; i++) {
        uint8_t c = value.p[i];
        bool letter = ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') || c == '_' || c == '$';
        if (!letter && (i == 0 || !((c >= '0' && c <= '9') || c == '.'))) {
            return SPAN_NONE;
        }
    }
    return value.n <= CALLBACK_MAX ? value : SPAN_NONE;
}

static void read_query(struct span query, struct protocol_envelope *envelope,
                       struct span *ret_data) {
    struct span key;
    struct span value;
    while (http_query_next(&query, &key, &value)) {
        if (span_is(key, "data")) {
            *ret_data = value;
        } else if (span_is(key, "ip")) {
            envelope->ip = is_true(value);
        } else if (span_is(key, "verbose")) {
            envelope->verbose = is_true(value);
        } else if (span_is(key, "strict")) {
            envelope->strict = is_true(value);
        } else if (span_is(key, "img")) {
            envelope->image = is_true(value);
        } else if (span_is(key, "callback")) {
            envelope->callback = safe_callback(value);
        } else if (span_is(key, "project_id")) {
            envelope->project_id = value;
        } else if (span_is(key, "api_key")) {
            envelope->api_key = value;
        }
    }
}

/* Python's SDK asks in its form for what others ask in the query; it raises when the answer is not JSON of that kind. */
static bool form_is_verbose(struct span form) {
    struct span key;
    struct span value;
    if (form.n == 0 || form.p[0] == '{' || form.p[0] == '[') {
        return false;
    }
    while (http_query_next(&form, &key, &value)) {
        if (span_is(key, "verbose")) {
            return is_true(value);
        }
    }
    return false;
}

static bool is_space(uint8_t c) {
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/*
 * One document a line: each line's tokens follow the last one's and are moved to where the line
 * stands. A line that is none becomes a null token, which mixpanel_read_item refuses
 * alone.
 */
static int parse_lines(struct span text, struct protocol_work *work, size_t *ret_count) {
    size_t count = 0;
    size_t start = 0;
    while (start < text.n) {
        size_t length = span_find_byte(span_from(text, start), '\n');
        struct span line = span_cut(text, start, length);
        size_t skipped = 0;
        while (skipped < line.n && is_space(line.p[skipped])) {
            skipped++;
        }
        if (skipped < line.n) {
            size_t offset = 0;
            size_t added = 0;
            int rc = json_parse(line, LIMIT_JSON_DEPTH, work->tokens + count,
                                work->tokens_cap - count, &added, &offset);
            if (rc == BH_E_TOO_MANY || count == work->tokens_cap) {
                return BH_E_TOO_MANY;
            }
            if (rc != 0) {
                work->tokens[count] = (struct json_token){
                    .start = (uint32_t)skipped, .len = 0, .next = 1, .kind = JSON_NULL};
                added = 1;
            }
            for (size_t i = count; i < count + added; i++) {
                work->tokens[i].start += (uint32_t)start;
                work->tokens[i].next += (uint32_t)count;
            }
            count += added;
        }
        start += line.n + 1;
    }
    *ret_count = count;
    return 0;
}

/* Whether the first line is an object by itself and more follows. */
static bool is_lines(struct span text, struct protocol_work *work) {
    size_t end = span_find_byte(text, '\n');
    size_t count = 0;
    size_t offset = 0;
    return end != SIZE_MAX && text.p[0] == '{' &&
           json_parse(span_cut(text, 0, end), LIMIT_JSON_DEPTH, work->tokens, work->tokens_cap,
                      &count, &offset) == 0;
}

static int add_item(struct protocol_decoded *ret, struct protocol_work *work, uint32_t root) {
    if (ret->item_count == work->items_cap) {
        return BH_E_TOO_MANY;
    }
    work->items[ret->item_count++] =
        (struct protocol_item){.root = root, .json = json_span(ret->text, &ret->tokens[root])};
    return 0;
}

/*
 * Items are the elements of the root array, the root object, or one document after the other
 * (lines).
 */
static int list_items(struct protocol_decoded *ret, struct protocol_work *work) {
    bool is_array = ret->tokens[0].kind == JSON_ARRAY;
    uint32_t end = is_array ? ret->tokens[0].next : (uint32_t)ret->token_count;
    for (uint32_t i = is_array ? 1 : 0; i < end; i = ret->tokens[i].next) {
        int rc = add_item(ret, work, i);
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

/* *ret_deep: some value may be nested too deeply, so each item must be looked at. */
static int parse(struct span text, struct protocol_work *work, struct protocol_decoded *ret,
                 bool *ret_deep) {
    int rc = item_parse(text, work, ret, ret_deep);
    if (rc == BH_E_SYNTAX && is_lines(text, work)) {
        rc = parse_lines(text, work, &ret->token_count);
    }
    return rc == 0 ? list_items(ret, work) : rc;
}

int mixpanel_decode(const struct protocol_request *request, struct protocol_work *work,
                    struct protocol_decoded *ret) {
    check(work->items_cap > 0 && work->tokens_cap > 0);
    work->text_used = 0;
    struct span data = SPAN_NONE;
    struct span text = SPAN_NONE;
    bool deep = false;
    struct buf scratch = buf_of(work->text, work->text_cap);
    *ret = (struct protocol_decoded){.items = work->items, .tokens = work->tokens};
    read_path(request->path, &ret->envelope);
    if (ret->envelope.use == ENDPOINT_NONE) {
        return BH_E_NOTFOUND;
    }
    /* HEAD must change nothing, so it cannot carry items. */
    bool head_is_fine = ret->envelope.use == ENDPOINT_LOCAL && request->method == HTTP_HEAD;
    if (request->method != HTTP_GET && request->method != HTTP_POST && !head_is_fine) {
        return BH_E_UNSUPPORTED;
    }
    read_query(request->query, &ret->envelope, &data);
    (void)wire_basic(request->authorization, &scratch, &ret->envelope.user, &ret->envelope.secret);
    work->text_used = scratch.n;
    if (ret->envelope.use != ENDPOINT_ITEMS) {
        return 0;
    }
    /* Before the body is unwrapped, which is done where it lies. */
    ret->envelope.verbose |= form_is_verbose(span_of(request->body, request->body_len));
    int rc = item_unwrap(request, data, work, &scratch, &text);
    /* A decompressor that fails does not say how far it came, and one that succeeds writes ahead. */
    work->text_used = rc == 0 ? wire_reach(&scratch) : work->text_cap;
    if (rc == 0) {
        rc = parse(text, work, ret, &deep);
    }
    if (rc != 0) {
        ret->item_count = 0;
        return rc == BH_E_TOO_DEEP ? BH_E_SYNTAX : rc;
    }
    for (size_t i = 0; i < ret->item_count; i++) {
        mixpanel_read_item(ret, request->now_ms, deep, work->ids_key, &scratch, &ret->items[i]);
    }
    work->text_used = wire_reach(&scratch);
    return 0;
}

void mixpanel_env(const struct protocol_envelope *envelope, struct buf *out) {
    const char *path = "";
    for (size_t i = 0; i < BH_COUNT(paths); i++) {
        if (paths[i].number == envelope->endpoint) {
            path = paths[i].path;
        }
    }
    buf_put_str(out, envelope->ip ? "{\"ip\":true,\"path\":\"" : "{\"ip\":false,\"path\":\"");
    buf_put_str(out, path);
    buf_put_str(out, envelope->verbose ? "\",\"verbose\":true}" : "\",\"verbose\":false}");
}
