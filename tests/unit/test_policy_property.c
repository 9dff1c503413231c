/*
 * What holds of every verdict, tried on random contracts, plans and items.
 *
 *   closed        a marked value under a name that nobody declared is in no output, whatever the contract opens, in whatever place it stands
 *   never         nor is one of a never-class, also where its name is declared and its parents are open
 *   valid         output is one JSON object with unique keys
 *   meet          under two rule sets each leaf has the stricter of both forms; their order makes no difference
 *   equal         equal inputs give equal bytes, whatever came in between; a rule set read again judges as it did
 *   unlinkable    two vendors' outputs of one item have no identifier in common
 *
 * BH_SEED repeats a run; BH_ROUNDS makes it longer.
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
#include "unit/random_kit.h"

static unsigned rounds;
static struct policy *one;
static struct policy *two;

static uint32_t below(uint32_t n) {
    return (uint32_t)random_below(n);
}

static const char *pick(const char *const *words, size_t count) {
    return words[below((uint32_t)count)];
}

#define PICK(words) pick(words, BH_COUNT(words))

/* -- contracts and plans -------------------------------------------------------------------------- */

/* A rule for about half of all classes, each in a form that fits. */
static void make_allow(struct buf *out, uint32_t one_in) {
    static const char *const forms[] = {"raw",
                                        "raw",
                                        "drop",
                                        "redact",
                                        "pseudonym",
                                        "mask",
                                        "{ coarse: country }",
                                        "{ coarse: region }",
                                        "{ coarse: family }",
                                        "{ coarse: major }",
                                        "{ coarse: path }",
                                        "{ coarse: /24 }",
                                        "{ coarse: year }"};
    unsigned count = 0;
    const uint16_t *all = class_all(&count);
    for (unsigned i = 0; i < count; i++) {
        if (class_is_never(all[i]) || all[i] == CLASS_SYSTEM || below(one_in) != 0) {
            continue;
        }
        for (unsigned tries = 0; tries < 20; tries++) {
            char line[128];
            char contract_text[512];
            (void)snprintf(line, sizeof line, "  %s: %s\n", class_name(all[i]), PICK(forms));
            (void)snprintf(
                contract_text, sizeof contract_text,
                "vendor: v\nconnector: mixpanel\nendpoint: https://e\ncredential: { env: X }\npurpose: a\nretention: 1d\nallow:\n%s",
                line);
            struct contract *contract = NULL;
            struct err err;
            if (contract_load_text("c", span_str(contract_text), &contract, &err) == 0) {
                contract_free(contract);
                buf_put_str(out, line);
                break;
            }
        }
    }
    buf_put_str(out, "  system: raw\n");
}

static const char *const declared[] = {"tokens", "ok",         "code", "kind", "page",
                                       "when",   "cart.total", "who",  "mail", "model"};

/* Each of the declared names in one of a few meanings, and not at all once in a while. */
static void make_plan(struct buf *out) {
    static const char *const types[] = {
        "{ type: number }",
        "{ type: boolean }",
        "{ pattern: '[A-Z]{2}-[0-9]{1,3}' }",
        "{ enum: [red, green, blue] }",
        "{ type: url }",
        "{ type: time }",
        "{ type: number, class: user.telemetry }",
        "{ type: string, class: user.unique_id }",
        "{ pattern: '[a-z.]+@example\\.com', class: user.contact.email }",
        "{ enum: [m1, m2], class: user.job_title }",
    };
    buf_put_str(out, "events: { Run: {}, 'Step *': {}");
    buf_put_str(out, below(2) != 0 ? ", Other: { properties: { extra: { type: number } } } }\n"
                                   : " }\n");
    static const char *const sections[] = {"properties", "traits"};
    for (size_t s = 0; s < 2; s++) {
        buf_put_str(out, sections[s]);
        buf_put_str(out, ":\n  zero: { type: number }\n");
        for (size_t i = 0; i < BH_COUNT(declared); i++) {
            if (below(6) != 0) {
                buf_printf(out, "  %s: %s\n", declared[i], below(3) != 0 ? types[i] : PICK(types));
            }
        }
    }
    buf_put_str(out, below(3) != 0 ? "groups: { company: {} }\n" : "");
}

