#include "unit/golden_kit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "model/class.h"

enum { OUT_MAX = 4 << 20 };

static struct buf out;
static unsigned item_count;

void golden_begin(void) {
    uint8_t *memory = malloc(OUT_MAX);
    assert_non_null(memory);
    out = buf_of(memory, OUT_MAX - 1);
    item_count = 0;
}

static void run_item(const struct golden_sdk *sdk, struct policy *policy,
                     const struct ruleset *rules, const char *path, struct span item) {
    static char body[LIMIT_EVENT_BYTES + 256];
    const struct ruleset *const list[] = {rules, NULL};
    const char *before = sdk->wrapped[0] != NULL ? sdk->wrapped[0] : "";
    const char *after = sdk->wrapped[1] != NULL ? sdk->wrapped[1] : "";
    int n =
        snprintf(body, sizeof body, "%s%.*s%s", before, (int)item.n, (const char *)item.p, after);
    assert_true(n > 0 && (size_t)n < sizeof body);
    item_count++;
    if (!policy_kit_item(path, span_of((const uint8_t *)body, (size_t)n), true)) {
        buf_put_str(&out, "refused\n");
        return;
    }
    const struct policy_kit_result *r = policy_kit_apply(policy, list, false);
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

static void run_file(const struct golden_sdk *sdk, struct policy *policy,
                     const struct ruleset *rules, unsigned number) {
    char path[256];
    struct recording r;
    if (!recording_open(&sdk->recorded, number, &r)) {
        return;
    }
    struct span p = json_span(r.text, &r.tokens[json_get(r.text, r.tokens, 0, SPAN_LIT("path"))]);
    (void)snprintf(path, sizeof path, "%.*s", (int)p.n, (const char *)p.p);
    unsigned i = 0;
    for (uint32_t at = r.first; at < r.end; at = r.tokens[at].next) {
        buf_printf(&out, "%s/%03u %u ", sdk->recorded.name, number, i++);
        run_item(sdk, policy, rules, sdk->path != NULL ? sdk->path : path,
                 json_span(r.text, &r.tokens[at]));
    }
}

void golden_run(const struct golden_sdk *sdk, struct policy *policy, const struct ruleset *rules) {
    for (unsigned number = 1; number <= sdk->last; number++) {
        run_file(sdk, policy, rules, number);
    }
}

static void write_file(const char *file) {
    char path[1024];
    (void)snprintf(path, sizeof path, "%s/%s", BULKHEAD_SOURCE_DIR, file);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(out.p, 1, out.n, f), out.n);
    assert_int_equal(fclose(f), 0);
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

void golden_end(const char *file, unsigned more_than, const char *const *marks) {
    size_t size = 0;
    assert_false(out.full);
    assert_true(item_count > more_than);
    out.p[out.n] = '\0';
    for (size_t i = 0; marks != NULL && marks[i] != NULL; i++) {
        if (strstr((const char *)out.p, marks[i]) != NULL) {
            fail_msg("%s leaves", marks[i]);
        }
    }
    const char *mode = getenv("BH_GOLDEN");
    if (mode != NULL && strcmp(mode, "write") == 0) {
        write_file(file);
    }
    char *kept = policy_kit_file(file, &size);
    assert_non_null(kept);
    compare(kept, size);
    free(kept);
    free(out.p);
}
