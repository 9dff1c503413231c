/* What the json module's files share with each other only. */
#ifndef BH_ENGINE_JSON_INT_H
#define BH_ENGINE_JSON_INT_H

#include "engine/json/json.h"

#define JSON_CHAR_NONE UINT32_MAX

/* The twins behind json_parse and utf8_valid; those named avx2 need a processor that has it. */
int json_parse_avx2(struct span text, unsigned depth_max, struct json_token *tokens,
                    size_t tokens_cap, size_t *ret_count, size_t *ret_offset) BH_MUST_USE;
/* Offset of the first byte that begins or breaks a character wrongly, or n when all are valid. */
size_t utf8_first_bad_scalar(const uint8_t *p, size_t n);
size_t utf8_first_bad_avx2(const uint8_t *p, size_t n);

/*
 * The next character of a valid JSON string's raw bytes, escapes decoded; a lone surrogate escape
 * comes back as U+FFFD. JSON_CHAR_NONE at the end. `raw` shrinks by what was read.
 */
uint32_t json_next_char(struct span *raw);
/* Writes a character as UTF-8 into at most 4 bytes; returns how many. */
unsigned utf8_put(uint32_t character, uint8_t out[4]);
/* One character of a JSON string as RFC 8785 escapes it. */
void json_put_char(struct buf *b, uint32_t character);

#endif
