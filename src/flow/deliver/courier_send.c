/*
 * One request to the vendor at a time, by libcurl's multi interface.
 *
 *   transfer_run: [state open?, curl_multi_perform, a little work or curl_multi_poll]* -> result
 *
 * An answer settles an attempt, so it must be that attempt's own and whole:
 *  - it counts only when the request was handed over in full before it began, its framing was unambiguous (one Content-Length, or
 *    chunked), its length was right and nothing came behind it;
 *  - HTTP/2 binds answers to requests by itself. An HTTP/1.1 connection is used again only after an answer that accepted everything, and
 *    only if it is silent when the next request begins; anything else that is found on it ends it.
 * What leaves is watched from the other side: a body byte that libcurl has asked for may be in the kernel, whatever becomes of the
 * transfer.
 *
 * libcurl resolves no names (CURLOPT_RESOLVE from the dns threads), follows no redirects, takes no proxy from the environment (SSLKEYLOGFILE, which it reads as
 * well, os_process_harden removes), and makes
 * sockets only through the gate, each for the very address that it is about to connect to: there the contract's egress is asked.
 */
#include <stdio.h>

#include "base/check.h"
#include "crypto/crypto.h"
#include "flow/deliver/deliver_int.h"
#include "os/clock.h"
#include "os/log.h"
#include "os/outbound.h"

enum {
    TIMEOUT_MS = 90 * 1000,
    CONNECT_TIMEOUT_MS = 10 * 1000,
    POLL_MS = 1000,
    LINE_MAX_BYTES = 4096 + 128
};

/* -- libcurl's callbacks ------------------------------------------------------------------------------------------------------------ */

static curl_socket_t on_socket_open(void *context, curlsocktype purpose,
                                    struct curl_sockaddr *address) {
    struct courier *courier = context;
    struct transfer *t = &courier->transfer;
    uint8_t bytes[16];
    if (purpose != CURLSOCKTYPE_IPCXN || !os_address_bytes(&address->addr, bytes)) {
        return CURL_SOCKET_BAD;
    }
    if (!egress_allows(&courier->rules->egress, bytes)) {
        t->was_closed = true;
        memcpy(t->closed, bytes, sizeof t->closed);
        return CURL_SOCKET_BAD;
    }
    t->made_socket = true;
    int fd = gate_socket_open(&courier->gate, address->family);
    return fd >= 0 ? fd : CURL_SOCKET_BAD;
}

static int on_socket_close(void *context, curl_socket_t fd) {
    struct courier *courier = context;
    gate_socket_close(&courier->gate, fd);
    return 0;
}

static size_t on_body_wanted(char *out, size_t size, size_t count, void *context) {
    struct courier *courier = context;
    struct transfer *t = &courier->transfer;
    if (!gate_state_is_open(gate_state(&courier->gate))) {
        return CURL_READFUNC_ABORT;
    }
    size_t room = size * count;
    size_t left = t->body.n - t->body_at;
    size_t n = left < room ? left : room;
    memcpy(out, t->body.p + t->body_at, n);
    t->body_at += n;
    t->may_have_left |= n != 0;
    return n;
}

/* libcurl begins again on a new connection when a kept one turns out to be dead. */
static int on_body_rewind(void *context, curl_off_t offset, int origin) {
    struct courier *courier = context;
    if (origin != SEEK_SET || offset < 0 || (size_t)offset > courier->transfer.body.n) {
        return CURL_SEEKFUNC_FAIL;
    }
    courier->transfer.body_at = (size_t)offset;
    return CURL_SEEKFUNC_OK;
}

/* 1xx: another answer follows. */
static bool is_interim(struct span status_line) {
    size_t space = span_find_byte(status_line, ' ');
    return space != SIZE_MAX && span_cut(status_line, space + 1, 1).n == 1 &&
           status_line.p[space + 1] == '1';
}

