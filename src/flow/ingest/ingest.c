#include "flow/ingest/ingest.h"

#include <stdlib.h>

#include "base/check.h"
#include "base/hash.h"
#include "crypto/crypto.h"
#include "os/thread.h"
#include "protocol/wire/wire.h"

enum { ORIGIN_MAX = 256, ENV_MAX = 512, ITEMS_MAX = LIMIT_REQUEST_EVENTS };

/* -- sources -------------------------------------------------------------------------------------------------------------------- */

struct ingest_sources {
    size_t count;
    uint64_t seed;
    uint32_t mask;
    uint32_t *table; /* index + 1 by hash of token */
    struct ingest_source *sources;
    uint8_t *text; /* guarded: tokens and secrets */
};

static uint64_t token_hash(const struct ingest_sources *s, struct span token) {
    return hash64(token.p, token.n, s->seed);
}

static struct span keep(uint8_t **at, struct span text) {
    uint8_t *start = *at;
    if (text.n != 0) {
        memcpy(start, text.p, text.n);
    }
    *at += text.n;
    return span_of(start, text.n);
}

int ingest_sources_new(const struct ingest_source *sources, size_t count,
                       struct ingest_sources **ret_sources) {
    struct ingest_sources *s = calloc(1, sizeof *s);
    size_t text = 1;
    uint32_t slots = 16;
    for (size_t i = 0; i < count; i++) {
        text += sources[i].name.n + sources[i].token.n + sources[i].space.n +
                sources[i].import_secret.n + sources[i].import_project.n;
    }
    while (slots < count * 4) {
        slots *= 2;
    }
    if (s == NULL) {
        return BH_E_NOMEM;
    }
    s->sources = calloc(count + 1, sizeof *s->sources);
    s->table = calloc(slots, sizeof *s->table);
    s->text = secret_new(text);
    if (s->sources == NULL || s->table == NULL || s->text == NULL) {
        ingest_sources_free(s);
        return BH_E_NOMEM;
    }
    os_random(&s->seed, sizeof s->seed);
    s->mask = slots - 1;
    s->count = count;
    uint8_t *at = s->text;
    for (size_t i = 0; i < count; i++) {
        s->sources[i] = sources[i];
        s->sources[i].name = keep(&at, sources[i].name);
        s->sources[i].token = keep(&at, sources[i].token);
        s->sources[i].space = keep(&at, sources[i].space);
        s->sources[i].import_secret = keep(&at, sources[i].import_secret);
        s->sources[i].import_project = keep(&at, sources[i].import_project);
        uint64_t slot = token_hash(s, s->sources[i].token);
        while (s->table[slot & s->mask] != 0) {
            slot++;
        }
        s->table[slot & s->mask] = (uint32_t)i + 1;
    }
    *ret_sources = s;
    return 0;
}

void ingest_sources_free(struct ingest_sources *sources) {
    if (sources == NULL) {
        return;
    }
    free(sources->sources);
    free(sources->table);
    secret_free(sources->text);
    free(sources);
}

const struct ingest_source *ingest_source_by_token(const struct ingest_sources *s, uint8_t protocol,
                                                   struct span token) {
    if (token.n == 0) {
        return NULL;
    }
    for (uint64_t slot = token_hash(s, token); s->table[slot & s->mask] != 0; slot++) {
        const struct ingest_source *source = &s->sources[s->table[slot & s->mask] - 1];
        if (source->protocol == protocol && source->token.n == token.n &&
            secret_equal(source->token.p, token.p, token.n)) {
            return source;
        }
    }
    return NULL;
}

static const struct ingest_source *by_secret(const struct ingest_sources *s, uint8_t protocol,
                                             struct span secret, struct span project) {
    if (secret.n == 0) {
        return NULL;
    }
    for (size_t i = 0; i < s->count; i++) {
        const struct ingest_source *source = &s->sources[i];
        bool project_fits = project.n == 0 || source->import_project.n == 0 ||
                            span_equal(project, source->import_project);
        if (source->protocol == protocol && project_fits && source->import_secret.n == secret.n &&
            secret_equal(source->import_secret.p, secret.p, secret.n)) {
            return source;
        }
    }
    return NULL;
}

