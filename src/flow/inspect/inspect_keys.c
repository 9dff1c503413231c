/*
 * Keys: from a name in any style to a rule.
 *
 *   "billingEMail_Address2" -> billing e mail address 2 -> "emailaddress" (then "2", which is neutral) -> user.contact.email
 *
 * A key is split into words once and each run of up to four words is looked up joined, so that one
 * line of keys.def serves every way of writing. Scripts without spaces between words are searched
 * for phrases inside the word. The work is bounded by KEY_BYTES whatever the key's length; callers
 * keep the answer in a cache, since a product has few keys.
 */
#include "flow/inspect/inspect_int.h"

#include "base/check.h"

enum {
    KEY_BYTES = 128,
    WORDS_MAX = 16,
    PHRASE_WORDS_MAX = 4,
    TABLE_SLOTS = 2048,
    PHRASE_BYTES_MAX = 40,
    DENSE_CHARS_MAX = 8,
    OPENING_BITS = 8192
};

struct phrase {
    const char *text;
    struct key_rule rule;
};

static const struct phrase phrases[] = {
#define KEY(text, class_name_, words, shape) {(text), {CLASS_##class_name_, (words), (shape)}},
#include "flow/inspect/keys.def"
};

enum word_kind {
    WORD_NEUTRAL = 1,
    WORD_ABOUT = 2,
    WORD_ASKS = 4,
    WORD_OWNER = 8,
    WORD_JOINS = 16,
    WORD_VERSIONED = 32
};

static const struct {
    uint8_t kind;
    const char *text;
} words[] = {
#define WORD(kind, text) {WORD_##kind, (text)},
#include "flow/inspect/key_words.def"
#undef WORD
};

/* Open addressing; filled once by keys_init and only read afterwards. */
struct slot {
    uint64_t hash;
    uint16_t phrase; /* index + 1 */
    uint8_t word_kinds;
};

static struct slot table[TABLE_SLOTS];

static uint64_t hash_byte(uint64_t hash, uint8_t c) {
    return (hash ^ c) * 0x100000001b3u;
}

static uint64_t hash_bytes(const uint8_t *p, size_t n) {
    uint64_t hash = 0xcbf29ce484222325u;
    for (size_t i = 0; i < n; i++) {
        hash = hash_byte(hash, p[i]);
    }
    return hash;
}

/*
 * Two texts of our tables with one hash would be a bug of the tables, which keys_init checks; a
 * key's text may collide with a phrase only by an attack on 64-bit FNV, whose gain is that his own
 * harmless key is treated as sensitive.
 */
static struct slot *slot_of(uint64_t hash) {
    size_t at = (size_t)(hash ^ hash >> 32) & (TABLE_SLOTS - 1);
    while (table[at].hash != hash && table[at].hash != 0) {
        at = (at + 1) & (TABLE_SLOTS - 1);
    }
    return &table[at];
}

/*
 * Which first three bytes some phrase has: nearly every word that means nothing is known by them.
 */
static uint8_t openings[OPENING_BITS / 8];
/* Owners by their first letter, one list after another. */
static uint8_t owners[BH_COUNT(words)];
static uint8_t owners_first[27];

static unsigned opening_of(const uint8_t *p) {
    return ((unsigned)p[0] * 0x9e5u ^ (unsigned)p[1] * 0x3b1u ^ (unsigned)p[2] * 0x67u) &
           (OPENING_BITS - 1);
}

static bool opens(const uint8_t *p) {
    unsigned bit = opening_of(p);
    return (openings[bit / 8] >> bit % 8 & 1U) != 0;
}

/* A phrase of two bytes opens with whatever follows it. */
static void opening_add(struct span text) {
    uint8_t p[3] = {text.p[0], text.p[1], 0};
    for (unsigned third = 0; third < 256; third++) {
        p[2] = text.n > 2 ? text.p[2] : (uint8_t)third;
        unsigned bit = opening_of(p);
        openings[bit / 8] |= (uint8_t)(1U << bit % 8);
    }
}

static void owners_init(void) {
    unsigned count = 0;
    for (unsigned letter = 0; letter < 26; letter++) {
        owners_first[letter] = (uint8_t)count;
        for (size_t i = 0; i < BH_COUNT(words); i++) {
            if (words[i].kind == WORD_OWNER && words[i].text[0] == (char)('a' + letter)) {
                owners[count++] = (uint8_t)i;
            }
        }
    }
    owners_first[26] = (uint8_t)count;
}

