#include "protocol/wire/field_table.h"

#include "base/check.h"

static uint64_t load(const uint8_t *p, size_t n) {
    uint64_t v = 0;
    memcpy(&v, p, n);
    return v;
}

static size_t slot_of(unsigned place, struct span key) {
    uint64_t head;
    uint64_t tail;
    if (key.n >= 8) {
        head = load(key.p, 8);
        tail = load(key.p + key.n - 8, 8);
    } else if (key.n >= 4) {
        head = load(key.p, 4);
        tail = load(key.p + key.n - 4, 4);
    } else {
        head = key.n > 0 ? key.p[0] : 0;
        tail = key.n > 0 ? (uint64_t)key.p[key.n - 1] << 8 | key.p[key.n / 2] : 0;
    }
    uint64_t h = (head + place) * 0x9E3779B97F4A7C15U;
    h ^= (tail + key.n) * 0xC2B2AE3D27D4EB4FU;
    h ^= h >> 29;
    h *= 0x9E3779B97F4A7C15U;
    return (size_t)(h >> 40) % FIELD_SLOTS;
}

void field_table_build(struct field_table *table, const struct field *rows, size_t row_count) {
    check(row_count < FIELD_SLOTS / 2);
    table->rows = rows;
    table->row_count = row_count;
    for (size_t i = 0; i < row_count; i++) {
        struct span name = span_of(rows[i].name, rows[i].name_len);
        check(rows[i].place > PLACE_NONE && rows[i].place < PLACE_LIMIT);
        if (rows[i].is_prefix) {
            check(table->prefix_count < FIELD_PREFIXES_MAX && name.n > 0);
            table->prefixes[table->prefix_count++] = (uint16_t)i;
            continue;
        }
        check(field_table_find(table, (enum field_place)rows[i].place, name) == NULL);
        size_t slot = slot_of(rows[i].place, name);
        size_t probes = 1;
        for (; table->slots[slot] != 0; slot = (slot + 1) % FIELD_SLOTS) {
            probes++;
        }
        table->slots[slot] = (uint16_t)(i + 1);
        if (probes > table->probes_max) {
            table->probes_max = probes;
        }
    }
}

const struct field *field_table_find(const struct field_table *table, enum field_place place,
                                     struct span key) {
    for (size_t slot = slot_of(place, key); table->slots[slot] != 0;
         slot = (slot + 1) % FIELD_SLOTS) {
        const struct field *row = &table->rows[table->slots[slot] - 1];
        if (row->name_len == key.n && row->place == place && memcmp(row->name, key.p, key.n) == 0) {
            return row;
        }
    }
    for (size_t i = 0; i < table->prefix_count; i++) {
        const struct field *row = &table->rows[table->prefixes[i]];
        if (row->place == place && key.n > row->name_len && key.p[0] == (uint8_t)row->name[0] &&
            memcmp(row->name, key.p, row->name_len) == 0) {
            return row;
        }
    }
    return NULL;
}
