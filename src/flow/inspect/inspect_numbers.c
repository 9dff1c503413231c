/*
 * Shapes made of digits, in one text: IPv4, US social security number, payment card, IBAN, phone.
 *
 * The text is read as digit groups (maximal runs). At each group every shape that may begin there
 * gets its turn, in this order; each looks ahead a bounded number of digits, so that the whole is
 * linear. What matched is stepped over.
 *
 * Ordinary numbers must pass: UUIDs, times, dates, prices, versions, counters. A card needs issuer
 * range, length and check digit; a phone without a key needs "+" and a calling code, or the
 * grouping that people write and programs do not.
 */
#include "flow/inspect/inspect_int.h"

#include "base/check.h"

enum {
    CARD_DIGITS_MIN = 12,
    CARD_DIGITS_MAX = 19,
    GROUPS_MAX = 8,
    PHONE_DIGITS_MAX = 15,
    IBAN_MAX = 34
};

/* --- calling codes --- */

/* By code; zero for a code that is not assigned. */
static const struct {
    uint8_t min;
    uint8_t max;
} calling[1000] = {
#define CALLING(code, min, max) [code] = {(min), (max)},
#include "flow/inspect/calling_codes.def"
#undef CALLING
};

/* A calling code and as many digits as its plan has. */
static bool international(const uint8_t *digits, size_t n) {
    unsigned code = 0;
    size_t width = 0;
    while (width < 3 && width < n && calling[code].max == 0) {
        code = code * 10 + (unsigned)(digits[width++] - '0');
    }
    size_t rest = n - width;
    /* A trunk zero is often left in: +49 (0) 171 … */
    size_t trunk = rest > 0 && digits[width] == '0' ? 1 : 0;
    return calling[code].max != 0 && rest >= calling[code].min &&
           /* NOLINTNEXTLINE(clang-analyzer-core.UndefinedBinaryOperatorResult): rest counts digits that are filled */
           rest <= (size_t)calling[code].max + trunk && !(code == 1 && digits[1] < '2');
}

/* --- cards --- */

#define LEN(n)            (1U << ((n)-CARD_DIGITS_MIN))
#define LENGTHS(min, max) (2 * LEN(max) - LEN(min))

static const struct {
    uint16_t first;
    uint16_t last;
    uint8_t digits;
    uint8_t lengths;
} issuers[] = {
#define CARD(first, last, digits, lengths) {(first), (last), (digits), (uint8_t)(lengths)},
#include "flow/inspect/cards.def"
#undef CARD
};

/* By the first four digits: in which lengths a card may begin so. */
static uint8_t card_lengths[10000];

static bool luhn(const uint8_t *digits, size_t n) {
    /* What a digit adds when it is doubled. */
    static const uint8_t doubled[10] = {0, 2, 4, 6, 8, 1, 3, 5, 7, 9};
    unsigned sum = 0;
    size_t i = n;
    while (i >= 2) {
        sum += (unsigned)(digits[i - 1] - '0') + doubled[digits[i - 2] - '0'];
        i -= 2;
    }
    sum += i == 1 ? (unsigned)(digits[0] - '0') : 0;
    return sum % 10 == 0;
}

/*
 * EAN-13, which is what a 13-digit number that begins with 4 nearly always is: German and Japanese
 * goods.
 */
static bool ean13(const uint8_t *digits) {
    unsigned sum = 0;
    for (unsigned i = 0; i < 13; i++) {
        sum += (unsigned)(digits[i] - '0') * ((i & 1) != 0 ? 3 : 1);
    }
    return sum % 10 == 0;
}

static unsigned lengths_of(const uint8_t *digits) {
    return card_lengths[(digits[0] - '0') * 1000 + (digits[1] - '0') * 100 +
                        (digits[2] - '0') * 10 + (digits[3] - '0')];
}

/* n digits, of which 4 at least. */
static bool is_card(const uint8_t *digits, size_t n) {
    if (n < CARD_DIGITS_MIN || n > CARD_DIGITS_MAX || (lengths_of(digits) & LEN(n)) == 0) {
        return false;
    }
    /* Cards of 13 digits are no longer issued; goods and phone numbers of that length abound. */
    bool other = n == 13 && (international(digits, n) || ean13(digits));
    return luhn(digits, n) && !other;
}

