/*
 * Where it goes: the endpoint of a contract, the addresses that it may have, the keys that are believed there, and the proxy on the way.
 *
 * A name says nothing about where it leads: so the address is judged when the connection is made (egress_allows), and here only what
 * stands in the file as an address. An address has one spelling: what other programs take for one as well (0x7f.1, 2130706433,
 * 127.1) is refused, and so is a name that an HTTP client and a resolver could read differently.
 */
#include "crypto/crypto.h"
#include "flow/policy/policy_int.h"

struct place {
    struct span host; /* without brackets */
    bool is_number;   /* an IP address */
    bool
        is_local; /* 127.0.0.1, localhost, [::1] as they stand: another name could resolve to anywhere */
    bool has_port;
    struct net address; /* of a number */
};

/* -- hosts ------------------------------------------------------------------------------------------ */

/* As browsers decide it: a host whose last part is a number is an address, or nothing. */
static bool ends_in_number(struct span host) {
    if (host.n != 0 && host.p[host.n - 1] == '.') {
        host.n--;
    }
    size_t from = host.n;
    while (from > 0 && host.p[from - 1] != '.') {
        from--;
    }
    struct span last = span_from(host, from);
    bool is_hex = last.n >= 2 && last.p[0] == '0' && (last.p[1] | 0x20) == 'x';
    for (size_t i = is_hex ? 2 : 0; i < last.n; i++) {
        int digit = hex_digit_value(last.p[i]);
        if (digit < 0 || (!is_hex && digit > 9)) {
            return false;
        }
    }
    return last.n != 0;
}

static bool is_name(struct span host) {
    for (size_t i = 0; i < host.n; i++) {
        uint8_t c = host.p[i];
        bool good = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                    c == '-' || c == '.' || c == '_';
        if (!good) {
            return false;
        }
    }
    return host.n != 0 && host.n <= 253;
}

static int read_host(const struct yaml_node *node, const char *what, bool is_bracketed,
                     struct place *place, struct err *err) {
    struct span host = place->host;
    bool has_colon = span_find_byte(host, ':') != SIZE_MAX;
    place->is_number = net_parse(host, &place->address) && span_find_byte(host, '/') == SIZE_MAX &&
                       has_colon == is_bracketed;
    if (is_bracketed && !place->is_number) {
        return yaml_error(err, node, "%s: between [ ] stands an IPv6 address, without a zone",
                          what);
    }
    if (!is_bracketed && !is_name(host)) {
        return yaml_error(
            err, node,
            "%s: a host is letters, digits, '-', '_' and '.'; other scripts in their xn-- form",
            what);
    }
    if (!is_bracketed && ends_in_number(host) && !place->is_number) {
        return yaml_error(err, node,
                          "%s: an IPv4 address is four decimal numbers, such as 192.0.2.7", what);
    }
    place->is_local = is_bracketed ? span_is(host, "::1")
                                   : span_is(host, "127.0.0.1") || span_is(host, "localhost");
    return 0;
}

/* HOST[:PORT], the host in brackets when it is IPv6. */
static int read_place(const struct yaml_node *node, const char *what, struct span text,
                      struct place *ret_place, struct err *err) {
    bool is_bracketed = text.n != 0 && text.p[0] == '[';
    size_t end = span_find_byte(text, is_bracketed ? ']' : ':');
    *ret_place = (struct place){0};
    ret_place->host = is_bracketed ? span_cut(text, 1, end != SIZE_MAX ? end - 1 : SIZE_MAX)
                                   : span_cut(text, 0, end);
    struct span rest = span_from(text, is_bracketed && end != SIZE_MAX ? end + 1 : end);
    uint64_t port = 1;
    if (rest.n != 0) {
        bool good = rest.p[0] == ':' && rest.n <= 6 && span_to_u64(span_from(rest, 1), &port) &&
                    port >= 1 && port <= UINT16_MAX;
        if (!good) {
            return yaml_error(err, node, "%s: a port is 1 to 65535", what);
        }
        ret_place->has_port = true;
    }
    return read_host(node, what, is_bracketed, ret_place, err);
}

