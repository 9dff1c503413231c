/*
 * The resolver against a naive twin: numbers, links and their history, quotas, distinct values; and
 * the same again after it runs once more.
 */
/* depends: resolve journal inspect keyring seglog protocol mixpanel wire json model crypto os base */
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
#include "flow/resolve/resolve_int.h"
#include "os/clock.h"

enum {
    SOURCE_BROWSER = 1,
    SOURCE_SERVER = 2,
    SOURCE_LIMITED = 3,
    SOURCE_OTHER_SPACE = 4,
    IDS_MAX = 64
};

static const struct resolve_source sources[] = {
    {.number = SOURCE_BROWSER},
    {.number = SOURCE_SERVER, .trust_server = true},
    {.number = SOURCE_LIMITED, .new_people_per_hour = 3},
    {.number = SOURCE_OTHER_SPACE, .space = "eu"},
};

struct fixture {
    char dir[128];
    char journal_dir[160];
    char resolve_dir[160];
    struct keyring *keyring;
    struct journal *journal;
    struct resolver *resolver;
    struct resolve_view *view;
    struct aid_maker *aids;
    uint64_t received_us;
};

static void open_resolver(struct fixture *f) {
    (void)snprintf(f->resolve_dir, sizeof(f->resolve_dir), "%s/data/resolve", f->dir);
    const struct resolve_config config = {.dir = f->resolve_dir,
                                          .keyring = f->keyring,
                                          .journal = f->journal,
                                          .sources = sources,
                                          .source_count = BH_COUNT(sources),
                                          .map_size = 256 * 1024 * 1024};
    struct err err = {0};
    int r = resolver_open(&config, &f->resolver, &err);
    if (r != 0) {
        print_error("resolver_open: %s\n", err.text);
    }
    assert_int_equal(r, 0);
    assert_int_equal(resolve_view_new(f->resolver, &f->view), 0);
}

static void close_resolver(struct fixture *f) {
    resolve_view_free(f->view);
    resolver_free(f->resolver);
    f->resolver = NULL;
}

static int set_up(void **state) {
    struct fixture *f = (struct fixture *)calloc(1, sizeof(*f));
    assert_non_null(f);
    kit_dir_make(f->dir);
    f->keyring = kit_keyring(f->dir);
    const struct journal_config config = kit_config(f->dir, f->keyring, f->journal_dir);
    f->journal = kit_open(&config, NULL);
    assert_int_equal(journal_start(f->journal), 0);
    f->aids = aid_maker_new(f->keyring);
    assert_non_null(f->aids);
    f->received_us = 1700000000000000U;
    open_resolver(f);
    *state = f;
    return 0;
}

static int tear_down(void **state) {
    struct fixture *f = (struct fixture *)*state;
    close_resolver(f);
    journal_free(f->journal);
    aid_maker_free(f->aids);
    keyring_free(f->keyring);
    kit_dir_remove(f->dir);
    free(f);
    return 0;
}

/* -- events as ingest would put them ----------------------------------------------------------- */

static struct json_token tokens[LIMIT_EVENT_TOKENS];
static uint8_t sent_by = PROTOCOL_MIXPANEL;

static struct span space_of(uint16_t source) {
    return source == SOURCE_OTHER_SPACE ? SPAN_LIT("eu") : SPAN_NONE;
}

/*
 * Reads the primary id and whether there are others from the JSON, as the protocol's decoder does.
 */
static void read_ids(struct fixture *f, uint16_t source, struct record_event *event) {
    size_t count = 0;
    size_t offset = 0;
    assert_int_equal(json_parse(event->json, 32, tokens, LIMIT_EVENT_TOKENS, &count, &offset), 0);
    uint8_t memory[4096];
    struct buf scratch = buf_of(memory, sizeof(memory));
    const struct protocol_ops *protocol = protocol_by_id(sent_by);
    struct person_iter it;
    struct person_ref ref;
    struct aid first = {{0}};
    int best = 99;
    protocol->person_begin(&it, event->json, tokens, 0, (enum event_kind)event->kind, &scratch);
    while (protocol->person_next(&it, &ref)) {
        struct aid aid;
        aid_make(f->aids, space_of(source), ref.id, &aid);
        int rank = ref.kind == PERSON_DISTINCT ? 1
                   : ref.kind == PERSON_USER   ? 2
                   : ref.kind == PERSON_DEVICE ? 3
                                               : 50;
        if (rank < best && rank < 50) {
            best = rank;
            event->aid = aid;
        }
        if (aid_is_zero(&first)) {
            first = aid;
        } else if (memcmp(first.b, aid.b, 16) != 0) {
            event->flags |= EVENT_HAS_LINKS;
        }
    }
}