bool card_valid(const uint8_t *digits, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (!is_digit(digits[i])) {
            return false;
        }
    }
    return n >= CARD_DIGITS_MIN && is_card(digits, n);
}

/* --- groups --- */

struct groups {
    uint8_t digits[CARD_DIGITS_MAX + 1];
    size_t total;
    size_t count;
    size_t length[GROUPS_MAX];
    size_t end[GROUPS_MAX];        /* in the text, past the group */
    uint8_t separator[GROUPS_MAX]; /* enum separates before the group; 0 for the first */
    bool more;                     /* a digit or another group follows right behind */
};

enum separates {
    SEPARATES_SPACE = 1,
    SEPARATES_DASH = 2,
    SEPARATES_DOT = 4,
    SEPARATES_SLASH = 8,
    SEPARATES_UNDERSCORE = 16,
    SEPARATES_OPEN = 32,
    SEPARATES_CLOSE = 64,
    SEPARATES_CARD = SEPARATES_SPACE | SEPARATES_DASH | SEPARATES_DOT | SEPARATES_UNDERSCORE,
    SEPARATES_PHONE = SEPARATES_SPACE | SEPARATES_DASH | SEPARATES_DOT | SEPARATES_SLASH |
                      SEPARATES_OPEN | SEPARATES_CLOSE,
};

static const uint8_t separators[256] = {
    [' '] = SEPARATES_SPACE,      ['+'] = SEPARATES_SPACE, /* a space in a form */
    ['-'] = SEPARATES_DASH,       ['.'] = SEPARATES_DOT,   ['/'] = SEPARATES_SLASH,
    ['_'] = SEPARATES_UNDERSCORE, ['('] = SEPARATES_OPEN,  [')'] = SEPARATES_CLOSE,
};

/*
 * The enum separates of what stands at i, and its length: one byte, or a space or dash beyond
 * ASCII.
 */
static unsigned separator_at(struct span text, size_t i, size_t *ret_length) {
    const uint8_t *p = text.p + i;
    size_t n = text.n - i;
    *ret_length = 1;
    if (BH_LIKELY(p[0] < 0x80)) {
        return separators[p[0]];
    }
    if (n >= 2 && p[0] == 0xc2 && p[1] == 0xa0) { /* no-break space */
        *ret_length = 2;
        return SEPARATES_SPACE;
    }
    if (n >= 3 && p[0] == 0xe2 && p[1] == 0x80) {
        *ret_length = 3;
        if (p[2] == 0xaf || p[2] == 0x89) { /* narrow and thin space */
            return SEPARATES_SPACE;
        }
        return p[2] >= 0x90 && p[2] <= 0x93 ? SEPARATES_DASH : 0; /* hyphen to en dash */
    }
    return 0;
}

/*
 * Length of what separates two digit groups at i: one character, or ") " and " (" and ")-"; 0 when
 * no digit follows.
 */
static size_t separators_at(struct span text, size_t i, unsigned accepted, uint8_t *ret_separator) {
    size_t n;
    unsigned first = separator_at(text, i, &n);
    if ((first & accepted) == 0 || i + n >= text.n) {
        return 0;
    }
    if (is_digit(text.p[i + n])) {
        *ret_separator = (uint8_t)first;
        return first == SEPARATES_OPEN ? 0 : n;
    }
    if ((accepted & SEPARATES_OPEN) == 0) {
        return 0;
    }
    size_t more;
    unsigned second = separator_at(text, i + n, &more);
    bool pair = (first == SEPARATES_CLOSE && (second & (SEPARATES_SPACE | SEPARATES_DASH)) != 0) ||
                (first == SEPARATES_SPACE && second == SEPARATES_OPEN);
    if (!pair || i + n + more >= text.n || !is_digit(text.p[i + n + more])) {
        return 0;
    }
    *ret_separator = (uint8_t)(first | second);
    return n + more;
}

/* All four in the high nibble 3, and none past 9 when 6 is added. */
static bool four_digits(const uint8_t *p) {
    uint32_t v;
    memcpy(&v, p, 4);
    return ((v & 0xf0f0f0f0) | ((v + 0x06060606) & 0xf0f0f0f0) >> 4) == 0x33333333;
}

