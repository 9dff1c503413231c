/* Views: what couriers and answers ask of the tables, each from a snapshot of its own. */
#include <stdlib.h>

#include "base/check.h"
#include "flow/resolve/resolve_int.h"

struct resolve_view {
    struct resolver *resolver;
    MDB_txn *txn;
    bool is_begun;
    MDB_cursor *repeats;  /* made once: a cursor takes memory */
    uint64_t repeat_from; /* no repeat at or after this seq is before the next */
    uint64_t repeat_next;
};

int resolve_view_new(struct resolver *resolver, struct resolve_view **ret_view) {
    struct resolve_view *view = (struct resolve_view *)calloc(1, sizeof(*view));
    if (view == NULL) {
        return BH_E_NOMEM;
    }
    view->resolver = resolver;
    *ret_view = view;
    return 0;
}

void resolve_view_free(struct resolve_view *view) {
    if (view != NULL) {
        if (view->repeats != NULL) {
            mdb_cursor_close(view->repeats);
        }
        if (view->txn != NULL) {
            mdb_txn_abort(view->txn);
        }
        free(view);
    }
}

int resolve_view_begin(struct resolve_view *view) {
    check(!view->is_begun);
    int r = view->txn == NULL
                ? mdb_txn_begin(view->resolver->store.env, NULL, MDB_RDONLY, &view->txn)
                : mdb_txn_renew(view->txn);
    if (r == 0 && view->resolver->store.has_repeats) {
        r = view->repeats == NULL
                ? mdb_cursor_open(view->txn, view->resolver->store.repeat, &view->repeats)
                : mdb_cursor_renew(view->txn, view->repeats);
        if (r != 0) {
            mdb_txn_reset(view->txn);
        }
    }
    view->repeat_from = UINT64_MAX;
    view->repeat_next = UINT64_MAX;
    view->is_begun = r == 0;
    return store_code(r);
}

void resolve_view_end(struct resolve_view *view) {
    check(view->is_begun);
    mdb_txn_reset(view->txn);
    view->is_begun = false;
}

/* -- rows -------------------------------------------------------------------------------------- */

static void row_to_public(const struct alias_row *row, struct resolve_row *ret_row) {
    ret_row->ord = row->ord;
    memcpy(ret_row->lid, row->lid, sizeof(ret_row->lid));
    memcpy(ret_row->r, row->r, sizeof(ret_row->r));
    ret_row->first_seq = row->first_seq;
    ret_row->source = row->source;
    ret_row->is_quota_excess = 0;
}

void resolve_prefetch(const struct resolve_view *view, const struct aid *aid) {
    if (view->resolver->hot != NULL) {
        hot_prefetch(view->resolver->hot, aid);
    }
}

int resolve_lookup(struct resolve_view *view, const struct aid *aid, struct resolve_row *ret_row) {
    check(view->is_begun);
    struct resolver *resolver = view->resolver;
    if (aid_is_zero(aid)) {
        return BH_E_NOTFOUND;
    }
    struct alias_row row;
    /*
     * A row that is not durable yet may not be known to anyone: after a crash its number is
     * another's.
     */
    if (resolver->hot != NULL && hot_find(resolver->hot, aid, &row) &&
        row.ord <= atomic_load_explicit(&resolver->last_ord, memory_order_acquire)) {
        row_to_public(&row, ret_row);
        return 0;
    }
    int r = store_get_row(&resolver->store, view->txn, aid, &row);
    if (r == 0) {
        row_to_public(&row, ret_row);
    }
    return r;
}

int resolve_lookup_event(struct resolve_view *view, const struct aid *aid, uint64_t seq,
                         struct resolve_row *ret_row) {
    int r = resolve_lookup(view, aid, ret_row);
    if (r == BH_E_NOTFOUND || (r == 0 && ret_row->first_seq > seq)) {
        *ret_row = (struct resolve_row){.is_quota_excess = 1};
        return 0;
    }
    return r;
}

bool resolve_is_repeat(struct resolve_view *view, uint64_t seq) {
    check(view->is_begun);
    if (view->repeats == NULL) {
        return false;
    }
    if (seq < view->repeat_from || seq > view->repeat_next) {
        int r = store_next_repeat(view->repeats, seq, &view->repeat_next);
        check(r == 0); /* as the resolver: whose tables cannot be read sends nothing */
        view->repeat_from = seq;
    }
    return seq == view->repeat_next;
}

int resolve_by_ord(struct resolve_view *view, uint32_t ord, struct resolve_row *ret_row,
                   struct aid *ret_aid) {
    check(view->is_begun);
    const struct store *store = &view->resolver->store;
    struct alias_row row;
    struct aid aid;
    int r = store_get_ord(store, view->txn, ord, &aid);
    if (r == 0) {
        r = store_get_row(store, view->txn, &aid, &row);
    }
    if (r == 0) {
        row_to_public(&row, ret_row);
        *ret_aid = aid;
    }
    return r;
}

uint32_t resolve_ord_count(struct resolve_view *view) {
    check(view->is_begun);
    uint32_t last = 0;
    return store_last_ord(&view->resolver->store, view->txn, &last) == 0 ? last : 0;
}

