/*
 * Reading: one walk over the item's tokens, place by place, as policy and resolver do it; then who it is about, and what call it was.
 */
#include "protocol/translate.h"

#include <stdlib.h>

#include "base/check.h"
#include "base/compiler.h"

enum { PLACES_DEEP = 8, FIELDS_MAX = 1024 };

struct translator {
    const struct protocol_ops *source;
    const struct protocol_model *words; /* the source's */
    const struct field *fields;
    size_t field_count;
    uint8_t slot_of[FIELDS_MAX]; /* by the source's field; prefix fields go by their rows' keys */
    uint8_t op_of[FIELDS_MAX];
    struct model_target target;
    struct model model;
    struct model_writer writer;
};

/* An object that is being read. */
struct place {
    uint32_t end;
    uint8_t place;
    uint8_t section;
    uint8_t op;
    bool is_inner;
    bool is_names; /* keys are names to be unset */
};

struct reading {
    struct translator *t;
    const struct translate_input *in;
    struct model *m;
    struct place places[PLACES_DEEP];
    unsigned depth;
    uint32_t lost;
    translate_lost_fn *lost_fn;
    void *lost_context;
    /* Persons by role, tokens. */
    uint32_t distinct;
    uint32_t user;
    uint32_t device;
    uint32_t anonymous;
    uint32_t alias;
    uint32_t merged;
    uint32_t call_word;
    bool has_outer; /* an operation of the message's own */
    bool is_full;
};

/* ---- making ---- */

static enum model_section section_of(uint8_t place) {
    switch (place) {
    case PLACE_PROFILE_VALUE:
        return OF_PERSON;
    case PLACE_GROUP_VALUE:
        return OF_GROUP;
    default:
        return OF_EVENT;
    }
}

static uint8_t meaning(const struct model_word *words, size_t count, struct span word) {
    for (size_t i = 0; i < count; i++) {
        if (span_is(word, words[i].word)) {
            return words[i].meaning;
        }
    }
    return 0;
}

static void learn_source(struct translator *t) {
    for (size_t i = 0; i < t->words->row_count; i++) {
        const struct model_row *row = &t->words->rows[i];
        const struct field *field =
            t->source->field((enum field_place)row->place, span_str(row->key));
        check(field != NULL); /* every row has a field */
        if (!field->is_prefix) {
            t->slot_of[field - t->fields] = row->slot;
        }
    }
    for (size_t i = 0; i < t->field_count; i++) {
        struct span name = span_of(t->fields[i].name, t->fields[i].name_len);
        t->op_of[i] = meaning(t->words->ops, t->words->op_count, name);
    }
}

static void learn_target(struct translator *t, const struct protocol_ops *target) {
    t->target.ops = target;
    for (size_t i = 0; i < target->model->row_count; i++) {
        const struct model_row *row = &target->model->rows[i];
        const struct model_row **at = &t->target.rows[section_of(row->place)][row->slot];
        *at = *at == NULL ? row : *at;
    }
}

int translator_new(const struct protocol_ops *source, const struct protocol_ops *target,
                   struct translator **ret_translator) {
    if (source->decode == NULL || source->model == NULL || target->model == NULL ||
        target->model->write == NULL) {
        return BH_E_UNSUPPORTED;
    }
    struct translator *t = calloc(1, sizeof *t);
    if (t == NULL) {
        return BH_E_NOMEM;
    }
    t->source = source;
    t->words = source->model;
    t->fields = source->fields(&t->field_count);
    check(t->field_count <= FIELDS_MAX);
    learn_source(t);
    learn_target(t, target);
    const char *prefix = source->names.device_prefix;
    t->model.device_prefix = prefix != NULL ? span_str(prefix) : SPAN_NONE;
    t->writer.target = &t->target;
    t->writer.model = &t->model;
    *ret_translator = t;
    return 0;
}

const struct protocol_ops *translator_target(const struct translator *translator) {
    return translator->target.ops;
}

void translator_free(struct translator *translator) {
    free(translator);
}

/* ---- reading ---- */

static struct span text_of(const struct reading *r, uint32_t token) {
    return json_span(r->in->item, &r->in->tokens[token]);
}

static void lose(struct reading *r, uint32_t key) {
    r->lost++;
    if (r->lost_fn != NULL) {
        r->lost_fn(r->lost_context, text_of(r, key));
    }
}

static bool is_id(const struct json_token *token) {
    return token->kind == JSON_STRING || token->kind == JSON_NUMBER;
}

