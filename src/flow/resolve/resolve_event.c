/*
 * One event: its ids get their rows, and what it says about them becomes edges.
 *
 * Most events cost one look at the hot table: their primary id is known and they name no other. An
 * event is parsed only when
 *   its primary id has no row yet (the row keeps the id's text, sealed),
 *   it names more than one id (EVENT_HAS_LINKS, or an identity event) and the memo does not know
 *   that nothing is left to do of these (resolve_memo.c),
 *   it may show for the first time that an id is a user's, or
 *   the plan counts the distinct values of some property.
 */
#include <stdio.h>

#include "base/check.h"
#include "flow/resolve/resolve_int.h"
#include "os/log.h"

#define HOUR_US ((uint64_t)3600 * 1000 * 1000)

/* What is the same for all of an event's steps. */
struct work {
    struct resolver *resolver;
    MDB_txn *txn;
    const struct record_request *request;
    const struct record_event *event;
    const struct protocol_ops *protocol; /* NULL: one that this version does not know */
    const struct source_entry *source;
    size_t token_count; /* 0 = the JSON was not, or could not be, parsed */
};

/*
 * A source that left the configuration: its events are still resolved, with the rights of a
 * browser.
 */
static const struct source_entry *source_of(const struct resolver *resolver, uint16_t number) {
    static const struct source_entry unknown;
    for (size_t i = 0; i < resolver->sources->count; i++) {
        if (resolver->sources->entries[i].number == number) {
            return &resolver->sources->entries[i];
        }
    }
    return &unknown;
}

/* -- rows -------------------------------------------------------------------------------------- */

static int find_row(struct resolver *resolver, MDB_txn *txn, const struct aid *aid,
                    struct alias_row *ret_row) {
    if (hot_find(resolver->hot, aid, ret_row)) {
        return 0;
    }
    atomic_fetch_add_explicit(&resolver->stat_misses, 1, memory_order_relaxed);
    int r = store_get_row(&resolver->store, txn, aid, ret_row);
    if (r == 0) {
        hot_put(resolver->hot, aid, ret_row);
    }
    return r;
}

/* Sets a flag; the row is read from the table again, since the hot one does not hold all of it. */
static int set_flag(const struct work *work, const struct aid *aid, struct alias_row *row,
                    uint16_t flag) {
    if ((row->flags & flag) != 0) {
        return 0;
    }
    int r = store_get_row(&work->resolver->store, work->txn, aid, row);
    if (r != 0) {
        return r == BH_E_NOTFOUND ? BH_E_CORRUPT : r;
    }
    row->flags = (uint16_t)(row->flags | flag);
    if (flag == ROW_SEEN_AS_USER) {
        row->user_since = work->event->seq;
        if (row->first_seq != work->event->seq) {
            memo_turn(work->resolver->memo, aid);
        }
    }
    work->resolver->is_dirty = true;
    hot_put(work->resolver->hot, aid, row);
    return store_put_row(&work->resolver->store, work->txn, aid, row);
}

static void quota_name(uint16_t source, char out[16]) {
    (void)snprintf(out, 16, "q:%u", (unsigned)source);
}

/*
 * The source's count of new people in the hour of this request; time never goes back to an earlier
 * hour.
 */
static int quota_of(const struct work *work, struct quota **ret_quota) {
    uint16_t number = work->request->source;
    struct quota *quota = &work->resolver->quotas[number];
    if (!quota->is_loaded) {
        char name[16];
        quota_name(number, name);
        uint64_t values[2] = {0, 0};
        int r = store_get_meta(&work->resolver->store, work->txn, name, values);
        if (r != 0 && r != BH_E_NOTFOUND) {
            return r;
        }
        *quota = (struct quota){.hour = values[0], .count = values[1], .is_loaded = true};
    }
    uint64_t hour = work->request->received_us / HOUR_US;
    if (hour > quota->hour) {
        quota->hour = hour;
        quota->count = 0;
        quota->was_said = false;
    }
    *ret_quota = quota;
    return 0;
}

