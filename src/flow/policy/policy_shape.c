/*
 * Shapes: what a value looks like in its form, as pieces of the source and literal bytes in between.
 *
 * A piece knows where in the source it comes from, so that what was found elsewhere in the value (an address in the query of a URL) stops
 * binding when the form has removed it, and binds when it has not.
 */
#include "base/check.h"
#include "base/date.h"
#include "flow/policy/policy_int.h"

#define ELLIPSIS "\xe2\x80\xa6"

static bool add_literal(struct shape *shape, struct span bytes) {
    if (shape->count == PIECES_MAX) {
        return false;
    }
    shape->pieces[shape->count++] = (struct piece){bytes, UINT32_MAX};
    return true;
}

/* source[from, from + n); joined to the piece before where they touch. */
static bool add_source(struct shape *shape, struct span source, size_t from, size_t n) {
    if (n == 0) {
        return true;
    }
    struct piece *last = shape->count != 0 ? &shape->pieces[shape->count - 1] : NULL;
    if (last != NULL && last->start != UINT32_MAX && last->start + last->bytes.n == from) {
        last->bytes.n += n;
        return true;
    }
    if (shape->count == PIECES_MAX) {
        return false;
    }
    shape->pieces[shape->count++] = (struct piece){span_cut(source, from, n), (uint32_t)from};
    return true;
}

static bool whole(struct shape *shape, struct span value) {
    return add_source(shape, value, 0, value.n);
}

/* -- times ----------------------------------------------------------------------------------------- */

int64_t time_floor(int64_t ms, uint8_t precision) {
    int64_t unit = (int64_t)time_precision_ms((enum time_precision)precision);
    int64_t rest = ms % unit;
    return ms - (rest < 0 ? rest + unit : rest);
}

void time_put_iso(int64_t ms, uint8_t precision, struct buf *out) {
    date_put_time(time_floor(ms, precision), precision == TIME_MS, out);
}

/* A number stays a number of its own scale, a text a text; a date alone is coarse already. */
static bool shape_time(struct policy *p, enum json_kind kind, struct span value,
                       struct shape *shape) {
    int64_t ms;
    if (kind == JSON_NULL || !field_time_ms(kind, value, &ms)) {
        return whole(shape, value);
    }
    if (p->time == TIME_MS || (kind == JSON_STRING && value.n == 10 && value.p[4] == '-')) {
        return whole(shape, value);
    }
    struct buf out = buf_of(p->shaped, sizeof p->shaped);
    double number = 0;
    if (json_number(value, &number)) {
        bool is_ms = number > 1e11;
        int64_t floored = time_floor(ms, p->time);
        buf_put_i64_dec(&out, is_ms ? floored : floored / 1000);
    } else {
        time_put_iso(ms, p->time, &out);
    }
    shape->is_same = false;
    return add_literal(shape, buf_span(&out));
}

static bool shape_date(struct policy *p, enum json_kind kind, struct span value, uint8_t level,
                       struct shape *shape) {
    int64_t ms;
    if (!field_time_ms(kind, value, &ms)) {
        return false;
    }
    struct buf out = buf_of(p->shaped, sizeof p->shaped);
    date_put(date_days_of_ms(ms), &out);
    shape->is_string = true;
    return add_literal(shape, span_cut(buf_span(&out), 0, level == LEVEL_YEAR ? 4 : 10));
}

/* -- URLs ------------------------------------------------------------------------------------------ */

struct url {
    size_t scheme_size; /* with "://" */
    size_t host_start;
    size_t host_size; /* without port */
    size_t authority_end;
};

static const struct ascii_set host_bytes =
    ASCII_WORDS(ASCII_BIT('.') | ASCII_BIT('-') | ASCII_BIT(':'),
                ASCII_BIT('_') | ASCII_BIT('[') | ASCII_BIT(']'));
