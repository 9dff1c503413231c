/*
 * Inspect on any JSON item and any string: no crash, findings inside their tokens and in order, the
 * twins of the gate agree on every string, overwriting keeps the tokens and leaves nothing for a
 * second look, findings survive the journal's form.
 */
/* depends: inspect protocol json model base */
#include "fuzz/fuzz_entry.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "flow/inspect/inspect.h"
#include "flow/inspect/inspect_gate.h"
#include "model/class.h"
#include "model/limits.h"

enum { TOKENS_MAX = 20000, FINDINGS_MAX = LIMIT_EVENT_FINDINGS };

static struct inspector *inspector;
static struct json_token tokens[TOKENS_MAX];
static struct json_token tokens_after[TOKENS_MAX];
static struct finding findings[FINDINGS_MAX];
static struct finding read_back[FINDINGS_MAX];
static uint8_t stored[FINDINGS_MAX * 16];

static void start(void) {
    struct err err;
    check(inspect_tables_init(&err) == 0);
    check(inspector_new(&inspector) == 0);
}

static void check_codec(const struct finding *f, size_t count) {
    struct buf b = buf_of(stored, sizeof stored);
    findings_write(&b, f, count);
    check(!b.full);
    check(findings_read(buf_span(&b), read_back, FINDINGS_MAX) == (long)count);
    for (size_t i = 0; i < count; i++) {
        check(read_back[i].leaf == f[i].leaf && read_back[i].class_id == f[i].class_id &&
              read_back[i].by == f[i].by);
        check(read_back[i].start == f[i].start && read_back[i].length == f[i].length);
    }
}

static void check_string(struct span s) {
    unsigned scalar = gate_scalar(s.p, s.n, s.p + s.n);
    check(!gate_has_avx2() || scalar == gate_avx2(s.p, s.n, s.p + s.n));
    size_t count = inspect_string(inspector, s, findings, FINDINGS_MAX);
    for (size_t i = 0; i < count; i++) {
        check(findings[i].leaf == 0);
        check(findings[i].length == FINDING_WHOLE ||
              (findings[i].start <= s.n && findings[i].length <= s.n - findings[i].start));
    }
}

/*
 * Looking again at what was overwritten soon finds nothing new. Not at once: a star is a border,
 * so that "4111 1111 1111 1111AKIA..." shows its second secret only when the first is gone.
 */
static void check_settles(uint8_t *text, size_t n, size_t count) {
    const struct protocol_ops *protocol = protocol_by_id(PROTOCOL_MIXPANEL);
    uint8_t *before = malloc(n);
    check(before != NULL);
    bool settled = false;
    for (unsigned look = 0; look < 8 && !settled; look++) {
        struct inspect_item item = {0, EVENT_TRACK, 0, 0, 0};
        memcpy(before, text, n);
        inspect_items(inspector, protocol, (struct span){text, n}, tokens_after, count, &item, 1,
                      findings, FINDINGS_MAX);
        check(item.error == 0);
        (void)inspect_overwrite(text, tokens_after, 0, findings, item.finding_count);
        settled = memcmp(before, text, n) == 0;
    }
    check(settled);
    free(before);
}

static void check_item(uint8_t *text, size_t n, size_t count) {
    struct inspect_item item = {0, EVENT_TRACK, 0, 0, 0};
    const struct protocol_ops *protocol = protocol_by_id(PROTOCOL_MIXPANEL);
    inspect_items(inspector, protocol, (struct span){text, n}, tokens, count, &item, 1, findings,
                  FINDINGS_MAX);
    if (item.error != 0) {
        return;
    }
    for (unsigned i = 0; i < item.finding_count; i++) {
        const struct finding *f = &findings[i];
        check(f->leaf < count && class_name(f->class_id) != NULL);
        check(f->length == FINDING_WHOLE || f->length <= tokens[f->leaf].len);
        check(i == 0 || f[-1].leaf < f->leaf || (f[-1].leaf == f->leaf && f[-1].start <= f->start));
    }
    check_codec(findings, item.finding_count);
    bool overwritten = inspect_overwrite(text, tokens, 0, findings, item.finding_count);
    size_t count_after = 0;
    size_t offset = 0;
    check(json_parse((struct span){text, n}, LIMIT_JSON_DEPTH, tokens_after, TOKENS_MAX,
                     &count_after, &offset) == 0);
    check(count_after == count);
    for (size_t i = 0; i < count; i++) {
        check(tokens[i].start == tokens_after[i].start && tokens[i].len == tokens_after[i].len &&
              tokens[i].kind == tokens_after[i].kind);
    }
    if (overwritten) {
        check_settles(text, n, count);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (inspector == NULL) {
        start();
    }
    if (size == 0 || size > 65536) {
        return 0;
    }
    check_string((struct span){data, size});
    long back = findings_read((struct span){data, size}, read_back, FINDINGS_MAX);
    check(back == BH_E_CORRUPT || (back >= 0 && back <= FINDINGS_MAX));
    uint8_t *text = malloc(size);
    check(text != NULL);
    memcpy(text, data, size);
    size_t count = 0;
    size_t offset = 0;
    if (json_parse((struct span){text, size}, LIMIT_JSON_DEPTH, tokens, TOKENS_MAX, &count,
                   &offset) == 0) {
        check_item(text, size, count);
    }
    free(text);
    return 0;
}
