/*
 * deliver: one courier thread per vendor, from the journal through policy and ledger to the vendor, and the cut.
 *
 *   journal reader -> resolve_lookup -> policy_apply -> window (<= 2000 events, 1 MiB, 1 s) -> connector splits by endpoint
 *   -> ledger_attempt (synced) -> libcurl -> outcome -> settled
 *                                 \ meanwhile the next window is judged, no more
 *
 * States (drawn in courier.c): never restored = cut; active, retrying, parked, cut, closed. The cut register (data/register, one preallocated 512 B slot per vendor,
 * docs/format/register.md) is what a start believes.
 * Invariants
 *  D1 No byte of a body is handed to the network before its attempt is synced in the ledger.
 *  D2 After courier_cut returns no byte for that vendor leaves this process, also from retries, idle connections, handshakes, look-ups and back-off; it is durable.
 *  D3 A courier never blocks ingest or another courier; its memory is bounded (512 KiB and at most 2 MiB of a shared pool).
 *  D4 Order: oldest first; a person's events keep their order within an endpoint.
 *  D5 Nothing is given up: retried until delivered, refused alone as poison, discarded by a person, or lapsed by budget (recorded).
 *  D6 Nothing of a window is encoded, recorded or sent before the one before it is settled; unless that is by a yes, or under new rules, it is judged again.
 *  D7 A question (courier_ask) is under the newest rules, and under D1 and D2 as a window is; it is tried once, between windows, until its deadline, and
 *     changes nothing of what becomes of events. Who asks waits for nothing: the answer is a flag and a wake.
 * Threads: cut, restore, reload, status and gap are asked by other threads; all else of a courier is its own thread's; the gate lock guards state and socket registry.
 */
#ifndef BH_FLOW_DELIVER_H
#define BH_FLOW_DELIVER_H

#include <stdatomic.h>

#include "base/bytes.h"
#include "base/errors.h"
#include "flow/journal/journal.h"
#include "flow/ledger/ledger.h"
#include "flow/policy/policy.h"
#include "flow/resolve/resolve.h"

/* Numbers are on disk (register, type 7 leaves). */
enum vendor_state {
    VENDOR_NEVER = 0,
    VENDOR_ACTIVE = 1,
    VENDOR_RETRYING = 2,
    VENDOR_PARKED = 3,
    VENDOR_CUT = 4,
    VENDOR_CLOSED = 5
};
const char *vendor_state_word(enum vendor_state state); /* never prints as cut */

struct cut_register;
int cut_register_open(const char *data_dir, struct cut_register **ret_register,
                      struct err *err) BH_MUST_USE;
void cut_register_free(struct cut_register *reg);
/* State as stored; VENDOR_NEVER when the vendor has no slot. For commands while no daemon runs, too. */
enum vendor_state cut_register_state(struct cut_register *reg, const char *vendor);
/* For a cut while no daemon runs: writes and syncs the slot. */
int cut_register_cut(struct cut_register *reg, const char *vendor) BH_MUST_USE;

struct dns; /* threads that look host names up for CURLOPT_RESOLVE */
int dns_start(struct dns **ret_dns) BH_MUST_USE;
void dns_stop(struct dns *dns); /* does not wait for a resolver that never answers */

/* Who looks at events as they pass, without values: tap. */
struct tap_line {
    uint64_t seq;
    const char *vendor;
    uint16_t source;
    uint8_t kind;
    bool sends;
    uint8_t reason;
    const struct verdict *verdict;
    struct span event_name; /* only if the plan declares it, else empty */
};

struct courier;
struct courier_config {
    const char *data_dir;
    const char *vendor;
    struct journal *journal;
    struct resolver *resolver;
    struct keyring *keyring;
    struct cut_register *reg;
    struct dns *dns;
    const struct aid_maker *aids;
    bool nice; /* default true */
    /* NULL when nobody looks; must not block. Each event once, and once more under new rules. */
    void (*tap)(void *context, const struct tap_line *line);
    void *tap_context;
};

