/*
 * Rows of a fields.def as a C table: included by the one file of a protocol that makes its table.
 *
 * FIELD(place, "name", role, class, domain, type, level, inside, person, rank)
 * PREFIX(...): the same for every longer key that begins so.
 * PROPERTY("name", class, type, level): plain data in an event; PROFILE(...): in a profile;
 * BOTH(...): in either.
 */
#ifndef BH_PROTOCOL_FIELD_ROWS_H
#define BH_PROTOCOL_FIELD_ROWS_H

#include "protocol/protocol.h"

#define ROW(place_, name_, prefix_, role_, class_, domain_, type_, level_, inside_, person_, \
            rank_)                                                                           \
    {.name = (name_),                                                                        \
     .name_len = sizeof(name_) - 1,                                                          \
     .is_prefix = (prefix_),                                                                 \
     .place = PLACE_##place_,                                                                \
     .role = ROLE_##role_,                                                                   \
     .class_id = CLASS_##class_,                                                             \
     .domain = DOMAIN_##domain_,                                                             \
     .type = TYPE_##type_,                                                                   \
     .level = LEVEL_##level_,                                                                \
     .inside = PLACE_##inside_,                                                              \
     .person = PERSON_##person_,                                                             \
     .rank = (rank_)},
#define FIELD(place, name, role, class_id, domain, type, level, inside, person, rank) \
    ROW(place, name, false, role, class_id, domain, type, level, inside, person, rank)
#define PREFIX(place, name, role, class_id, domain, type, level, inside, person, rank) \
    ROW(place, name, true, role, class_id, domain, type, level, inside, person, rank)
#define PROPERTY(name, class_id, type, level) \
    FIELD(EVENT_PROPERTY, name, DATA, class_id, NONE, type, level, NONE, NONE, 0)
#define PROFILE(name, class_id, type, level) \
    FIELD(PROFILE_VALUE, name, DATA, class_id, NONE, type, level, NONE, NONE, 0)
#define BOTH(name, class_id, type, level) \
    PROPERTY(name, class_id, type, level) PROFILE(name, class_id, type, level)

#endif
