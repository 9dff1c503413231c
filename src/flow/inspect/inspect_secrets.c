/*
 * Typed secrets: Vectorscan finds the anchors of secrets.def, all in one pass over a whole request
 * or all its decoded texts; what follows an anchor is measured here.
 *
 * Anchors are plain literals, without start-of-match (which costs eight times the scan), since a
 * literal's start is its end less its length. The run of alphabet characters behind an anchor is
 * measured once per alphabet and run, however many anchors stand in it: an input made of anchors
 * costs no more than any other.
 */
#include "flow/inspect/inspect_int.h"

#include <hs/hs.h>
#include <stdlib.h>

#include "base/check.h"

enum alphabet {
    HEX,
    HEXDASH,
    LOWER,
    UPPER,
    UPPERDASH,
    ALNUM,
    URL,
    BASE64,
    BASE64URL,
    DOTTED,
    PATH,
    PERCENT,
    TOKEN68,
    DOLLAR,
    PUTTY,
    ALPHABETS
};

_Static_assert((int)ALPHABETS <= (int)ALPHABETS_MAX, "a run is remembered for each alphabet");

enum secret_check {
    CHECK_NONE,
    CHECK_DIGIT,     /* a digit among the characters */
    CHECK_MIXED,     /* a digit and a letter */
    CHECK_MIXEDCASE, /* a digit, a capital and a small letter */
    CHECK_UUID,      /* dashes where a UUID has them */
    CHECK_BACK,      /* 14 letters or digits stand before the anchor */
    CHECK_AZURE,     /* three characters and a digit stand before it */
    CHECK_TELEGRAM,  /* 6 to 12 digits stand before it */
    CHECK_BASIC,     /* decodes to text with a colon */
    CHECK_JWT,       /* two dots */
    CHECK_PEM,       /* a whole block, from BEGIN to END */
};

struct secret {
    const char *anchor;
    uint8_t anchor_length;
    uint8_t alphabet;
    uint16_t min;
    uint16_t max;
    uint8_t check;
};

