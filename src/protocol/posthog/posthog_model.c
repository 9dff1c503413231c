/* The model -> PostHog's items: one event each, told by its name; changes of a person ride in its properties. */
#include "base/compiler.h"
#include "protocol/posthog/posthog_int.h"
#include "protocol/wire/model.h"

static const struct model_row rows[] = {
#define ROW(slot, place, key) {SLOT_##slot, PLACE_##place, key},
#include "protocol/posthog/posthog_rows.def"
#undef ROW
};

static const struct model_word calls[] = {{"$pageview", CALL_PAGE}, {"$screen", CALL_SCREEN}};

static const struct model_word ops[] = {
    {"$set", OP_SET}, {"$set_once", OP_SET_ONCE}, {"$unset", OP_UNSET}, {"$group_set", OP_SET}};

static const char *const names[CALL_LIMIT] = {
    [CALL_PAGE] = "$pageview",       [CALL_SCREEN] = "$screen", [CALL_IDENTIFY] = "$identify",
    [CALL_ALIAS] = "$create_alias",  [CALL_PROFILE] = "$set",   [CALL_MERGE] = "$merge_dangerously",
    [CALL_GROUP] = "$groupidentify",
};

/* Whether it says anything that PostHog knows; a group is given. */
static bool says_something(const struct model_writer *w, bool has_group) {
    const struct model *m = w->model;
    switch ((enum model_call)m->call) {
    case CALL_TRACK:
    case CALL_PAGE:
    case CALL_SCREEN:
        return true;
    case CALL_IDENTIFY:
        return m->user != 0 && m->anonymous != 0;
    case CALL_ALIAS:
    case CALL_MERGE:
        return m->user != 0 && m->previous != 0;
    case CALL_PROFILE:
        return (m->user != 0 || m->anonymous != 0) &&
               (model_has_op(w, OF_PERSON, OP_SET) || model_has_op(w, OF_PERSON, OP_SET_ONCE) ||
                model_has_op(w, OF_PERSON, OP_UNSET));
    case CALL_GROUP:
        return has_group;
    case CALL_NONE:
    case CALL_LIMIT:
        break;
    }
    return false;
}

static void put_persons(struct model_writer *w) {
    const struct model *m = w->model;
    if (m->call == CALL_IDENTIFY) {
        model_put_id(w, "$anon_distinct_id", "", m->anonymous);
        return;
    }
    /* The alias is the new name: PostHog refuses one that it knows as a person's already. */
    if (m->call == CALL_ALIAS || m->call == CALL_MERGE) {
        model_put_id(w, "alias", "", m->call == CALL_ALIAS ? m->user : m->previous);
        return;
    }
    model_put_id(w, "$device_id", "", m->anonymous);
}

static void put_group(struct model_writer *w, struct span type, uint32_t id) {
    model_put_inner(w, SPAN_LIT("$group_type"), type);
    model_put_id(w, "$group_key", "", id);
    (void)model_put_op(w, "$group_set", OF_GROUP, OP_SET, false);
}

static void write(struct model_writer *w) {
    const struct model *m = w->model;
    struct span type = SPAN_NONE;
    uint32_t group = 0;
    bool has_group = m->call == CALL_GROUP && model_group(w, &type, &group) && type.n != 0;
    if (!says_something(w, has_group)) {
        return;
    }
    model_begin(w, EVENT_TRACK);
    if (m->call == CALL_TRACK) {
        model_put_name(w, "event");
    } else {
        model_put(w, "event", names[m->call]);
    }
    if (m->user == 0 && m->anonymous == 0) {
        model_put(w, "distinct_id", "");
    } else if (m->call == CALL_ALIAS) {
        model_put_id(w, "distinct_id", "", m->previous);
    } else {
        model_put_id(w, "distinct_id", "", m->user != 0 ? m->user : m->anonymous);
    }
    model_put_time(w, "timestamp");
    model_put_insert_id(w, "uuid", "");
    model_open(w, "properties");
    put_persons(w);
    model_put_session_uuid7(w, "$session_id");
    if (has_group) {
        put_group(w, type, group);
    } else {
        model_open(w, "$groups");
        model_put_groups(w, false, true);
        (void)model_close(w);
    }
    (void)model_put_op(w, "$set", OF_PERSON, OP_SET, false);
    (void)model_put_op(w, "$set_once", OF_PERSON, OP_SET_ONCE, false);
    (void)model_put_unset(w, "$unset", OF_PERSON, NULL);
    model_put_facts(w, PLACE_EVENT_PROPERTY);
    model_put_properties(w);
    /* What encode reads is an object, if an empty one. */
    if (!model_close(w)) {
        model_open(w, "properties");
        buf_put_byte(w->out, '}');
    }
    model_end(w);
}

const struct protocol_model posthog_model = {
    .rows = rows,
    .row_count = BH_COUNT(rows),
    .calls = calls,
    .call_count = BH_COUNT(calls),
    .ops = ops,
    .op_count = BH_COUNT(ops),
    .alias_is_user = true,
    .write = write,
};
