/*
 * The memo of sets of ids changes nothing: two resolvers take the same events, one with it and one without, and must come to the same rows, flags,
 * counts and links.
 */
/* depends: resolve journal inspect keyring seglog protocol mixpanel wire json http model crypto os base */
/* sources: journal_kit.c */
/* libs: lmdb */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "journal_kit.h"

#include "base/hash.h"
#include "engine/http/http_parse.h"
#include "flow/resolve/resolve_int.h"
#include "protocol/wire/wire.h"

enum { EVENTS = 64, PAST = 16, PER_KIND = 6, IDS = 4, JSON_MAX = 600, SOURCES = 3 };

/* One event as ingest hands it on, and since the last commit as the journal would. */
struct sample {
    struct record_request request;
    struct record_event event;
    char json[JSON_MAX];
};

/* An id in its place, and an event that names some. */
struct named {
    unsigned field;
    unsigned number;
    bool has_prefix;
    bool is_drawn;
};

struct shape {
    unsigned name;
    unsigned count; /* 0: not made yet */
    struct named ids[IDS];
};

struct fixture {
    char dir[128];
    struct keyring *keyring;
    struct journal *journal;
    struct aid_maker *aids;
    struct wire *wire;
    struct resolver *with;
    struct resolver *without;
    struct random_kit random;
    struct resolve_source sources[SOURCES];
    uint64_t seq;
    struct sample batch[EVENTS];
    size_t batch_count;
    struct shape past[PAST];
};

static unsigned below(struct fixture *f, unsigned n) {
    return (unsigned)random_kit_below(&f->random, n);
}

static struct resolver *open_resolver(struct fixture *f, const char *name) {
    char path[200];
    (void)snprintf(path, sizeof(path), "%s/%s", f->dir, name);
    const struct resolve_config config = {.dir = path,
                                          .keyring = f->keyring,
                                          .journal = f->journal,
                                          .sources = f->sources,
                                          .source_count = SOURCES,
                                          .map_size = 64 * 1024 * 1024};
    struct resolver *resolver = NULL;
    struct err err = {0};
    assert_int_equal(resolver_open(&config, &resolver, &err), 0);
    return resolver;
}

static int set_up(void **state) {
    char journal_dir[160];
    struct fixture *f = (struct fixture *)calloc(1, sizeof(*f));
    assert_non_null(f);
    kit_dir_make(f->dir);
    f->keyring = kit_keyring(f->dir);
    const struct journal_config config = kit_config(f->dir, f->keyring, journal_dir);
    f->journal = kit_open(&config, NULL);
    f->aids = aid_maker_new(f->keyring);
    f->wire = wire_new();
    for (uint16_t i = 0; i < SOURCES; i++) {
        f->sources[i] = (struct resolve_source){.number = (uint16_t)(i + 1)};
    }
    f->sources[0].new_people_per_hour = 1;
    f->with = open_resolver(f, "with");
    f->without = open_resolver(f, "without");
    f->without->memo_from = UINT64_MAX;
    f->seq = 1;
    *state = f;
    return 0;
}

static int tear_down(void **state) {
    struct fixture *f = (struct fixture *)*state;
    resolver_free(f->with);
    resolver_free(f->without);
    journal_free(f->journal);
    aid_maker_free(f->aids);
    wire_free(f->wire);
    keyring_free(f->keyring);
    kit_dir_remove(f->dir);
    free(f);
    return 0;
}

/* -- events ------------------------------------------------------------------------------------ */

static const char *const names[] = {"Step", "Step", "Step", "$identify", "$create_alias", "$merge"};
static const char *const fields[] = {"distinct_id",  "$device_id",        "$user_id",
                                     "distinct_id",  "$anon_distinct_id", "alias",
                                     "$distinct_ids"};

static struct named random_id(struct fixture *f) {
    return (struct named){.field = below(f, BH_COUNT(fields)),
                          .number = (unsigned)f->seq / 100 * PER_KIND + below(f, PER_KIND * 2),
                          .has_prefix = below(f, 4) == 0,
                          .is_drawn = below(f, 3) != 0};
}

static void random_shape(struct fixture *f, struct shape *shape) {
    shape->name = below(f, BH_COUNT(names));
    shape->count = 1 + below(f, IDS);
    for (unsigned i = 0; i < shape->count; i++) {
        shape->ids[i] = random_id(f);
    }
}

/* One thing about it, so that all that may tell two sets apart does so alone at times. */
static void change(struct fixture *f, struct shape *shape) {
    struct named *id = &shape->ids[below(f, shape->count)];
    switch (below(f, 4)) {
    case 0:
        shape->name = below(f, BH_COUNT(names));
        break;
    case 1:
        id->has_prefix = !id->has_prefix;
        break;
    case 2:
        id->field = below(f, BH_COUNT(fields));
        break;
    default:
        *id = random_id(f);
        break;
    }
}

