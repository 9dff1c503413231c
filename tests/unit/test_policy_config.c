/*
 * Contracts, plans and rule sets: every mistake has its place and its nearest valid word; what is stored is what was compiled.
 */
/* depends: policy resolve protocol mixpanel wire yaml json crypto model base */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "flow/policy/policy.h"
#include "flow/policy/policy_int.h"
#include "model/class.h"

#define HEAD                                                                                                     \
    "vendor: mixpanel\nconnector: mixpanel\nendpoint: https://api-eu.mixpanel.com\ncredential: { env: TOKEN }\n" \
    "purpose: analytics\nretention: 400d\n"

static void contract_refused(const char *text, unsigned line, unsigned column, const char *part) {
    struct err err = {0};
    struct contract *contract = NULL;
    assert_int_equal(contract_load_text("c.yaml", span_str(text), &contract, &err), BH_E_CONFIG);
    assert_null(contract);
    if (err.line != line || err.column != column || strstr(err.text, part) == NULL ||
        strchr(err.text, '^') == NULL) {
        fail_msg("expected %u:%u %s, got %u:%u %s", line, column, part, err.line, err.column,
                 err.text);
    }
}

static void plan_refused(const char *text, unsigned line, unsigned column, const char *part) {
    struct err err = {0};
    struct plan *plan = NULL;
    assert_int_equal(plan_load_text("p.yaml", span_str(text), &plan, &err), BH_E_CONFIG);
    assert_null(plan);
    if (err.line != line || err.column != column || strstr(err.text, part) == NULL ||
        strchr(err.text, '^') == NULL) {
        fail_msg("expected %u:%u %s, got %u:%u %s", line, column, part, err.line, err.column,
                 err.text);
    }
}

static void test_contract_mistakes(void **state) {
    (void)state;
    contract_refused(HEAD "allow:\n  user.devce: raw\n", 8, 3, "did you mean 'user.device'?");
    contract_refused(HEAD "allow:\n  email: raw\n", 8, 3, "did you mean 'user.contact.email'?");
    contract_refused(HEAD "allow:\n  user.device: rwa\n", 8, 16, "did you mean 'raw'?");
    contract_refused(HEAD "allow:\n  user.device: { coarse: famly }\n", 8, 26,
                     "did you mean 'family'?");
    contract_refused(HEAD "allow:\n  user.device: coarse\n", 8, 16, "coarse needs its level");
    contract_refused(HEAD "allow:\n  user.device: { raw: family }\n", 8, 18,
                     "only coarse has a level");
    contract_refused(
        HEAD "allow:\n  user.device: mask\n", 8, 16,
        "mask does not fit user.device; expected coarse family, coarse major, raw or drop");
    contract_refused(HEAD "allow:\n  user.unique_id: { coarse: country }\n", 8, 19, "does not fit");
    contract_refused(HEAD "allow:\n  user.unique_id: redact\n", 8, 19, "does not fit");
    contract_refused(HEAD "allow:\n  user.behavior: { coarse: day }\n", 8, 18, "does not fit");
    contract_refused(HEAD "allow:\n  user.contact.email: seal\n", 8, 23, "not yet");
    contract_refused(HEAD "allow:\n  user.contact.email: alias\n", 8, 23, "not yet");
    contract_refused(HEAD "minors: drop\n", 7, 1, "not yet");
    contract_refused(HEAD "routes: []\n", 7, 1, "not yet");
    contract_refused(HEAD "flags: forward\n", 7, 8, "not yet for mixpanel");
    contract_refused(HEAD "flags: yes\n", 7, 8, "flags is forward or off");
    contract_refused(HEAD "flags: [forward]\n", 7, 8, "flags is forward or off");
    contract_refused(HEAD "tiem: second\n", 7, 1, "did you mean 'time'?");
    contract_refused(HEAD "time: seconds\n", 7, 7, "time is ms, second, minute or hour");
    contract_refused(HEAD "undeclared: keep\n", 7, 13, "hold or drop");
    contract_refused(HEAD "backlog: { max: 5 }\n", 7, 17, "size");
    contract_refused(HEAD "allow: [a]\n", 7, 8, "allow is a mapping");
    contract_refused(HEAD "requires: analytics\n", 7, 11, "did you mean 'consent.analytics'?");
    contract_refused(HEAD "requires: [consent.analytics, consent.advertsing]\n", 7, 31,
                     "did you mean 'consent.advertising'?");
    contract_refused(HEAD "requires: []\n", 7, 11, "at least one");
    contract_refused(HEAD "requires: { a: b }\n", 7, 11, "requires is consent.analytics");
    contract_refused(HEAD "requires:\n", 7, 1, "requires is");
    contract_refused(HEAD "honour: gpc\n", 7, 9, "honour is a list");
    contract_refused(HEAD "honour: [gcp]\n", 7, 10, "did you mean 'gpc'?");
    contract_refused(HEAD "honor: [gpc]\n", 7, 1, "did you mean 'honour'?");
    contract_refused(HEAD "allow:\n  user.device: { requires: consent.social }\n", 8, 16,
                     "a form is one word");
    contract_refused(HEAD "allow:\n  user.device: { coarse: family, requires: social }\n", 8, 44,
                     "did you mean 'consent.social'?");
    contract_refused(HEAD "allow:\n  user.device: { raw, mask, requires: consent.social }\n", 8, 16,
                     "a form is one word");
    contract_refused(HEAD "allow:\n  user.device: { mask, requires: consent.social }\n", 8, 16,
                     "does not fit");
    contract_refused(HEAD "allow:\n  user.device: { coarse, requires: consent.social }\n", 8, 18,
                     "coarse needs its level");
    contract_refused("vendor: mixpanel\n", 1, 1, "a contract needs connector");
    contract_refused("vendor: Mix\n", 1, 9, "vendor is a name");
    contract_refused("vendor: m\nconnector: mixpanle\n", 2, 12, "did you mean 'mixpanel'?");
    contract_refused("- a\n", 1, 1, "a contract is a mapping");
}