/* Journals one event and returns its seq. */
static uint64_t put_event(struct fixture *f, uint16_t source, uint8_t kind, const char *json) {
    struct record_event event = {.kind = kind, .json = span_str(json)};
    read_ids(f, source, &event);
    const struct record_request request = {.protocol = sent_by,
                                           .kind = 1,
                                           .source = source,
                                           .events = 1,
                                           .received_us = f->received_us};
    struct journal_writer *writer = journal_writer_of(f->journal, 0);
    assert_int_equal(journal_writer_put(writer, &request, &event, 1, 0), 0);
    journal_writer_flush(writer);
    int result = 1;
    kit_wait(writer, 1, &result, 1);
    assert_int_equal(result, 0);
    return journal_durable_seq(f->journal);
}

static uint64_t track(struct fixture *f, uint16_t source, const char *format, ...) BH_PRINTF(3, 4);
static uint64_t track(struct fixture *f, uint16_t source, const char *format, ...) {
    char properties[512];
    char json[700];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(properties, sizeof(properties), format, args);
    va_end(args);
    (void)snprintf(json, sizeof(json), "{\"event\":\"Step\",\"properties\":{%s}}", properties);
    return put_event(f, source, EVENT_TRACK, json);
}

static uint64_t identify(struct fixture *f, uint16_t source, const char *user,
                         const char *anonymous) {
    char json[512];
    (void)snprintf(
        json, sizeof(json),
        "{\"event\":\"$identify\",\"properties\":{\"distinct_id\":\"%s\",\"$anon_distinct_id\":\"%s\"}}",
        user, anonymous);
    return put_event(f, source, EVENT_IDENTIFY, json);
}

static uint64_t alias(struct fixture *f, uint16_t source, const char *id, const char *other) {
    char json[512];
    (void)snprintf(
        json, sizeof(json),
        "{\"event\":\"$create_alias\",\"properties\":{\"distinct_id\":\"%s\",\"alias\":\"%s\"}}",
        id, other);
    return put_event(f, source, EVENT_ALIAS, json);
}

static uint64_t merge(struct fixture *f, uint16_t source, const char *id, const char *other) {
    char json[512];
    (void)snprintf(json, sizeof(json),
                   "{\"event\":\"$merge\",\"properties\":{\"$distinct_ids\":[\"%s\",\"%s\"]}}", id,
                   other);
    return put_event(f, source, EVENT_MERGE, json);
}

static void wait_for(struct fixture *f, uint64_t seq) {
    uint64_t until = os_mono_us() + 20000000;
    while (resolver_seq(f->resolver) < seq) {
        assert_true(os_mono_us() < until);
        os_sleep_us(200);
    }
}

static void resolve_all(struct fixture *f) {
    wait_for(f, journal_durable_seq(f->journal));
}

static uint32_t ord_of(struct fixture *f, uint16_t source, const char *id) {
    struct aid aid;
    struct resolve_row row;
    aid_make(f->aids, space_of(source), span_str(id), &aid);
    return resolve_lookup(f->view, &aid, &row) == 0 ? row.ord : 0;
}

static uint32_t root_of(struct fixture *f, const char *id, uint64_t at_seq) {
    uint32_t ord = ord_of(f, SOURCE_BROWSER, id);
    assert_int_not_equal(ord, 0);
    return resolve_root(f->view, ord, at_seq);
}

/* -- ids --------------------------------------------------------------------------------------- */

static void aids_tell_spaces_apart(void **state) {
    struct fixture *f = (struct fixture *)*state;
    struct aid a;
    struct aid b;
    aid_make(f->aids, SPAN_NONE, SPAN_LIT("u1"), &a);
    aid_make(f->aids, SPAN_LIT(""), SPAN_LIT("u1"), &b);
    assert_memory_equal(a.b, b.b, 16);
    aid_make(f->aids, SPAN_LIT("eu"), SPAN_LIT("u1"), &b);
    assert_memory_not_equal(a.b, b.b, 16);
    aid_make(f->aids, SPAN_LIT("e"), SPAN_LIT("uu1"), &b);
    assert_memory_not_equal(a.b, b.b, 16);
    struct aid_maker *again = aid_maker_new(f->keyring);
    aid_make(again, SPAN_NONE, SPAN_LIT("u1"), &b);
    assert_memory_equal(a.b, b.b, 16);
    uint64_t dedupe = aid_dedupe(again, 1, SPAN_LIT("x"));
    assert_true(dedupe != 0 && dedupe == aid_dedupe(f->aids, 1, SPAN_LIT("x")));
    assert_true(dedupe != aid_dedupe(f->aids, 2, SPAN_LIT("x")));
    aid_maker_free(again);
}