static const struct ascii_set authority_ends = {
    {ASCII_BIT('/') | ASCII_BIT('?') | ASCII_BIT('#'), ASCII_BIT('\\'), 0, 0}};

static bool url_split(struct span value, struct url *ret_url) {
    size_t scheme = span_find(value, SPAN_LIT("://"));
    if (scheme == SIZE_MAX || scheme == 0 || scheme > 20) {
        return false;
    }
    size_t start = scheme + 3;
    size_t end = start;
    size_t host = start;
    for (; end < value.n && !ascii_in(&authority_ends, value.p[end]); end++) {
        if (value.p[end] == '@') {
            host = end + 1; /* user and password stay here */
        }
    }
    size_t host_end = end;
    for (size_t i = host; i < end; i++) {
        if (!ascii_in(&host_bytes, value.p[i])) {
            return false;
        }
        if (value.p[i] == ':' && value.p[end - 1] != ']') {
            host_end = i;
        }
    }
    if (host_end - host == 0 || host_end - host > 253) {
        return false;
    }
    *ret_url = (struct url){start, host, host_end - host, end};
    return true;
}

struct span url_host(struct span url) {
    struct url parts;
    return url_split(url, &parts) ? span_cut(url, parts.host_start, parts.host_size) : SPAN_NONE;
}

static bool is_file_ending(struct span s) {
    static const char *const endings[] = {"html", "htm",  "php", "aspx", "jsp", "js",
                                          "css",  "json", "xml", "txt",  "pdf"};
    for (size_t i = 0; i < BH_COUNT(endings); i++) {
        if (span_is(s, endings[i])) {
            return true;
        }
    }
    return false;
}

/*
 * Whether a part of a path is a word and no id. Words have letters, single - or _ between them, at most one digit (v2, step-3: two where v
 * stands before), no more than two changes to a capital, and a dot only before the ending of a file. All else might name someone.
 */
static bool is_word_segment(struct span s) {
    size_t dot = span_find_byte(s, '.');
    if (dot != SIZE_MAX) {
        if (!is_file_ending(span_from(s, dot + 1))) {
            return false;
        }
        s = span_cut(s, 0, dot);
    }
    if (s.n == 0 || s.n > 32) {
        return false;
    }
    unsigned digits = 0;
    unsigned letters = 0;
    unsigned changes = 0;
    for (size_t i = 0; i < s.n; i++) {
        uint8_t c = s.p[i];
        bool is_lower = c >= 'a' && c <= 'z';
        bool is_upper = c >= 'A' && c <= 'Z';
        bool is_digit = c >= '0' && c <= '9';
        if (!is_lower && !is_upper && !is_digit && c != '-' && c != '_') {
            return false;
        }
        digits += is_digit;
        letters += is_lower || is_upper;
        changes += is_upper && i > 0 && s.p[i - 1] >= 'a' && s.p[i - 1] <= 'z';
    }
    bool is_version = s.p[0] == 'v' && letters == 1 && digits <= 2;
    return letters > 0 && changes <= 2 && (digits <= 1 || is_version);
}

/* /users/8341/edit?x -> /users/:id/edit. At most 12 parts. */
static bool shape_path(struct span value, size_t from, struct shape *shape) {
    size_t end = from;
    while (end < value.n && value.p[end] != '?' && value.p[end] != '#') {
        end++;
    }
    unsigned parts = 0;
    for (size_t at = from; at < end && parts < 12; parts++) {
        size_t next = at + 1;
        while (next < end && value.p[next] != '/') {
            next++;
        }
        struct span segment = span_cut(value, at + 1, next - at - 1);
        bool good = add_source(shape, value, at, 1);
        if (segment.n != 0) {
            good = good && (is_word_segment(segment) ? add_source(shape, value, at + 1, segment.n)
                                                     : add_literal(shape, SPAN_LIT(":id")));
        }
        if (!good) {
            return false;
        }
        at = next;
    }
    return true;
}

