/*
 * The three data files as tables.
 *
 * A plain member of user_properties is a value that is set: it means what the same key means inside $set.
 */
#include "base/check.h"
#include "base/compiler.h"
#include "protocol/amplitude/amplitude_int.h"
#include "protocol/wire/field_rows.h"
#include "protocol/wire/field_table.h"

static const struct field rows[] = {
#include "protocol/amplitude/amplitude_fields.def"
};

static const struct span placeholders[] = {
#define PLACEHOLDER(id) {(const uint8_t *)(id), sizeof(id) - 1},
#include "protocol/amplitude/amplitude_placeholders.def"
#include "protocol/wire/placeholders.def"
#undef PLACEHOLDER
};

static const struct span event_names[] = {
#define EVENT_NAME(name) {(const uint8_t *)(name), sizeof(name) - 1},
#include "protocol/amplitude/amplitude_events.def"
#undef EVENT_NAME
};

static struct field_table table;
static uint64_t placeholder_lengths; /* bit n: some placeholder has n bytes */

const struct item_table amplitude_table = {.field = amplitude_field,
                                           .is_placeholder = amplitude_is_placeholder};

/* Before main, so that all threads and every test find it built. */
__attribute__((constructor)) static void build(void) {
    field_table_build(&table, rows, BH_COUNT(rows));
    for (size_t i = 0; i < BH_COUNT(placeholders); i++) {
        check(placeholders[i].n < 64);
        placeholder_lengths |= UINT64_C(1) << placeholders[i].n;
    }
}

uint8_t amplitude_root_place(enum event_kind kind) {
    return kind == EVENT_PROFILE ? PLACE_PROFILE : kind == EVENT_GROUP ? PLACE_GROUP : PLACE_EVENT;
}

const struct field *amplitude_field(enum field_place place, struct span key) {
    const struct field *field = field_table_find(&table, place, key);
    if (field != NULL || (place != PLACE_USER_PROPERTIES && place != PLACE_GROUP_PROPERTIES)) {
        return field;
    }
    return field_table_find(
        &table, place == PLACE_USER_PROPERTIES ? PLACE_PROFILE_VALUE : PLACE_GROUP_VALUE, key);
}

const struct field *amplitude_fields(size_t *ret_count) {
    *ret_count = BH_COUNT(rows);
    return rows;
}

bool amplitude_is_placeholder(struct span id) {
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

bool amplitude_is_reserved_event(struct span name) {
    for (size_t i = 0; i < BH_COUNT(event_names); i++) {
        if (span_equal(event_names[i], name)) {
            return true;
        }
    }
    return false;
}