static void new_ids_get_dense_numbers_that_stay(void **state) {
    struct fixture *f = (struct fixture *)*state;
    assert_int_equal(resolver_start(f->resolver), 0);
    (void)track(
        f, SOURCE_BROWSER,
        "\"distinct_id\":\"$device:0d1c0000-0000-4000-8000-0000000000d1\",\"$device_id\":\"0d1c0000-0000-4000-8000-0000000000d1\"");
    uint64_t second = track(f, SOURCE_SERVER, "\"distinct_id\":\"u1\"");
    (void)track(f, SOURCE_SERVER, "\"distinct_id\":42");
    (void)track(f, SOURCE_SERVER, "\"x\":1"); /* nobody */
    (void)track(f, SOURCE_BROWSER, "\"distinct_id\":\"u1\"");
    (void)track(f, SOURCE_OTHER_SPACE, "\"distinct_id\":\"u\\u0031\"");
    resolve_all(f);
    struct resolve_row rows[2];
    for (int run = 0; run < 2; run++) {
        assert_int_equal(resolve_view_begin(f->view), 0);
        assert_int_equal(resolve_ord_count(f->view), 4);
        assert_int_equal(ord_of(f, SOURCE_BROWSER, "0d1c0000-0000-4000-8000-0000000000d1"), 1);
        assert_int_equal(ord_of(f, SOURCE_SERVER, "u1"), 2);
        assert_int_equal(ord_of(f, SOURCE_SERVER, "42"), 3);
        assert_int_equal(ord_of(f, SOURCE_OTHER_SPACE, "u1"), 4);
        assert_int_equal(ord_of(f, SOURCE_SERVER, "u2"), 0);
        struct aid aid;
        assert_int_equal(resolve_by_ord(f->view, 2, &rows[run], &aid), 0);
        assert_int_equal(rows[run].first_seq, second);
        assert_int_equal(rows[run].source, SOURCE_SERVER);
        assert_int_equal(resolve_by_ord(f->view, 5, &rows[run], &aid), BH_E_NOTFOUND);
        uint8_t memory[64];
        struct buf b = buf_of(memory, sizeof(memory));
        assert_int_equal(resolve_id_text(f->view, 4, &b), 0);
        assert_true(span_is(buf_span(&b), "u1"));
        assert_int_equal(resolve_id_text(f->view, 3, &b), 0);
        assert_true(span_is(buf_span(&b), "u142"));
        struct buf small = buf_of(memory, 1);
        assert_int_equal(resolve_id_text(f->view, 1, &small), BH_E_FULL);
        resolve_view_end(f->view);
        close_resolver(f);
        open_resolver(f);
        assert_int_equal(resolver_seq(f->resolver), journal_durable_seq(f->journal));
    }
    assert_memory_equal(rows[0].lid, rows[1].lid, 16);
    assert_memory_equal(rows[0].r, rows[1].r, 16);
}

static void a_row_that_came_later_is_excess_for_what_was_before(void **state) {
    struct fixture *f = (struct fixture *)*state;
    assert_int_equal(resolver_start(f->resolver), 0);
    uint64_t seqs[8];
    char id[16];
    for (unsigned i = 0; i < 5; i++) {
        (void)snprintf(id, sizeof(id), "q%u", i);
        seqs[i] = track(f, SOURCE_LIMITED, "\"distinct_id\":\"%s\"", id);
    }
    resolve_all(f);
    struct resolver_stats stats;
    resolver_stats(f->resolver, &stats);
    assert_int_equal(stats.people, 3);
    assert_int_equal(stats.quota_events, 2);
    f->received_us += (uint64_t)3600 * 1000000;
    uint64_t later = track(f, SOURCE_LIMITED, "\"distinct_id\":\"q4\"");
    resolve_all(f);
    assert_int_equal(resolve_view_begin(f->view), 0);
    struct aid aid;
    struct resolve_row row;
    aid_make(f->aids, SPAN_NONE, SPAN_LIT("q4"), &aid);
    assert_int_equal(resolve_lookup_event(f->view, &aid, later, &row), 0);
    assert_int_equal(row.ord, 4);
    assert_int_equal(row.is_quota_excess, 0);
    assert_int_equal(resolve_lookup_event(f->view, &aid, seqs[4], &row), 0);
    assert_int_equal(row.ord, 0);
    assert_int_equal(row.is_quota_excess, 1);
    aid_make(f->aids, SPAN_NONE, SPAN_LIT("q3"), &aid);
    assert_int_equal(resolve_lookup(f->view, &aid, &row), BH_E_NOTFOUND);
    assert_int_equal(resolve_lookup_event(f->view, &aid, seqs[3], &row), 0);
    assert_int_equal(row.is_quota_excess, 1);
    resolve_view_end(f->view);
}

static void a_quota_survives_a_restart(void **state) {
    struct fixture *f = (struct fixture *)*state;
    assert_int_equal(resolver_start(f->resolver), 0);
    (void)track(f, SOURCE_LIMITED, "\"distinct_id\":\"a\"");
    (void)track(f, SOURCE_LIMITED, "\"distinct_id\":\"b\"");
    resolve_all(f);
    close_resolver(f);
    open_resolver(f);
    assert_int_equal(resolver_start(f->resolver), 0);
    (void)track(f, SOURCE_LIMITED, "\"distinct_id\":\"c\"");
    (void)track(f, SOURCE_LIMITED, "\"distinct_id\":\"d\"");
    (void)track(f, SOURCE_BROWSER, "\"distinct_id\":\"e\"");
    resolve_all(f);
    assert_int_equal(resolve_view_begin(f->view), 0);
    assert_int_equal(ord_of(f, SOURCE_LIMITED, "c"), 3);
    assert_int_equal(ord_of(f, SOURCE_LIMITED, "d"), 0);
    assert_int_equal(ord_of(f, SOURCE_BROWSER, "e"), 4);
    resolve_view_end(f->view);
}

