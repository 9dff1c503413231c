/*
 * Questions about a person (feature flags), for which an SDK waits.
 *
 *   asker's ring -> the newest rules -> everybody it names has a number -> ledger_attempt (synced) -> one request, until the deadline
 *   -> what of the answer the SDK may have -> is_done, wake
 *
 * A question is no event: it has no seq, is sent once (libcurl may begin again on a new connection when a kept one was dead) and then forgotten. It stands in the ledger as an attempt of no window (span 0), entered under all ids
 * that it names, and its outcome is final whatever it is. Values with max_distinct never leave in one: the resolver counts events only.
 *
 * Questions take turns with windows: STEP_US of them, then what delivery has to do. A vendor that does not answer one is asked nothing for a while, so that its
 * events get their turn and its ledger no line for each page that somebody opens.
 */
#include "base/check.h"
#include "crypto/crypto.h"
#include "flow/deliver/deliver_int.h"
#include "os/clock.h"
#include "os/log.h"
#include "os/socket.h"

enum {
    STEP_US = 250 * 1000,
    REST_US = 1000 * 1000,
    REST_DOUBLINGS = 6, /* to 64 s */
};

int questions_init(struct questions *questions) {
    questions->askers = os_memory_map(LIMIT_LOOPS * sizeof *questions->askers);
    questions->tokens = os_memory_map(LIMIT_EVENT_TOKENS * sizeof *questions->tokens);
    questions->sent = buf_of(os_memory_map(QUESTION_SENT_MAX), QUESTION_SENT_MAX);
    questions->plain = buf_of(os_memory_map(QUESTION_PLAIN_MAX), QUESTION_PLAIN_MAX);
    if (questions->askers == NULL || questions->tokens == NULL || questions->sent.p == NULL ||
        questions->plain.p == NULL) {
        return BH_E_NOMEM;
    }
    for (unsigned i = 0; i < LIMIT_LOOPS; i++) {
        ring_init(&questions->askers[i].ring, questions->askers[i].slots, QUESTIONS_MAX);
    }
    return 0;
}

static void unmap(void *p, size_t size) {
    if (p != NULL) {
        os_memory_unmap(p, size);
    }
}

void questions_fini(struct questions *questions) {
    unmap(questions->askers, LIMIT_LOOPS * sizeof *questions->askers);
    unmap(questions->tokens, LIMIT_EVENT_TOKENS * sizeof *questions->tokens);
    unmap(questions->sent.p, QUESTION_SENT_MAX);
    unmap(questions->plain.p, QUESTION_PLAIN_MAX);
}

bool courier_ask(struct courier *courier, unsigned asker, struct courier_question *question) {
    check(asker < LIMIT_LOOPS && !aid_is_zero(&question->aid));
    question->is_answered = false;
    question->is_unknown = false;
    atomic_store_explicit(&question->is_done, false, memory_order_relaxed);
    if (!ring_push(&courier->questions.askers[asker].ring, (uint64_t)(uintptr_t)question)) {
        return false;
    }
    os_wake_signal(courier->wake_fd);
    return true;
}

/* -- what may leave ---------------------------------------------------------------------------------------------------------------------- */

static uint64_t always_closed(void *context, uint64_t property) {
    (void)context;
    (void)property;
    return 0;
}

static bool judge(struct courier *courier, const struct courier_question *question,
                  struct verdict *verdict) {
    struct questions *q = &courier->questions;
    const struct protocol_ops *item = courier->rules->ops->ask->item;
    size_t count = 0;
    size_t offset = 0;
    uint8_t precision = 0;
    struct record_request request = {.protocol = item->id,
                                     .source = question->source,
                                     .events = 1,
                                     .received_us = (uint64_t)question->time_ms * 1000,
                                     .env = question->env};
    struct record_event event = {.kind = EVENT_PROFILE,
                                 .time_ms = question->time_ms,
                                 .aid = question->aid,
                                 .findings = question->findings,
                                 .finding_count = question->finding_count,
                                 .json = question->json};
    if (json_parse(question->json, LIMIT_JSON_DEPTH, q->tokens, LIMIT_EVENT_TOKENS, &count,
                   &offset) != 0) {
        return false;
    }
    struct policy_input input = {.protocol = item,
                                 .request = &request,
                                 .event = &event,
                                 .tokens = q->tokens,
                                 .token_count = count,
                                 .space = span_str(courier->rules->space_of[question->source]),
                                 .distinct_closed_at = always_closed};
    input.ruleset_count = rules_in_force(courier->rules, UINT64_MAX, &input.rulesets, &precision);
    q->sent.n = 0;
    q->sent.full = false;
    policy_apply(courier->policy, &input, &q->sent, verdict, NULL, NULL);
    return verdict->sends && verdict->aid_count != 0;
}

