/*
 * Field table: rows of `struct field` found by place and key in constant time.
 *
 * Open addressing over a hash of the key's length and its first and last eight bytes; those two
 * words and the length are the whole key up to sixteen bytes, so most keys are compared without
 * looking at the row. The rows are fixed at build time, so the longest probe is fixed too (a test
 * bounds it); what a peer sends cannot lengthen it.
 * Built once before threads start; read by any thread.
 */
#ifndef BH_PROTOCOL_FIELD_TABLE_H
#define BH_PROTOCOL_FIELD_TABLE_H

#include "protocol/protocol.h"

enum { FIELD_SLOTS = 1024, FIELD_PREFIXES_MAX = 32 };

struct field_slot {
    uint64_t head; /* first eight bytes, or what there is */
    uint64_t tail; /* last eight bytes */
    uint16_t row;  /* + 1; 0 = free */
    uint8_t length;
    uint8_t place;
};

struct field_table {
    const struct field *rows;
    size_t row_count;
    struct field_slot slots[FIELD_SLOTS];
    uint16_t prefixes[FIELD_PREFIXES_MAX];
    size_t prefix_count;
    size_t probes_max;
};

void field_table_build(struct field_table *table, const struct field *rows, size_t row_count);
const struct field *field_table_find(const struct field_table *table, enum field_place place,
                                     struct span key);

#endif
