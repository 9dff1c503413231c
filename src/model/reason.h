/* Reasons: see reasons.def. Any thread; pure. */
#ifndef BH_MODEL_REASON_H
#define BH_MODEL_REASON_H

enum reason_id {
    REASON_NONE = 0,
#define REASON(number, name, word) REASON_##name = (number),
#include "model/reasons.def"
#undef REASON
    REASON_LIMIT = 32,
};

/* The word, or NULL. */
const char *reason_word(unsigned reason);

#endif