/* `same_plan` keeps the plan of the rule set made last. */
static struct ruleset *make_rules(uint32_t one_in, bool same_plan) {
    static char allow[16384];
    static char plan[8192];
    static const char *const more[] = {"time: ms\n", "time: second\n",
                                       "time: minute\nundeclared: drop\n", "time: hour\n", ""};
    struct buf a = buf_of(allow, sizeof allow - 1);
    struct buf p = buf_of(plan, sizeof plan - 1);
    make_allow(&a, one_in);
    if (!same_plan) {
        make_plan(&p);
        plan[p.n] = '\0';
    }
    assert_false(a.full || p.full);
    allow[a.n] = '\0';
    return policy_kit_allow(allow, PICK(more), plan);
}

/* -- items -------------------------------------------------------------------------------------------- */

static uint32_t mark_count;

/* A value that no enum, pattern or table row knows, with a number of its own in place of each #. */
static void put_mark(struct buf *out, bool is_plain) {
    static const char *const shapes[] = {
        "zqmark# free text",
        "zqmark#",
        "https://zqmark#.example/?zqmark#",
        "{\\\"k\\\":\\\"zqmark#\\\"}",
        "zqmark#@mail.example",
        "%7Bzqmark#%7D",
        "\\u007aqmark#",
    };
    mark_count++;
    buf_put_byte(out, '"');
    for (const char *c = is_plain ? shapes[0] : PICK(shapes); *c != '\0'; c++) {
        if (*c == '#') {
            buf_put_u64_dec(out, mark_count);
        } else {
            buf_put_byte(out, (uint8_t)*c);
        }
    }
    buf_put_byte(out, '"');
}

static void put_undeclared(struct buf *out, unsigned depth) {
    static const char *const keys[] = {"note",    "x",        "comment",   "zqmarkkey",
                                       "tokens2", "$zz",      "user_note", "Tokens",
                                       "cart",    "raw.text", "$el_text",  "current_page_title"};
    static unsigned number;
    buf_printf(out, "\"%s_%u\":", PICK(keys), ++number);
    unsigned what = below(depth == 0 ? 2 : 4);
    if (what < 2) {
        put_mark(out, false);
        return;
    }
    buf_put_byte(out, what == 2 ? '[' : '{');
    unsigned n = 1 + below(3);
    for (unsigned i = 0; i < n; i++) {
        buf_put_str(out, i != 0 ? "," : "");
        if (what == 2) {
            put_mark(out, false);
        } else {
            put_undeclared(out, depth - 1);
        }
    }
    buf_put_byte(out, what == 2 ? ']' : '}');
}

/* Declared names with values that mostly fit, else a mark. */
static void put_declared(struct buf *out) {
    static const char *const values[] = {"5",
                                         "true",
                                         "\"AB-12\"",
                                         "\"red\"",
                                         "\"https://app.example/a/7?q=1\"",
                                         "1790000001.25",
                                         "-1e3",
                                         "\"m1\"",
                                         "\"jane.roe@example.com\"",
                                         "null",
                                         "[]"};
    for (size_t i = 0; i < BH_COUNT(declared); i++) {
        if (below(2) == 0) {
            continue;
        }
        bool nested = strcmp(declared[i], "cart.total") == 0;
        buf_printf(out, nested ? ",\"cart\":{\"total\":" : ",\"%s\":", declared[i]);
        if (below(5) == 0) {
            put_mark(out, true); /* a URL of a mark would be a URL that was declared */
        } else {
            buf_put_str(out, PICK(values));
        }
        buf_put_str(out, nested ? "}" : "");
    }
}

