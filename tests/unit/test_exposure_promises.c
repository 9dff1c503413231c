/* Honest: an answer counts people, each once in a cell, by what was certain and what was possible, as the links stood then. */
/* depends: exposure ledger resolve journal inspect keyring seglog tlog protocol mixpanel wire json crypto model os base */
/* sources: journal_kit.c */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "unit/journal_kit.h"

#include "answer/exposure.h"
#include "flow/ledger/ledger.h"
#include "flow/ledger/ledger_leaf.h"
#include "model/class.h"
#include "model/form.h"
#include "os/clock.h"

/*
 * 0d1c0000-0000-4000-8000-0000000000d1 is an anonymous device, u1 signs up on it, u2 is somebody else:
 *
 *   seq 1  0d1c0000-0000-4000-8000-0000000000d1          ord 1
 *   seq 2  u2          ord 2
 *   seq 3  u1          ord 3
 *   seq 4  u1 is 0d1c0000-0000-4000-8000-0000000000d1    from here on the same person as ord 1
 *   seq 6  u3          ord 4, about whom nothing leaves
 *
 *   1000..1100  attempt 1, accepted   0d1c0000-0000-4000-8000-0000000000d1: id as pseudonym, behaviour raw       source web   seq 1, 2, 3
 *   2000..      attempt 2, unknown    u2: e-mail raw; u1: e-mail raw           source api   seq 4
 *   3000..3100  attempt 3, accepted   u1: e-mail raw; nobody: behaviour raw    source api   seq 5
 */
enum { WEB = 1, API = 2, ANON_ORD = 1, OTHER_ORD = 2, USER_ORD = 3 };

static char dir[128];
static char data[160];
static struct keyring *keyring;
static struct journal *journal;
static struct resolver *resolver;
static struct resolve_view *view;
static struct aid_maker *aids;
static char answer[65536];

static void put(uint8_t kind, const char *primary, const char *json) {
    struct record_event event = {.kind = kind,
                                 .flags = kind == EVENT_IDENTIFY ? EVENT_HAS_LINKS : 0,
                                 .json = span_str(json)};
    struct record_request request = {.protocol = PROTOCOL_MIXPANEL,
                                     .kind = 1,
                                     .source = WEB,
                                     .events = 1,
                                     .received_us = os_wall_us()};
    struct journal_writer *writer = journal_writer_of(journal, 0);
    int result = 1;
    aid_make(aids, SPAN_NONE, span_str(primary), &event.aid);
    assert_int_equal(journal_writer_put(writer, &request, &event, 1, 0), 0);
    journal_writer_flush(writer);
    kit_wait(writer, 1, &result, 1);
    assert_int_equal(result, 0);
}

static void resolve_all(void) {
    char folder[200];
    struct err err = {0};
    static const struct resolve_source sources[] = {{.number = WEB}};
    (void)snprintf(folder, sizeof folder, "%s/resolve", data);
    struct resolve_config config = {.dir = folder,
                                    .keyring = keyring,
                                    .journal = journal,
                                    .sources = sources,
                                    .source_count = 1,
                                    .map_size = 64 * 1024 * 1024};
    assert_int_equal(resolver_open(&config, &resolver, &err), 0);
    assert_int_equal(resolver_start(resolver), 0);
    uint64_t last = journal_durable_seq(journal);
    for (unsigned i = 0; i < 20000 && resolver_seq(resolver) < last; i++) {
        os_sleep_us(1000);
    }
    assert_int_equal(resolver_seq(resolver), last);
    resolver_stop(resolver);
    assert_int_equal(resolve_view_new(resolver, &view), 0);
}

static void attempt(struct ledger *ledger, uint64_t time_ms, uint64_t seq, uint32_t span,
                    const struct ledger_entry *entries, size_t count, uint8_t result) {
    struct ledger_attempt a = {.time_ms = time_ms,
                               .first_seq = seq,
                               .span = span,
                               .endpoint = 2,
                               .events = (uint32_t)count,
                               .entries = entries,
                               .entry_count = count};
    uint64_t number = 0;
    memset(a.body_sha256, (int)seq, sizeof a.body_sha256);
    assert_int_equal(ledger_attempt(ledger, &a, &number), 0);
    bool is_final = result == RESULT_ACCEPTED;
    struct ledger_outcome outcome = {
        .attempt = number,
        .time_ms = time_ms + 100,
        .result = result,
        .flags = is_final ? OUTCOME_ITEMS_FINAL | OUTCOME_WINDOW_SETTLED : 0};
    assert_int_equal(ledger_outcome(ledger, &outcome), 0);
    assert_int_equal(ledger_flush(ledger), 0);
}