static size_t on_header(char *line, size_t size, size_t count, void *context) {
    struct courier *courier = context;
    struct transfer *t = &courier->transfer;
    size_t n = size * count;
    struct span text = span_of(line, n);
    if (span_starts(text, SPAN_LIT("HTTP/"))) {
        /* A final answer that begins before the request has ended is not this request's, or refuses it unread. */
        bool is_final = !is_interim(text);
        t->is_malformed |= t->answer_began;
        t->answer_began |= is_final;
        t->is_early |= is_final && t->body_at < t->body.n;
        return n;
    }
    t->head_ended |= t->answer_began && span_trim(text).n == 0;
    size_t colon = span_find_byte(text, ':');
    struct span name = colon != SIZE_MAX ? span_cut(text, 0, colon) : SPAN_NONE;
    t->lengths += span_equal_nocase(name, SPAN_LIT("content-length"));
    t->encodings += span_equal_nocase(name, SPAN_LIT("transfer-encoding"));
    return n;
}

/*
 * libcurl reads no more than the answer's length, so what came behind it in the same TLS record stays with OpenSSL, where it would be the start of
 * the next answer and no look at the socket finds it.
 */
static bool has_more_in_tls(const struct transfer *t) {
    curl_off_t length = -1;
    long version = 0;
    struct curl_tlssessioninfo *tls = NULL;
    (void)curl_easy_getinfo(t->easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
    (void)curl_easy_getinfo(t->easy, CURLINFO_HTTP_VERSION, &version);
    (void)curl_easy_getinfo(t->easy, CURLINFO_TLS_SSL_PTR, &tls);
    bool is_whole = length >= 0 && t->answer.n >= (uint64_t)length;
    bool is_openssl =
        tls != NULL && tls->backend == CURLSSLBACKEND_OPENSSL && tls->internals != NULL;
    return is_whole && version != CURL_HTTP_VERSION_2_0 && is_openssl &&
           tls_has_unread(tls->internals);
}

static size_t on_body(char *bytes, size_t size, size_t count, void *context) {
    struct courier *courier = context;
    struct transfer *t = &courier->transfer;
    size_t n = size * count;
    buf_put(&t->answer, bytes, n);
    t->is_malformed |= has_more_in_tls(t);
    return t->answer.full ? 0 : n; /* less than n ends the transfer: no vendor has so much to say */
}

/* Only for counting: what came of a body before libcurl cut off what was too much. */
/* NOLINTNEXTLINE(readability-non-const-parameter): the signature is libcurl's */
static int on_debug(CURL *easy, curl_infotype type, char *bytes, size_t n, void *context) {
    struct courier *courier = context;
    (void)easy;
    (void)bytes;
    courier->transfer.raw_in += type == CURLINFO_DATA_IN ? n : 0;
    return 0;
}

/* -- set-up -------------------------------------------------------------------------------------------------------------------------- */

#define SET(option, value) (curl_easy_setopt(easy, (option), (value)) == CURLE_OK)

static bool set_limits(CURL *easy) {
    return SET(CURLOPT_NOSIGNAL, 1L) && SET(CURLOPT_NOPROXY, "") &&
           SET(CURLOPT_NETRC, (long)CURL_NETRC_IGNORED) &&
           SET(CURLOPT_PROTOCOLS_STR, "http,https") && SET(CURLOPT_FOLLOWLOCATION, 0L) &&
           SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_2TLS) &&
           SET(CURLOPT_HTTP09_ALLOWED, 0L) && SET(CURLOPT_TIMEOUT_MS, (long)TIMEOUT_MS) &&
           SET(CURLOPT_CONNECTTIMEOUT_MS, (long)CONNECT_TIMEOUT_MS) &&
           SET(CURLOPT_SSL_VERIFYPEER, 1L) && SET(CURLOPT_SSL_VERIFYHOST, 2L) &&
           SET(CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2) &&
           SET(CURLOPT_TCP_KEEPALIVE, 1L) && SET(CURLOPT_USERAGENT, "bulkhead/" BULKHEAD_VERSION) &&
           SET(CURLOPT_POST, 1L) && SET(CURLOPT_DNS_CACHE_TIMEOUT, -1L);
}

/* libcurl undoes %41 and its like in a proxy's user and password, so what is meant literally is written so. */
static bool set_escaped(CURL *easy, CURLoption option, struct span text) {
    char *escaped = text.n != 0 ? curl_easy_escape(easy, (const char *)text.p, (int)text.n) : NULL;
    bool good = (text.n == 0 || escaped != NULL) && SET(option, escaped != NULL ? escaped : "");
    if (escaped != NULL) {
        secret_wipe(escaped, strlen(escaped));
        curl_free(escaped);
    }
    return good;
}

