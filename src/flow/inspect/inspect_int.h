/*
 * What inspect's own files share.
 *
 *   inspect.c          the public calls: a request's items, one string
 *   inspect_walk.c     iterates the strings and numbers of a JSON tree and knows which key rules bind each
 *   inspect_frames.c   opens what is encoded inside a string, level by level, with a stack of frames instead of recursion
 *   inspect_detect.c   shapes in one text: e-mail, URL credentials, IPv6, key=value pairs
 *   inspect_numbers.c  shapes made of digits: card, IBAN, phone, IPv4, SSN
 *   inspect_keys.c     key -> rule (keys.def), with a cache
 *   inspect_secrets.c  typed secrets (secrets.def) through Vectorscan
 *   inspect_emit.c     a match in some frame -> a finding on the item's leaf; order and precedence
 */
#ifndef BH_FLOW_INSPECT_INT_H
#define BH_FLOW_INSPECT_INT_H

#include "flow/inspect/inspect.h"
#include "flow/inspect/inspect_gate.h"
#include "flow/inspect/inspect_unquote.h"
#include "model/class.h"
#include "model/limits.h"

enum {
    /* Encodings inside each other that are followed (invariant I3). */
    DECODES_MAX = 4,
    /* A decoded text may hold JSON, whose strings are frames that decode nothing. */
    FRAMES_MAX = 2 * DECODES_MAX + 2,
    /*
     * Each level's texts are disjoint parts of the level above, so all of them are at most 5 times
     * the item, and marks a 16th of that.
     */
    POOL_BYTES = 6 * LIMIT_EVENT_BYTES,
    NESTED_TOKENS_MAX = 2 * LIMIT_EVENT_TOKENS,
    SEGMENTS_MAX = 4096,
    HITS_MAX = 2 * LIMIT_EVENT_FINDINGS,
    ALPHABETS_MAX = 16,
    WALK_DEPTH_MAX = LIMIT_JSON_DEPTH + 2,
};

/* --- keys --- */

enum key_words {
    WORDS_ANYWHERE, /* the words stand anywhere in the key, unless another says that the key is about them ("password_length") */
    WORDS_LAST,     /* the words end the key, but for neutral ones ("email_work") */
    WORDS_ALL,      /* the words are the key */
    WORDS_PROFILE,  /* the words are the key, in a profile */
};

/* What a value must look like for a key alone to decide. */
enum key_shape {
    SHAPE_TEXT,       /* a string that is not empty */
    SHAPE_ANY,        /* that, or a number */
    SHAPE_TRUTH,      /* that, or true and false */
    SHAPE_SECRET,     /* a string that is no plain word */
    SHAPE_LETTERS,    /* a string with a letter */
    SHAPE_CODE,       /* 3 to 8 digits, as string or number */
    SHAPE_DIGITS,     /* 4 digits or more */
    SHAPE_PHONE,      /* 7 to 20 digits and no letters but "ext" */
    SHAPE_CARD,       /* 12 digits or more */
    SHAPE_ID,         /* 4 characters or more, one of them a digit */
    SHAPE_COORDINATE, /* a number with a fraction */
};

struct key_rule {
    uint16_t class_id;
    uint8_t words; /* enum key_words */
    uint8_t shape; /* enum key_shape */
};

enum key_flag {
    KEY_RESERVED = 1, /* a reserved field: the schema speaks, key words do not */
    KEY_VERSION = 2,  /* holds a version: four numbers with dots are no IP address */
    KEY_PLAIN = 4,    /* the key's own text needs no detector */
    KEY_JOINS = 8, /* says nothing alone but may with the key above it ("card": {"number": …}) */
};

/*
 * What is known of a key, the same wherever it occurs at one place of one kind of item. Eight
 * bytes: it is copied for every leaf.
 */
struct key_info {
    uint16_t class_id;     /* what the key's words say; CLASS_NONE: nothing */
    uint16_t schema_class; /* of a reserved field; CLASS_NONE else */
    uint8_t shape;         /* enum key_shape: what a value of class_id looks like */
    uint8_t inside;        /* enum field_place of the members of this key's object */
    uint8_t flags;         /* enum key_flag */
};

/*
 * For texts that no key binds: keys themselves, and what is decoded from a text that its key has
 * already been asked about.
 */
