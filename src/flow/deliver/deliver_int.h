/* What the files of deliver share. The picture and the invariants are in deliver.h. */
#ifndef BH_FLOW_DELIVER_INT_H
#define BH_FLOW_DELIVER_INT_H

#include <curl/curl.h>
#include <stdatomic.h>

#include "base/ring.h"
#include "flow/deliver/deliver.h"
#include "flow/deliver/gate.h"
#include "model/limits.h"
#include "os/thread.h"
#include "protocol/wire/wire.h"

enum {
    COURIER_PATH = 512,
    DNS_HOST_MAX = 253,
    CREDENTIAL_MAX = 4096,
    /* Window: the next events up to these, or until the first has waited LINGER_MS. */
    WINDOW_EVENTS = 2000,
    WINDOW_BYTES = 1024 * 1024,
    WINDOW_BYTES_SMALL = 128 * 1024, /* while the shared pool has no room for this courier */
    WINDOW_LINKS = 4096, /* (item, id of a person) pairs; an item has VERDICT_AIDS_MAX at most */
    /* A window's items, or the plain body of one: an item alone may be larger than a window of many. */
    ITEMS_MAX = WINDOW_BYTES + WINDOW_BYTES / 4 + 4096,
    LINGER_MS = 1000,
    ANSWER_MAX = 1024 * 1024,
    RULE_SETS_MAX = 256,
    BISECT_MIN = 8, /* a full bisection of so many that accepts none parks instead */
};

/* -- cut_register.c --------------------------------------------------------------------------------------------------------- */

int cut_register_write(struct cut_register *reg, const char *vendor, enum vendor_state state,
                       bool was_restored) BH_MUST_USE;
/* Whether the vendor was ever restored: its rule history has begun. */
bool cut_register_was_restored(struct cut_register *reg, const char *vendor);

/* -- dns.c -------------------------------------------------------------------------------------------------------------------- */

/*
 * Appends the addresses of a host as CURLOPT_RESOLVE wants them ("192.0.2.1,[2001:db8::1]"). AGAIN: being looked up, wake_fd is signalled
 * when that ends; BUSY: ask again later; NOTFOUND.
 */
int dns_lookup(struct dns *dns, const char *host, int wake_fd, struct buf *out) BH_MUST_USE;
void dns_forget_wake(struct dns *dns, int wake_fd);

/* -- courier_memory.c: the big buffers, shared among couriers ------------------------------------------------------------------- */

/* A permit to touch one courier's big buffers; false while all are held by others. Never blocks. */
bool memory_permit_take(void);
void memory_permit_give(void);

/* -- courier_rules.c: rule sets in force, their numbers and files ------------------------------------------------------------- */

struct rule_set {
    uint32_t number;
    uint64_t first_seq;
    uint8_t time; /* enum time_precision of its contract */
    struct ruleset *ruleset;
};

/* Immutable once published; couriers change over at window borders. */
struct rules {
    struct rules *older; /* until the courier has changed over */
    uint64_t generation; /* tells one table from another that got its memory */
    size_t count;
    struct rule_set sets[RULE_SETS_MAX]; /* by number */
    const struct ruleset *in_force[RULE_SETS_MAX];
    /* Of the contract and the sources. */
    char endpoint[COURIER_PATH];
    char ca_file[COURIER_PATH];
    struct contract_egress egress;
    char space_of[LIMIT_SOURCES + 1][LIMIT_NAME + 1];
    const struct protocol_ops *ops;
    enum credential_kind credential_kind;
    char credential_name[COURIER_PATH];
    uint64_t backlog_max;
    bool forwards_flags;
};

