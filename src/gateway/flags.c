#include "gateway/flags.h"

#include <stdlib.h>

#include "base/check.h"
#include "crypto/crypto.h"
#include "flow/inspect/inspect.h"
#include "gateway/gateway_int.h"
#include "os/clock.h"
#include "os/log.h"

enum {
    WAITING = 64,
    BUDGET_US = 1000 * 1000,
    QUESTION_MAX = 32 * 1024,
    FINDINGS_MAX = 512,
    ANSWER_MAX = 64 * 1024,
    ORIGIN_MAX = 256,
    PEOPLE_MAX = 4, /* ids in a question */
    PEOPLE_BYTES = 4096,
    ENV_MAX = 1024,
    /* An id without a number is looked for again after the journal's sync and the resolver's. */
    AGAIN_US = 10 * 1000,
    AGAIN_TIMES = 6, /* each wait is twice the one before */
};

struct introduced {
    struct aid aid;
    struct span json; /* in the slot's memory */
};

/* A slot is free, or its question is at the courier. The SDK may have been answered meanwhile. */
struct slot {
    bool is_taken;
    bool waits; /* the SDK does */
    struct http_exchange exchange;
    const struct protocol_ops *protocol;
    struct protocol_envelope envelope; /* without spans */
    struct flags_key key;
    size_t origin_size;
    uint8_t origin[ORIGIN_MAX];
    struct courier *courier;
    uint64_t again_us; /* monotonic; 0 = the courier has the question */
    unsigned again_times;
    size_t people_count;
    struct introduced people[PEOPLE_MAX];
    struct courier_question question;
    struct slot_memory {
        uint8_t people[PEOPLE_BYTES];
        uint8_t json[QUESTION_MAX];
        struct finding findings[FINDINGS_MAX];
        uint8_t env[ENV_MAX];
        uint8_t answer[ANSWER_MAX];
    } * memory;
};

struct flags {
    struct loop *loop;
    int wake_fd;
    unsigned taken;
    struct finding findings[FINDINGS_MAX];
    struct record_event events[PEOPLE_MAX];
    uint8_t last[FLAGS_CACHE_ANSWER_MAX];
    struct slot slots[WAITING];
    struct slot_memory *memory; /* WAITING */
};

int flags_new(struct loop *loop, struct flags **ret_flags) {
    struct flags *f = calloc(1, sizeof *f);
    if (f == NULL) {
        return BH_E_NOMEM;
    }
    f->loop = loop;
    f->wake_fd = -1;
    f->memory = os_memory_map(WAITING * sizeof *f->memory);
    int r = f->memory != NULL ? os_wake_open(&f->wake_fd) : BH_E_NOMEM;
    if (r != 0) {
        flags_free(f);
        return r;
    }
    for (unsigned i = 0; i < WAITING; i++) {
        f->slots[i].memory = &f->memory[i];
    }
    *ret_flags = f;
    return 0;
}

void flags_free(struct flags *f) {
    if (f != NULL) {
        if (f->memory != NULL) {
            os_memory_unmap(f->memory, WAITING * sizeof *f->memory);
        }
        if (f->wake_fd >= 0) {
            os_close(f->wake_fd);
        }
        free(f);
    }
}

int flags_wake_fd(const struct flags *f) {
    return f->wake_fd;
}

/* -- answering --------------------------------------------------------------------------------------------------------------------------- */

static void reply(struct flags *f, const struct slot *slot, struct span body) {
    const struct protocol_reply answer = {200, "application/json", body};
    loop_reply(f->loop, slot->exchange, &answer, span_of(slot->origin, slot->origin_size), false);
}

/* What there is without the vendor. */
static void reply_without(struct flags *f, const struct slot *slot) {
    struct buf memory = buf_of(f->last, sizeof f->last);
    if (flags_cache_get(f->loop->gateway->flags_cache, &slot->key, &memory)) {
        reply(f, slot, buf_span(&memory));
    } else {
        struct protocol_reply neutral;
        memory.n = 0;
        memory.full = false;
        slot->protocol->reply(&slot->envelope, REPLY_KEPT, NULL, 0, &memory, &neutral);
        loop_reply(f->loop, slot->exchange, &neutral, span_of(slot->origin, slot->origin_size),
                   false);
    }
    secret_wipe(f->last, memory.n);
}

static void give_back(struct flags *f, struct slot *slot) {
    secret_wipe(slot->memory->people, sizeof slot->memory->people);
    secret_wipe(slot->memory->json, slot->question.json.n);
    secret_wipe(slot->memory->answer, slot->question.answer.n);
    slot->is_taken = false;
    f->taken--;
}

