/*
 * snapshot: the whole configuration, read, checked and compiled: all or nothing.
 *
 *   bulkhead.yaml + plan.yaml + vendors/NAME.yaml --snapshot_load--> struct snapshot (immutable) --atomic pointer--> loops, couriers, resolver
 *
 * A snapshot is never changed. The gateway keeps every one it has used until it ends: a loop may be reading an old one, and reloads are rare (a few hundred
 * KB each). Couriers keep copies of their own.
 * Memory: malloc; configuration time only. Thread: any, read-only. Errors: CONFIG with file, line, column and caret.
 */
#ifndef BH_GATEWAY_SNAPSHOT_H
#define BH_GATEWAY_SNAPSHOT_H

#include "crypto/crypto.h"
#include "flow/deliver/deliver.h"
#include "flow/ingest/ingest.h"
#include "flow/policy/policy.h"
#include "gateway/settings.h"

struct snapshot_vendor {
    const char *name;
    struct contract *contract;
    struct contract_facts facts;
    struct ruleset *ruleset;
    struct policy_source *sources; /* of settings, with feeds_vendor for this vendor */
};

struct snapshot {
    struct settings *settings;
    struct plan *plan;
    struct tls_context *tls; /* NULL: ingest takes plain HTTP */
    struct ingest_sources *ingest_sources;
    struct resolve_source *resolve_sources;
    const char **source_spaces; /* parallel to settings->sources */
    unsigned vendor_count;
    struct snapshot_vendor vendors[LIMIT_VENDORS];
    struct snapshot *older; /* list of all that were used */
};

/* The certificate that settings name, or NULL when they name none. */
int snapshot_tls(const struct settings *settings, struct tls_context **ret_tls,
                 struct err *err) BH_MUST_USE;
int snapshot_load(const char *dir, struct snapshot **ret_snapshot, struct err *err) BH_MUST_USE;
void snapshot_free(struct snapshot *snapshot); /* with all older ones */
/* One vendor's contract against plan and sources; for snapshot_load and `contract check`. Fills vendor as far as it got; release with snapshot_vendor_fini. */
int snapshot_vendor_init(const struct settings *settings, const struct plan *plan, const char *name,
                         struct snapshot_vendor *vendor, struct err *err) BH_MUST_USE;
void snapshot_vendor_fini(struct snapshot_vendor *vendor);
void snapshot_rules(const struct snapshot *snapshot, const struct snapshot_vendor *vendor,
                    struct courier_rules *ret_rules);

#endif