struct rules_config {
    const char *data_dir;
    const char *vendor;
    struct ledger *ledger;
    uint32_t ledger_contract; /* last number in the ledger */
    uint64_t first_free_seq;  /* durable_seq + 1: from where a new set binds */
    uint64_t journal_first;   /* oldest seq that still exists */
    bool has_history;         /* the vendor was restored at least once */
};
/* Loads what is on disk, adds the newest when it differs (file first, then contract leaf), removes what no event needs. */
int rules_open(const struct rules_config *config, const struct courier_rules *newest,
               struct rules **ret_rules, struct err *err) BH_MUST_USE;
/* A table that follows `old`; ruleset memory is shared. */
int rules_next(const struct rules_config *config, const struct courier_rules *newest,
               struct rules *old, struct rules **ret_rules, struct err *err) BH_MUST_USE;
void rules_drop_older(struct rules *rules);
void rules_free(struct rules *rules); /* with all older ones and every rule set */
/* The sets in force from seq until now: count, and the first of them; *ret_time = their coarsest precision. */
size_t rules_in_force(const struct rules *rules, uint64_t seq,
                      const struct ruleset *const **ret_sets, uint8_t *ret_time);

/* -- courier_credential.c ------------------------------------------------------------------------------------------------------- */

struct credential {
    uint8_t *bytes; /* guarded, CREDENTIAL_MAX */
    size_t n;
};
/* The vendor's, and its proxy's where the contract names one; what could not be read leaves the old one in place. */
int credentials_read(const struct rules *rules, struct credential *vendor, struct credential *proxy,
                     bool *ret_changed, struct err *err) BH_MUST_USE;

/* -- courier_window.c: from the journal to items that may leave ----------------------------------------------------------------- */

struct window_link {
    uint32_t ord;
    uint32_t shape;
    uint8_t lid[16];
};

struct window_item {
    uint64_t seq;
    uint32_t json_at; /* in `items` */
    uint32_t json_size;
    uint32_t withheld; /* leaves */
    uint16_t link_at;  /* in `work->links` */
    uint8_t link_count;
    uint8_t endpoint : 4;
    uint8_t
        parts : 4; /* items that its JSON holds: one, or what an event is in the vendor's words */
};

/* The links of a window; and before it is begun, what a request of the window before it is made of: its items, then its entries for the ledger. */
union window_work {
    struct window_link links[WINDOW_LINKS];
    struct span request[WINDOW_EVENTS];
    struct ledger_entry entries[WINDOW_LINKS];
};

struct spread_slot {
    uint64_t key;
    uint32_t window; /* serial of the window that filled it */
    uint32_t count;
};
enum { SPREAD_SLOTS = 4096 }; /* twice WINDOW_EVENTS, so that a free one is near */

struct window {
    uint64_t first_seq;   /* 0 = not begun */
    uint64_t next_seq;    /* just past the last event looked at */
    uint64_t opened_us;   /* when its first event was read; 0 = none yet */
    uint64_t received_us; /* when that event arrived */
    uint64_t bytes;       /* encoded, at most */
    uint64_t bytes_max;
    uint64_t until_seq; /* a rebuilt window ends here; 0 = open-ended */
    uint32_t serial;
    uint32_t item_count;
    uint32_t part_count;
    uint32_t link_count;
    uint32_t withheld_events;
    uint32_t final_events;                     /* already delivered before a restart */
    uint32_t withheld_by_reason[REASON_LIMIT]; /* events */
    uint32_t leaves_by_reason[REASON_LIMIT];
    uint32_t endpoint_items[PROTOCOL_ENDPOINTS_MAX + 1];
    uint64_t fingerprint; /* of (seq, endpoint) of all items, in order */
    bool closed;
    bool skip_final; /* some of it may have been delivered already: ask the ledger */
    bool was_big;    /* the courier had its permit when it was closed */
    /* Memory of its own: mapped once, given back to the kernel while nothing is sent. */
    struct window_item *list; /* WINDOW_EVENTS */
    uint16_t *order;          /* items by endpoint, each endpoint's in order of seq */
    union window_work *work;
    struct buf items;
};

/* -- courier_translate.c: an item in the vendor's words --------------------------------------------------------------------------- */