static void write_ledger(void) {
    static const struct ledger_pair visit[] = {{CLASS_UNIQUE_ID, FORM_PSEUDONYM, 0},
                                               {CLASS_BEHAVIOR, FORM_RAW, 0}};
    static const struct ledger_pair email[] = {{CLASS_EMAIL, FORM_RAW, 0}};
    char folder[200];
    struct err err = {0};
    struct ledger_recovery recovery;
    struct ledger *ledger = NULL;
    (void)snprintf(folder, sizeof folder, "%s/ledger", data);
    struct ledger_config config = {.dir = folder, .vendor = "mixpanel", .keyring = keyring};
    assert_int_equal(ledger_open(&config, &ledger, &recovery, &err), 0);
    uint32_t visited = ledger_shape(ledger, WEB, visit, 2);
    uint32_t mailed = ledger_shape(ledger, API, email, 1);
    uint32_t nobody = ledger_shape(ledger, API, visit + 1, 1);
    const struct ledger_entry first[] = {{.ord = ANON_ORD, .shape = visited, .events = 1}};
    const struct ledger_entry second[] = {{.ord = OTHER_ORD, .shape = mailed, .events = 1},
                                          {.ord = USER_ORD, .shape = mailed, .events = 1}};
    const struct ledger_entry third[] = {{.ord = 0, .shape = nobody, .events = 7},
                                         {.ord = USER_ORD, .shape = mailed, .events = 1}};
    attempt(ledger, 1000, 1, 3, first, 1, RESULT_ACCEPTED);
    attempt(ledger, 2000, 4, 1, second, 2, RESULT_UNKNOWN);
    attempt(ledger, 3000, 5, 1, third, 2, RESULT_ACCEPTED);
    ledger_close(ledger);
}

static int set_up(void **state) {
    char journal_dir[160];
    (void)state;
    kit_dir_make(dir);
    (void)snprintf(data, sizeof data, "%s/data", dir);
    keyring = kit_keyring(dir);
    aids = aid_maker_new(keyring);
    struct journal_config config = kit_config(dir, keyring, journal_dir);
    journal = kit_open(&config, NULL);
    assert_int_equal(journal_start(journal), 0);
    put(EVENT_TRACK, "0d1c0000-0000-4000-8000-0000000000d1",
        "{\"event\":\"a\",\"properties\":{\"distinct_id\":\"$device:0d1c0000-0000-4000-8000-0000000000d1\",\"$device_id\":\"0d1c0000-0000-4000-8000-0000000000d1\"}}");
    put(EVENT_TRACK, "u2", "{\"event\":\"a\",\"properties\":{\"distinct_id\":\"u2\"}}");
    put(EVENT_TRACK, "u1", "{\"event\":\"a\",\"properties\":{\"distinct_id\":\"u1\"}}");
    put(EVENT_IDENTIFY, "u1",
        "{\"event\":\"$identify\",\"properties\":{\"distinct_id\":\"u1\",\"$anon_distinct_id\":\"0d1c0000-0000-4000-8000-0000000000d1\"}}");
    put(EVENT_TRACK, "u1", "{\"event\":\"a\",\"properties\":{\"distinct_id\":\"u1\"}}");
    put(EVENT_TRACK, "u3", "{\"event\":\"a\",\"properties\":{\"distinct_id\":\"u3\"}}");
    resolve_all();
    write_ledger();
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    resolve_view_free(view);
    resolver_free(resolver);
    journal_free(journal);
    aid_maker_free(aids);
    keyring_free(keyring);
    kit_dir_remove(dir);
    return 0;
}

static int keep(void *context, struct span bytes) {
    size_t *n = context;
    assert_true(*n + bytes.n < sizeof answer);
    memcpy(answer + *n, bytes.p, bytes.n);
    *n += bytes.n;
    answer[*n] = '\0';
    return 0;
}

static void ask(struct exposure_query query) {
    static const struct exposure_source sources[] = {{WEB, "web"}, {API, "api"}};
    struct err err = {0};
    size_t n = 0;
    query.vendor = "mixpanel";
    query.sources = sources;
    query.source_count = 2;
    query.to_ms = query.to_ms != 0 ? query.to_ms : UINT64_MAX;
    query.at_ms = query.at_ms != 0 ? query.at_ms : UINT64_MAX;
    assert_int_equal(resolve_view_begin(view), 0);
    int r = exposure_answer(data, keyring, view, aids, &query, keep, &n, &err);
    resolve_view_end(view);
    if (r != 0) {
        fail_msg("%d %s", r, err.text);
    }
}

static void says(const char *text) {
    if (strstr(answer, text) == NULL) {
        fail_msg("no %s in\n%s", text, answer);
    }
}

static void says_not(const char *text) {
    if (strstr(answer, text) != NULL) {
        fail_msg("%s in\n%s", text, answer);
    }
}

