/*
 * The model -> Mixpanel's items: an event, a link of two ids, one update of a profile or group for each operation.
 *
 * Ids as its SDKs have them since "simplified" merging: an event says device and user, and Mixpanel joins the two by itself.
 */
#include "base/compiler.h"
#include "protocol/mixpanel/mixpanel_int.h"
#include "protocol/wire/model.h"

static const struct model_row rows[] = {
#define ROW(slot, place, key) {SLOT_##slot, PLACE_##place, key},
#include "protocol/mixpanel/mixpanel_rows.def"
#undef ROW
};

static const struct model_word calls[] = {{"$mp_web_page_view", CALL_PAGE}};

static const struct model_word ops[] = {
    {"$set", OP_SET},     {"$set_once", OP_SET_ONCE}, {"$add", OP_ADD},     {"$append", OP_APPEND},
    {"$union", OP_UNION}, {"$remove", OP_REMOVE},     {"$unset", OP_UNSET}, {"$delete", OP_DELETE}};

enum { OPS_WRITTEN = 7 }; /* a whole profile is deleted by Mixpanel's own SDK only */

static const char device[] = "$device:";

static void put_persons(struct model_writer *w) {
    const struct model *m = w->model;
    if (m->user != 0) {
        model_put_id(w, "distinct_id", "", m->user);
        model_put_id(w, "$user_id", "", m->user);
    } else if (m->anonymous != 0) {
        model_put_id(w, "distinct_id", device, m->anonymous);
    } else {
        model_put(w, "distinct_id", "");
    }
    model_put_id(w, "$device_id", "", m->anonymous);
}

static void put_event(struct model_writer *w, enum event_kind kind, const char *name) {
    const struct model *m = w->model;
    model_begin(w, kind);
    if (name != NULL) {
        model_put(w, "event", name);
    } else {
        model_put_name(w, "event");
    }
    model_open(w, "properties");
    if (m->call == CALL_ALIAS) {
        model_put_id(w, "distinct_id", "", m->previous);
        model_put_id(w, "alias", "", m->user);
    } else {
        put_persons(w);
    }
    if (m->call == CALL_IDENTIFY) {
        model_put_id(w, "$anon_distinct_id", device, m->anonymous);
    }
    model_put_time(w, "time");
    model_put_insert_id(w, "$insert_id", "");
    model_put_fact(w, "$session_id", SLOT_SESSION_ID);
    model_put_facts(w, PLACE_EVENT_PROPERTY);
    model_put_properties(w);
    model_put_groups(w, true, false);
    (void)model_close(w);
    model_end(w);
}

static void put_merge(struct model_writer *w) {
    const struct model *m = w->model;
    model_begin(w, EVENT_MERGE);
    model_put(w, "event", "$merge");
    model_open(w, "properties");
    struct span a = model_id(m, m->user);
    struct span b = model_id(m, m->previous);
    buf_put_str(w->out, "\"$distinct_ids\":[\"");
    buf_put_span(w->out, a);
    buf_put_str(w->out, "\",\"");
    buf_put_span(w->out, b);
    buf_put_str(w->out, "\"]");
    model_put_time(w, "time");
    model_put_insert_id(w, "$insert_id", "");
    (void)model_close(w);
    model_end(w);
}

/* What an update is about. */
static void put_subject(struct model_writer *w, enum model_section section) {
    const struct model *m = w->model;
    struct span type;
    uint32_t id;
    if (section == OF_GROUP && model_group(w, &type, &id)) {
        model_put_inner(w, SPAN_LIT("$group_key"), type);
        model_put_id(w, "$group_id", "", id);
    } else if (m->user != 0) {
        model_put_id(w, "$distinct_id", "", m->user);
    } else {
        model_put_id(w, "$distinct_id", device, m->anonymous);
    }
}

static void put_updates(struct model_writer *w, enum model_section section) {
    enum event_kind kind = section == OF_GROUP ? EVENT_GROUP : EVENT_PROFILE;
    for (size_t i = 0; i < OPS_WRITTEN; i++) {
        enum model_op op = (enum model_op)ops[i].meaning;
        if (!model_has_op(w, section, op)) {
            continue;
        }
        model_begin(w, kind);
        put_subject(w, section);
        if (op == OP_UNSET) {
            (void)model_put_unset(w, ops[i].word, section, NULL);
        } else {
            (void)model_put_op(w, ops[i].word, section, op, op == OP_UNION);
        }
        model_end(w);
    }
}

/* A member of a group: Mixpanel's SDK writes it into the person's profile. */
static void put_membership(struct model_writer *w, struct span type, uint32_t id) {
    model_begin(w, EVENT_PROFILE);
    put_subject(w, OF_PERSON);
    model_open(w, "$union");
    buf_put_byte(w->out, '"');
    buf_put_span(w->out, type);
    buf_put_str(w->out, "\":[\"");
    buf_put_span(w->out, model_id(w->model, id));
    buf_put_str(w->out, "\"]");
    (void)model_close(w);
    model_end(w);
}

static void put_group(struct model_writer *w) {
    const struct model *m = w->model;
    struct span type;
    uint32_t id;
    if (!model_group(w, &type, &id) || type.n == 0) {
        return;
    }
    put_updates(w, OF_GROUP);
    if (m->joins_group && (m->user != 0 || m->anonymous != 0)) {
        put_membership(w, type, id);
    }
}

static void write(struct model_writer *w) {
    const struct model *m = w->model;
    bool has_person = m->user != 0 || m->anonymous != 0;
    switch ((enum model_call)m->call) {
    case CALL_TRACK:
        put_event(w, EVENT_TRACK, NULL);
        break;
    case CALL_PAGE:
        put_event(w, EVENT_TRACK, "$mp_web_page_view");
        break;
    case CALL_SCREEN:
        put_event(w, EVENT_TRACK, "Loaded a Screen");
        break;
    case CALL_IDENTIFY:
        put_event(w, EVENT_IDENTIFY, "$identify");
        break;
    case CALL_ALIAS:
        if (m->user != 0 && m->previous != 0) {
            put_event(w, EVENT_ALIAS, "$create_alias");
        }
        return;
    case CALL_MERGE:
        if (m->user != 0 && m->previous != 0) {
            put_merge(w);
        }
        return;
    case CALL_GROUP:
        put_group(w);
        return;
    case CALL_PROFILE:
    case CALL_NONE:
    case CALL_LIMIT:
        break;
    }
    if (has_person) {
        put_updates(w, OF_PERSON);
    }
}

const struct protocol_model mixpanel_model = {
    .rows = rows,
    .row_count = BH_COUNT(rows),
    .calls = calls,
    .call_count = BH_COUNT(calls),
    .ops = ops,
    .op_count = BH_COUNT(ops),
    .alias_is_user = true,
    .write = write,
};
