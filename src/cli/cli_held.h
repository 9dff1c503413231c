/*
 * What `undeclared: hold` holds back: names in the events that the journal still keeps which neither the protocol nor plan.yaml declares, how often they
 * stood there, and lines for plan.yaml. Names are shown, values never; a name in which personal data was found is not shown either.
 */
#ifndef BH_CLI_HELD_H
#define BH_CLI_HELD_H

#include "cli/cli.h"
#include "gateway/snapshot.h"

/* Reads the folder, so it needs no daemon. `policy` is scratch for vendor's rule set. Prints; returns an exit code. */
int cli_held(const struct cli_args *args, const struct settings *settings,
             const struct keyring *keyring, const struct snapshot_vendor *vendor,
             struct policy *policy);

#endif
