/*
 * Verdicts: what of an item leaves, in which form, and why. Items go the whole way: decoded by the protocol, inspected, judged, written.
 */
/* depends: policy inspect mixpanel protocol wire http json crypto resolve model base */
/* sources: policy_keys.c policy_kit.c mixpanel_kit.c */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "model/class.h"
#include "unit/policy_kit.h"

#define DEFAULT_ALLOW                                                                                             \
    "  user.unique_id: pseudonym\n  user.unique_id.pseudonymous: pseudonym\n  user.device.device_id: pseudonym\n" \
    "  user.device.cookie_id: pseudonym\n  user.device: { coarse: family }\n"                                     \
    "  user.location.imprecise: { coarse: country }\n  user.workplace: pseudonym\n  user.behavior: raw\n"         \
    "  user.behavior.browsing_history: { coarse: path }\n  user.privacy_preferences: raw\n  system.operations: raw\n"

static const char plan_text[] =
    "events:\n  Signed Up: { properties: { plan: { enum: [free, plus, pro] } } }\n  Run*: {}\n"
    "properties:\n  tokens: { type: number }\n  ok: { type: boolean }\n"
    "  model: { type: string, max_distinct: 50 }\n  code: { pattern: '[A-Z]{2,3}-[0-9]+' }\n"
    "  page: { type: url }\n  when: { type: time }\n  cart.total: { type: number }\n"
    "  cart.items.sku: { pattern: 'S[0-9]+' }\n  scopes: { enum: [read, write] }\n"
    "traits:\n  plan: { enum: [free, pro] }\n  score: { type: number }\n  roles: { enum: [admin, user] }\n"
    "groups:\n  company: {}\n";

static struct ruleset *rules;

static void expect(const struct ruleset *r, const char *path, const char *item,
                   const char *expected) {
    const char *got = policy_kit_out(r, path, item);
    if (strcmp(got, expected) != 0) {
        fail_msg("%s\n  got      %s\n  expected %s", item, got, expected);
    }
}

/* The members of properties without what policy adds. */
static void expect_properties(const struct ruleset *r, const char *properties,
                              const char *expected) {
    char item[4096];
    char want[4096];
    (void)snprintf(
        item, sizeof item,
        "{\"event\":\"Run\",\"properties\":{\"token\":\"t\",\"time\":1790000000,\"$insert_id\":\"x\",\"distinct_id\":\"u\"%s%s}}",
        properties[0] != '\0' ? "," : "", properties);
    (void)snprintf(want, sizeof want,
                   "\"distinct_id\":\"bcmt4nm3sj7wehkxqnvn3nrmay\"%s%s,\"time\":1790000000,",
                   expected[0] != '\0' ? "," : "", expected);
    const char *got = policy_kit_out(r, "/track", item);
    const char *from = strstr(got, "\"distinct_id\":\"");
    const char *to = from != NULL ? strstr(from, ",\"time\":1790000000,\"$insert_id\":\"") : NULL;
    size_t head = strlen("\"distinct_id\":\"bcmt4nm3sj7wehkxqnvn3nrmay\"");
    bool same = to != NULL && strlen(from) > head &&
                strncmp(from + head, want + head, strlen(want + head)) == 0;
    if (!same) {
        fail_msg("%s\n  got      %s\n  expected %s", properties, got, want);
    }
}

static void test_declared_leaves_leave(void **state) {
    (void)state;
    expect_properties(
        rules, "\"tokens\":5,\"ok\":true,\"code\":\"AB-12\",\"scopes\":[\"read\",\"write\"]",
        "\"tokens\":5,\"ok\":true,\"code\":\"AB-12\",\"scopes\":[\"read\",\"write\"]");
    expect_properties(
        rules,
        "\"tokens\":\"5\",\"ok\":1,\"code\":\"AB-12x\",\"scopes\":[\"read\",\"x\",\"write\"]",
        "\"scopes\":[\"read\",\"write\"]");
    expect_properties(rules,
                      "\"secret\":\"s\",\"n\":5,\"b\":true,\"o\":{\"tokens\":5},\"a\":[1,[2]]", "");
    expect_properties(
        rules,
        "\"cart\":{\"total\":9.50,\"x\":1,\"items\":[{\"sku\":\"S1\"},{\"sku\":\"T1\"},{\"sku\":\"S2\",\"n\":\"x\"}]}",
        "\"cart\":{\"total\":9.50,\"items\":[{\"sku\":\"S1\"},{\"sku\":\"S2\"}]}");
    /* Members of a reserved field have names that nobody declared. */
    expect_properties(
        rules,
        "\"$browser_version\":{\"x\":5},\"$os\":{\"a\":\"Linux\"},\"$duration\":[{\"y\":1}],\"company\":{\"z\":\"org\"}",
        "");
    expect_properties(rules, "\"tok\\u0065ns\":1e2,\"scopes\":[],\"ok\":null",
                      "\"tok\\u0065ns\":1e2,\"scopes\":[],\"ok\":null");
    /* The resolver counts the values of a property and of a list, no deeper; what it does not count must not leave. */
    expect_properties(rules, "\"model\":[\"lumen-mini\"]", "\"model\":[\"lumen-mini\"]");
    expect_properties(rules, "\"model\":[[\"any\"],[[\"text\"]]]", "");
    expect_properties(rules, "\"model\":[{\"model\":\"text\"}]", "");
    expect_properties(rules, "\"model\":\"lumen-mini\",\"cart\":{}", "\"model\":\"lumen-mini\"");
    expect_properties(rules, "\"when\":1790000000.5,\"page\":\"/a/b\"",
                      "\"when\":1790000000,\"page\":\"/a/b\"");
}