int resolve_id_text(struct resolve_view *view, uint32_t ord, struct buf *out) {
    check(view->is_begun);
    struct span sealed;
    int r = store_get_text(&view->resolver->store, view->txn, ord, &sealed);
    if (r != 0) {
        return r;
    }
    uint8_t slot[SLOT_SIZE];
    r = slots_read(&view->resolver->slots, ord, slot);
    if (r == 0 &&
        (sealed.n < GCM_TAG_SIZE || out->full || out->cap - out->n < sealed.n - GCM_TAG_SIZE)) {
        r = sealed.n < GCM_TAG_SIZE ? BH_E_CORRUPT : BH_E_FULL;
    }
    if (r == 0) {
        r = slot_open(&view->resolver->slots, ord, slot, sealed, out->p + out->n);
    }
    if (r == 0) {
        out->n += sealed.n - GCM_TAG_SIZE;
    }
    secret_wipe(slot, sizeof(slot));
    return r;
}

/* -- people ------------------------------------------------------------------------------------ */

/* A growing list of ords without repeats, which is also the queue of a walk. */
struct ord_set {
    uint32_t *list;
    uint32_t *table; /* index into list + 1; 0 = free */
    size_t count;
    size_t cap; /* of table, a power of two; the list holds half as many */
};

static size_t set_place(const struct ord_set *set, uint32_t ord) {
    size_t at = (size_t)(ord * 2654435761U) & (set->cap - 1);
    while (set->table[at] != 0 && set->list[set->table[at] - 1] != ord) {
        at = (at + 1) & (set->cap - 1);
    }
    return at;
}

static int set_grow(struct ord_set *set) {
    size_t cap = set->cap != 0 ? set->cap * 2 : 64;
    uint32_t *list = (uint32_t *)realloc(set->list, cap / 2 * sizeof(*list));
    if (list == NULL) {
        return BH_E_NOMEM;
    }
    set->list = list;
    uint32_t *table = (uint32_t *)calloc(cap, sizeof(*table));
    if (table == NULL) {
        return BH_E_NOMEM;
    }
    free(set->table);
    set->table = table;
    set->cap = cap;
    for (size_t i = 0; i < set->count; i++) {
        set->table[set_place(set, set->list[i])] = (uint32_t)i + 1;
    }
    return 0;
}

static int set_add(struct ord_set *set, uint32_t ord) {
    if (set->count == set->cap / 2) {
        int r = set_grow(set);
        if (r != 0) {
            return r;
        }
    }
    size_t at = set_place(set, ord);
    if (set->table[at] == 0) {
        set->list[set->count++] = ord;
        set->table[at] = (uint32_t)set->count;
    }
    return 0;
}

struct walk {
    struct ord_set set;
    uint64_t at_seq;
};

static int walk_edge(void *context, const struct resolve_edge *edge) {
    struct walk *walk = (struct walk *)context;
    if (!edge->binds || edge->seq > walk->at_seq) {
        return 0;
    }
    int r = set_add(&walk->set, edge->a);
    return r == 0 ? set_add(&walk->set, edge->b) : r;
}

uint32_t resolve_root(struct resolve_view *view, uint32_t ord, uint64_t at_seq) {
    check(view->is_begun);
    struct walk walk = {.at_seq = at_seq};
    uint32_t root = ord;
    int r = set_add(&walk.set, ord);
    for (size_t i = 0; r == 0 && i < walk.set.count; i++) {
        uint32_t member = walk.set.list[i];
        root = member < root ? member : root;
        r = store_edges(&view->resolver->store, view->txn, member, walk_edge, &walk);
    }
    free(walk.set.list);
    free(walk.set.table);
    /*
     * No memory, or a table that cannot be read: the id stands alone rather than in half a person.
     */
    return r == 0 ? root : ord;
}

struct forest {
    uint32_t *roots;
    size_t size;
    uint64_t at_seq;
};

static uint32_t find_root(uint32_t *roots, uint32_t ord) {
    while (roots[ord] != ord) {
        roots[ord] = roots[roots[ord]];
        ord = roots[ord];
    }
    return ord;
}

static int unite(void *context, const struct resolve_edge *edge) {
    const struct forest *forest = (const struct forest *)context;
    if (!edge->binds || edge->seq > forest->at_seq || edge->a >= forest->size ||
        edge->b >= forest->size) {
        return 0;
    }
    uint32_t a = find_root(forest->roots, edge->a);
    uint32_t b = find_root(forest->roots, edge->b);
    /*
     * The lowest ord is the root, so a person keeps her number whatever order the edges are read
     * in.
     */
    forest->roots[a > b ? a : b] = a > b ? b : a;
    return 0;
}

int resolve_roots(struct resolve_view *view, uint64_t at_seq, uint32_t *roots, size_t size) {
    check(view->is_begun);
    for (size_t i = 0; i < size; i++) {
        roots[i] = (uint32_t)i;
    }
    struct forest forest = {roots, size, at_seq};
    int r = store_edges(&view->resolver->store, view->txn, 0, unite, &forest);
    for (size_t i = 1; i < size; i++) {
        roots[i] = find_root(roots, (uint32_t)i);
    }
    return r;
}

uint64_t resolve_distinct_closed_at(struct resolve_view *view, uint64_t property) {
    struct distinct_property *found = distinct_find(view->resolver->distinct, property);
    /* What nobody counts has no limit that could hold: closed from the first seq on. */
    return found != NULL ? atomic_load_explicit(&found->closed_at, memory_order_acquire) : 0;
}