#define ENDPOINT(url)                                \
    "vendor: m\nconnector: mixpanel\nendpoint: " url \
    "\ncredential: { env: T }\npurpose: analytics\nretention: 1d\n"

static const char *const bad_endpoints[] = {
    ENDPOINT("http://api.mixpanel.com"),
    ENDPOINT("http://127.0.0.1.evil.com"),
    ENDPOINT("http://localhost@evil.com"),
    ENDPOINT("ftp://x"),
    ENDPOINT("https://"),
    ENDPOINT("https://u:p@host"),
    ENDPOINT("https://host/?q"),
    ENDPOINT("'https://host/#f'"),
    /* Addresses in other spellings, and what only some programs take for a host. */
    ENDPOINT("https://2130706433"),
    ENDPOINT("https://0x7f000001/x"),
    ENDPOINT("https://0x7f.1:443"),
    ENDPOINT("https://0177.0.0.1"),
    ENDPOINT("https://127.1"),
    ENDPOINT("https://127.0.0.01"),
    ENDPOINT("https://127.0.0.1."),
    ENDPOINT("https://a.0x7f"),
    ENDPOINT("https://256.1.1.1"),
    ENDPOINT("https://a%2eb"),
    ENDPOINT("https://a\\b"),
    ENDPOINT("https://m\u00fcller.example"),
    ENDPOINT("'https://[fe80::1%25eth0]'"),
    ENDPOINT("'https://[::ffff:127.0.0.1'"),
    ENDPOINT("'https://[127.0.0.1]'"),
    ENDPOINT("'https://[]'"),
    ENDPOINT("'https://[::1]x'"),
    ENDPOINT("https://host:0"),
    ENDPOINT("https://host:65536"),
    ENDPOINT("https://host:"),
    ENDPOINT("https://host:80:80"),
    ENDPOINT("https://:443"),
    /* Closed ones. */
    ENDPOINT("https://10.0.0.1"),
    ENDPOINT("https://127.0.0.2"),
    ENDPOINT("https://169.254.169.254/x"),
    ENDPOINT("'https://[fd00::1]:443'"),
    ENDPOINT("'https://[::ffff:10.0.0.1]'"),
    ENDPOINT("'https://[64:ff9b::a00:1]'"),
    ENDPOINT("http://127.0.0.2"),
    ENDPOINT("'http://[::]:1'"),
};

