/*
 * Windows: from the journal through policy to items that may leave.
 *
 *   batch of the journal -> event -> tokens -> policy_apply -> ids -> item + links -> ... -> window_close orders the items by endpoint
 *
 * A window grows until it is full or its first event has waited a second. The same events give the same items again (policy is pure, and what
 * an event's spread depends on lies within its window), so nothing of a window has to be kept through a back-off but its borders.
 *
 *   window: closed, its last request in the air    next: judged meanwhile, in memory that the request was made in
 *           accepted, settled               <------      takes its place
 *           anything else                   ------>      forgotten, read again later
 */
#include <stdlib.h>

#include "base/check.h"
#include "base/hash.h"
#include "flow/deliver/deliver_int.h"
#include "os/clock.h"
#include "os/log.h"

enum {
    ITEMS_MAX_SMALL = WINDOW_BYTES_SMALL + WINDOW_BYTES_SMALL / 4,
    AHEAD_EVENTS = 32, /* looked at before an answer or a cut is noticed: about 0.2 ms */
};

int window_init(struct window *window) {
    window->list = os_memory_map(WINDOW_EVENTS * sizeof *window->list);
    window->order = os_memory_map(WINDOW_EVENTS * sizeof *window->order);
    window->work = os_memory_map(sizeof *window->work);
    window->items = buf_of(os_memory_map(ITEMS_MAX), ITEMS_MAX);
    bool good = window->list != NULL && window->order != NULL && window->work != NULL &&
                window->items.p != NULL;
    return good ? 0 : BH_E_NOMEM;
}

static void unmap(void *p, size_t size) {
    if (p != NULL) {
        os_memory_unmap(p, size);
    }
}

void window_fini(struct window *window) {
    unmap(window->list, WINDOW_EVENTS * sizeof *window->list);
    unmap(window->order, WINDOW_EVENTS * sizeof *window->order);
    unmap(window->work, sizeof *window->work);
    unmap(window->items.p, ITEMS_MAX);
}

struct span window_json(const struct window *window, const struct window_item *item) {
    return span_of(window->items.p + item->json_at, item->json_size);
}

static void set_size(struct window *window, bool is_big) {
    window->bytes_max = is_big ? WINDOW_BYTES : WINDOW_BYTES_SMALL;
    window->items.cap = is_big ? ITEMS_MAX : ITEMS_MAX_SMALL;
}

static void clear(struct courier *courier, struct window *window, uint64_t first_seq) {
    window->first_seq = first_seq;
    window->next_seq = first_seq;
    window->opened_us = 0;
    window->received_us = 0;
    window->bytes = 0;
    window->until_seq = 0;
    window->serial = ++courier->serial;
    window->item_count = 0;
    window->part_count = 0;
    window->link_count = 0;
    window->withheld_events = 0;
    window->final_events = 0;
    window->fingerprint = 0;
    window->closed = false;
    window->items.n = 0;
    window->items.full = false;
    memset(window->withheld_by_reason, 0, sizeof window->withheld_by_reason);
    memset(window->leaves_by_reason, 0, sizeof window->leaves_by_reason);
    window->was_big = false;
    courier->has_permit = courier->has_permit || memory_permit_take();
    set_size(window, courier->has_permit);
}

static void begin(struct courier *courier, struct window *window, uint64_t first_seq) {
    bool goes_on = courier->batch_at < courier->batch.count &&
                   courier->batch.events[courier->batch_at].seq == first_seq;
    if (!goes_on) {
        courier->batch.count = 0;
        courier->batch_at = 0;
    }
    clear(courier, window, first_seq);
}

void window_begin(struct courier *courier, uint64_t first_seq) {
    window_forget_next(courier);
    begin(courier, &courier->window, first_seq);
}

static void release(struct window *window) {
    os_memory_release(window->list, WINDOW_EVENTS * sizeof *window->list);
    os_memory_release(window->work, sizeof *window->work);
    os_memory_release(window->items.p, ITEMS_MAX);
}