/*
 * Digit groups from i on (a digit), as long as `accepted` (enum separates) separators stand between
 * them, to at most digits_max digits.
 */
static void read_groups(struct span text, size_t i, unsigned accepted, size_t digits_max,
                        struct groups *g) {
    g->total = 0;
    g->count = 0;
    g->more = false;
    uint8_t separator = 0;
    for (;;) {
        size_t from = i;
        size_t limit =
            from + digits_max - g->total < text.n ? from + digits_max - g->total : text.n;
        while (limit - i >= 4 && four_digits(text.p + i)) {
            memcpy(g->digits + g->total, text.p + i, 4);
            g->total += 4;
            i += 4;
        }
        while (i < limit && is_digit(text.p[i])) {
            g->digits[g->total++] = text.p[i++];
        }
        size_t length = i - from;
        g->length[g->count] = length;
        g->end[g->count] = i;
        g->separator[g->count] = separator;
        g->count++;
        if (i < text.n && is_digit(text.p[i])) {
            g->more = true;
            return;
        }
        if (i >= text.n || g->total == digits_max) {
            return;
        }
        size_t n = separators_at(text, i, accepted, &separator);
        if (n == 0) {
            return;
        }
        i += n;
        if (g->count == GROUPS_MAX) {
            g->more = true;
            return;
        }
        /*
         * Nobody writes digits one by one; a text that does must not be read again from each of
         * them.
         */
        bool lone = i + 1 == text.n || !is_digit(text.p[i + 1]);
        if (length == 1 && lone && g->count > 1) {
            g->more = true;
            return;
        }
    }
}

static bool bounded_after(struct span text, size_t end) {
    return end >= text.n || !(is_alnum(text.p[end]) || text.p[end] == '_');
}

/*
 * Nothing that would make the digits a part of something longer stands before: a letter, a digit,
 * or a dash or dot behind one.
 */
static bool bounded_before(struct span text, size_t start) {
    if (start == 0) {
        return true;
    }
    uint8_t c = text.p[start - 1];
    if (is_alnum(c) || c == '_') {
        return false;
    }
    return !((c == '-' || c == '.') && start >= 2 && is_alnum(text.p[start - 2]));
}

/* --- card in text --- */

/* Letters alone may touch a bare card number ("visa4111…x"); in a hash other digits follow them. */
static bool letters_only_around(struct span text, size_t start, size_t end) {
    size_t limit = 24;
    while (start > 0 && limit > 0 && is_alpha(text.p[start - 1])) {
        start--;
        limit--;
    }
    if (start > 0 && is_alnum(text.p[start - 1])) {
        return false;
    }
    limit = 24;
    while (end < text.n && limit > 0 && is_alpha(text.p[end])) {
        end++;
        limit--;
    }
    return end >= text.n || !is_alnum(text.p[end]);
}

/* How cards are written: groups of four, 4-6-5, 4-6-4, 6-13, 8-8. */
static bool card_grouping(const struct groups *g, size_t count) {
    if (g->length[0] == 4 && count >= 3) {
        if (g->length[1] == 6) {
            return count == 3 && (g->length[2] == 5 || g->length[2] == 4);
        }
        for (size_t i = 1; i + 1 < count; i++) {
            if (g->length[i] != 4) {
                return false;
            }
        }
        return count >= 4 || g->length[count - 1] >= 4;
    }
    return count == 2 &&
           ((g->length[0] == 6 && g->length[1] >= 6) || (g->length[0] == 8 && g->length[1] == 8));
}

/* The group at `start` has four digits at least. */
static size_t match_card(struct span text, size_t start) {
    if (lengths_of(text.p + start) == 0) {
        return 0;
    }
    struct groups g;
    read_groups(text, start, SEPARATES_CARD, CARD_DIGITS_MAX, &g);
    if (g.length[0] >= CARD_DIGITS_MIN) {
        bool whole = !(g.count == 1 && g.more) && letters_only_around(text, start, g.end[0]);
        return whole && is_card(g.digits, g.length[0]) ? g.end[0] : 0;
    }
    if (g.length[0] < 4 || (start > 0 && is_alnum(text.p[start - 1]))) {
        return 0;
    }
    size_t digits = g.length[0];
    size_t matched = 0;
    /* What is cut off in the middle of a group is no candidate. */
    size_t whole = g.count - (g.more ? 1 : 0);
    for (size_t count = 2; count <= whole; count++) {
        digits += g.length[count - 1];
        if (digits >= CARD_DIGITS_MIN && (lengths_of(g.digits) & LEN(digits)) != 0 &&
            card_grouping(&g, count) && is_card(g.digits, digits)) {
            matched = g.end[count - 1];
        }
    }
    return matched;
}

