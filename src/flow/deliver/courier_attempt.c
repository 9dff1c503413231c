/*
 * A closed window -> requests -> outcomes.
 *
 *   each endpoint's items = a segment on a stack; the top one is encoded, written to the ledger, sent, and by its answer
 *     accepted (some named as refused)   popped; outcome final
 *     413                                replaced by its halves
 *     refused without saying which       replaced by its halves (a bisection); one alone is a suspect
 *     no answer, 408, 425, 429, 5xx      stays; back-off
 *     401, 403, 404, 3xx twice           stays; parks
 *     its address, key or proxy refused  stays; parks: nothing has left
 *   stack empty -> window settled
 *
 * Invariants
 *  A1 ledger_attempt has returned before the body is given to libcurl.
 *  A2 A result "unsent" is never the last word about an attempt that is tried again: unknown is written and synced before its next try.
 *  A3 A suspect is set aside only when its bisection accepted something, or was of fewer than BISECT_MIN events.
 *  A4 The newest outcome waits in `last` until it is known whether the window is settled with it; it is written at latest before the next attempt or wait.
 * An outage adds no lines: a try without a complete answer is what a missing outcome means.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "crypto/crypto.h"
#include "flow/deliver/deliver_int.h"
#include "os/clock.h"
#include "os/log.h"

enum {
    BACKOFF_US_MAX = 5 * 60 * 1000 * 1000,
    BACKOFF_US = 1000 * 1000,
    RETRY_AFTER_S_MAX = 3600,
    LEDGER_RETRY_US = 1000 * 1000,
    DNS_WAIT_US = 10 * 1000 * 1000,
};

static uint64_t now_ms(void) {
    return os_wall_us() / 1000;
}

/* -- outcomes -------------------------------------------------------------------------------------------------------------------------- */

static void write_last(struct courier *courier, uint8_t more_flags) {
    struct outcome_slot *last = courier->delivery.last;
    if (last->is_full) {
        last->outcome.flags |= more_flags;
        last->outcome.refused = last->refused;
        int r = ledger_outcome(courier->ledger, &last->outcome);
        /* Without the line the outcome reads as unknown: less certain, never wrong. */
        if (r != 0) {
            log_event(LOG_ERROR, "an outcome is not in the ledger",
                      LOG_WORD("vendor", courier->vendor), LOG_INT("code", r));
        }
        last->is_full = false;
    }
}

static void emit(struct courier *courier, uint64_t attempt, uint8_t result, uint16_t status,
                 uint8_t flags, const uint32_t *refused, size_t refused_count) {
    struct outcome_slot *last = courier->delivery.last;
    write_last(courier, 0);
    last->is_full = true;
    last->outcome = (struct ledger_outcome){
        .attempt = attempt,
        .time_ms = now_ms(),
        .status = status,
        .result = result,
        .flags = flags,
        .refused_count = refused_count,
    };
    if (refused_count != 0) {
        memcpy(last->refused, refused, refused_count * sizeof *refused);
    }
}

/* A result that leaves the items to be sent again; said once for each attempt, the stronger of two counts (lower is stronger). */
static void emit_open(struct courier *courier, struct segment *segment, uint8_t result,
                      uint16_t status) {
    if (segment->attempt != 0 && (segment->written == 0 || result < segment->written)) {
        emit(courier, segment->attempt, result, status, 0, NULL, 0);
        segment->written = result;
    }
}

static struct segment *top(struct courier *courier) {
    check(courier->delivery.depth > 0);
    return &courier->delivery.stack[courier->delivery.depth - 1];
}

static void push(struct courier *courier, uint8_t endpoint, uint16_t from, uint16_t to,
                 bool in_bisection) {
    struct delivery *d = &courier->delivery;
    check(d->depth < SEGMENTS_MAX && from < to);
    d->stack[d->depth++] = (struct segment){
        .from = from, .to = to, .endpoint = endpoint, .in_bisection = in_bisection};
}

static struct window_item *item_at(struct courier *courier, uint16_t place) {
    return &courier->window.list[courier->window.order[place]];
}

/* -- suspects ---------------------------------------------------------------------------------------------------------------------------- */