/* An address in the file is judged with it: the connection would be refused. */
static int check_number(const struct contract *c, const struct yaml_node *node,
                        const struct place *place, struct err *err) {
    if (!place->is_number || place->is_local || egress_allows(&c->egress, place->address.address)) {
        return 0;
    }
    return yaml_error(err, node,
                      "the address %.*s is closed; a line egress: [public, %.*s] opens it",
                      (int)place->host.n, (const char *)place->host.p, (int)place->host.n,
                      (const char *)place->host.p);
}

/* -- the keys ----------------------------------------------------------------------------------------- */

static int read_range(const struct yaml_node *node, struct contract_egress *egress,
                      struct err *err) {
    struct span text = yaml_kind_of(node) == YAML_SCALAR ? yaml_text(node) : SPAN_NONE;
    if (span_is(text, "public")) {
        egress->allows_public = true;
        return 0;
    }
    if (egress->range_count == EGRESS_RANGES_MAX) {
        return yaml_error(err, node, "egress has at most %d ranges", EGRESS_RANGES_MAX);
    }
    if (!net_parse(text, &egress->ranges[egress->range_count])) {
        return yaml_error(
            err, node,
            "egress takes the word public, addresses and ranges: 10.1.2.3, 10.0.0.0/8, fd00::/8");
    }
    egress->range_count++;
    return 0;
}

static int read_ranges(struct contract_egress *egress, const struct yaml_node *node,
                       struct err *err) {
    egress->is_said = node != NULL;
    if (node == NULL) {
        egress->allows_public = true;
        return 0;
    }
    if (yaml_kind_of(node) != YAML_SEQUENCE || yaml_count(node) == 0) {
        return yaml_error(err, node,
                          "egress lists where the endpoint may lie, such as [public, 10.0.0.0/8]");
    }
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < yaml_count(node); i++) {
        rc = read_range(yaml_at(node, i), egress, err);
    }
    return rc;
}

static int read_endpoint(struct contract *c, const struct yaml_node *root, struct place *ret_place,
                         struct err *err) {
    const struct yaml_node *node;
    int rc = contract_needs(root, "endpoint", "https://api-eu.mixpanel.com", &node, err);
    if (rc == 0) {
        rc = contract_text(node, "endpoint", c->endpoint, sizeof c->endpoint, err);
    }
    if (rc != 0) {
        return rc;
    }
    struct span url = yaml_text(node);
    bool is_https = span_starts(url, SPAN_LIT("https://"));
    bool is_http = span_starts(url, SPAN_LIT("http://"));
    struct span rest = span_from(url, is_https ? 8 : 7);
    struct span host = span_cut(rest, 0, span_find_byte(rest, '/'));
    if (!is_https && !is_http) {
        return yaml_error(err, node, "endpoint begins with https://");
    }
    bool plain = span_find_byte(url, '?') == SIZE_MAX && span_find_byte(url, '#') == SIZE_MAX &&
                 span_find_byte(url, ' ') == SIZE_MAX;
    if (host.n == 0 || span_find_byte(host, '@') != SIZE_MAX || !plain) {
        return yaml_error(
            err, node, "endpoint is https://HOST[:PORT][/PATH], without user, query or fragment");
    }
    rc = read_place(node, "endpoint", host, ret_place, err);
    if (rc == 0 && is_http && !ret_place->is_local) {
        rc = yaml_error(
            err, node,
            "http:// only to 127.0.0.1, [::1] or localhost: anyone between could read it");
    }
    return rc == 0 ? check_number(c, node, ret_place, err) : rc;
}

/* libcurl compares the text, so it must be the one way of writing these bytes. */
static bool is_pin(struct span text) {
    struct span hash = span_from(text, 8);
    uint8_t bytes[33];
    uint8_t again[44];
    size_t n = 0;
    size_t again_n = 0;
    return span_starts(text, SPAN_LIT("sha256//")) && text.n == EGRESS_PIN_SIZE &&
           base64_decode(hash, bytes, sizeof bytes, &n) == 0 && n == 32 &&
           base64_encode(span_of(bytes, n), again, sizeof again, &again_n) == 0 &&
           span_equal(hash, span_of(again, again_n));
}