#define KEY_SILENT ((struct key_info){CLASS_NONE, CLASS_NONE, 0, PLACE_NONE, KEY_PLAIN})
extern const struct key_info key_silent;
extern const struct key_info key_unknown; /* of a key that has yet to be decoded: not plain */

void keys_init(void);
/* The rule of a key's text (decoded). `joined` is the text of the key above, or SPAN_NONE. */
struct key_info keys_classify(struct span key, struct span above, bool profile);
bool shape_fits(enum key_shape shape, enum json_kind kind, struct span value);

enum {
    KEY_PHRASE_MIN = 2,
    KEY_UNCACHED = 256,
    KEY_SHORT_MAX = 32,
    KEY_LONG_MAX = 96,
    KEY_SHORT_SLOTS = 1024,
    KEY_LONG_SLOTS = 64
};

/*
 * The keys that were seen last. A short key is held padded with zeros, so that it is compared
 * without a loop; each remembers which key came after it, since a product's events repeat the same
 * keys in the same order.
 */
struct key_short {
    uint64_t words[KEY_SHORT_MAX / 8];
    struct key_short *next;
    struct key_info info;
    uint8_t length;
    uint16_t salt; /* 0 = empty */
};

struct key_long {
    uint64_t hash;
    struct key_info info;
    uint8_t length; /* 0 = empty */
    uint16_t salt;
    uint8_t text[KEY_LONG_MAX];
};

struct key_cache {
    struct key_short *last;
    struct key_short shorts[KEY_SHORT_SLOTS];
    struct key_long longs[KEY_LONG_SLOTS];
    /*
     * Of keys that are not kept. The walk holds on to one for each open level (32, and 4 nested
     * encodings), so they go round.
     */
    struct key_info uncached[KEY_UNCACHED];
    uint8_t uncached_next;
};

/* Where a key stands, as far as it changes what the key means. */
struct key_place {
    const struct protocol_ops *protocol; /* NULL in nested JSON and in text */
    uint8_t place;                       /* enum field_place */
    bool profile;
    uint16_t salt; /* the three in one word, never 0 */
};

static inline struct key_place key_place(const struct protocol_ops *protocol, uint8_t place,
                                         bool profile) {
    uint16_t salt =
        (uint16_t)(1 | place << 8 | (profile ? 2 : 0) | (protocol != NULL ? protocol->id << 2 : 0));
    return (struct key_place){protocol, place, profile, salt};
}

/* masks[n] keeps the first n bytes of KEY_SHORT_MAX. */
extern uint64_t key_masks[KEY_SHORT_MAX + 1][KEY_SHORT_MAX / 8];

void key_cache_init(struct key_cache *cache);
/*
 * What key_lookup does when the guess was wrong. The answer holds until the next key is looked up.
 */
const struct key_info *key_lookup_slow(struct key_cache *cache, const struct key_place *at,
                                       struct span key, const uint8_t *reach);

/* Everything about a key (decoded), which lies in memory readable up to `reach`. */
static inline const struct key_info *key_lookup(struct key_cache *cache, const struct key_place *at,
                                                struct span key, const uint8_t *reach) {
    struct key_short *guess = cache->last->next;
    if (BH_LIKELY(guess->length == key.n && guess->salt == at->salt &&
                  reach - key.p >= KEY_SHORT_MAX)) {
        uint64_t words[KEY_SHORT_MAX / 8];
        memcpy(words, key.p, KEY_SHORT_MAX);
        const uint64_t *mask = key_masks[key.n];
        uint64_t differ = 0;
        for (unsigned i = 0; i < KEY_SHORT_MAX / 8; i++) {
            differ |= (words[i] & mask[i]) ^ guess->words[i];
        }
        if (BH_LIKELY(differ == 0)) {
            cache->last = guess;
            return &guess->info;
        }
    }
    return key_lookup_slow(cache, at, key, reach);
}

/* --- walk --- */

struct walk_level {
    uint32_t end;         /* index past the container's subtree */
    bool silent;          /* info binds nothing */
    struct key_info info; /* binds what has no key of its own, and what a key says nothing about */
    struct key_place at;  /* of its members */
    uint32_t key; /* index of the key that named the container, or the array around it; 0 = none */
};