void window_release(struct courier *courier) {
    if (courier->has_permit) {
        memory_permit_give();
        courier->has_permit = false;
    }
    window_forget_next(courier);
    release(&courier->window);
    release(&courier->next);
    os_memory_release(courier->body.p, courier->body.cap);
    os_memory_release(courier->spread, SPREAD_SLOTS * sizeof *courier->spread);
}

/* -- one event ---------------------------------------------------------------------------------------------------------------------- */

static uint64_t closed_at(void *context, uint64_t property) {
    struct courier *courier = context;
    return resolve_distinct_closed_at(courier->view, property);
}

/* What is known of an event when it has been judged. */
struct judged {
    struct verdict verdict;
    struct outgoing outgoing;
    struct span name;           /* for the tap */
    struct spread_slot *spread; /* NULL: the event is about nobody */
};

/* Counts events of this person in this request and in the same unit of time, within the window; NULL for events about nobody. */
static struct spread_slot *spread_of(struct courier *courier, const struct window *window,
                                     const struct record_request *request,
                                     const struct record_event *event, uint8_t precision) {
    if (aid_is_zero(&event->aid)) {
        return NULL;
    }
    int64_t unit_ms = (int64_t)time_precision_ms((enum time_precision)precision);
    uint64_t unit = (uint64_t)(event->time_ms / unit_ms);
    uint64_t seed = request->received_us * 0x9e3779b97f4a7c15U + request->source;
    uint64_t key = hash64(event->aid.b, sizeof event->aid.b, seed ^ (unit << 20)) | 1;
    for (size_t at = key % SPREAD_SLOTS;; at = (at + 1) % SPREAD_SLOTS) {
        struct spread_slot *slot = &courier->spread[at];
        if (slot->window != window->serial) {
            *slot = (struct spread_slot){key, window->serial, 0};
        }
        if (slot->key == key) {
            return slot;
        }
    }
}

static void withhold(struct window *window, const struct verdict *verdict, uint8_t reason) {
    uint8_t counted = reason < REASON_LIMIT ? reason : REASON_NONE;
    window->withheld_events++;
    window->withheld_by_reason[counted]++;
    for (unsigned i = 0; i < REASON_LIMIT; i++) {
        window->leaves_by_reason[i] += verdict->withheld_by_reason[i];
    }
}

/* Links of an item to all ids that it names. DENIED: an id has no number, beyond its source's quota. */
static int link_item(struct courier *courier, const struct window *window,
                     const struct record_event *event, const struct verdict *verdict,
                     uint32_t shape, struct window_item *item) {
    item->link_at = (uint16_t)window->link_count;
    item->link_count = 0;
    struct window_link *links = window->work->links + window->link_count;
    if (verdict->aid_count == 0) {
        links[item->link_count++] = (struct window_link){.ord = 0, .shape = shape};
        return 0;
    }
    for (unsigned i = 0; i < verdict->aid_count; i++) {
        struct resolve_row row;
        int r = resolve_lookup_event(courier->view, &verdict->aids[i], event->seq, &row);
        if (r != 0) {
            return r;
        }
        if (row.is_quota_excess) {
            return BH_E_DENIED;
        }
        bool is_new = true;
        for (unsigned k = 0; k < item->link_count; k++) {
            is_new &= links[k].ord != row.ord;
        }
        if (is_new) {
            struct window_link *link = &links[item->link_count++];
            link->ord = row.ord;
            link->shape = shape;
            memcpy(link->lid, row.lid, sizeof link->lid);
        }
    }
    return 0;
}

static uint32_t shape_of(struct courier *courier, uint16_t source, const struct verdict *verdict) {
    struct ledger_pair pairs[VERDICT_DISCLOSED_MAX];
    for (unsigned i = 0; i < verdict->disclosed_count; i++) {
        const struct disclosed *d = &verdict->disclosed[i];
        pairs[i] = (struct ledger_pair){d->class_id, d->form.id, d->form.level};
    }
    return ledger_shape(courier->ledger, source, pairs, verdict->disclosed_count);
}

