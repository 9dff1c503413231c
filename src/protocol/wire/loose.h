/*
 * A loose walk over JSON that is known or hoped to be well-formed: brackets are counted, strings
 * are skipped. It needs no tokens, is linear, and ends at the first thing that it does not
 * understand. For encoders, which add a few members, and for vendors' answers.
 * Owner: the caller; nothing is copied. Thread: any. Errors: false, SIZE_MAX.
 */
#ifndef BH_PROTOCOL_LOOSE_H
#define BH_PROTOCOL_LOOSE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/bytes.h"

size_t loose_skip_space(struct span s, size_t i);
/* At a quote: index after the closing one, or SIZE_MAX. */
size_t loose_skip_string(struct span s, size_t i);
/* Steps over the comma before the next element or member, if there is one. */
size_t loose_skip_comma(struct span container, size_t i);
/* Key of the object's next member; *i starts at 1 and stands at the member's value afterwards. */
bool loose_next_key(struct span object, size_t *i, struct span *ret_key);
/* The value at *i, which afterwards stands behind it. */
bool loose_take_value(struct span container, size_t *i, struct span *ret_value);
/* Value of a member of a whole object; false when it is absent or the object is cut short. */
bool loose_member(struct span object, const char *name, struct span *ret_value);

#endif
