/*
 * Segment's and RudderStack's messages under the contract that `init` writes: by hand what matters, and every recorded message compared to the byte with
 * tests/golden/policy/segment-contract.txt (BH_GOLDEN=write writes it anew; the change is then read in review).
 */
/* depends: policy inspect segment mixpanel protocol wire http json crypto resolve model base */
/* sources: policy_keys.c policy_kit.c mixpanel_kit.c ../../src/cli/init_files.c */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/compiler.h"
#include "cli/init_files.h"
#include "model/class.h"
#include "protocol/segment/rudder.h"
#include "protocol/segment/segment.h"
#include "unit/mixpanel_kit.h"
#include "unit/policy_kit.h"

enum { OUT_MAX = 4 << 20, TOKENS_MAX = 1 << 16 };

#define HOME \
    "\"type\":\"page\",\"userId\":\"u1\",\"anonymousId\":\"6ba7b810-9dad-11d1-80b4-00c04fd430c8\""
#define IDS "user.unique_id: pseudonym\n  user.unique_id.pseudonymous: pseudonym\n"
#define PLAN                                                                                         \
    "events: { Run: {} }\nproperties: { name: { enum: [Home, Price] }, tokens: { type: number } }\n" \
    "traits: { plan: { enum: [pro] } }\n"

static struct json_token tokens[TOKENS_MAX];
static struct buf out;

static void check_has(const char *text, const char *part, bool has) {
    if ((strstr(text, part) != NULL) != has) {
        fail_msg("%s in %s: %s expected", part, text, has ? "is" : "is not");
    }
}

static const char *under(const char *allow, const char *item) {
    static char kept[65536];
    struct ruleset *rules = policy_kit_allow(allow, "time: second\n", PLAN);
    (void)snprintf(kept, sizeof kept, "%s", policy_kit_out(rules, "/v1/track", item));
    ruleset_free(rules);
    return kept;
}

static void test_pages(void **state) {
    (void)state;
    const char *sent = under(
        "  " IDS "  user.behavior: raw\n  user.behavior.browsing_history: { coarse: path }\n",
        "{" HOME
        ",\"name\":\"Home\",\"category\":\"Jo Winter\",\"timestamp\":\"2026-09-21T13:03:20.456Z\","
        "\"messageId\":\"m1\",\"sentAt\":\"2026-09-21T13:03:20.456Z\",\"writeKey\":\"k\","
        "\"integrations\":{\"All\":true,\"Mixpanel\":{\"id\":\"u1\"}},"
        "\"properties\":{\"name\":\"Home\",\"other\":\"x\",\"path\":\"/a\"},"
        "\"context\":{\"consent\":{\"categoryPreferences\":{\"ads\":true}},"
        "\"page\":{\"url\":\"https://app.example.com/a/7?email=jo@example.com\",\"title\":\"Jo\"}}}");
    check_has(sent, "\"type\":\"page\"", true);
    check_has(sent, "\"properties\":{\"name\":\"Home\",\"path\":\"/a\"}", true);
    check_has(sent, "\"url\":\"https://app.example.com/a/:id\"", true);
    check_has(sent, ",\"timestamp\":\"2026-09-21T14:13:20.000Z\",\"messageId\":\"", true);
    static const char *const gone[] = {"Jo",      "u1", "6ba7",   "k\"", "integrations",
                                       "consent", "m1", "sentAt", "456", "other"};
    for (size_t i = 0; i < BH_COUNT(gone); i++) {
        check_has(sent, gone[i], false);
    }
    check_has(sent, "\"name\":\"Home\"", true);
    /* An event that calls itself a page is still named by its own word. */
    check_has(under("  " IDS "  user.behavior: raw\n", "{" HOME ",\"event\":\"Jo Winter\"}"),
              "null", true);
}

