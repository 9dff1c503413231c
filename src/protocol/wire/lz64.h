/*
 * lz64: what posthog-js of before 2021 packs with when it is told to, LZ-string as base64.
 *
 *   six bits a letter, read from the high one -> codes of 2, 3 and more bits, low bit first -> UTF-16 units -> bytes
 *
 * A code is a new unit, or a word seen before: every word is the one before it and the unit that follows, so it stands
 * in what was written already, and the dictionary is places and lengths. Units are written as UTF-8 each for itself:
 * the halves of a pair are CESU-8, which json_repair_cesu8 joins.
 *
 * Owner: the caller; nothing is copied. Thread: any; a struct lz64 belongs to one.
 * Limits: LZ64_WORDS words; what needs more is TOO_BIG. The SDK packed single events and small batches so, a request of
 * a megabyte stays below.
 * Errors: SYNTAX; TOO_BIG, also when `out` is full. Nothing is written past `out`.
 */
#ifndef BH_PROTOCOL_LZ64_H
#define BH_PROTOCOL_LZ64_H

#include <stdbool.h>

#include "base/bytes.h"
#include "base/errors.h"

enum { LZ64_WORDS = 1 << 17 };

/* Large and mostly untouched: from calloc or a mapping. */
struct lz64 {
    struct {
        uint32_t at; /* in what was written */
        uint32_t n;
    } _words[LZ64_WORDS];
};

/* Whether it may be lz64 of JSON, which always begins so; base64 of JSON or gzip never does. */
bool lz64_is_likely(struct span text);
int lz64_decode(struct lz64 *lz64, struct span in, struct buf *out) BH_MUST_USE;

#endif