/* A name that is too long for any declaration declares nothing below it either: the name would go with what leaves. */
static void test_names_too_long_to_be_declared(void **state) {
    (void)state;
    static char item[4096];
    struct ruleset *few = policy_kit_allow(
        "  user.behavior: raw\n", "",
        "events: { Buy: {} }\nproperties: { plan: { enum: [pro] }, b.plan: { enum: [pro] } }\n");
    for (size_t n = 500; n <= 1100; n += 12) {
        for (unsigned deep = 0; deep < 2; deep++) {
            struct buf b = buf_of(item, sizeof item - 1);
            buf_put_str(&b, "{\"event\":\"Buy\",\"properties\":{\"token\":\"t\",");
            buf_put_str(&b, deep != 0 ? "\"b\":{\"" : "\"");
            for (size_t i = 0; i < n; i++) {
                buf_put_byte(&b, 'k');
            }
            buf_put_str(&b, "\":{\"plan\":\"pro\",\"x\":[{\"plan\":\"pro\"}]}");
            buf_put_str(&b, deep != 0 ? "}}}" : "}}");
            item[b.n] = '\0';
            assert_null(strstr(policy_kit_out(few, "/track", item), "kkk"));
        }
    }
    ruleset_free(few);
}

static void test_event_names(void **state) {
    (void)state;
    expect(rules, "/track",
           "{\"event\":\"Other\",\"properties\":{\"token\":\"t\",\"distinct_id\":\"u\"}}", "null");
    expect(rules, "/track",
           "{\"event\":\"run\",\"properties\":{\"token\":\"t\",\"distinct_id\":\"u\"}}", "null");
    assert_true(
        strncmp(policy_kit_out(
                    rules, "/track",
                    "{\"event\":\"Run 7\",\"properties\":{\"token\":\"t\",\"distinct_id\":\"u\"}}"),
                "{\"event\":\"Run 7\"", 16) == 0);
    assert_true(strncmp(policy_kit_out(
                            rules, "/track",
                            "{\"event\":\"$mp_web_page_view\",\"properties\":{\"token\":\"t\"}}"),
                        "{\"event\":\"$mp", 13) == 0);
    /* An event-only property is none elsewhere. */
    assert_non_null(
        strstr(policy_kit_out(
                   rules, "/track",
                   "{\"event\":\"Signed Up\",\"properties\":{\"token\":\"t\",\"plan\":\"plus\"}}"),
               "\"plan\":\"plus\""));
    assert_null(strstr(
        policy_kit_out(rules, "/track",
                       "{\"event\":\"Run\",\"properties\":{\"token\":\"t\",\"plan\":\"plus\"}}"),
        "plus"));
    /* Personal data in a name that a star would let pass. */
    expect(
        rules, "/track",
        "{\"event\":\"Run jane@example.com\",\"properties\":{\"token\":\"t\",\"distinct_id\":\"u\"}}",
        "null");
}

