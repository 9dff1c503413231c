#include "unit/mixpanel_kit.h"

#include "base/check.h"
#include "engine/http/http_parse.h"
#include "protocol/mixpanel/mixpanel.h"
#include "protocol/wire/wire.h"

static uint8_t text[2 * LIMIT_REQUEST_BYTES];
static struct json_token tokens[LIMIT_REQUEST_TOKENS];
static struct protocol_item items[LIMIT_REQUEST_EVENTS];
static uint8_t reply_memory[1 << 20];
static struct kit kit;
static const struct protocol_ops *ops;

void kit_use(const struct protocol_ops *protocol) {
    ops = protocol;
}

const struct protocol_ops *kit_protocol(void) {
    return ops != NULL ? ops : &mixpanel_ops;
}

struct kit *kit_get(void) {
    if (kit.work.wire == NULL) {
        kit.work = (struct protocol_work){
            .text = text,
            .text_cap = sizeof text,
            .tokens = tokens,
            .tokens_cap = LIMIT_REQUEST_TOKENS,
            .items = items,
            .items_cap = LIMIT_REQUEST_EVENTS,
            .decoded_max = LIMIT_REQUEST_BYTES,
            .wire = wire_new(),
        };
        check(kit.work.wire != NULL);
    }
    return &kit;
}

int kit_decode(unsigned method, const char *path, struct span query, struct span authorization,
               struct span body) {
    struct kit *k = kit_get();
    check(body.n <= sizeof k->body);
    if (body.n > 0) {
        memcpy(k->body, body.p, body.n);
    }
    const struct protocol_request request = {
        .method = (uint8_t)method,
        .path = span_str(path),
        .query = query,
        .authorization = authorization,
        .body = k->body,
        .body_len = body.n,
        .now_ms = KIT_NOW_MS,
    };
    return kit_protocol()->decode(&request, &k->work, &k->decoded);
}

int kit_post(const char *path, const char *body) {
    return kit_decode(HTTP_POST, path, SPAN_NONE, SPAN_NONE, span_str(body));
}

struct protocol_reply kit_reply(enum reply_kind kind) {
    struct protocol_reply reply;
    struct buf memory = buf_of(reply_memory, sizeof reply_memory);
    kit_protocol()->reply(&kit.decoded.envelope, kind, kit.decoded.items, kit.decoded.item_count,
                          &memory, &reply);
    return reply;
}
