/*
 * Finding: inspect's word that a leaf (or a span in it) holds a class, and why.
 *
 * `leaf` is the index of the token in the item's own token list (engine/json), the item's root
 * being 0, so that a later parse of the same bytes finds it again. `start` and `length` are byte
 * offsets in the *decoded* string (after JSON unescaping, before any other decoding); length
 * FINDING_WHOLE means the whole value. A finding on a key has the key's token as leaf.
 */
#ifndef BH_MODEL_FINDING_H
#define BH_MODEL_FINDING_H

#include <stdint.h>

enum finding_by { FOUND_BY_KEY = 1, FOUND_BY_VALUE = 2, FOUND_BY_SCHEMA = 3 };

#define FINDING_WHOLE UINT32_MAX

struct finding {
    uint16_t leaf;
    uint16_t class_id;
    uint8_t by; /* enum finding_by */
    uint32_t start;
    uint32_t length;
};

#endif