void keys_init(void) {
    _Static_assert(BH_COUNT(words) < 256, "owners are numbered in a byte");
    memset(table, 0, sizeof table);
    memset(openings, 0, sizeof openings);
    owners_init();
    for (size_t i = 0; i < BH_COUNT(phrases); i++) {
        struct span text = span_str(phrases[i].text);
        check(text.n >= KEY_PHRASE_MIN && text.n <= PHRASE_BYTES_MAX);
        opening_add(text);
        struct slot *slot = slot_of(hash_bytes(text.p, text.n));
        check(slot->phrase == 0);
        slot->hash = hash_bytes(text.p, text.n);
        slot->phrase = (uint16_t)(i + 1);
    }
    for (size_t i = 0; i < BH_COUNT(words); i++) {
        struct span text = span_str(words[i].text);
        if (words[i].kind == WORD_VERSIONED) {
            opening_add(text);
        }
        struct slot *slot = slot_of(hash_bytes(text.p, text.n));
        check(slot->phrase == 0 || span_is(text, phrases[slot->phrase - 1].text));
        slot->hash = hash_bytes(text.p, text.n);
        slot->word_kinds |= words[i].kind;
    }
}

/* A key's words: lower case, one after another without gaps. */
struct key_text {
    uint8_t bytes[KEY_BYTES + 8];
    uint8_t start[WORDS_MAX + 1]; /* of each word; start[count] = end */
    uint8_t count;
};

enum char_kind { CHAR_NONE, CHAR_LOWER, CHAR_UPPER, CHAR_DIGIT, CHAR_OTHER };

static enum char_kind char_kind(uint8_t c) {
    if (c >= 0x80) {
        return CHAR_OTHER;
    }
    if (is_digit(c)) {
        return CHAR_DIGIT;
    }
    return is_alpha(c) ? (c < 'a' ? CHAR_UPPER : CHAR_LOWER) : CHAR_NONE;
}

/*
 * Lower case of Latin-1 and Cyrillic letters in place, the two that capital phrases of keys.def
 * need.
 */
static void fold_two_bytes(uint8_t *p) {
    /* NOLINTNEXTLINE(bugprone-branch-clone): one script, one line each */
    if (p[0] == 0xc3 && p[1] >= 0x80 && p[1] <= 0x9e) {
        p[1] = (uint8_t)(p[1] + 0x20);
    } else if (p[0] == 0xd0 && p[1] >= 0x90 && p[1] <= 0x9f) {
        p[1] = (uint8_t)(p[1] + 0x20);
    } else if (p[0] == 0xd0 && p[1] >= 0xa0 && p[1] <= 0xaf) {
        p[0] = 0xd1;
        p[1] = (uint8_t)(p[1] - 0x20);
    }
}

static bool word_begins(enum char_kind before, enum char_kind now, enum char_kind next) {
    if (before == CHAR_NONE || now == CHAR_NONE) {
        return true;
    }
    if (now == CHAR_UPPER) {
        return before != CHAR_UPPER || next == CHAR_LOWER;
    }
    return (now == CHAR_DIGIT) != (before == CHAR_DIGIT);
}

static void key_split(struct span key, struct key_text *text) {
    size_t n = text->start[text->count];
    enum char_kind before = CHAR_NONE;
    for (size_t i = 0; i < key.n && n < KEY_BYTES; i++) {
        uint8_t c = key.p[i];
        enum char_kind now = char_kind(c);
        enum char_kind next = i + 1 < key.n ? char_kind(key.p[i + 1]) : CHAR_NONE;
        if (now != CHAR_NONE && word_begins(before, now, next)) {
            if (text->count == WORDS_MAX) {
                break;
            }
            text->start[text->count++] = (uint8_t)n;
        }
        if (now != CHAR_NONE) {
            text->bytes[n++] = now == CHAR_UPPER ? (uint8_t)(c | 0x20) : c;
            if (n - text->start[text->count - 1] >= 2 && now == CHAR_OTHER) {
                fold_two_bytes(text->bytes + n - 2);
            }
        }
        before = now;
    }
    text->start[text->count] = (uint8_t)n;
}

static unsigned word_kinds(const struct key_text *text, unsigned word) {
    size_t start = text->start[word];
    return slot_of(hash_bytes(text->bytes + start, (size_t)text->start[word + 1] - start))
        ->word_kinds;
}

static bool is_numeral(const struct key_text *text, unsigned word) {
    return is_digit(text->bytes[text->start[word]]);
}

