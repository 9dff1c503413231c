/*
 * What a verdict costs: recorded shapes of about 600 bytes under the contract that `init` writes, one rule set and several, with 3 pseudonyms.
 *
 *   bench_policy [SECONDS]
 */
/* depends: policy inspect mixpanel protocol wire http json crypto resolve model base */
/* sources: ../unit/policy_keys.c ../unit/policy_kit.c ../unit/mixpanel_kit.c ../../src/cli/init_files.c */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "cli/init_files.h"
#include "unit/policy_kit.h"

static const char plan_text[] =
    "events: { Signed In: {}, Completion Run: {} }\nproperties:\n  plan: { enum: [free, plus, pro] }\n  method: { enum: [password, sso] }\n"
    "  remember_me: { type: boolean }\n  model: { type: string, max_distinct: 50 }\n  prompt_tokens: { type: number }\n  completion_tokens: { type: number }\n"
    "  latency_ms: { type: number }\n  cost_usd: { type: number }\n  stream: { type: boolean }\n  status_code: { type: number }\ngroups: { company: {} }\n";

static const struct {
    const char *name;
    const char *text;
} items[] = {
    {"node, 3 pseudonyms",
     "{\"event\":\"Completion Run\",\"properties\":{\"distinct_id\":\"user_1000\",\"$device_id\":\"b165133d-04c1-455d-a2e6-cf09c5e5335e\",\"ip\":\"203.0.113.10\",\"model\":\"lumen-mini\",\"prompt_tokens\":1504,"
     "\"completion_tokens\":3008,\"latency_ms\":120,\"cost_usd\":0.912,\"stream\":true,\"status_code\":200,\"company\":\"org_a05\",\"time\":1772352000000,\"$insert_id\":\"ins-A-0\",\"note\":\"undeclared text here\","
     "\"token\":\"mp_project_token_a\",\"mp_lib\":\"node\",\"$lib_version\":\"0.24.0\",\"$os\":\"Linux\",\"$browser\":\"Firefox\"}}"},
    {"browser, 4 pseudonyms",
     "{\"event\":\"Signed In\",\"properties\":{\"$os\":\"Linux\",\"$browser\":\"Chrome\",\"$referrer\":\"https://www.example.org/search?q=llm+api\",\"$referring_domain\":\"www.example.org\","
     "\"$current_url\":\"https://console.example.com/dashboard?sdk=mixpanel&utm_source=newsletter\",\"$browser_version\":138,\"$screen_height\":768,\"$screen_width\":1366,\"mp_lib\":\"web\",\"$lib_version\":\"2.83.0\","
     "\"$insert_id\":\"oop2lvdp7bglydiq\",\"time\":1795489911.647,\"distinct_id\":\"user_1000\",\"$device_id\":\"5c2dfb22-9ccd-4e5d-bfe2-60b39d310329\",\"$user_id\":\"user_1000\",\"plan\":\"pro\",\"company\":[\"org_a05\"],"
     "\"method\":\"password\",\"remember_me\":true,\"token\":\"mp_browser_token_a\",\"mp_sent_by_lib_version\":\"2.83.0\"}}"},
};

/* People change with each item: the first `people` ids come again and again. */
static void measure(const char *name, struct policy *policy, const struct ruleset *const *rules,
                    unsigned people, double seconds) {
    static uint8_t memory[1 << 20];
    struct policy_input *input = policy_kit_input();
    struct verdict verdict;
    input->rulesets = rules;
    for (input->ruleset_count = 0; rules[input->ruleset_count] != NULL;) {
        input->ruleset_count++;
    }
    /* The id stands in the item's own bytes, as digits that are written over. */
    uint8_t *text = (uint8_t *)(uintptr_t)input->event->json.p;
    size_t at = span_find(input->event->json, SPAN_LIT("user_1000"));
    uint64_t runs = 0;
    /* Time of the processor and not of the wall: the machine may be shared. */
    clock_t start = clock();
    clock_t now = start;
    while ((double)(now - start) < seconds * CLOCKS_PER_SEC) {
        for (unsigned i = 0; i < 1000; i++) {
            unsigned id = 1000 + (unsigned)(runs % people);
            for (unsigned d = 0; d < 4 && at != SIZE_MAX; d++, id /= 10) {
                text[at + 8 - d] = (uint8_t)('0' + id % 10);
            }
            struct buf out = buf_of(memory, sizeof memory);
            policy_apply(policy, input, &out, &verdict, NULL, NULL);
            runs++;
        }
        now = clock();
    }
    printf("%-24s %3zu rule sets %5u people  %4zu -> %4zu bytes  %6.0f ns\n", name,
           input->ruleset_count, people, input->event->json.n, verdict.json.n,
           (double)(now - start) * 1e9 / CLOCKS_PER_SEC / (double)runs);
}

/* The time of one short HMAC-SHA-256 (94 ns on a quiet core) says how much of a core this run gets. */
static void measure_reference(void) {
    struct aid aid;
    clock_t start = clock();
    for (unsigned i = 0; i < 200000; i++) {
        aid_make(policy_kit_aids(), SPAN_NONE, SPAN_LIT("user_1000"), &aid);
    }
    printf("reference: one keyed hash of an id  %6.0f ns\n",
           (double)(clock() - start) * 1e9 / CLOCKS_PER_SEC / 200000);
}

int main(int argc, char **argv) {
    double seconds = argc > 1 ? strtod(argv[1], NULL) : 1;
    policy_kit_start();
    measure_reference();
    struct policy *policy = policy_kit_vendor("bench");
    struct ruleset *rules = policy_kit_rules(init_file_text("vendors/mixpanel.yaml"), plan_text);
    const struct ruleset *const one[] = {rules, NULL};
    const struct ruleset *const four[] = {rules, rules, rules, rules, NULL};
    for (size_t i = 0; i < BH_COUNT(items); i++) {
        if (!policy_kit_item("/track", span_str(items[i].text), true)) {
            return 1;
        }
        measure(items[i].name, policy, one, 1, seconds);
        measure(items[i].name, policy, one, 500, seconds);
        measure(items[i].name, policy, one, 9000, seconds);
        measure(items[i].name, policy, four, 500, seconds);
    }
    ruleset_free(rules);
    policy_free(policy);
    return 0;
}
