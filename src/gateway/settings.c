/*
 * Reading of bulkhead.yaml: one function per block of the file, each with the list of its keys, so that a misspelt word is named
 * together with the nearest valid one.
 */
#include "gateway/settings.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/yaml/yaml.h"
#include "os/env.h"
#include "os/file.h"
#include "os/socket.h"

enum { NUMBERS_FILE_MAX = 256 * 1024, DEFAULT_NEW_PEOPLE = 100000 };

const char *settings_dir(const char *option) {
    if (option != NULL) {
        return option;
    }
    const char *from_env = os_env("BULKHEAD_DIR");
    return from_env != NULL && from_env[0] != '\0' ? from_env : ".";
}

static int copy_text(const struct yaml_node *node, const char *what, char *out, size_t cap,
                     struct err *err) {
    if (yaml_kind_of(node) != YAML_SCALAR) {
        return yaml_error(err, node, "%s must be a single word", what);
    }
    struct span text = yaml_text(node);
    if (text.n == 0 || text.n >= cap || memchr(text.p, 0, text.n) != NULL) {
        return yaml_error(err, node, "%s must have 1 to %zu characters", what, cap - 1);
    }
    memcpy(out, text.p, text.n);
    out[text.n] = '\0';
    return 0;
}

/* Names go into file names, logs and metrics: a small alphabet keeps all three safe. */
static int copy_name(const struct yaml_node *node, const char *what, char *out, struct err *err) {
    int r = copy_text(node, what, out, LIMIT_NAME + 1, err);
    if (r != 0) {
        return r;
    }
    for (const char *c = out; *c != '\0'; c++) {
        bool ok = (*c >= 'a' && *c <= 'z') || (*c >= '0' && *c <= '9') || *c == '-' || *c == '_';
        if (!ok || out[0] == '-') {
            return yaml_error(err, node, "%s must be of a-z, 0-9, - and _ and not begin with -",
                              what);
        }
    }
    return 0;
}

/* An absolute path stays; ~/ is the user's home; all else starts in `base`. */
static int absolute(const char *base, const char *path, char *out, size_t cap) {
    int n = 0;
    /* NOLINTNEXTLINE(clang-analyzer-core.UndefinedBinaryOperatorResult): callers pass what they have read */
    if (path[0] == '/') {
        n = snprintf(out, cap, "%s", path);
    } else if (path[0] == '~' && path[1] == '/') {
        const char *home = os_env("HOME");
        n = snprintf(out, cap, "%s/%s", home != NULL ? home : "/root", path + 2);
    } else {
        n = snprintf(out, cap, "%s/%s", base, path[0] == '.' && path[1] == '/' ? path + 2 : path);
    }
    return n < 0 || (size_t)n >= cap ? BH_E_TOO_BIG : 0;
}

static int read_address(const struct yaml_node *node, const char *what, char *out, size_t cap,
                        struct err *err) {
    int r = copy_text(node, what, out, cap, err);
    if (r == 0 && !os_address_is_valid(out)) {
        r = yaml_error(err, node,
                       "%s is an address with a port, such as 127.0.0.1:8080 or [::1]:8080, or "
                       "unix:/path",
                       what);
    }
    return r;
}

static int read_path(const struct settings *s, const struct yaml_node *node, const char *key,
                     char out[SETTINGS_PATH], struct err *err) {
    char text[SETTINGS_PATH];
    const struct yaml_node *n = yaml_get(node, key);
    if (n == NULL) {
        return yaml_error(err, node, "listen: tls needs both, { certificate: FILE, key: FILE }");
    }
    int r = copy_text(n, key, text, sizeof text, err);
    if (r == 0 && absolute(s->dir, text, out, SETTINGS_PATH) != 0) {
        r = yaml_error(err, n, "the path is too long");
    }
    return r;
}

