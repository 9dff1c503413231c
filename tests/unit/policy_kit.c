#include "unit/policy_kit.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "flow/inspect/inspect.h"
#include "model/class.h"
#include "unit/mixpanel_kit.h"
#include "unit/policy_keys.h"

static const struct aid_maker *aids;
static struct inspector *inspector;
static uint8_t text[LIMIT_EVENT_BYTES + 4096];
static struct json_token tokens[LIMIT_EVENT_TOKENS];
static struct finding findings[LIMIT_EVENT_FINDINGS];
static struct record_request request;
static struct record_event event;
static struct policy_input input;
static struct policy_kit_result result;
static struct buf story;

void policy_kit_start(void) {
    struct err err;
    check(inspect_tables_init(&err) == 0);
    check(inspector_new(&inspector) == 0);
    aids = policy_keys_aids();
}

const struct aid_maker *policy_kit_aids(void) {
    return aids;
}

struct policy *policy_kit_vendor(const char *name) {
    return policy_keys_vendor(name);
}

struct ruleset *policy_kit_rules(const char *contract_text, const char *plan_text) {
    static const struct policy_source sources[] = {{1, "web", true}, {2, "other", false}};
    struct err err = {0};
    struct contract *contract = NULL;
    struct plan *plan = NULL;
    struct ruleset *rules = NULL;
    int rc = contract_load_text("contract", span_str(contract_text), &contract, &err);
    rc = rc == 0 ? plan_load_text("plan", span_str(plan_text), &plan, &err) : rc;
    rc = rc == 0 ? ruleset_compile(contract, plan, sources, 2, &rules, &err) : rc;
    if (rc != 0) {
        (void)fprintf(stderr, "%s:%u:%u: %s\n", err.file, err.line, err.column, err.text);
        abort();
    }
    plan_free(plan);
    contract_free(contract);
    return rules;
}

struct ruleset *policy_kit_allow(const char *allow, const char *more, const char *plan) {
    static char contract[65536];
    (void)snprintf(
        contract, sizeof contract,
        "vendor: v\nconnector: %s\nendpoint: https://example.com\ncredential: { env: X }\npurpose: analytics\n"
        "retention: 1d\nallow:\n%s%s",
        kit_protocol()->name, allow, more);
    return policy_kit_rules(contract, plan);
}

bool policy_kit_item(const char *path, struct span item, bool inspects) {
    if (kit_decode(2, path, SPAN_NONE, SPAN_NONE, item) != 0) {
        return false;
    }
    const struct protocol_decoded *decoded = &kit_get()->decoded;
    if (decoded->item_count != 1 || decoded->items[0].reason != REASON_NONE ||
        decoded->items[0].json.n > LIMIT_EVENT_BYTES) {
        return false;
    }
    const struct protocol_item *it = &decoded->items[0];
    memcpy(text, it->json.p, it->json.n);
    size_t count = 0;
    size_t offset = 0;
    struct span json = span_of(text, it->json.n);
    if (json_parse(json, LIMIT_JSON_DEPTH, tokens, LIMIT_EVENT_TOKENS, &count, &offset) != 0) {
        return false;
    }
    struct inspect_item look = {.root = 0, .kind = it->kind};
    if (inspects) {
        inspect_items(inspector, kit_protocol(), json, tokens, count, &look, 1, findings,
                      LIMIT_EVENT_FINDINGS);
        if (look.error != 0) {
            return false;
        }
        (void)inspect_overwrite(text, tokens, 0, findings, look.finding_count);
    }
    request = (struct record_request){.protocol = kit_protocol()->id, .source = 1, .events = 1};
    event = (struct record_event){.seq = 1000,
                                  .kind = it->kind,
                                  .flags = it->flags,
                                  .time_ms = it->time_ms,
                                  .findings = findings,
                                  .finding_count = look.finding_count,
                                  .json = json};
    if (it->person.n != 0) {
        aid_make(aids, SPAN_NONE, it->person, &event.aid);
    }
    if (it->dedupe.n != 0) {
        event.dedupe = aid_dedupe(aids, 1, it->dedupe);
    }
    input = (struct policy_input){.protocol = kit_protocol(),
                                  .request = &request,
                                  .event = &event,
                                  .tokens = tokens,
                                  .token_count = count};
    return true;
}

