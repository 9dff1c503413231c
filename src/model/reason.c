#include "model/reason.h"

#include <stddef.h>

static const char *const words[REASON_LIMIT] = {
#define REASON(number, name, word) [number] = (word),
#include "model/reasons.def"
#undef REASON
};

const char *reason_word(unsigned reason) {
    return reason < REASON_LIMIT ? words[reason] : NULL;
}