static int read_tls(struct settings *s, const struct yaml_node *node, struct err *err) {
    static const char *const keys[] = {"certificate", "key"};
    if (yaml_kind_of(node) != YAML_MAPPING) {
        return yaml_error(err, node, "listen: tls is { certificate: FILE, key: FILE }");
    }
    int r = yaml_only_keys(node, keys, BH_COUNT(keys), err);
    r = r == 0 ? read_path(s, node, "certificate", s->tls_certificate, err) : r;
    return r == 0 ? read_path(s, node, "key", s->tls_key, err) : r;
}

static int read_listen(struct settings *s, const struct yaml_node *node, char *admin,
                       size_t admin_cap, struct err *err) {
    static const char *const keys[] = {"ingest", "tls", "admin", "health", "console"};
    int r = yaml_only_keys(node, keys, BH_COUNT(keys), err);
    const struct yaml_node *n = NULL;
    if (r == 0 && (n = yaml_get(node, "tls")) != NULL) {
        r = read_tls(s, n, err);
    }
    if (r == 0 && (n = yaml_get(node, "ingest")) != NULL) {
        r = read_address(n, "listen: ingest", s->listen_ingest, sizeof s->listen_ingest, err);
    }
    if (r == 0 && (n = yaml_get(node, "health")) != NULL) {
        r = read_address(n, "listen: health", s->listen_health, sizeof s->listen_health, err);
    }
    if (r == 0 && (n = yaml_get(node, "admin")) != NULL) {
        r = copy_text(n, "listen: admin", admin, admin_cap, err);
        if (r == 0 && strncmp(admin, "unix:", 5) != 0) {
            r = yaml_error(err, n, "listen: admin must be a Unix socket, such as unix:admin.sock");
        }
    }
    return r;
}

static int read_key(struct settings *s, const struct yaml_node *node, struct err *err) {
    static const char *const keys[] = {"file", "env", "exec", "credential"};
    int r = yaml_only_keys(node, keys, BH_COUNT(keys), err);
    if (r != 0) {
        return r;
    }
    if (yaml_count(node) != 1) {
        return yaml_error(err, node, "key needs exactly one of file, env, exec, credential");
    }
    char text[SETTINGS_PATH];
    r = copy_text(yaml_at(node, 0), "key", text, sizeof text, err);
    if (r != 0) {
        return r;
    }
    bool is_file = yaml_get(node, "file") != NULL;
    if (is_file) {
        if (absolute(s->dir, text, s->key_text, sizeof s->key_text) != 0) {
            return yaml_error(err, node, "the key file's path is too long");
        }
    } else {
        memcpy(s->key_text, text, sizeof text);
    }
    s->key.file = is_file ? s->key_text : NULL;
    s->key.env = yaml_get(node, "env") != NULL ? s->key_text : NULL;
    s->key.exec = yaml_get(node, "exec") != NULL ? s->key_text : NULL;
    s->key.credential = yaml_get(node, "credential") != NULL ? s->key_text : NULL;
    return 0;
}

/* 60% of the disk is the default and is worked out by the journal; a size may be given instead. */
static int read_max(const struct yaml_node *node, uint64_t *ret_max, struct err *err) {
    if (span_is(yaml_text(node), "60%")) {
        *ret_max = 0;
        return 0;
    }
    return yaml_size(node, ret_max, err);
}

static int read_journal(struct settings *s, const struct yaml_node *node, struct err *err) {
    static const char *const keys[] = {"keep", "segment", "max"};
    int r = yaml_only_keys(node, keys, BH_COUNT(keys), err);
    const struct yaml_node *n = NULL;
    if (r == 0 && (n = yaml_get(node, "keep")) != NULL) {
        r = yaml_duration(n, &s->journal_keep_us, err);
        if (r == 0 && s->journal_keep_us > 30ULL * 86400 * 1000000) {
            r = yaml_error(
                err, n,
                "journal: keep may be at most 30d: what is kept longer must be erased longer");
        }
    }
    if (r == 0 && (n = yaml_get(node, "segment")) != NULL) {
        r = yaml_size(n, &s->journal_segment, err);
        if (r == 0 && (s->journal_segment < 8U << 20 || s->journal_segment > 1U << 30)) {
            r = yaml_error(err, n, "journal: segment must be 8MiB to 1GiB");
        }
    }
    if (r == 0 && (n = yaml_get(node, "max")) != NULL) {
        r = read_max(n, &s->journal_max, err);
    }
    return r;
}

