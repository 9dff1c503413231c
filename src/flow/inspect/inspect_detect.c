/*
 * Detectors of shapes that are not made of digits, in one text: e-mail, credentials in URLs, IPv6
 * and MAC addresses, key=value pairs.
 *
 * Each runs only when the gate saw its characters, starts from the rare one ('@', ':', '=') and
 * looks a bounded way to both sides; no byte is looked at by more than a few starts.
 */
#include "flow/inspect/inspect_int.h"

#include "base/check.h"

enum { LOCAL_PART_MAX = 64, DOMAIN_MAX = 253, PAIR_KEY_MAX = 64, IPV6_MAX = 45 };

/* --- by key --- */

bool detect_by_key(struct inspector *in, enum json_kind kind, struct span text,
                   const struct key_info *info) {
    uint16_t class_id = info->class_id;
    if (class_id == CLASS_NONE || !shape_fits((enum key_shape)info->shape, kind, text)) {
        return false;
    }
    emit_whole(in, class_id, FOUND_BY_KEY);
    return class_is_never_disk(class_id);
}

/* Java and Go write a large double as 4.111111111111111E15, Python as 4111111111111111.0: the number is what counts. */
static bool is_card_number(struct span text) {
    uint8_t digits[24];
    struct buf b = buf_of(digits, sizeof digits);
    int64_t value;
    if (card_valid(text.p, text.n)) {
        return true;
    }
    if (!json_integer(text, &value) || value < 0) {
        return false;
    }
    buf_put_i64_dec(&b, value);
    return card_valid(b.p, b.n);
}

void detect_scalar(struct inspector *in, enum json_kind kind, struct span text,
                   const struct key_info *info) {
    if (!detect_by_key(in, kind, text, info) && kind == JSON_NUMBER && text.n >= 12 &&
        is_card_number(text)) {
        emit_whole(in, CLASS_CREDIT_CARD, FOUND_BY_VALUE);
    }
}

static size_t next_of(struct span text, size_t i, uint8_t c) {
    if (i < text.n && text.p[i] == c) {
        return i;
    }
    size_t next = span_find_byte(span_from(text, i), c);
    return next == SIZE_MAX ? text.n : i + next;
}

/* --- e-mail --- */

static bool local_char(uint8_t c) {
    return is_alnum(c) || c >= 0x80 || c == '.' || c == '_' || c == '-' || c == '+' || c == '\'';
}

static bool domain_char(uint8_t c) {
    return is_alnum(c) || c >= 0x80 || c == '.' || c == '-';
}

/* "logo@2x.png" is a picture for dense screens. */
static bool is_scaled_image(struct span domain) {
    return domain.n >= 5 && is_digit(domain.p[0]) && domain.p[1] == 'x' && domain.p[2] == '.';
}

static bool domain_valid(struct span domain) {
    size_t dot = SIZE_MAX;
    for (size_t i = 0; i < domain.n; i++) {
        if (domain.p[i] != '.') {
            continue;
        }
        if (i == 0 || domain.p[i - 1] == '.' || domain.p[i - 1] == '-') {
            return false;
        }
        dot = i;
    }
    if (dot == SIZE_MAX || domain.p[0] == '-') {
        return false;
    }
    struct span top = span_from(domain, dot + 1);
    if (top.n < 2 || is_scaled_image(domain)) {
        return false;
    }
    if (top.n > 4 && memcmp(top.p, "xn--", 4) == 0) {
        return true;
    }
    for (size_t i = 0; i < top.n; i++) {
        if (!is_alpha(top.p[i]) && top.p[i] < 0x80) {
            return false;
        }
    }
    return true;
}

static bool userinfo_char(uint8_t c) {
    return c > ' ' && c != '/' && c != '?' && c != '#' && c != '"' && c != '<' && c != '>' &&
           c != 0x7f;
}

