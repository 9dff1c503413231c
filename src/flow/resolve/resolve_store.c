/*
 * Tables: the resolver's LMDB environment (docs/format/resolve.md). One writer; a reader sees the
 * last commit as of its begin.
 *
 * Numbers in keys are in the processor's order (MDB_INTEGERKEY), in values little-endian. An edge
 * lies under both of its ends, so that the edges of one ord are one seek; the copy under its second
 * end is marked.
 */
#include <errno.h>
#include <stdio.h>

#include "base/check.h"
#include "flow/resolve/resolve_int.h"

enum {
    ROW_ORD = 0,
    ROW_SOURCE = 4,
    ROW_FLAGS = 6,
    ROW_FIRST_SEQ = 8,
    ROW_LID = 16,
    ROW_R = 32,
    ROW_USER_SINCE = 48,
    ROW_SIZE = 56,

    EDGE_OTHER = 0,
    EDGE_RULE = 4,
    EDGE_BINDS = 5,
    EDGE_SOURCE = 6,
    EDGE_IS_SECOND = 8, /* stored under the edge's b */
    EDGE_SEQ = 12,
    EDGE_SIZE = 20,
    EDGE_SAME = 9, /* two edges whose first bytes are equal are one */

    META_SIZE = 16,
    FORMAT = 1,
};

int store_code(int mdb_result) {
    switch (mdb_result) {
    case 0:
        return 0;
    case MDB_NOTFOUND:
        return BH_E_NOTFOUND;
    case MDB_MAP_FULL:
    case ENOSPC:
    case EDQUOT:
        return BH_E_NOSPACE;
    case MDB_CORRUPTED:
    case MDB_PAGE_NOTFOUND:
    case MDB_INVALID:
        return BH_E_CORRUPT;
    case MDB_VERSION_MISMATCH:
        return BH_E_VERSION;
    case MDB_READERS_FULL:
        return BH_E_BUSY;
    case ENOMEM:
        return BH_E_NOMEM;
    case ENOENT:
        return BH_E_NOTFOUND;
    default:
        return BH_E_IO;
    }
}

static int open_tables(struct store *store, MDB_txn *txn, unsigned create) {
    const struct {
        const char *name;
        unsigned flags;
        MDB_dbi *dbi;
    } tables[] = {
        {"alias", 0, &store->alias},
        {"ord", MDB_INTEGERKEY, &store->ord},
        {"text", MDB_INTEGERKEY, &store->text},
        {"edge", MDB_INTEGERKEY | MDB_DUPSORT | MDB_DUPFIXED, &store->edge},
        {"distinct", 0, &store->distinct},
        {"meta", 0, &store->meta},
    };
    for (size_t i = 0; i < BH_COUNT(tables); i++) {
        int r = mdb_dbi_open(txn, tables[i].name, tables[i].flags | create, tables[i].dbi);
        if (r != 0) {
            return store_code(r);
        }
    }
    /* A folder that is only read may be older than this table. */
    int r = mdb_dbi_open(txn, "repeat", MDB_INTEGERKEY | create, &store->repeat);
    store->has_repeats = r == 0;
    return r == MDB_NOTFOUND ? 0 : store_code(r);
}

static int check_format(struct store *store, MDB_txn *txn, bool read_only) {
    uint64_t format[2] = {0, 0};
    int r = store_get_meta(store, txn, "format", format);
    if (r == BH_E_NOTFOUND && !read_only) {
        const uint64_t ours[2] = {FORMAT, FORMAT};
        return store_put_meta(store, txn, "format", ours);
    }
    return r == 0 && format[1] > FORMAT ? BH_E_VERSION : r;
}

static int open_env(struct store *store, const char *dir, uint64_t map_size, bool read_only) {
    int r = mdb_env_create(&store->env);
    if (r == 0) {
        r = mdb_env_set_mapsize(store->env, (size_t)map_size);
    }
    if (r == 0) {
        r = mdb_env_set_maxdbs(store->env, 8);
    }
    if (r == 0) {
        r = mdb_env_set_maxreaders(store->env, VIEWS_MAX + 32);
    }
    if (r == 0) {
        /*
         * Views may be made by one thread and used by another; read-ahead does not fit a table that
         * is looked up at random.
         */
        unsigned flags = MDB_NOTLS | MDB_NORDAHEAD | (read_only ? MDB_RDONLY : 0U);
        r = mdb_env_open(store->env, dir, flags, 0600);
    }
    MDB_txn *txn = NULL;
    if (r == 0) {
        r = mdb_txn_begin(store->env, NULL, read_only ? MDB_RDONLY : 0U, &txn);
    }
    if (r != 0) {
        return store_code(r);
    }
    int code = open_tables(store, txn, read_only ? 0U : MDB_CREATE);
    if (code == 0) {
        code = check_format(store, txn, read_only);
    }
    if (code != 0) {
        mdb_txn_abort(txn);
        return code;
    }
    return store_code(mdb_txn_commit(txn));
}