/* Two aliases are one person; who is certain in a cell is not possible in it too; records about nobody are nobody. */
static void people_are_counted_once(void **state) {
    (void)state;
    ask((struct exposure_query){.list = false});
    says("\"people\":{\"certain\":1,\"certain_clear\":1,\"possible\":1,\"none_recorded\":1}");
    says("\"user.contact.email\":{\"raw\":{\"certain\":1,\"possible\":1}}");
    says("\"user.behavior\":{\"raw\":{\"certain\":1,\"possible\":0}}");
    says("\"user.unique_id\":{\"pseudonym\":{\"certain\":1,\"possible\":0}}");
    says("\"web\":{\"certain\":1,\"possible\":0}");
    says("\"api\":{\"certain\":1,\"possible\":1}");
    says("7 records named no person");
}

/* The highest nodes without a cell: not those above or below one. */
static void what_was_not_disclosed_is_said(void **state) {
    (void)state;
    ask((struct exposure_query){.list = false});
    const char *list = strstr(answer, "\"not_disclosed\":[");
    assert_non_null(list);
    *strchr(list, ']') = '\0';
    assert_non_null(strstr(list, "\"user.demographic\""));
    assert_non_null(strstr(list, "\"user.contact.phone_number\""));
    assert_null(strstr(list, "\"user\""));
    assert_null(strstr(list, "\"user.contact\""));
    assert_null(strstr(list, "\"user.contact.email\""));
    assert_null(strstr(list, "\"user.demographic.race\""));
}

/* Behaviour and pseudonyms are not "in clear", and what was only possible is not either. */
static void in_clear_is_more_than_certain(void **state) {
    (void)state;
    ask((struct exposure_query){.to_ms = 3000});
    says("\"people\":{\"certain\":1,\"certain_clear\":0,\"possible\":1,\"none_recorded\":1}");
    says("\"user.contact.email\":{\"raw\":{\"certain\":0,\"possible\":2}}");
    says("no complete answer was read");
    ask((struct exposure_query){.to_ms = 2000});
    says("\"people\":{\"certain\":1,\"certain_clear\":0,\"possible\":0,\"none_recorded\":2}");
    says_not("no complete answer was read");
}

static void one_source_or_one_person(void **state) {
    (void)state;
    ask((struct exposure_query){.source = "web"});
    says("\"certain\":1,\"certain_clear\":0,\"possible\":0");
    says_not("user.contact.email\":{");
    ask((struct exposure_query){.subject = SPAN_LIT("u2")});
    says("\"people\":{\"certain\":0,\"certain_clear\":0,\"possible\":1,\"none_recorded\":0}");
    says_not("\"user.behavior\":{");
    /* By either of her ids, all of her. */
    ask((struct exposure_query){.subject =
                                    SPAN_LIT("$device:0d1c0000-0000-4000-8000-0000000000d1")});
    says("\"people\":{\"certain\":1,\"certain_clear\":1,\"possible\":0,\"none_recorded\":0}");
    says("\"user.behavior\":{\"raw\":{\"certain\":1,\"possible\":0}}");
    says("\"user.contact.email\":{\"raw\":{\"certain\":1,\"possible\":0}}");
}

/* The record as of a time just before the sign-up: three ids, and none of them known to be another's. */
static void as_of_then(void **state) {
    (void)state;
    ask((struct exposure_query){.at_ms = 1500});
    says("\"people\":{\"certain\":1,\"certain_clear\":0,\"possible\":0,\"none_recorded\":2}");
    says_not("user.contact.email\":{");
    ask((struct exposure_query){.at_ms = 1050});
    says("\"people\":{\"certain\":0,\"certain_clear\":0,\"possible\":1,\"none_recorded\":2}");
    ask((struct exposure_query){.at_ms = 2500});
    says("\"people\":{\"certain\":1,\"certain_clear\":0,\"possible\":1,\"none_recorded\":0}");
}

/* One line a person, with all her ids, before the whole. */
static void listed(void **state) {
    (void)state;
    ask((struct exposure_query){.list = true});
    says(
        "{\"person\":\"0d1c0000-0000-4000-8000-0000000000d1\",\"ids\":[\"0d1c0000-0000-4000-8000-0000000000d1\",\"u1\"],\"grade\":\"certain\",\"clear\":true,");
    says("{\"person\":\"u2\",\"ids\":[\"u2\"],\"grade\":\"possible\",\"clear\":false,"
         "\"classes\":{\"user.contact.email\":{\"raw\":\"possible\"}}");
    size_t lines = 0;
    for (const char *at = answer; *at != '\0'; at++) {
        lines += *at == '\n';
    }
    assert_int_equal(lines, 3);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(people_are_counted_once),
        cmocka_unit_test(what_was_not_disclosed_is_said),
        cmocka_unit_test(in_clear_is_more_than_certain),
        cmocka_unit_test(one_source_or_one_person),
        cmocka_unit_test(as_of_then),
        cmocka_unit_test(listed),
    };
    return cmocka_run_group_tests_name("exposure_promises", tests, set_up, tear_down);
}