/*
 * The people of a question are shown to the resolver as events show them, by an item that says nothing else; then it is asked again. An id may have
 * got its number meanwhile: it keeps it.
 */
static bool introduce(struct flags *f, struct slot *slot) {
    if (!slot->waits || slot->people_count == 0 || slot->again_times == AGAIN_TIMES) {
        return false;
    }
    for (size_t i = 0; i < slot->people_count; i++) {
        f->events[i] = (struct record_event){.kind = EVENT_PROFILE,
                                             .flags = EVENT_NO_TIME,
                                             .time_ms = slot->question.time_ms,
                                             .aid = slot->people[i].aid,
                                             .json = slot->people[i].json};
    }
    if (slot->again_times == 0 &&
        loop_put_people(f->loop, slot->protocol, &slot->envelope, slot->key.source, f->events,
                        slot->people_count) != 0) {
        return false;
    }
    slot->again_us = os_mono_us() + ((uint64_t)AGAIN_US << slot->again_times++);
    return true;
}

static void take_done(struct flags *f, struct slot *slot) {
    struct courier_question *q = &slot->question;
    if (q->is_unknown && introduce(f, slot)) {
        return;
    }
    if (q->is_answered) {
        flags_cache_put(f->loop->gateway->flags_cache, &slot->key, buf_span(&q->answer));
        if (slot->waits) {
            reply(f, slot, buf_span(&q->answer));
        }
    } else if (slot->waits) {
        reply_without(f, slot);
    }
    give_back(f, slot);
}

void flags_wake(void *context) {
    struct flags *f = context;
    os_wake_drain(f->wake_fd);
    for (unsigned i = 0; i < WAITING && f->taken != 0; i++) {
        struct slot *slot = &f->slots[i];
        /* With the courier's release: all that it wrote. */
        if (slot->is_taken && slot->again_us == 0 &&
            atomic_load_explicit(&slot->question.is_done, memory_order_acquire)) {
            take_done(f, slot);
        }
    }
}

void flags_expire(struct flags *f) {
    uint64_t now = f->taken != 0 ? os_mono_us() : 0;
    for (unsigned i = 0; i < WAITING && f->taken != 0; i++) {
        struct slot *slot = &f->slots[i];
        if (slot->is_taken && slot->waits && now >= slot->question.deadline_us) {
            reply_without(f, slot);
            slot->waits = false;
        }
        if (slot->is_taken && slot->again_us != 0 && now >= slot->again_us) {
            slot->again_us = 0;
            if (!slot->waits || !courier_ask(slot->courier, f->loop->index, &slot->question)) {
                slot->question.is_unknown = false;
                take_done(f, slot);
            }
        }
    }
}

unsigned flags_wait_ms(const struct flags *f, unsigned ms_max) {
    uint64_t now = f->taken != 0 ? os_mono_us() : 0;
    for (unsigned i = 0; i < WAITING && f->taken != 0; i++) {
        const struct slot *slot = &f->slots[i];
        uint64_t next = slot->waits ? slot->question.deadline_us : UINT64_MAX;
        next = slot->again_us != 0 && slot->again_us < next ? slot->again_us : next;
        if (slot->is_taken && next != UINT64_MAX) {
            uint64_t left = next > now ? next - now : 0;
            ms_max = left / 1000 + 1 < ms_max ? (unsigned)(left / 1000 + 1) : ms_max;
        }
    }
    return ms_max;
}

/* -- asking ------------------------------------------------------------------------------------------------------------------------------ */

static struct slot *free_slot(struct flags *f) {
    for (unsigned i = 0; i < WAITING; i++) {
        if (!f->slots[i].is_taken) {
            return &f->slots[i];
        }
    }
    return NULL;
}

static void describe(struct flags *f, const struct http_request *request,
                     const struct ingest_batch *batch, struct slot *slot) {
    struct span origin = http_header(request->head, "origin");
    const struct protocol_item *item = &batch->decoded.items[0];
    slot->exchange = request->exchange;
    slot->protocol = batch->protocol;
    slot->envelope = (struct protocol_envelope){.endpoint = batch->decoded.envelope.endpoint,
                                                .use = batch->decoded.envelope.use,
                                                .form = batch->decoded.envelope.form};
    slot->key = (struct flags_key){.source = batch->sources[0]->number,
                                   .form = batch->decoded.envelope.form};
    aid_make(f->loop->gateway->aids, batch->sources[0]->space, item->person, &slot->key.aid);
    slot->origin_size = origin.n <= ORIGIN_MAX ? origin.n : 0;
    if (slot->origin_size != 0) {
        memcpy(slot->origin, origin.p, slot->origin_size);
    }
}