/* -- links ------------------------------------------------------------------------------------- */

static void a_device_joins_its_first_user_only(void **state) {
    struct fixture *f = (struct fixture *)*state;
    assert_int_equal(resolver_start(f->resolver), 0);
    uint64_t visit = track(
        f, SOURCE_BROWSER,
        "\"distinct_id\":\"$device:0d1c0000-0000-4000-8000-0000000000d1\",\"$device_id\":\"0d1c0000-0000-4000-8000-0000000000d1\"");
    uint64_t login =
        identify(f, SOURCE_BROWSER, "u1", "$device:0d1c0000-0000-4000-8000-0000000000d1");
    (void)track(
        f, SOURCE_BROWSER,
        "\"distinct_id\":\"u1\",\"$device_id\":\"0d1c0000-0000-4000-8000-0000000000d1\",\"$user_id\":\"u1\"");
    (void)track(
        f, SOURCE_BROWSER,
        "\"distinct_id\":\"u2\",\"$device_id\":\"0d1c0000-0000-4000-8000-0000000000d1\",\"$user_id\":\"u2\"");
    resolve_all(f);
    assert_int_equal(resolve_view_begin(f->view), 0);
    assert_int_not_equal(root_of(f, "0d1c0000-0000-4000-8000-0000000000d1", visit),
                         root_of(f, "u1", visit));
    assert_int_equal(root_of(f, "0d1c0000-0000-4000-8000-0000000000d1", login),
                     root_of(f, "u1", login));
    assert_int_equal(root_of(f, "0d1c0000-0000-4000-8000-0000000000d1", UINT64_MAX),
                     root_of(f, "u1", UINT64_MAX));
    assert_int_not_equal(root_of(f, "u2", UINT64_MAX), root_of(f, "u1", UINT64_MAX));
    resolve_view_end(f->view);
}

static void a_browser_joins_no_users(void **state) {
    struct fixture *f = (struct fixture *)*state;
    assert_int_equal(resolver_start(f->resolver), 0);
    (void)track(f, SOURCE_SERVER, "\"distinct_id\":\"victim\"");
    (void)alias(f, SOURCE_BROWSER, "attacker", "victim");
    (void)merge(f, SOURCE_BROWSER, "attacker", "victim");
    /* Whose id is known as a user's is no device, whatever field it stands in. */
    (void)identify(f, SOURCE_BROWSER, "attacker", "victim");
    (void)identify(f, SOURCE_BROWSER, "attacker", "$device:victim");
    (void)track(f, SOURCE_BROWSER, "\"distinct_id\":\"attacker\",\"$device_id\":\"victim\"");
    (void)track(f, SOURCE_SERVER, "\"distinct_id\":\"p1\",\"alias\":\"gold\"");
    (void)track(f, SOURCE_SERVER, "\"distinct_id\":\"p2\",\"alias\":\"gold\"");
    resolve_all(f);
    assert_int_equal(resolve_view_begin(f->view), 0);
    assert_int_not_equal(root_of(f, "attacker", UINT64_MAX), root_of(f, "victim", UINT64_MAX));
    assert_int_not_equal(root_of(f, "p1", UINT64_MAX), root_of(f, "p2", UINT64_MAX));
    resolve_view_end(f->view);
    uint64_t seq = alias(f, SOURCE_SERVER, "attacker", "victim");
    resolve_all(f);
    assert_int_equal(resolve_view_begin(f->view), 0);
    assert_int_not_equal(root_of(f, "attacker", seq - 1), root_of(f, "victim", seq - 1));
    assert_int_equal(root_of(f, "attacker", seq), root_of(f, "victim", seq));
    resolve_view_end(f->view);
}

/* Numbered and named accounts that have not come yet are not somebody's devices because a page says so. */
static void a_browser_joins_no_account_to_come(void **state) {
    struct fixture *f = (struct fixture *)*state;
    static const char *const accounts[] = {"1001", "jane@example.com", "cafe", "user-77"};
    assert_int_equal(resolver_start(f->resolver), 0);
    for (size_t i = 0; i < BH_COUNT(accounts); i++) {
        char device[64];
        (void)snprintf(device, sizeof(device), "$device:%s", accounts[i]);
        (void)identify(f, SOURCE_BROWSER, "attacker", accounts[i]);
        (void)identify(f, SOURCE_BROWSER, "attacker", device);
        (void)track(f, SOURCE_BROWSER,
                    "\"distinct_id\":\"attacker\",\"$user_id\":\"attacker\",\"$device_id\":\"%s\"",
                    accounts[i]);
        (void)track(f, SOURCE_SERVER, "\"distinct_id\":\"%s\"", accounts[i]);
    }
    (void)identify(f, SOURCE_SERVER, "owner", "kiosk-5");
    resolve_all(f);
    assert_int_equal(resolve_view_begin(f->view), 0);
    for (size_t i = 0; i < BH_COUNT(accounts); i++) {
        assert_int_not_equal(root_of(f, accounts[i], UINT64_MAX),
                             root_of(f, "attacker", UINT64_MAX));
    }
    assert_int_equal(root_of(f, "kiosk-5", UINT64_MAX), root_of(f, "owner", UINT64_MAX));
    resolve_view_end(f->view);
}