static int spend_quota(const struct work *work, struct quota *quota) {
    quota->count++;
    char name[16];
    quota_name(work->request->source, name);
    const uint64_t values[2] = {quota->hour, quota->count};
    return store_put_meta(&work->resolver->store, work->txn, name, values);
}

int resolve_flush_slots(struct resolver *resolver) {
    uint32_t count = resolver->next_ord - resolver->batch_first_ord;
    if (count == 0) {
        return 0;
    }
    int r = slots_write(&resolver->slots, resolver->batch_first_ord, resolver->batch_slots, count);
    if (r == 0) {
        secret_wipe(resolver->batch_slots, (size_t)count * SLOT_SIZE);
        resolver->batch_first_ord = resolver->next_ord;
    }
    return r;
}

/* A slot for the next ord; written to the file before the commit that publishes the ord. */
static int new_slot(struct resolver *resolver, uint8_t **ret_slot) {
    if (resolver->next_ord - resolver->batch_first_ord == BATCH_ROWS_MAX) {
        int r = resolve_flush_slots(resolver);
        if (r != 0) {
            return r;
        }
    }
    uint32_t index = resolver->next_ord - resolver->batch_first_ord;
    *ret_slot = resolver->batch_slots + (size_t)index * SLOT_SIZE;
    os_random(*ret_slot, SLOT_SIZE);
    return 0;
}

static int keep_text(const struct work *work, uint32_t ord, const uint8_t *slot, struct span id) {
    if (id.n == 0 || id.n > ID_TEXT_MAX) {
        return 0;
    }
    uint8_t sealed[ID_TEXT_MAX + GCM_TAG_SIZE];
    int r = slot_seal(&work->resolver->slots, ord, slot, id, sealed);
    if (r != 0) {
        return r;
    }
    return store_put_text(&work->resolver->store, work->txn, ord,
                          span_of(sealed, id.n + GCM_TAG_SIZE));
}

static void say_quota(const struct work *work, struct quota *quota) {
    if (!quota->was_said) {
        quota->was_said = true;
        log_event(LOG_WARN, "resolve: a source has more new people in this hour than its quota",
                  LOG_INT("source", work->request->source));
    }
}

/* A new row, or ord 0 when the source has had its share of new people. */
static int make_row(const struct work *work, const struct aid *aid, struct span id,
                    struct alias_row *ret_row) {
    struct resolver *resolver = work->resolver;
    *ret_row = (struct alias_row){0};
    struct quota *quota = NULL;
    if (work->source->new_people_per_hour != 0) {
        int r = quota_of(work, &quota);
        if (r != 0) {
            return r;
        }
        if (quota->count >= work->source->new_people_per_hour) {
            say_quota(work, quota);
            return 0;
        }
    }
    check(resolver->next_ord != UINT32_MAX);
    uint8_t *slot = NULL;
    int r = new_slot(resolver, &slot);
    if (r != 0) {
        return r;
    }
    uint32_t ord = resolver->next_ord++;
    *ret_row = (struct alias_row){
        .ord = ord, .source = work->request->source, .first_seq = work->event->seq};
    os_random(ret_row->lid, sizeof(ret_row->lid));
    os_random(ret_row->r, sizeof(ret_row->r));
    resolver->is_dirty = true;
    r = keep_text(work, ord, slot, id);
    if (r == 0) {
        r = store_put_row(&resolver->store, work->txn, aid, ret_row);
    }
    if (r == 0) {
        r = store_put_ord(&resolver->store, work->txn, ord, aid);
    }
    if (r == 0 && quota != NULL) {
        r = spend_quota(work, quota);
    }
    if (r == 0) {
        hot_put(resolver->hot, aid, ret_row);
    }
    return r;
}

static int find_or_make_row(const struct work *work, const struct aid *aid, struct span id,
                            struct alias_row *ret_row) {
    int r = find_row(work->resolver, work->txn, aid, ret_row);
    return r == BH_E_NOTFOUND ? make_row(work, aid, id, ret_row) : r;
}

/* -- ids and links ----------------------------------------------------------------------------- */