static void test_coarse_path(void **state) {
    (void)state;
    const char *own =
        "\"$current_url\":\"https://app.example.com/users/8341/edit?email=a@b.com#x\"";
    char item[1024];
    (void)snprintf(
        item, sizeof item,
        "%s,\"$referrer\":\"https://app.example.com:8443/v2/oauth2/jane.doe/a%%20b/page.html?q=1\"",
        own);
    expect_properties(
        rules, item,
        "\"$current_url\":\"https://app.example.com/users/:id/edit\",\"$referrer\":\"https://app.example.com:8443/v2/oauth2/:id/:id/page.html\"");
    (void)snprintf(item, sizeof item,
                   "\"$referrer\":\"https://u:p@www.example.org/search?q=llm\",%s", own);
    expect_properties(
        rules, item,
        "\"$referrer\":\"https://www.example.org\",\"$current_url\":\"https://app.example.com/users/:id/edit\"");
    expect_properties(
        rules,
        "\"$initial_referrer\":\"$direct\",\"$referring_domain\":\"www.example.org\",\"current_url_path\":\"/a/1/b\",\"current_url_search\":\"?q=1\","
        "\"current_url_protocol\":\"https:\"",
        "\"$initial_referrer\":\"$direct\",\"$referring_domain\":\"www.example.org\",\"current_url_path\":\"/a/:id/b\",\"current_url_protocol\":\"https:\"");
    expect_properties(rules, "\"page\":\"//evil.example/a\",\"$referrer\":\"file:///home/jane\"",
                      "");
}

static void test_devices_and_places(void **state) {
    (void)state;
    expect_properties(
        rules,
        "\"$os\":\"Mac OS X\",\"$browser\":\"Chrome 126.0\",\"$browser_version\":138,\"$screen_width\":1366,\"$city\":\"Paris\",\"$region\":\"IDF\",\"mp_country_code\":\"FR\",\"$timezone\":\"Europe/Paris\",\"ip\":\"203.0.113.9\"",
        "\"$os\":\"Mac OS X\",\"$browser\":\"Chrome\",\"mp_country_code\":\"FR\"");
    struct ruleset *finer = policy_kit_allow(
        "  user.device: { coarse: major }\n  user.behavior: raw\n  user.location: { coarse: region }\n  user.device.ip_address: { coarse: /24 }\n  user.unique_id: pseudonym\n",
        "", plan_text);
    expect_properties(
        finer,
        "\"$browser\":\"Chrome 126.0\",\"$browser_version\":\"138.0.1\",\"$os_version\":10.15,\"$city\":\"Paris\",\"$region\":\"IDF\",\"$latitude\":48.8,\"ip\":\"203.0.113.9\",\"$ip\":\"2001:db8:1:2::3\"",
        "\"$browser\":\"Chrome 126\",\"$browser_version\":\"138\",\"$os_version\":10,\"$region\":\"IDF\",\"ip\":\"203.0.113.0\",\"$ip\":\"2001:db8:1::\"");
    ruleset_free(finer);
}

static void test_ids(void **state) {
    (void)state;
    const char *out = policy_kit_out(
        rules, "/track",
        "{\"event\":\"Run\",\"properties\":{\"token\":\"t\",\"distinct_id\":\"$device:5c2dfb22-9ccd-4e5d-bfe2-60b39d310329\",\"$device_id\":\"5c2dfb22-9ccd-4e5d-bfe2-60b39d310329\",\"$user_id\":42,\"company\":[\"org_a\"]}}");
    const char *distinct = strstr(out, "\"distinct_id\":\"$device:");
    const char *device = strstr(out, "\"$device_id\":\"");
    assert_true(distinct != NULL && device != NULL);
    assert_memory_equal(distinct + 23, device + 14, 36); /* the same person at this vendor */
    assert_int_equal(device[14 + 14], '4');              /* a UUIDv4 */
    assert_null(strstr(out, "5c2dfb22"));
    assert_null(strstr(out, "org_a"));
    assert_null(strstr(out, "\"$user_id\":42"));
    assert_null(strstr(out, "\"42\""));
    assert_non_null(strstr(out, "\"company\":[\""));
    /* A placeholder is nobody. */
    out = policy_kit_out(
        rules, "/track",
        "{\"event\":\"Run\",\"properties\":{\"token\":\"t\",\"distinct_id\":\"undefined\"}}");
    assert_non_null(strstr(out, "\"distinct_id\":\"\""));
    struct ruleset *closed = policy_kit_allow("  user.behavior: raw\n", "", plan_text);
    out = policy_kit_out(
        closed, "/track",
        "{\"event\":\"Run\",\"properties\":{\"token\":\"t\",\"distinct_id\":\"u1\",\"$user_id\":\"u1\"}}");
    assert_non_null(strstr(out, "\"distinct_id\":\"\""));
    assert_null(strstr(out, "u1"));
    expect(
        closed, "/track",
        "{\"event\":\"$identify\",\"properties\":{\"token\":\"t\",\"distinct_id\":\"u1\",\"$anon_distinct_id\":\"a\"}}",
        "null");
    expect(closed, "/engage", "{\"$token\":\"t\",\"$distinct_id\":\"u\",\"$set\":{\"score\":1}}",
           "null");
    ruleset_free(closed);
}