/* -- the twin: the rules of docs/format/resolve.md, word for word and slowly ------------------- */

struct twin_edge {
    unsigned a, b;
    bool binds;
    uint64_t seq;
};

struct twin {
    bool is_user[IDS_MAX];
    bool has_joined[IDS_MAX];
    struct twin_edge edges[8192];
    size_t edge_count;
};

struct twin_ref {
    unsigned id;
    bool shows_user;
    bool is_strong; /* $user_id */
};

static void twin_see(struct twin *twin, const struct twin_ref *refs, size_t count, bool trusted,
                     uint64_t seq) {
    for (size_t i = 0; i < count; i++) {
        twin->is_user[refs[i].id] = twin->is_user[refs[i].id] || refs[i].shows_user;
    }
    size_t hub = 0;
    for (size_t i = count; i-- > 0;) {
        hub = twin->is_user[refs[i].id] ? i : hub;
    }
    for (size_t i = 0; i < count; i++) {
        if (refs[i].is_strong) {
            hub = i;
        }
    }
    for (size_t i = 0; i < count; i++) {
        if (refs[i].id == refs[hub].id) {
            continue;
        }
        bool binds = trusted;
        if (twin->is_user[refs[hub].id] && !twin->is_user[refs[i].id]) {
            binds = !twin->has_joined[refs[i].id];
            twin->has_joined[refs[i].id] = true;
        }
        twin->edges[twin->edge_count++] = (struct twin_edge){refs[i].id, refs[hub].id, binds, seq};
    }
}

static bool twin_same(const struct twin *twin, unsigned a, unsigned b, uint64_t at_seq) {
    bool reached[IDS_MAX] = {false};
    reached[a] = true;
    for (bool grew = true; grew;) {
        grew = false;
        for (size_t i = 0; i < twin->edge_count; i++) {
            const struct twin_edge *edge = &twin->edges[i];
            if (edge->binds && edge->seq <= at_seq && reached[edge->a] != reached[edge->b]) {
                reached[edge->a] = reached[edge->b] = true;
                grew = true;
            }
        }
    }
    return reached[b];
}

/* Ids 0..23 are used as users, 24..47 as devices; now and then one in the other's place. */
static uint64_t random_event(struct fixture *f, struct twin *twin, struct random_kit *random) {
    unsigned u = (unsigned)random_kit_below(random, 24);
    unsigned v = (unsigned)random_kit_below(random, 24);
    unsigned d = random_kit_below(random, 10) == 0 ? (unsigned)random_kit_below(random, 24)
                                                   : 24 + (unsigned)random_kit_below(random, 24);
    uint16_t source = random_kit_below(random, 4) == 0 ? SOURCE_SERVER : SOURCE_BROWSER;
    bool trusted = source == SOURCE_SERVER;
    char us[40];
    char vs[40];
    char ds[48];
    (void)snprintf(us, sizeof(us), "1d%030u", u);
    (void)snprintf(vs, sizeof(vs), "1d%030u", v);
    (void)snprintf(ds, sizeof(ds), "$device:1d%030u", d);
    uint64_t seq = 0;
    struct twin_ref refs[2] = {{u, true, false}, {d, false, false}};
    size_t count = 2;
    switch (random_kit_below(random, 7)) {
    case 0:
        seq = track(f, source, "\"distinct_id\":\"%s\"", us);
        count = 1;
        break;
    case 1:
        seq = track(f, source, "\"distinct_id\":\"%s\",\"$device_id\":\"1d%030u\"", ds, d);
        refs[0] = refs[1];
        count = 1;
        break;
    case 2:
        seq = track(f, source, "\"$device_id\":\"1d%030u\",\"$user_id\":\"%s\"", d, us);
        refs[0] = (struct twin_ref){d, false, false};
        refs[1] = (struct twin_ref){u, true, true};
        break;
    case 3:
    case 4:
        seq = identify(f, source, us, ds);
        break;
    case 5:
        seq = alias(f, source, us, vs);
        refs[1] = (struct twin_ref){v, true, false};
        break;
    default:
        if (random_kit_below(random, 2) == 0) {
            seq = merge(f, source, us, vs);
            refs[1] = (struct twin_ref){v, true, false};
        } else {
            seq = merge(f, source, us, ds);
        }
        break;
    }
    twin_see(twin, refs, count, trusted, seq);
    return seq;
}

