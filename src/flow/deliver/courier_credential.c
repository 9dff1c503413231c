/* The credentials of the vendor and its proxy: read when they are needed, kept in guarded memory, never written or logged. */
#include <stdio.h>

#include "crypto/crypto.h"
#include "flow/deliver/deliver_int.h"
#include "os/env.h"
#include "os/file.h"

static int read_file(const char *path, uint8_t *out, size_t *ret_n, struct err *err) {
    int r = os_file_read_whole(path, out, CREDENTIAL_MAX, ret_n);
    return r == 0 ? 0 : err_set(err, BH_E_KEY, "credential file %s: %s", path, bh_error_text(r));
}

static int read_systemd(const char *name, uint8_t *out, size_t *ret_n, struct err *err) {
    char path[COURIER_PATH];
    const char *folder = os_env("CREDENTIALS_DIRECTORY");
    if (folder == NULL) {
        return err_set(err, BH_E_KEY, "credential %s: systemd gave no credentials to this process",
                       name);
    }
    int n = snprintf(path, sizeof path, "%s/%s", folder, name);
    if (n < 0 || (size_t)n >= sizeof path) {
        return err_set(err, BH_E_KEY, "credential %s: its path is too long", name);
    }
    return read_file(path, out, ret_n, err);
}

static int read_env(const char *name, const char *whose, uint8_t *out, size_t *ret_n,
                    struct err *err) {
    const char *value = os_env(name);
    if (value == NULL) {
        return err_set(err, BH_E_KEY,
                       "environment variable %s, the %s's credential, is not set where the "
                       "daemon runs; set it there and start the daemon again",
                       name, whose);
    }
    *ret_n = strlen(value);
    if (*ret_n > CREDENTIAL_MAX) {
        return err_set(err, BH_E_KEY, "environment variable %s is too long for a credential", name);
    }
    memcpy(out, value, *ret_n);
    return 0;
}

static int read_source(enum credential_kind kind, const char *name, const char *whose, uint8_t *out,
                       size_t *ret_n, struct err *err) {
    switch (kind) {
    case CREDENTIAL_ENV:
        return read_env(name, whose, out, ret_n, err);
    case CREDENTIAL_FILE:
        return read_file(name, out, ret_n, err);
    case CREDENTIAL_SYSTEMD:
        return read_systemd(name, out, ret_n, err);
    case CREDENTIAL_NONE:
        break;
    }
    return err_set(err, BH_E_KEY, "the contract names no credential");
}

/* ops: of the connector whose credential it is; NULL: the proxy's, which has any form. */
static int read_one(enum credential_kind kind, const char *name, const char *whose,
                    const struct protocol_ops *ops, struct credential *credential,
                    bool *ret_changed, struct err *err) {
    uint8_t *next = secret_new(CREDENTIAL_MAX);
    size_t n = 0;
    if (next == NULL) {
        return err_set(err, BH_E_NOMEM, "out of memory");
    }
    int r = read_source(kind, name, whose, next, &n, err);
    struct span text = span_trim(span_of(next, n));
    if (r == 0 && text.n == 0) {
        r = err_set(err, BH_E_KEY, "the %s's credential %s is empty", whose, name);
    }
    if (r == 0 && ops != NULL && ops->is_credential != NULL && !ops->is_credential(text)) {
        r = err_set(err, BH_E_KEY, "the vendor's credential %s is not what connector %s needs: %s",
                    name, ops->name, ops->credential_form);
    }
    if (r != 0) {
        secret_free(next);
        return r;
    }
    memmove(next, text.p, text.n); /* not empty by now */
    *ret_changed |= credential->bytes == NULL || credential->n != text.n ||
                    !secret_equal(credential->bytes, next, text.n);
    secret_free(credential->bytes);
    *credential = (struct credential){next, text.n};
    return 0;
}

int credentials_read(const struct rules *rules, struct credential *vendor, struct credential *proxy,
                     bool *ret_changed, struct err *err) {
    const struct contract_egress *egress = &rules->egress;
    *ret_changed = false;
    int r = read_one(rules->credential_kind, rules->credential_name, "vendor", rules->ops, vendor,
                     ret_changed, err);
    if (egress->proxy_credential_kind == CREDENTIAL_NONE) {
        secret_free(proxy->bytes);
        *proxy = (struct credential){NULL, 0};
        return r;
    }
    return r == 0 ? read_one(egress->proxy_credential_kind, egress->proxy_credential, "proxy", NULL,
                             proxy, ret_changed, err)
                  : r;
}