static void write_json(const struct shape *shape, char out[JSON_MAX]) {
    struct buf b = buf_of(out, JSON_MAX - 1);
    buf_printf(&b, "{\"event\":\"%s\",\"properties\":{\"n\":1", names[shape->name]);
    for (unsigned i = 0; i < shape->count; i++) {
        const struct named *id = &shape->ids[i];
        bool is_list = id->field == BH_COUNT(fields) - 1;
        buf_printf(&b, ",\"%s\":%s\"%s%s%u\"%s", fields[id->field], is_list ? "[" : "",
                   id->has_prefix ? "$device:" : "",
                   id->is_drawn ? "1d0000000000000000000000000000000" : "u", id->number,
                   is_list ? "]" : "");
    }
    buf_put_str(&b, "}}");
    assert_false(b.full);
    out[b.n] = '\0';
}

/* As ingest does, with the protocol's own decoder; false: it refuses the item. */
static bool read_sample(struct fixture *f, struct sample *sample) {
    static const uint8_t key[SIPHASH_KEY_SIZE] = {7};
    static uint8_t text[4096];
    static struct json_token tokens[256];
    struct protocol_item item;
    struct protocol_work work = {.text = text,
                                 .text_cap = sizeof(text),
                                 .tokens = tokens,
                                 .tokens_cap = BH_COUNT(tokens),
                                 .items = &item,
                                 .items_cap = 1,
                                 .decoded_max = sizeof(text) / 2,
                                 .wire = f->wire,
                                 .ids_key = key};
    const struct protocol_request request = {.method = HTTP_POST,
                                             .path = SPAN_LIT("/track"),
                                             .body = (uint8_t *)sample->json,
                                             .body_len = strlen(sample->json)};
    struct protocol_decoded decoded;
    assert_int_equal(protocol_by_id(PROTOCOL_MIXPANEL)->decode(&request, &work, &decoded), 0);
    assert_int_equal(decoded.item_count, 1);
    sample->event = (struct record_event){.seq = f->seq,
                                          .kind = item.kind,
                                          .flags = item.flags,
                                          .ids = item.ids,
                                          .json = span_str(sample->json)};
    const char *space = f->sources[sample->request.source - 1].space;
    if (item.person.n != 0) {
        aid_make(f->aids, span_str(space != NULL ? space : ""), item.person, &sample->event.aid);
    }
    return item.reason == REASON_NONE;
}

/* Most events name their ids as one of the last did, or nearly so. */
static void random_sample(struct fixture *f, struct sample *sample) {
    struct shape *past = &f->past[below(f, PAST)];
    unsigned chance = below(f, 6);
    if (past->count == 0 || chance == 0) {
        random_shape(f, past);
    } else if (chance == 1) {
        change(f, past);
    }
    write_json(past, sample->json);
    sample->request =
        (struct record_request){.protocol = PROTOCOL_MIXPANEL,
                                .source = (uint16_t)(1 + below(f, SOURCES)),
                                .received_us = 1700000000000000U + f->seq * 300000000};
    assert_true(read_sample(f, sample));
    f->seq++;
}

/* -- both resolvers ---------------------------------------------------------------------------- */

static void resolve_batch(struct fixture *f, struct resolver *resolver, size_t count,
                          MDB_txn **ret_txn) {
    assert_int_equal(mdb_txn_begin(resolver->store.env, NULL, 0, ret_txn), 0);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(
            resolve_event(resolver, *ret_txn, &f->batch[i].request, &f->batch[i].event), 0);
    }
}

static void commit_batch(struct resolver *resolver, MDB_txn *txn) {
    assert_int_equal(resolve_flush_slots(resolver), 0);
    assert_int_equal(mdb_txn_commit(txn), 0);
    resolver->is_dirty = false;
}

static void abort_batch(struct resolver *resolver, MDB_txn *txn) {
    uint64_t cursor = 0;
    mdb_txn_abort(txn);
    assert_int_equal(resolver_forget(resolver, &cursor), 0);
}

static void reload(struct fixture *f) {
    struct resolve_source *source = &f->sources[below(f, SOURCES)];
    source->trust_server = below(f, 2) == 0;
    source->space = below(f, 3) == 0 ? "eu" : NULL;
    source->new_people_per_hour = below(f, 2) == 0 ? 1 + below(f, 3) : 0;
    resolver_set_sources(f->with, f->sources, SOURCES);
    resolver_set_sources(f->without, f->sources, SOURCES);
    resolver_take_reload(f->with);
    resolver_take_reload(f->without);
}