/* Who the request as a whole says it is, for items without a token: Basic with the token or a secret as user, with a secret as password, or api_key. */
static const struct ingest_source *source_of_request(const struct ingest_sources *s,
                                                     uint8_t protocol,
                                                     const struct protocol_envelope *e) {
    const struct ingest_source *source = ingest_source_by_token(s, protocol, e->user);
    source = source != NULL ? source : by_secret(s, protocol, e->user, e->project_id);
    source = source != NULL ? source : by_secret(s, protocol, e->secret, e->project_id);
    source = source != NULL ? source : by_secret(s, protocol, e->api_key, e->project_id);
    return source != NULL ? source : ingest_source_by_token(s, protocol, e->api_key);
}

/* -- reading -------------------------------------------------------------------------------------------------------------------- */

struct ingester {
    struct protocol_work work;
    size_t text_size;
    size_t tokens_size;
    const struct ingest_source *sources[ITEMS_MAX];
    struct protocol_item items[ITEMS_MAX];
};

int ingester_new(size_t request_max, const uint8_t *ids_key, struct ingester **ret_ingester) {
    struct ingester *g = calloc(1, sizeof *g);
    if (g == NULL) {
        return BH_E_NOMEM;
    }
    /* Twice the decoded limit (protocol.h), and what the target of a GET may hold. */
    g->text_size = 2 * request_max + 2 * (size_t)LIMIT_HTTP_TARGET;
    g->tokens_size = LIMIT_REQUEST_TOKENS * sizeof(struct json_token);
    g->work = (struct protocol_work){
        .text = os_memory_map(g->text_size),
        .text_cap = g->text_size,
        .tokens = os_memory_map(g->tokens_size),
        .tokens_cap = LIMIT_REQUEST_TOKENS,
        .items = g->items,
        .items_cap = ITEMS_MAX,
        .decoded_max = request_max,
        .wire = wire_new(),
        .ids_key = ids_key,
    };
    if (g->work.text == NULL || g->work.tokens == NULL || g->work.wire == NULL) {
        ingester_free(g);
        return BH_E_NOMEM;
    }
    *ret_ingester = g;
    return 0;
}

void ingester_free(struct ingester *g) {
    if (g == NULL) {
        return;
    }
    if (g->work.text != NULL) {
        os_memory_unmap(g->work.text, g->text_size);
    }
    if (g->work.tokens != NULL) {
        os_memory_unmap(g->work.tokens, g->tokens_size);
    }
    wire_free(g->work.wire);
    free(g);
}

/* "/mixpanel/track" -> the protocol mixpanel and the path "/track". */
static const struct protocol_ops *protocol_of(struct span path, struct span *ret_rest) {
    struct span name = span_from(path, 1);
    size_t end = span_find_byte(name, '/');
    if (end == SIZE_MAX) {
        return NULL;
    }
    *ret_rest = span_from(name, end);
    const struct protocol_ops *protocol = protocol_by_name(span_cut(name, 0, end));
    return protocol != NULL && protocol->decode != NULL ? protocol : NULL;
}

static enum reply_kind verdict_of_error(int code) {
    switch (code) {
    case BH_E_TOO_BIG:
    case BH_E_TOO_MANY:
        return REPLY_TOO_BIG;
    case BH_E_NOTFOUND:
        return REPLY_NOT_FOUND;
    case BH_E_UNSUPPORTED:
        return REPLY_BAD_METHOD;
    default:
        return REPLY_MALFORMED;
    }
}