static void test_endpoints_and_credentials(void **state) {
    (void)state;
    for (size_t i = 0; i < BH_COUNT(bad_endpoints); i++) {
        struct err err = {0};
        struct contract *contract = NULL;
        if (contract_load_text("c", span_str(bad_endpoints[i]), &contract, &err) != BH_E_CONFIG ||
            err.line != 3) {
            fail_msg("accepted or misplaced: %s", bad_endpoints[i]);
        }
    }
    static const char *const good[] = {ENDPOINT("http://127.0.0.1:9999"),
                                       ENDPOINT("http://localhost/x"),
                                       ENDPOINT("'http://[::1]:80'"),
                                       ENDPOINT("https://api.mixpanel.com/path"),
                                       ENDPOINT("https://8.8.8.8:443"),
                                       ENDPOINT("'https://[2606:4700::1]/x'"),
                                       ENDPOINT("https://1.example"),
                                       ENDPOINT("https://0x7f.a"),
                                       ENDPOINT("https://a_b.example:65535"),
                                       ENDPOINT("https://127.0.0.1:1"),
                                       ENDPOINT("https://10.1.2.3\negress: [10.0.0.0/8]"),
                                       ENDPOINT("'https://[fd00::1]'\negress: [public, fd00::1]")};
    for (size_t i = 0; i < BH_COUNT(good); i++) {
        struct err err = {0};
        struct contract *contract = NULL;
        assert_int_equal(contract_load_text("c", span_str(good[i]), &contract, &err), 0);
        struct contract_facts facts;
        contract_facts(contract, &facts);
        assert_int_equal(facts.credential_kind, CREDENTIAL_ENV);
        assert_string_equal(facts.credential, "T");
        assert_null(facts.ca_file);
        contract_free(contract);
    }
    contract_refused("vendor: m\nconnector: mixpanel\nendpoint: https://x\ncredential: s3cr3t\n", 4,
                     13, "a secret never stands in this file");
    contract_refused(
        "vendor: m\nconnector: mixpanel\nendpoint: https://x\ncredential: { env: A, file: B }\n", 4,
        13, "exactly one");
    contract_refused(
        "vendor: m\nconnector: mixpanel\nendpoint: https://x\ncredential: { token: A }\n", 4, 15,
        "unknown key 'token'");
}

#define PIN_A "sha256//47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="
#define PIN_B "sha256//AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="

/* What does not say where it may go, and through whom, is refused at its place. */
static void test_egress_mistakes(void **state) {
    (void)state;
    contract_refused(HEAD "egress: public\n", 7, 9, "egress lists where");
    contract_refused(HEAD "egress: []\n", 7, 9, "egress lists where");
    contract_refused(HEAD "egress: [public, 10.0.0.1/8]\n", 7, 18, "the word public, addresses");
    contract_refused(HEAD "egress: [private]\n", 7, 10, "the word public, addresses");
    contract_refused(HEAD "egress: [[10.0.0.1]]\n", 7, 10, "the word public, addresses");
    contract_refused(ENDPOINT("https://10.0.0.1"), 3, 11,
                     "the address 10.0.0.1 is closed; a line egress: [public, 10.0.0.1] opens it");
    contract_refused(ENDPOINT("https://8.8.8.8") "egress: [10.0.0.0/8]\n", 3, 11, "is closed");
    contract_refused(HEAD "pin: md5//x\n", 7, 6, "a pin is sha256//");
    contract_refused(HEAD "pin: []\n", 7, 6, "at least one");
    contract_refused(HEAD "pin: [" PIN_A ", " PIN_A "x]\n", 7, 61, "a pin is sha256//");
    /* Another spelling of the same bytes would never be equal to the server's. */
    contract_refused(HEAD "pin: sha256//AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAB=\n", 7, 6,
                     "a pin is sha256//");
    contract_refused(HEAD "pin: sha256//47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU=\n", 7, 6,
                     "a pin is sha256//");
    contract_refused(ENDPOINT("http://127.0.0.1") "pin: " PIN_A "\n", 7, 6, "https://");
    contract_refused(HEAD "proxy: proxy.example:3128\n", 7, 8, "http://, https:// or socks5h://");
    contract_refused(HEAD "proxy: socks5://proxy.example:1080\n", 7, 8, "socks5h://");
    contract_refused(HEAD "proxy: http://proxy.example\n", 7, 8, "needs its port");
    contract_refused(HEAD "proxy: http://proxy.example:3128/\n", 7, 8, "a port is");
    contract_refused(HEAD "proxy: http://u:p@proxy.example:3128\n", 7, 8, "a secret never stands");
    contract_refused(HEAD "proxy: http://10.0.0.9:3128\n", 7, 8, "egress: [public, 10.0.0.9]");
    contract_refused(HEAD "proxy: http://0x7f.1:3128\n", 7, 8, "four decimal numbers");
    contract_refused(HEAD "proxy: { ca: x }\n", 7, 8, "proxy needs url");
    contract_refused(HEAD "proxy: { url: http://p.example:1, ca: x }\n", 7, 8, "https:// only");
    contract_refused(HEAD "proxy: { url: http://p.example:1, credential: secret }\n", 7, 47,
                     "a secret never stands");
    contract_refused(HEAD "proxy: { url: http://p.example:1, user: u }\n", 7, 35, "unknown key");
    contract_refused(ENDPOINT("https://localhost:1") "proxy: http://p.example:1\n", 7, 8,
                     "takes no proxy");
}