/* What an id must not be: a list, a card number, half of a link. */
static void test_ids_that_do_not_leave(void **state) {
    (void)state;
    static const char *const ids[] = {"[\"u1\"]", "{\"a\":\"u1\"}",          "true",
                                      "null",     "\"4111 1111 1111 1111\"", "\"\\u0000\""};
    for (size_t i = 0; i < BH_COUNT(ids); i++) {
        char item[256];
        (void)snprintf(item, sizeof item,
                       "{\"event\":\"Run\",\"properties\":{\"token\":\"t\",\"distinct_id\":%s}}",
                       ids[i]);
        const char *out = policy_kit_out(rules, "/track", item);
        if (strcmp(out, "refused") != 0 && strstr(out, "\"distinct_id\":\"\"") == NULL) {
            fail_msg("%s: %s", item, out);
        }
    }
    expect(rules, "/track",
           "{\"event\":\"$identify\",\"properties\":{\"token\":\"t\",\"distinct_id\":\"u\"}}",
           "null");
    expect(
        rules, "/track",
        "{\"event\":\"$identify\",\"properties\":{\"token\":\"t\",\"distinct_id\":\"u\",\"$user_id\":\"u\",\"$anon_distinct_id\":\"undefined\"}}",
        "null");
    expect(
        rules, "/import",
        "{\"event\":\"$merge\",\"properties\":{\"token\":\"t\",\"$distinct_ids\":[\"u\",\"a\",\"null\"]}}",
        "null");
}

/* Who is written down must be who the vendor is told about: ids are read here as the resolver reads them. */
static void test_ids_are_the_resolvers(void **state) {
    (void)state;
    struct policy *policy = policy_kit_vendor("one");
    const struct ruleset *const list[] = {rules, NULL};
    static const char *const forms[] = {"1000", "\"1000\"", "1e3", "1000.0", "10E+2"};
    char json[200];
    static char first[sizeof(((struct policy_kit_result *)0)->json)];
    struct aid aid;
    aid_make(policy_kit_aids(), SPAN_NONE, SPAN_LIT("1000"), &aid);
    for (size_t i = 0; i < BH_COUNT(forms); i++) {
        (void)snprintf(
            json, sizeof json,
            "{\"event\":\"$identify\",\"properties\":{\"token\":\"t\",\"distinct_id\":%s,\"$anon_distinct_id\":\"a\",\"$insert_id\":\"i\",\"time\":1}}",
            forms[i]);
        assert_true(policy_kit_item("/track", span_str(json), true));
        const struct policy_kit_result *r = policy_kit_apply(policy, list, false);
        assert_true(r->verdict.sends);
        assert_int_equal(r->verdict.aid_count, 2);
        assert_memory_equal(r->verdict.aids[0].b, aid.b, sizeof aid.b);
        if (i == 0) {
            (void)snprintf(first, sizeof first, "%s", r->json);
        }
        assert_string_equal(r->json, first);
    }
    expect(
        rules, "/import",
        "{\"event\":\"$merge\",\"properties\":{\"token\":\"t\",\"$distinct_ids\":[[\"u\",\"a\"]]}}",
        "null");
    expect(
        rules, "/import",
        "{\"event\":\"$merge\",\"properties\":{\"token\":\"t\",\"$distinct_ids\":[\"u\",\"a\",[\"b\"]]}}",
        "null");
    policy_free(policy);
}

/* One rule set lets a value leave whole if nothing else is in it; another redacts it. What the first withholds, the second must not let leave. */
static void test_each_rule_set_is_asked(void **state) {
    (void)state;
    struct policy *policy = policy_kit_vendor("one");
    struct ruleset *raw = policy_kit_allow(
        "  user.behavior: raw\n  user.behavior.browsing_history: raw\n  user.unique_id: pseudonym\n",
        "", plan_text);
    struct ruleset *redact = policy_kit_allow(
        "  user.behavior: raw\n  user.behavior.browsing_history: redact\n  user.unique_id: pseudonym\n",
        "", plan_text);
    const struct ruleset *const one[] = {redact, NULL};
    const struct ruleset *const both[] = {raw, redact, NULL};
    const struct ruleset *const turned[] = {redact, raw, NULL};
    assert_true(policy_kit_item(
        "/track",
        SPAN_LIT(
            "{\"event\":\"Run\",\"properties\":{\"token\":\"t\",\"$current_url\":\"https://a.example/?m=jane.roe@example.com\",\"$referrer\":\"https://b.example/\"}}"),
        true));
    assert_non_null(strstr(policy_kit_apply(policy, one, false)->json,
                           "\"$current_url\":\"[user.behavior.browsing_history]\""));
    assert_null(strstr(policy_kit_apply(policy, both, false)->json, "$current_url"));
    assert_non_null(strstr(policy_kit_apply(policy, both, false)->json,
                           "\"$referrer\":\"[user.behavior.browsing_history]\""));
    assert_null(strstr(policy_kit_apply(policy, turned, false)->json, "$current_url"));
    ruleset_free(raw);
    ruleset_free(redact);
    policy_free(policy);
}