static void enter(struct reading *r, uint32_t token, struct place place) {
    const struct json_token *t = &r->in->tokens[token];
    if (r->depth == PLACES_DEEP || t->kind != JSON_OBJECT) {
        return;
    }
    place.end = t->next;
    r->places[r->depth++] = place;
}

static void add(struct reading *r, const struct place *at, struct model_member member) {
    struct model *m = r->m;
    if (m->member_count == MODEL_MEMBERS_MAX) {
        r->is_full = true;
        return;
    }
    member.section = at->section;
    member.is_inner = at->is_inner;
    m->members[m->member_count++] = member;
}

/* Names as an array of strings, one string, or the keys of an object. */
static void read_names(struct reading *r, const struct place *at, uint32_t value) {
    const struct json_token *tokens = r->in->tokens;
    struct place names = *at;
    names.op = OP_UNSET;
    if (tokens[value].kind == JSON_OBJECT) {
        names.is_names = true;
        enter(r, value, names);
        return;
    }
    uint32_t end = tokens[value].next;
    for (uint32_t i = tokens[value].kind == JSON_ARRAY ? value + 1 : value; i < end;
         i = tokens[i].next) {
        if (tokens[i].kind == JSON_STRING) {
            const struct field *field = r->t->source->field(
                at->section == OF_GROUP ? PLACE_GROUP_VALUE : PLACE_PROFILE_VALUE, text_of(r, i));
            uint8_t slot = field != NULL ? r->t->slot_of[field - r->t->fields] : SLOT_NONE;
            add(r, &names,
                (struct model_member){.key = i,
                                      .op = OP_UNSET,
                                      .slot = slot,
                                      .field = slot == SLOT_NONE ? field : NULL});
        }
    }
}

static void read_person(struct reading *r, const struct field *field, uint32_t value) {
    switch ((enum person_kind)field->person) {
    case PERSON_DISTINCT:
        r->distinct = r->distinct == 0 || text_of(r, r->distinct).n == 0 ? value : r->distinct;
        return;
    case PERSON_USER:
        r->user = value;
        return;
    case PERSON_DEVICE:
        r->device = value;
        return;
    case PERSON_ANONYMOUS:
        if (field->rank != 0) {
            r->anonymous = value;
        } else {
            r->m->previous = value;
        }
        return;
    case PERSON_ALIAS:
        r->alias = value;
        return;
    case PERSON_MERGED:
        r->merged = value;
        return;
    case PERSON_ECHO:
    case PERSON_NONE:
        return;
    }
}

/* The slot of a data field; rows of fields that share a prefix go by their whole keys. */
static uint8_t slot_of(const struct reading *r, const struct field *field, struct span key) {
    if (!field->is_prefix) {
        return r->t->slot_of[field - r->t->fields];
    }
    for (size_t i = 0; i < r->t->words->row_count; i++) {
        const struct model_row *row = &r->t->words->rows[i];
        if (row->place == field->place && span_is(key, row->key)) {
            return row->slot;
        }
    }
    return SLOT_NONE;
}

static void read_data(struct reading *r, const struct place *at, const struct field *field,
                      uint32_t key, uint32_t value) {
    const struct json_token *token = &r->in->tokens[value];
    if (field->inside != PLACE_NONE && token->kind == JSON_OBJECT) {
        struct place inside = *at;
        inside.place = field->inside;
        inside.op = field->inside == PLACE_GROUPS ? (uint8_t)OP_MEMBER : at->op;
        inside.is_inner = true;
        enter(r, value, inside);
        return;
    }
    uint8_t slot = slot_of(r, field, text_of(r, key));
    bool is_member = at->op != OP_NONE;
    if (is_member ||
        (slot == SLOT_NONE && field->role == ROLE_DATA && field->place == PLACE_EVENT_PROPERTY)) {
        add(r, at,
            (struct model_member){.key = key,
                                  .value = value,
                                  .op = at->op,
                                  .slot = slot,
                                  .field = slot == SLOT_NONE ? field : NULL});
    } else if (slot != SLOT_NONE && token->kind != JSON_OBJECT && r->m->facts[slot] == 0) {
        r->m->facts[slot] = value;
    } else if (slot == SLOT_NONE || token->kind == JSON_OBJECT) {
        lose(r, key);
    }
}

