/*
 * Distinct values: how many different values a declared property has had, counted in journal order
 * and closed for good at the first one over its limit.
 *
 *   distinct: name 0 HMAC(value)[0..16] -> seq of its first sight
 *   meta:     "d:" name -> {limit << 32 | count, closed_at}
 *
 * The table in memory only grows, and what others read of it are atomics, so couriers ask it
 * without a lock. What the resolver has not committed yet they may see early; it is about events
 * that they cannot have reached.
 *
 * A property that has no entry, because the table is full or its state could not be read, is not
 * counted, and so it reads as closed.
 *
 * Only limit + 1 values are ever kept for a property. A limit that is raised opens the property
 * again until the count passes it anew; one that is lowered closes it at the seq at which the count
 * had passed it.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/hash.h"
#include "flow/resolve/resolve_int.h"

enum { KEY_MAX = 128 + 1 + 16, META_NAME_MAX = 2 + 128 };

static void meta_name(const char *property, char out[META_NAME_MAX]) {
    (void)snprintf(out, META_NAME_MAX, "d:%s", property);
}

static int put_state(const struct store *store, MDB_txn *txn,
                     const struct distinct_property *property) {
    char name[META_NAME_MAX];
    meta_name(property->name, name);
    const uint64_t values[2] = {(uint64_t)property->limit << 32 | property->count,
                                atomic_load_explicit(&property->closed_at, memory_order_relaxed)};
    return store_put_meta(store, txn, name, values);
}

/* Keeps a value's fingerprint; *ret_is_new when it was not there. */
static int keep_value(const struct store *store, MDB_txn *txn, const struct hmac_key *key,
                      const struct distinct_property *property, struct span value, uint64_t seq,
                      bool *ret_is_new) {
    uint8_t mac[SHA256_SIZE];
    const struct span parts[] = {span_str(property->name), SPAN_LIT("\0"), value};
    hmac_sha256(key, parts, BH_COUNT(parts), mac);
    uint8_t memory[KEY_MAX];
    struct buf b = buf_of(memory, sizeof(memory));
    buf_put(&b, property->name, strlen(property->name) + 1);
    buf_put(&b, mac, 16);
    uint8_t number[8];
    put_u64(number, seq);
    MDB_val name = {b.n, b.p};
    MDB_val data = {sizeof(number), number};
    int r = mdb_put(txn, store->distinct, &name, &data, MDB_NOOVERWRITE);
    *ret_is_new = r == 0;
    return r == MDB_KEYEXIST ? 0 : store_code(r);
}

static int see_value(const struct store *store, MDB_txn *txn, const struct hmac_key *key,
                     struct distinct_property *property, struct span value, uint64_t seq,
                     bool *ret_changed) {
    if (atomic_load_explicit(&property->closed_at, memory_order_relaxed) != UINT64_MAX) {
        return 0;
    }
    bool is_new = false;
    int r = keep_value(store, txn, key, property, value, seq, &is_new);
    if (r != 0 || !is_new) {
        return r;
    }
    property->count++;
    if (property->count > property->limit) {
        atomic_store_explicit(&property->closed_at, seq, memory_order_release);
    }
    *ret_changed = true;
    return put_state(store, txn, property);
}

struct distinct_property *distinct_find(struct distinct *distinct, uint64_t property) {
    size_t count = atomic_load_explicit(&distinct->count, memory_order_acquire);
    for (size_t i = 0; i < count; i++) {
        if (distinct->properties[i].property == property) {
            return &distinct->properties[i];
        }
    }
    return NULL;
}

/* What is the same for all values of one event. */
struct look {
    const struct store *store;
    MDB_txn *txn;
    const struct hmac_key *key;
    struct distinct *distinct;
    struct span json;
    const struct json_token *tokens;
    uint64_t seq;
    bool *changed;
};