static bool allows(const char *lines, const char *address) {
    char text[1024];
    struct err err = {0};
    struct contract *contract = NULL;
    struct contract_facts facts;
    struct net net;
    (void)snprintf(text, sizeof text, "%scredential: { env: T }\npurpose: a\nretention: 1d\n%s",
                   "vendor: m\nconnector: mixpanel\n", lines);
    if (contract_load_text("c", span_str(text), &contract, &err) != 0) {
        fail_msg("%u:%u %s", err.line, err.column, err.text);
    }
    contract_facts(contract, &facts);
    assert_true(net_parse(span_str(address), &net));
    bool result = egress_allows(facts.egress, net.address);
    contract_free(contract);
    return result;
}

/* The address that is connected to decides, not the name; a proxy's where there is one. */
static void test_egress_allows(void **state) {
    (void)state;
    static const char by_name[] = "endpoint: https://api.example\n";
    static const char by_list[] =
        "endpoint: https://api.example\negress: [10.1.0.0/16, fd00::/8, 203.0.113.7]\n";
    static const char both[] = "endpoint: https://api.example\negress: [10.1.0.0/16, public]\n";
    static const char local[] = "endpoint: https://localhost:8443\n";
    static const char local_proxy[] = "endpoint: https://api.example\nproxy: http://[::1]:3128\n";
    assert_true(allows(by_name, "8.8.8.8"));
    assert_true(allows(by_name, "2606:4700::1"));
    assert_true(allows(by_name, "64:ff9b::8.8.8.8"));
    static const char *const closed[] = {"127.0.0.1",       "::1",       "10.1.2.3",
                                         "169.254.169.254", "fe80::1",   "64:ff9b::10.1.2.3",
                                         "2002:a01:203::1", "224.0.0.1", "100.64.0.1"};
    for (size_t i = 0; i < BH_COUNT(closed); i++) {
        assert_false(allows(by_name, closed[i]));
    }
    assert_true(allows(by_list, "10.1.2.3") && allows(by_list, "fd12::1"));
    assert_true(allows(by_list, "::ffff:10.1.255.255") && allows(by_list, "203.0.113.7"));
    assert_false(allows(by_list, "8.8.8.8") || allows(by_list, "10.2.0.0"));
    assert_false(allows(by_list, "127.0.0.1") || allows(by_list, "203.0.113.8"));
    assert_true(allows(both, "8.8.8.8") && allows(both, "10.1.2.3"));
    assert_false(allows(both, "10.2.2.3"));
    assert_true(allows(local, "127.0.0.1") && allows(local, "::1"));
    assert_false(allows(local, "127.0.0.2") || allows(local, "10.1.2.3"));
    assert_true(allows(local_proxy, "::1"));
    assert_false(allows(local_proxy, "10.1.2.3"));
}