static bool shape_url(struct policy *p, struct span value, struct shape *shape) {
    if (value.n == 0 || span_is(value, "$direct")) {
        return whole(shape, value);
    }
    if (value.p[0] == '/') {
        /* "//host/path" names another site without saying its scheme. */
        return (value.n < 2 || value.p[1] != '/') && shape_path(value, 0, shape);
    }
    struct url url;
    if (!url_split(value, &url)) {
        return false;
    }
    struct span own = policy_own_host(p);
    bool is_own =
        own.n != 0 && span_equal_nocase(span_cut(value, url.host_start, url.host_size), own);
    size_t shown = is_own ? url.authority_end - url.host_start : url.host_size;
    if (!add_source(shape, value, 0, url.scheme_size) ||
        !add_source(shape, value, url.host_start, shown)) {
        return false;
    }
    bool has_path = url.authority_end < value.n && value.p[url.authority_end] == '/';
    return !is_own || !has_path || shape_path(value, url.authority_end, shape);
}

/* -- addresses ------------------------------------------------------------------------------------- */

/* 203.0.113.9 -> 203.0.113.0 */
static bool shape_ipv4(struct span value, struct shape *shape) {
    size_t dots = 0;
    for (size_t i = 0; i < value.n; i++) {
        dots += value.p[i] == '.';
        if (dots == 3) {
            return add_source(shape, value, 0, i + 1) && add_literal(shape, SPAN_LIT("0"));
        }
    }
    return false;
}

/* 2001:db8:1:2::3 -> 2001:db8:1::. Groups before `::` count; the zeros that it stands for are zeros. */
static bool shape_ipv6(struct span value, struct shape *shape) {
    unsigned groups = 0;
    size_t end = 0;
    for (size_t i = 0; i < value.n && groups < 3; i++) {
        if (value.p[i] == '.') {
            return add_literal(shape,
                               SPAN_LIT("::")); /* ::ffff:1.2.3.4: the first 48 bits are zero */
        }
        if (value.p[i] == ':') {
            if (i == end) {
                break;
            }
            groups++;
            if (groups < 3 && i + 1 < value.n) {
                end = i + 1;
            } else {
                end = i;
            }
        }
    }
    while (end > 0 && value.p[end - 1] == ':') {
        end--;
    }
    return add_source(shape, value, 0, end) && add_literal(shape, SPAN_LIT("::"));
}

static bool shape_net(enum json_kind kind, struct span value, struct shape *shape) {
    static const struct field type_ip = {.type = TYPE_IP};
    if (kind != JSON_STRING || !field_fits(&type_ip, kind, value)) {
        return false;
    }
    return span_find_byte(value, ':') != SIZE_MAX ? shape_ipv6(value, shape)
                                                  : shape_ipv4(value, shape);
}

/* -- devices and places ------------------------------------------------------------------------------ */

/* "Chrome 126.0.1" -> "Chrome", or with major "Chrome 126". */
static bool shape_device(const struct decision *d, enum json_kind kind, struct span value,
                         struct shape *shape) {
    bool is_version = d->plan == NULL && d->field != NULL && d->field->type == TYPE_VERSION;
    bool wants_major = d->form.level == LEVEL_MAJOR;
    size_t end = 0;
    if (kind == JSON_NUMBER || is_version) {
        while (wants_major && end < value.n && value.p[end] >= '0' && value.p[end] <= '9') {
            end++;
        }
        return end != 0 && add_source(shape, value, 0, end);
    }
    if (kind != JSON_STRING) {
        return false;
    }
    while (end < value.n && (value.p[end] < '0' || value.p[end] > '9')) {
        end++;
    }
    while (wants_major && end < value.n && value.p[end] >= '0' && value.p[end] <= '9') {
        end++;
    }
    while (end > 0 && end < value.n && strchr(" -_./(v", value.p[end - 1]) != NULL) {
        end--;
    }
    return end != 0 && add_source(shape, value, 0, end);
}