int store_open(const char *dir, uint64_t map_size, bool read_only, struct store *ret_store,
               struct err *err) {
    struct store store = {0};
    int r = open_env(&store, dir, map_size, read_only);
    if (r != 0) {
        store_close(&store);
        return err_set(err, r, "%s: the table of ids: %s", dir, bh_error_text(r));
    }
    *ret_store = store;
    return 0;
}

void store_close(struct store *store) {
    if (store->env != NULL) {
        mdb_env_close(store->env);
        store->env = NULL;
    }
}

/* -- rows -------------------------------------------------------------------------------------- */

static MDB_val val_of(const void *p, size_t n) {
    /* LMDB's one type for what it reads and what it writes has no const. */
    union {
        const void *in;
        void *out;
    } pointer = {.in = p};
    return (MDB_val){n, pointer.out};
}

int store_get_row(const struct store *store, MDB_txn *txn, const struct aid *aid,
                  struct alias_row *ret_row) {
    MDB_val key = val_of(aid->b, sizeof(aid->b));
    MDB_val value;
    int r = mdb_get(txn, store->alias, &key, &value);
    if (r != 0) {
        return store_code(r);
    }
    if (value.mv_size < ROW_SIZE) {
        return BH_E_CORRUPT;
    }
    const uint8_t *at = (const uint8_t *)value.mv_data;
    ret_row->ord = get_u32(at + ROW_ORD);
    ret_row->source = get_u16(at + ROW_SOURCE);
    ret_row->flags = get_u16(at + ROW_FLAGS);
    ret_row->first_seq = get_u64(at + ROW_FIRST_SEQ);
    ret_row->user_since = get_u64(at + ROW_USER_SINCE);
    memcpy(ret_row->lid, at + ROW_LID, 16);
    memcpy(ret_row->r, at + ROW_R, 16);
    return 0;
}

int store_put_row(const struct store *store, MDB_txn *txn, const struct aid *aid,
                  const struct alias_row *row) {
    uint8_t bytes[ROW_SIZE];
    put_u32(bytes + ROW_ORD, row->ord);
    put_u16(bytes + ROW_SOURCE, row->source);
    put_u16(bytes + ROW_FLAGS, row->flags);
    put_u64(bytes + ROW_FIRST_SEQ, row->first_seq);
    put_u64(bytes + ROW_USER_SINCE, row->user_since);
    memcpy(bytes + ROW_LID, row->lid, 16);
    memcpy(bytes + ROW_R, row->r, 16);
    MDB_val key = val_of(aid->b, sizeof(aid->b));
    MDB_val value = val_of(bytes, sizeof(bytes));
    return store_code(mdb_put(txn, store->alias, &key, &value, 0));
}

int store_put_ord(const struct store *store, MDB_txn *txn, uint32_t ord, const struct aid *aid) {
    MDB_val key = val_of(&ord, sizeof(ord));
    MDB_val value = val_of(aid->b, sizeof(aid->b));
    return store_code(mdb_put(txn, store->ord, &key, &value, MDB_APPEND));
}

int store_get_ord(const struct store *store, MDB_txn *txn, uint32_t ord, struct aid *ret_aid) {
    MDB_val key = val_of(&ord, sizeof(ord));
    MDB_val value;
    int r = mdb_get(txn, store->ord, &key, &value);
    if (r != 0 || value.mv_size != sizeof(ret_aid->b)) {
        return r != 0 ? store_code(r) : BH_E_CORRUPT;
    }
    memcpy(ret_aid->b, value.mv_data, sizeof(ret_aid->b));
    return 0;
}

int store_last_ord(const struct store *store, MDB_txn *txn, uint32_t *ret_ord) {
    MDB_cursor *cursor = NULL;
    int r = mdb_cursor_open(txn, store->ord, &cursor);
    if (r != 0) {
        return store_code(r);
    }
    MDB_val key;
    MDB_val value;
    r = mdb_cursor_get(cursor, &key, &value, MDB_LAST);
    *ret_ord = 0;
    if (r == 0) {
        memcpy(ret_ord, key.mv_data, sizeof(*ret_ord));
    }
    mdb_cursor_close(cursor);
    return r == MDB_NOTFOUND ? 0 : store_code(r);
}