/* No class that never leaves can be opened, whatever the form. */
static void test_never_cannot_be_opened(void **state) {
    (void)state;
    static const char *const forms[] = {"raw", "redact", "pseudonym", "mask",
                                        "{ coarse: country }"};
    unsigned count = 0;
    const uint16_t *all = class_all(&count);
    unsigned never = 0;
    for (unsigned i = 0; i < count; i++) {
        for (size_t f = 0; f < BH_COUNT(forms) && class_is_never(all[i]); f++) {
            char text[512];
            struct err err = {0};
            struct contract *contract = NULL;
            (void)snprintf(text, sizeof text, HEAD "allow:\n  %s: %s\n", class_name(all[i]),
                           forms[f]);
            assert_int_equal(contract_load_text("c", span_str(text), &contract, &err), BH_E_CONFIG);
            assert_non_null(strstr(err.text, "never leaves"));
            never++;
        }
    }
    assert_true(never > 100);
}

static struct ruleset *compile(const char *contract_text, const char *plan_text) {
    static const struct policy_source sources[] = {
        {7, "web", true}, {3, "api", true}, {9, "x", false}};
    struct err err = {0};
    struct contract *contract = NULL;
    struct plan *plan = NULL;
    struct ruleset *rules = NULL;
    assert_int_equal(contract_load_text("c", span_str(contract_text), &contract, &err), 0);
    if (plan_load_text("p", span_str(plan_text), &plan, &err) != 0) {
        fail_msg("%u:%u %s", err.line, err.column, err.text);
    }
    assert_int_equal(ruleset_compile(contract, plan, sources, 3, &rules, &err), 0);
    contract_free(contract);
    plan_free(plan);
    return rules;
}

static void test_parents_and_children(void **state) {
    (void)state;
    struct ruleset *r = compile(
        HEAD
        "allow:\n  user: raw\n  user.contact: mask\n  user.device: { coarse: family }\n  user.contact.email: drop\n",
        "");
    const struct class_rule *c = r->classes;
    assert_int_equal(c[CLASS_BEHAVIOR].state, CLASS_OPEN);
    assert_int_equal(c[CLASS_BEHAVIOR].rule_class, CLASS_USER);
    assert_int_equal(c[CLASS_PHONE].form.id, FORM_MASK);
    assert_int_equal(c[CLASS_EMAIL].state, CLASS_CLOSED);
    assert_int_equal(c[CLASS_CITY].state, CLASS_UNFIT); /* mask does not fit an address' city */
    assert_int_equal(c[CLASS_DEVICE].form.level, LEVEL_FAMILY);
    static const uint16_t own[] = {
        CLASS_UNIQUE_ID,  CLASS_PSEUDONYMOUS_ID,  CLASS_DEVICE_ID,        CLASS_COOKIE_ID,
        CLASS_IP_ADDRESS, CLASS_BROWSING_HISTORY, CLASS_PURCHASE_HISTORY, CLASS_SEARCH_HISTORY,
        CLASS_WORKPLACE,  CLASS_LOCATION_PRECISE, CLASS_FINANCIAL};
    for (size_t i = 0; i < BH_COUNT(own); i++) {
        assert_int_equal(c[own[i]].state, CLASS_CLOSED);
        assert_int_equal(c[own[i]].form.id, FORM_DROP);
    }
    unsigned count = 0;
    const uint16_t *all = class_all(&count);
    for (unsigned i = 0; i < count; i++) {
        assert_true(!class_is_never(all[i]) || c[all[i]].state == CLASS_NEVER_OPEN);
    }
    ruleset_free(r);
    r = compile(HEAD "allow:\n  user.unique_id: pseudonym\n", "");
    assert_int_equal(r->classes[CLASS_UNIQUE_ID].state, CLASS_OPEN);
    assert_int_equal(r->classes[CLASS_PSEUDONYMOUS_ID].state, CLASS_CLOSED);
    ruleset_free(r);
}