static void put_reserved(struct buf *out, bool is_profile) {
    static const char *const event_fields[] = {
        "\"$os\":\"Mac OS X\"",
        "\"$browser\":\"Chrome\"",
        "\"$browser_version\":138",
        "\"$city\":\"Paris\"",
        "\"mp_country_code\":\"FR\"",
        "\"ip\":\"203.0.113.9\"",
        "\"$current_url\":\"https://app.example/users/77/a?email=jane.roe@example.com\"",
        "\"$referrer\":\"https://other.example/p\"",
        "\"$user_id\":\"user-alpha\"",
        "\"$device_id\":\"5c2dfb22-9ccd-4e5d-bfe2-60b39d310329\"",
        "\"$session_id\":\"sess-12345\"",
        "\"gclid\":\"click-777\"",
        "\"$screen_width\":1366",
        "\"company\":[\"org-beta\"]"};
    static const char *const profile_fields[] = {"\"$email\":\"jane.roe@example.com\"",
                                                 "\"$name\":\"Jane Roe\"",
                                                 "\"$phone\":\"+1 555 0100\"",
                                                 "\"$city\":\"Paris\"",
                                                 "\"$os\":\"Linux\"",
                                                 "\"$created\":\"2026-03-01T08:01:02.345Z\"",
                                                 "\"company\":\"org-beta\"",
                                                 "\"$avatar\":\"https://img.example/77.png\"",
                                                 "\"$ios_ifa\":\"ifa-1234567\""};
    const char *const *fields = is_profile ? profile_fields : event_fields;
    size_t count = is_profile ? BH_COUNT(profile_fields) : BH_COUNT(event_fields);
    for (size_t i = 0; i < count; i++) {
        if (below(3) != 0) {
            buf_printf(out, ",%s", fields[i]);
        }
    }
}

static const char *make_item(struct buf *out) {
    bool is_profile = below(4) == 0;
    if (is_profile) {
        static const char *const ops[] = {"$set", "$set_once", "$append", "$union", "$remove"};
        buf_printf(
            out,
            "{\"$token\":\"t\",\"$distinct_id\":\"user-alpha\",\"$ip\":\"203.0.113.9\",\"%s\":{\"zero\":0",
            PICK(ops));
    } else {
        static const char *const names[] = {"Run", "Step 1", "Other", "$mp_web_page_view"};
        buf_printf(
            out,
            "{\"event\":\"%s\",\"properties\":{\"token\":\"t\",\"time\":1790000012.345,\"distinct_id\":\"%s\"",
            PICK(names),
            below(2) != 0 ? "user-alpha" : "$device:5c2dfb22-9ccd-4e5d-bfe2-60b39d310329");
    }
    put_reserved(out, is_profile);
    put_declared(out);
    for (unsigned n = below(5); n > 0; n--) {
        buf_put_byte(out, ',');
        put_undeclared(out, 3);
    }
    buf_put_str(out, "}");
    if (below(3) == 0) {
        buf_put_byte(out, ',');
        put_undeclared(out, 2);
    }
    buf_put_byte(out, '}');
    assert_false(out->full);
    out->p[out->n] = '\0';
    return is_profile ? "/engage" : "/track";
}

static char item_text[32768];

/* A random item in hand, ready to be judged. Returns its path. */
static const char *next_item(void) {
    for (;;) {
        struct buf out = buf_of(item_text, sizeof item_text - 1);
        const char *path = make_item(&out);
        if (policy_kit_item(path, buf_span(&out), true)) {
            return path;
        }
    }
}

static void fail_item(const char *what, const char *json) {
    fail_msg("%s\n  item %s\n  out  %s", what, item_text, json);
}

/* -- properties ------------------------------------------------------------------------------------------ */

static void check_valid(const char *json) {
    static struct json_token tokens[LIMIT_EVENT_TOKENS];
    struct span text = span_str(json);
    size_t count = 0;
    size_t offset = 0;
    if (json_parse(text, LIMIT_JSON_DEPTH, tokens, LIMIT_EVENT_TOKENS, &count, &offset) != 0 ||
        tokens[0].kind != JSON_OBJECT) {
        fail_item("no JSON object", json);
    }
    for (size_t object = 0; object < count; object++) {
        for (uint32_t a = (uint32_t)object + 1;
             tokens[object].kind == JSON_OBJECT && a < tokens[object].next; a = tokens[a].next) {
            for (uint32_t b = tokens[a].next; b < tokens[object].next; b = tokens[b].next) {
                if (span_equal(json_span(text, &tokens[a]), json_span(text, &tokens[b]))) {
                    fail_item("a key stands twice", json);
                }
            }
        }
    }
}

