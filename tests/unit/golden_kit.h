/*
 * Golden files of policy: what leaves of every recorded item, compared to the byte with a kept file below tests/golden/policy.
 * A line is: request, item, withheld leaves, what was disclosed, the item as the vendor receives it.
 * BH_GOLDEN=write writes that file anew; the change is then read in review.
 */
#ifndef GOLDEN_KIT_H
#define GOLDEN_KIT_H

#include "unit/policy_kit.h"
#include "unit/recorded_kit.h"

/* How an item alone is sent. */
struct golden_sdk {
    struct recorded_sdk recorded;
    const char *path;       /* NULL: as recorded */
    const char *wrapped[2]; /* text before and behind an item; NULL: none */
    unsigned last;          /* of the recordings */
};

void golden_begin(void);
void golden_run(const struct golden_sdk *sdk, struct policy *policy, const struct ruleset *rules);
/* The file; more items than that; what must not be in it. NULL ends marks. */
void golden_end(const char *file, unsigned more_than, const char *const *marks);

#endif