/* Whether the '@' whose local part begins at `start` ends the password of a URL. */
static bool in_userinfo(struct span text, size_t start) {
    if (start == 0 || text.p[start - 1] != ':') {
        return false;
    }
    size_t i = start - 1;
    while (i > 0 && start - i < (size_t)2 * LOCAL_PART_MAX && userinfo_char(text.p[i - 1]) &&
           text.p[i - 1] != '@') {
        i--;
    }
    return i >= 2 && text.p[i - 1] == '/' && text.p[i - 2] == '/';
}

static void detect_email(struct inspector *in, struct span text, size_t at) {
    size_t start = at;
    while (start > 0 && at - start < LOCAL_PART_MAX && local_char(text.p[start - 1])) {
        start--;
    }
    while (start < at && (text.p[start] == '.' || text.p[start] == '-' || text.p[start] == '\'' ||
                          text.p[start] == '+')) {
        start++;
    }
    if (start == at || text.p[at - 1] == '.') {
        return;
    }
    size_t end = at + 1;
    while (end < text.n && end - at <= DOMAIN_MAX && domain_char(text.p[end])) {
        end++;
    }
    while (end > at + 1 && (text.p[end - 1] == '.' || text.p[end - 1] == '-')) {
        end--;
    }
    if (!domain_valid(span_cut(text, at + 1, end - at - 1))) {
        return;
    }
    bool ssh_remote = at - start == 3 && memcmp(text.p + start, "git", 3) == 0 && end < text.n &&
                      text.p[end] == ':';
    if (!ssh_remote && !in_userinfo(text, start)) {
        emit(in, CLASS_EMAIL, FOUND_BY_VALUE, start, end - start);
    }
}

/* --- credentials in URLs --- */

/*
 * scheme://user:password@host, with the authority's start at `start`. The last '@' before the path
 * ends the user info.
 */
static void detect_userinfo(struct inspector *in, struct span text, size_t start, size_t *ret_end) {
    size_t end = start;
    size_t at = SIZE_MAX;
    size_t colon = SIZE_MAX;
    while (end < text.n && userinfo_char(text.p[end])) {
        if (text.p[end] == '@') {
            at = end;
        } else if (text.p[end] == ':' && colon == SIZE_MAX && at == SIZE_MAX) {
            colon = end;
        }
        end++;
    }
    *ret_end = end;
    if (at == SIZE_MAX) {
        return;
    }
    if (colon != SIZE_MAX && colon + 1 < at) {
        emit(in, CLASS_CREDENTIALS, FOUND_BY_VALUE, colon + 1, at - colon - 1);
        return;
    }
    size_t user_end = colon != SIZE_MAX ? colon : at;
    if (user_end - start >= 16 || (colon != SIZE_MAX && user_end > start)) {
        emit(in, CLASS_CREDENTIALS, FOUND_BY_VALUE, start, user_end - start);
    }
}

static void detect_at_signs(struct inspector *in, struct span text) {
    for (size_t at = next_of(text, 0, '@'); at < text.n; at = next_of(text, at + 1, '@')) {
        detect_email(in, text, at);
    }
    for (size_t i = 0; i + 3 < text.n;) {
        size_t next = span_find(span_from(text, i), SPAN_LIT("://"));
        if (next == SIZE_MAX) {
            break;
        }
        size_t end = 0;
        detect_userinfo(in, text, i + next + 3, &end);
        i = end;
    }
}

/* --- IPv6 and MAC --- */

struct colon_groups {
    unsigned groups; /* of hex digits */
    unsigned pairs;  /* groups of exactly two digits */
    unsigned hex_digits;
    unsigned gaps; /* "::" */
    bool has_digit;
    bool dotted; /* ends in an IPv4 address */
    bool bad;
};