/* "user:password", as the credential holds it. */
static bool set_proxy_login(CURL *easy, const struct credential *login) {
    struct span text = span_of(login->bytes, login->n);
    struct span user = span_cut(text, 0, span_find_byte(text, ':'));
    return login->bytes == NULL ||
           (set_escaped(easy, CURLOPT_PROXYUSERNAME, user) &&
            set_escaped(easy, CURLOPT_PROXYPASSWORD, span_from(text, user.n + 1)));
}

/* Only what the contract says; "" keeps the environment's out. */
static bool set_proxy(CURL *easy, const struct courier *courier) {
    const struct contract_egress *egress = &courier->rules->egress;
    bool good = SET(CURLOPT_PROXY, egress->proxy) &&
                SET(CURLOPT_HTTPPROXYTUNNEL, egress->proxy[0] != '\0' ? 1L : 0L) &&
                SET(CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L) &&
                SET(CURLOPT_HEADEROPT, (long)CURLHEADER_SEPARATE) &&
                SET(CURLOPT_PROXYAUTH, (long)CURLAUTH_BASIC) &&
                SET(CURLOPT_SOCKS5_AUTH, (unsigned long)CURLAUTH_BASIC) &&
                SET(CURLOPT_PROXY_SSL_VERIFYPEER, 1L) && SET(CURLOPT_PROXY_SSL_VERIFYHOST, 2L) &&
                SET(CURLOPT_PROXY_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2) &&
                (egress->proxy_ca[0] == '\0' || SET(CURLOPT_PROXY_CAINFO, egress->proxy_ca));
    return good && set_proxy_login(easy, &courier->proxy_login);
}

static bool set_callbacks(CURL *easy, struct courier *courier) {
    return SET(CURLOPT_OPENSOCKETFUNCTION, on_socket_open) &&
           SET(CURLOPT_OPENSOCKETDATA, courier) &&
           SET(CURLOPT_CLOSESOCKETFUNCTION, on_socket_close) &&
           SET(CURLOPT_CLOSESOCKETDATA, courier) && SET(CURLOPT_READFUNCTION, on_body_wanted) &&
           SET(CURLOPT_READDATA, courier) && SET(CURLOPT_SEEKFUNCTION, on_body_rewind) &&
           SET(CURLOPT_SEEKDATA, courier) && SET(CURLOPT_HEADERFUNCTION, on_header) &&
           SET(CURLOPT_HEADERDATA, courier) && SET(CURLOPT_WRITEFUNCTION, on_body) &&
           SET(CURLOPT_WRITEDATA, courier) && SET(CURLOPT_DEBUGFUNCTION, on_debug) &&
           SET(CURLOPT_DEBUGDATA, courier) && SET(CURLOPT_VERBOSE, 1L);
}

int transfer_init(struct transfer *transfer) {
    transfer->answer = buf_of(os_memory_map(ANSWER_MAX), ANSWER_MAX);
    return transfer->answer.p != NULL ? 0 : BH_E_NOMEM;
}

void transfer_fini(struct transfer *transfer) {
    check(transfer->multi == NULL);
    if (transfer->answer.p != NULL) {
        os_memory_unmap(transfer->answer.p, ANSWER_MAX);
    }
    curl_slist_free_all(transfer->resolve);
}

static bool open_handles(struct courier *courier) {
    struct transfer *t = &courier->transfer;
    if (t->multi != NULL) {
        return true;
    }
    CURLM *multi = curl_multi_init();
    t->easy = curl_easy_init();
    if (multi == NULL || t->easy == NULL || !set_limits(t->easy) ||
        !set_callbacks(t->easy, courier) ||
        curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS, 1L) != CURLM_OK) {
        curl_easy_cleanup(t->easy);
        (void)curl_multi_cleanup(multi);
        t->easy = NULL;
        return false;
    }
    os_lock(&courier->gate.lock);
    t->multi = multi;
    os_unlock(&courier->gate.lock);
    t->is_fresh = true;
    return true;
}