/* Inspected as events are; one with a never-span in it is not passed on at all. Findings go to f. */
static bool inspect(struct flags *f, struct inspector *inspector, const struct ingest_batch *batch,
                    uint16_t *ret_count) {
    const struct protocol_decoded *d = &batch->decoded;
    struct inspect_item item = {.root = d->items[0].root, .kind = d->items[0].kind};
    inspect_items(inspector, batch->protocol->ask->item, d->text, d->tokens, d->token_count, &item,
                  1, f->findings, FINDINGS_MAX);
    if (item.error != 0 || d->items[0].json.n > QUESTION_MAX) {
        return false;
    }
    /* NOLINTNEXTLINE(performance-no-int-to-ptr): our own decode buffer or the request's body */
    uint8_t *text = (uint8_t *)(uintptr_t)d->text.p;
    *ret_count = item.finding_count;
    return !inspect_overwrite(text, d->tokens, item.root, f->findings + item.finding_first,
                              item.finding_count);
}

/* Each id of the question, for introduce. An id that does not fit stays unknown, and its question without an answer. */
static void list_people(struct flags *f, const struct ingest_batch *batch, struct slot *slot) {
    const struct protocol_ask *ask = batch->protocol->ask;
    const struct protocol_decoded *d = &batch->decoded;
    struct buf scratch = buf_of(f->last, sizeof f->last);
    struct buf out = buf_of(slot->memory->people, sizeof slot->memory->people);
    struct person_iter it;
    struct person_ref person;
    slot->people_count = 0;
    ask->item->person_begin(&it, d->text, d->tokens, d->items[0].root, EVENT_PROFILE, &scratch);
    while (slot->people_count < PEOPLE_MAX && ask->item->person_next(&it, &person)) {
        struct introduced *one = &slot->people[slot->people_count];
        size_t start = out.n;
        aid_make(f->loop->gateway->aids, batch->sources[0]->space, person.id, &one->aid);
        ask->introduce(&person, &out);
        if (out.full) {
            break;
        }
        one->json = span_of(out.p + start, out.n - start);
        slot->people_count++;
    }
    secret_wipe(f->last, scratch.n);
}

/* The slot's question, with copies of all that the request lends. */
static void write_question(struct flags *f, const struct ingest_batch *batch, uint16_t findings,
                           struct slot *slot) {
    struct span json = batch->decoded.items[0].json;
    struct courier_question *q = &slot->question;
    memcpy(slot->memory->json, json.p, json.n);
    memcpy(slot->memory->findings, f->findings, findings * sizeof *f->findings);
    q->source = slot->key.source;
    q->form = slot->key.form;
    q->deadline_us = os_mono_us() + BUDGET_US;
    q->aid = slot->key.aid;
    q->time_ms = batch->decoded.items[0].time_ms;
    q->findings = slot->memory->findings;
    q->finding_count = findings;
    q->json = span_of(slot->memory->json, json.n);
    struct buf env = buf_of(slot->memory->env, ENV_MAX);
    ingest_env(batch, &env);
    check(!env.full);
    q->env = buf_span(&env);
    q->wake_fd = f->wake_fd;
    q->answer = buf_of(slot->memory->answer, ANSWER_MAX);
    list_people(f, batch, slot);
    slot->again_us = 0;
    slot->again_times = 0;
}

static struct courier *courier_of(const struct loop *loop, const struct ingest_source *source) {
    return atomic_load_explicit(&loop->gateway->flags_of[source->number], memory_order_acquire);
}

bool flags_are_asked(const struct loop *loop, const struct ingest_source *source) {
    return courier_of(loop, source) != NULL;
}

bool flags_ask(struct flags *f, struct inspector *inspector, const struct http_request *request,
               const struct ingest_batch *batch) {
    check(batch->is_question && batch->protocol->ask != NULL);
    struct courier *courier = courier_of(f->loop, batch->sources[0]);
    uint16_t findings = 0;
    if (courier == NULL) {
        return false;
    }
    struct slot *slot = free_slot(f);
    struct slot brief; /* for an answer at once */
    struct slot *used = slot != NULL ? slot : &brief;
    describe(f, request, batch, used);
    if (slot != NULL && inspect(f, inspector, batch, &findings)) {
        write_question(f, batch, findings, slot);
        slot->courier = courier;
        if (courier_ask(courier, f->loop->index, &slot->question)) {
            slot->is_taken = true;
            slot->waits = true;
            f->taken++;
            return true;
        }
        secret_wipe(slot->memory->json, slot->question.json.n);
        secret_wipe(slot->memory->people, sizeof slot->memory->people);
    }
    reply_without(f, used);
    return true;
}