static void compare_with_twin(struct fixture *f, const struct twin *twin, uint64_t at_seq) {
    static uint32_t roots[IDS_MAX * 4];
    uint32_t count = resolve_ord_count(f->view);
    assert_true(count + 1 < BH_COUNT(roots));
    roots[count + 1] = 77; /* nothing is written past the size */
    assert_int_equal(resolve_roots(f->view, at_seq, roots, count + 1), 0);
    assert_int_equal(roots[count + 1], 77);
    uint32_t ords[IDS_MAX];
    char id[40];
    for (unsigned i = 0; i < 48; i++) {
        (void)snprintf(id, sizeof(id), "1d%030u", i);
        ords[i] = ord_of(f, SOURCE_BROWSER, id);
        if (ords[i] != 0) {
            assert_int_equal(resolve_root(f->view, ords[i], at_seq), roots[ords[i]]);
        }
    }
    for (unsigned i = 0; i < 48; i++) {
        for (unsigned k = i + 1; k < 48; k++) {
            if (ords[i] != 0 && ords[k] != 0) {
                bool same = roots[ords[i]] == roots[ords[k]];
                assert_int_equal(same, twin_same(twin, i, k, at_seq));
            }
        }
    }
}

static void links_equal_the_twin(void **state) {
    struct fixture *f = (struct fixture *)*state;
    struct random_kit random = {random_kit_seed(11)};
    struct twin *twin = (struct twin *)calloc(1, sizeof(*twin));
    assert_non_null(twin);
    assert_int_equal(resolver_start(f->resolver), 0);
    for (unsigned round = 0; round < 8; round++) {
        for (unsigned i = 0; i < 40; i++) {
            (void)random_event(f, twin, &random);
        }
        resolve_all(f);
        assert_int_equal(resolve_view_begin(f->view), 0);
        uint64_t last = journal_durable_seq(f->journal);
        compare_with_twin(f, twin, UINT64_MAX);
        compare_with_twin(f, twin, random_kit_below(&random, last));
        resolve_view_end(f->view);
        if (round % 3 == 2) {
            close_resolver(f);
            open_resolver(f);
            assert_int_equal(resolver_start(f->resolver), 0);
        }
    }
    free(twin);
}

/* -- once more --------------------------------------------------------------------------------- */

/* All rows of all tables but the cursor, as one hash. */
static uint64_t hash_tables(struct fixture *f) {
    MDB_txn *txn = NULL;
    assert_int_equal(mdb_txn_begin(f->resolver->store.env, NULL, MDB_RDONLY, &txn), 0);
    const struct store *store = &f->resolver->store;
    const MDB_dbi tables[] = {store->alias, store->ord,      store->text,
                              store->edge,  store->distinct, store->meta};
    uint64_t hash = 0;
    for (size_t i = 0; i < BH_COUNT(tables); i++) {
        MDB_cursor *cursor = NULL;
        MDB_val key;
        MDB_val value;
        assert_int_equal(mdb_cursor_open(txn, tables[i], &cursor), 0);
        while (mdb_cursor_get(cursor, &key, &value, MDB_NEXT) == 0) {
            if (!span_is(span_of(key.mv_data, key.mv_size), "cursor")) {
                hash = hash64(key.mv_data, key.mv_size, hash + i);
                hash = hash64(value.mv_data, value.mv_size, hash);
            }
        }
        mdb_cursor_close(cursor);
    }
    mdb_txn_abort(txn);
    return hash;
}

static void set_cursor(struct fixture *f, uint64_t seq) {
    MDB_txn *txn = NULL;
    const uint64_t values[2] = {seq, 0};
    assert_int_equal(mdb_txn_begin(f->resolver->store.env, NULL, 0, &txn), 0);
    assert_int_equal(store_put_meta(&f->resolver->store, txn, "cursor", values), 0);
    assert_int_equal(mdb_txn_commit(txn), 0);
}

static const struct resolve_distinct *colours(uint32_t limit) {
    static struct resolve_distinct property;
    property = (struct resolve_distinct){
        .property = hash64("colour", 6, 0), .limit = limit, .name = "colour"};
    return &property;
}

static void running_again_changes_nothing(void **state) {
    struct fixture *f = (struct fixture *)*state;
    struct random_kit random = {random_kit_seed(12)};
    struct twin *twin = (struct twin *)calloc(1, sizeof(*twin));
    assert_non_null(twin);
    resolver_set_distinct(f->resolver, colours(5), 1);
    assert_int_equal(resolver_start(f->resolver), 0);
    for (unsigned i = 0; i < 200; i++) {
        (void)random_event(f, twin, &random);
        (void)track(f, SOURCE_LIMITED, "\"distinct_id\":\"new%u\",\"colour\":\"c%u\"", i,
                    (unsigned)random_kit_below(&random, 9));
    }
    resolve_all(f);
    resolver_stop(f->resolver);
    uint64_t hash = hash_tables(f);
    uint64_t closed = resolve_distinct_closed_at(f->view, colours(5)->property);
    assert_true(closed != UINT64_MAX);
    for (unsigned run = 0; run < 3; run++) {
        set_cursor(f,
                   1 + random_kit_below(&random, run == 0 ? 1 : journal_durable_seq(f->journal)));
        close_resolver(f);
        open_resolver(f);
        resolver_set_distinct(f->resolver, colours(5), 1);
        assert_int_equal(resolver_start(f->resolver), 0);
        resolve_all(f);
        resolver_stop(f->resolver);
        assert_int_equal(hash_tables(f), hash);
        assert_int_equal(resolve_distinct_closed_at(f->view, colours(5)->property), closed);
    }
    free(twin);
}