static int read_dedupe(struct settings *s, const struct yaml_node *node, struct err *err) {
    static const char *const keys[] = {"window"};
    uint64_t us = 0;
    int r = yaml_only_keys(node, keys, BH_COUNT(keys), err);
    const struct yaml_node *n = yaml_get(node, "window");
    if (r != 0 || n == NULL) {
        return r;
    }
    if (span_is(yaml_text(n), "off")) {
        s->dedupe_window_s = 0;
        return 0;
    }
    r = yaml_duration(n, &us, err);
    if (r == 0 && (us < 1000000 || us > 7ULL * 86400 * 1000000)) {
        r = yaml_error(err, n, "dedupe: window must be 1s to 7d, or off");
    }
    s->dedupe_window_s = (uint32_t)(us / 1000000);
    return r;
}

static int read_limits(struct settings *s, const struct yaml_node *node, struct err *err) {
    static const char *const keys[] = {"request",      "connections",  "connections_per_peer",
                                       "head_timeout", "body_timeout", "idle_timeout",
                                       "loops"};
    int r = yaml_only_keys(node, keys, BH_COUNT(keys), err);
    const struct yaml_node *n = NULL;
    uint64_t v = 0;
    if (r == 0 && (n = yaml_get(node, "request")) != NULL) {
        r = yaml_size(n, &s->request_bytes, err);
        if (r == 0 && s->request_bytes > LIMIT_REQUEST_BYTES_MAX) {
            r = yaml_error(err, n, "limits: request may be at most 10MiB");
        }
    }
    if (r == 0 && (n = yaml_get(node, "connections")) != NULL) {
        r = yaml_u64(n, 8, 65536, &v, err);
        s->connections = (unsigned)v;
    }
    if (r == 0 && (n = yaml_get(node, "connections_per_peer")) != NULL) {
        r = yaml_u64(n, 1, 65536, &v, err);
        s->connections_per_peer = (unsigned)v;
    }
    if (r == 0 && (n = yaml_get(node, "loops")) != NULL) {
        r = yaml_u64(n, 1, LIMIT_LOOPS, &v, err);
        s->loops = (unsigned)v;
    }
    if (r == 0 && (n = yaml_get(node, "head_timeout")) != NULL) {
        r = yaml_duration(n, &v, err);
        s->head_timeout_ms = (unsigned)(v / 1000);
    }
    if (r == 0 && (n = yaml_get(node, "body_timeout")) != NULL) {
        r = yaml_duration(n, &v, err);
        s->body_timeout_ms = (unsigned)(v / 1000);
    }
    if (r == 0 && (n = yaml_get(node, "idle_timeout")) != NULL) {
        r = yaml_duration(n, &v, err);
        if (r == 0 && (v < 1000000 || v > 7200ULL * 1000000)) {
            r = yaml_error(err, n, "idle_timeout is 1s to 2h");
        }
        s->idle_timeout_ms = (unsigned)(v / 1000);
    }
    return r;
}