int store_put_text(const struct store *store, MDB_txn *txn, uint32_t ord, struct span sealed) {
    MDB_val key = val_of(&ord, sizeof(ord));
    MDB_val value = val_of(sealed.p, sealed.n);
    return store_code(mdb_put(txn, store->text, &key, &value, 0));
}

int store_get_text(const struct store *store, MDB_txn *txn, uint32_t ord, struct span *ret_sealed) {
    MDB_val key = val_of(&ord, sizeof(ord));
    MDB_val value;
    int r = mdb_get(txn, store->text, &key, &value);
    if (r == 0) {
        *ret_sealed = span_of(value.mv_data, value.mv_size);
    }
    return store_code(r);
}

/* -- edges ------------------------------------------------------------------------------------- */

static void write_edge(const struct resolve_edge *edge, bool is_second, uint8_t out[EDGE_SIZE]) {
    memset(out, 0, EDGE_SIZE);
    put_u32(out + EDGE_OTHER, is_second ? edge->a : edge->b);
    out[EDGE_RULE] = edge->rule;
    out[EDGE_BINDS] = edge->binds ? 1 : 0;
    put_u16(out + EDGE_SOURCE, edge->source);
    out[EDGE_IS_SECOND] = is_second ? 1 : 0;
    put_u64(out + EDGE_SEQ, edge->seq);
}

static void read_edge(uint32_t ord, const uint8_t *at, struct resolve_edge *ret_edge) {
    uint32_t other = get_u32(at + EDGE_OTHER);
    bool is_second = at[EDGE_IS_SECOND] != 0;
    ret_edge->a = is_second ? other : ord;
    ret_edge->b = is_second ? ord : other;
    ret_edge->rule = at[EDGE_RULE];
    ret_edge->binds = at[EDGE_BINDS] != 0;
    ret_edge->source = get_u16(at + EDGE_SOURCE);
    ret_edge->seq = get_u64(at + EDGE_SEQ);
}

/* Whether an edge of `ord` begins with these bytes. */
static int has_edge(const struct store *store, MDB_txn *txn, uint32_t ord, const uint8_t *bytes,
                    size_t n, bool *ret_has) {
    MDB_cursor *cursor = NULL;
    int r = mdb_cursor_open(txn, store->edge, &cursor);
    if (r != 0) {
        return store_code(r);
    }
    uint8_t from[EDGE_SIZE] = {0};
    memcpy(from, bytes, n);
    MDB_val key = val_of(&ord, sizeof(ord));
    MDB_val value = val_of(from, sizeof(from));
    r = mdb_cursor_get(cursor, &key, &value, MDB_GET_BOTH_RANGE);
    *ret_has = r == 0 && memcmp(value.mv_data, bytes, n) == 0;
    mdb_cursor_close(cursor);
    return r == MDB_NOTFOUND ? 0 : store_code(r);
}

int store_are_joined(const struct store *store, MDB_txn *txn, uint32_t a, uint32_t b,
                     bool *ret_joined) {
    *ret_joined = false;
    for (uint8_t rule = RULE_DEVICE_USER; rule <= RULE_MERGE && !*ret_joined; rule++) {
        uint8_t head[EDGE_SOURCE];
        put_u32(head + EDGE_OTHER, b);
        head[EDGE_RULE] = rule;
        head[EDGE_BINDS] = 1;
        int r = has_edge(store, txn, a, head, sizeof(head), ret_joined);
        if (r != 0) {
            return r;
        }
    }
    return 0;
}

uint64_t store_edge_count(const struct store *store, MDB_txn *txn) {
    MDB_stat stat;
    return mdb_stat(txn, store->edge, &stat) == 0 ? stat.ms_entries / 2 : 0;
}

int store_put_edge(const struct store *store, MDB_txn *txn, const struct resolve_edge *edge,
                   bool *ret_is_new) {
    check(edge->a != edge->b && edge->a != 0 && edge->b != 0);
    uint8_t bytes[EDGE_SIZE];
    write_edge(edge, false, bytes);
    bool has = false;
    int r = has_edge(store, txn, edge->a, bytes, EDGE_SAME, &has);
    *ret_is_new = r == 0 && !has;
    if (r != 0 || has) {
        return r;
    }
    MDB_val key = val_of(&edge->a, sizeof(edge->a));
    MDB_val value = val_of(bytes, sizeof(bytes));
    r = mdb_put(txn, store->edge, &key, &value, 0);
    if (r == 0) {
        write_edge(edge, true, bytes);
        key = val_of(&edge->b, sizeof(edge->b));
        value = val_of(bytes, sizeof(bytes));
        r = mdb_put(txn, store->edge, &key, &value, 0);
    }
    return store_code(r);
}