/* Nobody is no message to this vendor, and a device alone is nobody. */
static void test_who(void **state) {
    (void)state;
    const char *device = "  user.device.device_id: pseudonym\n  user.behavior: raw\n";
    assert_string_equal(
        under(device, "{" HOME ",\"context\":{\"device\":{\"id\":\"d\"},\"groupId\":\"g\"}}"),
        "null");
    assert_string_equal(under("  user.workplace: pseudonym\n  user.behavior: raw\n",
                              "{" HOME ",\"context\":{\"groupId\":\"g\"}}"),
                        "null");
    check_has(
        under("  user.unique_id.pseudonymous: pseudonym\n  user.behavior: raw\n", "{" HOME "}"),
        "anonymousId", true);
    const char *twice = under("  " IDS "  user.behavior: raw\n", "{" HOME ",\"userId\":\"u2\"}");
    assert_string_equal(twice, "null");
}

#define IDENTIFY "{\"type\":\"identify\",\"userId\":\"u1\",\"anonymousId\":\"a1\""
#define GROUP    "{\"type\":\"group\",\"userId\":\"u1\",\"groupId\":\"g1\""

static void test_profiles(void **state) {
    (void)state;
    const char *sent =
        under("  " IDS "  user.behavior: raw\n",
              IDENTIFY ",\"traits\":{\"email\":\"jo@example.com\",\"plan\":\"pro\",\"x\":\"y\"},"
                       "\"context\":{\"traits\":{\"email\":\"jo@example.com\",\"plan\":\"pro\"}}}");
    check_has(sent, "\"traits\":{\"plan\":\"pro\"},\"context\":{\"traits\":{\"plan\":\"pro\"}}",
              true);
    check_has(sent, "@", false);
    /* The link of two ids says something by itself; one id does not. */
    check_has(under("  " IDS, IDENTIFY "}"), "\"userId\"", true);
    assert_string_equal(under("  user.unique_id: pseudonym\n", IDENTIFY "}"), "null");
    /* Several objects where one belongs: the resolver looks into one. */
    check_has(under("  " IDS "  user.behavior: raw\n",
                    IDENTIFY ",\"context\":[{\"traits\":{\"plan\":\"pro\"}}]}"),
              "plan", false);
}

static void test_groups(void **state) {
    (void)state;
    const char *all = "  " IDS "  user.workplace: pseudonym\n  user.behavior: raw\n";
    const char *sent =
        under(all, GROUP ",\"traits\":{\"name\":\"Acme\",\"employees\":7,\"plan\":\"pro\"}}");
    check_has(sent, "\"traits\":{\"employees\":7,\"plan\":\"pro\"}", true);
    check_has(sent, "g1", false);
    check_has(sent, "groupId", true);
    check_has(under(all, GROUP "}"), "groupId", true);
    /* Without its group a group message says nothing, whoever is in it; nor without whom it is of. */
    assert_string_equal(
        under("  " IDS "  user.behavior: raw\n", GROUP ",\"traits\":{\"plan\":\"pro\"}}"), "null");
    assert_string_equal(under("  user.workplace: pseudonym\n", GROUP "}"), "null");
    assert_string_equal(
        under("  " IDS "  user.workplace: pseudonym\n",
              "{\"type\":\"group\",\"userId\":\"u1\",\"context\":{\"groupId\":\"g\"}}"),
        "null");
}

static void test_alias(void **state) {
    (void)state;
    const char *item = "{\"type\":\"alias\",\"userId\":\"u1\",\"previousId\":\"a1\"}";
    check_has(under("  " IDS, item), "\"previousId\":\"", true);
    check_has(under("  " IDS, item), "a1", false);
    assert_string_equal(under("  user.unique_id: pseudonym\n", item), "null");
}

/* -- the recorded population --------------------------------------------------------------------- */

static void run_item(struct policy *policy, const struct ruleset *const *rules, const char *name,
                     unsigned index, struct span item) {
    buf_printf(&out, "%s %u ", name, index);
    if (!policy_kit_item("/v1/track", item, true)) {
        buf_put_str(&out, "refused\n");
        return;
    }
    const struct policy_kit_result *r = policy_kit_apply(policy, rules, false);
    const struct verdict *v = &r->verdict;
    buf_printf(&out, "withheld=%u ", v->withheld_leaves);
    for (unsigned i = 0; i < v->disclosed_count; i++) {
        buf_printf(&out, "%s%s=%s", i != 0 ? "," : "", class_name(v->disclosed[i].class_id),
                   form_name(v->disclosed[i].form));
    }
    buf_printf(&out, " %s", v->sends ? "" : reason_word(v->reason));
    buf_put_str(&out, r->json);
    buf_put_byte(&out, '\n');
}