/* How coarse a value is by nature: the table says it, else its class or look. */
static uint8_t natural_level(const struct decision *d, enum json_kind kind, struct span value) {
    static const struct field type_country = {.type = TYPE_COUNTRY};
    if (d->field != NULL && d->field->type != TYPE_TEXT && d->field->level != LEVEL_NONE) {
        return d->field->level;
    }
    if (d->class_id == CLASS_COUNTRY) {
        return LEVEL_COUNTRY;
    }
    if (d->class_id == CLASS_STATE) {
        return LEVEL_REGION;
    }
    bool is_country = kind == JSON_STRING && field_fits(&type_country, kind, value) &&
                      (class_is_within(d->class_id, CLASS_LOCATION) ||
                       class_is_within(d->class_id, CLASS_ADDRESS));
    return is_country ? (uint8_t)LEVEL_COUNTRY : (uint8_t)LEVEL_NONE;
}

static bool shape_coarse(struct policy *p, const struct decision *d, enum json_kind kind,
                         struct span value, struct shape *shape) {
    struct form natural = {FORM_COARSE, natural_level(d, kind, value)};
    bool is_coarse = natural.level != LEVEL_NONE;
    if (is_coarse) {
        struct form both = form_meet(natural, d->form);
        is_coarse = both.id == FORM_COARSE && both.level == natural.level;
    }
    switch ((enum form_level)d->form.level) {
    case LEVEL_COUNTRY:
    case LEVEL_REGION:
        return is_coarse && whole(shape, value);
    case LEVEL_FAMILY:
    case LEVEL_MAJOR:
        return (is_coarse || d->field == NULL || d->field->type == TYPE_VERSION ||
                d->field->type == TYPE_TEXT) &&
               shape_device(d, kind, value, shape);
    case LEVEL_PATH:
        if (is_coarse) {
            return whole(shape, value);
        }
        return kind == JSON_STRING && (value.n == 0 || (value.p[0] != '?' && value.p[0] != '#')) &&
               shape_url(p, value, shape);
    case LEVEL_NET:
        return shape_net(kind, value, shape);
    case LEVEL_DAY:
    case LEVEL_YEAR:
        return shape_date(p, kind, value, d->form.level, shape);
    case LEVEL_HOUR:
    case LEVEL_NONE:
        break;
    }
    return false;
}

/* -- masks and the rest ------------------------------------------------------------------------------ */

/* Bytes of the first character. */
static size_t first_character(struct span s) {
    size_t n = s.n != 0;
    while (n < s.n && (s.p[n] & 0xc0) == 0x80) {
        n++;
    }
    return n;
}

/* Which bytes of a value its mask shows: [0, head) and [tail, n). */
static void mask_ends(uint16_t class_id, struct span value, size_t *ret_head, size_t *ret_tail) {
    *ret_head = value.n > 3 ? first_character(value) : 0;
    *ret_tail = value.n;
    if (class_id == CLASS_EMAIL) {
        size_t sign = span_find_byte(value, '@');
        *ret_head = first_character(span_cut(value, 0, sign == SIZE_MAX ? 0 : sign));
        *ret_tail = sign == SIZE_MAX ? value.n : sign;
    } else if (class_id == CLASS_PHONE) {
        size_t digits = 0;
        *ret_head = 0;
        while (value.n > 4 && *ret_tail > 0 && digits < 2 && value.p[*ret_tail - 1] < 0x80) {
            (*ret_tail)--;
            digits += value.p[*ret_tail] >= '0' && value.p[*ret_tail] <= '9';
        }
    }
}

void shape_mask(uint16_t class_id, struct span value, struct buf *out) {
    size_t head;
    size_t tail;
    mask_ends(class_id, value, &head, &tail);
    buf_put_span(out, span_cut(value, 0, head));
    buf_put_str(out, ELLIPSIS);
    buf_put_span(out, span_from(value, tail));
}

