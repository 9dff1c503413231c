/*
 * Every recorded SDK request under the contract that `init` writes, compared to the byte with tests/golden/policy/default-contract.txt.
 *
 * A line is: request, item, withheld leaves, what was disclosed, the item as the vendor receives it. BH_GOLDEN=write writes the file anew; the
 * change is then read in review.
 */
/* depends: policy inspect mixpanel protocol wire http json crypto resolve model base */
/* sources: policy_keys.c policy_kit.c mixpanel_kit.c ../../src/cli/init_files.c */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "cli/init_files.h"
#include "model/class.h"
#include "unit/policy_kit.h"

enum { OUT_MAX = 4 << 20, TOKENS_MAX = 1 << 16 };

static struct json_token tokens[TOKENS_MAX];
static struct buf out;
static struct policy *policy;
static const struct ruleset *rules[2];
static unsigned item_count;

static void put_verdict(const struct policy_kit_result *r) {
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

static void run_item(const char *name, unsigned index, const char *path, struct span item) {
    buf_printf(&out, "%s %u ", name, index);
    item_count++;
    if (!policy_kit_item(path, item, true)) {
        buf_put_str(&out, "refused\n");
        return;
    }
    put_verdict(policy_kit_apply(policy, rules, false));
}

static void run_file(const char *sdk, unsigned number) {
    char name[64];
    char file[256];
    (void)snprintf(name, sizeof name, "%s/%03u", sdk, number);
    (void)snprintf(file, sizeof file, "tests/fixtures/sdk-requests/%s.json", name);
    size_t size = 0;
    char *bytes = policy_kit_file(file, &size);
    if (bytes == NULL) {
        return;
    }
    struct span text = span_of(bytes, size);
    size_t count = 0;
    size_t offset = 0;
    assert_int_equal(json_parse(text, 64, tokens, TOKENS_MAX, &count, &offset), 0);
    uint32_t decoded = json_get(text, tokens, 0, SPAN_LIT("decoded"));
    uint32_t path_token = json_get(text, tokens, 0, SPAN_LIT("path"));
    if (decoded != 0 && path_token != 0) {
        char path[256] = {0};
        struct span p = json_span(text, &tokens[path_token]);
        memcpy(path, p.p, p.n < sizeof path - 1 ? p.n : sizeof path - 1);
        uint32_t at = tokens[decoded].kind == JSON_ARRAY ? decoded + 1 : decoded;
        for (unsigned i = 0; at < tokens[decoded].next && tokens[at].kind == JSON_OBJECT;
             at = tokens[at].next, i++) {
            run_item(name, i, path, json_span(text, &tokens[at]));
        }
    }
    free(bytes);
}

static void compare(const char *kept, size_t kept_size) {
    size_t line = 1;
    size_t start = 0;
    for (size_t i = 0; i < out.n && i < kept_size; i++) {
        if (out.p[i] != (uint8_t)kept[i]) {
            fail_msg("line %zu differs:\n  now  %.*s\n  kept %.*s", line,
                     (int)strcspn((const char *)out.p + start, "\n"), (const char *)out.p + start,
                     (int)strcspn(kept + start, "\n"), kept + start);
        }
        if (out.p[i] == '\n') {
            line++;
            start = i + 1;
        }
    }
    assert_int_equal(out.n, kept_size);
}

static void test_recorded_requests(void **state) {
    (void)state;
    static const char golden[] = "tests/golden/policy/default-contract.txt";
    uint8_t *memory = malloc(OUT_MAX);
    size_t size = 0;
    char *plan = policy_kit_file("tests/golden/policy/plan.yaml", &size);
    assert_true(memory != NULL && plan != NULL);
    policy_kit_start();
    struct ruleset *compiled = policy_kit_rules(init_file_text("vendors/mixpanel.yaml"), plan);
    rules[0] = compiled;
    policy = policy_kit_vendor("golden");
    out = buf_of(memory, OUT_MAX - 1);
    for (unsigned number = 1; number < 1000; number++) {
        run_file("mixpanel-node", number);
    }
    for (unsigned number = 1; number < 1000; number++) {
        run_file("mixpanel-browser", number);
    }
    memory[out.n] = '\0';
    assert_false(out.full);
    assert_true(item_count > 300);
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
    compare(kept, size);
    free(kept);
    free(plan);
    free(memory);
    policy_free(policy);
    ruleset_free(compiled);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_recorded_requests)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