struct outgoing_part {
    struct span json; /* in the window's items */
    uint8_t endpoint;
    uint8_t parts;
};

/* What leaves of one event, at most one for an endpoint. */
struct outgoing {
    unsigned count;
    struct outgoing_part list[PROTOCOL_ENDPOINTS_MAX];
};

/* May withhold the event after all: the vendor has no such thing. Uses courier->tokens. */
void courier_outgoing(struct courier *courier, struct window *window,
                      const struct policy_input *input, struct verdict *verdict,
                      struct outgoing *ret);
/* The next item of those that a window's entry holds; *rest begins as the whole. */
bool outgoing_next(struct span *rest, struct span *ret_part);
void courier_free_translators(struct courier *courier);

/* -- courier_send.c: one request at a time ---------------------------------------------------------------------------------------- */

/* What no further try would change: a person must. Nothing of the body has left. */
enum transfer_fault {
    TRANSFER_OK,
    TRANSFER_ADDRESS, /* the contract opens none of the addresses; `address` is one of them */
    TRANSFER_PIN,     /* the server's key is not one of the contract's */
    TRANSFER_PROXY,   /* the proxy refuses its credential */
};

struct transfer_result {
    enum transfer_fault fault;
    char address[NET_TEXT_MAX];
    bool is_complete;   /* a whole, well-formed answer */
    bool is_early;      /* it began before the request had been handed over in full */
    bool may_have_left; /* a body byte was given to libcurl, so it may have reached the kernel */
    bool is_cut;
    uint16_t status;
    uint32_t retry_after_s;
    struct span body; /* in `answer`, until the next transfer */
    uint64_t sent_bytes;
};

struct transfer {
    CURLM *
        multi; /* NULL = no connections; set and cleared under the gate's lock, for curl_multi_wakeup */
    CURL *easy;
    struct curl_slist *headers;
    struct curl_slist *resolve;
    struct span body;
    size_t body_at;
    struct buf answer;
    bool may_have_left;
    bool made_socket;   /* to an address that is open */
    bool was_closed;    /* an address was not */
    uint8_t closed[16]; /* the last such */
    bool is_malformed;
    bool is_early;
    bool answer_began;
    bool head_ended;      /* of the final answer: what came is no part of a head */
    bool is_fresh;        /* the next request must make a connection of its own */
    bool is_h2;           /* the last answer came by HTTP/2 */
    uint64_t raw_in;      /* bytes of the answer's body as they came */
    unsigned lengths;     /* Content-Length headers */
    unsigned encodings;   /* Transfer-Encoding headers */
    uint64_t deadline_us; /* monotonic, of this request; 0 = libcurl's own limits alone */
};

struct courier;
int transfer_init(struct transfer *transfer) BH_MUST_USE;
void transfer_fini(struct transfer *transfer);
void transfer_close(struct courier *courier);
/*
 * Sends and waits for the answer, a cut, or the end of the grace at a stop. `path` follows the endpoint. Once the request is out, `work` (or NULL) is
 * called as long as nothing has come: it does a little, and says whether there is more.
 */
void transfer_run(struct courier *courier, const struct protocol_post *post,
                  bool (*work)(struct courier *courier), struct transfer_result *ret_result);
/* The answer accepted everything: its connection may serve the next request. */
void transfer_keep(struct courier *courier);
/* 0 when the vendor's address is known or needs no look-up; AGAIN, BUSY while it is looked up; NOTFOUND. */
int transfer_prepare(struct courier *courier) BH_MUST_USE;

/* -- courier_attempt.c: segments of a window, outcomes ------------------------------------------------------------------------------- */

/* Items [from, to) of window.order, all of one endpoint, that are sent as one request. */
struct segment {
    uint16_t from;
    uint16_t to;
    uint8_t endpoint;
    bool in_bisection;
    bool may_have_left; /* of any try */
    uint8_t written;    /* strongest result that the ledger has; 0 = none */
    uint64_t attempt;   /* 0 = none yet */
};
/* Halving leaves one segment a level behind, each endpoint has one to begin with. */
enum { SEGMENTS_MAX = PROTOCOL_ENDPOINTS_MAX + 16 };

