/*
 * Inspect: the items of a request.
 *
 * Secrets are looked for first, in slabs of whole items (a scan has a fixed cost, so one by one is
 * seven times slower), in the text as it stands; then each item's tokens are walked, and what the
 * slab scan found is handed out to the strings that hold it. Strings with escapes, and whatever is
 * decoded from strings, are scanned once more, all of an item together.
 */
#include "flow/inspect/inspect.h"

#include <stdlib.h>

#include "base/check.h"
#include "crypto/crypto.h"
#include "flow/inspect/inspect_int.h"

enum { INSPECTOR_MAGIC = 0x1295ec70, SLAB_BYTES = 64 * 1024 };

int inspect_tables_init(struct err *err) {
    gate_init();
    keys_init();
    numbers_init();
    return secrets_init(err);
}

int inspector_new(struct inspector **ret_inspector) {
    struct inspector *in = calloc(1, sizeof *in);
    if (in == NULL) {
        return BH_E_NOMEM;
    }
    in->magic = INSPECTOR_MAGIC;
    key_cache_init(&in->keys);
    in->pool = malloc(POOL_BYTES);
    in->nested = malloc(NESTED_TOKENS_MAX * sizeof *in->nested);
    int rc =
        in->pool != NULL && in->nested != NULL ? secrets_scratch_new(&in->scratch) : BH_E_NOMEM;
    if (rc != 0) {
        inspector_free(in);
        return rc;
    }
    *ret_inspector = in;
    return 0;
}

void inspector_free(struct inspector *in) {
    if (in == NULL) {
        return;
    }
    check(in->magic == INSPECTOR_MAGIC);
    in->magic = 0;
    if (in->scratch != NULL) {
        secrets_scratch_free(in->scratch);
    }
    free(in->nested);
    free(in->pool);
    free(in);
}

static void item_reset(struct inspector *in, struct finding *findings, size_t cap) {
    in->findings = findings;
    in->findings_count = 0;
    in->findings_cap = cap;
    in->leaf = 0;
    in->error = 0;
    in->unsorted = false;
    in->frame_count = 0;
    in->pool_high = in->pool_used > in->pool_high ? in->pool_used : in->pool_high;
    in->pool_used = 0;
    in->tokens_used = 0;
    in->segment_count = 0;
}

/* A string or key of the item itself. */
static void look_string(struct inspector *in, struct span text, const struct json_token *token,
                        const struct key_info *info) {
    struct span raw = json_span(text, token);
    if (BH_UNLIKELY((token->flags & JSON_ESCAPED) != 0)) {
        struct span decoded = pool_unescape(in, raw);
        if (in->error == 0) {
            frames_look(in, decoded, info,
                        gate_features(decoded.p, decoded.n, decoded.p + decoded.n), true);
        }
        return;
    }
    unsigned features = gate_features(raw.p, raw.n, text.p + text.n);
    bool json = raw.n >= 2 && (raw.p[0] == '{' || raw.p[0] == '[' || raw.p[0] <= ' ');
    if ((features & ~(unsigned)HAS_RUN) != 0 || json) {
        frames_look(in, raw, info, features, false);
    } else if (info->class_id != CLASS_NONE) {
        (void)detect_by_key(in, (enum json_kind)JSON_STRING, raw,
                            info); /* nothing else can be in it */
    }
}

/* The last token of tokens[first..end) that begins at or before `offset`; tokens[first] does. */
static uint32_t token_at(const struct json_token *tokens, uint32_t first, uint32_t end,
                         size_t offset) {
    while (end - first > 1) {
        uint32_t middle = first + (end - first) / 2;
        if (tokens[middle].start <= offset) {
            first = middle;
        } else {
            end = middle;
        }
    }
    return first;
}

/*
 * Hands out what the scan of the slab found in the item, from hit *next on. Under an escape the
 * decoded text is scanned again.
 */
static void look_hits(struct inspector *in, const struct json_token *tokens, uint32_t root,
                      size_t slab_start, uint32_t *next) {
    size_t item_end = (size_t)tokens[root].start + tokens[root].len;
    for (; *next < in->raw.count && in->raw.hit[*next].start + slab_start < item_end; (*next)++) {
        const struct hit *h = &in->raw.hit[*next];
        size_t start = h->start + slab_start;
        uint32_t index = token_at(tokens, root, tokens[root].next, start);
        const struct json_token *token = &tokens[index];
        bool holds = (token->kind == JSON_STRING || token->kind == JSON_KEY) &&
                     start - token->start < token->len;
        if (holds && (token->flags & JSON_ESCAPED) == 0) {
            emit_on_leaf(in, (uint16_t)(index - root), h->class_id, FOUND_BY_VALUE,
                         (uint32_t)(start - token->start), h->end - h->start);
            in->unsorted = true;
        }
    }
}