/* The event's name as its protocol's table finds it; empty for updates, which have none. */
static struct span name_of(const struct courier *courier, const struct record_request *request,
                           const struct record_event *event) {
    const struct protocol_ops *protocol = protocol_by_id(request->protocol);
    const struct json_token *tokens = courier->tokens;
    if (protocol == NULL || tokens[0].kind != JSON_OBJECT) {
        return SPAN_NONE;
    }
    uint8_t place = protocol->root_place((enum event_kind)event->kind);
    for (uint32_t at = 1; at < tokens[0].next; at = tokens[at].next) {
        const struct field *field =
            protocol->field((enum field_place)place, json_span(event->json, &tokens[at]));
        if (field != NULL && field->role == ROLE_EVENT_NAME && tokens[at + 1].kind == JSON_STRING) {
            return json_span(event->json, &tokens[at + 1]);
        }
    }
    return SPAN_NONE;
}

/* Once, however often it is judged; only under other rules once more. */
static bool is_shown(const struct courier *courier, const struct record_event *event) {
    return courier->config.tap != NULL && event->seq >= courier->shown_until;
}

static void show(struct courier *courier, const struct record_request *request,
                 const struct record_event *event, struct span name,
                 const struct verdict *verdict) {
    if (!is_shown(courier, event)) {
        return;
    }
    courier->shown_until = event->seq + 1;
    struct tap_line line = {
        .seq = event->seq,
        .vendor = courier->vendor,
        .source = request->source,
        .kind = event->kind,
        .sends = verdict->sends,
        .reason = verdict->reason,
        .verdict = verdict,
    };
    /* An event leaves only under a declared name. */
    if (verdict->sends) {
        line.event_name = name;
    }
    courier->config.tap(courier->config.tap_context, &line);
}

static void judge(struct courier *courier, struct window *window,
                  const struct record_request *request, const struct record_event *event,
                  struct judged *ret) {
    const struct protocol_ops *protocol = protocol_by_id(request->protocol);
    size_t count = 0;
    size_t offset = 0;
    uint8_t precision = 0;
    if (protocol == NULL || request->source > LIMIT_SOURCES) {
        ret->verdict.reason = REASON_NOT_EXPRESSIBLE;
        return;
    }
    if (resolve_is_repeat(courier->view, event->seq)) {
        ret->verdict.reason = REASON_REPEAT;
        return;
    }
    resolve_prefetch(courier->view, &event->aid); /* read when the verdict is there */
    if (json_parse(event->json, LIMIT_JSON_DEPTH, courier->tokens, LIMIT_EVENT_TOKENS, &count,
                   &offset) != 0) {
        ret->verdict.reason = REASON_TOO_COMPLEX;
        return;
    }
    if (is_shown(courier, event)) {
        ret->name = name_of(courier, request, event);
    }
    struct policy_input input = {
        .protocol = protocol,
        .request = request,
        .event = event,
        .tokens = courier->tokens,
        .token_count = count,
        .space = span_str(courier->rules->space_of[request->source]),
        .distinct_closed_at = closed_at,
        .context = courier,
    };
    input.ruleset_count = rules_in_force(courier->rules, event->seq, &input.rulesets, &precision);
    ret->spread = spread_of(courier, window, request, event, precision);
    input.spread_ms = ret->spread != NULL ? ret->spread->count : 0;
    window->items.full = false;
    policy_apply(courier->policy, &input, &window->items, &ret->verdict, NULL, NULL);
    courier_outgoing(courier, window, &input, &ret->verdict, &ret->outgoing);
}

static void keep(struct window *window, struct window_item *item, struct span json,
                 uint32_t withheld) {
    uint64_t mark[2] = {item->seq, item->endpoint};
    item->json_at = (uint32_t)(json.p - window->items.p);
    item->json_size = (uint32_t)json.n;
    item->withheld = withheld;
    window->link_count += item->link_count;
    window->item_count++;
    window->part_count += item->parts;
    window->fingerprint = hash64(mark, sizeof mark, window->fingerprint);
}

