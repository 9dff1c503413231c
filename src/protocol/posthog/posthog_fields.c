/* The three data files as tables. */
#include "base/compiler.h"
#include "protocol/posthog/posthog_int.h"
#include "protocol/wire/field_rows.h"
#include "protocol/wire/field_table.h"

static const struct field rows[] = {
#include "protocol/posthog/posthog_fields.def"
};

static const struct span placeholders[] = {
#define PLACEHOLDER(id) {(const uint8_t *)(id), sizeof(id) - 1},
#include "protocol/posthog/posthog_placeholders.def"
#undef PLACEHOLDER
};

static const struct span event_names[] = {
#define EVENT_NAME(name) {(const uint8_t *)(name), sizeof(name) - 1},
#include "protocol/posthog/posthog_events.def"
#undef EVENT_NAME
};

static struct field_table table;

const struct item_table posthog_items = {
    .field = posthog_field, .is_placeholder = posthog_is_placeholder, .device_prefix = NULL};

/* Before main, so that all threads and every test find it built. */
__attribute__((constructor)) static void build(void) {
    field_table_build(&table, rows, BH_COUNT(rows));
}

/* Profile and group updates are events, too: what they change stands in their properties. */
uint8_t posthog_root_place(enum event_kind kind) {
    (void)kind;
    return PLACE_EVENT;
}

const struct field *posthog_field(enum field_place place, struct span key) {
    return field_table_find(&table, place, key);
}

const struct field *posthog_fields(size_t *ret_count) {
    *ret_count = BH_COUNT(rows);
    return rows;
}

bool posthog_is_placeholder(struct span id) {
    for (size_t i = 0; i < BH_COUNT(placeholders); i++) {
        if (span_equal_nocase(placeholders[i], id)) {
            return true;
        }
    }
    return false;
}

bool posthog_is_reserved_event(struct span name) {
    if (name.n == 0 || name.p[0] != '$') {
        return false;
    }
    for (size_t i = 0; i < BH_COUNT(event_names); i++) {
        if (span_equal(event_names[i], name)) {
            return true;
        }
    }
    return false;
}