/* Whether a phrase that lies in words [first, end) counts there. */
static bool rule_binds(const struct key_text *text, const struct key_rule *rule, unsigned first,
                       unsigned end, bool profile) {
    if (rule->words == WORDS_ALL || rule->words == WORDS_PROFILE) {
        return first == 0 && end == text->count && (rule->words == WORDS_ALL || profile);
    }
    if (rule->words == WORDS_LAST) {
        for (unsigned i = end; i < text->count; i++) {
            if (!is_numeral(text, i) && (word_kinds(text, i) & WORD_NEUTRAL) == 0) {
                return false;
            }
        }
        return true;
    }
    if (!class_is_never_disk(rule->class_id)) {
        return true;
    }
    unsigned last = text->count - 1U;
    bool about = end <= last && ((word_kinds(text, last) & WORD_ABOUT) != 0 ||
                                 (class_is_within(rule->class_id, CLASS_AUTHORIZATION) &&
                                  end == last && text->start[last + 1] - text->start[last] == 2 &&
                                  memcmp(text->bytes + text->start[last], "id", 2) == 0));
    return !about && !(first > 0 && (word_kinds(text, 0) & WORD_ASKS) != 0);
}

struct best {
    struct key_rule rule;
    size_t length;
};

/* Never-on-disk before all else, then the longer phrase. */
static void consider(const struct key_text *text, uint64_t hash, size_t length, unsigned first,
                     unsigned end, bool profile, struct best *best) {
    const struct slot *slot = slot_of(hash);
    if (slot->phrase == 0) {
        return;
    }
    const struct key_rule *rule = &phrases[slot->phrase - 1].rule;
    bool never = class_is_never_disk(rule->class_id);
    bool best_never = best->length > 0 && class_is_never_disk(best->rule.class_id);
    if (best->length > 0 && (never != best_never ? best_never : length <= best->length)) {
        return;
    }
    if (rule_binds(text, rule, first, end, profile)) {
        best->rule = *rule;
        best->length = length;
    }
}

/*
 * Chinese, Japanese, Korean and others write words without spaces: look for phrases of up to
 * DENSE_CHARS_MAX characters inside the word.
 */
static void consider_dense(const struct key_text *text, unsigned word, bool profile,
                           struct best *best) {
    size_t end = text->start[word + 1];
    for (size_t i = text->start[word]; i < end; i++) {
        if ((text->bytes[i] & 0xc0) == 0x80) {
            continue;
        }
        uint64_t hash = hash_bytes(NULL, 0);
        unsigned characters = 0;
        for (size_t j = i; j < end && characters < DENSE_CHARS_MAX; j++) {
            hash = hash_byte(hash, text->bytes[j]);
            if (j + 1 == end || (text->bytes[j + 1] & 0xc0) != 0x80) {
                characters++;
                consider(text, hash, j + 1 - i, word, word + 1, profile, best);
            }
        }
    }
}

static void consider_owned(const struct key_text *text, unsigned word, bool profile,
                           struct best *best) {
    const uint8_t *p = text->bytes + text->start[word];
    size_t n = (size_t)text->start[word + 1] - text->start[word];
    if (n < 5 || !is_alpha(p[0])) {
        return;
    }
    unsigned letter = p[0] - (unsigned)'a';
    for (unsigned i = owners_first[letter]; i < owners_first[letter + 1]; i++) {
        struct span owner = span_str(words[owners[i]].text);
        if (span_starts((struct span){p, n}, owner) && n > owner.n && opens(p + owner.n)) {
            consider(text, hash_bytes(p + owner.n, n - owner.n), n - owner.n, word, word + 1,
                     profile, best);
        }
    }
}

/* The phrases that begin at word `first` and end after word `past`. */
static void consider_from(const struct key_text *text, unsigned first, unsigned past, bool profile,
                          struct best *best) {
    uint64_t hash = hash_bytes(NULL, 0);
    size_t begin = text->start[first];
    for (unsigned end = first + 1; end <= text->count && end <= first + PHRASE_WORDS_MAX; end++) {
        size_t stop = text->start[end];
        if (stop - begin > PHRASE_BYTES_MAX) {
            break;
        }
        for (size_t i = text->start[end - 1]; i < stop; i++) {
            hash = hash_byte(hash, text->bytes[i]);
        }
        if (end > past) {
            consider(text, hash, stop - begin, first, end, profile, best);
        }
    }
}

