#include "protocol/wire/field_table.h"

#include "base/check.h"
#include "base/compiler.h"

struct words {
    uint64_t head;
    uint64_t tail;
};

static BH_ALWAYS_INLINE struct words words_of(struct span key) {
    struct words w = {0, 0};
    uint32_t half = 0;
    if (key.n >= 8) {
        memcpy(&w.head, key.p, 8);
        memcpy(&w.tail, key.p + key.n - 8, 8);
    } else if (key.n >= 4) {
        memcpy(&half, key.p, 4);
        w.head = half;
        memcpy(&half, key.p + key.n - 4, 4);
        w.tail = half;
    } else if (key.n > 0) {
        w.head = key.p[0];
        w.tail = (uint64_t)key.p[key.n - 1] << 8 | key.p[key.n / 2];
    }
    return w;
}

static BH_ALWAYS_INLINE size_t slot_of(struct words w, unsigned place, size_t length) {
    uint64_t h = (w.head ^ (w.tail << 7 | w.tail >> 57)) + place + (length << 3);
    h *= 0x9E3779B97F4A7C15U;
    h ^= h >> 32;
    h *= 0xC2B2AE3D27D4EB4FU;
    return (size_t)(h >> 32) % FIELD_SLOTS;
}

static size_t add(struct field_table *table, size_t row, struct span name) {
    struct words w = words_of(name);
    size_t at = slot_of(w, table->rows[row].place, name.n);
    size_t probes = 1;
    for (; table->slots[at].row != 0; at = (at + 1) % FIELD_SLOTS) {
        probes++;
    }
    table->slots[at] = (struct field_slot){.head = w.head,
                                           .tail = w.tail,
                                           .row = (uint16_t)(row + 1),
                                           .length = table->rows[row].name_len,
                                           .place = table->rows[row].place};
    return probes;
}

void field_table_build(struct field_table *table, const struct field *rows, size_t row_count) {
    check(row_count < FIELD_SLOTS / 2);
    table->rows = rows;
    table->row_count = row_count;
    for (size_t i = 0; i < row_count; i++) {
        struct span name = span_of(rows[i].name, rows[i].name_len);
        check(rows[i].place > PLACE_NONE && rows[i].place < PLACE_LIMIT && name.n > 0);
        if (rows[i].is_prefix) {
            check(table->prefix_count < FIELD_PREFIXES_MAX);
            table->prefixes[table->prefix_count++] = (uint16_t)i;
            continue;
        }
        const struct field *before = field_table_find(table, (enum field_place)rows[i].place, name);
        check(before == NULL || before->is_prefix);
        size_t probes = add(table, i, name);
        if (probes > table->probes_max) {
            table->probes_max = probes;
        }
    }
}

/* Only called when no whole name fits: most keys of a plan. */
static const struct field *find_prefix(const struct field_table *table, enum field_place place,
                                       struct span key) {
    for (size_t i = 0; i < table->prefix_count; i++) {
        const struct field *row = &table->rows[table->prefixes[i]];
        if (row->place == place && key.n > row->name_len && key.p[0] == (uint8_t)row->name[0] &&
            memcmp(row->name, key.p, row->name_len) == 0) {
            return row;
        }
    }
    return NULL;
}

const struct field *field_table_find(const struct field_table *table, enum field_place place,
                                     struct span key) {
    struct words w = words_of(key);
    for (size_t at = slot_of(w, place, key.n);; at = (at + 1) % FIELD_SLOTS) {
        const struct field_slot *slot = &table->slots[at];
        if (slot->row == 0) {
            return find_prefix(table, place, key);
        }
        if (slot->head == w.head && slot->tail == w.tail && slot->length == key.n &&
            slot->place == place) {
            const struct field *row = &table->rows[slot->row - 1];
            if (key.n <= 16 || memcmp(row->name, key.p, key.n) == 0) {
                return row;
            }
        }
    }
}
