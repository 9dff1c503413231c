/*
 * Items as policy gets them, for its tests: decoded by the protocol, inspected, then put under rule sets made from texts.
 *
 * Keys are fixed, so that outputs can be compared with kept ones.
 */
#ifndef POLICY_KIT_H
#define POLICY_KIT_H

#include "flow/policy/policy.h"

struct policy_kit_result {
    struct verdict verdict;
    char json[65536];  /* "null" where nothing leaves */
    char story[65536]; /* "POINTER CLASS FORM REASON | RULE" a line, where asked */
};

/* Once, before all else. */
void policy_kit_start(void);
/* The policy of a vendor: keys follow from the name. */
struct policy *policy_kit_vendor(const char *name);
const struct aid_maker *policy_kit_aids(void);
/* Fails the test when the texts are wrong. Source 1 feeds the vendor, source 2 does not. */
struct ruleset *policy_kit_rules(const char *contract, const char *plan);
/* A contract with these lines below `allow:` and these others. */
struct ruleset *policy_kit_allow(const char *allow, const char *more, const char *plan);
/*
 * One item as an SDK would send it to `path` (/track, /engage, /groups, /import). `inspects` = with findings. Returns false when the protocol
 * refuses the item.
 */
bool policy_kit_item(const char *path, struct span item, bool inspects);
/* What is made of the item in hand. Rule sets oldest first, NULL ends them. */
struct policy_kit_result *policy_kit_apply(struct policy *policy,
                                           const struct ruleset *const *rules, bool explains);
/* The input that policy_kit_apply would use, to be changed. */
struct policy_input *policy_kit_input(void);
/* Item and verdict in one: the output of `item` under one rule set. */
const char *policy_kit_out(const struct ruleset *rules, const char *path, const char *item);
/* A file below the source tree, whole; NULL when there is none. */
char *policy_kit_file(const char *path, size_t *ret_size);

#endif