static int read_pin(const struct yaml_node *node, struct buf *out, struct err *err) {
    struct span text = yaml_kind_of(node) == YAML_SCALAR ? yaml_text(node) : SPAN_NONE;
    if (!is_pin(text)) {
        return yaml_error(
            err, node,
            "a pin is sha256// and the base64 of the SHA-256 of the server's public key");
    }
    buf_put_str(out, out->n != 0 ? ";" : "");
    buf_put_span(out, text);
    return out->full ? yaml_error(err, node, "at most %d pins", EGRESS_PINS_MAX) : 0;
}

static int read_pins(struct contract *c, const struct yaml_node *node, struct err *err) {
    struct buf out = buf_of(c->egress.pins, sizeof c->egress.pins - 1);
    if (node == NULL) {
        return 0;
    }
    if (strncmp(c->endpoint, "https://", 8) != 0) {
        return yaml_error(err, node, "a pin needs an https:// endpoint");
    }
    bool is_list = yaml_kind_of(node) == YAML_SEQUENCE;
    if (is_list && yaml_count(node) == 0) {
        return yaml_error(err, node, "pin lists at least one key, or is left out");
    }
    int rc = is_list ? 0 : read_pin(node, &out, err);
    for (size_t i = 0; rc == 0 && is_list && i < yaml_count(node); i++) {
        rc = read_pin(yaml_at(node, i), &out, err);
    }
    c->egress.pins[out.n] = '\0';
    return rc;
}

static int read_proxy_url(struct contract *c, const struct yaml_node *node, struct place *ret_place,
                          struct err *err) {
    static const char *const schemes[] = {"http://", "https://", "socks5h://"};
    int rc = contract_text(node, "proxy", c->egress.proxy, sizeof c->egress.proxy, err);
    struct span url = yaml_text(node);
    struct span host = SPAN_NONE;
    for (size_t i = 0; rc == 0 && i < BH_COUNT(schemes); i++) {
        if (span_starts(url, span_str(schemes[i]))) {
            host = span_from(url, strlen(schemes[i]));
        }
    }
    if (rc == 0 && span_find_byte(host, '@') != SIZE_MAX) {
        return yaml_error(
            err, node,
            "a secret never stands in this file: { url: http://HOST:PORT, credential: { env: NAME } }");
    }
    if (rc == 0 && host.n == 0) {
        return yaml_error(err, node, "proxy is http://, https:// or socks5h:// and HOST:PORT");
    }
    rc = rc == 0 ? read_place(node, "proxy", host, ret_place, err) : rc;
    if (rc == 0 && !ret_place->has_port) {
        return yaml_error(err, node, "proxy needs its port, such as http://proxy.example:3128");
    }
    return rc == 0 ? check_number(c, node, ret_place, err) : rc;
}

static int read_proxy_parts(struct contract *c, const struct yaml_node *node, struct err *err) {
    static const char *const keys[] = {"url", "ca", "credential"};
    struct contract_egress *egress = &c->egress;
    int rc = yaml_only_keys(node, keys, BH_COUNT(keys), err);
    const struct yaml_node *ca = rc == 0 ? yaml_get(node, "ca") : NULL;
    const struct yaml_node *credential = rc == 0 ? yaml_get(node, "credential") : NULL;
    if (rc == 0 && yaml_get(node, "url") == NULL) {
        rc = yaml_error(err, node, "proxy needs url, such as url: http://proxy.example:3128");
    }
    if (rc == 0 && ca != NULL) {
        rc = contract_text(ca, "ca", egress->proxy_ca, sizeof egress->proxy_ca, err);
    }
    if (rc == 0 && credential != NULL) {
        rc = contract_credential(credential, &egress->proxy_credential_kind,
                                 egress->proxy_credential, sizeof egress->proxy_credential, err);
    }
    return rc;
}

static int read_proxy(struct contract *c, const struct yaml_node *node,
                      const struct place *endpoint, struct place *ret_place, struct err *err) {
    const struct yaml_node *url = node;
    int rc = 0;
    if (yaml_kind_of(node) == YAML_MAPPING) {
        rc = read_proxy_parts(c, node, err);
        url = yaml_get(node, "url");
    }
    rc = rc == 0 ? read_proxy_url(c, url, ret_place, err) : rc;
    if (rc == 0 && endpoint->is_local) {
        rc = yaml_error(err, node, "an endpoint on this machine takes no proxy");
    }
    if (rc == 0 && c->egress.proxy_ca[0] != '\0' && strncmp(c->egress.proxy, "https://", 8) != 0) {
        rc = yaml_error(err, node, "ca of a proxy is for https:// only");
    }
    return rc;
}

