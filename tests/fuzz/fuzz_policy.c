/*
 * An item and findings of any kind under one or two rule sets: no crash, output is one JSON object with unique keys, or nothing; the same again
 * gives the same bytes; a leaf withheld under one rule set is withheld under both.
 *
 *   byte 0: kind and rule sets · byte 1: number of findings · findings, 8 bytes each · the item
 */
/* depends: policy resolve protocol mixpanel wire yaml json crypto model base */
/* sources: ../unit/policy_keys.c */
#include <stdlib.h>

#include "base/check.h"
#include "flow/policy/policy_int.h"
#include "fuzz/fuzz_entry.h"
#include "model/class.h"
#include "protocol/mixpanel/mixpanel.h"
#include "unit/policy_keys.h"

enum { OUT_MAX = 4 << 20, FINDINGS_MAX = 64 };

static struct policy *policy;
static struct ruleset *rules[3];
static struct json_token tokens[LIMIT_EVENT_TOKENS];
static struct json_token out_tokens[LIMIT_EVENT_TOKENS * 2];
static struct finding findings[FINDINGS_MAX];
static uint8_t memory[2][OUT_MAX];

static const char plan_text[] =
    "events: { Run: { properties: { own: { type: number } } }, 'S*': {} }\nproperties:\n  n: { type: number }\n  b: { type: boolean }\n  s: { pattern: '[a-z@. ]*' }\n"
    "  e: { enum: [a, b] }\n  u: { type: url }\n  t: { type: time }\n  c.n: { type: number }\n  'x*': { type: string, class: user.unique_id }\n  m: { class: user.contact.email, pattern: '[a-z@.]+' }\n"
    "traits: { n: { type: number }, e: { enum: [a, b] }, d: { class: user.demographic.date_of_birth, type: time } }\ngroups: { company: {} }\n"
    "consent: { properties: { e: categories, b: advertising, o: categories, n: gpc }, categories: { a: analytics } }\n";
static const char *const allows[] = {
    "  user: raw\n  system: raw\n  user.unique_id: raw\n  user.unique_id.pseudonymous: pseudonym\n  user.device.device_id: raw\n  user.workplace: raw\n  user.behavior.browsing_history: raw\n  user.device.ip_address: raw\n",
    ("  user.behavior: raw\n  system: raw\n  user.unique_id: pseudonym\n  user.device: { coarse: major, requires: consent.advertising }\n  user.device.device_id: pseudonym\n  user.device.ip_address: { coarse: /24 }\n  user.contact: mask\n"
     "  user.behavior.browsing_history: { coarse: path }\n  user.demographic.date_of_birth: { coarse: year }\n  user.workplace: pseudonym\n  user.location: { coarse: region }\n  user.name: mask\n"),
    "  user: redact\n  user.behavior: raw\n  system: raw\n  user.unique_id: pseudonym\n  user.contact.email: { redact, requires: [consent.analytics, consent.advertising] }\n  user.contact.phone_number: mask\n",
};

static void start(void) {
    policy = policy_keys_vendor("fuzz");
    for (unsigned i = 0; i < 3; i++) {
        char text[2048];
        struct buf b = buf_of(text, sizeof text);
        buf_printf(
            &b,
            "vendor: v\nconnector: mixpanel\nendpoint: https://e\ncredential: { env: X }\npurpose: a\nretention: 1d\ntime: %s\nallow:\n%s",
            i == 1 ? "minute" : "second", allows[i]);
        struct err err = {0};
        struct contract *contract = NULL;
        struct plan *plan = NULL;
        static const struct policy_source source = {1, "web", true};
        check(contract_load_text("c", buf_span(&b), &contract, &err) == 0);
        check(plan_load_text("p", span_str(plan_text), &plan, &err) == 0);
        check(ruleset_compile(contract, plan, &source, 1, &rules[i], &err) == 0);
        contract_free(contract);
        plan_free(plan);
    }
}

static void tell(void *context, const struct policy_leaf *leaf) {
    check(leaf->rule != NULL && leaf->pointer.n != 0);
    ++*(unsigned *)context;
}