/* A scalar, or the scalars of an array; what lies deeper is nobody's declared value. */
static int see_token(const struct look *look, struct distinct_property *property, uint32_t at) {
    const struct json_token *token = &look->tokens[at];
    uint32_t first = at;
    uint32_t end = at + 1;
    if (token->kind == JSON_ARRAY) {
        first = at + 1;
        end = token->next;
    }
    for (uint32_t i = first; i < end; i = look->tokens[i].next) {
        uint8_t memory[2048];
        struct buf b = buf_of(memory, sizeof(memory));
        const struct json_token *value = &look->tokens[i];
        if (value->kind == JSON_OBJECT || value->kind == JSON_ARRAY || value->kind == JSON_NULL) {
            continue;
        }
        struct span text = value->kind == JSON_STRING ? json_text(look->json, value, &b)
                                                      : json_span(look->json, value);
        /* A string too long to decode here is told apart by its bytes as sent. */
        text = text.p == NULL ? json_span(look->json, value) : text;
        int r =
            see_value(look->store, look->txn, look->key, property, text, look->seq, look->changed);
        if (r != 0) {
            return r;
        }
    }
    return 0;
}

/* One open object of the walk. */
struct level {
    uint32_t at; /* its next key */
    uint32_t end;
    uint8_t place;
};

static int see_member(const struct look *look, struct span name, uint32_t value) {
    struct distinct_property *property =
        name.p != NULL ? distinct_find(look->distinct, hash64(name.p, name.n, 0)) : NULL;
    return property != NULL && property->is_counted ? see_token(look, property, value) : 0;
}

/*
 * Members of properties, traits, group traits and of what the table knows inside those; the item's own members are none of the plan's.
 */
int distinct_see(const struct store *store, MDB_txn *txn, const struct hmac_key *key,
                 struct distinct *distinct, const struct protocol_ops *protocol, uint8_t event_kind,
                 struct span json, const struct json_token *tokens, uint64_t seq,
                 bool *ret_changed) {
    struct look look = {store, txn, key, distinct, json, tokens, seq, NULL};
    look.changed = ret_changed;
    struct level levels[PERSON_ITER_DEPTH];
    unsigned depth = 1;
    levels[0] =
        (struct level){1, tokens[0].next, protocol->root_place((enum event_kind)event_kind)};
    if (tokens[0].kind != JSON_OBJECT || levels[0].place == PLACE_NONE) {
        return 0;
    }
    while (depth > 0) {
        struct level *level = &levels[depth - 1];
        if (level->at >= level->end) {
            depth--;
            continue;
        }
        uint8_t memory[256];
        struct buf b = buf_of(memory, sizeof(memory));
        struct span name = json_text(json, &tokens[level->at], &b);
        uint32_t value = level->at + 1;
        int r = depth > 1 ? see_member(&look, name, value) : 0;
        if (r != 0) {
            return r;
        }
        level->at = tokens[level->at].next;
        bool may_enter = level->place != PLACE_NONE && name.p != NULL &&
                         tokens[value].kind == JSON_OBJECT && depth < PERSON_ITER_DEPTH;
        const struct field *field =
            may_enter ? protocol->field((enum field_place)level->place, name) : NULL;
        if (field != NULL && field->inside != PLACE_NONE) {
            levels[depth++] = (struct level){value + 1, tokens[value].next, field->inside};
        }
    }
    return 0;
}

static int by_seq(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;
    return x < y ? -1 : x > y ? 1 : 0;
}

/* Reads the first sights of a property's values, at most cap. */
static int read_sights(const struct store *store, MDB_txn *txn,
                       const struct distinct_property *property, uint64_t *seqs, size_t cap,
                       size_t *ret_count) {
    MDB_cursor *cursor = NULL;
    int r = mdb_cursor_open(txn, store->distinct, &cursor);
    if (r != 0) {
        return store_code(r);
    }
    char first[KEY_MAX];
    size_t name_size = strlen(property->name) + 1;
    memcpy(first, property->name, name_size);
    MDB_val key = {name_size, first};
    MDB_val value;
    size_t n = 0;
    r = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
    while (r == 0 && n < cap && key.mv_size == name_size + 16 &&
           memcmp(key.mv_data, property->name, name_size) == 0) {
        seqs[n++] = get_u64(value.mv_data);
        r = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
    }
    mdb_cursor_close(cursor);
    *ret_count = n;
    return r == MDB_NOTFOUND ? 0 : store_code(r);
}

