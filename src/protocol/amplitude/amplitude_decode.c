/*
 * Requests of the SDKs -> items.
 *
 *   /2/httpapi, /batch            {"api_key":…,"events":[…],…}, perhaps in gzip; the type may say anything
 *   /identify, /groupidentify     api_key=…&identification=[…], or the same two as JSON
 *
 * The key of the request is the token of each item. A request that cannot be parsed is refused whole; an item that is wrong by itself is marked
 * and the others are kept.
 */
#include "base/check.h"
#include "base/compiler.h"
#include "engine/http/http_parse.h"
#include "protocol/amplitude/amplitude_int.h"
#include "protocol/wire/item.h"
#include "protocol/wire/wire.h"

enum {
    TOKEN_MAX = 512,
};

struct path_row {
    const char *path;
    uint8_t number;
    uint8_t use;
};

static const struct path_row paths[] = {
    {"/2/httpapi", AMPLITUDE_HTTPAPI, ENDPOINT_ITEMS},
    {"/batch", AMPLITUDE_BATCH, ENDPOINT_ITEMS},
    {"/identify", AMPLITUDE_IDENTIFY, ENDPOINT_ITEMS},
    {"/groupidentify", AMPLITUDE_GROUPIDENTIFY, ENDPOINT_ITEMS},
    {"/config", AMPLITUDE_CONFIG, ENDPOINT_LOCAL},
    {"/sessions/v2/track", AMPLITUDE_REPLAY, ENDPOINT_SHED},
};

static void read_path(struct span path, struct protocol_envelope *envelope) {
    if (path.n > 1 && path.p[path.n - 1] == '/') {
        path.n--;
    }
    if (span_starts(path, SPAN_LIT("/config/"))) {
        path = SPAN_LIT("/config"); /* a key of the product stands behind it */
    }
    for (size_t i = 0; i < BH_COUNT(paths); i++) {
        if (span_is(path, paths[i].path)) {
            envelope->endpoint = paths[i].number;
            envelope->use = paths[i].use;
        }
    }
}

static bool is_form(const struct protocol_decoded *d, struct span body) {
    bool takes_forms = d->envelope.endpoint == AMPLITUDE_IDENTIFY ||
                       d->envelope.endpoint == AMPLITUDE_GROUPIDENTIFY;
    body = span_trim(body);
    return takes_forms && body.n != 0 && body.p[0] != '{' && body.p[0] != '[' && body.p[0] != 0x1F;
}

/* Of a form: the key, decoded, and the JSON of identification. */
static int unwrap_form(const struct protocol_request *request, struct protocol_work *work,
                       struct buf *scratch, struct span *ret_key, struct span *ret_text) {
    struct span rest = span_trim(span_of(request->body, request->body_len));
    struct span key;
    struct span value;
    struct span json = SPAN_NONE;
    while (http_query_next(&rest, &key, &value)) {
        if (span_is(key, "identification")) {
            json = value;
        } else if (span_is(key, "api_key") && value.n <= TOKEN_MAX) {
            uint8_t *room = buf_room(scratch, value.n);
            if (room == NULL) {
                return BH_E_TOO_BIG;
            }
            *ret_key = span_of(room, http_percent_decode(value, room, true));
        }
    }
    struct protocol_request form = *request;
    form.body_len = 0; /* so that it is the value which is unwrapped */
    return json.n == 0 ? BH_E_SYNTAX : item_unwrap(&form, json, work, scratch, ret_text);
}

static int unwrap(const struct protocol_request *request, struct protocol_work *work,
                  struct buf *scratch, bool is_bare, struct span *ret_key, struct span *ret_text) {
    return is_bare ? unwrap_form(request, work, scratch, ret_key, ret_text)
                   : item_unwrap(request, SPAN_NONE, work, scratch, ret_text);
}

static int add_item(struct protocol_decoded *ret, struct protocol_work *work, uint32_t root) {
    if (ret->item_count == work->items_cap) {
        return BH_E_TOO_MANY;
    }
    work->items[ret->item_count++] =
        (struct protocol_item){.root = root, .json = json_span(ret->text, &ret->tokens[root])};
    return 0;
}