/* A token or secret: a literal, {env: NAME} or {file: PATH}. The text of it never gets into an error. */
static int read_secret(const struct settings *s, const struct yaml_node *node, const char *what,
                       bool secrets, char *out, size_t cap, bool *ret_literal, struct err *err) {
    *ret_literal = yaml_kind_of(node) == YAML_SCALAR;
    if (*ret_literal) {
        return copy_text(node, what, out, cap, err);
    }
    static const char *const keys[] = {"env", "file"};
    char text[SETTINGS_PATH];
    int r = yaml_kind_of(node) == YAML_MAPPING
                ? yaml_only_keys(node, keys, BH_COUNT(keys), err)
                : yaml_error(err, node, "%s must be a word, {env: NAME} or {file: PATH}", what);
    if (r == 0 && yaml_count(node) != 1) {
        r = yaml_error(err, node, "%s needs exactly one of env, file", what);
    }
    if (r == 0) {
        r = copy_text(yaml_at(node, 0), what, text, sizeof text, err);
    }
    if (r != 0 || !secrets) {
        return r;
    }
    if (yaml_get(node, "env") != NULL) {
        const char *value = os_env(text);
        if (value == NULL || value[0] == '\0' || strlen(value) >= cap) {
            return yaml_error(err, node, "%s: the environment variable %s is not set (or too long)",
                              what, text);
        }
        memcpy(out, value, strlen(value) + 1);
        return 0;
    }
    char path[SETTINGS_PATH];
    size_t n = 0;
    if (absolute(s->dir, text, path, sizeof path) != 0 ||
        os_file_read_whole(path, out, cap - 1, &n) != 0) {
        return yaml_error(err, node, "%s: cannot read the file %s", what, text);
    }
    while (n != 0 && (out[n - 1] == '\n' || out[n - 1] == '\r' || out[n - 1] == ' ')) {
        n--;
    }
    out[n] = '\0';
    return n != 0 ? 0 : yaml_error(err, node, "%s: the file %s is empty", what, text);
}

static int read_word(const struct yaml_node *node, const char *what, const char *const *words,
                     size_t count, size_t *ret_index, struct err *err) {
    for (size_t i = 0; i < count; i++) {
        if (yaml_kind_of(node) == YAML_SCALAR && span_is(yaml_text(node), words[i])) {
            *ret_index = i;
            return 0;
        }
    }
    const char *near =
        yaml_kind_of(node) == YAML_SCALAR ? yaml_nearest(yaml_text(node), words, count) : NULL;
    return yaml_error(err, node, "%s must be %s%s%s%s%s", what, words[0], count > 1 ? " or " : "",
                      count > 1 ? words[1] : "", near != NULL ? "; did you mean " : "",
                      near != NULL ? near : "");
}

static int read_source_vendors(struct settings_source *source, const struct yaml_node *node,
                               struct err *err) {
    if (yaml_kind_of(node) != YAML_SEQUENCE || yaml_count(node) > BH_COUNT(source->vendors)) {
        return yaml_error(err, node, "vendors must be a list of at most %zu names",
                          BH_COUNT(source->vendors));
    }
    for (size_t i = 0; i < yaml_count(node); i++) {
        int r = copy_name(yaml_at(node, i), "a vendor's name", source->vendors[i], err);
        if (r != 0) {
            return r;
        }
    }
    source->vendor_count = (unsigned)yaml_count(node);
    return 0;
}

static int read_source_import(const struct settings *s, struct settings_source *source,
                              const struct yaml_node *node, bool secrets, struct err *err) {
    static const char *const keys[] = {"secret", "project_id"};
    bool literal = false;
    int r = yaml_only_keys(node, keys, BH_COUNT(keys), err);
    const struct yaml_node *n = yaml_get(node, "secret");
    if (r == 0 && n == NULL) {
        r = yaml_error(err, node, "import needs a secret");
    }
    if (r == 0) {
        r = read_secret(s, n, "import: secret", secrets, source->import_secret,
                        sizeof source->import_secret, &literal, err);
    }
    if (r == 0 && (n = yaml_get(node, "project_id")) != NULL) {
        r = copy_text(n, "import: project_id", source->import_project_id,
                      sizeof source->import_project_id, err);
    }
    return r;
}