struct suspect {
    uint64_t attempt;
    uint64_t time_ms;
    uint16_t item; /* index into window.list */
    uint16_t status;
    uint8_t result;
};

struct outcome_slot {
    bool is_full;
    struct ledger_outcome outcome;
    uint32_t refused[WINDOW_EVENTS];
};

struct delivery {
    struct segment stack[SEGMENTS_MAX];
    unsigned depth;
    bool is_started; /* segments were made for the window */
    /* One bisection at a time: it ends when the stack is down to base. */
    bool in_bisection;
    unsigned bisection_base;
    uint32_t bisection_events;
    uint32_t bisection_accepted;
    uint16_t bisection_from;
    uint16_t bisection_to;
    uint8_t bisection_endpoint;
    uint32_t suspect_count;
    struct suspect *suspects; /* WINDOW_EVENTS */
    struct outcome_slot
        *last;          /* the newest outcome waits here, for the window may be settled with it */
    uint8_t refusal;    /* result of an attempt whose answer was a refusal */
    unsigned failures;  /* in a row */
    unsigned redirects; /* in a row */
    uint64_t retry_us;  /* monotonic; 0 = at once */
    uint64_t newest_attempt; /* of this life */
    bool may_resume;         /* the ledger knows open attempts of a former life */
    uint64_t dns_since_us;   /* 0 = not waiting for an address */
    uint64_t fingerprint;    /* of the window for which the stack was made */
    uint64_t generation;     /* of the rules under which it was */
    bool needs_rebuild;      /* the window's memory was given back */
};

/* -- courier_ask.c: questions, between windows ------------------------------------------------------------------------------------------ */

enum {
    QUESTIONS_MAX = 64, /* that wait, of one asker */
    QUESTION_SENT_MAX = 64 * 1024,
    QUESTION_PLAIN_MAX = QUESTION_SENT_MAX + CREDENTIAL_MAX * 6 + 64,
};

struct asker {
    struct ring ring;
    uint64_t slots[QUESTIONS_MAX];
};

struct questions {
    struct asker *askers;      /* LIMIT_LOOPS; touched by those that there are */
    struct json_token *tokens; /* LIMIT_EVENT_TOKENS: of the question, then of the answer */
    struct buf sent;
    struct buf plain;
    unsigned failures; /* in a row */
    uint64_t rest_us;  /* monotonic: nothing is asked until then */
};

/* -- the courier -------------------------------------------------------------------------------------------------------------------- */

struct restore_request {
    bool is_set;
    bool is_done;
    bool replay;
    const char *who;
    const char *why;
    int result;
    struct err *err;
};

struct courier_counters {
    _Atomic uint64_t attempts, accepted_events, refused_events, withheld_events, poison_events,
        retries, bytes_sent, last_success_ms, retry_at_ms, questions, questions_answered;
    _Atomic uint64_t withheld_by_reason[REASON_LIMIT];
    _Atomic uint16_t last_status;
};

/* NOLINTNEXTLINE(clang-analyzer-optin.performance.Padding): one object a vendor, ordered for reading */
struct courier {
    uint32_t magic;
    struct courier_config config;
    char data_dir[COURIER_PATH];
    char vendor[LIMIT_NAME + 1];
    struct gate gate;
    struct ledger *ledger;
    struct os_thread thread;
    int wake_fd;
    _Atomic bool stopping;
    _Atomic uint64_t stop_until_us;
    bool is_started;
    bool is_resting; /* cut: everything is put away */

    /* Under the gate's lock: what other threads hand over. */
    struct rules *next_rules;
    struct rules *all_rules;
    struct restore_request *restore;
    struct os_cond restored;
    bool has_ended; /* the thread takes no request any more */
    char parked_because[COURIER_WHY];

