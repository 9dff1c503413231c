/*
 * The taxonomy as arrays indexed by class number, so that the event path pays one load for flags or
 * a parent. Names are found by a walk over the sixty-odd rows: only configuration and answers look
 * for them.
 */
#include "model/class.h"

#include "base/check.h"
#include "base/compiler.h"

struct class_row {
    const char *name;
    uint16_t parent;
    uint8_t flags;
};

static const struct class_row rows[CLASS_LIMIT] = {
#define CLASS(number, enum_name, text, parent_name, class_flags_) \
    [number] = {(text), CLASS_##parent_name, (class_flags_)},
#include "model/taxonomy.def"
#undef CLASS
};

static const uint16_t order[] = {
#define CLASS(number, enum_name, text, parent_name, class_flags_) (number),
#include "model/taxonomy.def"
#undef CLASS
};

#define CLASS(number, enum_name, text, parent_name, class_flags_)                                 \
    _Static_assert((number) > 0 && (number) < CLASS_LIMIT && (number) > (int)CLASS_##parent_name, \
                   "parents stand before children, and all below the limit");
#include "model/taxonomy.def"
#undef CLASS

const char *class_name(uint16_t class_id) {
    return class_id < CLASS_LIMIT ? rows[class_id].name : NULL;
}

uint16_t class_by_name(struct span name) {
    for (size_t i = 0; i < BH_COUNT(order); i++) {
        if (span_is(name, rows[order[i]].name)) {
            return order[i];
        }
    }
    return CLASS_NONE;
}

uint16_t class_parent(uint16_t class_id) {
    return class_id < CLASS_LIMIT ? rows[class_id].parent : CLASS_NONE;
}

unsigned class_flags(uint16_t class_id) {
    return class_id < CLASS_LIMIT ? rows[class_id].flags : 0;
}

bool class_is_within(uint16_t class_id, uint16_t ancestor) {
    /* Ends: a parent's number is smaller than its child's. */
    while (class_id != CLASS_NONE && class_id != ancestor) {
        class_id = class_parent(class_id);
    }
    return class_id != CLASS_NONE;
}

const uint16_t *class_all(unsigned *ret_count) {
    *ret_count = (unsigned)BH_COUNT(order);
    return order;
}

enum { NEAREST_NAME_MAX = 80 };

static unsigned min3(unsigned a, unsigned b, unsigned c) {
    unsigned least = a < b ? a : b;
    return least < c ? least : c;
}

/* Levenshtein distance by one row of the table; both are at most NEAREST_NAME_MAX long. */
static unsigned edit_distance(struct span a, struct span b) {
    unsigned row[NEAREST_NAME_MAX + 1];
    check(a.n <= NEAREST_NAME_MAX && b.n <= NEAREST_NAME_MAX);
    for (unsigned j = 0; j <= b.n; j++) {
        row[j] = j;
    }
    for (unsigned i = 1; i <= a.n; i++) {
        unsigned diagonal = row[0];
        row[0] = i;
        for (unsigned j = 1; j <= b.n; j++) {
            unsigned change = diagonal + (a.p[i - 1] != b.p[j - 1]);
            diagonal = row[j];
            row[j] = min3(row[j] + 1, row[j - 1] + 1, change);
        }
    }
    return row[b.n];
}

/*
 * A word that lacks only the front part ("email" for user.contact.email) is the commonest mistake.
 */
static bool is_tail_of(struct span tail, struct span whole) {
    return tail.n > 0 && tail.n < whole.n && whole.p[whole.n - tail.n - 1] == '.' &&
           memcmp(whole.p + whole.n - tail.n, tail.p, tail.n) == 0;
}

const char *class_nearest(struct span name) {
    if (name.n == 0 || name.n > NEAREST_NAME_MAX) {
        return NULL;
    }
    const char *best = NULL;
    unsigned best_distance = (unsigned)name.n / 3 + 1;
    for (size_t i = 0; i < BH_COUNT(order); i++) {
        struct span candidate = span_str(rows[order[i]].name);
        if (is_tail_of(name, candidate)) {
            return rows[order[i]].name;
        }
        unsigned distance = edit_distance(name, candidate);
        if (distance < best_distance) {
            best_distance = distance;
            best = rows[order[i]].name;
        }
    }
    return best;
}