static void test_links(void **state) {
    (void)state;
    struct policy *policy = policy_kit_vendor("one");
    const struct ruleset *const list[] = {rules, NULL};
    static const char *const items[] = {
        "{\"event\":\"$identify\",\"properties\":{\"token\":\"t\",\"distinct_id\":\"u\",\"$anon_distinct_id\":\"a\"}}",
        "{\"event\":\"$identify\",\"properties\":{\"token\":\"t\",\"distinct_id\":\"u\",\"$identified_id\":\"u\",\"$anon_id\":\"a\"}}",
        "{\"event\":\"$create_alias\",\"properties\":{\"token\":\"t\",\"distinct_id\":\"u\",\"alias\":\"a\"}}",
        "{\"event\":\"$merge\",\"properties\":{\"token\":\"t\",\"$distinct_ids\":[\"u\",\"a\"]}}",
    };
    struct aid u;
    struct aid a;
    aid_make(policy_kit_aids(), SPAN_NONE, SPAN_LIT("u"), &u);
    aid_make(policy_kit_aids(), SPAN_NONE, SPAN_LIT("a"), &a);
    for (size_t i = 0; i < 4; i++) {
        assert_true(policy_kit_item(i == 3 ? "/import" : "/track", span_str(items[i]), true));
        const struct policy_kit_result *r = policy_kit_apply(policy, list, false);
        assert_true(r->verdict.sends);
        assert_int_equal(r->verdict.aid_count, 2);
        assert_memory_equal(r->verdict.aids[0].b, u.b, 16);
        assert_memory_equal(r->verdict.aids[1].b, a.b, 16);
        assert_null(strstr(r->json, "\"u\""));
        assert_null(strstr(r->json, "\"a\""));
    }
    policy_free(policy);
}

static void test_profiles_and_groups(void **state) {
    (void)state;
    const char *out = policy_kit_out(
        rules, "/engage",
        "{\"$token\":\"t\",\"$distinct_id\":\"u\",\"$ip\":\"203.0.113.9\",\"$time\":1790000000123,\"$set\":{\"plan\":\"pro\",\"$email\":\"a@b.com\",\"$os\":\"Linux\",\"company\":\"Acme\",\"x\":\"y\"}}");
    assert_non_null(strstr(
        out,
        "\"$time\":1790000000000,\"$set\":{\"plan\":\"pro\",\"$os\":\"Linux\",\"company\":\""));
    assert_null(strstr(out, "@"));
    assert_null(strstr(out, "Acme"));
    assert_null(strstr(out, "$insert_id"));
    assert_non_null(strstr(
        policy_kit_out(
            rules, "/engage",
            "{\"$token\":\"t\",\"$distinct_id\":\"u\",\"$union\":{\"roles\":[\"admin\",\"x\"]}}"),
        "\"$union\":{\"roles\":[\"admin\"]}"));
    assert_non_null(strstr(
        policy_kit_out(
            rules, "/engage",
            "{\"$token\":\"t\",\"$distinct_id\":\"u\",\"$unset\":[\"plan\",\"$email\",\"nick\"]}"),
        "\"$unset\":[\"plan\"]"));
    assert_non_null(
        strstr(policy_kit_out(rules, "/engage",
                              "{\"$token\":\"t\",\"$distinct_id\":\"u\",\"$delete\":\"\"}"),
               "\"$delete\":\"\""));
    out = policy_kit_out(rules, "/engage",
                         "{\"$token\":\"t\",\"$distinct_id\":\"u77\",\"$delete\":\"u77\"}");
    assert_true(strstr(out, "\"$delete\":\"") != NULL && strstr(out, "u77") == NULL);
    expect(rules, "/engage",
           "{\"$token\":\"t\",\"$distinct_id\":\"u\",\"$set\":{\"$email\":\"a@b.com\"}}", "null");
    expect(rules, "/engage", "{\"$token\":\"t\",\"$distinct_id\":\"u\",\"$set\":{}}", "null");
    expect(rules, "/engage",
           "{\"$token\":\"t\",\"$distinct_id\":\"u\",\"$set\":[{\"plan\":\"pro\"}]}", "null");
    out = policy_kit_out(
        rules, "/groups",
        "{\"$token\":\"t\",\"$group_key\":\"company\",\"$group_id\":\"acme\",\"$set\":{\"$name\":\"Acme\",\"plan\":\"pro\"}}");
    assert_true(strncmp(out, "{\"$group_key\":\"company\",\"$group_id\":\"", 36) == 0);
    assert_non_null(strstr(out, "\"$set\":{\"plan\":\"pro\"}"));
    assert_null(strstr(out, "Acme"));
    expect(
        rules, "/groups",
        "{\"$token\":\"t\",\"$group_key\":\"team\",\"$group_id\":\"acme\",\"$set\":{\"plan\":\"pro\"}}",
        "null");
    assert_non_null(strstr(
        policy_kit_out(
            rules, "/groups",
            "{\"$token\":\"t\",\"$group_key\":\"company\",\"$group_id\":\"acme\",\"$delete\":\"\"}"),
        "\"$delete\":\"\""));
}

