/* The data files as tables, and the ids of people by them. */
#include "base/compiler.h"
#include "protocol/segment/segment_int.h"
#include "protocol/wire/field_rows.h"
#include "protocol/wire/field_table.h"

static const struct field rows[] = {
#include "protocol/segment/segment_fields.def"
};

/* Ids that mean nobody: Segment documents none, and what stands for nobody is the same everywhere. */
static const struct span placeholders[] = {
#define PLACEHOLDER(id) {(const uint8_t *)(id), sizeof(id) - 1},
#include "protocol/wire/placeholders.def"
#undef PLACEHOLDER
};

static const struct span event_names[] = {
#define EVENT_NAME(name) {(const uint8_t *)(name), sizeof(name) - 1},
#include "protocol/segment/segment_events.def"
#undef EVENT_NAME
};

static struct field_table table;
static uint64_t placeholder_lengths; /* bit n: some placeholder has n bytes */

/* Before main, so that all threads and every test find it built. */
__attribute__((constructor)) static void build(void) {
    field_table_build(&table, rows, BH_COUNT(rows));
    for (size_t i = 0; i < BH_COUNT(placeholders); i++) {
        placeholder_lengths |= UINT64_C(1) << (placeholders[i].n & 63);
    }
}

uint8_t segment_root_place(enum event_kind kind) {
    return kind == EVENT_GROUP ? PLACE_GROUP : PLACE_EVENT;
}

const struct field *segment_field(enum field_place place, struct span key) {
    return field_table_find(&table, place, key);
}

const struct field *segment_fields(size_t *ret_count) {
    *ret_count = BH_COUNT(rows);
    return rows;
}

bool segment_is_placeholder(struct span id) {
    if (id.n >= 64 || (placeholder_lengths >> id.n & 1) == 0) {
        return false;
    }
    for (size_t i = 0; i < BH_COUNT(placeholders); i++) {
        if (placeholders[i].n == id.n && span_equal_nocase(placeholders[i], id)) {
            return true;
        }
    }
    return false;
}

bool segment_is_reserved_event(struct span name) {
    for (size_t i = 0; i < BH_COUNT(event_names); i++) {
        if (span_equal(event_names[i], name)) {
            return true;
        }
    }
    return false;
}

const struct item_table segment_table = {.field = segment_field,
                                         .is_placeholder = segment_is_placeholder};

void segment_person_begin(struct person_iter *it, struct span text, const struct json_token *tokens,
                          uint32_t root, enum event_kind kind, struct buf *scratch) {
    item_person_begin(it, text, tokens, root, (enum field_place)segment_root_place(kind), scratch);
}

bool segment_person_next(struct person_iter *it, struct person_ref *ret) {
    return item_person_next(&segment_table, it, ret);
}
