/* Fixed keys for tests of policy: a vendor's, by its name, and an aid maker in place of the keyring's. */
#ifndef POLICY_KEYS_H
#define POLICY_KEYS_H

#include "flow/policy/policy.h"

const struct aid_maker *policy_keys_aids(void);
struct policy *policy_keys_vendor(const char *name);

#endif
