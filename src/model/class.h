/*
 * Classes (data categories) of the Fideslang taxonomy: numbers, names, parents, flags. The table is
 * taxonomy.def.
 * Any thread; pure.
 */
#ifndef BH_MODEL_CLASS_H
#define BH_MODEL_CLASS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"

enum class_flag {
    CLASS_NEVER = 1,                    /* never leaves in any form */
    CLASS_NEVER_DISK = 2 | CLASS_NEVER, /* and is overwritten before anything is written */
    CLASS_OWN_LINE = 4,                 /* a parent's rule does not open it */
    CLASS_ID = 8,                       /* an identifier: raw, pseudonym or drop */
};

enum class_id {
    CLASS_NONE = 0,
#define CLASS(number, name, text, parent, flags) CLASS_##name = (number),
#include "model/taxonomy.def"
#undef CLASS
    CLASS_LIMIT = 160, /* numbers are below this; for tables indexed by class */
};

/* Name as in contracts and answers; NULL for a number that is none. */
const char *class_name(uint16_t class_id);
/* CLASS_NONE for no such name. */
uint16_t class_by_name(struct span name);
uint16_t class_parent(uint16_t class_id);
unsigned class_flags(uint16_t class_id);
/* Whether `ancestor` is class_id or one of its parents. */
bool class_is_within(uint16_t class_id, uint16_t ancestor);
static inline bool class_is_never(uint16_t class_id) {
    return (class_flags(class_id) & CLASS_NEVER) != 0;
}
static inline bool class_is_never_disk(uint16_t class_id) {
    return (class_flags(class_id) & 2U) != 0;
}
/* All class numbers in taxonomy order; *ret_count of them. */
const uint16_t *class_all(unsigned *ret_count);
/* The valid name nearest to a misspelt one (edit distance <= 1/3 of its length), or NULL. */
const char *class_nearest(struct span name);

#endif