static void check_json(struct span json) {
    size_t count = 0;
    size_t offset = 0;
    check(json_parse(json, LIMIT_JSON_DEPTH, out_tokens, BH_COUNT(out_tokens), &count, &offset) ==
          0);
    check(out_tokens[0].kind == JSON_OBJECT);
    for (size_t o = 0; o < count && count < 300; o++) {
        for (uint32_t a = (uint32_t)o + 1;
             out_tokens[o].kind == JSON_OBJECT && a < out_tokens[o].next; a = out_tokens[a].next) {
            for (uint32_t b = out_tokens[a].next; b < out_tokens[o].next; b = out_tokens[b].next) {
                check(
                    !span_equal(json_span(json, &out_tokens[a]), json_span(json, &out_tokens[b])));
            }
        }
    }
}

/* Findings from bytes, sorted by leaf as inspect gives them. */
static uint16_t read_findings(const uint8_t *data, unsigned count, size_t token_count) {
    uint16_t leaf = 0;
    for (unsigned i = 0; i < count; i++, data += 8) {
        leaf = (uint16_t)(leaf + data[0] % 8);
        unsigned class_id = data[1] % CLASS_LIMIT;
        bool is_whole = (data[2] & 3) == 0;
        findings[i] = (struct finding){.leaf = (uint16_t)(leaf % token_count),
                                       .class_id = (uint16_t)class_id,
                                       .by = (uint8_t)(1 + data[2] % 3),
                                       .start = is_whole ? 0 : get_u16(data + 3) % 512U,
                                       .length = is_whole ? FINDING_WHOLE : data[5] % 64U};
        if (i > 0 && findings[i].leaf < findings[i - 1].leaf) {
            findings[i].leaf = findings[i - 1].leaf;
        }
    }
    return (uint16_t)count;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (policy == NULL) {
        start();
    }
    if (size < 2 || size < 2 + 8 * (size_t)(data[1] % FINDINGS_MAX)) {
        return 0;
    }
    unsigned finding_count = data[1] % FINDINGS_MAX;
    struct span json = span_from(span_of(data, size), 2 + 8 * (size_t)finding_count);
    size_t count = 0;
    size_t offset = 0;
    if (json_parse(json, LIMIT_JSON_DEPTH, tokens, LIMIT_EVENT_TOKENS, &count, &offset) != 0) {
        return 0;
    }
    struct record_request request = {.protocol = PROTOCOL_MIXPANEL, .source = 1};
    struct record_event event = {.seq = 9,
                                 .kind = (uint8_t)(1 + data[0] % 6),
                                 .time_ms = 1790000012345,
                                 .dedupe = data[0] >> 7,
                                 .findings = findings,
                                 .json = json};
    event.finding_count = read_findings(data + 2, finding_count, count);
    const struct ruleset *const one[] = {rules[(data[0] >> 3) % 3]};
    const struct ruleset *const both[] = {rules[(data[0] >> 3) % 3], rules[(data[0] >> 5) % 3]};
    struct policy_input input = {.protocol = &mixpanel_ops,
                                 .request = &request,
                                 .event = &event,
                                 .tokens = tokens,
                                 .token_count = count,
                                 .rulesets = one,
                                 .ruleset_count = 1};
    struct verdict first;
    struct verdict second;
    struct buf a = buf_of(memory[0], OUT_MAX);
    struct buf b = buf_of(memory[1], OUT_MAX);
    unsigned told = 0;
    policy_apply(policy, &input, &a, &first, NULL, NULL);
    policy_apply(policy, &input, &b, &second, tell, &told);
    check(first.sends == second.sends && first.reason == second.reason &&
          span_equal(first.json, second.json));
    check(!first.sends || told != 0);
    for (unsigned i = 0; i < first.disclosed_count; i++) {
        check(!class_is_never(first.disclosed[i].class_id));
    }
    if (first.sends) {
        check_json(first.json);
    }
    input.rulesets = both;
    input.ruleset_count = 2;
    b.n = 0;
    policy_apply(policy, &input, &b, &second, NULL, NULL);
    check(!second.sends || first.sends);
    if (second.sends) {
        check_json(second.json);
    }
    /* Too little room withholds the item and leaves nothing behind. */
    struct buf small = buf_of(memory[1], 40);
    policy_apply(policy, &input, &small, &second, NULL, NULL);
    check(small.n == (second.sends ? second.json.n : 0));
    return 0;
}
