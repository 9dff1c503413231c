/*
 * A courier in its whole world, for its tests: real journal, resolver, policy, ledger and disk; and a vendor that is a small HTTP server in this
 * process, which counts what reaches it and answers as the test says.
 *
 *   kit_put --> journal --> courier --> vendor --behave--> answer
 *
 * Every event carries a number ("tokens":N), by which the vendor knows what it got how often.
 */
#ifndef DELIVER_KIT_H
#define DELIVER_KIT_H

#include <pthread.h>
#include <stdatomic.h>

#include "flow/deliver/deliver.h"

enum { KIT_EVENTS = 200000, KIT_ITEMS_MAX = 2000 };

/* -- the vendor --------------------------------------------------------------------------------------------------------------------- */

struct kit_post {
    unsigned number;     /* from 1, over all connections */
    unsigned connection; /* from 1 */
    char path[128];
    char head[4096];
    struct span plain; /* body, unpacked */
    uint64_t time_us;  /* when its head had been read */
    /* The numbers of its items, in their order. */
    uint32_t items[KIT_ITEMS_MAX];
    size_t item_count;
};

struct kit_answer {
    int status;
    const char *headers; /* more lines, each with CR LF; NULL = none */
    char body[65536];
    /* Instead of an answer: */
    bool is_refusal; /* 200, but a no */
    bool raw;        /* body is all bytes, as they are */
    bool hang;       /* nothing, and the connection stays */
    bool reset;      /* RST */
    bool then_close;
    unsigned delay_ms;
    const char *again; /* bytes that follow the answer after again_ms */
    unsigned again_ms;
};

struct kit_vendor {
    int listener;
    uint16_t port;
    pthread_t thread;
    pthread_mutex_t lock;
    _Atomic bool stopping;
    _Atomic unsigned connections;
    _Atomic unsigned open;
    _Atomic unsigned posts;
    _Atomic uint64_t bytes;
    _Atomic unsigned idle_passes;         /* of the accepting thread, with nobody waiting */
    bool is_blind;                        /* takes everything without looking inside */
    _Atomic bool hang_in_accept;          /* takes connections and reads nothing */
    _Atomic bool hang_in_body;            /* reads heads, no body */
    _Atomic uint8_t arrived[KIT_EVENTS];  /* wholly read requests that held the event */
    _Atomic uint8_t accepted[KIT_EVENTS]; /* of these, answered with yes */
    /* Called for every whole request under the lock. NULL = kit_accept. */
    void (*behave)(struct kit_vendor *vendor, const struct kit_post *post,
                   struct kit_answer *answer);
    /* Called when the first byte of a request's body arrives, before it is counted. */
    void (*first_byte)(struct kit_vendor *vendor);
    void *context;
    struct wire *wire;
};

void kit_vendor_start(struct kit_vendor *vendor);
void kit_vendor_stop(struct kit_vendor *vendor);
/* After a cut: until every connection that the kernel had taken is accepted, read to its end, and over. */
void kit_vendor_settle(struct kit_vendor *vendor);
/* The answer that Mixpanel gives to a request that it takes. */
void kit_accept(struct kit_vendor *vendor, const struct kit_post *post, struct kit_answer *answer);
void kit_status(struct kit_answer *answer, int status);
size_t kit_arrived(const struct kit_vendor *vendor, uint32_t from, uint32_t to);
size_t kit_accepted(const struct kit_vendor *vendor, uint32_t from, uint32_t to);

/* -- the world ---------------------------------------------------------------------------------------------------------------------------- */

struct kit_world {
    char dir[128];
    char data[160];
    char endpoint[128];
    char ca[160];
    char extra[2048]; /* lines of the contract */
    struct keyring *keyring;
    struct journal *journal;
    struct resolver *resolver;
    struct aid_maker *aids;
    struct cut_register *reg;
    struct dns *dns;
    struct courier *courier;
    struct contract *contract;
    struct plan *plan;
    struct ruleset *ruleset;
    struct kit_vendor vendor;
    uint32_t next; /* number of the next event */
    uint64_t ticket;
};

/* Other texts than the kit's own, and events of one's own making (of user_<number % 97>), before kit_world_new. */
typedef size_t kit_write_fn(uint32_t number, char *out, size_t cap);
void kit_use(const char *plan, const char *allow, kit_write_fn *write);
/* The protocol of the events put from now on. */
void kit_speak(uint8_t protocol);
/* The contract's connector; events are Mixpanel's all the same. */
extern const char *kit_connector;
/* Who is shown each event as it is judged; before kit_world_new. */
void kit_show_to(void (*tap)(void *context, const struct tap_line *line));
void kit_world_new(struct kit_world *world);
void kit_world_free(struct kit_world *world);
/* All but folder and vendor, as a start of the daemon does it; and its end without any goodbye to the ledger's waiting lines, or with. */
void kit_open_world(struct kit_world *world);
void kit_close_world(struct kit_world *world);
/* Compiles contract and plan from the texts in hand, and reloads the courier where there is one. */
void kit_reload(struct kit_world *world);
void kit_restore(struct kit_world *world, bool replay);
/* n events of n % 97 people, of this kind; returns the number of the first. */
uint32_t kit_put(struct kit_world *world, size_t n, enum event_kind kind);
uint32_t kit_put_sized(struct kit_world *world, size_t n, enum event_kind kind, size_t filler);
struct courier_status kit_status_of(struct kit_world *world);
/* Until all is settled or ms have passed; false then. */
bool kit_drained(struct kit_world *world, unsigned ms);
bool kit_until_state(struct kit_world *world, enum vendor_state state, unsigned ms);
/* Waits until a counter of the vendor is at least n. */
bool kit_until(_Atomic unsigned *counter, unsigned n, unsigned ms);

struct kit_sums {
    uint64_t certain, possible; /* events */
    uint64_t attempts;
    uint64_t rows;
};
struct kit_sums kit_ledger(struct kit_world *world);

#endif