/* What a (re)load gives a courier: taken up at the next window border. */
struct courier_rules {
    struct contract_facts facts;
    const struct ruleset *
        ruleset; /* newest; the courier numbers it, stores it in data/rules/<vendor>/<n>.json and writes the contract leaf when it differs */
    const struct policy_source *sources;
    size_t source_count;
    const char *const *source_spaces; /* ids: word of each source, parallel to sources */
};

int courier_open(const struct courier_config *config, const struct courier_rules *rules,
                 struct courier **ret_courier, struct err *err) BH_MUST_USE;
int courier_start(struct courier *courier) BH_MUST_USE;
/* Stores a rule set that is new, and copies all that it needs of `rules`. CONFIG, NOSPACE, TOO_MANY (256 sets still needed by events that wait): the old rules stay in force. */
int courier_reload(struct courier *courier, const struct courier_rules *rules,
                   struct err *err) BH_MUST_USE;
/* The end, in two steps so that many couriers share one deadline: all are asked, then all are joined. A request in flight gets until the deadline, then
 * it is unknown. */
void courier_stop_by(struct courier *courier, uint64_t mono_us);
void courier_join(struct courier *courier);
void courier_free(struct courier *courier);

/* Returns after no byte can leave and the register is synced; *ret_us = microseconds until no byte could leave, *ret_durable_us = until synced. STATE: the vendor is
 * closed. FULL: the register has no slot left; the cut is in force, but not durable. */
int courier_cut(struct courier *courier, const char *who, const char *why, uint64_t *ret_us,
                uint64_t *ret_durable_us) BH_MUST_USE;
/* Replays or discards the backlog. KEY when the credential is missing: the state stays. */
int courier_restore(struct courier *courier, bool replay, const char *who, const char *why,
                    struct err *err) BH_MUST_USE;

/*
 * A question about a person that an SDK waits for. All memory is the asker's; from courier_ask until `is_done` reads true (acquire) the courier alone touches it.
 * Nothing leaves about a person whom the ledger cannot name: a question that names an id without a number (resolve) is done with `is_unknown`, and may be asked
 * again once the journal has shown the id to the resolver.
 */
struct courier_question {
    uint16_t source;
    uint8_t form;         /* of the protocol_envelope */
    uint64_t deadline_us; /* monotonic */
    struct aid aid;       /* of its person; never zero */
    int64_t time_ms;
    const struct finding *findings;
    uint16_t finding_count;
    struct span json; /* the item, never-spans overwritten */
    struct span env;  /* of its request, as ingest_env writes it: who objects is not asked about */
    int wake_fd;      /* signalled when it is done */
    /* Filled. */
    struct buf answer; /* as the SDK may have it */
    bool is_answered;  /* false: the vendor said nothing that counts, or was not asked */
    bool is_unknown;   /* because an id that it names has no number yet */
    _Atomic bool is_done;
};

/* One producer for each `asker` (< LIMIT_LOOPS). False: too many wait; the question stays with the asker. */
bool courier_ask(struct courier *courier, unsigned asker,
                 struct courier_question *question) BH_MUST_USE;

enum { COURIER_WHY = 256 };
struct courier_status {
    enum vendor_state state;
    char parked_because[COURIER_WHY]; /* as its line in the ledger says; empty unless parked */
    uint64_t backlog;                 /* events accepted and not yet delivered or decided */
    uint64_t settled_seq;
    uint64_t attempts, accepted_events, refused_events, withheld_events, poison_events, retries,
        bytes_sent;
    uint64_t withheld_by_reason[REASON_LIMIT];
    uint64_t questions, questions_answered; /* asked, and of these answered in time */
    uint64_t last_success_ms;               /* 0 = none */
    uint16_t last_status;
    uint64_t retry_at_ms; /* 0 = none */
    uint64_t ledger_leaves;
    uint32_t contract;
    uint64_t budget;
};
void courier_status(struct courier *courier, struct courier_status *ret_status); /* (any) */
struct ledger *courier_ledger(struct courier *courier);
/* Records a gap before the journal drops segments: passes [from, until) as lapsed, synced. Called by the keeper. */
int courier_gap(struct courier *courier, uint64_t from_seq, uint64_t until_seq) BH_MUST_USE;

#endif
