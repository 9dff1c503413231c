/*
 * The admin socket and the health listener: two small HTTP servers on threads of their own, so that a scrape never delays a cut.
 *
 *   GET  /v1/status            POST /v1/cut {"vendor","why"}        POST /v1/reload
 *   POST /v1/flush (ledgers)
 *   GET  /v1/tap?after=N       POST /v1/restore {"vendor","mode":"replay"|"discard","why"}
 *   GET  /healthz /readyz /metrics   (on both)
 *
 * Who may connect is decided by the socket's mode 0600 in data/. A body is at most 64 KiB.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/json/json.h"
#include "gateway/gateway_int.h"
#include "os/clock.h"
#include "os/log.h"

enum {
    ANSWER_MAX = 2 * 1024 * 1024,
    ADMIN_BODY_MAX = 64 * 1024,
    ADMIN_POOL = 4 * ANSWER_MAX,
    ADMIN_TOKENS = 64
};

static void reply(struct http_server *server, const struct http_request *request, unsigned status,
                  struct span body, const char *type) {
    char headers[128];
    struct buf h = buf_of(headers, sizeof headers);
    buf_printf(&h, "Content-Type: %s\r\nCache-Control: no-store\r\n", type);
    http_reply(server, request->exchange,
               &(struct http_reply){.status = status, .headers = buf_span(&h), .body = body});
}

static void reply_error(struct http_server *server, const struct http_request *request,
                        unsigned status, const char *text) {
    uint8_t room[1024];
    struct buf b = buf_of(room, sizeof room);
    buf_put_str(&b, "{\"error\":");
    json_put_string(&b, span_str(text));
    buf_put_str(&b, "}\n");
    reply(server, request, status, buf_span(&b), "application/json");
}

struct admin_body {
    char vendor[LIMIT_NAME + 1];
    char mode[16];
    char why[256];
};

/* Copies the string at `key` into out; absent = "". */
static bool take(struct span text, const struct json_token *tokens, const char *key, char *out,
                 size_t cap) {
    uint32_t at = json_get(text, tokens, 0, span_str(key));
    out[0] = '\0';
    if (at == 0) {
        return true;
    }
    if (tokens[at].kind != JSON_STRING) {
        return false;
    }
    struct buf b = buf_of(out, cap - 1);
    json_unescape(json_span(text, &tokens[at]), &b);
    out[b.full ? 0 : b.n] = '\0';
    return !b.full;
}

static bool read_body(const struct http_request *request, struct admin_body *ret_body) {
    struct json_token tokens[ADMIN_TOKENS];
    struct span text = span_of(request->body, request->body_size);
    size_t count = 0;
    size_t offset = 0;
    if (json_parse(text, 4, tokens, ADMIN_TOKENS, &count, &offset) != 0 ||
        tokens[0].kind != JSON_OBJECT) {
        return false;
    }
    return take(text, tokens, "vendor", ret_body->vendor, sizeof ret_body->vendor) &&
           take(text, tokens, "mode", ret_body->mode, sizeof ret_body->mode) &&
           take(text, tokens, "why", ret_body->why, sizeof ret_body->why);
}

struct gateway_vendor *gateway_find_vendor(struct gateway *gateway, struct span name) {
    for (unsigned i = 0; i < gateway->vendor_count; i++) {
        if (span_is(name, gateway->vendors[i].name)) {
            return &gateway->vendors[i];
        }
    }
    return NULL;
}

static int cut_vendor(struct gateway *gateway, struct gateway_vendor *vendor, const char *why,
                      uint64_t *ret_us, uint64_t *ret_durable_us) {
    if (vendor->courier != NULL) {
        return courier_cut(vendor->courier, "operator", why, ret_us, ret_durable_us);
    }
    /* Out of service nothing leaves anyway; the register keeps it so after the repair. */
    uint64_t start = os_mono_us();
    int r = cut_register_cut(gateway->reg, vendor->name);
    *ret_us = 0;
    *ret_durable_us = os_mono_us() - start;
    return r;
}