static void test_closed_and_valid(void **state) {
    (void)state;
    unsigned sent = 0;
    for (unsigned round = 0; round < rounds; round++) {
        struct ruleset *rules = make_rules(1 + below(3), false);
        const struct ruleset *const list[] = {rules, NULL};
        for (unsigned i = 0; i < 20; i++) {
            (void)next_item();
            const struct policy_kit_result *r = policy_kit_apply(one, list, below(4) == 0);
            if (strstr(r->json, "qmark") != NULL) {
                fail_item("a marked value left", r->json);
            }
            if (r->verdict.sends) {
                check_valid(r->json);
                sent++;
            }
        }
        ruleset_free(rules);
    }
    assert_true(sent > rounds);
}

static void test_never(void **state) {
    (void)state;
    static char allow[4096];
    (void)snprintf(
        allow, sizeof allow,
        "  user: raw\n  system: raw\n  user.unique_id: raw\n  user.financial: raw\n  user.content: raw\n");
    struct ruleset *rules = policy_kit_allow(
        allow, "",
        "events: { Run: {} }\nproperties: { password: { type: string, max_distinct: 1000 }, note: { type: string, max_distinct: 1000 } }\n");
    static const char *const secrets[] = {"4111 1111 1111 1111",
                                          "4111-1111-1111-1111",
                                          "sk_live_51HxyzABCDEFGHIJKLMNOPQRSTUV",
                                          "DE89 3704 0044 0532 0130 00",
                                          "-----BEGIN RSA PRIVATE KEY-----",
                                          "AKIAIOSFODNN7EXAMPLE"};
    const struct ruleset *const list[] = {rules, NULL};
    for (size_t i = 0; i < BH_COUNT(secrets); i++) {
        struct buf out = buf_of(item_text, sizeof item_text - 1);
        buf_printf(
            &out,
            "{\"event\":\"Run\",\"properties\":{\"token\":\"t\",\"password\":\"zqsecret\",\"note\":\"see %s ok\"}}",
            secrets[i]);
        item_text[out.n] = '\0';
        assert_true(policy_kit_item("/track", buf_span(&out), true));
        const struct policy_kit_result *r = policy_kit_apply(one, list, false);
        if (strstr(r->json, "zqsecret") != NULL || strstr(r->json, secrets[i]) != NULL ||
            strstr(r->json, "note") != NULL) {
            fail_item("a secret left", r->json);
        }
        assert_true(r->verdict.sends && r->verdict.withheld_by_reason[REASON_NEVER] >= 2);
    }
    ruleset_free(rules);
}

/* Pointer and form of every leaf's story. */
struct story {
    unsigned count;
    struct {
        char pointer[200];
        char form[32];
    } leaves[400];
};

static void read_story(struct story *s, const char *text) {
    s->count = 0;
    for (const char *line = text; *line != '\0'; line = strchr(line, '\n') + 1) {
        char pointer[200];
        char class_word[80];
        char form[32];
        assert_int_equal(sscanf(line, "%199s %79s %31s", pointer, class_word, form), 3);
        memcpy(s->leaves[s->count].pointer, pointer, sizeof pointer);
        memcpy(s->leaves[s->count].form, form, sizeof form);
        s->count++;
        assert_true(s->count < 400);
    }
}

static struct form form_of(const char *word) {
    struct form form = {0, 0};
    const char *colon = strchr(word, ':');
    form.id = form_by_name(span_of(word, colon != NULL ? (size_t)(colon - word) : strlen(word)));
    if (colon != NULL) {
        form.level =
            strcmp(colon + 1, "net") == 0 ? (uint8_t)LEVEL_NET : level_by_name(span_str(colon + 1));
    }
    return form;
}