struct policy_input *policy_kit_input(void) {
    return &input;
}

static void tell(void *context, const struct policy_leaf *leaf) {
    (void)context;
    buf_printf(&story, "%.*s %s %s %s | %s\n", (int)leaf->pointer.n, (const char *)leaf->pointer.p,
               leaf->class_id != CLASS_NONE ? class_name(leaf->class_id) : "-",
               form_name(leaf->form), leaf->reason != REASON_NONE ? reason_word(leaf->reason) : "-",
               leaf->rule);
}

/*
 * One rule set judges and writes in one walk, the same one twice in two: what leaves, and all that is said of it, is the same. Of what does
 * not leave nothing is counted where an explanation was not asked for.
 */
static void check_both_walks(struct policy *policy, const struct verdict *told, bool explains) {
    static uint8_t memory[2][LIMIT_EVENT_BYTES * 2];
    const struct ruleset *const twice[] = {input.rulesets[0], input.rulesets[0]};
    struct verdict v[2];
    for (size_t i = 0; i < 2; i++) {
        struct buf out = buf_of(memory[i], sizeof memory[i]);
        struct policy_input walked = input;
        walked.rulesets = twice;
        walked.ruleset_count = i + 1;
        policy_apply(policy, &walked, &out, &v[i], NULL, NULL);
        const struct verdict *a = i == 0 && (!explains || told->sends) ? told : &v[0];
        const struct verdict *b = &v[i];
        check(told->sends == b->sends && told->reason == b->reason);
        check(span_equal(a->json, b->json));
        check(a->disclosed_count == b->disclosed_count && a->aid_count == b->aid_count);
        check(memcmp(a->disclosed, b->disclosed, a->disclosed_count * sizeof *a->disclosed) == 0);
        check(memcmp(a->aids, b->aids, a->aid_count * sizeof *a->aids) == 0);
        check(a->insert_id_size == b->insert_id_size);
        check(memcmp(a->insert_id, b->insert_id, a->insert_id_size) == 0);
        check(a->withheld_leaves == b->withheld_leaves);
        check(memcmp(a->withheld_by_reason, b->withheld_by_reason, sizeof a->withheld_by_reason) ==
              0);
    }
}

struct policy_kit_result *policy_kit_apply(struct policy *policy,
                                           const struct ruleset *const *rules, bool explains) {
    static uint8_t memory[LIMIT_EVENT_BYTES * 2];
    struct buf out = buf_of(memory, sizeof memory);
    story = buf_of(result.story, sizeof result.story - 1);
    input.rulesets = rules;
    for (input.ruleset_count = 0; rules[input.ruleset_count] != NULL;) {
        input.ruleset_count++;
    }
    policy_apply(policy, &input, &out, &result.verdict, explains ? tell : NULL, NULL);
    if (input.ruleset_count == 1) {
        check_both_walks(policy, &result.verdict, explains);
    }
    result.story[story.n] = '\0';
    struct span json = result.verdict.sends ? result.verdict.json : SPAN_LIT("null");
    size_t n = json.n < sizeof result.json - 1 ? json.n : sizeof result.json - 1;
    memcpy(result.json, json.p, n);
    result.json[n] = '\0';
    return &result;
}

const char *policy_kit_out(const struct ruleset *rules, const char *path, const char *item) {
    static struct policy *policy;
    if (policy == NULL) {
        policy = policy_kit_vendor("one");
    }
    const struct ruleset *const list[] = {rules, NULL};
    return policy_kit_item(path, span_str(item), true) ? policy_kit_apply(policy, list, true)->json
                                                       : "refused";
}

char *policy_kit_file(const char *path, size_t *ret_size) {
    char full[1024];
    (void)snprintf(full, sizeof full, "%s/%s", BULKHEAD_SOURCE_DIR, path);
    FILE *file = fopen(full, "rb");
    if (file == NULL) {
        return NULL;
    }
    char *bytes = malloc(4 << 20);
    check(bytes != NULL);
    size_t n = fread(bytes, 1, (4 << 20) - 1, file);
    (void)fclose(file);
    bytes[n] = '\0';
    *ret_size = n;
    return bytes;
}
