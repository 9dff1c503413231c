/*
 * The model -> Amplitude's events. Changes of a person ride in user_properties; Amplitude joins device and user wherever both stand, and has no
 * alias. A group's update and who joins the group are two items.
 */
#include "base/compiler.h"
#include "protocol/amplitude/amplitude_int.h"
#include "protocol/wire/model.h"

static const struct model_row rows[] = {
#define ROW(slot, place, key) {SLOT_##slot, PLACE_##place, key},
#include "protocol/amplitude/amplitude_rows.def"
#undef ROW
};

static const struct model_word calls[] = {{"[Amplitude] Page Viewed", CALL_PAGE},
                                          {"[Amplitude] Screen Viewed", CALL_SCREEN}};

static const struct model_word ops[] = {
    {"$set", OP_SET},         {"$setOnce", OP_SET_ONCE}, {"$add", OP_ADD},
    {"$append", OP_APPEND},   {"$prepend", OP_PREPEND},  {"$postInsert", OP_UNION},
    {"$remove", OP_REMOVE},   {"$unset", OP_UNSET},      {"$preInsert", OP_UNION},
    {"$clearAll", OP_DELETE},
};
enum { OPS_WRITTEN = 8 };

static void put_ops(struct model_writer *w, const char *key, enum model_section section) {
    model_open(w, key);
    for (size_t i = 0; i < OPS_WRITTEN; i++) {
        enum model_op op = (enum model_op)ops[i].meaning;
        if (op == OP_UNSET) {
            (void)model_put_unset(w, ops[i].word, section, "\"-\"");
        } else {
            (void)model_put_op(w, ops[i].word, section, op, false);
        }
    }
    (void)model_close(w);
}

static bool has_ops(const struct model_writer *w, enum model_section section) {
    bool has = false;
    for (size_t i = 0; i < OPS_WRITTEN && !has; i++) {
        has = model_has_op(w, section, (enum model_op)ops[i].meaning);
    }
    return has;
}

static void put_head(struct model_writer *w, const char *more) {
    const struct model *m = w->model;
    model_put_id(w, "user_id", "", m->user);
    model_put_id(w, "device_id", "", m->anonymous);
    model_put_time(w, "time");
    model_put_insert_id(w, "insert_id", more);
    model_put_session_ms(w, "session_id");
}

static void put_groups(struct model_writer *w) {
    model_open(w, "groups");
    model_put_groups(w, false, false);
    (void)model_close(w);
}

static void put_event(struct model_writer *w, const char *name) {
    model_begin(w, EVENT_TRACK);
    if (name != NULL) {
        model_put(w, "event_type", name);
    } else {
        model_put_name(w, "event_type");
    }
    put_head(w, "");
    model_put_facts(w, PLACE_EVENT);
    put_groups(w);
    put_ops(w, "user_properties", OF_PERSON);
    model_open(w, "event_properties");
    model_put_facts(w, PLACE_EVENT_PROPERTY);
    model_put_properties(w);
    (void)model_close(w);
    model_end(w);
}

static void put_identify(struct model_writer *w) {
    model_begin(w, EVENT_PROFILE);
    model_put(w, "event_type", "$identify");
    put_head(w, "");
    model_put_facts(w, PLACE_EVENT);
    put_groups(w);
    put_ops(w, "user_properties", OF_PERSON);
    model_end(w);
}

static void put_one_group(struct model_writer *w, struct span type, uint32_t id) {
    model_open(w, "groups");
    model_put_inner(w, type, model_id(w->model, id));
    (void)model_close(w);
}

static void put_group(struct model_writer *w) {
    const struct model *m = w->model;
    struct span type;
    uint32_t id;
    if (!model_group(w, &type, &id) || type.n == 0) {
        return;
    }
    if (has_ops(w, OF_GROUP)) {
        model_begin(w, EVENT_GROUP);
        model_put(w, "event_type", "$groupidentify");
        put_head(w, "");
        put_one_group(w, type, id);
        put_ops(w, "group_properties", OF_GROUP);
        model_end(w);
    }
    if (m->joins_group && (m->user != 0 || m->anonymous != 0)) {
        model_begin(w, EVENT_PROFILE);
        model_put(w, "event_type", "$identify");
        put_head(w, "g");
        put_one_group(w, type, id);
        model_end(w);
    }
}

static void write(struct model_writer *w) {
    const struct model *m = w->model;
    bool has_person = m->user != 0 || m->anonymous != 0;
    switch ((enum model_call)m->call) {
    case CALL_GROUP:
        put_group(w);
        return;
    case CALL_TRACK:
    case CALL_PAGE:
    case CALL_SCREEN:
        if (has_person) {
            put_event(w, m->call == CALL_PAGE     ? "[Amplitude] Page Viewed"
                         : m->call == CALL_SCREEN ? "[Amplitude] Screen Viewed"
                                                  : NULL);
        }
        return;
    case CALL_IDENTIFY:
    case CALL_PROFILE:
        if (has_person && (m->call == CALL_IDENTIFY || has_ops(w, OF_PERSON))) {
            put_identify(w);
        }
        return;
    case CALL_ALIAS:
    case CALL_MERGE:
    case CALL_NONE:
    case CALL_LIMIT:
        return;
    }
}

const struct protocol_model amplitude_model = {
    .rows = rows,
    .row_count = BH_COUNT(rows),
    .calls = calls,
    .call_count = BH_COUNT(calls),
    .ops = ops,
    .op_count = BH_COUNT(ops),
    .write = write,
};