static void test_meet(void **state) {
    (void)state;
    static struct story sa;
    static struct story sb;
    static struct story sm;
    static char kept[65536];
    unsigned compared = 0;
    for (unsigned round = 0; round < rounds / 2; round++) {
        struct ruleset *a = make_rules(2, false);
        bool same_plan = below(2) == 0;
        struct ruleset *b = below(4) == 0 ? a : make_rules(2, same_plan);
        for (unsigned i = 0; i < 20; i++) {
            (void)next_item();
            const struct ruleset *const la[] = {a, NULL};
            const struct ruleset *const lb[] = {b, NULL};
            const struct ruleset *const ab[] = {a, b, NULL};
            const struct ruleset *const ba[] = {b, a, NULL};
            const struct policy_kit_result *r = policy_kit_apply(one, la, true);
            bool a_sends = r->verdict.sends;
            read_story(&sa, r->story);
            r = policy_kit_apply(one, lb, true);
            bool b_sends = r->verdict.sends;
            read_story(&sb, r->story);
            r = policy_kit_apply(one, ab, true);
            bool both_send = r->verdict.sends;
            read_story(&sm, r->story);
            memcpy(kept, r->json, strlen(r->json) + 1);
            r = policy_kit_apply(one, ba, true);
            /* Where plans differ, the newest names the class, which a redaction shows. */
            if (same_plan && strcmp(kept, r->json) != 0) {
                fail_msg("the order of rule sets counts\n  item %s\n  ab %s\n  ba %s", item_text,
                         kept, r->json);
            }
            assert_true(!both_send || (a_sends && b_sends));
            assert_int_equal(sa.count, sm.count);
            assert_int_equal(sb.count, sm.count);
            for (unsigned k = 0; k < sm.count; k++) {
                assert_string_equal(sa.leaves[k].pointer, sm.leaves[k].pointer);
                struct form m = form_of(sm.leaves[k].form);
                struct form want =
                    form_meet(form_of(sa.leaves[k].form), form_of(sb.leaves[k].form));
                /* What is found in a leaf can make the meet stricter than either form. */
                bool good = m.id == FORM_DROP || (m.id == want.id && m.level == want.level);
                if (!good) {
                    fail_msg("%s: %s under %s and %s\n  item %s", sm.leaves[k].pointer,
                             sm.leaves[k].form, sa.leaves[k].form, sb.leaves[k].form, item_text);
                }
                compared += m.id != FORM_DROP;
            }
        }
        if (b != a) {
            ruleset_free(b);
        }
        ruleset_free(a);
    }
    assert_true(compared > rounds);
}

static void test_equal_inputs_equal_bytes(void **state) {
    (void)state;
    static char kept[65536];
    static uint8_t normal[1 << 20];
    struct policy *fresh = NULL;
    for (unsigned round = 0; round < rounds / 2; round++) {
        struct ruleset *rules = make_rules(1 + below(2), false);
        struct buf b = buf_of(normal, sizeof normal);
        struct ruleset *again = NULL;
        struct err err;
        assert_int_equal(ruleset_write(rules, &b), 0);
        assert_int_equal(ruleset_read(buf_span(&b), &again, &err), 0);
        const struct ruleset *const list[] = {rules, NULL};
        const struct ruleset *const relist[] = {again, NULL};
        fresh = policy_kit_vendor("one");
        for (unsigned i = 0; i < 10; i++) {
            (void)next_item();
            const struct policy_kit_result *r = policy_kit_apply(one, list, false);
            memcpy(kept, r->json, strlen(r->json) + 1);
            if (strcmp(kept, policy_kit_apply(fresh, relist, true)->json) != 0) {
                fail_item("a policy that has seen nothing writes other bytes", kept);
            }
            if (strcmp(kept, policy_kit_apply(one, relist, false)->json) != 0) {
                fail_item("the second time is another", kept);
            }
        }
        policy_free(fresh);
        ruleset_free(again);
        ruleset_free(rules);
    }
}