static void set_aside(struct courier *courier, const struct window_item *item, uint16_t status,
                      uint64_t time_ms) {
    poison_note(courier, item, status, time_ms);
    counter_add(&courier->counters.poison_events, 1);
    counter_add(&courier->counters.refused_events, 1);
}

/* The suspects' outcomes, as final (set aside for good) or not (to be sent again). */
static void settle_suspects(struct courier *courier, bool is_final) {
    static const uint32_t first = 0;
    struct delivery *d = &courier->delivery;
    for (uint32_t i = 0; i < d->suspect_count; i++) {
        const struct suspect *s = &d->suspects[i];
        emit(courier, s->attempt, s->result, s->status, is_final ? OUTCOME_ITEMS_FINAL : 0, &first,
             is_final ? 1 : 0);
        if (is_final) {
            set_aside(courier, &courier->window.list[s->item], s->status, s->time_ms);
        }
    }
    d->suspect_count = 0;
}

static void suspect(struct courier *courier, const struct segment *segment, uint16_t status) {
    struct delivery *d = &courier->delivery;
    check(segment->to - segment->from == 1 && d->suspect_count < WINDOW_EVENTS);
    d->suspects[d->suspect_count++] = (struct suspect){
        segment->attempt, now_ms(), courier->window.order[segment->from], status, d->refusal};
    if (!d->in_bisection || d->bisection_accepted != 0 || d->bisection_events < BISECT_MIN) {
        settle_suspects(courier, true);
    }
}

/* When the last segment of a bisection is done. False: it accepted nothing, and the vendor is parked with all as it was before. */
static bool end_bisection(struct courier *courier) {
    struct delivery *d = &courier->delivery;
    if (!d->in_bisection || d->depth > d->bisection_base) {
        return true;
    }
    d->in_bisection = false;
    if (d->suspect_count == 0) {
        return true;
    }
    settle_suspects(courier, false);
    courier_park(courier,
                 atomic_load_explicit(&courier->counters.last_status, memory_order_relaxed),
                 "refuses everything");
    push(courier, d->bisection_endpoint, d->bisection_from, d->bisection_to, false);
    return false;
}

static void split(struct courier *courier, bool is_bisection) {
    struct delivery *d = &courier->delivery;
    struct segment whole = *top(courier);
    uint16_t middle = (uint16_t)(whole.from + (whole.to - whole.from) / 2);
    check(middle > whole.from);
    d->depth--;
    if (is_bisection && !d->in_bisection) {
        d->in_bisection = true;
        d->bisection_base = d->depth;
        d->bisection_endpoint = whole.endpoint;
        d->bisection_from = whole.from;
        d->bisection_to = whole.to;
        d->bisection_events = (uint32_t)(whole.to - whole.from);
        d->bisection_accepted = 0;
    }
    push(courier, whole.endpoint, middle, whole.to, d->in_bisection);
    push(courier, whole.endpoint, whole.from, middle, d->in_bisection);
}

/* -- back-off ------------------------------------------------------------------------------------------------------------------------------ */

void delivery_pause(struct courier *courier) {
    write_last(courier, 0);
    if (courier->delivery.is_started) {
        courier->delivery.needs_rebuild = true;
    } else {
        window_begin(courier, courier->window.first_seq);
    }
    window_release(courier);
}

static void wait_until(struct courier *courier, uint64_t us) {
    courier->delivery.retry_us = os_mono_us() + us;
    atomic_store_explicit(&courier->counters.retry_at_ms, now_ms() + us / 1000,
                          memory_order_relaxed);
    delivery_pause(courier);
}

static void back_off(struct courier *courier, uint32_t retry_after_s) {
    struct delivery *d = &courier->delivery;
    uint64_t limit = BACKOFF_US_MAX;
    if (d->failures < 9) {
        limit = (uint64_t)BACKOFF_US << d->failures;
        limit = limit < BACKOFF_US_MAX ? limit : BACKOFF_US_MAX;
    }
    uint64_t random = 0;
    os_random(&random, sizeof random);
    uint64_t asked = retry_after_s < RETRY_AFTER_S_MAX ? retry_after_s : RETRY_AFTER_S_MAX;
    uint64_t us = random % limit;
    us = us > asked * 1000000 ? us : asked * 1000000;
    d->failures++;
    counter_add(&courier->counters.retries, 1);
    (void)gate_move(&courier->gate, VENDOR_RETRYING);
    wait_until(courier, us);
}

