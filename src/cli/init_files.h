/*
 * The files that `bulkhead init` writes, as they stand in the program.
 *
 * Their comments teach: a newcomer reads them before any manual. "@INSTANCE@" and "@KEY@" stand where init puts the instance's name and the
 * master key's path. tests/unit/test_policy_init.c loads every one of them.
 * Any thread; pure.
 */
#ifndef BH_CLI_INIT_FILES_H
#define BH_CLI_INIT_FILES_H

/* "bulkhead.yaml", "plan.yaml", "vendors/mixpanel.yaml", "vendors/posthog.yaml", ".gitignore"; NULL for another name. */
const char *init_file_text(const char *name);

#endif