/* Items are the elements of an array, or one object alone. */
static int add_items(struct protocol_decoded *ret, struct protocol_work *work, uint32_t list) {
    const struct json_token *tokens = ret->tokens;
    if (tokens[list].kind == JSON_OBJECT) {
        return add_item(ret, work, list);
    }
    if (tokens[list].kind != JSON_ARRAY) {
        return BH_E_SYNTAX;
    }
    for (uint32_t i = list + 1; i < tokens[list].next; i = tokens[i].next) {
        int rc = add_item(ret, work, i);
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

/* The list of the request, and the key beside it. */
static int list_items(struct protocol_decoded *ret, struct protocol_work *work, bool is_bare,
                      struct buf *scratch, struct span *key) {
    const struct json_token *tokens = ret->tokens;
    const char *name = ret->envelope.endpoint == AMPLITUDE_IDENTIFY ||
                               ret->envelope.endpoint == AMPLITUDE_GROUPIDENTIFY
                           ? "identification"
                           : "events";
    uint32_t list = 0;
    if (is_bare) {
        return add_items(ret, work, 0);
    }
    for (uint32_t i = 1; tokens[0].kind == JSON_OBJECT && i < tokens[0].next; i = tokens[i].next) {
        struct span member = json_text(ret->text, &tokens[i], scratch);
        if (span_is(member, name)) {
            list = i + 1;
        } else if (span_is(member, "api_key")) {
            *key = tokens[i + 1].kind == JSON_STRING && tokens[i + 1].len <= TOKEN_MAX
                       ? json_text(ret->text, &tokens[i + 1], scratch)
                       : SPAN_NONE;
        }
    }
    return list != 0 ? add_items(ret, work, list) : BH_E_SYNTAX;
}

int amplitude_decode(const struct protocol_request *request, struct protocol_work *work,
                     struct protocol_decoded *ret) {
    check(work->items_cap > 0 && work->tokens_cap > 0);
    work->text_used = 0;
    bool deep = false;
    struct span key = SPAN_NONE;
    struct span text = SPAN_NONE;
    struct buf scratch = buf_of(work->text, work->text_cap);
    *ret = (struct protocol_decoded){.items = work->items, .tokens = work->tokens};
    read_path(request->path, &ret->envelope);
    ret->envelope.body_bytes = request->body_len;
    ret->envelope.now_ms = request->now_ms;
    if (ret->envelope.use == ENDPOINT_NONE) {
        return BH_E_NOTFOUND;
    }
    /* Items come by POST; what is answered here may be asked for in any way. */
    bool is_items = ret->envelope.use == ENDPOINT_ITEMS;
    bool is_read = request->method == HTTP_GET || request->method == HTTP_HEAD;
    if (request->method != HTTP_POST && (is_items || !is_read)) {
        return BH_E_UNSUPPORTED;
    }
    if (!is_items) {
        return 0;
    }
    bool is_bare = is_form(ret, span_of(request->body, request->body_len));
    int rc = unwrap(request, work, &scratch, is_bare, &key, &text);
    /* A decompressor that fails does not say how far it came, and one that succeeds writes ahead. */
    work->text_used = rc == 0 ? wire_reach(&scratch) : work->text_cap;
    if (rc == 0) {
        rc = item_parse(text, work, ret, &deep);
    }
    if (rc == 0) {
        rc = list_items(ret, work, is_bare, &scratch, &key);
    }
    if (rc != 0) {
        ret->item_count = 0;
        return rc == BH_E_TOO_DEEP ? BH_E_SYNTAX : rc;
    }
    for (size_t i = 0; i < ret->item_count; i++) {
        ret->items[i].token = key;
        amplitude_read_item(ret, request->now_ms, deep, &scratch, &ret->items[i]);
    }
    work->text_used = wire_reach(&scratch);
    return 0;
}

void amplitude_env(const struct protocol_envelope *envelope, struct buf *out) {
    const char *path = "";
    for (size_t i = 0; i < BH_COUNT(paths); i++) {
        if (paths[i].number == envelope->endpoint) {
            path = paths[i].path;
        }
    }
    buf_put_str(out, "{\"path\":\"");
    buf_put_str(out, path);
    buf_put_str(out, "\"}");
}