/*
 * An ordinary event may have a property of its own that is called alias: read as a claim, one
 * common value of it would make everybody one person. It means that only where the SDK says so.
 */
static bool names_person(uint8_t event_kind, uint8_t person_kind) {
    switch (person_kind) {
    case PERSON_ECHO:
        return false;
    case PERSON_ALIAS:
        return event_kind == EVENT_ALIAS;
    case PERSON_MERGED:
        return event_kind == EVENT_MERGE;
    default:
        return true;
    }
}

static size_t collect_refs(const struct work *work, struct buf *scratch, struct link_ref *refs) {
    struct person_iter it;
    struct person_ref person;
    size_t count = 0;
    work->protocol->person_begin(&it, work->event->json, work->resolver->tokens, 0,
                                 (enum event_kind)work->event->kind, scratch);
    while (count < EVENT_REFS_MAX && work->protocol->person_next(&it, &person)) {
        if (!names_person(work->event->kind, person.kind)) {
            continue;
        }
        struct link_ref *ref = &refs[count++];
        *ref =
            (struct link_ref){.kind = person.kind, .is_device = person.is_device, .id = person.id};
        aid_make(work->resolver->aids, span_str(work->source->space), person.id, &ref->aid);
        hot_prefetch(work->resolver->hot, &ref->aid);
    }
    return count;
}

static struct known_edge *place_of(const struct resolver *resolver, const struct known_edge *edge) {
    uint64_t mixed = ((uint64_t)edge->a << 32 | edge->b) * 0x9e3779b97f4a7c15U;
    mixed ^= ((uint64_t)edge->source << 16 | edge->how) * 0xc2b2ae3d27d4eb4fU;
    return &resolver->known_edges[(mixed >> 40) & (KNOWN_EDGES - 1)];
}

/* A device joins the first user seen with it; with a second one the edge is kept as a claim. */
static int join_device(const struct work *work, const struct aid *device_aid,
                       struct resolve_edge *edge, bool *ret_is_joined) {
    struct resolver *resolver = work->resolver;
    struct alias_row device;
    int r = find_row(resolver, work->txn, device_aid, &device);
    if (r != 0) {
        return r == BH_E_NOTFOUND ? BH_E_CORRUPT : r;
    }
    edge->binds = (device.flags & ROW_HAS_JOINED) == 0;
    *ret_is_joined = false;
    if (edge->binds) {
        return set_flag(work, device_aid, &device, ROW_HAS_JOINED);
    }
    return store_are_joined(&resolver->store, work->txn, edge->a, edge->b, ret_is_joined);
}

/*
 * Whether an id is of the kind that SDKs draw for a device: 32 hexadecimal digits or more, dashes
 * between. Accounts are numbered or named: whoever holds a page's token could say of those to come
 * that they are devices of one user.
 */
static bool is_drawn(struct span id) {
    enum { DRAWN_DIGITS = 32 };
    unsigned digits = 0;
    for (size_t i = 0; i < id.n; i++) {
        uint8_t lower = id.p[i] | 0x20;
        bool is_hex = (id.p[i] >= '0' && id.p[i] <= '9') || (lower >= 'a' && lower <= 'f');
        if (!is_hex && id.p[i] != '-') {
            return false;
        }
        digits += is_hex;
    }
    return digits >= DRAWN_DIGITS;
}

static int keep_link(const struct work *work, const struct link_ref *refs,
                     const struct link *link) {
    struct resolver *resolver = work->resolver;
    struct resolve_edge edge = {.a = refs[link->a].ord,
                                .b = refs[link->b].ord,
                                .rule = link->rule,
                                .binds = work->source->trust_server,
                                .source = work->request->source,
                                .seq = work->event->seq};
    bool is_device_rule =
        link->is_device_rule && (work->source->trust_server || is_drawn(refs[link->a].id));
    uint16_t how = (uint16_t)(link->rule | (is_device_rule ? 0x100 : 0) | (edge.binds ? 0x200 : 0));
    const struct known_edge this_one = {edge.a, edge.b, edge.source, how};
    struct known_edge *known = place_of(resolver, &this_one);
    if (memcmp(known, &this_one, sizeof(this_one)) == 0) {
        return 0;
    }
    bool is_joined = false;
    int r = 0;
    if (is_device_rule) {
        r = join_device(work, &refs[link->a].aid, &edge, &is_joined);
    }
    bool is_new = false;
    if (r == 0 && !is_joined) {
        r = store_put_edge(&resolver->store, work->txn, &edge, &is_new);
    }
    if (r == 0 && is_new) {
        resolver->is_dirty = true;
        atomic_fetch_add_explicit(&resolver->stat_edges, 1, memory_order_relaxed);
    }
    if (r == 0) {
        *known = this_one;
    }
    return r;
}