static void test_plan_mistakes(void **state) {
    (void)state;
    plan_refused("consent: { property: x }\n", 1, 12, "did you mean 'properties'?");
    plan_refused("consent: { properties: { ok: analytic } }\n", 1, 30, "did you mean 'analytics'?");
    plan_refused("consent: { properties: { ok: [analytics] } }\n", 1, 30, "expected analytics");
    plan_refused("consent: { categories: { C0002: gpc } }\n", 1, 33, "or social");
    plan_refused("consent: { categories: [a] }\n", 1, 24, "expected a mapping");
    plan_refused("consent: [a]\n", 1, 10, "mapping");
    plan_refused("event: {}\n", 1, 1, "did you mean 'events'?");
    plan_refused("properties:\n  a: { type: strng }\n", 2, 14, "did you mean 'string'?");
    plan_refused("properties:\n  a: { type: string }\n", 2, 6,
                 "a string leaves only with an enum, a pattern or max_distinct");
    plan_refused("properties:\n  a: {}\n", 2, 6, "say a type");
    plan_refused("properties:\n  a:\n", 2, 3, "expected a mapping");
    plan_refused("properties:\n  a: { class: user.nme, type: number }\n", 2, 15,
                 "did you mean 'user.name'?");
    plan_refused("properties:\n  a: { type: number, enum: [a] }\n", 2, 14, "for type string");
    plan_refused("properties:\n  a: { enum: [] }\n", 2, 14, "enum is a list");
    plan_refused("properties:\n  a: { pattern: '.*' }\n", 2, 17, "a dot matches anything");
    plan_refused("properties:\n  a*: { max_distinct: 5 }\n", 2, 23, "cannot hold *");
    plan_refused("properties:\n  a: { max_distinct: 0 }\n", 2, 22, "from 1");
    plan_refused("properties:\n  a: { type: url, class: user.behavior }\n", 2, 26,
                 "a url is user.behavior.browsing_history");
    plan_refused("properties:\n  a: { type: number }\n  a: { type: url }\n", 3, 3,
                 "stands already in line 2");
    plan_refused("events:\n  A: { props: {} }\n", 2, 8, "properties");
    plan_refused("groups:\n  c*: {}\n", 2, 3, "cannot hold *");
    plan_refused("groups:\n  c: { class: user.behavior }\n", 2, 15, "pseudonym");
    plan_refused("groups: [c]\n", 1, 9, "expected a mapping");
    struct err err = {0};
    struct plan *plan = NULL;
    assert_int_equal(plan_load("/nonexistent/plan.yaml", &plan, &err), 0);
    assert_int_equal(plan_distinct(plan, NULL, 0), 0);
    plan_free(plan);
}

static void test_plan_limits_count_once(void **state) {
    (void)state;
    struct err err = {0};
    struct plan *plan = NULL;
    struct resolve_distinct out[8];
    static const char text[] =
        "events:\n  A: { properties: { m: { max_distinct: 9 } } }\nproperties: { m: { max_distinct: 5 }, k: { max_distinct: 2 } }\n";
    assert_int_equal(plan_load_text("p", span_str(text), &plan, &err), 0);
    assert_int_equal(plan_distinct(plan, out, 8), 2);
    assert_string_equal(out[0].name, "m");
    assert_int_equal(out[0].limit, 5);
    assert_int_equal(plan_distinct(plan, out, 1), 1);
    plan_free(plan);
}