void transfer_close(struct courier *courier) {
    struct transfer *t = &courier->transfer;
    CURLM *multi = t->multi;
    if (multi == NULL) {
        return;
    }
    os_lock(&courier->gate.lock);
    t->multi = NULL;
    os_unlock(&courier->gate.lock);
    curl_easy_cleanup(t->easy);
    (void)curl_multi_cleanup(multi);
    gate_sweep(&courier->gate);
    curl_slist_free_all(t->headers);
    t->easy = NULL;
    t->headers = NULL;
    os_memory_release(t->answer.p, t->answer.cap);
}

/* Host and port of "scheme://host[:port]..."; the host without brackets. */
static bool split_endpoint(const char *endpoint, char host[DNS_HOST_MAX + 1], char port[8]) {
    struct span rest = span_str(endpoint);
    size_t at = span_find(rest, SPAN_LIT("://"));
    if (at == SIZE_MAX) {
        return false;
    }
    bool is_tls = span_starts(rest, SPAN_LIT("https"));
    rest = span_from(rest, at + 3);
    size_t slash = span_find_byte(rest, '/');
    rest = slash != SIZE_MAX ? span_cut(rest, 0, slash) : rest;
    bool is_bracketed = rest.n != 0 && rest.p[0] == '[';
    size_t end = span_find_byte(rest, is_bracketed ? ']' : ':');
    struct span name = is_bracketed ? span_cut(rest, 1, end != SIZE_MAX ? end - 1 : 0)
                                    : span_cut(rest, 0, end != SIZE_MAX ? end : rest.n);
    struct span after = span_from(rest, is_bracketed ? end + 1 : end);
    struct span number =
        after.n > 1 && after.p[0] == ':' ? span_from(after, 1) : span_str(is_tls ? "443" : "80");
    if (name.n == 0 || name.n > DNS_HOST_MAX || number.n >= 8 ||
        (is_bracketed && end == SIZE_MAX)) {
        return false;
    }
    memcpy(host, name.p, name.n);
    host[name.n] = '\0';
    memcpy(port, number.p, number.n);
    port[number.n] = '\0';
    return true;
}

int transfer_prepare(struct courier *courier) {
    char host[DNS_HOST_MAX + 1];
    char port[8];
    char line[LINE_MAX_BYTES];
    struct transfer *t = &courier->transfer;
    const char *proxy = courier->rules->egress.proxy;
    /* With a proxy it is the proxy that resolves the vendor's name. */
    if (!split_endpoint(proxy[0] != '\0' ? proxy : courier->rules->endpoint, host, port)) {
        return BH_E_NOTFOUND;
    }
    if (os_host_is_numeric(host)) {
        return 0;
    }
    struct buf b = buf_of(line, sizeof line - 1);
    buf_printf(&b, "%s:%s:", host, port);
    int r = dns_lookup(courier->config.dns, host, courier->wake_fd, &b);
    if (r != 0) {
        return r;
    }
    line[b.n] = '\0';
    if (t->resolve == NULL || strcmp(t->resolve->data, line) != 0) {
        curl_slist_free_all(t->resolve);
        t->resolve = curl_slist_append(NULL, line);
    }
    return t->resolve != NULL ? 0 : BH_E_NOMEM;
}

static bool add_header(struct transfer *t, const char *line) {
    struct curl_slist *longer = curl_slist_append(t->headers, line);
    t->headers = longer != NULL ? longer : t->headers;
    return longer != NULL;
}

/* What the protocol signs, as header lines. */
static bool add_signature(struct courier *courier, struct span body) {
    char memory[LINE_MAX_BYTES];
    struct buf b = buf_of(memory, sizeof memory);
    struct protocol_signing signing = {
        .credential = span_of(courier->credential.bytes, courier->credential.n),
        .vendor = span_str(courier->vendor),
        .body = body,
        .time_ms = (int64_t)(os_wall_us() / 1000),
    };
    bool good = courier->rules->ops->sign(&signing, &b) == 0;
    for (char *line = memory; good && line < memory + b.n;) {
        char *end = memchr(line, '\n', (size_t)(memory + b.n - line));
        check(end != NULL);
        *end = '\0';
        good = add_header(&courier->transfer, line);
        line = end + 1;
    }
    return good;
}