static void handle_cut(struct gateway *gateway, const struct http_request *request) {
    struct admin_body body;
    struct gateway_vendor *vendor = NULL;
    uint64_t us = 0;
    uint64_t durable_us = 0;
    if (!read_body(request, &body) ||
        (vendor = gateway_find_vendor(gateway, span_str(body.vendor))) == NULL) {
        reply_error(gateway->admin_server, request, 404, "no such vendor");
        return;
    }
    int r = cut_vendor(gateway, vendor, body.why, &us, &durable_us);
    if (r != 0) {
        reply_error(gateway->admin_server, request, 409, bh_error_text(r));
        return;
    }
    log_event(LOG_WARN, "vendor cut", LOG_WORD("vendor", vendor->name), LOG_INT("us", us),
              LOG_INT("durable_us", durable_us));
    struct courier_status status;
    gateway_vendor_status(gateway, vendor, &status);
    uint8_t room[512];
    struct buf b = buf_of(room, sizeof room);
    buf_printf(
        &b,
        "{\"vendor\":\"%s\",\"state\":\"cut\",\"us\":%llu,\"durable_us\":%llu,\"backlog\":%llu}\n",
        vendor->name, (unsigned long long)us, (unsigned long long)durable_us,
        (unsigned long long)status.backlog);
    reply(gateway->admin_server, request, 200, buf_span(&b), "application/json");
}

static void handle_restore(struct gateway *gateway, const struct http_request *request) {
    struct admin_body body;
    struct gateway_vendor *vendor = NULL;
    struct err err = {0};
    if (!read_body(request, &body) ||
        (vendor = gateway_find_vendor(gateway, span_str(body.vendor))) == NULL) {
        reply_error(gateway->admin_server, request, 404, "no such vendor");
        return;
    }
    bool replay = strcmp(body.mode, "replay") == 0;
    if (!replay && strcmp(body.mode, "discard") != 0) {
        reply_error(gateway->admin_server, request, 400, "mode must be replay or discard");
        return;
    }
    os_lock(&gateway->config_lock);
    int r = vendor->courier != NULL
                ? courier_restore(vendor->courier, replay, "operator", body.why, &err)
                : err_set(&err, BH_E_STATE, "%s is out of service: %s", vendor->name,
                          vendor->damage.text);
    os_unlock(&gateway->config_lock);
    if (r != 0) {
        reply_error(gateway->admin_server, request, 409,
                    err.text[0] != '\0' ? err.text : bh_error_text(r));
        return;
    }
    log_event(LOG_WARN, "vendor restored", LOG_WORD("vendor", vendor->name),
              LOG_WORD("mode", replay ? "replay" : "discard"));
    struct courier_status status;
    gateway_vendor_status(gateway, vendor, &status);
    uint8_t room[512];
    struct buf b = buf_of(room, sizeof room);
    buf_printf(&b, "{\"vendor\":\"%s\",\"state\":\"%s\",\"mode\":\"%s\",\"backlog\":%llu}\n",
               vendor->name, vendor_state_word(status.state), body.mode,
               (unsigned long long)status.backlog);
    reply(gateway->admin_server, request, 200, buf_span(&b), "application/json");
}

static void handle_reload(struct gateway *gateway, const struct http_request *request) {
    struct err err = {0};
    if (gateway_reload(gateway, &err) != 0) {
        uint8_t room[1024];
        struct buf b = buf_of(room, sizeof room);
        buf_printf(&b, "%s:%u:%u: %s", err.file, err.line, err.column, err.text);
        buf_put_byte(&b, 0);
        reply_error(gateway->admin_server, request, 422,
                    b.full || err.file[0] == '\0' ? err.text : (const char *)room);
        return;
    }
    reply(gateway->admin_server, request, 200, SPAN_LIT("{\"reloaded\":true}\n"),
          "application/json");
}

/* Before an answer: what waits in the ledgers is written, so that a reader of the files sees this moment. */
static void handle_flush(struct gateway *gateway, const struct http_request *request) {
    for (unsigned i = 0; i < gateway->vendor_count; i++) {
        struct courier *courier = gateway->vendors[i].courier;
        int r = courier != NULL ? ledger_flush(courier_ledger(courier)) : 0;
        if (r != 0) {
            reply_error(gateway->admin_server, request, 503, bh_error_text(r));
            return;
        }
    }
    reply(gateway->admin_server, request, 200, SPAN_LIT("{\"flushed\":true}\n"),
          "application/json");
}

static void handle_big(struct gateway *gateway, struct http_server *server,
                       const struct http_request *request,
                       void (*write)(struct gateway *gateway, struct buf *out), const char *type) {
    uint8_t *room = malloc(ANSWER_MAX);
    if (room == NULL) {
        reply_error(server, request, 503, "out of memory");
        return;
    }
    struct buf b = buf_of(room, ANSWER_MAX);
    write(gateway, &b);
    reply(server, request, b.full ? 500 : 200, buf_span(&b), type);
    free(room);
}

