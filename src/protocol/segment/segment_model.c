/* The model -> one message of Segment or RudderStack: a call with a context. */
#include "base/compiler.h"
#include "protocol/segment/segment_int.h"
#include "protocol/wire/model.h"

static const struct model_row rows[] = {
#define ROW(slot, place, key) {SLOT_##slot, PLACE_##place, key},
#include "protocol/segment/segment_rows.def"
#undef ROW
};

static const struct model_word calls[] = {
    {"track", CALL_TRACK}, {"page", CALL_PAGE}, {"screen", CALL_SCREEN}, {"alias", CALL_ALIAS}};

static const struct model_word ops[] = {{"traits", OP_SET}};

static const char *const types[CALL_LIMIT] = {
    [CALL_TRACK] = "track",       [CALL_PAGE] = "page",   [CALL_SCREEN] = "screen",
    [CALL_IDENTIFY] = "identify", [CALL_ALIAS] = "alias", [CALL_MERGE] = "alias",
    [CALL_PROFILE] = "identify",  [CALL_GROUP] = "group",
};

static const struct {
    const char *key;
    uint8_t place;
} parts[] = {{"library", PLACE_CONTEXT_LIBRARY},   {"page", PLACE_CONTEXT_PAGE},
             {"campaign", PLACE_CONTEXT_CAMPAIGN}, {"os", PLACE_CONTEXT_SYSTEM},
             {"device", PLACE_CONTEXT_DEVICE},     {"screen", PLACE_CONTEXT_SCREEN},
             {"network", PLACE_CONTEXT_NETWORK},   {"app", PLACE_CONTEXT_APP},
             {"location", PLACE_CONTEXT_LOCATION}};

static void put_context(struct model_writer *w) {
    const struct model *m = w->model;
    model_open(w, "context");
    for (size_t i = 0; i < BH_COUNT(parts); i++) {
        model_open(w, parts[i].key);
        model_put_facts(w, (enum field_place)parts[i].place);
        (void)model_close(w);
    }
    model_put_facts(w, PLACE_CONTEXT);
    model_put_session_ms(w, "sessionId");
    uint32_t group = m->call != CALL_GROUP ? model_one_group(w) : 0;
    model_put_id(w, "groupId", "", group);
    /* Where traits are not what the call is about. */
    if (m->call != CALL_IDENTIFY && m->call != CALL_PROFILE) {
        (void)model_put_op(w, "traits", OF_PERSON, OP_SET, false);
    }
    (void)model_close(w);
}

/* Segment's own SDK says the page twice: integrations look into the properties of a page call. */
static void put_page(struct model_writer *w) {
    static const uint8_t said[] = {SLOT_PAGE_URL, SLOT_PAGE_PATH, SLOT_PAGE_SEARCH, SLOT_PAGE_TITLE,
                                   SLOT_PAGE_REFERRER};
    static const char *const keys[] = {"url", "path", "search", "title", "referrer"};
    for (size_t i = 0; i < BH_COUNT(said); i++) {
        model_put_fact(w, keys[i], (enum model_slot)said[i]);
    }
}

static void put_call(struct model_writer *w) {
    const struct model *m = w->model;
    switch ((enum model_call)m->call) {
    case CALL_TRACK:
        model_put_name(w, "event");
        break;
    case CALL_PAGE:
    case CALL_SCREEN:
        model_put_fact(w, "name", m->call == CALL_PAGE ? SLOT_PAGE_NAME : SLOT_SCREEN_NAME);
        model_put_fact(w, "category", SLOT_PAGE_CATEGORY);
        break;
    case CALL_IDENTIFY:
    case CALL_PROFILE:
        (void)model_put_op(w, "traits", OF_PERSON, OP_SET, false);
        return;
    case CALL_GROUP:
        (void)model_put_op(w, "traits", OF_GROUP, OP_SET, false);
        return;
    case CALL_ALIAS:
    case CALL_MERGE:
        model_put_id(w, "previousId", "", m->previous);
        return;
    case CALL_NONE:
    case CALL_LIMIT:
        return;
    }
    model_open(w, "properties");
    if (m->call == CALL_PAGE) {
        put_page(w);
    }
    model_put_facts(w, PLACE_EVENT_PROPERTY);
    model_put_properties(w);
    (void)model_close(w);
}

static bool says_something(const struct model_writer *w) {
    const struct model *m = w->model;
    bool has_person = m->user != 0 || m->anonymous != 0;
    if (m->call == CALL_ALIAS || m->call == CALL_MERGE) {
        return m->user != 0 && m->previous != 0;
    }
    return has_person && (m->call != CALL_PROFILE || model_has_op(w, OF_PERSON, OP_SET));
}

static void write(struct model_writer *w) {
    const struct model *m = w->model;
    struct span type;
    uint32_t group = 0;
    if (!says_something(w) || (m->call == CALL_GROUP && !model_group(w, &type, &group))) {
        return;
    }
    model_begin(w, m->call == CALL_GROUP ? EVENT_GROUP : EVENT_TRACK);
    model_put(w, "type", types[m->call]);
    model_put_id(w, "userId", "", m->user);
    if (m->call != CALL_ALIAS && m->call != CALL_MERGE) {
        model_put_id(w, "anonymousId", "", m->anonymous);
    }
    model_put_id(w, "groupId", "", group);
    model_put_insert_id(w, "messageId", "");
    model_put_time(w, "timestamp");
    put_context(w);
    put_call(w);
    model_end(w);
}

const struct protocol_model segment_model = {
    .rows = rows,
    .row_count = BH_COUNT(rows),
    .calls = calls,
    .call_count = BH_COUNT(calls),
    .ops = ops,
    .op_count = BH_COUNT(ops),
    .write = write,
};