/* What inspect finds binds: each class under raw needs a line of its own; redact replaces the span; never withholds. */
static void test_findings(void **state) {
    (void)state;
    static const char plan[] =
        "events: { Run: {} }\nproperties:\n  note: { type: string, max_distinct: 10 }\n  who: { class: user.unique_id, type: string }\n";
    static const char *const item = "\"note\":\"ask jane.roe@example.com or bob@example.org now\"";
    struct ruleset *closed = policy_kit_allow(DEFAULT_ALLOW, "", plan);
    expect_properties(closed, item, "");
    ruleset_free(closed);
    struct ruleset *redact =
        policy_kit_allow(DEFAULT_ALLOW "  user.contact.email: redact\n", "", plan);
    expect_properties(redact, item,
                      "\"note\":\"ask [user.contact.email] or [user.contact.email] now\"");
    ruleset_free(redact);
    struct ruleset *mask = policy_kit_allow(DEFAULT_ALLOW "  user.contact.email: mask\n", "", plan);
    expect_properties(mask, item, "\"note\":\"ask j…@example.com or b…@example.org now\"");
    ruleset_free(mask);
    struct ruleset *raw = policy_kit_allow(DEFAULT_ALLOW "  user.contact.email: raw\n", "", plan);
    expect_properties(raw, item, item);
    /* A card number is overwritten and found: it never leaves, whatever is open. */
    expect_properties(raw, "\"note\":\"card 4111 1111 1111 1111\"", "");
    /* An e-mail address as an id: the pseudonym leaves and is entered as both classes. */
    assert_true(policy_kit_item(
        "/track",
        SPAN_LIT(
            "{\"event\":\"Run\",\"properties\":{\"token\":\"t\",\"distinct_id\":\"jane.roe@example.com\"}}"),
        true));
    struct policy *policy = policy_kit_vendor("one");
    const struct ruleset *const list[] = {raw, NULL};
    const struct verdict *v = &policy_kit_apply(policy, list, false)->verdict;
    bool entered = false;
    for (unsigned i = 0; i < v->disclosed_count; i++) {
        entered = entered || (v->disclosed[i].class_id == CLASS_EMAIL &&
                              v->disclosed[i].form.id == FORM_PSEUDONYM);
    }
    assert_true(v->sends && entered);
    policy_free(policy);
    ruleset_free(raw);
}

static void test_keys(void **state) {
    (void)state;
    /* A key that is personal data takes its value with it, even where a star declares it. */
    struct ruleset *star = policy_kit_allow(
        DEFAULT_ALLOW, "", "events: { Run: {} }\nproperties: { 'seen *': { type: boolean } }\n");
    expect_properties(star, "\"seen you\":true,\"seen jane.roe@example.com\":true",
                      "\"seen you\":true");
    ruleset_free(star);
    expect_properties(
        rules, "\"utm_source\":\"newsletter\",\"utm_a@example.com\":\"x\",\"utm_\\u0020x\":\"y\"",
        "\"utm_source\":\"newsletter\"");
    /* The same key twice: readers would not agree which of them holds. */
    expect(
        rules, "/track",
        "{\"event\":\"Run\",\"properties\":{\"token\":\"t\",\"distinct_id\":\"u\",\"tokens\":1,\"tok\\u0065ns\":2}}",
        "null");
}