/* All but what is drawn by chance: lid and r of a row, slots, and the texts under them. */
static uint64_t hash_of(struct resolver *resolver) {
    MDB_txn *txn = NULL;
    assert_int_equal(mdb_txn_begin(resolver->store.env, NULL, MDB_RDONLY, &txn), 0);
    const struct store *store = &resolver->store;
    const MDB_dbi tables[] = {store->alias, store->ord, store->edge, store->meta, store->text};
    uint64_t hash = 0;
    for (size_t i = 0; i < BH_COUNT(tables); i++) {
        MDB_cursor *cursor = NULL;
        MDB_val key;
        MDB_val value;
        assert_int_equal(mdb_cursor_open(txn, tables[i], &cursor), 0);
        while (mdb_cursor_get(cursor, &key, &value, MDB_NEXT) == 0) {
            hash = hash64(key.mv_data, key.mv_size, hash + i);
            if (tables[i] == store->alias) {
                struct aid aid;
                struct alias_row row;
                memcpy(aid.b, key.mv_data, sizeof(aid.b));
                assert_int_equal(store_get_row(store, txn, &aid, &row), 0);
                const uint64_t facts[] = {row.ord, row.source, row.flags, row.first_seq,
                                          row.user_since};
                hash = hash64(facts, sizeof(facts), hash);
            } else if (tables[i] != store->text) {
                hash = hash64(value.mv_data, value.mv_size, hash);
            }
        }
        mdb_cursor_close(cursor);
    }
    mdb_txn_abort(txn);
    return hash;
}

static void both_do_the_same(struct fixture *f) {
    MDB_txn *with = NULL;
    MDB_txn *without = NULL;
    resolve_batch(f, f->with, f->batch_count, &with);
    resolve_batch(f, f->without, f->batch_count, &without);
    if (below(f, 8) == 0) {
        /* The same events come again, under what is in force by then. */
        abort_batch(f->with, with);
        abort_batch(f->without, without);
        if (below(f, 3) == 0) {
            reload(f);
        }
        size_t first = below(f, (unsigned)f->batch_count + 1);
        resolve_batch(f, f->with, first, &with);
        resolve_batch(f, f->without, first, &without);
        f->batch_count = first; /* the rest is as if it had never been */
    }
    commit_batch(f->with, with);
    commit_batch(f->without, without);
    assert_true(hash_of(f->with) == hash_of(f->without));
    f->batch_count = 0;
    if (below(f, 8) == 0) {
        reload(f);
    }
}

static void what_is_skipped_would_have_changed_nothing(void **state) {
    struct fixture *f = (struct fixture *)*state;
    f->random.state = random_kit_seed(45);
    for (unsigned round = 0; round < 400; round++) {
        unsigned count = 1 + below(f, 40);
        for (unsigned i = 0; i < count; i++) {
            random_sample(f, &f->batch[f->batch_count++]);
        }
        both_do_the_same(f);
    }
    assert_true(f->with->memo_hits > 1000);
    assert_int_equal(f->without->memo_hits, 0);
}

/* -- the table --------------------------------------------------------------------------------- */

static void a_turn_is_seen_until_the_set_is_kept_again(void **state) {
    (void)state;
    struct memo *memo = memo_new();
    assert_non_null(memo);
    const struct aid open = {{1, 2, 3, 4, 5, 6, 7, 8, 9}};
    const struct aid other = {{1, 2, 3, 4, 5, 6, 7, 8, 10}};
    for (unsigned turn = 0; turn < 100; turn++) {
        memo_put(memo, UINT64_MAX, &open);
        memo_put(memo, 1UL << 16, NULL);
        assert_true(memo_has(memo, UINT64_MAX));
        memo_turn(memo, &other);
        memo_put(memo, UINT64_MAX, &open);
        for (unsigned i = 0; i <= turn; i++) {
            memo_turn(memo, &open);
            assert_false(memo_has(memo, UINT64_MAX));
        }
    }
    memo_put(memo, 1UL << 16, NULL);
    memo_turn(memo, &open);
    memo_put(memo, 5, NULL); /* whose tag is 0: not kept */
    assert_false(memo_has(memo, 5));
    memo_clear(memo);
    assert_false(memo_has(memo, 1UL << 16));
    memo_free(memo);
}

static void the_newest_are_kept(void **state) {
    (void)state;
    struct memo *memo = memo_new();
    assert_non_null(memo);
    for (uint64_t i = 1; i <= 100; i++) {
        memo_put(memo, i << 16, NULL); /* all in one bucket */
        assert_true(memo_has(memo, i << 16));
        assert_false(memo_has(memo, (i + 1) << 16));
    }
    unsigned kept = 0;
    for (uint64_t i = 1; i <= 100; i++) {
        kept += memo_has(memo, i << 16);
    }
    assert_int_equal(kept, 8);
    memo_free(memo);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_is_skipped_would_have_changed_nothing, set_up,
                                        tear_down),
        cmocka_unit_test(a_turn_is_seen_until_the_set_is_kept_again),
        cmocka_unit_test(the_newest_are_kept),
    };
    return cmocka_run_group_tests_name("resolve_memo", tests, NULL, NULL);
}