/* 0, or why the event cannot be in this window: FULL, BUSY. TOO_BIG: in none. */
static int make_room(struct courier *courier, const struct window *window,
                     const struct outgoing *outgoing, size_t *ret_encoded) {
    const struct protocol_ops *ops = courier->rules->ops;
    size_t encoded = 0;
    uint32_t parts = 0;
    for (unsigned i = 0; i < outgoing->count; i++) {
        const struct outgoing_part *part = &outgoing->list[i];
        size_t one = ops->encoded_size(part->endpoint, part->json.n, courier->credential.n);
        /* A part more is a comma and a token more. */
        one += (part->parts - 1U) * ops->encoded_size(part->endpoint, 0, courier->credential.n);
        if (one > ops->body_max) {
            return BH_E_TOO_BIG;
        }
        encoded += one;
        parts += part->parts;
    }
    *ret_encoded = encoded;
    /* What the vendor would refuse whole is never put together: a refused request was received as well. */
    size_t room = window->bytes_max < ops->body_max ? window->bytes_max : ops->body_max;
    uint32_t items_max = ops->items_max < WINDOW_EVENTS ? ops->items_max : WINDOW_EVENTS;
    bool is_full = window->bytes + encoded > room || window->part_count + parts > items_max ||
                   window->link_count + outgoing->count * VERDICT_AIDS_MAX > WINDOW_LINKS;
    if (is_full && window->item_count != 0) {
        return BH_E_FULL;
    }
    return encoded > window->bytes_max && !courier->has_permit ? BH_E_BUSY : 0;
}

/* Each item of an event that has had no final answer before a restart. EXISTS: all had. */
static int take_items(struct courier *courier, struct window *window,
                      const struct record_event *event, const struct judged *judged,
                      uint32_t shape) {
    uint32_t withheld = judged->verdict.withheld_leaves;
    uint32_t taken = 0;
    for (unsigned i = 0; i < judged->outgoing.count; i++) {
        const struct outgoing_part *part = &judged->outgoing.list[i];
        if (window->skip_final &&
            ledger_seq_is_final(courier->ledger, event->seq, part->endpoint)) {
            window->final_events++;
            continue;
        }
        struct window_item *item = &window->list[window->item_count];
        *item = (struct window_item){
            .seq = event->seq, .endpoint = part->endpoint & 15U, .parts = part->parts & 15U};
        int r = link_item(courier, window, event, &judged->verdict, shape, item);
        if (r != 0) {
            return r;
        }
        keep(window, item, part->json, withheld);
        withheld = 0; /* counted once */
        taken++;
    }
    return taken != 0 ? 0 : BH_E_EXISTS;
}

/* Takes an event that may leave; EXISTS: it had its final answer before a restart. Others as of add_event. May withhold it after all. */
static int take(struct courier *courier, struct window *window,
                const struct record_request *request, const struct record_event *event,
                struct judged *judged) {
    const uint32_t items = window->item_count;
    const uint32_t parts = window->part_count;
    const uint32_t links = window->link_count;
    const uint32_t finals = window->final_events;
    const uint64_t fingerprint = window->fingerprint;
    size_t encoded = 0;
    int r = make_room(courier, window, &judged->outgoing, &encoded);
    uint32_t shape = r == 0 ? shape_of(courier, request->source, &judged->verdict) : 0;
    if (r == 0) {
        r = shape != 0 ? take_items(courier, window, event, judged, shape) : BH_E_NOSPACE;
    }
    if (r == BH_E_DENIED || r == BH_E_TOO_BIG) {
        judged->verdict.sends = false;
        judged->verdict.reason = r == BH_E_DENIED ? REASON_QUOTA : REASON_TOO_BIG;
    }
    if (r == 0) {
        window->bytes += encoded;
        for (unsigned i = 0; i < REASON_LIMIT; i++) {
            window->leaves_by_reason[i] += judged->verdict.withheld_by_reason[i];
        }
        return 0;
    }
    /* Nothing of an event that cannot be taken whole. */
    window->item_count = items;
    window->part_count = parts;
    window->link_count = links;
    window->fingerprint = fingerprint;
    window->final_events = r == BH_E_EXISTS ? window->final_events : finals;
    return judged->verdict.sends ? r : 0;
}