static void test_time_and_spread(void **state) {
    (void)state;
    struct policy *policy = policy_kit_vendor("one");
    static const struct {
        const char *word;
        const char *out;
    } cases[] = {{"ms", "1790000012.345"},
                 {"second", "1790000012"},
                 {"minute", "1789999980"},
                 {"hour", "1789999200"}};
    for (size_t i = 0; i < 4; i++) {
        char more[64];
        char want[64];
        (void)snprintf(more, sizeof more, "time: %s\n", cases[i].word);
        struct ruleset *r = policy_kit_allow(DEFAULT_ALLOW, more, plan_text);
        const struct ruleset *const list[] = {r, NULL};
        assert_true(policy_kit_item(
            "/track",
            SPAN_LIT(
                "{\"event\":\"Run\",\"properties\":{\"token\":\"t\",\"time\":1790000012.345}}"),
            true));
        (void)snprintf(want, sizeof want, "\"time\":%s,", cases[i].out);
        assert_non_null(strstr(policy_kit_apply(policy, list, false)->json, want));
        if (i > 0) {
            policy_kit_input()->spread_ms = 2;
            (void)snprintf(want, sizeof want, "\"time\":%s.002,", cases[i].out);
            assert_non_null(strstr(policy_kit_apply(policy, list, false)->json, want));
        }
        ruleset_free(r);
    }
    policy_free(policy);
}

static void test_insert_ids(void **state) {
    (void)state;
    struct policy *one = policy_kit_vendor("one");
    struct policy *two = policy_kit_vendor("two");
    const struct ruleset *const list[] = {rules, NULL};
    uint8_t first[26];
    assert_true(policy_kit_item(
        "/track",
        SPAN_LIT("{\"event\":\"Run\",\"properties\":{\"token\":\"t\",\"$insert_id\":\"abc\"}}"),
        true));
    memcpy(first, policy_kit_apply(one, list, false)->verdict.insert_id, 26);
    policy_kit_input()->spread_ms = 1;
    assert_memory_equal(first, policy_kit_apply(one, list, false)->verdict.insert_id, 26);
    assert_memory_not_equal(first, policy_kit_apply(two, list, false)->verdict.insert_id, 26);
    assert_true(policy_kit_item(
        "/track", SPAN_LIT("{\"event\":\"Run\",\"properties\":{\"token\":\"t\"}}"), true));
    assert_memory_not_equal(first, policy_kit_apply(one, list, false)->verdict.insert_id, 26);
    policy_free(one);
    policy_free(two);
}

static uint64_t closed_at_1000(void *context, uint64_t property) {
    return property == *(const uint64_t *)context ? 1000 : UINT64_MAX;
}

static void test_max_distinct_and_sources(void **state) {
    (void)state;
    struct policy *policy = policy_kit_vendor("one");
    const struct ruleset *const list[] = {rules, NULL};
    struct err err = {0};
    struct plan *plan = NULL;
    struct resolve_distinct distinct[4];
    assert_int_equal(plan_load_text("plan", span_str(plan_text), &plan, &err), 0);
    assert_int_equal(plan_distinct(plan, distinct, 4), 1);
    assert_string_equal(distinct[0].name, "model");
    assert_int_equal(distinct[0].limit, 50);
    assert_true(policy_kit_item(
        "/track", SPAN_LIT("{\"event\":\"Run\",\"properties\":{\"token\":\"t\",\"model\":\"m\"}}"),
        true));
    policy_kit_input()->distinct_closed_at = closed_at_1000;
    policy_kit_input()->context = &distinct[0].property;
    assert_null(strstr(policy_kit_apply(policy, list, false)->json, "model"));
    uint64_t other = 5;
    policy_kit_input()->context = &other;
    assert_non_null(strstr(policy_kit_apply(policy, list, false)->json, "model"));
    struct record_request request = {.protocol = PROTOCOL_MIXPANEL, .source = 2};
    policy_kit_input()->request = &request;
    assert_false(policy_kit_apply(policy, list, false)->verdict.sends);
    assert_int_equal(policy_kit_apply(policy, list, false)->verdict.reason, REASON_SOURCE_NOT_FED);
    plan_free(plan);
    policy_free(policy);
}

static void told(const char *story, const char *line) {
    if (strstr(story, line) == NULL) {
        fail_msg("no line '%s' in\n%s", line, story);
    }
}