/* Each good item's source. Returns the number of items that stay good; *ret_known whether any token at all was known. */
static uint32_t authenticate(struct ingester *g, const struct ingest_sources *sources,
                             struct ingest_batch *batch, bool *ret_known) {
    const struct protocol_decoded *d = &batch->decoded;
    const struct ingest_source *whole =
        source_of_request(sources, batch->protocol->id, &d->envelope);
    struct span last_token = SPAN_NONE;
    const struct ingest_source *last = NULL;
    uint32_t good = 0;
    *ret_known = false;
    for (size_t i = 0; i < d->item_count; i++) {
        struct protocol_item *item = &d->items[i];
        g->sources[i] = NULL;
        if (item->token.n == 0) {
            g->sources[i] = whole;
        } else if (last != NULL && span_equal(item->token, last_token)) {
            g->sources[i] = last;
        } else {
            last = ingest_source_by_token(sources, batch->protocol->id, item->token);
            last_token = item->token;
            g->sources[i] = last;
        }
        *ret_known |= g->sources[i] != NULL;
        if (item->reason == REASON_NONE && g->sources[i] == NULL) {
            item->reason = REASON_UNKNOWN_TOKEN;
        }
        /* Vendors take a merge from who has a secret only; with our credential anyone's token would be one. */
        if (item->reason == REASON_NONE && item->kind == EVENT_MERGE &&
            !g->sources[i]->trust_server) {
            item->reason = REASON_NOT_ALLOWED;
        }
        good += item->reason == REASON_NONE;
    }
    return good;
}

static uint8_t signals_of(const struct http_head *head) {
    uint8_t signals = 0;
    for (uint32_t i = 0; i < head->header_count; i++) {
        signals |= signal_of_header(head->headers[i].name, head->headers[i].value);
    }
    return signals;
}

void ingest_read(struct ingester *g, const struct ingest_sources *sources,
                 const struct http_request *request, int64_t now_ms,
                 struct ingest_batch *ret_batch) {
    struct span rest = SPAN_NONE;
    memset(ret_batch, 0, sizeof *ret_batch);
    ret_batch->sources = g->sources;
    ret_batch->protocol = protocol_of(request->head->path, &rest);
    if (ret_batch->protocol == NULL) {
        ret_batch->verdict = REPLY_NOT_FOUND;
        return;
    }
    struct protocol_request in = {
        .method = request->head->method,
        .path = rest,
        .query = request->head->query,
        .authorization = http_header(request->head, "authorization"),
        .body = request->body,
        .body_len = request->body_size,
        .now_ms = now_ms,
    };
    int r = ret_batch->protocol->decode(&in, &g->work, &ret_batch->decoded);
    if (r != 0) {
        ret_batch->decoded.item_count = 0;
        ret_batch->verdict = verdict_of_error(r);
        return;
    }
    ret_batch->signals = signals_of(request->head); /* of a question as well */
    if (ret_batch->decoded.envelope.use != ENDPOINT_ITEMS) {
        ret_batch->is_local = true;
        ret_batch->verdict = REPLY_KEPT;
        if (ret_batch->decoded.item_count == 1) {
            g->sources[0] = ingest_source_by_token(sources, ret_batch->protocol->id,
                                                   ret_batch->decoded.items[0].token);
            ret_batch->is_question = g->sources[0] != NULL;
            ret_batch->decoded.item_count = ret_batch->is_question;
        } else if (ret_batch->protocol->ask != NULL) {
            ret_batch->local =
                source_of_request(sources, ret_batch->protocol->id, &ret_batch->decoded.envelope);
        }
        return;
    }
    bool known = false;
    ret_batch->good = authenticate(g, sources, ret_batch, &known);
    if (!known) {
        ret_batch->verdict = REPLY_UNAUTHORIZED;
    } else {
        ret_batch->verdict = ret_batch->good != 0 ? REPLY_KEPT : REPLY_MALFORMED;
    }
}