/* --- US social security number --- */

static size_t match_ssn(struct span text, size_t start) {
    if (text.n - start < 11 || text.p[start + 3] != '-' || text.p[start + 6] != '-' ||
        !bounded_before(text, start)) {
        return 0;
    }
    unsigned value[3] = {0, 0, 0};
    for (unsigned i = 0, part = 0; i < 11; i++) {
        if (i == 3 || i == 6) {
            part++;
            continue;
        }
        if (!is_digit(text.p[start + i])) {
            return 0;
        }
        value[part] = value[part] * 10 + (unsigned)(text.p[start + i] - '0');
    }
    size_t end = start + 11;
    bool bounded = bounded_after(text, end) &&
                   !(end + 1 < text.n && text.p[end] == '-' && is_alnum(text.p[end + 1]));
    /* Never issued: area 000, 666, 900-999; group 00; serial 0000 (SSA). */
    bool issued =
        value[0] != 0 && value[0] != 666 && value[0] < 900 && value[1] != 0 && value[2] != 0;
    return bounded && issued ? end : 0;
}

/* --- IPv4 --- */

/* "Chrome/138.0.0.0", "v1.2.3.4" and "version 1.2.3.4" are versions. */
static bool version_before(struct span text, size_t start) {
    if (start == 0) {
        return false;
    }
    uint8_t c = text.p[start - 1];
    if (c == '/') {
        return start >= 2 && is_alnum(text.p[start - 2]);
    }
    if (c == ' ' || c == '=' || c == ':') {
        size_t end = start - 1;
        size_t begin = end;
        while (begin > 0 && end - begin < 10 && is_alpha(text.p[begin - 1])) {
            begin--;
        }
        struct span word = span_cut(text, begin, end - begin);
        return span_equal_nocase(word, SPAN_LIT("version")) ||
               span_equal_nocase(word, SPAN_LIT("ver")) || span_equal_nocase(word, SPAN_LIT("v")) ||
               span_equal_nocase(word, SPAN_LIT("build")) ||
               span_equal_nocase(word, SPAN_LIT("release"));
    }
    return false;
}

static size_t match_ipv4(struct span text, size_t start) {
    if (!bounded_before(text, start)) {
        return 0;
    }
    unsigned octets[4];
    size_t i = start;
    for (unsigned part = 0; part < 4; part++) {
        unsigned value = 0;
        size_t begin = i;
        while (i < text.n && is_digit(text.p[i]) && i - begin < 4) {
            value = value * 10 + (unsigned)(text.p[i++] - '0');
        }
        bool good = i > begin && value <= 255 && (i - begin == 1 || text.p[begin] != '0');
        if (!good || (part < 3 && (i >= text.n || text.p[i++] != '.'))) {
            return 0;
        }
        octets[part] = value;
    }
    bool follows = i + 1 < text.n && ((text.p[i] == '.' && is_digit(text.p[i + 1])) ||
                                      (text.p[i] == '-' && is_alpha(text.p[i + 1])));
    if (!bounded_after(text, i) || follows || version_before(text, start)) {
        return 0;
    }
    /* This machine, no machine and every machine are nobody's address. */
    bool nobody = octets[0] == 127 || octets[0] == 0 || (octets[0] == 255 && octets[3] == 255);
    return nobody ? 0 : i;
}

/* --- IBAN --- */

static const struct {
    char country[3];
    uint8_t length;
} ibans[] = {
#define IBAN(country, length) {#country, (length)},
#include "flow/inspect/ibans.def"
#undef IBAN
};

/* By country; zero for one that has none. */
static uint8_t iban_lengths[26][26];

/* a and b are letters. */
static size_t iban_length(uint8_t a, uint8_t b) {
    return iban_lengths[(a | 0x20) - 'a'][(b | 0x20) - 'a'];
}