static void handle_tap(struct gateway *gateway, const struct http_request *request) {
    uint64_t after = 0;
    struct span rest = request->head->query;
    struct span key;
    struct span value;
    while (http_query_next(&rest, &key, &value)) {
        if (span_is(key, "after") && !span_to_u64(value, &after)) {
            after = 0;
        }
    }
    uint8_t *room = malloc(ANSWER_MAX);
    if (room == NULL) {
        reply_error(gateway->admin_server, request, 503, "out of memory");
        return;
    }
    struct buf b = buf_of(room, ANSWER_MAX);
    tap_read(&gateway->tap, after, &b);
    reply(gateway->admin_server, request, b.full ? 500 : 200, buf_span(&b), "application/json");
    free(room);
}

static void handle_health(void *context, const struct http_request *request) {
    struct gateway *gateway = context;
    struct http_server *server = gateway->health_server;
    struct span path = request->head->path;
    if (span_is(path, "/healthz")) {
        reply(server, request, 200, SPAN_LIT("ok\n"), "text/plain");
    } else if (span_is(path, "/readyz")) {
        bool ready = gateway_is_ready(gateway);
        reply(server, request, ready ? 200 : 503,
              ready ? SPAN_LIT("ready\n") : SPAN_LIT("not ready\n"), "text/plain");
    } else if (span_is(path, "/metrics")) {
        handle_big(gateway, server, request, metrics_write,
                   "text/plain; version=0.0.4; charset=utf-8");
    } else {
        reply_error(server, request, 404, "not found: /healthz, /readyz and /metrics are here");
    }
}

static void handle_admin(void *context, const struct http_request *request) {
    static const struct {
        const char *path;
        uint8_t method;
        void (*handle)(struct gateway *gateway, const struct http_request *request);
    } routes[] = {
        {"/v1/cut", HTTP_POST, handle_cut},       {"/v1/restore", HTTP_POST, handle_restore},
        {"/v1/reload", HTTP_POST, handle_reload}, {"/v1/flush", HTTP_POST, handle_flush},
        {"/v1/tap", HTTP_GET, handle_tap},
    };
    struct gateway *gateway = context;
    struct span path = request->head->path;
    for (size_t i = 0; i < BH_COUNT(routes); i++) {
        if (span_is(path, routes[i].path) && request->head->method == routes[i].method) {
            routes[i].handle(gateway, request);
            return;
        }
    }
    if (span_is(path, "/v1/status")) {
        handle_big(gateway, gateway->admin_server, request, status_write, "application/json");
    } else if (span_is(path, "/metrics")) {
        handle_big(gateway, gateway->admin_server, request, metrics_write,
                   "text/plain; version=0.0.4; charset=utf-8");
    } else if (span_is(path, "/healthz") || span_is(path, "/readyz")) {
        bool ok = span_is(path, "/healthz") || gateway_is_ready(gateway);
        reply(gateway->admin_server, request, ok ? 200 : 503,
              ok ? SPAN_LIT("ok\n") : SPAN_LIT("not ready\n"), "text/plain");
    } else {
        reply_error(gateway->admin_server, request, 404, "not found");
    }
}

static struct http_config config_of(struct gateway *gateway, const char *address,
                                    void (*handler)(void *context,
                                                    const struct http_request *request)) {
    return (struct http_config){
        .address = address,
        .connections_max = 64,
        .connections_per_peer_max = 64,
        .body_max = ADMIN_BODY_MAX,
        .head_max = 16384,
        .target_max = 4096,
        .body_pool = ADMIN_POOL,
        .head_timeout_ms = 5000,
        .body_timeout_ms = 5000,
        .body_rate_min = 0,
        .send_timeout_ms = 10000,
        .idle_timeout_ms = 30000,
        .handler = handler,
        .context = gateway,
    };
}

int admin_new(struct gateway *gateway, struct err *err) {
    const struct settings *settings = atomic_load(&gateway->snapshot)->settings;
    struct http_config admin = config_of(gateway, settings->listen_admin, handle_admin);
    struct http_config health = config_of(gateway, settings->listen_health, handle_health);
    int r = http_server_new(&admin, &gateway->admin_server, err);
    if (r == 0) {
        r = http_server_new(&health, &gateway->health_server, err);
    }
    return r;
}

void admin_run(void *context) {
    struct gateway *gateway = context;
    while (!atomic_load_explicit(&gateway->loops_done, memory_order_acquire)) {
        http_server_run_once(gateway->admin_server, 200);
    }
}

void health_run(void *context) {
    struct gateway *gateway = context;
    while (!atomic_load_explicit(&gateway->loops_done, memory_order_acquire)) {
        http_server_run_once(gateway->health_server, 200);
    }
}