static void succeeded(struct courier *courier) {
    struct delivery *d = &courier->delivery;
    if (d->failures != 0 || gate_state(&courier->gate) != VENDOR_ACTIVE) {
        log_event(LOG_INFO, "vendor answers", LOG_WORD("vendor", courier->vendor));
    }
    d->failures = 0;
    d->redirects = 0;
    d->retry_us = 0;
    (void)gate_move(&courier->gate, VENDOR_ACTIVE);
    atomic_store_explicit(&courier->counters.retry_at_ms, 0, memory_order_relaxed);
    atomic_store_explicit(&courier->counters.last_success_ms, now_ms(), memory_order_relaxed);
}

/* -- answers ------------------------------------------------------------------------------------------------------------------------------- */

static void take_accepted(struct courier *courier, uint16_t status,
                          const struct protocol_answer *answer) {
    struct delivery *d = &courier->delivery;
    struct segment segment = *top(courier);
    uint32_t count = (uint32_t)(segment.to - segment.from);
    if (answer->refused_count == count && count >= BISECT_MIN) {
        /* Named or not: a vendor that accepts nothing of many is taken to be wrong about them. */
        emit_open(courier, top(courier), d->refusal, status);
        courier_park(courier, status, "refuses everything");
        return;
    }
    if (answer->refused_count == 0) {
        transfer_keep(courier);
    }
    d->depth--;
    if (answer->refused_count < count && segment.in_bisection) {
        d->bisection_accepted += count - answer->refused_count;
        settle_suspects(courier, true);
    }
    uint8_t result = answer->refused_count == count ? RESULT_REFUSED : RESULT_ACCEPTED;
    emit(courier, segment.attempt, result, status, OUTCOME_ITEMS_FINAL, courier->refused,
         answer->refused_count);
    for (uint32_t i = 0; i < answer->refused_count; i++) {
        set_aside(courier, item_at(courier, (uint16_t)(segment.from + courier->refused[i])), status,
                  now_ms());
    }
    counter_add(&courier->counters.accepted_events, count - answer->refused_count);
    succeeded(courier);
    (void)end_bisection(courier);
}

static void take_refused(struct courier *courier, uint16_t status) {
    struct segment *segment = top(courier);
    if (segment->to - segment->from > 1) {
        emit_open(courier, segment, courier->delivery.refusal, status);
        split(courier, true);
        return;
    }
    suspect(courier, segment, status);
    courier->delivery.depth--;
    (void)end_bisection(courier);
}

static void take_too_big(struct courier *courier, uint16_t status) {
    struct segment *segment = top(courier);
    if (segment->to - segment->from > 1) {
        emit_open(courier, segment, courier->delivery.refusal, status);
        split(courier, false);
        return;
    }
    static const uint32_t first = 0;
    set_aside(courier, item_at(courier, segment->from), status, now_ms());
    emit(courier, segment->attempt, courier->delivery.refusal, status, OUTCOME_ITEMS_FINAL, &first,
         1);
    courier->delivery.depth--;
    (void)end_bisection(courier);
}

static void take_auth(struct courier *courier, const struct transfer_result *result) {
    struct delivery *d = &courier->delivery;
    bool is_redirect = result->status >= 300 && result->status < 400;
    emit_open(courier, top(courier), d->refusal, result->status);
    d->redirects = is_redirect ? d->redirects + 1 : 0;
    if (is_redirect && d->redirects < 2) {
        back_off(courier, result->retry_after_s);
    } else {
        courier_park(courier, result->status,
                     is_redirect ? "redirects" : "refuses the credential or address");
    }
}

/* From indexes of parts, as the vendor counts, to those of the segment's entries: one of which something is refused is refused. */
static void count_entries(struct courier *courier, const struct segment *segment,
                          struct protocol_answer *answer) {
    uint32_t refused = 0;
    uint32_t next = 0;
    uint32_t part = 0;
    for (uint16_t place = segment->from; place < segment->to && next < answer->refused_count;
         place++) {
        part += item_at(courier, place)->parts;
        bool is_refused = false;
        for (; next < answer->refused_count && courier->refused[next] < part; next++) {
            is_refused = true;
        }
        if (is_refused) {
            courier->refused[refused++] = (uint32_t)(place - segment->from);
        }
    }
    answer->refused_count = refused;
}

