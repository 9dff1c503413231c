/*
 * Emit: from a match in some frame to a finding on the leaf.
 *
 * Offsets go down the stack of frames to the leaf's decoded string. A never-on-disk match that lies
 * under any encoding stands for the whole leaf, since nothing less can be overwritten safely.
 * emit_settle puts an item's findings in order and drops what says nothing new.
 */
#include "flow/inspect/inspect_int.h"

#include "base/check.h"

static void put(struct inspector *in, const struct finding *f) {
    if (in->findings_count >= LIMIT_EVENT_FINDINGS) {
        in->error = BH_E_TOO_MANY;
    } else if (in->findings_count >= in->findings_cap) {
        in->error = BH_E_FULL;
    } else {
        in->findings[in->findings_count++] = *f;
    }
}

void emit_on_leaf(struct inspector *in, uint16_t leaf, uint16_t class_id, enum finding_by by,
                  uint32_t start, uint32_t length) {
    check(class_id != CLASS_NONE && class_id < CLASS_LIMIT);
    if (in->findings_count > 0 && in->findings[in->findings_count - 1].leaf >= leaf) {
        in->unsorted = true;
    }
    struct finding f = {leaf, class_id, (uint8_t)by, start, length};
    put(in, &f);
}

/*
 * From an offset range of frame `f` to one of the frame below; whether bytes there differ from what
 * was matched.
 */
static bool map_down(const struct frame *f, size_t *start, size_t *length) {
    size_t from = *start;
    size_t n = *length;
    if (f->how == FRAME_SLICE) {
        *start = f->source_start + from;
        return false;
    }
    if (f->how == FRAME_UNQUOTE && n > 0) {
        const struct frame *below = f - 1;
        unquote_map(span_cut(below->text, f->source_start, f->source_length), f->marks, from, n,
                    start, length);
        *start += f->source_start;
        return *length != n;
    }
    *start = f->source_start;
    *length = f->source_length;
    return true;
}

void emit(struct inspector *in, uint16_t class_id, enum finding_by by, size_t start,
          size_t length) {
    bool encoded = false;
    for (uint32_t i = in->frame_count; i > 1; i--) {
        encoded |= map_down(&in->frames[i - 1], &start, &length);
    }
    if (encoded && class_is_never_disk(class_id)) {
        start = 0;
        length = FINDING_WHOLE;
    }
    emit_on_leaf(in, in->leaf, class_id, by, (uint32_t)start, (uint32_t)length);
}

void emit_whole(struct inspector *in, uint16_t class_id, enum finding_by by) {
    if (in->frame_count <= 1) {
        emit_on_leaf(in, in->leaf, class_id, by, 0, FINDING_WHOLE);
        return;
    }
    emit(in, class_id, by, 0, in->frames[in->frame_count - 1].text.n);
}

/* By leaf, then start, then the longer first, then never-on-disk, then schema, value, key. */
static bool precedes(const struct finding *a, const struct finding *b) {
    if (a->leaf != b->leaf) {
        return a->leaf < b->leaf;
    }
    if (a->start != b->start) {
        return a->start < b->start;
    }
    if (a->length != b->length) {
        return a->length > b->length;
    }
    bool never_a = class_is_never_disk(a->class_id);
    bool never_b = class_is_never_disk(b->class_id);
    if (never_a != never_b) {
        return never_a;
    }
    if (a->by != b->by) {
        return a->by > b->by;
    }
    return a->class_id < b->class_id;
}

static void sift(struct finding *f, size_t root, size_t n) {
    for (;;) {
        size_t child = 2 * root + 1;
        if (child >= n) {
            return;
        }
        if (child + 1 < n && precedes(&f[child], &f[child + 1])) {
            child++;
        }
        if (!precedes(&f[root], &f[child])) {
            return;
        }
        struct finding t = f[root];
        f[root] = f[child];
        f[child] = t;
        root = child;
    }
}

/* Insertion for the few of an ordinary item, heap sort for many: libc's qsort may allocate. */
static void sort(struct finding *f, size_t n) {
    enum { FEW = 48 };
    if (n <= FEW) {
        for (size_t i = 1; i < n; i++) {
            struct finding moved = f[i];
            size_t at = i;
            for (; at > 0 && precedes(&moved, &f[at - 1]); at--) {
                f[at] = f[at - 1];
            }
            f[at] = moved;
        }
        return;
    }
    for (size_t i = n / 2; i > 0; i--) {
        sift(f, i - 1, n);
    }
    for (size_t i = n - 1; i > 0; i--) {
        struct finding t = f[0];
        f[0] = f[i];
        f[i] = t;
        sift(f, 0, i);
    }
}

static uint64_t end_of(const struct finding *f) {
    return f->length == FINDING_WHOLE ? UINT64_MAX : (uint64_t)f->start + f->length;
}

/*
 * Whether `kept` (which begins no later) makes `f` superfluous: it covers it, and is of the same
 * class, or both are never-on-disk, or `kept` is and f is only another reading of the same bytes. A
 * schema's or key's word over the whole leaf hides no value match of another class, since forms may
 * differ.
 */
static bool covers(const struct finding *kept, const struct finding *f) {
    bool never = class_is_never_disk(kept->class_id);
    if (kept->leaf != f->leaf || end_of(f) > end_of(kept) ||
        (class_is_never_disk(f->class_id) && !never)) {
        return false;
    }
    /* Equal ranges may be one encoded run that holds both. */
    bool strictly = kept->start != f->start || kept->length != f->length;
    return kept->class_id == f->class_id || never ||
           (kept->by == FOUND_BY_VALUE && f->by == FOUND_BY_VALUE && strictly);
}

void emit_settle(struct inspector *in) {
    if (!in->unsorted) {
        return; /* at most one finding a leaf, in order */
    }
    sort(in->findings, in->findings_count);
    in->unsorted = false;
    size_t kept = 0;
    size_t widest =
        0; /* of this leaf: the never-on-disk finding, or the value match, that reaches furthest */
    for (size_t i = 0; i < in->findings_count; i++) {
        struct finding f = in->findings[i];
        bool same_leaf = kept > 0 && in->findings[kept - 1].leaf == f.leaf;
        if (same_leaf && f.by != FOUND_BY_SCHEMA &&
            (covers(&in->findings[kept - 1], &f) || covers(&in->findings[widest], &f))) {
            continue;
        }
        in->findings[kept] = f;
        const struct finding *w = &in->findings[widest];
        if (!same_leaf || end_of(&f) > end_of(w) ||
            (class_is_never_disk(f.class_id) && !class_is_never_disk(w->class_id))) {
            widest = kept;
        }
        kept++;
    }
    in->findings_count = kept;
}