static bool shape_masked(const struct decision *d, struct span value, struct shape *shape) {
    size_t head;
    size_t tail;
    mask_ends(d->class_id, value, &head, &tail);
    shape->is_string = true;
    return add_source(shape, value, 0, head) && add_literal(shape, SPAN_LIT(ELLIPSIS)) &&
           add_source(shape, value, tail, value.n - tail);
}

static bool shape_redacted(struct policy *p, const struct decision *d, struct shape *shape) {
    struct buf out = buf_of(p->shaped, sizeof p->shaped);
    buf_put_byte(&out, '[');
    buf_put_str(&out, class_name(d->class_id));
    buf_put_byte(&out, ']');
    shape->is_string = true;
    return add_literal(shape, buf_span(&out));
}

/* A number as an id is its decimal, as the resolver reads it: 1e3 and 1000.0 are 1000. */
static struct span id_text(enum json_kind kind, struct span value, struct buf *room) {
    int64_t number;
    if (kind != JSON_NUMBER || !json_integer(value, &number)) {
        return value;
    }
    buf_put_i64_dec(room, number);
    return buf_span(room);
}

static bool shape_raw(struct policy *p, const struct decision *d, enum json_kind kind,
                      struct span value, struct shape *shape) {
    shape->is_same = true;
    if (d->is_time) {
        return shape_time(p, kind, value, shape);
    }
    if (d->field != NULL && d->field->role == ROLE_PERSON) {
        uint8_t room[24];
        struct buf digits = buf_of(room, sizeof room);
        (void)pseudonym_of(p, DOMAIN_PERSON, id_text(kind, value, &digits), &shape->aid);
    }
    return whole(shape, value);
}

/* A session whose id is a number is a time. */
static bool shape_session(struct policy *p, enum json_kind kind, struct span value,
                          struct shape *shape) {
    int64_t ms;
    if (kind != JSON_NUMBER || !pseudonym_time(p, value, &ms, &shape->aid)) {
        return false;
    }
    struct buf out = buf_of(p->shaped, sizeof p->shaped);
    buf_put_i64_dec(&out, ms);
    return add_literal(shape, buf_span(&out));
}

bool shape_make(struct policy *p, const struct decision *d, uint32_t token, struct span value,
                struct shape *ret_shape) {
    enum json_kind kind = (enum json_kind)p->tokens[token].kind;
    bool is_text = kind == JSON_STRING || kind == JSON_NUMBER;
    uint8_t room[24];
    struct buf digits = buf_of(room, sizeof room);
    ret_shape->count = 0;
    ret_shape->is_string = kind == JSON_STRING;
    ret_shape->is_same = false;
    ret_shape->is_plain = false;
    memset(&ret_shape->aid, 0, sizeof ret_shape->aid);
    switch ((enum form_id)d->form.id) {
    case FORM_RAW:
        return shape_raw(p, d, kind, value, ret_shape);
    case FORM_REDACT:
        return is_text && shape_redacted(p, d, ret_shape);
    case FORM_PSEUDONYM:
        if (!is_text || d->domain == DOMAIN_NONE) {
            return false;
        }
        ret_shape->is_plain = true;
        if (d->domain == DOMAIN_SESSION && d->field != NULL && d->field->type == TYPE_NUMBER) {
            return shape_session(p, kind, value, ret_shape);
        }
        ret_shape->is_string = true;
        return add_literal(
            ret_shape, pseudonym_of(p, d->domain, id_text(kind, value, &digits), &ret_shape->aid));
    case FORM_MASK:
        return is_text && shape_masked(d, value, ret_shape);
    case FORM_COARSE:
        return shape_coarse(p, d, kind, value, ret_shape);
    case FORM_NONE:
    case FORM_DROP:
    case FORM_SEAL:
    case FORM_ALIAS:
        break;
    }
    return false;
}