static size_t count_parts(struct courier *courier, const struct segment *segment) {
    size_t count = 0;
    for (uint16_t place = segment->from; place < segment->to; place++) {
        count += item_at(courier, place)->parts;
    }
    return count;
}

/* The way to the vendor is closed until a person opens it. */
static void take_fault(struct courier *courier, const struct transfer_result *result) {
    char why[256];
    struct segment *segment = top(courier);
    emit_open(courier, segment, segment->may_have_left ? RESULT_UNKNOWN : RESULT_UNSENT, 0);
    switch (result->fault) {
    case TRANSFER_ADDRESS:
        log_event(LOG_ERROR, "the contract's egress does not open the vendor's address",
                  LOG_WORD("vendor", courier->vendor), LOG_WORD("address", result->address));
        (void)snprintf(why, sizeof why,
                       "the address %s is closed; egress: [public, %s] in vendors/%s.yaml opens it",
                       result->address, result->address, courier->vendor);
        courier_park(courier, 0, why);
        return;
    case TRANSFER_PIN:
        log_event(LOG_ERROR, "the vendor's server has a key that the contract does not pin",
                  LOG_WORD("vendor", courier->vendor));
        courier_park(courier, 0, "the server's key is none of the contract's pins");
        return;
    case TRANSFER_PROXY:
        courier_park(courier, 407, "the proxy refuses its credential");
        return;
    case TRANSFER_OK:
        break;
    }
}

static void take_answer(struct courier *courier, const struct transfer_result *result) {
    struct segment *segment = top(courier);
    struct protocol_answer answer;
    if (result->fault != TRANSFER_OK) {
        take_fault(courier, result);
        return;
    }
    const struct protocol_ops *ops = courier->rules->ops;
    ops->answer(segment->endpoint, result->status, result->body, count_parts(courier, segment),
                courier->refused, &answer);
    count_entries(courier, segment, &answer);
    /* A yes that came before the request was out is not this request's. */
    bool is_stray = result->is_early && result->status < 300;
    if (!result->is_complete || is_stray || (answer.kind == ANSWER_RETRY && result->status < 300)) {
        segment->may_have_left |= result->may_have_left;
        back_off(courier, 0);
        return;
    }
    /* Who refuses before all was handed over has perhaps not read it. */
    courier->delivery.refusal = result->is_early ? RESULT_UNKNOWN : RESULT_REFUSED;
    switch ((enum answer_kind)answer.kind) {
    case ANSWER_ACCEPTED:
        take_accepted(courier, result->status, &answer);
        return;
    case ANSWER_REFUSED:
        take_refused(courier, result->status);
        return;
    case ANSWER_TOO_BIG:
        take_too_big(courier, result->status);
        return;
    case ANSWER_AUTH:
        take_auth(courier, result);
        return;
    case ANSWER_RETRY:
        break;
    }
    emit_open(courier, segment, courier->delivery.refusal, result->status);
    back_off(courier, result->retry_after_s);
}

/* -- attempts ------------------------------------------------------------------------------------------------------------------------------ */

static int compare_entries(const void *a, const void *b) {
    const struct ledger_entry *x = a;
    const struct ledger_entry *y = b;
    if (x->ord != y->ord) {
        return x->ord < y->ord ? -1 : 1;
    }
    return x->shape != y->shape ? (x->shape < y->shape ? -1 : 1) : 0;
}