static void read_operation(struct reading *r, const struct place *at, const struct field *field,
                           uint32_t key, uint32_t value) {
    struct place inside = *at;
    uint8_t op = r->t->op_of[field - r->t->fields];
    bool is_group = field->inside == PLACE_GROUP_VALUE || field->inside == PLACE_GROUP_PROPERTIES;
    inside.op = op != OP_NONE ? op : (uint8_t)OP_SET;
    inside.place = field->inside;
    inside.section = is_group ? OF_GROUP : OF_PERSON;
    if (r->in->tokens[value].kind != JSON_OBJECT) {
        lose(r, key);
        return;
    }
    r->has_outer = r->has_outer || !at->is_inner;
    enter(r, value, inside);
}

/* Its text is written between quotes, so it must be one. */
static bool is_name_or_id(const struct field *field) {
    switch ((enum field_role)field->role) {
    case ROLE_EVENT_NAME:
    case ROLE_CALL:
    case ROLE_GROUP_KEY:
    case ROLE_GROUP_ID:
        return true;
    case ROLE_PERSON:
        return field->person != PERSON_MERGED;
    case ROLE_DATA:
    case ROLE_PROPERTIES:
    case ROLE_OPERATION:
    case ROLE_NAMES:
    case ROLE_INSERT_ID:
    case ROLE_TIME:
    case ROLE_TOKEN:
    case ROLE_PLUMBING:
    case ROLE_ONWARD:
        break;
    }
    return false;
}

static void read_field(struct reading *r, const struct place *at, const struct field *field,
                       uint32_t key, uint32_t value) {
    struct place inside = *at;
    if (is_name_or_id(field) && !is_id(&r->in->tokens[value])) {
        lose(r, key);
        return;
    }
    switch ((enum field_role)field->role) {
    case ROLE_EVENT_NAME:
        r->m->name = r->in->tokens[value].kind == JSON_STRING ? value : 0;
        return;
    case ROLE_CALL:
        r->call_word = value;
        return;
    case ROLE_PROPERTIES:
        inside.place = field->inside;
        enter(r, value, inside);
        return;
    case ROLE_OPERATION:
        read_operation(r, at, field, key, value);
        return;
    case ROLE_NAMES:
        inside.section = field->inside == PLACE_GROUP_VALUE || at->place == PLACE_GROUP ||
                                 at->section == OF_GROUP
                             ? OF_GROUP
                             : OF_PERSON;
        inside.place = field->inside;
        read_names(r, &inside, value);
        return;
    case ROLE_PERSON:
        r->m->is_delete = r->m->is_delete || r->t->op_of[field - r->t->fields] == OP_DELETE;
        read_person(r, field, value);
        return;
    case ROLE_GROUP_KEY:
        r->m->group_type = value;
        return;
    case ROLE_GROUP_ID:
        if (at->place == PLACE_CONTEXT) {
            add(r, at, (struct model_member){.value = value, .op = OP_MEMBER});
        } else if (r->t->op_of[field - r->t->fields] == OP_DELETE) {
            r->m->is_delete = true;
        } else if (at->op == OP_NONE) {
            r->m->group_id = value;
        }
        return;
    case ROLE_INSERT_ID:
    case ROLE_TIME:
    case ROLE_TOKEN:
    case ROLE_ONWARD:
        return;
    case ROLE_DATA:
    case ROLE_PLUMBING:
        break;
    }
    read_data(r, at, field, key, value);
}

/* A key that the table does not know: declared by the plan. */
static void read_declared(struct reading *r, const struct place *at, uint32_t key, uint32_t value) {
    bool is_property = at->place == PLACE_EVENT_PROPERTY && at->op == OP_NONE;
    bool is_group =
        is_property && r->in->is_group != NULL && r->in->is_group(r->in->context, text_of(r, key));
    if (is_group) {
        add(r, at, (struct model_member){.key = key, .value = value, .op = OP_MEMBER});
    } else if (is_property || at->op != OP_NONE) {
        add(r, at, (struct model_member){.key = key, .value = value, .op = at->op});
    } else {
        lose(r, key);
    }
}

