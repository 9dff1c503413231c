/* The model -> the neutral form: one object, a member for whatever the model holds. */
#include "base/compiler.h"
#include "protocol/webhook/webhook_int.h"

/* Every slot has its path as its name, of a person or group too. */
static const struct model_row rows[] = {
#define SLOT(slot, path, plain)                                                   \
    {SLOT_##slot, PLACE_CONTEXT, path}, {SLOT_##slot, PLACE_PROFILE_VALUE, path}, \
        {SLOT_##slot, PLACE_GROUP_VALUE, path},
#include "protocol/wire/slots.def"
#undef SLOT
};

static const char *const types[CALL_LIMIT] = {
    [CALL_TRACK] = "track",       [CALL_PAGE] = "page",   [CALL_SCREEN] = "screen",
    [CALL_IDENTIFY] = "identify", [CALL_ALIAS] = "alias", [CALL_MERGE] = "merge",
    [CALL_PROFILE] = "profile",   [CALL_GROUP] = "group",
};

static const struct model_word ops[] = {
    {"set", OP_SET},       {"set_once", OP_SET_ONCE}, {"add", OP_ADD},
    {"append", OP_APPEND}, {"prepend", OP_PREPEND},   {"union", OP_UNION},
    {"remove", OP_REMOVE}, {"unset", OP_UNSET},
};

static void put_ops(struct model_writer *w, enum model_section section) {
    for (size_t i = 0; i < BH_COUNT(ops); i++) {
        enum model_op op = (enum model_op)ops[i].meaning;
        if (op == OP_UNSET) {
            (void)model_put_unset(w, ops[i].word, section, NULL);
        } else {
            (void)model_put_op(w, ops[i].word, section, op, false);
        }
    }
}

static void put_delete(struct model_writer *w) {
    if (w->model->is_delete) {
        model_put_raw(w, "delete", SPAN_LIT("true"));
    }
}

/* The group that the call is about, and how it changes. */
static void put_group(struct model_writer *w, struct span type, uint32_t id) {
    model_open(w, "group");
    if (type.n != 0) {
        model_put_inner(w, SPAN_LIT("type"), type);
    }
    model_put_id(w, "id", "", id);
    if (w->model->joins_group) {
        model_put_raw(w, "joins", SPAN_LIT("true"));
    }
    put_delete(w);
    put_ops(w, OF_GROUP);
    (void)model_close(w);
}

/* A group whose type neither the source nor the plan knows. */
static void put_untyped_group(struct model_writer *w) {
    const struct model *m = w->model;
    for (uint32_t i = 0; i < m->member_count; i++) {
        const struct model_member *member = &m->members[i];
        if (member->op == OP_MEMBER && member->key == 0 && m->only_group.n == 0) {
            put_group(w, SPAN_NONE, model_one_group(w));
            return;
        }
    }
}

static void put_ids(struct model_writer *w) {
    const struct model *m = w->model;
    model_put_id(w, "user_id", "", m->user);
    model_put_id(w, "anonymous_id", "", m->anonymous);
    if (m->call == CALL_ALIAS || m->call == CALL_MERGE) {
        model_put_id(w, "previous_id", "", m->previous);
    }
}

static void write(struct model_writer *w) {
    const struct model *m = w->model;
    struct span type = SPAN_NONE;
    uint32_t group = 0;
    if (m->call == CALL_GROUP && !model_group(w, &type, &group)) {
        return;
    }
    model_begin(w, EVENT_TRACK);
    model_put_insert_id(w, "id", "");
    model_put(w, "type", types[m->call]);
    if (m->call == CALL_TRACK) {
        model_put_name(w, "event");
    }
    model_put_time(w, "timestamp");
    if (m->is_historic) {
        model_put_raw(w, "historic", SPAN_LIT("true"));
    }
    put_ids(w);
    if (m->call == CALL_GROUP) {
        put_group(w, type, group);
    } else {
        put_untyped_group(w);
        put_delete(w);
    }
    model_open(w, "groups");
    model_put_groups(w, false, false);
    (void)model_close(w);
    model_open(w, "context");
    model_put_fact(w, "session.id", SLOT_SESSION_ID);
    model_put_facts(w, PLACE_CONTEXT);
    (void)model_close(w);
    model_open(w, "properties");
    model_put_properties(w);
    (void)model_close(w);
    put_ops(w, OF_PERSON);
    model_end(w);
}

const struct protocol_model webhook_model = {
    .rows = rows,
    .row_count = BH_COUNT(rows),
    .is_neutral = true,
    .write = write,
};