/* 0 = looked at; FULL = belongs to the next window; BUSY = needs the big buffers; NOSPACE and others = try again later. */
static int add_event(struct courier *courier, struct window *window,
                     const struct record_request *request, const struct record_event *event) {
    struct judged judged;
    const struct verdict *verdict = &judged.verdict;
    size_t before = window->items.n;
    judged.verdict.sends = false;
    judged.verdict.withheld_leaves = 0;
    memset(judged.verdict.withheld_by_reason, 0, sizeof judged.verdict.withheld_by_reason);
    judged.outgoing.count = 0;
    judged.name = SPAN_NONE;
    judged.spread = NULL;
    judge(courier, window, request, event, &judged);
    bool lacks_room = !verdict->sends && verdict->reason == REASON_TOO_BIG;
    int r = 0;
    if (verdict->sends) {
        r = take(courier, window, request, event, &judged);
    } else if (lacks_room && window->item_count != 0) {
        r = BH_E_FULL;
    } else if (lacks_room && !courier->has_permit) {
        r = BH_E_BUSY;
    }
    if (r != 0 || !verdict->sends) {
        window->items.n = before;
    }
    if (r == 0 && !verdict->sends) {
        withhold(window, verdict, verdict->reason);
    }
    if (r == BH_E_EXISTS) {
        r = 0;
    } else if (r == 0) {
        show(courier, request, event, judged.name, verdict);
    }
    if (r == 0 && judged.spread != NULL) {
        judged.spread->count++;
    }
    return r;
}

/* -- many events ----------------------------------------------------------------------------------------------------------------------- */

static int skip_gap(struct courier *courier, struct window *window, uint64_t gap_until) {
    uint64_t from = window->next_seq;
    uint64_t recorded = ledger_settled_seq(courier->ledger);
    if (window->item_count != 0 || window->withheld_events != 0) {
        window_close(courier, window);
        return 0;
    }
    if (window == &courier->next) {
        return BH_E_AGAIN; /* a gap is not recorded before the window before it is settled */
    }
    from = recorded > from ? recorded : from;
    if (gap_until > from) {
        /* The keeper records a gap before it makes one; this is for what it could not know of. */
        log_event(LOG_ERROR, "events are missing from the journal",
                  LOG_WORD("vendor", courier->vendor), LOG_INT("from_seq", from),
                  LOG_INT("until_seq", gap_until));
        struct ledger_reason_count reason = {REASON_GAP, gap_until - from};
        int r =
            ledger_passed(courier->ledger, from, gap_until - from, &reason, 1, "bulkhead", true);
        if (r != 0) {
            return r;
        }
    }
    clear(courier, window, gap_until > from ? gap_until : from);
    journal_reader_seek(courier->reader, window->first_seq);
    return 0;
}

static int next_batch(struct courier *courier, struct window *window) {
    uint64_t gap_until = 0;
    courier->batch.count = 0;
    courier->batch_at = 0;
    if (journal_reader_seq(courier->reader) != window->next_seq) {
        journal_reader_seek(courier->reader, window->next_seq);
    }
    int r = journal_reader_next(courier->reader, &courier->batch, &gap_until);
    if (r == BH_E_NOTFOUND) {
        return skip_gap(courier, window, gap_until);
    }
    if (r != 0) {
        courier->batch.count = 0;
    }
    return r;
}

static bool is_full(const struct courier *courier, const struct window *window) {
    return window->next_seq - window->first_seq >= courier->window_max ||
           (window->until_seq != 0 && window->next_seq >= window->until_seq);
}