void ingest_env(const struct ingest_batch *batch, struct buf *out) {
    if (batch->signals == 0) {
        batch->protocol->env(&batch->decoded.envelope, out);
        return;
    }
    uint8_t room[ENV_MAX];
    struct buf env = buf_of(room, sizeof room);
    batch->protocol->env(&batch->decoded.envelope, &env);
    check(!env.full);
    signals_put(batch->signals, buf_span(&env), out);
}

void ingest_wipe(struct ingester *g) {
    if (g->work.text_used == g->work.text_cap) {
        os_memory_release(g->work.text, g->text_size); /* how far it was filled is not known */
    } else if (g->work.text_used != 0) {
        memset(g->work.text, 0, g->work.text_used);
    }
    g->work.text_used = 0;
}

/* -- who sends ----------------------------------------------------------------------------------------------------------------------- */

static bool is_proxy(const struct net *proxies, size_t count, const uint8_t address[16]) {
    for (size_t i = 0; i < count; i++) {
        if (net_has(&proxies[i], address)) {
            return true;
        }
    }
    return false;
}

/* "192.0.2.7", "192.0.2.7:1234", "2001:db8::7", "[2001:db8::7]:1234". */
static bool read_hop(struct span hop, uint8_t ret_address[16]) {
    struct net one;
    size_t bracket = span_find_byte(hop, ']');
    size_t colon = span_find_byte(hop, ':');
    if (hop.n > 1 && hop.p[0] == '[' && bracket != SIZE_MAX) {
        hop = span_cut(hop, 1, bracket - 1);
    } else if (colon != SIZE_MAX && span_find_byte(span_from(hop, colon + 1), ':') == SIZE_MAX) {
        hop = span_cut(hop, 0, colon);
    }
    if (span_find_byte(hop, '/') != SIZE_MAX || !net_parse(hop, &one)) {
        return false;
    }
    memcpy(ret_address, one.address, sizeof one.address);
    return true;
}

void ingest_client(const struct http_request *request, const struct net *proxies, size_t count,
                   uint8_t ret_address[16]) {
    const struct http_head *head = request->head;
    memcpy(ret_address, request->peer.address, sizeof request->peer.address);
    for (uint32_t i = head->header_count; i > 0; i--) {
        const struct http_header *header = &head->headers[i - 1];
        if (!span_equal_nocase(header->name, SPAN_LIT("x-forwarded-for"))) {
            continue;
        }
        for (size_t end = header->value.n; end > 0;) {
            size_t start = end;
            while (start > 0 && header->value.p[start - 1] != ',') {
                start--;
            }
            if (!is_proxy(proxies, count, ret_address) ||
                !read_hop(span_trim(span_cut(header->value, start, end - start)), ret_address)) {
                return;
            }
            end = start > 0 ? start - 1 : 0;
        }
    }
}

/* -- answering ------------------------------------------------------------------------------------------------------------------ */

void ingest_cors(struct span origin, struct buf *out) {
    if (origin.n == 0 || origin.n > ORIGIN_MAX) {
        return;
    }
    buf_put_str(out, "Access-Control-Allow-Origin: ");
    buf_put_span(out, origin);
    buf_put_str(
        out,
        "\r\nAccess-Control-Allow-Credentials: true\r\nAccess-Control-Expose-Headers: Retry-After\r\nVary: Origin\r\n");
}

void ingest_preflight(const struct http_head *head, struct buf *headers) {
    struct span wanted = http_header(head, "access-control-request-headers");
    ingest_cors(http_header(head, "origin"), headers);
    buf_put_str(
        headers,
        "Access-Control-Allow-Methods: GET, POST, OPTIONS\r\nAccess-Control-Max-Age: 3600\r\n");
    if (wanted.n != 0 && wanted.n <= 1024) {
        buf_put_str(headers, "Access-Control-Allow-Headers: ");
        buf_put_span(headers, wanted);
        buf_put_str(headers, "\r\n");
    }
}