struct walk {
    struct span text;
    const struct json_token *tokens;
    uint32_t at;
    uint32_t depth;
    bool pending; /* the key before the token at hand was handed out; `info` is what it says */
    struct key_info info;      /* of a key that walk_key_slow saw */
    struct key_info inherited; /* the last that walk_inherit made */
    struct walk_level levels[WALK_DEPTH_MAX];
};

struct walk_step {
    const struct json_token *token; /* a scalar, or a key whose own text must be looked at */
    uint32_t index;                 /* of the token in walk.tokens */
    const struct key_info *info;    /* what binds it; holds until the next key is looked up */
};

/* --- frames --- */

enum frame_how {
    FRAME_ROOT,    /* the decoded string of the leaf itself */
    FRAME_SLICE,   /* a string inside JSON, without escapes: offsets differ by a constant */
    FRAME_UNQUOTE, /* percent-encoding, escapes, entities undone: offsets by marks */
    FRAME_WHOLE,   /* base64, or an escaped string inside JSON: stands for its whole source */
};

enum frame_mode { MODE_DONE, MODE_JSON, MODE_UNQUOTE, MODE_BASE64 };

struct frame {
    struct span text;
    uint32_t source_start; /* in the frame below */
    uint32_t source_length;
    const uint32_t *marks;
    uint8_t how;
    uint8_t mode;
    uint8_t decodes;
    uint32_t cursor; /* MODE_BASE64: where to look next */
    size_t tokens_before;
    struct key_info info; /* what its key says */
    struct walk walk;
};

/* A decoded text that the secrets scan has yet to see. */
struct segment {
    uint32_t start; /* in the pool */
    uint32_t length;
    uint16_t leaf;
    bool root; /* offsets are the leaf's own */
};

struct hit {
    uint32_t start;
    uint32_t end;
    uint16_t class_id;
};

/* No character of the kind stands in [from, at); one stands at `at`, or the search ended there. */
struct next_kind {
    uint32_t from;
    uint32_t at;
};

struct hits {
    const uint8_t *text;
    size_t n;
    uint32_t count;
    bool too_many;
    uint32_t
        run_start[ALPHABETS_MAX]; /* the run last measured, so that no byte is measured twice */
    uint32_t run_end[ALPHABETS_MAX];
    uint32_t jwt_failed_end;
    struct next_kind next[3]; /* digit, small letter, capital: the next one, as far as was looked */
    struct hit hit[HITS_MAX + 1];
};

struct inspector {
    uint32_t magic;
    void *scratch; /* hs_scratch_t */
    /* Of the item in hand. */
    struct finding *findings;
    size_t findings_count;
    size_t findings_cap;
    uint16_t leaf;
    bool unsorted;
    int error;
    uint32_t frame_count;
    size_t pool_used;
    size_t
        pool_high; /* what of the pool this request has used: wiped at its end, decoded secrets lay in it */
    size_t tokens_used;
    size_t segment_count;
    uint8_t *pool;
    struct json_token *nested;
    struct frame frames[FRAMES_MAX];
    struct segment segments[SEGMENTS_MAX];
    struct hits raw;  /* in the request's own text */
    struct hits deep; /* in decoded texts */
    struct walk walk;
    struct key_cache keys;
};

/*
 * The tree at `root`; protocol and kind are NULL and 0 in nested JSON, where `outer` binds what no
 * inner key does.
 */
void walk_open(struct walk *w, struct span text, const struct json_token *tokens, uint32_t root,
               const struct protocol_ops *protocol, uint8_t kind, const struct key_info *outer);
/* What the rare keys mean: with escapes, not plain, or to be joined with the key above. */
const struct key_info *walk_key_slow(struct inspector *in, struct walk *w, uint32_t index,
                                     const struct key_info *info);
/* Into the container at `index`, whose key (0 = none) is at `key`. */
bool walk_down(struct inspector *in, struct walk *w, uint32_t index, uint32_t key,
               const struct key_info *info);
/* What a leaf or container takes from around it where its own key is silent. */
const struct key_info *walk_inherit(struct walk *w, const struct key_info *info);

/*
 * The next string, number, true, false, null, or key that is not plain; false at the end or after
 * an error.
 */