/* Everybody whom the question names, sorted by number. False: somebody has none. */
static bool list_people(struct courier *courier, const struct verdict *verdict,
                        struct ledger_entry *entries, size_t *ret_count) {
    size_t count = 0;
    int r = resolve_view_begin(courier->view);
    if (r != 0) {
        return false;
    }
    for (unsigned i = 0; i < verdict->aid_count && r == 0; i++) {
        struct resolve_row row;
        r = resolve_lookup(courier->view, &verdict->aids[i], &row);
        if (r != 0 || row.ord == 0) {
            r = BH_E_NOTFOUND;
            break;
        }
        size_t at = 0;
        while (at < count && entries[at].ord < row.ord) {
            at++;
        }
        if (at < count && entries[at].ord == row.ord) {
            continue;
        }
        memmove(&entries[at + 1], &entries[at], (count - at) * sizeof *entries);
        entries[at] = (struct ledger_entry){.ord = row.ord, .events = 1};
        memcpy(entries[at].lid, row.lid, sizeof row.lid);
        count++;
    }
    resolve_view_end(courier->view);
    *ret_count = count;
    return r == 0;
}

/* Recorded: 0 and the attempt's number, once it is on disk. */
static int record(struct courier *courier, struct courier_question *question,
                  const struct verdict *verdict, struct span plain, uint64_t *ret_number) {
    struct ledger_entry entries[VERDICT_AIDS_MAX + 1];
    struct ledger_pair pairs[VERDICT_DISCLOSED_MAX];
    size_t count = 0;
    question->is_unknown = !list_people(courier, verdict, entries, &count);
    if (question->is_unknown) {
        return BH_E_NOTFOUND;
    }
    for (unsigned i = 0; i < verdict->disclosed_count; i++) {
        const struct disclosed *d = &verdict->disclosed[i];
        pairs[i] = (struct ledger_pair){d->class_id, d->form.id, d->form.level};
    }
    uint32_t shape =
        ledger_shape(courier->ledger, question->source, pairs, verdict->disclosed_count);
    if (shape == 0) {
        return BH_E_NOSPACE;
    }
    for (size_t i = 0; i < count; i++) {
        entries[i].shape = shape;
    }
    struct ledger_attempt attempt = {
        .time_ms = os_wall_us() / 1000,
        .first_seq =
            resolver_seq(courier->config.resolver) + 1, /* whom its people are linked with */
        .span = 0,
        .endpoint = courier->rules->ops->ask->endpoint,
        .events = 1,
        .withheld = verdict->withheld_leaves,
        .entries = entries,
        .entry_count = count,
    };
    sha256(plain, attempt.body_sha256);
    return ledger_attempt(courier->ledger, &attempt, ret_number);
}

/* -- one question ------------------------------------------------------------------------------------------------------------------------ */

static void tell(struct courier *courier, uint64_t number, const struct transfer_result *result) {
    struct ledger_outcome outcome = {
        .attempt = number,
        .time_ms = os_wall_us() / 1000,
        .status = result->status,
        .result = result->may_have_left ? RESULT_UNKNOWN : RESULT_UNSENT,
        .flags = OUTCOME_ITEMS_FINAL,
    };
    if (result->is_complete && !result->is_early) {
        outcome.result = result->status < 300 ? RESULT_ACCEPTED : RESULT_REFUSED;
    }
    int r = ledger_outcome(courier->ledger, &outcome);
    if (r != 0) {
        /* It reads as unknown then: less certain, never wrong. */
        log_event(LOG_ERROR, "an outcome is not in the ledger", LOG_WORD("vendor", courier->vendor),
                  LOG_INT("code", r));
    }
}