static int read_source_protocol(struct settings_source *source, const struct yaml_node *node,
                                struct err *err) {
    size_t count = 0;
    size_t index = 0;
    const char *const *protocols = protocol_list_of_sources(&count);
    const struct protocol_ops *ops = protocol_by_name(yaml_text(node));
    if (ops != NULL && ops->decode == NULL) {
        return yaml_error(err, node,
                          "protocol: no SDK speaks %s, so no source can; it is a connector, for a "
                          "contract: connector: %s",
                          ops->name, ops->name);
    }
    int r = read_word(node, "protocol", protocols, count, &index, err);
    if (r == 0) {
        source->protocol = protocol_by_name(span_str(protocols[index]))->id;
    }
    return r;
}

static int read_source_words(struct settings_source *source, const struct yaml_node *node,
                             struct err *err) {
    static const char *const trusts[] = {"browser", "server"};
    static const char *const roles[] = {"controller", "processor"};
    size_t index = 0;
    const struct yaml_node *n = yaml_get(node, "protocol");
    int r = n == NULL ? yaml_error(err, node, "a source needs a protocol")
                      : read_source_protocol(source, n, err);
    if (r == 0 && (n = yaml_get(node, "trust")) != NULL) {
        r = read_word(n, "trust", trusts, BH_COUNT(trusts), &index, err);
        source->trust_server = index == 1;
    }
    index = 0;
    if (r == 0 && (n = yaml_get(node, "role")) != NULL) {
        r = read_word(n, "role", roles, BH_COUNT(roles), &index, err);
        r = r == 0 && index == 1
                ? yaml_error(err, n, "role: processor: not yet; it has no effect in this version")
                : r;
    }
    return r;
}

static int read_source(const struct settings *s, struct settings_source *source,
                       const struct yaml_node *node, bool secrets, struct err *err) {
    static const char *const keys[] = {"name",    "protocol", "token",  "trust",     "role",
                                       "vendors", "ids",      "import", "new_people"};
    if (yaml_kind_of(node) != YAML_MAPPING) {
        return yaml_error(
            err, node,
            "a source is a mapping such as { name: web, protocol: mixpanel, token: ... }");
    }
    int r = yaml_only_keys(node, keys, BH_COUNT(keys), err);
    const struct yaml_node *n = yaml_get(node, "name");
    if (r == 0) {
        r = n == NULL ? yaml_error(err, node, "a source needs a name")
                      : copy_name(n, "name", source->name, err);
    }
    if (r == 0) {
        r = read_source_words(source, node, err);
    }
    n = yaml_get(node, "token");
    if (r == 0) {
        r = n == NULL ? yaml_error(err, node, "a source needs a token")
                      : read_secret(s, n, "token", secrets, source->token, sizeof source->token,
                                    &source->token_is_literal, err);
    }
    if (r == 0 && (n = yaml_get(node, "vendors")) != NULL) {
        r = read_source_vendors(source, n, err);
    }
    if (r == 0 && (n = yaml_get(node, "ids")) != NULL) {
        r = copy_name(n, "ids", source->space, err);
    }
    if (r == 0 && (n = yaml_get(node, "import")) != NULL) {
        r = read_source_import(s, source, n, secrets, err);
    }
    source->new_people_per_hour = source->trust_server ? 0 : DEFAULT_NEW_PEOPLE;
    if (r == 0 && (n = yaml_get(node, "new_people")) != NULL) {
        r = yaml_u64(n, 0, UINT32_MAX, &source->new_people_per_hour, err);
    }
    return r;
}

static int check_unique(const struct settings *s, const struct yaml_node *list, struct err *err) {
    for (unsigned i = 0; i < s->source_count; i++) {
        for (unsigned k = 0; k < i; k++) {
            if (strcmp(s->sources[i].name, s->sources[k].name) == 0) {
                return yaml_error(err, yaml_at(list, i), "two sources are named %s",
                                  s->sources[i].name);
            }
            if (s->sources[i].token[0] != '\0' &&
                strcmp(s->sources[i].token, s->sources[k].token) == 0) {
                return yaml_error(err, yaml_at(list, i),
                                  "the sources %s and %s have the same token", s->sources[k].name,
                                  s->sources[i].name);
            }
        }
    }
    return 0;
}