/* The segment's links, sorted by ord and shape, equal ones added up. */
static size_t gather_entries(struct courier *courier, const struct segment *segment) {
    struct ledger_entry *entries = courier->next.work->entries;
    size_t count = 0;
    for (uint16_t place = segment->from; place < segment->to; place++) {
        const struct window_item *item = item_at(courier, place);
        for (unsigned i = 0; i < item->link_count; i++) {
            const struct window_link *link = &courier->window.work->links[item->link_at + i];
            struct ledger_entry *entry = &entries[count++];
            entry->ord = link->ord;
            entry->shape = link->shape;
            entry->events = 1;
            memcpy(entry->lid, link->lid, sizeof entry->lid);
        }
    }
    qsort(entries, count, sizeof *entries, compare_entries);
    size_t kept = 0;
    for (size_t i = 0; i < count; i++) {
        if (kept != 0 && compare_entries(&entries[kept - 1], &entries[i]) == 0) {
            entries[kept - 1].events++;
        } else {
            entries[kept++] = entries[i];
        }
    }
    return kept;
}

static int write_attempt(struct courier *courier, struct segment *segment, struct span plain) {
    struct window *window = &courier->window;
    uint32_t count = (uint32_t)(segment->to - segment->from);
    struct ledger_attempt attempt = {
        .time_ms = now_ms(),
        .first_seq = window->first_seq,
        .span = (uint32_t)(window->next_seq - window->first_seq),
        .endpoint = segment->endpoint,
        .events = count,
        .entries = courier->next.work->entries,
        .entry_count = gather_entries(courier, segment),
    };
    for (uint16_t place = segment->from; place < segment->to; place++) {
        const struct window_item *item = item_at(courier, place);
        attempt.withheld += item->withheld;
        courier->seqs[place - segment->from] = item->seq;
    }
    bool is_part = count != window->endpoint_items[segment->endpoint] || window->final_events != 0;
    attempt.seqs = is_part ? courier->seqs : NULL;
    attempt.seq_count = is_part ? count : 0;
    sha256(plain, attempt.body_sha256);
    uint64_t number = 0;
    int r = ledger_attempt(courier->ledger, &attempt, &number);
    if (r != 0) {
        return r;
    }
    struct delivery *d = &courier->delivery;
    bool is_new = number > d->newest_attempt && (d->newest_attempt != 0 || !d->may_resume);
    bool is_ours = segment->attempt == number && segment->written != RESULT_UNSENT;
    if (!is_new && !is_ours) {
        /* Perhaps a try of a former life, perhaps with "unsent" as its last word. */
        struct ledger_outcome unknown = {
            .attempt = number, .time_ms = now_ms(), .result = RESULT_UNKNOWN};
        r = ledger_outcome(courier->ledger, &unknown);
        r = r == 0 ? ledger_flush(courier->ledger) : r;
        segment->written = RESULT_UNKNOWN;
    }
    segment->attempt = number;
    d->newest_attempt = number > d->newest_attempt ? number : d->newest_attempt;
    return r;
}

/* Makes a request of the first `count` items of next.work->request, in the next window's memory; its body is out of there before that one is begun. */
static int encode(struct courier *courier, unsigned endpoint, size_t count,
                  struct protocol_post *ret_post) {
    check(courier->next.first_seq == 0);
    struct buf plain = buf_of(courier->next.items.p, ITEMS_MAX);
    struct buf *body = &courier->body;
    body->n = 0;
    body->full = false;
    int r = courier->rules->ops->encode(endpoint, courier->next.work->request, count,
                                        span_of(courier->credential.bytes, courier->credential.n),
                                        courier->wire, &plain, body, ret_post);
    if (r == 0 && ret_post->body.p != body->p) {
        buf_put_span(body, ret_post->body);
        ret_post->body = buf_span(body);
    }
    return r;
}

static int encode_segment(struct courier *courier, const struct segment *segment,
                          struct protocol_post *ret_post) {
    struct span *items = courier->next.work->request;
    size_t count = 0;
    for (uint16_t place = segment->from; place < segment->to; place++) {
        const struct window_item *item = item_at(courier, place);
        struct span rest = window_json(&courier->window, item);
        if (item->parts == 1) {
            items[count++] = rest;
            continue;
        }
        while (outgoing_next(&rest, &items[count])) {
            count++;
        }
    }
    return encode(courier, segment->endpoint, count, ret_post);
}

/* Whether nothing of the window is left to be encoded after this request, if it is accepted, and there is room to judge events meanwhile. */
static bool may_look_ahead(const struct courier *courier) {
    const struct buf *body = &courier->body;
    return courier->delivery.depth == 1 && (const uint8_t *)courier->tokens >= body->p + body->n;
}