static const struct secret secrets[] = {
#define SECRET(name, anchor, alphabet, min, max, check_name) \
    {(anchor), sizeof(anchor) - 1, (alphabet), (min), (max), CHECK_##check_name},
#include "flow/inspect/secrets.def"
#undef SECRET
};

enum {
    SECRETS_COUNT = sizeof secrets / sizeof secrets[0],
    PEM_MAX = 16384,
    BACK_MAX = 64,
    BASIC_MAX = 1024
};

/* Bit per alphabet. */
static uint16_t alphabets[256];
static hs_database_t *database;

enum kind { KIND_DIGIT, KIND_SMALL, KIND_CAPITAL };

static void alphabet_add(enum alphabet alphabet, const char *characters) {
    for (const char *c = characters; *c != 0; c++) {
        alphabets[(uint8_t)*c] |= (uint16_t)(1U << alphabet);
    }
}

static void alphabets_init(void) {
    static const char digits[] = "0123456789";
    static const char small[] = "abcdefghijklmnopqrstuvwxyz";
    static const char capital[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
    static const struct {
        uint8_t alphabet;
        bool small;
        bool capital;
        const char *others;
    } made[] = {
        {HEX, false, false, "abcdefABCDEF"},
        {HEXDASH, false, false, "abcdefABCDEF-"},
        {LOWER, true, false, ""},
        {UPPER, false, true, ""},
        {UPPERDASH, false, true, "-"},
        {ALNUM, true, true, ""},
        {URL, true, true, "-_"},
        {BASE64, true, true, "+/="},
        {BASE64URL, true, true, "+/=-_"},
        {DOTTED, true, true, ".-_"},
        {PATH, true, true, "/-_.@"},
        {PERCENT, true, true, "%-_.~+/="},
        {TOKEN68, true, true, "-._~+/="},
        {DOLLAR, true, true, "$"},
        {PUTTY, true, true, ":+/=-.,_ \r\n()"},
    };
    memset(alphabets, 0, sizeof alphabets);
    for (size_t i = 0; i < BH_COUNT(made); i++) {
        enum alphabet a = (enum alphabet)made[i].alphabet;
        alphabet_add(a, digits);
        alphabet_add(a, made[i].small ? small : "");
        alphabet_add(a, made[i].capital ? capital : "");
        alphabet_add(a, made[i].others);
    }
}

int secrets_init(struct err *err) {
    if (database != NULL) {
        return 0;
    }
    alphabets_init();
    const char *literals[SECRETS_COUNT];
    unsigned flags[SECRETS_COUNT];
    unsigned ids[SECRETS_COUNT];
    size_t lengths[SECRETS_COUNT];
    for (unsigned i = 0; i < SECRETS_COUNT; i++) {
        literals[i] = secrets[i].anchor;
        lengths[i] = secrets[i].anchor_length;
        flags[i] = 0;
        ids[i] = i;
    }
    hs_compile_error_t *compile_error = NULL;
    hs_error_t rc = hs_compile_lit_multi(literals, flags, ids, lengths, SECRETS_COUNT,
                                         HS_MODE_BLOCK, NULL, &database, &compile_error);
    if (rc == HS_SUCCESS) {
        return 0;
    }
    int code = err_set(err, BH_E_UNSUPPORTED, "the pattern matcher refuses its patterns: %s",
                       compile_error != NULL ? compile_error->message : "no reason given");
    hs_free_compile_error(compile_error);
    database = NULL;
    return code;
}

int secrets_scratch_new(void **ret_scratch) {
    check(database != NULL);
    hs_scratch_t *scratch = NULL;
    if (hs_alloc_scratch(database, &scratch) != HS_SUCCESS) {
        return BH_E_NOMEM;
    }
    *ret_scratch = scratch;
    return 0;
}

void secrets_scratch_free(void *scratch) {
    hs_free_scratch((hs_scratch_t *)scratch);
}

static bool in_alphabet(unsigned alphabet, uint8_t c) {
    return (alphabets[c] >> alphabet & 1U) != 0;
}

/* End of the run of the alphabet's characters at `at`. */
static size_t run_end(struct hits *h, unsigned alphabet, size_t at) {
    if (at >= h->run_start[alphabet] && at < h->run_end[alphabet]) {
        return h->run_end[alphabet];
    }
    size_t end = at;
    while (end < h->n && in_alphabet(alphabet, h->text[end])) {
        end++;
    }
    h->run_start[alphabet] = (uint32_t)at;
    h->run_end[alphabet] = (uint32_t)end;
    return end;
}

static bool is_kind(enum kind kind, uint8_t c) {
    switch (kind) {
    case KIND_DIGIT:
        return is_digit(c);
    case KIND_SMALL:
        return c >= 'a' && c <= 'z';
    case KIND_CAPITAL:
    default:
        return c >= 'A' && c <= 'Z';
    }
}

/*
 * Whether a character of the kind stands in [start, end). What an earlier anchor looked through is
 * not looked through again.
 */
static bool has_kind(struct hits *h, enum kind kind, size_t start, size_t end) {
    struct next_kind *next = &h->next[kind];
    if (start < next->from || start > next->at ||
        (next->at < end && !is_kind(kind, h->text[next->at]))) {
        size_t at = start >= next->from && start <= next->at ? next->at : start;
        while (at < end && !is_kind(kind, h->text[at])) {
            at++;
        }
        next->from = (uint32_t)start;
        next->at = (uint32_t)at;
    }
    return next->at < end;
}

static bool has_uuid_dashes(const uint8_t *p) {
    return p[8] == '-' && p[13] == '-' && p[18] == '-' && p[23] == '-';
}

/* Whether base64 at p decodes to text with a colon in it: user and password. */
static bool basic_credential(const uint8_t *p, size_t n) {
    uint32_t v = 0;
    size_t i = 0;
    bool colon = false;
    for (; i < n && i < BASIC_MAX && p[i] != '='; i++) {
        v = v << 6 | gate_base64[p[i]];
        /* Each character but the first of four completes a byte. */
        if ((i & 3) != 0) {
            unsigned byte = v >> (6 - 2 * (i & 3)) & 255;
            if (byte < 0x20 || byte == 0x7f) {
                return false;
            }
            colon |= byte == ':';
        }
    }
    return colon;
}

/* How many characters of the alphabet, at most BACK_MAX, stand before `at`. */
static size_t run_before(const struct hits *h, unsigned alphabet, size_t at, bool digits_only) {
    size_t start = at;
    while (
        start > 0 && at - start < BACK_MAX &&
        (digits_only ? is_digit(h->text[start - 1]) : in_alphabet(alphabet, h->text[start - 1]))) {
        start--;
    }
    return at - start;
}

static bool check_passes(struct hits *h, const struct secret *s, size_t *start, size_t after,
                         const size_t *end) {
    const uint8_t *p = h->text + after;
    size_t n = *end - after;
    switch ((enum secret_check)s->check) {
    case CHECK_DIGIT:
        return has_kind(h, KIND_DIGIT, after, *end);
    case CHECK_MIXED:
        return has_kind(h, KIND_DIGIT, after, *end) &&
               (has_kind(h, KIND_SMALL, after, *end) || has_kind(h, KIND_CAPITAL, after, *end));
    case CHECK_MIXEDCASE:
        return has_kind(h, KIND_DIGIT, after, *end) && has_kind(h, KIND_SMALL, after, *end) &&
               has_kind(h, KIND_CAPITAL, after, *end);
    case CHECK_UUID:
        return has_uuid_dashes(p);
    case CHECK_BASIC:
        return basic_credential(p, n);
    case CHECK_BACK: {
        size_t back = run_before(h, ALNUM, *start, false);
        *start -= back;
        return back >= 14;
    }
    case CHECK_AZURE: {
        size_t back = run_before(h, DOTTED, *start, false);
        bool digit = back >= 4 && is_digit(h->text[*start - 1]);
        *start -= digit ? 4 : 0;
        return digit;
    }
    case CHECK_TELEGRAM: {
        size_t back = run_before(h, ALNUM, *start, true);
        *start -= back;
        return back >= 6 && back <= 12;
    }
    case CHECK_NONE:
    case CHECK_JWT:
    case CHECK_PEM:
    default:
        return true;
    }
}

/*
 * Two dots and more behind them. Whoever fails in a run fails for all later starts in it: they have
 * fewer dots.
 */
static bool jwt_passes(struct hits *h, size_t start, size_t end) {
    if (start < h->jwt_failed_end) {
        return false;
    }
    unsigned dots = 0;
    for (size_t i = start; i < end && dots < 2; i++) {
        dots += h->text[i] == '.';
    }
    if (dots < 2) {
        h->jwt_failed_end = (uint32_t)end;
    }
    return dots == 2;
}

static bool pem_char(uint8_t c) {
    return in_alphabet(BASE64, c) || is_space(c) || c == '\\' || c == ':' || c == ',' || c == '-';
}

/* From "-----BEGIN", if it is near, to the dashes after "-----END", or as far as the block goes. */
static void pem_extent(const struct hits *h, size_t *start, size_t *end) {
    size_t limit = *start > BACK_MAX ? *start - BACK_MAX : 0;
    struct span before = {h->text + limit, *start - limit};
    size_t begin = span_find(before, SPAN_LIT("-----BEGIN"));
    if (begin != SIZE_MAX) {
        *start = limit + begin;
    }
    size_t i = *end;
    while (i < h->n && i - *end < PEM_MAX && pem_char(h->text[i])) {
        if (h->text[i] == '-' &&
            span_starts((struct span){h->text + i, h->n - i}, SPAN_LIT("-----END"))) {
            i += 8;
            while (i < h->n && (is_alpha(h->text[i]) || h->text[i] == ' ')) {
                i++;
            }
            while (i < h->n && h->text[i] == '-') {
                i++;
            }
            break;
        }
        i++;
    }
    *end = i;
}

static void hit_add(struct hits *h, size_t start, size_t end) {
    if (h->count == HITS_MAX) {
        h->too_many = true;
        return;
    }
    h->hit[h->count++] = (struct hit){(uint32_t)start, (uint32_t)end, CLASS_CREDENTIALS};
}

/*
 * "ghp_" and "sk_live_" are no part of any word, so that a word glued before them does not hide
 * them; "AKIA" and "eyJ" occur in any long run of letters, and "sk-" ends "task-".
 */
static bool is_distinct(const struct secret *s) {
    bool sign = false;
    for (unsigned i = 0; i < s->anchor_length; i++) {
        sign |= !is_alnum((uint8_t)s->anchor[i]);
    }
    return sign && s->anchor_length >= 4;
}

static int on_anchor(unsigned id, unsigned long long from, unsigned long long to, unsigned flags,
                     void *context) {
    (void)from; /* zero: start of match is not asked for */
    (void)flags;
    struct hits *h = context;
    const struct secret *s = &secrets[id];
    size_t after = (size_t)to;
    size_t start = after - s->anchor_length;
    bool looks_back =
        s->check == CHECK_BACK || s->check == CHECK_AZURE || s->check == CHECK_TELEGRAM;
    size_t last_end = h->count > 0 ? h->hit[h->count - 1].end : 0;
    bool joined = !looks_back && start > last_end && is_alnum(h->text[start]) &&
                  is_alnum(h->text[start - 1]) && !is_distinct(s);
    if (joined || start < last_end) {
        return 0;
    }
    size_t end = run_end(h, s->alphabet, after);
    size_t n = end - after;
    if (n < s->min || (s->max != 0 && n > s->max)) {
        return 0;
    }
    if (!check_passes(h, s, &start, after, &end) ||
        (s->check == CHECK_JWT && !jwt_passes(h, start, end))) {
        return 0;
    }
    if (s->check == CHECK_PEM) {
        end = after;
        pem_extent(h, &start, &end);
    }
    hit_add(h, start, end);
    return h->too_many ? 1 : 0;
}

void secrets_scan(void *scratch, struct span text, struct hits *ret_hits) {
    check(text.n <= UINT32_MAX);
    ret_hits->text = text.p;
    ret_hits->n = text.n;
    ret_hits->count = 0;
    ret_hits->too_many = false;
    ret_hits->jwt_failed_end = 0;
    memset(ret_hits->next, 0, sizeof ret_hits->next);
    memset(ret_hits->run_start, 0, sizeof ret_hits->run_start);
    memset(ret_hits->run_end, 0, sizeof ret_hits->run_end);
    hs_error_t rc = hs_scan(database, (const char *)text.p, (unsigned)text.n, 0,
                            (hs_scratch_t *)scratch, on_anchor, ret_hits);
    check(rc == HS_SUCCESS || (rc == HS_SCAN_TERMINATED && ret_hits->too_many));
}

void secrets_flush(struct inspector *in) {
    if (in->segment_count == 0) {
        return;
    }
    /*
     * The decoded texts lie one after another in the pool, each between line feeds; what is found
     * in the marks between them is dropped.
     */
    const struct segment *first = &in->segments[0];
    const struct segment *last = &in->segments[in->segment_count - 1];
    struct span text = {in->pool + first->start, last->start + last->length - first->start};
    secrets_scan(in->scratch, text, &in->deep);
    if (in->deep.too_many) {
        in->error = BH_E_TOO_MANY;
    }
    const struct segment *segment = first;
    for (uint32_t i = 0; i < in->deep.count && in->error == 0; i++) {
        size_t start = in->deep.hit[i].start + first->start;
        size_t end = in->deep.hit[i].end + first->start;
        while (segment < last && segment[1].start <= start) {
            segment++;
        }
        if (start < segment->start || end > segment->start + segment->length) {
            end = segment->start + segment->length;
        }
        if (start < segment->start || end <= start) {
            continue;
        }
        if (segment->root) {
            emit_on_leaf(in, segment->leaf, in->deep.hit[i].class_id, FOUND_BY_VALUE,
                         (uint32_t)(start - segment->start), (uint32_t)(end - start));
        } else {
            emit_on_leaf(in, segment->leaf, in->deep.hit[i].class_id, FOUND_BY_VALUE, 0,
                         FINDING_WHOLE);
        }
    }
    in->segment_count = 0;
}
