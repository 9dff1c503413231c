#include "engine/tlog/tlog.h"

#include "base/check.h"

/*
 * A note is text, an empty line, and signature lines; the text of a checkpoint is
 *
 *     origin \n size \n base64(root) \n [further lines, ignored]
 *     \n
 *     — name base64(4 bytes of key id, 64 bytes of signature) \n
 *
 * Every signature covers the text with its last newline.
 */

enum {
    ALGORITHM_ED25519 = 1,
    KEY_ID_SIZE = 4,
    SIGNATURE_BYTES = KEY_ID_SIZE + SIGNATURE_SIZE,      /* 68 */
    SIGNATURE_TEXT_SIZE = (SIGNATURE_BYTES + 2) / 3 * 4, /* 92 */
    VKEY_BYTES = 1 + SIGN_PUBLIC_SIZE,
};

/* Em dash and a space. */
#define SIGNATURE_START SPAN_LIT("\xe2\x80\x94 ")

static bool name_is_good(struct span name) {
    if (name.n == 0 || name.n > TLOG_NAME_MAX) {
        return false;
    }
    for (size_t i = 0; i < name.n; i++) {
        if (name.p[i] <= ' ' || name.p[i] >= 0x7f || name.p[i] == '+') {
            return false;
        }
    }
    return true;
}

static void key_id(struct span name, const uint8_t public_key[SIGN_PUBLIC_SIZE],
                   uint8_t ret_id[KEY_ID_SIZE]) {
    static const uint8_t separator[2] = {'\n', ALGORITHM_ED25519};
    struct span parts[] = {name, span_of(separator, sizeof separator),
                           span_of(public_key, SIGN_PUBLIC_SIZE)};
    uint8_t hash[SHA256_SIZE];
    sha256_parts(parts, BH_COUNT(parts), hash);
    memcpy(ret_id, hash, KEY_ID_SIZE);
}

static void put_base64(struct buf *b, const uint8_t *p, size_t n) {
    size_t text_size = (n + 2) / 3 * 4;
    uint8_t *at = buf_room(b, text_size);
    if (at != NULL) {
        size_t written = 0;
        int code = base64_encode(span_of(p, n), at, text_size, &written);
        check(code == 0 && written == text_size);
    }
}

int tlog_checkpoint_sign(const char *origin, uint64_t size, const struct tlog_hash *root,
                         const char *name, const uint8_t secret[SIGN_SECRET_SIZE],
                         const uint8_t public_key[SIGN_PUBLIC_SIZE], struct buf *b) {
    if (!name_is_good(span_str(origin)) || !name_is_good(span_str(name))) {
        return BH_E_SYNTAX;
    }
    size_t start = b->n;
    buf_put_str(b, origin);
    buf_put_byte(b, '\n');
    buf_put_u64_dec(b, size);
    buf_put_byte(b, '\n');
    put_base64(b, root->b, sizeof root->b);
    buf_put_byte(b, '\n');
    if (b->full) {
        return BH_E_FULL;
    }
    uint8_t signature[SIGNATURE_BYTES];
    key_id(span_str(name), public_key, signature);
    sign_detached(secret, span_of(b->p + start, b->n - start), signature + KEY_ID_SIZE);
    buf_put_byte(b, '\n');
    buf_put_span(b, SIGNATURE_START);
    buf_put_str(b, name);
    buf_put_byte(b, ' ');
    put_base64(b, signature, sizeof signature);
    buf_put_byte(b, '\n');
    return b->full ? BH_E_FULL : 0;
}

/* The next line without its newline; false when none is left or it does not end. */
static bool take_line(struct span *rest, struct span *ret_line) {
    size_t end = span_find_byte(*rest, '\n');
    if (end == SIZE_MAX) {
        return false;
    }
    *ret_line = span_cut(*rest, 0, end);
    *rest = span_from(*rest, end + 1);
    return true;
}

/* Exactly `size` bytes, in the one spelling that encoding them gives. */
static bool exact_base64(struct span text, uint8_t *out, size_t size) {
    uint8_t again[SIGNATURE_TEXT_SIZE];
    size_t n = 0;
    size_t text_size = 0;
    if (text.n != (size + 2) / 3 * 4 || text.n > sizeof again) {
        return false;
    }
    return base64_decode(text, out, size, &n) == 0 && n == size &&
           base64_encode(span_of(out, n), again, sizeof again, &text_size) == 0 &&
           span_equal(span_of(again, text_size), text);
}

/* Splits at the last empty line. Control bytes have no place in a note. */
static bool split_note(struct span note, struct span *ret_text, struct span *ret_signatures) {
    if (note.n < 2 || note.n > TLOG_NOTE_MAX || note.p[note.n - 1] != '\n') {
        return false;
    }
    size_t at = SIZE_MAX;
    for (size_t i = 0; i < note.n; i++) {
        if (note.p[i] < ' ' && note.p[i] != '\n') {
            return false;
        }
        if (i != 0 && note.p[i] == '\n' && note.p[i - 1] == '\n') {
            at = i;
        }
    }
    if (at == SIZE_MAX) {
        return false;
    }
    *ret_text = span_cut(note, 0, at);
    *ret_signatures = span_from(note, at + 1);
    return true;
}

