/* What the gateway's own files share: the one object that everything hangs on. */
#ifndef BH_GATEWAY_INT_H
#define BH_GATEWAY_INT_H

#include <stdatomic.h>

#include "engine/http/http_server.h"
#include "flow/deliver/deliver.h"
#include "flow/journal/journal.h"
#include "flow/resolve/resolve.h"
#include "gateway/gateway.h"
#include "gateway/snapshot.h"
#include "gateway/tap.h"
#include "os/thread.h"

enum { SOURCE_NUMBERS = LIMIT_SOURCES + 1 };

/* Counters of one loop, written by it alone, read by anyone. Index: number of the source (0 = none known). */
struct loop_counters {
    _Atomic uint64_t accepted[SOURCE_NUMBERS];
    _Atomic uint64_t refused[SOURCE_NUMBERS][REASON_LIMIT];
    _Atomic uint64_t requests;
    _Atomic uint64_t overwritten; /* events in which a never-span was blanked */
    _Atomic uint64_t findings;
};

struct gateway;
struct flags;
struct flags_cache;

struct loop {
    struct gateway *gateway;
    unsigned index;
    struct os_thread thread;
    struct http_server *server;
    struct journal_writer *writer;
    struct loop_work *work; /* loop.c */
    struct flags *flags;    /* flags.c */
    struct loop_counters counters;
};

struct gateway_vendor {
    char name[LIMIT_NAME + 1];
    struct courier *courier; /* NULL: out of service until a restart, because of `damage` */
    struct err damage;
};

struct gateway {
    const char *dir;
    _Atomic(struct snapshot *) snapshot;
    struct keyring *keyring;
    struct aid_maker *aids;
    uint8_t *ids_key; /* guarded; of this process: fingerprints of sets of ids (record_event) */
    struct journal *journal;
    struct resolver *resolver;
    struct cut_register *reg;
    struct dns *dns;
    struct tap tap;
    struct os_lock config_lock; /* reload, cut and restore one at a time; vendors[] */
    unsigned vendor_count;
    struct gateway_vendor vendors[LIMIT_VENDORS];
    /* By number of the source: the vendor that its questions about flags are passed on to, or NULL. Couriers live as long as the gateway. */
    _Atomic(struct courier *) flags_of[SOURCE_NUMBERS];
    struct flags_cache *flags_cache;
    struct http_peer_table *peers; /* of all loops together */
    size_t proxy_count;            /* trusted_proxies as they were at the start */
    struct net proxies[32];
    unsigned loop_count;
    struct loop *loops[LIMIT_LOOPS];
    struct os_thread admin_thread;
    struct os_thread health_thread;
    struct os_thread keeper_thread;
    struct http_server *admin_server;
    struct http_server *health_server;
    int stop_fd; /* wakes the keeper */
    _Atomic bool stopping;
    _Atomic bool loops_done;
    _Atomic bool ready;
    uint64_t started_us;
};

/* loop.c */
int loop_new(struct gateway *gateway, unsigned index, struct loop **ret_loop,
             struct err *err) BH_MUST_USE;
int loop_start(struct loop *loop) BH_MUST_USE;
void loop_free(struct loop *loop);
/* Keeps items that only introduce people, for nobody who waits. Errors of journal_writer_put. */
int loop_put_people(struct loop *loop, const struct protocol_ops *protocol,
                    const struct protocol_envelope *envelope, uint16_t source,
                    const struct record_event *events, size_t count) BH_MUST_USE;
/* With the SDK's CORS lines for `origin`; on the loop's thread. */
void loop_reply(struct loop *loop, struct http_exchange exchange,
                const struct protocol_reply *reply, struct span origin, bool retry_after);

/* admin.c, metrics.c */
int admin_new(struct gateway *gateway, struct err *err) BH_MUST_USE;
void admin_run(void *context);
void health_run(void *context);
void status_write(struct gateway *gateway, struct buf *out);
void metrics_write(struct gateway *gateway, struct buf *out);
bool gateway_is_ready(struct gateway *gateway);

/* keeper.c */
void keeper_run(void *context);

/* gateway.c */
int gateway_reload(struct gateway *gateway, struct err *err) BH_MUST_USE;
struct gateway_vendor *gateway_find_vendor(struct gateway *gateway, struct span name);
/* Of a vendor that is out of service: cut, closed or parked, and all that the journal holds is backlog, since only its ledger knew better. */
void gateway_vendor_status(struct gateway *gateway, const struct gateway_vendor *vendor,
                           struct courier_status *ret_status);

#endif