/* The first finding of its leaf, so that it needs no sorting. */
static inline void emit_schema(struct inspector *in, uint16_t class_id) {
    if (BH_LIKELY(in->findings_count < in->findings_cap &&
                  in->findings_count < LIMIT_EVENT_FINDINGS)) {
        in->findings[in->findings_count++] =
            (struct finding){in->leaf, class_id, FOUND_BY_SCHEMA, 0, FINDING_WHOLE};
    } else {
        emit_on_leaf(in, in->leaf, class_id, FOUND_BY_SCHEMA, 0, FINDING_WHOLE);
    }
}

static void look_item(struct inspector *in, const struct protocol_ops *protocol, struct span text,
                      const struct json_token *tokens, const struct inspect_item *item,
                      struct span slab, uint32_t *hit) {
    struct walk *w = &in->walk;
    struct walk_step step;
    look_hits(in, tokens, item->root, (size_t)(slab.p - text.p), hit);
    walk_open(w, text, tokens, item->root, protocol, item->kind, NULL);
    while (walk_next(in, w, &step)) {
        in->leaf = (uint16_t)(step.index - item->root);
        if (step.info->schema_class != CLASS_NONE) {
            emit_schema(in, step.info->schema_class);
        }
        if (step.token->kind == JSON_STRING || step.token->kind == JSON_KEY) {
            look_string(in, text, step.token, step.info);
        } else if (step.info->class_id != CLASS_NONE || step.token->len >= 12) {
            detect_scalar(in, (enum json_kind)step.token->kind, json_span(text, step.token),
                          step.info);
        }
    }
    if (in->error == 0) {
        secrets_flush(in);
    }
    emit_settle(in);
}

/* How many items from `first` on make one slab: at least one. */
static size_t slab_count(const struct json_token *tokens, const struct inspect_item *items,
                         size_t count, struct span text, struct span *ret_slab) {
    const struct json_token *first = &tokens[items[0].root];
    size_t end = (size_t)first->start + first->len;
    size_t n = 1;
    while (n < count) {
        const struct json_token *next = &tokens[items[n].root];
        size_t next_end = (size_t)next->start + next->len;
        if (next->start < first->start || next_end - first->start > SLAB_BYTES) {
            break;
        }
        end = next_end > end ? next_end : end;
        n++;
    }
    *ret_slab = span_cut(text, first->start, end - first->start);
    return n;
}

/* What was decoded may be what must never be on disk: it does not stay in memory either. */
static void pool_wipe(struct inspector *in) {
    size_t n = in->pool_used > in->pool_high ? in->pool_used : in->pool_high;
    secret_wipe(in->pool, n);
    in->pool_used = 0;
    in->pool_high = 0;
}

void inspect_items(struct inspector *in, const struct protocol_ops *protocol, struct span text,
                   const struct json_token *tokens, size_t token_count, struct inspect_item *items,
                   size_t item_count, struct finding *findings, size_t findings_cap) {
    check(in->magic == INSPECTOR_MAGIC);
    size_t used = 0;
    for (size_t i = 0; i < item_count;) {
        check(items[i].root < token_count && tokens[items[i].root].next <= token_count);
        struct span slab;
        size_t n = slab_count(tokens, items + i, item_count - i, text, &slab);
        uint32_t hit = 0;
        secrets_scan(in->scratch, slab, &in->raw);
        for (size_t end = i + n; i < end; i++) {
            struct inspect_item *item = &items[i];
            item_reset(in, findings + used, findings_cap - used);
            if (tokens[item->root].next - item->root > LIMIT_EVENT_TOKENS ||
                (in->raw.too_many && n == 1)) {
                in->error = BH_E_TOO_MANY;
            } else {
                look_item(in, protocol, text, tokens, item, slab, &hit);
            }
            item->error = in->error;
            item->finding_first = (uint32_t)used;
            item->finding_count = in->error == 0 ? (uint16_t)in->findings_count : 0;
            used += item->finding_count;
        }
    }
    pool_wipe(in);
}

size_t inspect_string(struct inspector *in, struct span value, struct finding *findings,
                      size_t cap) {
    check(in->magic == INSPECTOR_MAGIC);
    if (value.n == 0 || value.n > LIMIT_EVENT_BYTES) {
        return 0;
    }
    item_reset(in, findings, cap);
    secrets_scan(in->scratch, value, &in->raw);
    for (uint32_t i = 0; i < in->raw.count; i++) {
        const struct hit *h = &in->raw.hit[i];
        emit_on_leaf(in, 0, h->class_id, FOUND_BY_VALUE, h->start, h->end - h->start);
    }
    frames_look(in, value, &key_silent, gate_features(value.p, value.n, value.p + value.n), false);
    if (in->error == 0) {
        secrets_flush(in);
    }
    emit_settle(in);
    pool_wipe(in);
    return in->findings_count;
}