/* Items that end early: the kit compares one walk with two for each. */
static void test_items_that_end_early(void **state) {
    (void)state;
    unsigned refused = 0;
    for (unsigned round = 0; round < rounds / 2; round++) {
        struct ruleset *rules = make_rules(1 + below(2), false);
        const struct ruleset *const list[] = {rules, NULL};
        for (unsigned i = 0; i < 10; i++) {
            const char *path = next_item();
            size_t n = strlen(item_text);
            while (n > 0 && item_text[n - 1] == '}') {
                n--;
            }
            struct buf out = buf_of(item_text, sizeof item_text - 1);
            out.n = n;
            buf_put_str(&out,
                        below(2) != 0 ? ",\"zz\":1,\"zz\":2}}" : ",\"zz\":{\"z\":1,\"z\":2}}}");
            item_text[out.n] = '\0';
            if (policy_kit_item(path, buf_span(&out), true)) {
                const struct policy_kit_result *r = policy_kit_apply(one, list, below(2) != 0);
                refused += r->verdict.reason == REASON_MALFORMED;
                assert_false(r->verdict.sends);
            }
        }
        ruleset_free(rules);
    }
    assert_true(refused > rounds / 2);
}

/* The item in hand with white space around commas and colons. */
static void spread_item(struct buf *out) {
    bool in_string = false;
    for (const char *c = item_text; *c != '\0'; c++) {
        bool is_mark = !in_string && (*c == ',' || *c == ':');
        if (is_mark && below(3) == 0) {
            buf_put_str(out, below(2) != 0 ? " " : "\n\t");
        }
        buf_put_byte(out, (uint8_t)*c);
        if (is_mark && below(3) == 0) {
            buf_put_str(out, below(2) != 0 ? " " : "\r\n ");
        }
        if (in_string && *c == '\\') {
            buf_put_byte(out, (uint8_t) * ++c);
        } else if (*c == '"') {
            in_string = !in_string;
        }
    }
}

static void test_white_space_changes_nothing(void **state) {
    (void)state;
    static char kept[65536];
    static uint8_t spread[65536];
    unsigned sent = 0;
    for (unsigned round = 0; round < rounds / 2; round++) {
        struct ruleset *rules = make_rules(1 + below(2), false);
        const struct ruleset *const list[] = {rules, NULL};
        for (unsigned i = 0; i < 10; i++) {
            const char *path = next_item();
            const struct policy_kit_result *r = policy_kit_apply(one, list, false);
            memcpy(kept, r->json, strlen(r->json) + 1);
            sent += r->verdict.sends;
            struct buf b = buf_of(spread, sizeof spread);
            spread_item(&b);
            assert_false(b.full);
            assert_true(policy_kit_item(path, buf_span(&b), true));
            if (strcmp(kept, policy_kit_apply(one, list, false)->json) != 0) {
                fail_item("white space in the item changes what leaves", kept);
            }
        }
        ruleset_free(rules);
    }
    assert_true(sent > rounds);
}

/* All strings of one output that a pseudonym or an insert id could be: at least 26 characters. */
static void test_unlinkable(void **state) {
    (void)state;
    static struct json_token tokens[LIMIT_EVENT_TOKENS];
    static char first[65536];
    unsigned compared = 0;
    for (unsigned round = 0; round < rounds / 2; round++) {
        struct ruleset *rules = policy_kit_allow(
            "  user.unique_id: pseudonym\n  user.unique_id.pseudonymous: pseudonym\n  user.device.device_id: pseudonym\n"
            "  user.device.cookie_id: pseudonym\n  user.workplace: pseudonym\n  user.behavior: raw\n  system: raw\n",
            "",
            "events: { Run: {}, 'Step *': {}, Other: {} }\nproperties: { who: { class: user.unique_id, type: string } }\ntraits: { zero: { type: number } }\ngroups: { company: {} }\n");
        const struct ruleset *const list[] = {rules, NULL};
        for (unsigned i = 0; i < 10; i++) {
            (void)next_item();
            memcpy(first, policy_kit_apply(one, list, false)->json, sizeof first);
            const char *second = policy_kit_apply(two, list, false)->json;
            struct span text = span_str(first);
            size_t count = 0;
            size_t offset = 0;
            assert_int_equal(json_parse(text, 64, tokens, LIMIT_EVENT_TOKENS, &count, &offset), 0);
            for (size_t t = 0; t < count; t++) {
                struct span value = json_span(text, &tokens[t]);
                if (tokens[t].kind != JSON_STRING || value.n < 26) {
                    continue;
                }
                compared++;
                if (span_find(span_str(second), value) != SIZE_MAX) {
                    fail_msg("both vendors have %.*s\n  item %s\n  %s\n  %s", (int)value.n,
                             (const char *)value.p, item_text, first, second);
                }
            }
            static const char *const ids[] = {"user-alpha", "5c2dfb22", "sess-12345",
                                              "click-777",  "org-beta", "ifa-1234567"};
            for (size_t k = 0; k < BH_COUNT(ids); k++) {
                if (strstr(first, ids[k]) != NULL || strstr(second, ids[k]) != NULL) {
                    fail_item("an identifier left as it was", second);
                }
            }
        }
        ruleset_free(rules);
    }
    assert_true(compared > rounds);
}