static bool may_ask(const struct courier *courier, enum vendor_state state) {
    const struct delivery *d = &courier->delivery;
    uint64_t now = os_mono_us();
    bool is_well = (state == VENDOR_ACTIVE || state == VENDOR_RETRYING) && d->failures == 0;
    return is_well && courier->has_credential && courier->rules->forwards_flags &&
           courier->questions.rest_us <= now;
}

static void note_answer(struct questions *q, bool is_answered) {
    if (is_answered) {
        q->failures = 0;
        return;
    }
    unsigned doublings = q->failures < REST_DOUBLINGS ? q->failures : REST_DOUBLINGS;
    q->rest_us = os_mono_us() + ((uint64_t)REST_US << doublings);
    q->failures++;
}

/* Sends what is recorded; whether the vendor gave an answer. */
static bool send_question(struct courier *courier, struct courier_question *question,
                          const struct protocol_post *post, uint64_t number) {
    struct questions *q = &courier->questions;
    struct transfer_result result = {0};
    struct protocol_question both = {question->json, buf_span(&q->sent)};
    if (os_mono_us() < question->deadline_us) {
        courier->transfer.deadline_us = question->deadline_us;
        transfer_run(courier, post, NULL, &result);
        courier->transfer.deadline_us = 0;
    }
    tell(courier, number, &result);
    counter_add(&courier->counters.bytes_sent, result.sent_bytes);
    if (!result.is_complete || result.is_early || result.is_cut) {
        return false;
    }
    question->answer.n = 0;
    question->answer.full = false;
    int r = courier->rules->ops->ask->answer(&both, result.status, result.body, q->tokens,
                                             LIMIT_EVENT_TOKENS, &question->answer);
    if (r == 0) {
        transfer_keep(courier);
    }
    return r == 0;
}

static bool ask(struct courier *courier, struct courier_question *question) {
    struct questions *q = &courier->questions;
    struct verdict verdict;
    struct protocol_post post;
    uint64_t number = 0;
    bool is_asked = os_mono_us() < question->deadline_us &&
                    may_ask(courier, gate_state(&courier->gate)) &&
                    transfer_prepare(courier) == 0 && judge(courier, question, &verdict);
    if (!is_asked) {
        return false;
    }
    q->plain.n = 0;
    q->plain.full = false;
    struct span credential = span_of(courier->credential.bytes, courier->credential.n);
    int r = courier->rules->ops->ask->encode(question->form, buf_span(&q->sent), credential,
                                             &q->plain, &post);
    r = r == 0 ? record(courier, question, &verdict, post.plain, &number) : r;
    if (r != 0) {
        return false; /* nothing is recorded, and nothing leaves */
    }
    counter_add(&courier->counters.questions, 1);
    bool is_answered = send_question(courier, question, &post, number);
    counter_add(&courier->counters.questions_answered, is_answered);
    note_answer(q, is_answered);
    return is_answered;
}

static void finish(struct courier_question *question, bool is_answered) {
    int wake_fd = question->wake_fd;
    question->is_answered = is_answered;
    /* With the asker's acquire: all that was written for it. */
    atomic_store_explicit(&question->is_done, true, memory_order_release);
    os_wake_signal(wake_fd);
}

void questions_step(struct courier *courier) {
    struct questions *q = &courier->questions;
    uint64_t until = os_mono_us() + STEP_US;
    bool waits = courier->delivery.last->is_full; /* its window is settled with it first */
    bool goes_on = !waits;
    while (goes_on) {
        goes_on = false;
        for (unsigned i = 0; i < LIMIT_LOOPS; i++) {
            uint64_t message = 0;
            if (courier_is_stopping(courier) || !ring_pop(&q->askers[i].ring, &message)) {
                continue;
            }
            /* NOLINTNEXTLINE(performance-no-int-to-ptr): as courier_ask wrote it */
            struct courier_question *question = (struct courier_question *)(uintptr_t)message;
            finish(question, ask(courier, question));
            goes_on = true;
        }
        if (goes_on && os_mono_us() >= until) {
            waits = true;
            break;
        }
    }
    if (waits) {
        os_wake_signal(
            courier->wake_fd); /* for those that are left, after what delivery has to do */
    }
}