/*
 * The best rule among the phrases that end after word `past` and, when it is not 0, begin before
 * it.
 */
static struct best best_phrase(const struct key_text *text, unsigned past, bool profile) {
    struct best best = {{CLASS_NONE, 0, 0}, 0};
    unsigned count = past == 0 ? text->count : past;
    for (unsigned first = 0; first < count; first++) {
        const uint8_t *p = text->bytes + text->start[first];
        if (opens(p)) {
            consider_from(text, first, past, profile, &best);
        }
        if (past == 0 && best.length == 0) {
            if (p[0] >= 0xc3) {
                consider_dense(text, first, profile, &best);
            } else {
                consider_owned(text, first, profile, &best);
            }
        }
    }
    return best;
}

struct key_info keys_classify(struct span key, struct span above, bool profile) {
    struct key_info info = KEY_SILENT;
    struct key_text text;
    text.count = 0;
    text.start[0] = 0;
    memset(
        text.bytes, 0,
        sizeof text
            .bytes); /* what lies behind the last word is looked at, and must not change the answer */
    unsigned boundary = 0;
    if (above.n > 0) {
        key_split(above, &text);
        boundary = text.count;
    }
    key_split(key, &text);
    if (text.count == boundary || (above.n > 0 && boundary == 0)) {
        return info;
    }
    struct key_rule rule = best_phrase(&text, boundary, profile).rule;
    info.class_id = rule.class_id;
    info.shape = rule.shape;
    bool version = false;
    for (unsigned i = boundary; i < text.count; i++) {
        version |=
            opens(text.bytes + text.start[i]) && (word_kinds(&text, i) & WORD_VERSIONED) != 0;
    }
    bool joins =
        boundary == 0 && rule.class_id == CLASS_NONE && (word_kinds(&text, 0) & WORD_JOINS) != 0;
    info.flags = (uint8_t)(info.flags | (version ? KEY_VERSION : 0) | (joins ? KEY_JOINS : 0));
    return info;
}

struct tally {
    size_t digits;
    size_t letters;
    size_t others; /* neither letter, digit, space, '-' nor '_' */
};

static struct tally tally(struct span value) {
    struct tally t = {0, 0, 0};
    for (size_t i = 0; i < value.n; i++) {
        uint8_t c = value.p[i];
        bool letter = is_alpha(c) || c >= 0x80;
        t.digits += is_digit(c);
        t.letters += letter;
        t.others += !letter && !is_digit(c) && c != ' ' && c != '-' && c != '_';
    }
    return t;
}

/* A word of a user interface and not a secret: "weekly", "Sign in with Google". */
static bool plain_words(struct span value, const struct tally *t) {
    return t->digits == 0 && t->others == 0 && value.n <= 24;
}

static bool has_fraction(struct span value) {
    size_t dot = span_find_byte(value, '.');
    return dot != SIZE_MAX && dot + 2 < value.n && is_digit(value.p[dot + 1]) &&
           is_digit(value.p[dot + 2]);
}

bool shape_fits(enum key_shape shape, enum json_kind kind, struct span value) {
    if (kind == JSON_TRUE || kind == JSON_FALSE) {
        return shape == SHAPE_TRUTH;
    }
    if (kind != JSON_STRING && kind != JSON_NUMBER) {
        return false;
    }
    bool number = kind == JSON_NUMBER;
    if (value.n == 0) {
        return false;
    }
    if (shape == SHAPE_ANY || shape == SHAPE_TRUTH || shape == SHAPE_TEXT) {
        return !number || shape != SHAPE_TEXT;
    }
    struct tally t = tally(value);
    switch (shape) {
    case SHAPE_SECRET:
        return !number && value.n >= 2 && !plain_words(value, &t);
    case SHAPE_LETTERS:
        return !number && t.letters > 0;
    case SHAPE_CODE:
        return t.digits >= 3 && t.digits <= 8 && t.letters == 0 && t.others == 0;
    case SHAPE_DIGITS:
        return t.digits >= 4;
    case SHAPE_PHONE:
        return t.digits >= 7 && t.digits <= 20 && t.letters <= 4;
    case SHAPE_CARD:
        return t.digits >= 9;
    case SHAPE_ID:
        return value.n >= 4 && t.digits > 0;
    case SHAPE_COORDINATE:
        return has_fraction(value);
    case SHAPE_TEXT:
    case SHAPE_ANY:
    case SHAPE_TRUTH:
    default:
        return true;
    }
}