/*
 * Ord and standing of an id as of this event: an event that is read again after a crash sees what
 * it saw the first time, not what later ones showed.
 */
static int stand_of(const struct work *work, struct link_ref *ref, struct alias_row *ret_row) {
    int r = find_or_make_row(work, &ref->aid, ref->id, ret_row);
    if (r != 0 || ret_row->ord == 0 || ret_row->first_seq > work->event->seq) {
        return r;
    }
    ref->ord = ret_row->ord;
    if (link_ref_shows_user(ref)) {
        ref->is_user = true;
        return set_flag(work, &ref->aid, ret_row, ROW_SEEN_AS_USER);
    }
    if ((ret_row->flags & ROW_SEEN_AS_USER) != 0) {
        r = store_get_row(&work->resolver->store, work->txn, &ref->aid, ret_row);
        ref->is_user = r == 0 && ret_row->user_since <= work->event->seq;
    }
    return r;
}

/* The memo's key of an event, or 0: it has none, or another process wrote it. */
static uint64_t key_of(const struct work *work) {
    bool is_ours = work->event->ids != 0 && work->event->seq >= work->resolver->memo_from;
    return is_ours ? memo_key(work->event->ids, work->request->source) : 0;
}

/* Rows and links of these are all there: the invariants of resolve_memo.c, one by one. */
static void remember(const struct work *work, const struct link_ref *refs, size_t count) {
    const struct aid *open = NULL;
    uint64_t key = key_of(work);
    for (size_t i = 0; i < count; i++) {
        bool is_other = open != NULL && memcmp(open->b, refs[i].aid.b, sizeof(open->b)) != 0;
        if (refs[i].ord == 0 || (!refs[i].is_user && is_other)) {
            return; /* M2, M5 */
        }
        open = refs[i].is_user ? open : &refs[i].aid;
    }
    if (key != 0) {
        memo_put(work->resolver->memo, key, open);
    }
}

/* Rows for all ids that the event names, then its links. */
static int resolve_refs(const struct work *work, struct alias_row *primary,
                        bool *ret_found_primary) {
    struct buf scratch = buf_of(work->resolver->scratch, SCRATCH_SIZE);
    struct link_ref refs[EVENT_REFS_MAX];
    size_t count = collect_refs(work, &scratch, refs);
    bool has_all = count < EVENT_REFS_MAX && !scratch.full;
    for (size_t i = 0; i < count; i++) {
        struct alias_row row;
        int r = stand_of(work, &refs[i], &row);
        if (r != 0) {
            return r;
        }
        if (memcmp(refs[i].aid.b, work->event->aid.b, sizeof(refs[i].aid.b)) == 0) {
            *primary = row;
            *ret_found_primary = true;
        }
    }
    /* An id may stand in two places of one event, as a user's in the second only. */
    for (size_t i = 0; i < count; i++) {
        for (size_t k = 0; k < count; k++) {
            refs[i].is_user = refs[i].is_user || (refs[k].is_user && refs[k].ord == refs[i].ord);
        }
    }
    struct link links[EVENT_REFS_MAX];
    size_t n = links_of(work->event->kind, refs, count, links);
    for (size_t i = 0; i < n; i++) {
        int r = keep_link(work, refs, &links[i]);
        if (r != 0) {
            return r;
        }
    }
    if (has_all) {
        remember(work, refs, count);
    }
    return 0;
}