static struct colon_groups colon_groups(struct span s) {
    struct colon_groups g = {0, 0, 0, 0, false, false, false};
    unsigned length = 0;
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] == '.') {
            g.dotted = true; /* the last group was the first octet */
            break;
        }
        if (s.p[i] != ':') {
            length++;
            g.hex_digits++;
            g.has_digit |= is_digit(s.p[i]);
        }
        if (i + 1 == s.n || s.p[i] == ':') {
            g.groups += length > 0;
            g.pairs += length == 2;
            g.bad |= length > 4;
            length = 0;
        }
        g.gaps += i + 1 < s.n && s.p[i] == ':' && s.p[i + 1] == ':';
    }
    return g;
}

/* One run of hex digits, colons and dots. */
static void detect_colon_run(struct inspector *in, struct span text, size_t start, size_t end) {
    while (end > start && text.p[end - 1] == '.') {
        end--;
    }
    struct span run = span_cut(text, start, end - start);
    struct colon_groups g = colon_groups(run);
    if (g.bad || g.gaps > 1) {
        return;
    }
    if (g.groups == 6 && g.pairs == 6 && g.gaps == 0 && !g.dotted && run.n == 17) {
        emit(in, CLASS_DEVICE_ID, FOUND_BY_VALUE, start, end - start);
        return;
    }
    unsigned needed = g.dotted ? 6 : 8;
    bool full = g.gaps == 0 && g.groups == needed && run.p[0] != ':';
    /* "std::cc" and "::1" (this machine) are no one's address. */
    bool shortened =
        g.gaps == 1 && g.groups < needed &&
        (g.dotted || (g.groups >= 2 && g.hex_digits >= 4 && (g.has_digit || g.groups >= 4)));
    if (full || shortened) {
        emit(in, CLASS_IP_ADDRESS, FOUND_BY_VALUE, start, end - start);
    }
}

static void detect_colons(struct inspector *in, struct span text) {
    for (size_t i = 0; i < text.n;) {
        if (hex_digit_value(text.p[i]) < 0 && text.p[i] != ':') {
            i++;
            continue;
        }
        size_t start = i;
        unsigned colons = 0;
        while (i < text.n && (hex_digit_value(text.p[i]) >= 0 || text.p[i] == ':' ||
                              (text.p[i] == '.' && colons >= 2))) {
            colons += text.p[i] == ':';
            i++;
        }
        bool bounded = (start == 0 || !(is_alnum(text.p[start - 1]) || text.p[start - 1] == '_')) &&
                       (i == text.n || !(is_alnum(text.p[i]) || text.p[i] == '_'));
        if (colons >= 2 && bounded && i - start <= IPV6_MAX + 1) {
            /* "addr:fe80::1" and a trailing colon of a sentence are not part of it. */
            size_t end = i;
            if (text.p[end - 1] == ':' && end - start >= 2 && text.p[end - 2] != ':') {
                end--;
            }
            if (text.p[start] == ':' && start + 1 < end && text.p[start + 1] != ':') {
                start++;
            }
            detect_colon_run(in, text, start, end);
        }
    }
}

/* --- key=value and "key": value in text --- */

/*
 * Forms write user[password]=; before a colon a bracket closes something else
 * ("input[type=password]:focus").
 */
static bool pair_key_char(uint8_t c, bool colon) {
    return is_alnum(c) || c >= 0x80 || c == '_' || c == '-' || c == '.' || c == '$' ||
           (!colon && (c == '[' || c == ']'));
}

/* Past quotes, brackets and further '='; two of those compare and do not assign. */
static size_t skip_value_opening(struct span text, size_t i, bool after_colon) {
    size_t limit = i + 4;
    while (i < text.n && i < limit &&
           (text.p[i] == '"' || text.p[i] == '\'' || text.p[i] == '\\' || text.p[i] == '=' ||
            ((after_colon || text.p[i] == '[') && (text.p[i] == ' ' || text.p[i] == '[')))) {
        i++;
    }
    return i;
}

static bool value_ends(uint8_t c, uint8_t quote) {
    if (quote != 0) {
        return c == quote;
    }
    return c <= ' ' || c == '&' || c == ';' || c == '"' || c == '\'' || c == '<' || c == '>' ||
           c == ',' || c == '}';
}