static bool set_headers(struct courier *courier, const struct protocol_post *post) {
    char line[LINE_MAX_BYTES];
    struct transfer *t = &courier->transfer;
    curl_slist_free_all(t->headers);
    t->headers = NULL;
    (void)snprintf(line, sizeof line, "Content-Type: %s", post->content_type);
    bool good = add_header(t, line) && add_header(t, "Expect:");
    if (good && post->gzip) {
        good = add_header(t, "Content-Encoding: gzip");
    }
    if (good && post->basic_auth) {
        struct buf b = buf_of(line, sizeof line - 1);
        buf_put_str(&b, "Authorization: ");
        courier->rules->ops->authorize(span_of(courier->credential.bytes, courier->credential.n),
                                       &b);
        line[b.n] = '\0';
        good = !b.full && add_header(t, line);
        secret_wipe(line, sizeof line);
    }
    if (good && courier->rules->ops->sign != NULL) {
        good = add_signature(courier, post->body);
    }
    return good;
}

static bool set_request(struct courier *courier, const struct protocol_post *post) {
    char url[2 * COURIER_PATH];
    struct transfer *t = &courier->transfer;
    CURL *easy = t->easy;
    const char *ca = courier->rules->ca_file;
    const char *pins = courier->rules->egress.pins;
    struct span base = span_str(courier->rules->endpoint);
    bool is_twice = post->path[0] == '/' && base.n != 0 && base.p[base.n - 1] == '/';
    int n = snprintf(url, sizeof url, "%s%s", courier->rules->endpoint, post->path + is_twice);
    if (n < 0 || (size_t)n >= sizeof url || !set_headers(courier, post)) {
        return false;
    }
    return SET(CURLOPT_URL, url) && SET(CURLOPT_HTTPHEADER, t->headers) &&
           SET(CURLOPT_RESOLVE, t->resolve) &&
           SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)post->body.n) &&
           SET(CURLOPT_FRESH_CONNECT, t->is_fresh ? 1L : 0L) && set_proxy(easy, courier) &&
           SET(CURLOPT_PINNEDPUBLICKEY, pins[0] != '\0' ? pins : NULL) &&
           (ca[0] == '\0' || SET(CURLOPT_CAINFO, ca));
}

/* -- one transfer -------------------------------------------------------------------------------------------------------------------- */

static void begin(struct courier *courier, const struct protocol_post *post) {
    struct transfer *t = &courier->transfer;
    t->body = post->body;
    t->body_at = 0;
    t->answer.n = 0;
    t->answer.full = false;
    t->may_have_left = false;
    t->made_socket = false;
    t->was_closed = false;
    t->is_malformed = false;
    t->is_early = false;
    t->answer_began = false;
    t->head_ended = false;
    t->raw_in = 0;
    t->lengths = 0;
    t->encodings = 0;
    /* A kept connection on which anything stirs may hold another request's answer. HTTP/2 has its own order there. */
    if (!t->is_h2 && !gate_idle_is_silent(&courier->gate)) {
        t->is_fresh = true;
    }
    if (t->is_fresh) {
        gate_drop_idle(&courier->gate);
    }
}