static inline bool walk_next(struct inspector *in, struct walk *w, struct walk_step *ret_step) {
    for (;;) {
        const struct walk_level *level = &w->levels[w->depth];
        while (BH_UNLIKELY(w->at >= level->end)) {
            if (w->depth == 0) {
                return false;
            }
            w->depth--;
            level--;
        }
        uint32_t index = w->at++;
        uint32_t key = 0;
        const struct json_token *token = &w->tokens[index];
        const struct key_info *info = &level->info;
        if (BH_UNLIKELY(w->pending)) {
            w->pending = false;
            key = index - 1;
            info = &w->info;
        } else if (token->kind == JSON_KEY) {
            key = index;
            info = &key_unknown;
            if (BH_LIKELY((token->flags & JSON_ESCAPED) == 0)) {
                info = key_lookup(&in->keys, &level->at, json_span(w->text, token),
                                  w->text.p + w->text.n);
            }
            if (BH_UNLIKELY((info->flags & (KEY_PLAIN | KEY_JOINS)) != KEY_PLAIN)) {
                info = walk_key_slow(in, w, index, info);
                if ((info->flags & KEY_PLAIN) == 0) {
                    w->pending = true;
                    *ret_step = (struct walk_step){token, index, &key_silent};
                    return in->error == 0;
                }
            }
            w->at++;
            index++;
            token++;
        }
        if (BH_UNLIKELY(!level->silent) && key != 0) {
            info = walk_inherit(w, info);
        }
        if (BH_LIKELY(token->kind < JSON_KEY)) {
            *ret_step = (struct walk_step){token, index, info};
            return true;
        }
        if (!walk_down(in, w, index, key, info)) {
            return false;
        }
    }
}

/* Looks at a decoded string and all that is encoded in it. */
void frames_look(struct inspector *in, struct span text, const struct key_info *info,
                 unsigned features, bool decoded);
/*
 * Room for a text of up to n bytes in the pool, between line feeds, so that no anchor or run
 * crosses from one text to the next; NULL with in->error set. pool_keep ends it; nothing else is
 * taken in between.
 */
uint8_t *pool_text(struct inspector *in, size_t n);
struct span pool_keep(struct inspector *in, uint8_t *text, size_t n);
/* A string token's text with its escapes decoded. */
struct span pool_unescape(struct inspector *in, struct span raw);

/* Shapes in one text; offsets are the top frame's. */
void detect_text(struct inspector *in, struct span text, const struct key_info *info,
                 unsigned features);
void detect_numbers(struct inspector *in, struct span text, const struct key_info *info);
/* A JSON number, true, false or null. */
void detect_scalar(struct inspector *in, enum json_kind kind, struct span text,
                   const struct key_info *info);
/* What the key alone decides; true when the value is never-on-disk as a whole. */
bool detect_by_key(struct inspector *in, enum json_kind kind, struct span text,
                   const struct key_info *info);
void numbers_init(void);
/*
 * Whether bytes are a payment card's number: digits alone, of a right length, range and check
 * digit.
 */
bool card_valid(const uint8_t *digits, size_t n);

/* Typed secrets. */
int secrets_init(struct err *err) BH_MUST_USE;
int secrets_scratch_new(void **ret_scratch) BH_MUST_USE;
void secrets_scratch_free(void *scratch);
void secrets_scan(void *scratch, struct span text, struct hits *ret_hits);
/* Scans the decoded texts that wait. */
void secrets_flush(struct inspector *in);

/* A match at [start, start + length) of the top frame's text. */
void emit(struct inspector *in, uint16_t class_id, enum finding_by by, size_t start, size_t length);
void emit_whole(struct inspector *in, uint16_t class_id, enum finding_by by);
/* On another leaf than the one in hand; offsets are the leaf's own. */
void emit_on_leaf(struct inspector *in, uint16_t leaf, uint16_t class_id, enum finding_by by,
                  uint32_t start, uint32_t length);
/* Order by leaf and start, and leave out what another finding of the leaf covers. */
void emit_settle(struct inspector *in);

static inline bool is_digit(uint8_t c) {
    return c >= '0' && c <= '9';
}
static inline bool is_alpha(uint8_t c) {
    return (c | 0x20) >= 'a' && (c | 0x20) <= 'z';
}
static inline bool is_alnum(uint8_t c) {
    return is_digit(c) || is_alpha(c);
}
static inline bool is_space(uint8_t c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

#endif