static size_t value_end(struct span text, size_t i, uint8_t quote) {
    while (i < text.n && !value_ends(text.p[i], quote)) {
        i++;
    }
    if (quote != 0 && i > 0 && i < text.n && text.p[i - 1] == '\\') {
        i--;
    }
    return i;
}

/* "Authorization: Bearer x": the word names a scheme, the credential follows. */
static size_t extend_scheme(struct span text, size_t start, size_t end) {
    static const char *const schemes[] = {"bearer", "basic", "token", "digest", "apikey"};
    for (size_t i = 0; i < BH_COUNT(schemes); i++) {
        if (span_equal_nocase(span_cut(text, start, end - start), span_str(schemes[i])) &&
            end + 1 < text.n && text.p[end] == ' ') {
            return value_end(text, end + 1, 0);
        }
    }
    return end;
}

/* The pair whose '=' or ':' is at `at`; returns where to go on. */
static size_t detect_pair(struct inspector *in, struct span text, size_t at) {
    bool colon = text.p[at] == ':';
    size_t key_end = at;
    while (key_end > 0 && at - key_end < 3 &&
           (text.p[key_end - 1] == '"' || text.p[key_end - 1] == '\'' ||
            text.p[key_end - 1] == '\\' || text.p[key_end - 1] == ' ')) {
        key_end--;
    }
    size_t key_start = key_end;
    while (key_start > 0 && key_end - key_start < PAIR_KEY_MAX &&
           pair_key_char(text.p[key_start - 1], colon)) {
        key_start--;
    }
    if (key_end - key_start < KEY_PHRASE_MIN) {
        return at + 1;
    }
    struct span key = span_cut(text, key_start, key_end - key_start);
    struct key_place at_text = key_place(NULL, PLACE_NONE, false);
    struct key_info info = *key_lookup_slow(&in->keys, &at_text, key, text.p + text.n);
    /* "Note: value" is prose; what must never be on disk is looked for there all the same. */
    if (info.class_id == CLASS_NONE || (colon && !class_is_never_disk(info.class_id))) {
        return at + 1;
    }
    size_t start = skip_value_opening(text, at + 1, colon);
    uint8_t quote = start > at + 1 && (text.p[start - 1] == '"' || text.p[start - 1] == '\'')
                        ? text.p[start - 1]
                        : 0;
    size_t end = value_end(text, start, quote);
    if (quote == 0) {
        end = extend_scheme(text, start, end);
    }
    if (end > start &&
        shape_fits((enum key_shape)info.shape, JSON_STRING, span_cut(text, start, end - start))) {
        emit(in, info.class_id, FOUND_BY_KEY, start, end - start);
        return end;
    }
    return at + 1;
}

static void detect_pairs(struct inspector *in, struct span text, unsigned features) {
    size_t equals = (features & HAS_EQUALS) != 0 ? next_of(text, 0, '=') : text.n;
    size_t colon = (features & HAS_COLON) != 0 ? next_of(text, 0, ':') : text.n;
    while ((equals < text.n || colon < text.n) && in->error == 0) {
        size_t next = detect_pair(in, text, equals < colon ? equals : colon);
        equals = equals < next ? next_of(text, next, '=') : equals;
        colon = colon < next ? next_of(text, next, ':') : colon;
    }
}

void detect_text(struct inspector *in, struct span text, const struct key_info *info,
                 unsigned features) {
    if ((features & HAS_AT) != 0) {
        detect_at_signs(in, text);
    }
    if ((features & HAS_COLONS) != 0) {
        detect_colons(in, text);
    }
    if ((features & (HAS_EQUALS | HAS_COLON)) != 0) {
        detect_pairs(in, text, features);
    }
    if ((features & HAS_DIGITS) != 0) {
        detect_numbers(in, text, info);
    }
}