int egress_read(struct contract *c, const struct yaml_node *root, struct err *err) {
    struct place endpoint = {0};
    struct place proxy = {0};
    const struct yaml_node *ca = yaml_get(root, "ca");
    const struct yaml_node *node = yaml_get(root, "proxy");
    int rc = read_ranges(&c->egress, yaml_get(root, "egress"), err);
    rc = rc == 0 ? read_endpoint(c, root, &endpoint, err) : rc;
    rc = rc == 0 ? read_pins(c, yaml_get(root, "pin"), err) : rc;
    if (rc == 0 && ca != NULL) {
        rc = contract_text(ca, "ca", c->ca_file, sizeof c->ca_file, err);
    }
    if (rc == 0 && node != NULL) {
        rc = read_proxy(c, node, &endpoint, &proxy, err);
    }
    c->egress.is_local = node != NULL ? proxy.is_local : endpoint.is_local;
    return rc;
}

/* -- the normal form ------------------------------------------------------------------------------------ */

static void write_ranges(const struct contract_egress *egress, struct buf *out) {
    buf_put_str(out, ",\"egress\":[");
    for (size_t i = 0; i < egress->range_count; i++) {
        const struct net *net = &egress->ranges[i];
        bool is_v4 = net->bits >= 96 && net_is_v4(net->address);
        buf_put_str(out, i == 0 ? "\"" : ",\"");
        net_put_address(net->address, out);
        buf_printf(out, "/%u\"", is_v4 ? net->bits - 96U : net->bits);
    }
    if (egress->allows_public) {
        buf_put_str(out, egress->range_count == 0 ? "\"public\"" : ",\"public\"");
    }
    buf_put_byte(out, ']');
}

static void write_pins(const struct contract_egress *egress, struct buf *out) {
    struct span rest = span_str(egress->pins);
    buf_put_str(out, ",\"pin\":[");
    for (bool is_first = true; rest.n != 0; is_first = false) {
        buf_put_str(out, is_first ? "\"" : ",\"");
        buf_put_span(out, span_cut(rest, 0, EGRESS_PIN_SIZE));
        buf_put_byte(out, '"');
        rest = span_from(rest, EGRESS_PIN_SIZE + 1);
    }
    buf_put_byte(out, ']');
}

void egress_write(const struct contract_egress *egress, struct buf *out) {
    if (egress->is_said) {
        write_ranges(egress, out);
    }
    if (egress->pins[0] != '\0') {
        write_pins(egress, out);
    }
    if (egress->proxy[0] != '\0') {
        buf_put_str(out, ",\"proxy\":");
        json_put_string(out, span_str(egress->proxy));
    }
}

/* -- judging ---------------------------------------------------------------------------------------------- */

bool egress_allows(const struct contract_egress *egress, const uint8_t address[16]) {
    static const uint8_t local_v6[16] = {[15] = 1};
    static const uint8_t local_v4[16] = {[10] = 0xff, [11] = 0xff, 127, 0, 0, 1};
    if (egress->is_local &&
        (memcmp(address, local_v6, 16) == 0 || memcmp(address, local_v4, 16) == 0)) {
        return true;
    }
    for (size_t i = 0; i < egress->range_count; i++) {
        if (net_has(&egress->ranges[i], address)) {
            return true;
        }
    }
    return egress->allows_public && net_is_public(address);
}

bool egress_equal(const struct contract_egress *a, const struct contract_egress *b) {
    return a->is_local == b->is_local && a->allows_public == b->allows_public &&
           a->range_count == b->range_count &&
           memcmp(a->ranges, b->ranges, a->range_count * sizeof *a->ranges) == 0 &&
           strcmp(a->pins, b->pins) == 0 && strcmp(a->proxy, b->proxy) == 0 &&
           strcmp(a->proxy_ca, b->proxy_ca) == 0 &&
           a->proxy_credential_kind == b->proxy_credential_kind &&
           strcmp(a->proxy_credential, b->proxy_credential) == 0;
}