/* What the vendor's protocol cannot carry is found by halving, and withheld. */
static void drop_inexpressible(struct courier *courier, const struct segment *segment) {
    if (segment->to - segment->from > 1) {
        split(courier, false);
        return;
    }
    courier->window.withheld_events++;
    courier->window.withheld_by_reason[REASON_NOT_EXPRESSIBLE]++;
    courier->delivery.depth--;
    (void)end_bisection(courier);
}

static void send_segment(struct courier *courier) {
    struct segment *segment = top(courier);
    struct protocol_post post;
    struct transfer_result result;
    int r = encode_segment(courier, segment, &post);
    if (r == BH_E_FULL || r == BH_E_SYNTAX) {
        drop_inexpressible(courier, segment);
        return;
    }
    write_last(courier, 0);
    r = r == 0 ? write_attempt(courier, segment, post.plain) : r;
    if (r != 0) {
        log_event(LOG_ERROR,
                  "no attempt can be written; nothing is sent to this vendor until it can",
                  LOG_WORD("vendor", courier->vendor), LOG_INT("code", r));
        wait_until(courier, LEDGER_RETRY_US);
        return;
    }
    counter_add(&courier->counters.attempts, 1);
    transfer_run(courier, &post, may_look_ahead(courier) ? window_look_ahead : NULL, &result);
    counter_add(&courier->counters.bytes_sent, result.sent_bytes);
    if (result.status != 0) {
        atomic_store_explicit(&courier->counters.last_status, result.status, memory_order_relaxed);
    }
    if (result.is_cut || courier_is_stopping(courier)) {
        segment->may_have_left |= result.may_have_left;
    }
    if (!result.is_cut) {
        take_answer(courier, &result);
    }
    if (courier->delivery.depth != 0) {
        window_forget_next(courier);
    }
}

/* -- windows ------------------------------------------------------------------------------------------------------------------------------- */

static void start(struct courier *courier) {
    struct delivery *d = &courier->delivery;
    struct window *window = &courier->window;
    uint32_t to = window->item_count;
    d->depth = 0;
    d->in_bisection = false;
    d->is_started = true;
    d->fingerprint = window->fingerprint;
    for (uint8_t endpoint = PROTOCOL_ENDPOINTS_MAX; endpoint > 0; endpoint--) {
        uint32_t count = window->endpoint_items[endpoint];
        if (count != 0) {
            push(courier, endpoint, (uint16_t)(to - count), (uint16_t)to, false);
        }
        to -= count;
    }
    check(to == 0);
}

static void count_withheld(struct courier *courier) {
    const struct window *window = &courier->window;
    counter_add(&courier->counters.withheld_events, window->withheld_events);
    for (unsigned i = 0; i < REASON_LIMIT; i++) {
        uint64_t n = (uint64_t)window->withheld_by_reason[i] + window->leaves_by_reason[i];
        if (n != 0) {
            counter_add(&courier->counters.withheld_by_reason[i], n);
        }
    }
}

/* Nothing is left to send. The last outcome settles the window, or where there is none, a passed line. */
static int settle(struct courier *courier) {
    struct window *window = &courier->window;
    uint64_t span = window->next_seq - window->first_seq;
    if (courier->delivery.last->is_full) {
        write_last(courier, OUTCOME_WINDOW_SETTLED);
    } else if (span != 0) {
        struct ledger_reason_count reasons[REASON_LIMIT];
        size_t count = 0;
        for (unsigned i = 0; i < REASON_LIMIT; i++) {
            if (window->withheld_by_reason[i] != 0) {
                reasons[count++] =
                    (struct ledger_reason_count){(uint8_t)i, window->withheld_by_reason[i]};
            }
        }
        int r = ledger_passed(courier->ledger, window->first_seq, span, reasons, count, "policy",
                              false);
        if (r != 0) {
            return r;
        }
    }
    count_withheld(courier);
    return 0;
}

void delivery_reset(struct courier *courier) {
    struct delivery *d = &courier->delivery;
    settle_suspects(courier, false);
    write_last(courier, 0);
    d->depth = 0;
    d->is_started = false;
    d->in_bisection = false;
    d->needs_rebuild = false;
}