/* -- distinct values --------------------------------------------------------------------------- */

static void distinct_values_close_at_the_first_over_the_limit(void **state) {
    struct fixture *f = (struct fixture *)*state;
    uint64_t property = colours(3)->property;
    resolver_set_distinct(f->resolver, colours(3), 1);
    assert_int_equal(resolver_start(f->resolver), 0);
    assert_int_equal(resolve_distinct_closed_at(f->view, property), UINT64_MAX);
    (void)track(f, SOURCE_BROWSER, "\"colour\":\"red\",\"size\":\"1\"");
    (void)track(f, SOURCE_BROWSER, "\"colour\":[\"red\",\"green\"],\"deep\":{\"colour\":\"no\"}");
    (void)track(f, SOURCE_BROWSER, "\"colour\":\"r\\u0065d\"");
    uint64_t third = track(f, SOURCE_BROWSER, "\"colour\":7");
    resolve_all(f);
    assert_int_equal(resolve_distinct_closed_at(f->view, property), UINT64_MAX);
    uint64_t fourth = track(f, SOURCE_BROWSER, "\"c\\u006flour\":true");
    (void)track(f, SOURCE_BROWSER, "\"colour\":\"blue\"");
    resolve_all(f);
    assert_int_equal(resolve_distinct_closed_at(f->view, property), fourth);
    /*
     * A lower limit is passed earlier, while it runs and after a restart; a higher one opens again.
     */
    resolver_set_distinct(f->resolver, colours(2), 1);
    assert_int_equal(resolve_distinct_closed_at(f->view, property), third);
    close_resolver(f);
    open_resolver(f);
    resolver_set_distinct(f->resolver, colours(2), 1);
    assert_int_equal(resolve_distinct_closed_at(f->view, property), third);
    resolver_set_distinct(f->resolver, colours(4), 1);
    assert_int_equal(resolver_start(f->resolver), 0);
    assert_int_equal(resolve_distinct_closed_at(f->view, property), UINT64_MAX);
    (void)track(f, SOURCE_BROWSER, "\"colour\":\"red\"");
    uint64_t fifth = track(f, SOURCE_BROWSER, "\"colour\":\"blue\"");
    resolve_all(f);
    assert_int_equal(resolve_distinct_closed_at(f->view, property), fifth);
}

/* Where an event says a profile update, a trait lies in an object of its properties: it is counted all the same. */
static void distinct_values_of_an_operation_in_properties(void **state) {
    struct fixture *f = (struct fixture *)*state;
    resolver_set_distinct(f->resolver, colours(2), 1);
    assert_int_equal(resolver_start(f->resolver), 0);
    sent_by = PROTOCOL_POSTHOG;
    (void)track(f, SOURCE_BROWSER, "\"$set\":{\"colour\":\"red\"},\"x\":{\"colour\":\"no\"}");
    (void)track(f, SOURCE_BROWSER,
                "\"$set_once\":{\"colour\":\"green\",\"deep\":{\"colour\":\"no\"}}");
    uint64_t third = track(f, SOURCE_BROWSER, "\"colour\":\"red\",\"$set\":{\"colour\":\"blue\"}");
    sent_by = PROTOCOL_MIXPANEL;
    resolve_all(f);
    assert_int_equal(resolve_distinct_closed_at(f->view, colours(2)->property), third);
}

/* One property more than there is room for, with a known one behind it. */
static void properties_without_room_are_closed(void **state) {
    struct fixture *f = (struct fixture *)*state;
    enum { COUNT = DISTINCT_MAX + 2 };
    struct resolve_distinct *wanted = (struct resolve_distinct *)calloc(COUNT, sizeof(*wanted));
    assert_non_null(wanted);
    for (unsigned i = 0; i + 1 < COUNT; i++) {
        int n = snprintf(wanted[i].name, sizeof(wanted[i].name), "colour%u", i);
        wanted[i].property = hash64(wanted[i].name, (size_t)n, 0);
        wanted[i].limit = 1;
    }
    wanted[COUNT - 1] = wanted[0];
    assert_int_equal(resolve_distinct_closed_at(f->view, wanted[0].property), 0);
    resolver_set_distinct(f->resolver, wanted, COUNT);
    assert_int_equal(resolve_distinct_closed_at(f->view, wanted[0].property), UINT64_MAX);
    assert_int_equal(resolve_distinct_closed_at(f->view, wanted[DISTINCT_MAX].property), 0);
    /* A later plan starts with one more than there is room for; the old ones are counted on. */
    resolver_set_distinct(f->resolver, wanted + DISTINCT_MAX, 2);
    assert_int_equal(resolver_start(f->resolver), 0);
    (void)track(f, SOURCE_BROWSER, "\"colour0\":\"red\",\"colour256\":\"red\"");
    uint64_t second = track(f, SOURCE_BROWSER, "\"colour0\":\"blue\"");
    resolve_all(f);
    assert_int_equal(resolve_distinct_closed_at(f->view, wanted[0].property), second);
    assert_int_equal(resolve_distinct_closed_at(f->view, wanted[DISTINCT_MAX].property), 0);
    free(wanted);
}