static void test_names(void **state) {
    (void)state;
    static const struct {
        const char *glob;
        const char *name;
        bool matches;
    } cases[] = {
        {"Step *", "Step 1", true},
        {"Step *", "Step ", true},
        {"Step *", "Step", false},
        {"*", "", true},
        {"*", "x", true},
        {"a*b*c", "abc", true},
        {"a*b*c", "axbxbyc", true},
        {"a*b*c", "axbxc_", false},
        {"", "", true},
        {"", "x", false},
        {"**x", "yyx", true},
        {"x", "x", true},
        {"*ab", "aab", true},
        {"*aab", "aaab", true},
        {"a*", "ba", false},
    };
    for (size_t i = 0; i < BH_COUNT(cases); i++) {
        if (glob_matches(span_str(cases[i].glob), span_str(cases[i].name)) != cases[i].matches) {
            fail_msg("%s and %s", cases[i].glob, cases[i].name);
        }
    }
    struct ruleset *r = compile(
        HEAD,
        "properties: { 'a*': { type: number }, 'ab*': { type: boolean }, 'abc': { type: url }, '*': { type: time } }\n");
    static const struct {
        const char *name;
        enum rule_type type;
    } found[] = {{"abc", RULE_URL}, {"abd", RULE_BOOLEAN}, {"ax", RULE_NUMBER}, {"x", RULE_TIME}};
    for (size_t i = 0; i < BH_COUNT(found); i++) {
        struct span name = span_str(found[i].name);
        const struct rule_field *field = names_find(&r->properties, name, name_hash(name));
        assert_non_null(field);
        assert_int_equal(field->type, found[i].type);
    }
    ruleset_free(r);
}

static const char big_plan[] =
    "events:\n  Signed Up: { properties: { plan: { enum: [pro, free, plus] } } }\n  'Step *': {}\n  'Ümläut \"q\"': {}\n"
    "properties:\n  tokens: { type: number }\n  code: { pattern: '[A-Z]+\\d{2}' }\n  model: { type: string, max_distinct: 50 }\n"
    "  email: { class: user.contact.email, pattern: '[a-z]+@x' }\n  pw: { class: user.authorization.password }\n"
    "traits: { plan: { enum: [free] } }\ngroups: { company: {}, team: { class: user.contact.organization } }\n"
    "consent: { properties: { ok: categories, seen: gpc, ads: advertising }, categories: { C2: social, A*: analytics } }\n";

static void test_normal_form(void **state) {
    (void)state;
    static uint8_t a[65536];
    static uint8_t b[65536];
    struct err err = {0};
    struct ruleset *r = compile(
        HEAD
        "allow: { user.device: { coarse: major, requires: [consent.social, consent.analytics] }, user.device.ip_address: { coarse: /48 }, user.unique_id: pseudonym }\n"
        "time: minute\nrequires: [consent.social, consent.analytics, consent.social]\n",
        big_plan);
    struct buf first = buf_of(a, sizeof a);
    assert_int_equal(ruleset_write(r, &first), 0);
    struct ruleset *again = NULL;
    assert_int_equal(ruleset_read(buf_span(&first), &again, &err), 0);
    struct buf second = buf_of(b, sizeof b);
    assert_int_equal(ruleset_write(again, &second), 0);
    assert_true(span_equal(buf_span(&first), buf_span(&second)));
    assert_true(ruleset_equal(r, again));
    assert_memory_equal(r->classes, again->classes, sizeof r->classes);
    assert_int_equal(again->time, TIME_MINUTE);
    assert_true(ruleset_feeds(again, 3) && ruleset_feeds(again, 7) && !ruleset_feeds(again, 9));
    assert_int_equal(again->classes[CLASS_IP_ADDRESS].form.level, LEVEL_NET);
    a[first.n] = '\0';
    assert_non_null(strstr((char *)a, "\"sources\":[3,7]"));
    assert_non_null(strstr((char *)a, "\"honour\":[\"dnt\",\"gpc\"]"));
    assert_non_null(strstr((char *)a, "\"requires\":[\"consent.analytics\",\"consent.social\"]"));
    assert_non_null(strstr((char *)a, "\"user.device\":{\"form\":\"coarse:major\",\"requires\":["));
    assert_non_null(
        strstr((char *)a, "\"consent\":{\"categories\":{\"A*\":\"analytics\",\"C2\":\"social\"}"));
    assert_int_equal(again->requires, CONSENT_ANALYTICS | CONSENT_SOCIAL);
    assert_int_equal(again->honour, SIGNAL_ALL);
    assert_null(strstr((char *)a, "TOKEN")); /* the credential decides nothing */
    /* The order of lines in the files makes no difference. */
    struct ruleset *other = compile(
        "purpose: analytics\ntime: minute\nretention: 400d\nallow: { user.unique_id: pseudonym, user.device.ip_address: { coarse: /24 }, user.device: { requires: [consent.analytics, consent.social], coarse: major } }\n"
        "honour: [gpc, dnt]\nrequires: [consent.analytics, consent.social]\n"
        "credential: { file: X }\nendpoint: https://api-eu.mixpanel.com\nconnector: mixpanel\nvendor: mixpanel\n",
        big_plan);
    assert_true(ruleset_equal(r, other));
    struct buf full = buf_of(b, 10);
    assert_int_equal(ruleset_write(r, &full), BH_E_FULL);
    ruleset_free(other);
    ruleset_free(again);
    ruleset_free(r);
}