static int read_sources(struct settings *s, const struct yaml_node *node, bool secrets,
                        struct err *err) {
    if (yaml_kind_of(node) != YAML_SEQUENCE || yaml_count(node) > LIMIT_SOURCES) {
        return yaml_error(err, node, "sources must be a list of at most %d", LIMIT_SOURCES);
    }
    size_t count = yaml_count(node);
    s->sources = calloc(count != 0 ? count : 1, sizeof *s->sources);
    if (s->sources == NULL) {
        return err_set(err, BH_E_NOMEM, "out of memory");
    }
    for (size_t i = 0; i < count; i++) {
        s->source_count = (unsigned)(i + 1);
        int r = read_source(s, &s->sources[i], yaml_at(node, i), secrets, err);
        if (r != 0) {
            return r;
        }
    }
    return check_unique(s, node, err);
}

static int read_proxies(struct settings *s, const struct yaml_node *node, struct err *err) {
    if (yaml_kind_of(node) != YAML_SEQUENCE || yaml_count(node) > BH_COUNT(s->proxies)) {
        return yaml_error(err, node, "trusted_proxies must be a list of at most %zu addresses",
                          BH_COUNT(s->proxies));
    }
    for (size_t i = 0; i < yaml_count(node); i++) {
        if (!net_parse(yaml_text(yaml_at(node, i)), &s->proxies[i])) {
            return yaml_error(err, yaml_at(node, i),
                              "expected an address or a range of them, such as 10.0.0.7, "
                              "10.0.0.0/24 or fd00::/8, without bits behind its length");
        }
        s->proxy_count++;
    }
    return 0;
}

/* The blocks that say how it runs. */
static int read_parts(struct settings *s, const struct yaml_node *root, struct err *err) {
    int r = 0;
    const struct yaml_node *n = NULL;
    if ((n = yaml_get(root, "journal")) != NULL) {
        r = read_journal(s, n, err);
    }
    if (r == 0 && (n = yaml_get(root, "dedupe")) != NULL) {
        r = read_dedupe(s, n, err);
    }
    if (r == 0 && (n = yaml_get(root, "limits")) != NULL) {
        r = read_limits(s, n, err);
    }
    return r;
}

static int read_root(struct settings *s, const struct yaml_node *root, bool secrets,
                     struct err *err) {
    static const char *const keys[] = {
        "instance", "instance_number", "listen", "data",   "trusted_proxies",
        "key",      "journal",         "dedupe", "limits", "sources"};
    char text[SETTINGS_PATH] = "data";
    char admin[SETTINGS_PATH] = "unix:admin.sock";
    const struct yaml_node *n = NULL;
    uint64_t v = 1;
    if (yaml_kind_of(root) != YAML_MAPPING) {
        return yaml_error(err, root, "bulkhead.yaml must be a mapping");
    }
    int r = yaml_only_keys(root, keys, BH_COUNT(keys), err);
    if (r == 0 && (n = yaml_get(root, "instance")) != NULL) {
        r = copy_name(n, "instance", s->instance, err);
    }
    if (r == 0 && (n = yaml_get(root, "instance_number")) != NULL) {
        r = yaml_u64(n, 1, UINT16_MAX, &v, err);
    }
    s->instance_number = (uint16_t)v;
    if (r == 0 && (n = yaml_get(root, "listen")) != NULL) {
        r = read_listen(s, n, admin, sizeof admin, err);
    }
    if (r == 0 && (n = yaml_get(root, "data")) != NULL) {
        r = copy_text(n, "data", text, sizeof text, err);
    }
    if (r == 0 && absolute(s->dir, text, s->data, sizeof s->data) != 0) {
        r = err_set(err, BH_E_CONFIG, "the path of data is too long");
    }
    if (r == 0 && (n = yaml_get(root, "trusted_proxies")) != NULL) {
        r = read_proxies(s, n, err);
    }
    if (r == 0) {
        n = yaml_get(root, "key");
        r = n == NULL
                ? yaml_error(
                      err, root,
                      "bulkhead.yaml needs a key, such as key: { file: ~/.config/bulkhead/eu-1.key }")
                : read_key(s, n, err);
    }
    r = r == 0 ? read_parts(s, root, err) : r;
    if (r == 0 && (n = yaml_get(root, "sources")) != NULL) {
        r = read_sources(s, n, secrets, err);
    }
    if (r == 0) {
        (void)memcpy(s->listen_admin, "unix:", 6);
        r = absolute(s->data, admin + 5, s->listen_admin + 5, sizeof s->listen_admin - 5) != 0
                ? err_set(err, BH_E_CONFIG, "the admin socket's path is too long")
                : 0;
    }
    return r;
}