static void read_member(struct reading *r, struct place at, uint32_t key, uint32_t value) {
    const struct protocol_ops *source = r->t->source;
    const struct json_token *name = &r->in->tokens[key];
    const struct field *field = NULL;
    if ((name->flags & JSON_ESCAPED) == 0 && at.place != PLACE_NONE) {
        field = source->field((enum field_place)at.place, text_of(r, key));
    }
    if (at.is_names) {
        uint8_t slot = field != NULL ? slot_of(r, field, text_of(r, key)) : SLOT_NONE;
        add(r, &at,
            (struct model_member){.key = key,
                                  .op = OP_UNSET,
                                  .slot = slot,
                                  .field = slot == SLOT_NONE ? field : NULL});
    } else if (field != NULL) {
        read_field(r, &at, field, key, value);
    } else {
        read_declared(r, &at, key, value);
    }
}

static void read_item(struct reading *r) {
    uint8_t place = r->t->source->root_place((enum event_kind)r->in->kind);
    uint32_t i = 1;
    enter(r, 0, (struct place){.place = place});
    while (r->depth > 0) {
        const struct place at = r->places[r->depth - 1];
        if (i >= at.end) {
            r->depth--;
            continue;
        }
        unsigned depth = r->depth;
        read_member(r, at, i, i + 1);
        i = r->depth > depth ? i + 2 : r->in->tokens[i].next;
    }
}

/* ---- what it was, and who ---- */

static bool is_same(const struct model *m, uint32_t a, uint32_t b) {
    return a != 0 && b != 0 && span_equal(model_id(m, a), model_id(m, b));
}

static uint32_t unless_empty(const struct reading *r, uint32_t token) {
    return token != 0 && text_of(r, token).n != 0 && r->in->tokens[token].kind != JSON_NULL ? token
                                                                                            : 0;
}

static uint8_t call_of(const struct reading *r) {
    const struct protocol_model *words = r->t->words;
    uint32_t word = r->call_word != 0 ? r->call_word : r->m->name;
    uint8_t call = CALL_NONE;
    if (word != 0) {
        call = meaning(words->calls, words->call_count, text_of(r, word));
    }
    switch ((enum event_kind)r->in->kind) {
    case EVENT_IDENTIFY:
        return CALL_IDENTIFY;
    case EVENT_ALIAS:
        return CALL_ALIAS;
    case EVENT_MERGE:
        return CALL_MERGE;
    case EVENT_PROFILE:
        return CALL_PROFILE;
    case EVENT_GROUP:
        return CALL_GROUP;
    case EVENT_TRACK:
        break;
    }
    if (call == CALL_NONE && word != 0) {
        struct span name = text_of(r, word);
        bool is_own = name.n == 0 || name.p[0] == '$' || name.p[0] == '[';
        call = is_own ? CALL_NONE : CALL_TRACK;
    }
    return call == CALL_TRACK && r->m->name == 0 ? (uint8_t)CALL_NONE : call;
}

/* What no other vendor has a word for, a neutral target says as it stands. */
static void settle_call(struct reading *r) {
    struct model *m = r->m;
    bool is_neutral = r->t->target.ops->model->is_neutral;
    if (m->is_delete && !is_neutral) {
        m->call = CALL_NONE;
    } else if (m->call == CALL_NONE && m->name != 0 && is_neutral) {
        m->call = CALL_TRACK;
    }
}

/* The id that an event is filed under says nothing of itself; what stands beside it does. */
static bool is_anonymous(const struct reading *r) {
    const struct model *m = r->m;
    struct span id = text_of(r, r->distinct);
    uint32_t says = m->facts[SLOT_IS_IDENTIFIED];
    bool has_prefix = m->device_prefix.n != 0 && span_starts(id, m->device_prefix);
    bool is_said = says != 0 && r->in->tokens[says].kind == JSON_FALSE;
    return r->user == 0 && (has_prefix || is_said || is_same(m, r->distinct, r->device));
}

/* Of two ids; more are a merge that only Mixpanel knows. */
static void settle_merge(struct reading *r) {
    const struct json_token *tokens = r->in->tokens;
    struct model *m = r->m;
    m->previous = r->alias;
    if (r->merged != 0 && tokens[r->merged].kind == JSON_ARRAY &&
        tokens[r->merged].next == r->merged + 3 && is_id(&tokens[r->merged + 1]) &&
        is_id(&tokens[r->merged + 2])) {
        m->user = r->merged + 1;
        m->previous = r->merged + 2;
    }
}