/* Whether the bytes that came are one answer, and this request's. */
static bool is_sound(struct courier *courier, long status) {
    struct transfer *t = &courier->transfer;
    curl_off_t length = -1;
    (void)curl_easy_getinfo(t->easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
    if (status < 200 || t->is_malformed || !t->head_ended || t->lengths > 1 ||
        (t->lengths != 0 && t->encodings != 0)) {
        return false;
    }
    if (t->is_h2) {
        return true;
    }
    if (length >= 0) {
        return t->raw_in == (uint64_t)length;
    }
    /* Without a length the end of the connection ends the answer: enough for a refusal's status, not for a yes. */
    return t->encodings == 1 || status >= 300;
}

/* Why there was no answer, if it is for a reason that stays. */
static enum transfer_fault fault_of(const struct transfer *t, CURLcode code) {
    long connect_status = 0;
    long proxy_error = CURLPX_OK;
    if (code == CURLE_OK || t->may_have_left) {
        return TRANSFER_OK;
    }
    if (t->was_closed && !t->made_socket) {
        return TRANSFER_ADDRESS;
    }
    (void)curl_easy_getinfo(t->easy, CURLINFO_HTTP_CONNECTCODE, &connect_status);
    (void)curl_easy_getinfo(t->easy, CURLINFO_PROXY_ERROR, &proxy_error);
    bool is_rejected = proxy_error == CURLPX_USER_REJECTED || proxy_error == CURLPX_NO_AUTH;
    return code == CURLE_SSL_PINNEDPUBKEYNOTMATCH ? TRANSFER_PIN
           : connect_status == 407 || is_rejected ? TRANSFER_PROXY
                                                  : TRANSFER_OK;
}

static void finish(struct courier *courier, CURLcode code, struct transfer_result *ret) {
    struct transfer *t = &courier->transfer;
    long status = 0;
    long version = 0;
    curl_off_t retry_after = 0;
    (void)curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &status);
    (void)curl_easy_getinfo(t->easy, CURLINFO_HTTP_VERSION, &version);
    (void)curl_easy_getinfo(t->easy, CURLINFO_RETRY_AFTER, &retry_after);
    t->is_h2 = version == CURL_HTTP_VERSION_2_0;
    ret->status = status > 0 && status < 1000 ? (uint16_t)status : 0;
    ret->is_complete = code == CURLE_OK && is_sound(courier, status);
    ret->is_early = t->is_early;
    ret->fault = fault_of(t, code);
    if (ret->fault == TRANSFER_ADDRESS) {
        struct buf text = buf_of(ret->address, sizeof ret->address - 1);
        net_put_address(t->closed, &text);
        ret->address[text.n] = '\0';
    }
    ret->retry_after_s = retry_after > 0 && retry_after < UINT32_MAX ? (uint32_t)retry_after : 0;
    ret->body = buf_span(&t->answer);
}

/* Runs until libcurl is done (true), or a cut or the end of the grace comes first. */
static bool drive(struct courier *courier, bool (*work)(struct courier *courier),
                  CURLcode *ret_code, struct transfer_result *ret) {
    struct transfer *t = &courier->transfer;
    for (;;) {
        int running = 0;
        int left = 0;
        if (!gate_state_is_open(gate_state(&courier->gate))) {
            ret->is_cut = true;
            return false;
        }
        CURLMcode failed = curl_multi_perform(t->multi, &running);
        const CURLMsg *message = curl_multi_info_read(t->multi, &left);
        if (message != NULL && message->msg == CURLMSG_DONE) {
            *ret_code = message->data.result;
            return true;
        }
        uint64_t now = t->deadline_us != 0 ? os_mono_us() : 0;
        if (failed != CURLM_OK || running == 0 || courier_grace_is_over(courier) ||
            now > t->deadline_us) {
            return false;
        }
        uint64_t poll_ms = t->deadline_us != 0 ? (t->deadline_us - now) / 1000 + 1 : POLL_MS;
        poll_ms = poll_ms < POLL_MS ? poll_ms : POLL_MS;
        bool is_out = t->body_at == t->body.n;
        if (work == NULL || !is_out || !work(courier)) {
            (void)curl_multi_poll(t->multi, NULL, 0, (int)courier_tick(courier, poll_ms), NULL);
        }
    }
}

void transfer_run(struct courier *courier, const struct protocol_post *post,
                  bool (*work)(struct courier *courier), struct transfer_result *ret_result) {
    struct transfer *t = &courier->transfer;
    CURLcode code = CURLE_OK;
    *ret_result = (struct transfer_result){0};
    if (!open_handles(courier)) {
        return;
    }
    begin(courier, post);
    if (!set_request(courier, post) || curl_multi_add_handle(t->multi, t->easy) != CURLM_OK) {
        log_event(LOG_ERROR, "the HTTP client took no request",
                  LOG_WORD("vendor", courier->vendor));
        return;
    }
    bool done = drive(courier, work, &code, ret_result);
    if (done) {
        finish(courier, code, ret_result);
    }
    ret_result->may_have_left = t->may_have_left;
    ret_result->sent_bytes = t->body_at;
    /* Only a whole answer that says yes leaves a connection that may be used again; see transfer_keep. */
    t->is_fresh = true;
    (void)curl_multi_remove_handle(t->multi, t->easy);
    gate_sweep(&courier->gate);
}

void transfer_keep(struct courier *courier) {
    courier->transfer.is_fresh = false;
}