bool delivery_is_idle(const struct courier *courier) {
    return !courier->delivery.is_started;
}

/* What was given back in a back-off is made again; other rules or a smaller window begin anew. */
static int rebuild(struct courier *courier) {
    struct delivery *d = &courier->delivery;
    bool begins_anew = d->generation != courier->rules->generation;
    write_last(courier, 0);
    courier->window.skip_final = begins_anew;
    int r = window_rebuild(courier);
    courier->window.skip_final = false;
    if (r != 0) {
        return r;
    }
    if (begins_anew || d->fingerprint != courier->window.fingerprint) {
        delivery_reset(courier);
        if (!begins_anew) {
            courier->window.skip_final = true;
            r = window_rebuild(courier);
            courier->window.skip_final = false;
        }
    }
    d->needs_rebuild = r != 0;
    return r;
}

/* The vendor's address, waited for at most DNS_WAIT_US at a time: by wakes, so that a cut is seen at once. */
static bool is_reachable(struct courier *courier) {
    struct delivery *d = &courier->delivery;
    int r = transfer_prepare(courier);
    if (r == 0) {
        d->dns_since_us = 0;
        return true;
    }
    uint64_t now = os_mono_us();
    bool is_pending = r == BH_E_AGAIN || r == BH_E_BUSY;
    d->dns_since_us = d->dns_since_us != 0 ? d->dns_since_us : now;
    if (is_pending && now - d->dns_since_us < DNS_WAIT_US) {
        courier_wait(courier,
                     r == BH_E_BUSY ? 50 : (DNS_WAIT_US - (now - d->dns_since_us)) / 1000 + 1);
        return false;
    }
    d->dns_since_us = 0;
    back_off(courier, 0);
    return false;
}

void delivery_step(struct courier *courier) {
    struct delivery *d = &courier->delivery;
    check(courier->window.closed || d->needs_rebuild);
    if (d->is_started && d->depth != 0 && d->generation != courier->rules->generation) {
        d->needs_rebuild = true;
    }
    if (d->needs_rebuild && rebuild(courier) != 0) {
        courier_wait(courier, 50);
        return;
    }
    if (!d->is_started) {
        d->generation = courier->rules->generation;
        start(courier);
    }
    if (d->depth != 0) {
        if (is_reachable(courier)) {
            send_segment(courier);
        }
        return;
    }
    if (settle(courier) != 0) {
        courier_wait(courier, 1000);
        return;
    }
    d->is_started = false;
    courier->window.skip_final = false;
    window_advance(courier);
}

/* Attempts in the air: unknown when a body byte may have left, else unsent; what had an answer has its outcome. */
void delivery_abandon(struct courier *courier) {
    struct delivery *d = &courier->delivery;
    for (unsigned i = 0; i < d->depth; i++) {
        struct segment *segment = &d->stack[i];
        emit_open(courier, segment, segment->may_have_left ? RESULT_UNKNOWN : RESULT_UNSENT, 0);
    }
    delivery_reset(courier);
    d->failures = 0;
    d->redirects = 0;
    d->retry_us = 0;
    d->dns_since_us = 0;
    atomic_store_explicit(&courier->counters.retry_at_ms, 0, memory_order_relaxed);
}

/* An empty request, which tells whether the vendor would take a full one: no person's data, so no attempt. */
bool delivery_probe(struct courier *courier) {
    struct protocol_post post;
    struct transfer_result result;
    struct protocol_answer answer;
    const struct protocol_ops *ops = courier->rules->ops;
    unsigned endpoint = ops->endpoint(EVENT_TRACK);
    int r = transfer_prepare(courier);
    r = r == 0 ? encode(courier, endpoint, 0, &post) : r;
    if (r != 0) {
        return false;
    }
    transfer_run(courier, &post, NULL, &result);
    ops->answer(endpoint, result.status, result.body, 0, courier->refused, &answer);
    if (result.status != 0) {
        atomic_store_explicit(&courier->counters.last_status, result.status, memory_order_relaxed);
    }
    return result.is_complete && answer.kind == ANSWER_ACCEPTED;
}