    /* The courier's own. */
    struct rules *rules;
    struct credential credential;
    struct credential proxy_login;
    bool has_credential;
    struct journal_reader *reader;
    struct resolve_view *view;
    struct policy *policy;
    struct translator
        *translators[PROTOCOL_LIMIT]; /* by the source's protocol; NULL until needed */
    struct wire *wire;
    struct journal_batch batch;
    uint32_t batch_at;
    bool has_permit; /* to use the big buffers */
    struct window window;
    struct window next; /* begun only while the answer to the last request of `window` is awaited */
    uint32_t window_max;        /* WINDOW_EVENTS; less in tests */
    uint32_t serial;            /* of the window that was begun last */
    uint64_t shown_until;       /* events before this one were shown to whoever looks */
    struct spread_slot *spread; /* SPREAD_SLOTS */
    struct delivery delivery;
    struct transfer transfer;
    struct questions questions;
    struct buf body;           /* of the request in the air */
    struct json_token *tokens; /* of the event in hand, at the end of the body's memory */
    uint64_t *seqs;            /* WINDOW_EVENTS */
    uint32_t *refused;         /* WINDOW_EVENTS */
    _Atomic uint64_t probe_us; /* atomic for tests, which bring it forward */
    struct courier_counters counters;
};

/* Window. */
int window_init(struct window *window) BH_MUST_USE;
void window_fini(struct window *window);
/* Begins anew with this event; the next window is forgotten. */
void window_begin(struct courier *courier, uint64_t first_seq);
/* Reads on: 0 = closed, or so many were looked at; AGAIN = all there is was read and it may grow; BUSY = memory is waited for; others are failures of the journal. */
int window_fill(struct courier *courier, struct window *window, uint32_t at_most) BH_MUST_USE;
void window_close(struct courier *courier, struct window *window);
/* Judges a few events for the next window; false when there is nothing to do for now. Nothing of it is encoded, written or sent. */
bool window_look_ahead(struct courier *courier);
void window_forget_next(struct courier *courier);
/* The window is settled: the next one takes its place, as far as it has come. */
void window_advance(struct courier *courier);
/* The same events again, after the memory was given back or the rules changed. */
int window_rebuild(struct courier *courier) BH_MUST_USE;
void window_release(struct courier *courier);
struct span window_json(const struct window *window, const struct window_item *item);

/* Delivery of a closed window: sends the next request of it, or settles it. */
void delivery_step(struct courier *courier);
/* No more tries for now: writes what is known of requests in the air. */
void delivery_abandon(struct courier *courier);
void delivery_reset(struct courier *courier);
/* The window's memory is given back until the next try. */
void delivery_pause(struct courier *courier);
bool delivery_probe(struct courier *courier);
bool delivery_is_idle(const struct courier *courier);

/* Questions: answers all that wait, for a while; those that cannot be asked now are done at once. */
int questions_init(struct questions *questions) BH_MUST_USE;
void questions_fini(struct questions *questions);
void questions_step(struct courier *courier);

/* Poison: data/poison/<vendor>.ndjson. */
void poison_note(struct courier *courier, const struct window_item *item, uint16_t status,
                 uint64_t time_ms);

/* courier.c */
void courier_park(struct courier *courier, uint16_t status, const char *why);
/* Waits for a wake or ms, keeping the ledger's promise of one second. */
void courier_wait(struct courier *courier, uint64_t ms);
bool courier_is_stopping(const struct courier *courier);
bool courier_grace_is_over(const struct courier *courier);
/* Does what the ledger has to do by now; ms until the next time, at most ms_max. */
uint64_t courier_tick(struct courier *courier, uint64_t ms_max);

static inline void counter_add(_Atomic uint64_t *counter, uint64_t n) {
    /* One writer; readers want a recent number, not an order. */
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n,
                          memory_order_relaxed);
}

#endif