static int add_vendor(void *context, const char *name) {
    struct settings *s = context;
    size_t n = strlen(name);
    if (n < 6 || strcmp(name + n - 5, ".yaml") != 0 || name[0] == '.') {
        return 0;
    }
    if (s->vendor_count == LIMIT_VENDORS || n - 5 > LIMIT_NAME) {
        return BH_E_TOO_MANY;
    }
    memcpy(s->vendors[s->vendor_count], name, n - 5);
    s->vendors[s->vendor_count++][n - 5] = '\0';
    return 0;
}

static int compare_names(const void *a, const void *b) {
    return strcmp((const char *)a, (const char *)b);
}

static int list_vendors(struct settings *s, struct err *err) {
    char path[SETTINGS_PATH + 16];
    (void)snprintf(path, sizeof path, "%s/vendors", s->dir);
    int r = os_dir_list(path, add_vendor, s);
    if (r != 0 && r != BH_E_NOTFOUND) {
        return err_set(err, r, "cannot list %s: %s", path, bh_error_text(r));
    }
    qsort(s->vendors, s->vendor_count, sizeof s->vendors[0], compare_names);
    for (unsigned i = 0; i < s->source_count; i++) {
        const struct settings_source *source = &s->sources[i];
        for (unsigned k = 0; k < source->vendor_count; k++) {
            if (bsearch(source->vendors[k], s->vendors, s->vendor_count, sizeof s->vendors[0],
                        compare_names) == NULL) {
                return err_set(
                    err, BH_E_CONFIG,
                    "source %s lists the vendor %s, but there is no file vendors/%s.yaml: write "
                    "the contract, or take the name out of bulkhead.yaml",
                    source->name, source->vendors[k], source->vendors[k]);
            }
        }
    }
    return 0;
}

int settings_load(const char *dir, bool secrets, struct settings **ret_settings, struct err *err) {
    struct settings *s = calloc(1, sizeof *s);
    if (s == NULL) {
        return err_set(err, BH_E_NOMEM, "out of memory");
    }
    (void)memcpy(s->instance, "main", 5);
    (void)snprintf(s->listen_ingest, sizeof s->listen_ingest, "127.0.0.1:8080");
    (void)snprintf(s->listen_health, sizeof s->listen_health, "127.0.0.1:8082");
    s->journal_keep_us = 7ULL * 86400 * 1000000;
    s->journal_segment = 128U << 20;
    s->dedupe_window_s = 86400;
    s->request_bytes = LIMIT_REQUEST_BYTES;
    s->connections = 4096;
    s->connections_per_peer = 1024;
    s->head_timeout_ms = 10000;
    s->body_timeout_ms = 30000;
    s->idle_timeout_ms = 130000; /* longer than common balancers keep theirs: they close first */
    char path[SETTINGS_PATH + 32];
    struct yaml_doc *doc = NULL;
    int r = os_path_real(dir, s->dir, sizeof s->dir);
    if (r != 0) {
        r = err_set(err, r, "there is no folder %s; `bulkhead init` makes one", dir);
    } else {
        (void)snprintf(path, sizeof path, "%s/bulkhead.yaml", s->dir);
        r = os_path_exists(path)
                ? yaml_load(path, &doc, err)
                : err_set(err, BH_E_NOTFOUND,
                          "there is no %s; `bulkhead init` makes one, -c DIR names another folder",
                          path);
    }
    if (r == 0) {
        r = read_root(s, yaml_root(doc), secrets, err);
    }
    if (r == 0) {
        r = list_vendors(s, err);
    }
    yaml_free(doc);
    if (r != 0) {
        settings_free(s);
        return r;
    }
    *ret_settings = s;
    return 0;
}