static void settle_persons(struct reading *r) {
    struct model *m = r->m;
    r->distinct = unless_empty(r, r->distinct);
    r->user = unless_empty(r, r->user);
    r->device = unless_empty(r, r->device);
    m->previous = unless_empty(r, m->previous);
    m->joins_group = m->call == CALL_GROUP && m->group_id != 0 && m->group_type == 0;
    m->anonymous = unless_empty(r, r->anonymous);
    m->user = r->user != 0 ? r->user : r->distinct;
    if (m->call == CALL_ALIAS && r->alias != 0) {
        m->user = r->t->words->alias_is_user ? r->alias : r->distinct;
        m->previous = r->t->words->alias_is_user ? r->distinct : r->alias;
        return;
    }
    if (m->call == CALL_MERGE) {
        settle_merge(r);
        return;
    }
    if (m->call == CALL_IDENTIFY) {
        m->anonymous = m->previous != 0 ? m->previous : r->device;
        return;
    }
    if (r->distinct != 0 && is_anonymous(r)) {
        m->user = 0;
        m->anonymous = r->distinct;
    }
    m->anonymous = m->anonymous != 0 ? m->anonymous : r->device;
    /* An update of a profile by both ids joins them, where the source's SDK means it so. */
    if (m->call == CALL_PROFILE && r->t->source->names.links_alone && m->user != 0 &&
        m->anonymous != 0 && !is_same(m, m->user, m->anonymous)) {
        m->call = CALL_IDENTIFY;
    }
}

/* A context's own traits say again what the message says. */
static void drop_inner(struct reading *r) {
    struct model *m = r->m;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < m->member_count; i++) {
        bool is_repeated =
            r->has_outer && m->members[i].is_inner && m->members[i].section != OF_EVENT;
        if (!is_repeated) {
            m->members[kept++] = m->members[i];
        }
    }
    m->member_count = kept;
}

/* ---- the whole ---- */

static void begin(struct translator *t, const struct translate_input *in) {
    struct model *m = &t->model;
    m->text = in->item;
    m->tokens = in->tokens;
    m->call = CALL_NONE;
    m->is_historic = in->is_historic;
    m->is_delete = false;
    m->name = m->user = m->anonymous = m->previous = m->group_type = m->group_id = 0;
    memset(m->facts, 0, sizeof m->facts);
    memset(m->facts_written, 0, sizeof m->facts_written);
    m->member_count = 0;
    m->time_ms = in->time_ms;
    m->insert_id = in->insert_id;
    m->only_group = in->only_group;
}

static void count_lost(struct reading *r) {
    const struct model *m = r->m;
    for (unsigned slot = 1; slot < SLOT_LIMIT; slot++) {
        bool is_written = (m->facts_written[slot / 64] >> (slot % 64) & 1) != 0;
        /* Whether a person is known is said by which id an event has. */
        if (m->facts[slot] != 0 && !is_written && slot != SLOT_IS_IDENTIFIED) {
            lose(r, m->facts[slot] - 1);
        }
    }
    for (uint32_t i = 0; i < m->member_count; i++) {
        const struct model_member *member = &m->members[i];
        if (!member->is_written) {
            lose(r, member->key != 0 ? member->key : member->value - 1);
        }
    }
}

int translate(struct translator *translator, const struct translate_input *input, struct buf *out,
              struct translated *ret, translate_lost_fn *lost, void *lost_context) {
    struct reading r = {.t = translator,
                        .in = input,
                        .m = &translator->model,
                        .lost_fn = lost,
                        .lost_context = lost_context};
    *ret = (struct translated){0};
    begin(translator, input);
    read_item(&r);
    if (r.is_full) {
        return BH_E_TOO_MANY;
    }
    r.m->call = call_of(&r);
    settle_call(&r);
    if (r.m->call == CALL_SCREEN && r.m->facts[SLOT_SCREEN_NAME] == 0) {
        r.m->facts[SLOT_SCREEN_NAME] =
            r.m->facts[SLOT_PAGE_NAME]; /* of Segment, one key for both */
        r.m->facts[SLOT_PAGE_NAME] = 0;
    }
    drop_inner(&r);
    settle_persons(&r);
    translator->writer.out = out;
    translator->writer.item_count = 0;
    bool is_alias = r.m->call == CALL_ALIAS || r.m->call == CALL_MERGE;
    if (r.m->call != CALL_NONE && !(is_alias && is_same(r.m, r.m->user, r.m->previous))) {
        translator->target.ops->model->write(&translator->writer);
    }
    count_lost(&r);
    ret->items = translator->writer.items;
    ret->item_count = translator->writer.item_count;
    ret->lost = r.lost;
    return out->full ? BH_E_FULL : 0;
}