static unsigned run_file(struct policy *policy, const struct ruleset *const *rules, const char *sdk,
                         unsigned number) {
    char name[64];
    char file[256];
    size_t size = 0;
    size_t count = 0;
    size_t offset = 0;
    (void)snprintf(name, sizeof name, "%s/%03u", sdk, number);
    (void)snprintf(file, sizeof file, "tests/fixtures/sdk-requests/%s.json", name);
    char *bytes = policy_kit_file(file, &size);
    if (bytes == NULL) {
        return 0;
    }
    struct span text = span_of(bytes, size);
    assert_int_equal(json_parse(text, 64, tokens, TOKENS_MAX, &count, &offset), 0);
    uint32_t decoded = json_get(text, tokens, 0, SPAN_LIT("decoded"));
    uint32_t list = decoded != 0 && tokens[decoded].kind == JSON_OBJECT
                        ? json_get(text, tokens, decoded, SPAN_LIT("batch"))
                        : 0;
    unsigned n = 0;
    if (list != 0) {
        for (uint32_t at = list + 1; at < tokens[list].next; at = tokens[at].next) {
            run_item(policy, rules, name, n++, json_span(text, &tokens[at]));
        }
    } else if (decoded != 0 && tokens[decoded].kind == JSON_OBJECT &&
               json_get(text, tokens, decoded, SPAN_LIT("type")) != 0) {
        run_item(policy, rules, name, n++, json_span(text, &tokens[decoded]));
    }
    free(bytes);
    return n;
}

static void test_recorded_requests(void **state) {
    (void)state;
    static const struct {
        const struct protocol_ops *ops;
        const char *contract;
        const char *sdk;
    } runs[] = {{&segment_ops, "vendors/segment.yaml", "segment-node"},
                {&segment_ops, "vendors/segment.yaml", "segment-browser"},
                {&rudder_ops, "vendors/rudder.yaml", "rudder-node"}};
    static const char golden[] = "tests/golden/policy/segment-contract.txt";
    size_t size = 0;
    unsigned count = 0;
    uint8_t *memory = malloc(OUT_MAX);
    char *plan = policy_kit_file("tests/golden/policy/plan.yaml", &size);
    assert_true(memory != NULL && plan != NULL);
    out = buf_of(memory, OUT_MAX - 1);
    for (size_t i = 0; i < BH_COUNT(runs); i++) {
        kit_use(runs[i].ops);
        struct ruleset *compiled = policy_kit_rules(init_file_text(runs[i].contract), plan);
        const struct ruleset *const rules[] = {compiled, NULL};
        struct policy *policy = policy_kit_vendor("golden");
        for (unsigned number = 1; number < 1000; number++) {
            count += run_file(policy, rules, runs[i].sdk, number);
        }
        policy_free(policy);
        ruleset_free(compiled);
    }
    memory[out.n] = '\0';
    assert_false(out.full);
    assert_true(count > 400);
    const char *mode = getenv("BH_GOLDEN");
    if (mode != NULL && strcmp(mode, "write") == 0) {
        char path[1024];
        (void)snprintf(path, sizeof path, "%s/%s", BULKHEAD_SOURCE_DIR, golden);
        FILE *file = fopen(path, "wb");
        assert_non_null(file);
        assert_int_equal(fwrite(out.p, 1, out.n, file), out.n);
        assert_int_equal(fclose(file), 0);
    }
    char *kept = policy_kit_file(golden, &size);
    assert_non_null(kept);
    assert_int_equal(out.n, size);
    assert_memory_equal(out.p, kept, size);
    check_has(kept, "@example", false);
    check_has(kept, "user_10", false);
    check_has(kept, "org_a", false);
    free(kept);
    free(plan);
    free(memory);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pages),    cmocka_unit_test(test_who),
        cmocka_unit_test(test_profiles), cmocka_unit_test(test_groups),
        cmocka_unit_test(test_alias),    cmocka_unit_test(test_recorded_requests)};
    kit_use(&segment_ops);
    policy_kit_start();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
