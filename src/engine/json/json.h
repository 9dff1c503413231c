/*
 * JSON: one pass from bytes to a flat list of tokens.
 *
 * Purpose: validate RFC 8259 JSON (and UTF-8) at memory speed and remember where everything lies,
 * without copying or converting: number and key bytes stay as sent. AVX2 where the processor has
 * it, with a scalar twin that gives identical tokens and errors.
 *
 *   {"a":[1,"x"]}
 *   0 OBJECT [0..13) next 5     tokens stand in document order; `next` is the index
 *   1 KEY    a       next 5     just past the token's subtree, so skipping is one
 *   2 ARRAY  [5..12) next 5     assignment. A KEY's value is the token after it;
 *   3 NUMBER 1       next 4     KEY.next is past the value.
 *   4 STRING x       next 5
 *
 * Invariants: token 0 is the document's root; strings' and keys' spans exclude the quotes; depth of
 * the root is 0. Duplicate keys are kept (policy and inspect treat each; encoders never emit two).
 * Memory: the caller's token array; nothing else.
 * Thread: any (pure).
 * Errors: SYNTAX, UTF8, TOO_DEEP, TOO_MANY (tokens), with the byte offset.
 * Linear in the input; no recursion.
 */
#ifndef BH_ENGINE_JSON_H
#define BH_ENGINE_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/errors.h"

enum json_kind {
    JSON_NULL = 1,
    JSON_TRUE,
    JSON_FALSE,
    JSON_NUMBER,
    JSON_STRING,
    JSON_KEY,
    JSON_OBJECT,
    JSON_ARRAY,
};

enum json_flag {
    JSON_ESCAPED = 1,   /* a backslash occurs in the string or key */
    JSON_NON_ASCII = 2, /* a byte >= 0x80 occurs in it */
};

struct json_token {
    uint32_t start;
    uint32_t len;
    uint32_t next;
    uint16_t depth;
    uint8_t kind;  /* enum json_kind */
    uint8_t flags; /* enum json_flag */
};

/*
 * `text` <= UINT32_MAX bytes. On an error *ret_offset is the first offending byte. One document;
 * only white space may follow it.
 */
int json_parse(struct span text, unsigned depth_max, struct json_token *tokens, size_t tokens_cap,
               size_t *ret_count, size_t *ret_offset) BH_MUST_USE;
/* The same without SIMD: the twin for tests. */
int json_parse_scalar(struct span text, unsigned depth_max, struct json_token *tokens,
                      size_t tokens_cap, size_t *ret_count, size_t *ret_offset) BH_MUST_USE;

static inline struct span json_span(struct span text, const struct json_token *token) {
    return (struct span){text.p + token->start, token->len};
}

/*
 * Index of the value of `key` (compared unescaped) in the object at `object`, or 0 when absent (0
 * is never a value). Last one wins.
 */
uint32_t json_get(struct span text, const struct json_token *tokens, uint32_t object,
                  struct span key);
/* Decodes the escapes of a string or key token into b. A lone surrogate becomes U+FFFD. */
void json_unescape(struct span raw, struct buf *b);
/*
 * Bytes of the token decoded: the span itself when there is no escape, else written into b
 * (SPAN_NONE and b->full when it does not fit).
 */
struct span json_text(struct span text, const struct json_token *token, struct buf *b);
/* Writes `s` (valid UTF-8) as a JSON string with quotes; escapes as RFC 8785 does. */
void json_put_string(struct buf *b, struct span s);
/* A number token as double or as integer; false when it is none or not exact as int64. */
bool json_number(struct span raw, double *ret_value);
bool json_integer(struct span raw, int64_t *ret_value);

/*
 * Repairs UTF-8 in place so that real SDK traffic validates: CESU-8 surrogate pairs (6 bytes)
 * become one 4-byte character, lone surrogates become U+FFFD. Returns the new length (<= n). All
 * other invalid bytes are left for json_parse to refuse. When `text` is valid UTF-8 nothing
 * changes.
 */
size_t json_repair_cesu8(uint8_t *text, size_t n);
/* Lone \uD8xx escapes become \ufffd at equal length, in place; text is otherwise unchanged. */
void json_repair_escapes(uint8_t *text, size_t n);
/* Whether the bytes are valid UTF-8 (no surrogates, shortest form, <= U+10FFFF). */
bool utf8_valid(struct span s);

/*
 * Writes text's token tree as canonical JSON (RFC 8785): sorted keys (UTF-16 order), minimal
 * escapes, ECMAScript numbers. For configuration and rule sets, not for events. BH_E_FULL,
 * BH_E_TOO_DEEP.
 */
int json_canonical(struct span text, const struct json_token *tokens, struct buf *out) BH_MUST_USE;

#endif