/* Where it may go is what the ledger's contract line proves, as the endpoint is. */
static void test_egress_in_normal_form(void **state) {
    (void)state;
    static char text[8192];
    struct ruleset *plain = compile(HEAD, "");
    struct ruleset *said = compile(
        HEAD "egress: [public, 10.0.0.0/8, fd00::1]\npin: [" PIN_B ", " PIN_A "]\n"
             "proxy: { url: https://p.example:3129, ca: roots.pem, credential: { env: LOGIN } }\n",
        "");
    struct buf b = buf_of(text, sizeof text - 1);
    assert_int_equal(ruleset_write(said, &b), 0);
    text[b.n] = '\0';
    assert_non_null(strstr(text, "\"egress\":[\"10.0.0.0/8\",\"fd00::1/128\",\"public\"],"));
    assert_non_null(strstr(text, "\"pin\":[\"" PIN_B "\",\"" PIN_A "\"],"));
    assert_non_null(strstr(text, "\"proxy\":\"https://p.example:3129\","));
    assert_null(strstr(text, "LOGIN"));
    assert_null(strstr(text, "roots.pem"));
    assert_false(ruleset_equal(plain, said));
    b.n = 0;
    assert_int_equal(ruleset_write(plain, &b), 0);
    text[b.n] = '\0';
    assert_null(strstr(text, "egress"));
    assert_null(strstr(text, "proxy"));
    ruleset_free(plain);
    ruleset_free(said);
}

/* A stored rule set with any one byte changed or cut is refused or read, but never a crash; a newer format says so. */
static void test_damaged_normal_form(void **state) {
    (void)state;
    static uint8_t bytes[65536];
    struct err err = {0};
    struct ruleset *r = compile(HEAD "allow: { user.device: { coarse: major } }\n", big_plan);
    struct buf b = buf_of(bytes, sizeof bytes);
    assert_int_equal(ruleset_write(r, &b), 0);
    ruleset_free(r);
    struct ruleset *read = NULL;
    for (size_t i = 0; i < b.n; i++) {
        uint8_t kept = bytes[i];
        bytes[i] ^= (uint8_t)(1 + i % 7);
        read = NULL;
        (void)(ruleset_read(buf_span(&b), &read, &err) == 0); /* either is fine */
        ruleset_free(read);
        bytes[i] = kept;
        read = NULL;
        assert_true(ruleset_read(span_of(bytes, i), &read, &err) != 0);
    }
    static const char newer[] =
        "{\"contract\":{},\"format\":3,\"plan\":{},\"sources\":[],\"tables\":{}}";
    assert_int_equal(ruleset_read(SPAN_LIT("{\"format\":3}"), &read, &err), BH_E_VERSION);
    assert_int_equal(ruleset_read(span_str(newer), &read, &err), BH_E_VERSION);
    assert_int_equal(ruleset_read(SPAN_LIT("[]"), &read, &err), BH_E_CORRUPT);
    assert_int_equal(ruleset_read(SPAN_NONE, &read, &err), BH_E_CORRUPT);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_contract_mistakes),
        cmocka_unit_test(test_endpoints_and_credentials),
        cmocka_unit_test(test_egress_mistakes),
        cmocka_unit_test(test_egress_allows),
        cmocka_unit_test(test_egress_in_normal_form),
        cmocka_unit_test(test_never_cannot_be_opened),
        cmocka_unit_test(test_parents_and_children),
        cmocka_unit_test(test_plan_mistakes),
        cmocka_unit_test(test_plan_limits_count_once),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_normal_form),
        cmocka_unit_test(test_damaged_normal_form),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