/* -- offline, and without space ---------------------------------------------------------------- */

static void answers_read_while_no_daemon_runs(void **state) {
    struct fixture *f = (struct fixture *)*state;
    assert_int_equal(resolver_start(f->resolver), 0);
    (void)identify(f, SOURCE_BROWSER, "u1", "$device:0d1c0000-0000-4000-8000-0000000000d1");
    resolve_all(f);
    close_resolver(f);
    const struct resolve_config config = {.dir = f->resolve_dir, .keyring = f->keyring};
    struct err err = {0};
    assert_int_equal(resolver_open(&config, &f->resolver, &err), 0);
    assert_int_equal(resolve_view_new(f->resolver, &f->view), 0);
    assert_int_equal(resolve_view_begin(f->view), 0);
    assert_int_equal(resolve_ord_count(f->view), 2);
    assert_int_equal(root_of(f, "u1", UINT64_MAX),
                     root_of(f, "0d1c0000-0000-4000-8000-0000000000d1", UINT64_MAX));
    uint8_t memory[64];
    struct buf b = buf_of(memory, sizeof(memory));
    assert_int_equal(
        resolve_id_text(f->view, ord_of(f, SOURCE_BROWSER, "0d1c0000-0000-4000-8000-0000000000d1"),
                        &b),
        0);
    assert_true(span_is(buf_span(&b), "0d1c0000-0000-4000-8000-0000000000d1"));
    resolve_view_end(f->view);
    resolve_view_free(f->view);
    resolver_free(f->resolver);
    open_resolver(f);
}

/* The journal syncs and writes, too: its frames are durable before the disk is made to fail. */
static void no_space_for_slots_is_waited_for(void **state) {
    struct fixture *f = (struct fixture *)*state;
    (void)track(f, SOURCE_BROWSER, "\"distinct_id\":\"u1\"");
    (void)identify(f, SOURCE_BROWSER, "u1", "$device:0d1c0000-0000-4000-8000-0000000000d1");
    kit_disk_install(
        &(struct kit_disk){.call = KIT_WRITE, .nth = 1, .stays = true, .error = 28 /* ENOSPC */});
    assert_int_equal(resolver_start(f->resolver), 0);
    struct resolver_stats stats = {0};
    uint64_t until = os_mono_us() + 10000000;
    while (!stats.is_out_of_space && os_mono_us() < until) {
        os_sleep_us(10000);
        resolver_stats(f->resolver, &stats);
    }
    assert_true(stats.is_out_of_space);
    assert_int_equal(resolver_seq(f->resolver), 0);
    assert_int_equal(stats.people, 0);
    kit_disk_set(NULL);
    resolve_all(f);
    resolver_stats(f->resolver, &stats);
    assert_int_equal(stats.people, 2);
    assert_int_equal(resolve_view_begin(f->view), 0);
    assert_int_equal(root_of(f, "0d1c0000-0000-4000-8000-0000000000d1", UINT64_MAX),
                     root_of(f, "u1", UINT64_MAX));
    resolve_view_end(f->view);
    resolver_stop(f->resolver);
    resolver_stats(f->resolver, &stats);
    assert_false(stats.is_out_of_space);
    kit_disk_remove();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(aids_tell_spaces_apart, set_up, tear_down),
        cmocka_unit_test_setup_teardown(new_ids_get_dense_numbers_that_stay, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_row_that_came_later_is_excess_for_what_was_before, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_quota_survives_a_restart, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_device_joins_its_first_user_only, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_browser_joins_no_users, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_browser_joins_no_account_to_come, set_up, tear_down),
        cmocka_unit_test_setup_teardown(links_equal_the_twin, set_up, tear_down),
        cmocka_unit_test_setup_teardown(running_again_changes_nothing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(distinct_values_close_at_the_first_over_the_limit, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(distinct_values_of_an_operation_in_properties, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(properties_without_room_are_closed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(answers_read_while_no_daemon_runs, set_up, tear_down),
        cmocka_unit_test_setup_teardown(no_space_for_slots_is_waited_for, set_up, tear_down),
    };
    return cmocka_run_group_tests_name("resolve", tests, NULL, NULL);
}