/* Pseudonyms lead back to the aid, at their own vendor only. */
static void test_reverse(void **state) {
    (void)state;
    struct ruleset *rules = policy_kit_allow(
        "  user.unique_id: pseudonym\n  user.device.device_id: pseudonym\n  user.behavior: raw\n  system: raw\n",
        "", "events: { Run: {} }\n");
    const struct ruleset *const list[] = {rules, NULL};
    for (unsigned i = 0; i < 200; i++) {
        char id[64];
        bool is_uuid = below(2) != 0;
        (void)snprintf(id, sizeof id, is_uuid ? "%08x-9ccd-4e5d-bfe2-60b39d310329" : "user-%u",
                       below(UINT32_MAX));
        struct buf out = buf_of(item_text, sizeof item_text - 1);
        buf_printf(&out,
                   "{\"event\":\"Run\",\"properties\":{\"token\":\"t\",\"distinct_id\":\"%s\"}}",
                   id);
        assert_true(policy_kit_item("/track", buf_span(&out), true));
        const char *json = policy_kit_apply(one, list, false)->json;
        const char *at = strstr(json, "\"distinct_id\":\"");
        assert_non_null(at);
        struct span pseudonym = span_of(at + 15, is_uuid ? 36 : 26);
        struct aid want;
        struct aid got[64];
        aid_make(policy_kit_aids(), SPAN_NONE, span_str(id), &want);
        size_t n = policy_pseudonym_aids(one, DOMAIN_PERSON, pseudonym, got, 64);
        assert_int_equal(n, is_uuid ? 64 : 1);
        unsigned hits = 0;
        for (size_t k = 0; k < n; k++) {
            hits += memcmp(got[k].b, want.b, 16) == 0;
        }
        assert_int_equal(hits, 1);
        assert_int_equal(policy_pseudonym_reverse(one, DOMAIN_PERSON, pseudonym, &got[0]),
                         !is_uuid);
        n = policy_pseudonym_aids(two, DOMAIN_PERSON, pseudonym, got, 64);
        for (size_t k = 0; k < n; k++) {
            assert_memory_not_equal(got[k].b, want.b, 16);
        }
        assert_int_equal(
            policy_pseudonym_aids(one, DOMAIN_PERSON, span_cut(pseudonym, 0, 20), got, 64), 0);
    }
    ruleset_free(rules);
}

static int start(void **state) {
    (void)state;
    random_start(20261124);
    rounds = (unsigned)random_kit_number("BH_ROUNDS", 150);
    print_message("%u rounds\n", rounds);
    policy_kit_start();
    one = policy_kit_vendor("one");
    two = policy_kit_vendor("two");
    return 0;
}

static int stop(void **state) {
    (void)state;
    policy_free(one);
    policy_free(two);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_closed_and_valid),
        cmocka_unit_test(test_never),
        cmocka_unit_test(test_meet),
        cmocka_unit_test(test_equal_inputs_equal_bytes),
        cmocka_unit_test(test_items_that_end_early),
        cmocka_unit_test(test_white_space_changes_nothing),
        cmocka_unit_test(test_unlinkable),
        cmocka_unit_test(test_reverse),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