/* -- the event --------------------------------------------------------------------------------- */

static bool names_more_ids(const struct record_event *event) {
    return (event->flags & EVENT_HAS_LINKS) != 0 || event->kind == EVENT_IDENTIFY ||
           event->kind == EVENT_ALIAS || event->kind == EVENT_MERGE;
}

static bool is_settled(const struct work *work) {
    uint64_t key = key_of(work);
    if (key == 0 || !memo_has(work->resolver->memo, key)) {
        return false;
    }
    work->resolver->memo_hits++;
    return true;
}

/*
 * A known id that no event has shown as a user's: does this one? Only an id without the device
 * prefix can.
 */
static bool may_show_user(const struct work *work, const struct alias_row *row) {
    if ((row->flags & ROW_SEEN_AS_USER) != 0 || work->protocol == NULL) {
        return false;
    }
    const char *prefix = work->protocol->names.device_prefix;
    return prefix == NULL || span_find(work->event->json, span_str(prefix)) == SIZE_MAX;
}

static void parse(struct work *work) {
    size_t count = 0;
    size_t offset = 0;
    int r = json_parse(work->event->json, LIMIT_JSON_DEPTH, work->resolver->tokens,
                       LIMIT_EVENT_TOKENS, &count, &offset);
    work->token_count = r == 0 ? count : 0;
}

static int count_distinct(const struct work *work) {
    struct resolver *resolver = work->resolver;
    return distinct_see(&resolver->store, work->txn, resolver->distinct_key, resolver->distinct,
                        work->protocol, work->event->kind, work->event->json, resolver->tokens,
                        work->event->seq, &resolver->is_dirty);
}

/* What repeats an event that counted is noted: couriers pass it. Its ids and values are the same. */
static int see_repeat(struct resolver *resolver, MDB_txn *txn, const struct record_request *request,
                      const struct record_event *event) {
    if (!repeats_see(resolver->repeats, event->seq, request->received_us, event->dedupe,
                     event->content)) {
        return 0;
    }
    resolver->is_dirty = true;
    atomic_fetch_add_explicit(&resolver->stat_repeats, 1, memory_order_relaxed);
    return store_put_repeat(&resolver->store, txn, event->seq);
}

int resolve_event(struct resolver *resolver, MDB_txn *txn, const struct record_request *request,
                  const struct record_event *event) {
    struct work work = {.resolver = resolver,
                        .txn = txn,
                        .request = request,
                        .event = event,
                        .protocol = protocol_by_id(request->protocol),
                        .source = source_of(resolver, request->source)};
    struct alias_row row = {0};
    if (event->content != 0) {
        int seen = see_repeat(resolver, txn, request, event);
        if (seen != 0) {
            return seen;
        }
    }
    bool has_aid = !aid_is_zero(&event->aid);
    int r = has_aid ? find_row(resolver, txn, &event->aid, &row) : 0;
    if (r != 0 && r != BH_E_NOTFOUND) {
        return r;
    }
    bool is_known = r == 0;
    bool counts = atomic_load_explicit(&resolver->distinct->count, memory_order_relaxed) != 0;
    bool reads_ids = !is_known || (names_more_ids(event) ? !is_settled(&work)
                                                         : has_aid && may_show_user(&work, &row));
    if (work.protocol != NULL && (reads_ids || counts)) {
        parse(&work);
    }
    bool found_primary = is_known;
    if (work.token_count != 0 && reads_ids) {
        r = resolve_refs(&work, &row, &found_primary);
        if (r != 0) {
            return r;
        }
    }
    if (has_aid && !found_primary) {
        /* What ingest read as its id is not among what is read now: the row has no text. */
        r = make_row(&work, &event->aid, SPAN_NONE, &row);
        if (r != 0) {
            return r;
        }
    }
    if (has_aid && row.ord == 0) {
        atomic_fetch_add_explicit(&resolver->stat_quota, 1, memory_order_relaxed);
    }
    return work.token_count != 0 && counts ? count_distinct(&work) : 0;
}