/*
 * Whether n letters and digits, the first four moved behind the others, are 1 modulo 97 (ISO 7064);
 * letters count from 10.
 */
static bool mod97_is_1(const uint8_t *characters, size_t n) {
    uint64_t number = 0;
    for (size_t k = 0; k < n; k++) {
        /* NOLINTNEXTLINE(clang-analyzer-core.uninitialized.Assign): n of them are filled */
        uint8_t c = characters[k + 4 < n ? k + 4 : k + 4 - n];
        number = is_digit(c) ? number * 10 + (uint64_t)(c - '0')
                             : number * 100 + (uint64_t)((c | 0x20) - 'a') + 10;
        if (number >= UINT64_MAX / 1000) {
            number %= 97;
        }
    }
    return number % 97 == 1;
}

/* The IBAN whose two letters stand at `start`, before two check digits. */
static size_t match_iban(struct span text, size_t start) {
    size_t length = iban_length(text.p[start], text.p[start + 1]);
    if (length == 0 || (start > 0 && is_alnum(text.p[start - 1]))) {
        return 0;
    }
    uint8_t characters[IBAN_MAX];
    size_t n = 0;
    size_t i = start;
    while (i < text.n && n < length) {
        uint8_t c = text.p[i];
        if (is_alnum(c)) {
            characters[n++] = c;
            i++;
            continue;
        }
        size_t separator;
        unsigned kind = separator_at(text, i, &separator);
        if (n < 4 || (kind & (SEPARATES_SPACE | SEPARATES_DASH | SEPARATES_DOT)) == 0) {
            return 0;
        }
        i += separator;
    }
    return n == length && bounded_after(text, i) && mod97_is_1(characters, n) ? i : 0;
}

/* --- phone in text --- */

static bool phone_ends(struct span text, size_t end) {
    if (end >= text.n) {
        return true;
    }
    uint8_t c = text.p[end];
    bool more = end + 1 < text.n && is_alnum(text.p[end + 1]);
    return !(is_alnum(c) || c == '_' || c == '@' || ((c == '-' || c == ':' || c == '/') && more) ||
             (c == '.' && more && is_digit(text.p[end + 1])));
}

/*
 * `barrier`: a sequence of groups that proved too long to be a phone is not tried again from each
 * of its groups.
 */
struct phones {
    struct span text;
    size_t barrier;
};

static size_t match_plus(struct phones *phones, size_t start) {
    struct span text = phones->text;
    struct groups g;
    read_groups(text, start, SEPARATES_PHONE, PHONE_DIGITS_MAX + 1, &g);
    size_t digits = g.total;
    for (size_t count = g.count; count > 0; count--) {
        bool cut = count == g.count && g.more;
        if (!cut && digits <= PHONE_DIGITS_MAX && international(g.digits, digits) &&
            phone_ends(text, g.end[count - 1])) {
            return g.end[count - 1];
        }
        digits -= g.length[count - 1];
    }
    phones->barrier = g.end[g.count - 1];
    return 0;
}

static bool is_north_american(const struct groups *g, size_t first) {
    if (g->count < first + 3 || g->length[first] != 3 || g->length[first + 1] != 3 ||
        g->length[first + 2] != 4) {
        return false;
    }
    size_t at = first == 0 ? 0 : g->length[0];
    /*
     * Area codes begin with 2 to 9. The exchange should too, but made-up numbers (555-123-4567)
     * often do not.
     */
    return g->digits[at] >= '2';
}

/* 555-123-4567, (555) 123-4567, 1-555-123-4567 */
static size_t match_north_american(struct span text, size_t start) {
    /* Before all is read: three digits where the area code is. */
    bool lone = text.n - start < 12 || !is_digit(text.p[start + 1]);
    if (lone &&
        (text.n - start < 14 || !is_digit(text.p[start + 3]) || !is_digit(text.p[start + 4]))) {
        return 0;
    }
    struct groups g;
    read_groups(text, start, SEPARATES_PHONE, PHONE_DIGITS_MAX + 1, &g);
    size_t first = g.count >= 4 && g.length[0] == 1 && g.digits[0] == '1' ? 1 : 0;
    if (!is_north_american(&g, first)) {
        return 0;
    }
    unsigned a = g.separator[first + 1];
    unsigned b = g.separator[first + 2];
    /*
     * "415 555 2671" could be any three numbers: a space alone is too little, two dashes or dots or
     * a parenthesis are enough.
     */
    bool written = (a == b && a != SEPARATES_SPACE) || (a & SEPARATES_CLOSE) != 0 ||
                   (a == SEPARATES_SPACE && b == SEPARATES_DASH) || first == 1;
    return written && phone_ends(text, g.end[first + 2]) ? g.end[first + 2] : 0;
}