static int fill(struct courier *courier, struct window *window, uint64_t resolved,
                uint32_t at_most) {
    uint32_t looked_at = 0;
    while (!window->closed && looked_at < at_most) {
        if (is_full(courier, window)) {
            window_close(courier, window);
            break;
        }
        if (courier->batch_at == courier->batch.count) {
            int r = next_batch(courier, window);
            if (r != 0) {
                return r;
            }
            continue;
        }
        const struct record_event *event = &courier->batch.events[courier->batch_at];
        const struct record_request *request =
            &courier->batch.requests[courier->batch.request_of[courier->batch_at]];
        check(event->seq == window->next_seq);
        if (event->seq > resolved) {
            return BH_E_AGAIN;
        }
        int r = add_event(courier, window, request, event);
        if (r == BH_E_FULL) {
            window_close(courier, window);
            break;
        }
        if (r != 0) {
            return r;
        }
        if (window->opened_us == 0) {
            window->opened_us = os_mono_us();
            window->received_us = request->received_us;
        }
        window->next_seq++;
        courier->batch_at++;
        looked_at++;
    }
    return 0;
}

int window_fill(struct courier *courier, struct window *window, uint32_t at_most) {
    if (!courier->has_permit && window->item_count == 0 && memory_permit_take()) {
        courier->has_permit = true;
        set_size(window, true);
    }
    /* Rows up to this seq were durable before, so the view sees them. */
    uint64_t resolved = resolver_seq(courier->config.resolver);
    int r = resolve_view_begin(courier->view);
    if (r != 0) {
        return r;
    }
    r = fill(courier, window, resolved, at_most);
    resolve_view_end(courier->view);
    return r;
}

/* Items by endpoint, the order of their seqs kept within each. */
void window_close(struct courier *courier, struct window *window) {
    uint32_t at[PROTOCOL_ENDPOINTS_MAX + 1] = {0};
    memset(window->endpoint_items, 0, sizeof window->endpoint_items);
    for (uint32_t i = 0; i < window->item_count; i++) {
        check(window->list[i].endpoint <= PROTOCOL_ENDPOINTS_MAX);
        window->endpoint_items[window->list[i].endpoint]++;
    }
    for (unsigned e = 1; e <= PROTOCOL_ENDPOINTS_MAX; e++) {
        at[e] = at[e - 1] + window->endpoint_items[e - 1];
    }
    for (uint32_t i = 0; i < window->item_count; i++) {
        window->order[at[window->list[i].endpoint]++] = (uint16_t)i;
    }
    window->closed = true;
    window->was_big = courier->has_permit;
}

int window_rebuild(struct courier *courier) {
    struct window *window = &courier->window;
    uint64_t until = window->until_seq != 0 ? window->until_seq : window->next_seq;
    bool was_big = window->was_big;
    window_begin(courier, window->first_seq);
    window->until_seq = until;
    window->was_big = was_big;
    if (was_big && !courier->has_permit) {
        return BH_E_BUSY; /* in smaller buffers it would be another window */
    }
    return window_fill(courier, window, UINT32_MAX);
}

/* -- the next window -------------------------------------------------------------------------------------------------------------------- */

bool window_look_ahead(struct courier *courier) {
    struct window *next = &courier->next;
    if (next->first_seq == 0) {
        begin(courier, next, courier->window.next_seq);
    }
    return !next->closed && window_fill(courier, next, AHEAD_EVENTS) == 0;
}

void window_forget_next(struct courier *courier) {
    courier->next.first_seq = 0;
}

void window_advance(struct courier *courier) {
    struct window done = courier->window;
    uint64_t recorded = ledger_settled_seq(courier->ledger);
    if (recorded > done.next_seq) {
        window_begin(courier, recorded); /* lapsed in the meantime: does not leave any more */
    } else if (courier->next.first_seq == 0) {
        window_begin(courier, done.next_seq);
    } else {
        courier->window = courier->next;
        courier->next = done;
        window_forget_next(courier);
    }
}