void settings_free(struct settings *settings) {
    if (settings == NULL) {
        return;
    }
    if (settings->sources != NULL) {
        secret_wipe(settings->sources, settings->source_count * sizeof *settings->sources);
        free(settings->sources);
    }
    free(settings);
}

void settings_vendor_path(const struct settings *settings, const char *vendor, char *out,
                          size_t cap) {
    (void)snprintf(out, cap, "%s/vendors/%s.yaml", settings->dir, vendor);
}

void settings_plan_path(const struct settings *settings, char *out, size_t cap) {
    (void)snprintf(out, cap, "%s/plan.yaml", settings->dir);
}

/* data/numbers: lines "source NUMBER NAME". A line is never removed, so a number never comes back with another meaning. */
static uint16_t number_of(struct span file, const char *name, uint16_t *max) {
    uint16_t found = 0;
    while (file.n != 0) {
        size_t end = span_find_byte(file, '\n');
        struct span line = end == SIZE_MAX ? file : span_cut(file, 0, end);
        file = span_from(file, end == SIZE_MAX ? file.n : end + 1);
        if (!span_starts(line, SPAN_LIT("source "))) {
            continue;
        }
        line = span_from(line, 7);
        size_t space = span_find_byte(line, ' ');
        uint64_t number = 0;
        if (space == SIZE_MAX || !span_to_u64(span_cut(line, 0, space), &number) ||
            number > UINT16_MAX) {
            continue;
        }
        *max = number > *max ? (uint16_t)number : *max;
        found = span_is(span_from(line, space + 1), name) ? (uint16_t)number : found;
    }
    return found;
}

int settings_number(struct settings *settings, bool read_only, struct err *err) {
    char path[SETTINGS_PATH + 16];
    (void)snprintf(path, sizeof path, "%s/numbers", settings->data);
    uint8_t *text = malloc(NUMBERS_FILE_MAX);
    if (text == NULL) {
        return err_set(err, BH_E_NOMEM, "out of memory");
    }
    struct buf file = buf_of(text, NUMBERS_FILE_MAX);
    int r = os_file_read_whole(path, text, NUMBERS_FILE_MAX, &file.n);
    if (r != 0 && r != BH_E_NOTFOUND) {
        free(text);
        return err_set(err, r, "cannot read %s: %s", path, bh_error_text(r));
    }
    bool changed = false;
    for (unsigned i = 0; i < settings->source_count; i++) {
        uint16_t max = 0;
        struct settings_source *source = &settings->sources[i];
        source->number = number_of(buf_span(&file), source->name, &max);
        if (source->number == 0 && max < UINT16_MAX) {
            source->number = (uint16_t)(max + 1);
            buf_printf(&file, "source %u %s\n", source->number, source->name);
            changed = true;
        }
    }
    r = 0;
    if (changed && !read_only) {
        r = os_dir_make(settings->data);
    }
    if (file.full) {
        r = err_set(err, BH_E_TOO_BIG, "%s is full", path);
    } else if (r == 0 && changed && !read_only) {
        r = os_file_replace(path, file.p, file.n, 0600);
        r = r == 0 ? 0 : err_set(err, r, "cannot write %s: %s", path, bh_error_text(r));
    }
    free(text);
    return r;
}