/*
 * 0171 1234567, 030/123456, 01 23 45 67 89, (030) 1234567: a trunk zero and the groups of people.
 */
static size_t match_national(struct phones *phones, size_t start) {
    struct span text = phones->text;
    struct groups g;
    read_groups(text, start, SEPARATES_PHONE, PHONE_DIGITS_MAX + 1, &g);
    if (g.more || g.total > 12) {
        phones->barrier = g.end[g.count - 1];
        return 0;
    }
    if (g.count < 2 || g.total < 9 || g.digits[1] == '0' || g.length[0] > 6 || g.length[0] < 2) {
        return 0;
    }
    /* 01.02.2024 10 …, 01-02-2024 03 …: dates. */
    bool date = g.length[0] == 2 && g.length[1] == 2 && g.count >= 3 && g.length[2] == 4;
    bool equal = g.count >= 3 && g.length[0] >= 3;
    for (size_t i = 1; i < g.count && equal; i++) {
        equal = g.length[i] == g.length[0];
    }
    return !date && !equal && phone_ends(text, g.end[g.count - 1]) ? g.end[g.count - 1] : 0;
}

/* (11) 91234-5678: an area code in parentheses. */
static size_t match_parenthesis(struct span text, size_t start) {
    struct groups g;
    read_groups(text, start, SEPARATES_PHONE, PHONE_DIGITS_MAX + 1, &g);
    bool good = !g.more && g.count >= 2 && g.length[0] >= 2 && g.length[0] <= 5 &&
                (g.separator[1] & SEPARATES_CLOSE) != 0 && g.total >= 8 && g.total <= 12;
    return good && phone_ends(text, g.end[g.count - 1]) ? g.end[g.count - 1] : 0;
}

static bool after_scheme(struct span text, size_t start) {
    if (start < 4 || (text.p[start - 1] != ':' && text.p[start - 1] != '/')) {
        return false;
    }
    struct span before = span_cut(text, start > 12 ? start - 12 : 0, start > 12 ? 12 : start);
    static const char *const schemes[] = {"tel:", "sms:", "wa.me/", "callto:"};
    for (size_t i = 0; i < BH_COUNT(schemes); i++) {
        struct span s = span_str(schemes[i]);
        if (before.n >= s.n && span_equal_nocase(span_from(before, before.n - s.n), s)) {
            return true;
        }
    }
    return false;
}

/*
 * 0049 171 1234567, 00 49 171 …: the international prefix; in one run of digits it would be an id
 * with leading zeros.
 */
static size_t match_double_zero(struct phones *phones, size_t start, size_t group_end) {
    struct span text = phones->text;
    size_t from = group_end - start == 2 ? group_end + 1 : start + 2;
    if (from >= text.n || !is_digit(text.p[from])) {
        return 0;
    }
    size_t end = match_plus(phones, from);
    return end > group_end ? end : 0;
}

/* 5551234567 behind "tel:". */
static size_t match_scheme(struct span text, size_t start) {
    struct groups g;
    read_groups(text, start, SEPARATES_PHONE, PHONE_DIGITS_MAX + 1, &g);
    return g.total >= 7 && g.total <= PHONE_DIGITS_MAX && phone_ends(text, g.end[g.count - 1])
               ? g.end[g.count - 1]
               : 0;
}

