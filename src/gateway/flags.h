/*
 * flags: questions about feature flags, which a page or a server waits for; and the last answers, for when the vendor gives none.
 *
 *   /flags --flags_ask--> inspected, copied --courier_ask--> vendor's courier --is_done, wake--> answer to the SDK, remembered
 *                 BUDGET_MS later, or at once where nobody can be asked: this person's last answer, else the neutral one
 *
 * Nothing else waits for a question: the loop goes on, and its timer answers when the courier does not. A courier that is late still fills the memory of answers.
 * Owner: a `struct flags` belongs to its loop; the cache is the gateway's, under a lock (rank FLAGS) that is held for a copy.
 * Memory: WAITING questions a loop, each in memory of its own that is touched when it is used; CACHE_ANSWERS answers of CACHE_ANSWER_MAX bytes. Nothing of either is on
 * disk: answers hold ids as the SDK sent them.
 */
#ifndef BH_GATEWAY_FLAGS_H
#define BH_GATEWAY_FLAGS_H

#include "flow/ingest/ingest.h"
#include "model/event.h"

struct loop;
struct inspector;
struct flags;
struct flags_cache;

int flags_new(struct loop *loop, struct flags **ret_flags) BH_MUST_USE;
void flags_free(struct flags *flags);
/* For http_server_watch. */
int flags_wake_fd(const struct flags *flags);
void flags_wake(void *context); /* the flags */
/* Whether this source's questions are passed on. */
bool flags_are_asked(const struct loop *loop, const struct ingest_source *source);
/* False: this source's questions are passed on to nobody, and the caller answers. True: it is answered, now or later. */
bool flags_ask(struct flags *flags, struct inspector *inspector, const struct http_request *request,
               const struct ingest_batch *batch);
/* Answers what has waited long enough. */
void flags_expire(struct flags *flags);
/* Until flags_expire has something to do, at most ms_max. */
unsigned flags_wait_ms(const struct flags *flags, unsigned ms_max);

/* -- last answers ------------------------------------------------------------------------------------------------------------------------ */

enum {
    FLAGS_CACHE_ANSWERS = 1024,
    FLAGS_CACHE_ANSWER_MAX = 16 * 1024, /* a longer one is passed on, but not remembered */
};

struct flags_key {
    struct aid aid;
    uint16_t source;
    uint8_t form;
};

int flags_cache_new(struct flags_cache **ret_cache) BH_MUST_USE;
void flags_cache_free(struct flags_cache *cache);
/* Any thread. */
void flags_cache_put(struct flags_cache *cache, const struct flags_key *key, struct span answer);
/* Appends the answer; false when there is none. */
bool flags_cache_get(struct flags_cache *cache, const struct flags_key *key, struct buf *out);

#endif