static void test_stories(void **state) {
    (void)state;
    struct policy *policy = policy_kit_vendor("one");
    const struct ruleset *const list[] = {rules, NULL};
    assert_true(policy_kit_item(
        "/track",
        SPAN_LIT(
            "{\"event\":\"Run\",\"properties\":{\"token\":\"t\",\"distinct_id\":\"u\",\"$os\":\"Linux\",\"tokens\":5,\"a/b\":\"x\",\"$email\":\"a@b.com\",\"ok\":7,"
            "\"scopes\":[\"read\",\"zz\"],\"password\":\"hunter2\",\"ip\":\"203.0.113.9\"}}"),
        true));
    const char *story = policy_kit_apply(policy, list, true)->story;
    told(story, "/event user.behavior raw - | plan event, allow user.behavior: raw\n");
    told(story, "/properties/token system.operations drop - | connector: ");
    told(story,
         "/properties/distinct_id user.unique_id pseudonym - | allow user.unique_id: pseudonym\n");
    told(story, "/properties/$os user.device coarse:family - | allow user.device: coarse family\n");
    told(
        story,
        "/properties/tokens user.behavior raw - | plan property tokens: number, allow user.behavior: raw\n");
    told(story, "/properties/a~1b user.content.private drop undeclared | undeclared: hold\n");
    told(
        story,
        "/properties/ok user.behavior drop wrong_type | plan property ok: boolean: the value is another\n");
    told(story, "/properties/scopes/0 user.behavior raw - | plan property scopes: enum");
    told(story, "/properties/scopes/1 user.behavior drop wrong_type");
    told(
        story,
        "/properties/ip user.device.ip_address drop not_allowed | closed: user.device.ip_address (open with allow: user.device.ip_address: ");
    policy_free(policy);
}

static void undeclared(const struct ruleset *r, const char *path, const char *item,
                       const char *expected) {
    uint32_t tokens[64];
    char got[1024];
    struct buf out = buf_of(got, sizeof got - 1);
    struct policy *policy = policy_kit_vendor("mixpanel");
    assert_true(policy_kit_item(path, span_str(item), true));
    struct policy_input *input = policy_kit_input();
    input->rulesets = &r;
    input->ruleset_count = 1;
    size_t count = policy_undeclared(policy, input, tokens, BH_COUNT(tokens));
    for (size_t i = 0; i < count; i++) {
        struct span leaf = json_span(input->event->json, &input->tokens[tokens[i]]);
        buf_printf(&out, "%.*s ", (int)leaf.n, (const char *)leaf.p);
    }
    got[out.n] = '\0';
    assert_string_equal(got, expected);
    policy_free(policy);
}

static void test_undeclared(void **state) {
    (void)state;
    const char *item =
        "{\"event\":\"Run\",\"properties\":{\"token\":\"t\",\"distinct_id\":\"u\",\"tokens\":\"wrong type\","
        "\"x\":11,\"cart\":{\"total\":1,\"y\":12,\"items\":[{\"sku\":\"S1\",\"z\":13}]},\"w\":[14,{}],"
        "\"ip\":\"203.0.113.9\"}}";
    undeclared(rules, "/track", item, "11 12 13 14 {} ");
    undeclared(rules, "/track", "{\"event\":\"Nobody\",\"properties\":{\"tokens\":1,\"x\":11}}",
               "Nobody 11 ");
    undeclared(rules, "/engage", "{\"$distinct_id\":\"u\",\"$set\":{\"score\":1,\"tokens\":15}}",
               "15 ");
    assert_true(ruleset_lists_undeclared(rules));
    struct ruleset *drops = policy_kit_allow(DEFAULT_ALLOW, "undeclared: drop\n", plan_text);
    assert_false(ruleset_lists_undeclared(drops));
    ruleset_free(drops);
    /* A plan alone: closed to everything, but what is declared stays declared. */
    struct err err = {0};
    struct plan *plan = NULL;
    struct ruleset *alone = NULL;
    assert_int_equal(plan_load_text("plan", span_str(plan_text), &plan, &err), 0);
    assert_int_equal(ruleset_of_plan(plan, "mixpanel", &alone, &err), 0);
    undeclared(alone, "/track", item, "11 12 13 14 {} ");
    ruleset_free(alone);
    plan_free(plan);
}

static void *set_up(void) {
    policy_kit_start();
    rules = policy_kit_allow(DEFAULT_ALLOW, "", plan_text);
    return rules;
}

static int start(void **state) {
    *state = set_up();
    return 0;
}

static int stop(void **state) {
    (void)state;
    ruleset_free(rules);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_declared_leaves_leave),
        cmocka_unit_test(test_names_too_long_to_be_declared),
        cmocka_unit_test(test_event_names),
        cmocka_unit_test(test_coarse_path),
        cmocka_unit_test(test_devices_and_places),
        cmocka_unit_test(test_ids),
        cmocka_unit_test(test_ids_that_do_not_leave),
        cmocka_unit_test(test_each_rule_set_is_asked),
        cmocka_unit_test(test_links),
        cmocka_unit_test(test_ids_are_the_resolvers),
        cmocka_unit_test(test_profiles_and_groups),
        cmocka_unit_test(test_findings),
        cmocka_unit_test(test_keys),
        cmocka_unit_test(test_time_and_spread),
        cmocka_unit_test(test_insert_ids),
        cmocka_unit_test(test_max_distinct_and_sources),
        cmocka_unit_test(test_stories),
        cmocka_unit_test(test_undeclared),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