static bool parse_text(struct span text, struct tlog_checkpoint *ret_checkpoint) {
    struct span size;
    struct span root;
    struct tlog_checkpoint parsed;
    if (!take_line(&text, &parsed.origin) || !take_line(&text, &size) || !take_line(&text, &root)) {
        return false;
    }
    bool leading_zero = size.n > 1 && size.p[0] == '0';
    if (parsed.origin.n == 0 || parsed.origin.n > TLOG_NAME_MAX || leading_zero ||
        !span_to_u64(size, &parsed.size) ||
        !exact_base64(root, parsed.root.b, sizeof parsed.root.b)) {
        return false;
    }
    *ret_checkpoint = parsed;
    return true;
}

struct signature {
    struct span name;
    struct span text; /* base64 */
};

static bool next_signature(struct span *rest, struct signature *ret_signature) {
    struct span line;
    if (!take_line(rest, &line) || !span_starts(line, SIGNATURE_START)) {
        return false;
    }
    line = span_from(line, SIGNATURE_START.n);
    size_t space = span_find_byte(line, ' ');
    if (space == SIZE_MAX) {
        return false;
    }
    ret_signature->name = span_cut(line, 0, space);
    ret_signature->text = span_from(line, space + 1);
    return ret_signature->name.n != 0 && ret_signature->text.n != 0;
}

int tlog_checkpoint_parse(struct span note, struct tlog_checkpoint *ret_checkpoint) {
    struct span text;
    struct span signatures;
    struct tlog_checkpoint parsed;
    if (!split_note(note, &text, &signatures) || !parse_text(text, &parsed)) {
        return BH_E_SYNTAX;
    }
    unsigned count = 0;
    while (signatures.n != 0) {
        struct signature signature;
        if (!next_signature(&signatures, &signature) || ++count > TLOG_SIGNATURES_MAX) {
            return BH_E_SYNTAX;
        }
    }
    if (count == 0) {
        return BH_E_SYNTAX;
    }
    *ret_checkpoint = parsed;
    return 0;
}

int tlog_checkpoint_verify(struct span note, const char *name,
                           const uint8_t public_key[SIGN_PUBLIC_SIZE],
                           struct tlog_checkpoint *ret_checkpoint) {
    struct tlog_checkpoint parsed;
    int code = tlog_checkpoint_parse(note, &parsed);
    if (code != 0) {
        return code;
    }
    struct span text;
    struct span rest;
    uint8_t id[KEY_ID_SIZE];
    bool found = false;
    struct signature signature;
    key_id(span_str(name), public_key, id);
    bool split = split_note(note, &text, &rest);
    check(split);
    while (rest.n != 0 && next_signature(&rest, &signature)) {
        uint8_t bytes[SIGNATURE_BYTES];
        /* Another key's line may have any length; only one that claims to be ours is judged. */
        if (!span_is(signature.name, name) || !exact_base64(signature.text, bytes, sizeof bytes) ||
            memcmp(bytes, id, KEY_ID_SIZE) != 0) {
            continue;
        }
        if (!sign_verify(public_key, text, bytes + KEY_ID_SIZE)) {
            return BH_E_TAMPERED;
        }
        found = true;
    }
    if (!found) {
        return BH_E_TAMPERED;
    }
    *ret_checkpoint = parsed;
    return 0;
}

int tlog_vkey_write(const char *name, const uint8_t public_key[SIGN_PUBLIC_SIZE], struct buf *b) {
    uint8_t id[KEY_ID_SIZE];
    uint8_t key[VKEY_BYTES];
    if (!name_is_good(span_str(name))) {
        return BH_E_SYNTAX;
    }
    key_id(span_str(name), public_key, id);
    key[0] = ALGORITHM_ED25519;
    memcpy(key + 1, public_key, SIGN_PUBLIC_SIZE);
    buf_put_str(b, name);
    buf_put_byte(b, '+');
    buf_put_hex(b, id, sizeof id);
    buf_put_byte(b, '+');
    put_base64(b, key, sizeof key);
    return b->full ? BH_E_FULL : 0;
}

int tlog_vkey_parse(struct span vkey, char ret_name[TLOG_NAME_MAX + 1],
                    uint8_t ret_public_key[SIGN_PUBLIC_SIZE]) {
    size_t plus = span_find_byte(vkey, '+');
    struct span name = span_cut(vkey, 0, plus);
    if (plus == SIZE_MAX || !name_is_good(name)) {
        return BH_E_SYNTAX;
    }
    struct span hex = span_cut(vkey, plus + 1, 2 * (size_t)KEY_ID_SIZE + 1);
    struct span text = span_from(vkey, plus + 1 + hex.n);
    uint8_t key[VKEY_BYTES];
    if (!exact_base64(text, key, sizeof key) || key[0] != ALGORITHM_ED25519) {
        return BH_E_SYNTAX;
    }
    uint8_t id[KEY_ID_SIZE];
    uint8_t id_text[2 * KEY_ID_SIZE + 1];
    struct buf b = buf_of(id_text, sizeof id_text);
    key_id(name, key + 1, id);
    buf_put_hex(&b, id, sizeof id);
    buf_put_byte(&b, '+');
    if (!span_equal(buf_span(&b), hex)) {
        return BH_E_TAMPERED;
    }
    memcpy(ret_name, name.p, name.n);
    ret_name[name.n] = 0;
    memcpy(ret_public_key, key + 1, SIGN_PUBLIC_SIZE);
    return 0;
}