static size_t match_phone(struct phones *phones, size_t start, size_t group_end) {
    struct span text = phones->text;
    uint8_t before = start > 0 ? text.p[start - 1] : 0;
    size_t length = group_end - start;
    if (before == '+') {
        bool begins = start < 2 || !is_alnum(text.p[start - 2]);
        return begins && start >= phones->barrier ? match_plus(phones, start) : 0;
    }
    if (after_scheme(text, start)) {
        return match_scheme(text, start);
    }
    /* Without a plus, a first group is short and something separates it from the next. */
    if (group_end >= text.n || length > 6 || !bounded_before(text, start)) {
        return 0;
    }
    size_t end = length == 3 || (length == 1 && text.p[start] == '1')
                     ? match_north_american(text, start)
                     : 0;
    if (end == 0 && before == '(' && length >= 2) {
        end = match_parenthesis(text, start);
    }
    if (end == 0 && text.p[start] == '0' && length >= 2 && start >= phones->barrier) {
        end = text.p[start + 1] == '0' ? match_double_zero(phones, start, group_end)
                                       : match_national(phones, start);
    }
    return end;
}

void numbers_init(void) {
    static const unsigned shifts[] = {10000, 1000, 100, 10, 1};
    for (size_t i = 0; i < BH_COUNT(issuers); i++) {
        unsigned width = shifts[issuers[i].digits];
        for (unsigned prefix = issuers[i].first * width; prefix < (issuers[i].last + 1U) * width;
             prefix++) {
            card_lengths[prefix] |= issuers[i].lengths;
        }
    }
    for (size_t i = 0; i < BH_COUNT(ibans); i++) {
        iban_lengths[ibans[i].country[0] - 'A'][ibans[i].country[1] - 'A'] = ibans[i].length;
    }
}

/* --- all together --- */

/* What was matched: [start, end) of the text. */
struct match {
    size_t start;
    size_t end; /* 0 = nothing */
    uint16_t class_id;
};

/* What begins with the digit group [start, end), or with the letters or sign before it. */
static struct match match_group(struct phones *phones, const struct key_info *info, size_t start,
                                size_t end) {
    struct span text = phones->text;
    size_t length = end - start;
    struct match m = {start, 0, CLASS_NONE};
    if (length <= 3 && end < text.n && text.p[end] == '.' && (info->flags & KEY_VERSION) == 0) {
        m = (struct match){start, match_ipv4(text, start), CLASS_IP_ADDRESS};
    }
    if (m.end == 0 && length == 3) {
        m = (struct match){start, match_ssn(text, start), CLASS_NATIONAL_ID};
    }
    bool signed_plus = start > 0 && text.p[start - 1] == '+';
    if (m.end == 0 && length >= 4 && !(signed_plus && match_phone(phones, start, end) != 0)) {
        m = (struct match){start, match_card(text, start), CLASS_CREDIT_CARD};
    }
    if (m.end == 0 && length >= 2 && start >= 2 && is_alpha(text.p[start - 1]) &&
        is_alpha(text.p[start - 2])) {
        m = (struct match){start - 2, match_iban(text, start - 2), CLASS_BANK_ACCOUNT};
    }
    if (m.end == 0) {
        size_t sign = start > 0 && (text.p[start - 1] == '+' || text.p[start - 1] == '(') ? 1 : 0;
        m = (struct match){start - sign, match_phone(phones, start, end), CLASS_PHONE};
    }
    return m;
}

void detect_numbers(struct inspector *in, struct span text, const struct key_info *info) {
    /* "$device:5c2dfb22-9ccd-…": most ids end in a UUID, where nothing is to be found. */
    if (gate_uuid_ends(text.p, text.n)) {
        text.n -= 36;
    }
    struct phones phones = {text, 0};
    size_t before = 0; /* of the whole text, what lies before phones.text */
    size_t i = 0;
    while (i < phones.text.n && in->error == 0) {
        if (!is_digit(phones.text.p[i])) {
            i++;
            continue;
        }
        size_t end = i + 1;
        while (end < phones.text.n && is_digit(phones.text.p[end])) {
            end++;
        }
        struct match m = match_group(&phones, info, i, end);
        i = end;
        if (m.end != 0) {
            emit(in, m.class_id, FOUND_BY_VALUE, before + m.start, m.end - m.start);
            /*
             * What follows is looked at as if nothing stood before it: one card glued to another is
             * a card too, and not only after the first was overwritten.
             */
            before += m.end;
            phones = (struct phones){span_from(phones.text, m.end), 0};
            i = 0;
        }
    }
}