/* Under a lowered limit: the seq of the first value over it, from the first sights in order. */
static int seq_over_limit(const struct store *store, MDB_txn *txn,
                          const struct distinct_property *property, uint64_t *ret_seq) {
    uint64_t *seqs = (uint64_t *)calloc((size_t)property->count + 1, sizeof(*seqs));
    if (seqs == NULL) {
        return BH_E_NOMEM;
    }
    size_t n = 0;
    int r = read_sights(store, txn, property, seqs, property->count, &n);
    if (r == 0) {
        qsort(seqs, n, sizeof(*seqs), by_seq);
        *ret_seq = n > property->limit ? seqs[property->limit] : UINT64_MAX;
    }
    free(seqs);
    return r;
}

static int load_state(const struct store *store, MDB_txn *txn, struct distinct_property *property) {
    char name[META_NAME_MAX];
    meta_name(property->name, name);
    uint64_t values[2];
    int r = store_get_meta(store, txn, name, values);
    if (r == BH_E_NOTFOUND) {
        property->count = 0;
        return 0;
    }
    if (r != 0) {
        return r;
    }
    property->count = (uint32_t)values[0];
    uint64_t closed_at = values[1];
    if (property->limit != (uint32_t)(values[0] >> 32)) {
        closed_at = UINT64_MAX;
        if (property->count > property->limit) {
            r = seq_over_limit(store, txn, property, &closed_at);
        }
    }
    atomic_store_explicit(&property->closed_at, closed_at, memory_order_release);
    return r;
}

/* The property's entry, made when it is new; NULL when the table is full. */
static struct distinct_property *
entry_for(struct distinct *distinct, const struct resolve_distinct *wanted, bool *ret_is_new) {
    struct distinct_property *property = distinct_find(distinct, wanted->property);
    size_t count = atomic_load_explicit(&distinct->count, memory_order_relaxed);
    *ret_is_new = property == NULL;
    if (property != NULL || count == DISTINCT_MAX) {
        return property;
    }
    property = &distinct->properties[count];
    property->property = wanted->property;
    memcpy(property->name, wanted->name, sizeof(property->name));
    property->name[sizeof(property->name) - 1] = '\0';
    atomic_store_explicit(&property->closed_at, UINT64_MAX, memory_order_relaxed);
    return property;
}

int distinct_set(const struct store *store, MDB_txn *txn, bool read_only, struct distinct *distinct,
                 const struct resolve_distinct *wanted, size_t count) {
    int first = 0;
    size_t had = atomic_load_explicit(&distinct->count, memory_order_relaxed);
    for (size_t i = 0; i < had; i++) {
        distinct->properties[i].is_counted = false;
    }
    for (size_t i = 0; i < count; i++) {
        bool is_new = false;
        struct distinct_property *property = entry_for(distinct, &wanted[i], &is_new);
        int r = BH_E_TOO_MANY;
        if (property != NULL) {
            property->limit = wanted[i].limit;
            property->is_counted = true;
            r = load_state(store, txn, property);
        }
        if (r == 0 && !read_only) {
            r = put_state(store, txn, property);
        }
        if (r == 0 && is_new) {
            /* Published last: a reader that finds the entry finds its state. */
            atomic_fetch_add_explicit(&distinct->count, 1, memory_order_release);
        }
        first = first != 0 ? first : r; /* the others stay counted all the same */
    }
    return first;
}

int distinct_load(const struct store *store, MDB_txn *txn, struct distinct *distinct) {
    size_t count = atomic_load_explicit(&distinct->count, memory_order_relaxed);
    for (size_t i = 0; i < count; i++) {
        int r = load_state(store, txn, &distinct->properties[i]);
        if (r != 0) {
            return r;
        }
    }
    return 0;
}
