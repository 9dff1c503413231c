/* Overwriting never-on-disk spans, and findings as they lie in the journal. */
#include "flow/inspect/inspect.h"

#include "base/check.h"
#include "model/class.h"

static void overwrite_token(uint8_t *text, const struct json_token *token, uint32_t start,
                            uint32_t length) {
    uint8_t *p = text + token->start;
    size_t n = token->len;
    if (token->kind == JSON_NUMBER) {
        for (size_t i = 0; i < n; i++) {
            p[i] = p[i] >= '0' && p[i] <= '9' ? '1' : p[i];
        }
        return;
    }
    if (token->kind != JSON_STRING && token->kind != JSON_KEY) {
        return; /* true, false and null hide nothing that is overwritten */
    }
    /*
     * Offsets are in the decoded string: under an escape they say nothing about the bytes as they
     * stand.
     */
    bool whole = length == FINDING_WHOLE || (token->flags & JSON_ESCAPED) != 0 || start > n ||
                 length > n - start;
    if (whole) {
        start = 0;
        length = (uint32_t)n;
    }
    memset(p + start, '*', length);
}

bool inspect_overwrite(uint8_t *text, const struct json_token *tokens, uint32_t root,
                       const struct finding *findings, size_t count) {
    bool overwritten = false;
    for (size_t i = 0; i < count; i++) {
        const struct finding *f = &findings[i];
        check(root + f->leaf < tokens[root].next);
        if (class_is_never_disk(f->class_id)) {
            overwrite_token(text, &tokens[root + f->leaf], f->start, f->length);
            overwritten = true;
        }
    }
    return overwritten;
}

void findings_write(struct buf *b, const struct finding *findings, size_t count) {
    for (size_t i = 0; i < count; i++) {
        const struct finding *f = &findings[i];
        buf_put_u16(b, f->leaf);
        buf_put_u16(b, f->class_id);
        buf_put_byte(b, f->by);
        buf_put_varint(b, f->start);
        buf_put_varint(b, f->length == FINDING_WHOLE ? 0 : (uint64_t)f->length + 1);
    }
}

long findings_read(struct span bytes, struct finding *findings, size_t cap) {
    struct reader r = reader_of(bytes);
    size_t count = 0;
    while (r.n > 0) {
        struct finding f;
        f.leaf = read_u16(&r);
        f.class_id = read_u16(&r);
        f.by = read_u8(&r);
        uint64_t start = read_varint(&r);
        uint64_t length = read_varint(&r);
        bool good = !r.short_ && class_name(f.class_id) != NULL && f.by >= FOUND_BY_KEY &&
                    f.by <= FOUND_BY_SCHEMA && start < UINT32_MAX && length < UINT32_MAX &&
                    f.leaf < UINT16_MAX;
        if (!good || count == cap) {
            return BH_E_CORRUPT;
        }
        f.start = (uint32_t)start;
        f.length = length == 0 ? FINDING_WHOLE : (uint32_t)(length - 1);
        findings[count++] = f;
    }
    return (long)count;
}
