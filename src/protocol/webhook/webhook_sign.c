/*
 * Standard Webhooks 1.0, symmetric: HMAC-SHA-256 of "id.timestamp.body", one signature for each secret.
 *
 * The id is of vendor and body, so it stays when the same body is tried again, and a receiver that has seen it may pass it over.
 */
#include <stdio.h>

#include "crypto/crypto.h"
#include "protocol/webhook/webhook_int.h"

enum { SECRETS_MAX = 2, SECRET_MIN = 24, SECRET_MAX = 64, ID_BYTES = 16, SIGNATURE_TEXT = 44 };

static bool is_space(uint8_t c) {
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* The next word of `rest`; empty = none is left. */
static struct span next_word(struct span *rest) {
    size_t from = 0;
    while (from < rest->n && is_space(rest->p[from])) {
        from++;
    }
    size_t to = from;
    while (to < rest->n && !is_space(rest->p[to])) {
        to++;
    }
    struct span word = span_cut(*rest, from, to - from);
    *rest = span_from(*rest, to);
    return word;
}

static bool read_secret(struct span word, uint8_t key[SECRET_MAX], size_t *ret_n) {
    const struct span prefix = SPAN_LIT("whsec_");
    *ret_n = 0;
    return span_starts(word, prefix) &&
           base64_decode(span_from(word, prefix.n), key, SECRET_MAX, ret_n) == 0 &&
           *ret_n >= SECRET_MIN;
}

bool webhook_is_credential(struct span credential) {
    uint8_t key[SECRET_MAX];
    unsigned count = 0;
    bool good = true;
    for (;;) {
        size_t n;
        struct span word = next_word(&credential);
        if (word.n == 0) {
            break;
        }
        good = read_secret(word, key, &n) && good;
        count++;
    }
    secret_wipe(key, sizeof key);
    return good && count >= 1 && count <= SECRETS_MAX;
}

static void make_id(const struct protocol_signing *s, char id[4 + 2 * ID_BYTES + 1]) {
    const struct span parts[] = {s->vendor, span_of("", 1), s->body};
    uint8_t sha[SHA256_SIZE];
    sha256_parts(parts, sizeof parts / sizeof parts[0], sha);
    struct buf b = buf_of(id, 4 + 2 * ID_BYTES + 1); /* printf needs room for its zero */
    buf_put_str(&b, "msg_");
    for (size_t i = 0; i < ID_BYTES; i++) {
        buf_printf(&b, "%02x", sha[i]);
    }
    id[b.n] = '\0';
}

static int put_signature(struct span word, const struct span *parts, size_t count,
                         struct buf *out) {
    uint8_t secret[SECRET_MAX];
    uint8_t text[SIGNATURE_TEXT];
    uint8_t mac[SHA256_SIZE];
    size_t n = 0;
    struct hmac_key *key = read_secret(word, secret, &n) ? hmac_key_new(secret, n) : NULL;
    secret_wipe(secret, sizeof secret);
    if (key == NULL) {
        return BH_E_KEY;
    }
    hmac_sha256(key, parts, count, mac);
    hmac_key_free(key);
    int r = base64_encode(span_of(mac, sizeof mac), text, sizeof text, &n);
    buf_put_str(out, " v1,");
    buf_put(out, text, n);
    return r;
}

int webhook_put_signatures(struct span credential, struct span id, struct span time,
                           struct span body, struct buf *out) {
    const struct span parts[] = {id, SPAN_LIT("."), time, SPAN_LIT("."), body};
    int r = webhook_is_credential(credential) ? 0 : BH_E_KEY;
    for (struct span word = next_word(&credential); r == 0 && word.n != 0;
         word = next_word(&credential)) {
        r = put_signature(word, parts, sizeof parts / sizeof parts[0], out);
    }
    return r;
}

int webhook_sign(const struct protocol_signing *signing, struct buf *out) {
    char id[4 + 2 * ID_BYTES + 1];
    char time[24];
    make_id(signing, id);
    (void)snprintf(time, sizeof time, "%lld", (long long)(signing->time_ms / 1000));
    buf_printf(out, "webhook-id: %s\nwebhook-timestamp: %s\nwebhook-signature:", id, time);
    int r = webhook_put_signatures(signing->credential, span_str(id), span_str(time), signing->body,
                                   out);
    buf_put_byte(out, '\n');
    return r != 0 ? r : out->full ? BH_E_FULL : 0;
}
