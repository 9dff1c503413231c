/*
 * Unquote: undoes the light encodings that people and programs put around text, all in one pass:
 * %40 and %u0040, backslash escapes (\u0040, \x40, \n, \/, \"), and character references (&#64;,
 * &#x40;, &amp;), and characters that stand for those of ASCII (full width, other digits) or for
 * nothing (zero width). What is malformed stays as it is.
 *
 * Keeps marks, one source offset per UNQUOTE_MARK decoded bytes, so that an offset maps back
 * without walking from the start. Any thread; pure.
 */
#ifndef BH_FLOW_INSPECT_UNQUOTE_H
#define BH_FLOW_INSPECT_UNQUOTE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"

enum { UNQUOTE_MARK = 64 };

static inline size_t unquote_marks_count(size_t source_length) {
    return source_length / UNQUOTE_MARK + 2;
}

/* Whether anything in it is encoded. */
bool unquote_changes(struct span source);
/* Decodes into out (room for source.n bytes: decoding never grows) and returns the length. */
size_t unquote(struct span source, uint8_t *out, uint32_t *marks);
/* The source range of decoded [start, start + length), length >= 1. */
void unquote_map(struct span source, const uint32_t *marks, size_t start, size_t length,
                 size_t *ret_start, size_t *ret_length);

#endif
