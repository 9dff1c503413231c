/* The three data files as tables. */
#include "base/check.h"
#include "base/compiler.h"
#include "protocol/mixpanel/mixpanel_int.h"
#include "protocol/wire/field_rows.h"
#include "protocol/wire/field_table.h"

static const struct field rows[] = {
#include "protocol/mixpanel/fields.def"
};

static const struct span placeholders[] = {
#define PLACEHOLDER(id) {(const uint8_t *)(id), sizeof(id) - 1},
#include "protocol/wire/placeholders.def"
#undef PLACEHOLDER
};

static const struct span event_names[] = {
#define EVENT_NAME(name) {(const uint8_t *)(name), sizeof(name) - 1},
#include "protocol/mixpanel/reserved_events.def"
#undef EVENT_NAME
};

enum { ROLE_KEY_MAX = 32 };

static struct field_table table;
static uint64_t roles[PLACE_LIMIT][ROLE_KEY_MAX + 1]; /* by length: bits of second bytes */
static uint64_t placeholder_firsts[64]; /* by length: bits of first bytes, in lower case */

static uint64_t bit_of(uint8_t byte) {
    return UINT64_C(1) << (byte & 63);
}

/* What differs in case alone has the same bit. */
static uint64_t first_of(struct span id) {
    return bit_of(id.n != 0 ? id.p[0] | 0x20 : 0);
}

/* Before main, so that all threads and every test find it built. */
__attribute__((constructor)) static void build(void) {
    field_table_build(&table, rows, BH_COUNT(rows));
    for (size_t i = 0; i < BH_COUNT(rows); i++) {
        if (rows[i].role != ROLE_DATA && rows[i].role != ROLE_PLUMBING) {
            check(rows[i].name_len > 1 && rows[i].name_len <= ROLE_KEY_MAX && !rows[i].is_prefix);
            roles[rows[i].place][rows[i].name_len] |= bit_of((uint8_t)rows[i].name[1]);
        }
    }
    for (size_t i = 0; i < BH_COUNT(placeholders); i++) {
        check(placeholders[i].n < 64);
        placeholder_firsts[placeholders[i].n] |= first_of(placeholders[i]);
    }
}

uint8_t mixpanel_root_place(enum event_kind kind) {
    switch (kind) {
    case EVENT_PROFILE:
        return PLACE_PROFILE;
    case EVENT_GROUP:
        return PLACE_GROUP;
    case EVENT_TRACK:
    case EVENT_IDENTIFY:
    case EVENT_ALIAS:
    case EVENT_MERGE:
        break;
    }
    return PLACE_EVENT;
}

const struct field *mixpanel_field(enum field_place place, struct span key) {
    return field_table_find(&table, place, key);
}

const struct field *mixpanel_fields(size_t *ret_count) {
    *ret_count = BH_COUNT(rows);
    return rows;
}

bool mixpanel_may_have_role(enum field_place place, struct span key) {
    return key.n > 1 && key.n <= ROLE_KEY_MAX && (roles[place][key.n] & bit_of(key.p[1])) != 0;
}

bool mixpanel_is_placeholder(struct span id) {
    if (id.n >= BH_COUNT(placeholder_firsts) || (placeholder_firsts[id.n] & first_of(id)) == 0) {
        return false;
    }
    for (size_t i = 0; i < BH_COUNT(placeholders); i++) {
        if (placeholders[i].n == id.n && span_equal_nocase(placeholders[i], id)) {
            return true;
        }
    }
    return false;
}

bool mixpanel_is_reserved_event(struct span name) {
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