int store_edges(const struct store *store, MDB_txn *txn, uint32_t ord,
                int (*each)(void *context, const struct resolve_edge *edge), void *context) {
    MDB_cursor *cursor = NULL;
    int r = mdb_cursor_open(txn, store->edge, &cursor);
    if (r != 0) {
        return store_code(r);
    }
    MDB_val key = val_of(&ord, sizeof(ord));
    MDB_val value;
    int stop = 0;
    r = mdb_cursor_get(cursor, &key, &value, ord != 0 ? MDB_SET : MDB_FIRST);
    while (r == 0 && stop == 0) {
        const uint8_t *at = (const uint8_t *)value.mv_data;
        uint32_t at_ord = 0;
        memcpy(&at_ord, key.mv_data, sizeof(at_ord));
        if (value.mv_size != EDGE_SIZE) {
            stop = BH_E_CORRUPT;
        } else if (ord != 0 || at[EDGE_IS_SECOND] == 0) {
            struct resolve_edge edge;
            read_edge(at_ord, at, &edge);
            stop = each(context, &edge);
        }
        if (stop == 0) {
            r = mdb_cursor_get(cursor, &key, &value, ord != 0 ? MDB_NEXT_DUP : MDB_NEXT);
        }
    }
    mdb_cursor_close(cursor);
    if (stop != 0) {
        return stop;
    }
    return r == MDB_NOTFOUND ? 0 : store_code(r);
}

/* -- meta -------------------------------------------------------------------------------------- */

int store_get_meta(const struct store *store, MDB_txn *txn, const char *name,
                   uint64_t ret_values[2]) {
    MDB_val key = val_of(name, strlen(name));
    MDB_val value;
    int r = mdb_get(txn, store->meta, &key, &value);
    if (r != 0 || value.mv_size != META_SIZE) {
        return r != 0 ? store_code(r) : BH_E_CORRUPT;
    }
    ret_values[0] = get_u64(value.mv_data);
    ret_values[1] = get_u64((const uint8_t *)value.mv_data + 8);
    return 0;
}

int store_put_meta(const struct store *store, MDB_txn *txn, const char *name,
                   const uint64_t values[2]) {
    uint8_t bytes[META_SIZE];
    put_u64(bytes, values[0]);
    put_u64(bytes + 8, values[1]);
    MDB_val key = val_of(name, strlen(name));
    MDB_val value = val_of(bytes, sizeof(bytes));
    return store_code(mdb_put(txn, store->meta, &key, &value, 0));
}

/* -- repeats ----------------------------------------------------------------------------------- */

int store_put_repeat(const struct store *store, MDB_txn *txn, uint64_t seq) {
    MDB_val key = {sizeof(seq), &seq};
    MDB_val nothing = {0, NULL};
    return store_code(mdb_put(txn, store->repeat, &key, &nothing, 0));
}

int store_next_repeat(MDB_cursor *cursor, uint64_t seq, uint64_t *ret_seq) {
    MDB_val key = {sizeof(seq), &seq};
    MDB_val nothing;
    int r = mdb_cursor_get(cursor, &key, &nothing, MDB_SET_RANGE);
    *ret_seq = UINT64_MAX;
    if (r == 0) {
        memcpy(ret_seq, key.mv_data, sizeof(*ret_seq));
    }
    return r == MDB_NOTFOUND ? 0 : store_code(r);
}

int store_drop_repeats(const struct store *store, MDB_txn *txn, uint64_t below, unsigned at_most) {
    MDB_cursor *cursor = NULL;
    int r = mdb_cursor_open(txn, store->repeat, &cursor);
    if (r != 0) {
        return store_code(r);
    }
    uint64_t seq = 0;
    r = store_next_repeat(cursor, 0, &seq);
    while (r == 0 && seq < below && at_most-- != 0) {
        r = store_code(mdb_cursor_del(cursor, 0));
        r = r == 0 ? store_next_repeat(cursor, seq, &seq) : r;
    }
    mdb_cursor_close(cursor);
    return r;
}
