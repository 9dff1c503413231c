/* What writers of all protocols share: JSON, names that are free at the target, and the marks of what was written. */
#include "protocol/wire/model.h"

#include <stdio.h>

#include "base/check.h"
#include "base/date.h"
#include "base/hash.h"

/* ---- JSON ---- */

static void put_comma(struct buf *out) {
    uint8_t last = out->n != 0 ? out->p[out->n - 1] : '{';
    if (last != '{' && last != '[' && last != ':') {
        buf_put_byte(out, ',');
    }
}

static void put_key(struct model_writer *w, struct span key) {
    put_comma(w->out);
    buf_put_byte(w->out, '"');
    buf_put_span(w->out, key);
    buf_put(w->out, "\":", 2);
}

void model_begin(struct model_writer *w, enum event_kind kind) {
    check(w->item_count < MODEL_ITEMS_MAX);
    struct model_item *item = &w->items[w->item_count];
    if (w->item_count != 0) {
        buf_put_byte(w->out, MODEL_SEPARATOR);
    }
    item->at = (uint32_t)w->out->n;
    item->kind = (uint8_t)kind;
    buf_put_byte(w->out, '{');
}

void model_end(struct model_writer *w) {
    buf_put_byte(w->out, '}');
    struct model_item *item = &w->items[w->item_count++];
    item->size = (uint32_t)w->out->n - item->at;
}

void model_open(struct model_writer *w, const char *key) {
    put_key(w, span_str(key));
    buf_put_byte(w->out, '{');
}

bool model_close(struct model_writer *w) {
    struct buf *out = w->out;
    if (out->n < 2 || out->full || out->p[out->n - 1] != '{') {
        buf_put_byte(out, '}');
        return true;
    }
    size_t n = out->n - 2; /* the colon */
    check(out->p[n] == ':' && out->p[n - 1] == '"');
    for (n -= 2; out->p[n] != '"'; n--) { /* keys that model_open puts have no quotes in them */
    }
    out->n = n > 0 && out->p[n - 1] == ',' ? n - 1 : n;
    return false;
}

void model_put(struct model_writer *w, const char *key, const char *text) {
    put_key(w, span_str(key));
    buf_put_byte(w->out, '"');
    buf_put_str(w->out, text);
    buf_put_byte(w->out, '"');
}

void model_put_inner(struct model_writer *w, struct span key, struct span inner) {
    put_key(w, key);
    buf_put_byte(w->out, '"');
    buf_put_span(w->out, inner);
    buf_put_byte(w->out, '"');
}

void model_put_raw(struct model_writer *w, const char *key, struct span json) {
    put_key(w, span_str(key));
    buf_put_span(w->out, json);
}

/* A value as it stood. */
static struct span raw(const struct model *m, uint32_t token) {
    const struct json_token *t = &m->tokens[token];
    size_t quote = t->kind == JSON_STRING;
    return span_of(m->text.p + t->start - quote, (size_t)t->len + 2 * quote);
}

/* ---- ids and time ---- */

struct span model_id(const struct model *model, uint32_t token) {
    const struct json_token *t = &model->tokens[token];
    if (token == 0 || (t->kind != JSON_STRING && t->kind != JSON_NUMBER)) {
        return SPAN_NONE;
    }
    struct span id = json_span(model->text, &model->tokens[token]);
    bool has_prefix = model->device_prefix.n != 0 && span_starts(id, model->device_prefix);
    return has_prefix ? span_from(id, model->device_prefix.n) : id;
}

void model_put_id(struct model_writer *w, const char *key, const char *prefix, uint32_t token) {
    if (token == 0) {
        return;
    }
    put_key(w, span_str(key));
    buf_put_byte(w->out, '"');
    buf_put_str(w->out, prefix);
    buf_put_span(w->out, model_id(w->model, token));
    buf_put_byte(w->out, '"');
}

void model_put_time(struct model_writer *w, const char *key) {
    int64_t ms = w->model->time_ms > 0 ? w->model->time_ms : 0;
    put_key(w, span_str(key));
    switch ((enum time_form)w->target->ops->names.time_form) {
    case TIME_FORM_ISO:
        buf_put_byte(w->out, '"');
        date_put_time(ms, true, w->out);
        buf_put_byte(w->out, '"');
        return;
    case TIME_FORM_MS:
        buf_put_i64_dec(w->out, ms);
        return;
    case TIME_FORM_SECONDS:
        break;
    }
    buf_put_i64_dec(w->out, ms / 1000);
    if (ms % 1000 != 0) {
        uint8_t text[4] = {'.', (uint8_t)('0' + ms % 1000 / 100), (uint8_t)('0' + ms % 100 / 10),
                           (uint8_t)('0' + ms % 10)};
        buf_put(w->out, text, sizeof text);
    }
}

void model_put_insert_id(struct model_writer *w, const char *key, const char *more) {
    if (w->model->insert_id.n == 0) {
        return;
    }
    put_key(w, span_str(key));
    buf_put_byte(w->out, '"');
    buf_put_span(w->out, w->model->insert_id);
    buf_put_str(w->out, more);
    buf_put_byte(w->out, '"');
}

void model_put_name(struct model_writer *w, const char *key) {
    put_key(w, span_str(key));
    buf_put_span(w->out, raw(w->model, w->model->name));
}

/* ---- facts ---- */

static void mark(struct model_writer *w, unsigned slot) {
    w->model->facts_written[slot / 64] |= UINT64_C(1) << (slot % 64);
}

static bool is_marked(const struct model *m, unsigned slot) {
    return (m->facts_written[slot / 64] >> (slot % 64) & 1) != 0;
}

bool model_has(const struct model_writer *w, enum model_slot slot) {
    return w->model->facts[slot] != 0;
}

struct span model_fact(const struct model_writer *w, enum model_slot slot) {
    return model_has(w, slot) ? raw(w->model, w->model->facts[slot]) : SPAN_NONE;
}

void model_put_fact(struct model_writer *w, const char *key, enum model_slot slot) {
    if (model_has(w, slot)) {
        model_put_raw(w, key, model_fact(w, slot));
        mark(w, slot);
    }
}

void model_put_facts(struct model_writer *w, enum field_place place) {
    for (unsigned slot = 1; slot < SLOT_LIMIT; slot++) {
        const struct model_row *row = w->target->rows[OF_EVENT][slot];
        /* A session's id has another shape everywhere: writers put it. */
        if (w->model->facts[slot] != 0 && row != NULL && row->place == place &&
            slot != SLOT_SESSION_ID) {
            model_put_fact(w, row->key, (enum model_slot)slot);
        }
    }
}

/* ---- names in an object ---- */

static void names_begin(struct model_writer *w) {
    for (uint32_t i = 0; i < w->key_count; i++) {
        w->keys[w->keys_used[i]] = 0;
    }
    w->key_count = 0;
}

/* False: it is there already. */
static bool names_add(struct model_writer *w, struct span key) {
    uint64_t hash = hash64(key.p, key.n, 0) | 1;
    for (size_t at = hash % MODEL_KEYS;; at = (at + 1) % MODEL_KEYS) {
        if (w->keys[at] == hash) {
            return false;
        }
        if (w->keys[at] == 0) {
            if (w->key_count == MODEL_MEMBERS_MAX) {
                return false;
            }
            w->keys[at] = hash;
            w->keys_used[w->key_count++] = (uint16_t)at;
            return true;
        }
    }
}

static const char *plain_name(unsigned slot) {
    static const char *const names[] = {
        NULL,
#define SLOT(name, path, plain) plain,
#include "protocol/wire/slots.def"
#undef SLOT
    };
    return names[slot];
}

static enum field_place place_of(enum model_section section) {
    static const uint8_t places[] = {[OF_EVENT] = PLACE_EVENT_PROPERTY,
                                     [OF_PERSON] = PLACE_PROFILE_VALUE,
                                     [OF_GROUP] = PLACE_GROUP_VALUE};
    return (enum field_place)places[section];
}

static bool is_own_word(struct span key) {
    return key.n == 0 || key.p[0] == '$' || key.p[0] == '[' || span_starts(key, SPAN_LIT("mp_"));
}

/*
 * Whether a name is free for a plain value at the target, or means the same there. A reserved name of the source's must not look like one of the
 * target's.
 */
static bool is_free(const struct model_writer *w, enum model_section section, uint32_t token,
                    const struct field *source) {
    const struct json_token *t = &w->model->tokens[token];
    struct span key = json_span(w->model->text, t);
    uint8_t memory[256];
    struct buf scratch = buf_of(memory, sizeof memory);
    if ((t->flags & JSON_ESCAPED) != 0) {
        key = json_text(w->model->text, t, &scratch);
    }
    const struct field *field = w->target->ops->field(place_of(section), key);
    if (field == NULL) {
        return source == NULL || w->target->ops->model->is_neutral || !is_own_word(key);
    }
    bool is_data = field->role == ROLE_DATA && field->inside == PLACE_NONE;
    if (source != NULL) {
        return is_data && field->class_id == source->class_id && field->domain == source->domain;
    }
    return is_data && field->class_id != CLASS_IP_ADDRESS && field->domain == DOMAIN_NONE;
}

/* Of a member: the name under which it leaves; empty = it cannot. */
static struct span name_of(const struct model_writer *w, const struct model_member *member) {
    enum model_section section = (enum model_section)member->section;
    const struct model_row *row = w->target->rows[section][member->slot];
    if (member->slot != SLOT_NONE) {
        bool fits = row != NULL && row->place == place_of(section);
        const char *plain = plain_name(member->slot);
        return fits ? span_str(row->key) : plain != NULL ? span_str(plain) : SPAN_NONE;
    }
    bool is = is_free(w, section, member->key, member->field);
    return is ? json_span(w->model->text, &w->model->tokens[member->key]) : SPAN_NONE;
}

static bool put_member(struct model_writer *w, struct model_member *member, struct span before,
                       struct span value) {
    struct span name = name_of(w, member);
    if (name.n == 0 || !names_add(w, name)) {
        return false;
    }
    put_key(w, name);
    buf_put_span(w->out, before);
    buf_put_span(w->out, value);
    member->is_written = true;
    return true;
}

void model_put_properties(struct model_writer *w) {
    struct model *m = w->model;
    names_begin(w);
    for (unsigned slot = 1; slot < SLOT_LIMIT; slot++) {
        const struct model_row *row = w->target->rows[OF_EVENT][slot];
        if (m->facts[slot] != 0 && row != NULL && row->place == PLACE_EVENT_PROPERTY) {
            (void)names_add(w, span_str(row->key));
        }
    }
    for (uint32_t i = 0; i < m->member_count; i++) {
        if (m->members[i].op == OP_NONE) {
            (void)put_member(w, &m->members[i], SPAN_NONE, raw(m, m->members[i].value));
        }
    }
    for (unsigned slot = 1; slot < SLOT_LIMIT; slot++) {
        const char *plain = plain_name(slot);
        bool is_open = m->facts[slot] != 0 && w->target->rows[OF_EVENT][slot] == NULL &&
                       !is_marked(m, slot) && plain != NULL;
        if (is_open && names_add(w, span_str(plain))) {
            model_put_fact(w, plain, (enum model_slot)slot);
        }
    }
}

/* ---- operations ---- */

static bool is_of(const struct model_member *member, enum model_section section, enum model_op op) {
    return member->section == section && member->op == op;
}

bool model_has_op(const struct model_writer *w, enum model_section section, enum model_op op) {
    for (uint32_t i = 0; i < w->model->member_count; i++) {
        const struct model_member *member = &w->model->members[i];
        if (is_of(member, section, op) && name_of(w, member).n != 0) {
            return true;
        }
    }
    return false;
}

bool model_put_op(struct model_writer *w, const char *key, enum model_section section,
                  enum model_op op, bool as_lists) {
    struct model *m = w->model;
    if (!model_has_op(w, section, op)) {
        return false;
    }
    model_open(w, key);
    names_begin(w);
    for (uint32_t i = 0; i < m->member_count; i++) {
        struct model_member *member = &m->members[i];
        if (!is_of(member, section, op)) {
            continue;
        }
        bool wraps = as_lists && m->tokens[member->value].kind != JSON_ARRAY;
        if (put_member(w, member, wraps ? SPAN_LIT("[") : SPAN_NONE, raw(m, member->value))) {
            buf_put(w->out, "]", wraps);
        }
    }
    return model_close(w);
}

bool model_put_unset(struct model_writer *w, const char *key, enum model_section section,
                     const char *value) {
    struct model *m = w->model;
    if (!model_has_op(w, section, OP_UNSET)) {
        return false;
    }
    put_key(w, span_str(key));
    buf_put_byte(w->out, value != NULL ? '{' : '[');
    names_begin(w);
    for (uint32_t i = 0; i < m->member_count; i++) {
        struct model_member *member = &m->members[i];
        if (!is_of(member, section, OP_UNSET)) {
            continue;
        }
        if (value != NULL) {
            (void)put_member(w, member, SPAN_NONE, span_str(value));
            continue;
        }
        struct span name = name_of(w, member);
        if (name.n != 0 && names_add(w, name)) {
            put_comma(w->out);
            buf_put_byte(w->out, '"');
            buf_put_span(w->out, name);
            buf_put_byte(w->out, '"');
            member->is_written = true;
        }
    }
    buf_put_byte(w->out, value != NULL ? '}' : ']');
    return true;
}

/* ---- groups ---- */

/* The value's one id, or the first of an array's; 0 = none. */
static uint32_t first_id(const struct model *m, uint32_t value) {
    const struct json_token *t = &m->tokens[value];
    uint32_t first = t->kind != JSON_ARRAY ? value : t->next > value + 1 ? value + 1 : 0;
    return model_id(m, first).n != 0 ? first : 0;
}

void model_put_groups(struct model_writer *w, bool among_properties, bool one) {
    struct model *m = w->model;
    if (!among_properties) {
        names_begin(w);
    }
    for (uint32_t i = 0; i < m->member_count; i++) {
        struct model_member *member = &m->members[i];
        if (member->op != OP_MEMBER) {
            continue;
        }
        struct span type =
            member->key != 0 ? json_span(m->text, &m->tokens[member->key]) : m->only_group;
        uint32_t id = first_id(m, member->value);
        bool is_all = !one || m->tokens[member->value].kind != JSON_ARRAY ||
                      m->tokens[member->value].next == member->value + 2;
        bool may = !among_properties || member->key == 0 || is_free(w, OF_EVENT, member->key, NULL);
        if (type.n != 0 && id != 0 && may && names_add(w, type)) {
            put_key(w, type);
            buf_put_span(w->out, raw(m, one ? id : member->value));
            member->is_written = is_all;
        }
    }
}

uint32_t model_one_group(struct model_writer *w) {
    struct model *m = w->model;
    struct model_member *best = NULL;
    for (uint32_t i = 0; i < m->member_count; i++) {
        struct model_member *member = &m->members[i];
        if (member->op == OP_MEMBER && first_id(m, member->value) != 0) {
            struct span type =
                member->key != 0 ? json_span(m->text, &m->tokens[member->key]) : m->only_group;
            bool is_named = m->only_group.n != 0 && span_equal(type, m->only_group);
            best = best == NULL || is_named ? member : best;
        }
    }
    if (best == NULL) {
        return 0;
    }
    uint32_t value = best->value;
    best->is_written = m->tokens[value].kind != JSON_ARRAY || m->tokens[value].next == value + 2;
    return first_id(m, value);
}

bool model_group(struct model_writer *w, struct span *ret_type, uint32_t *ret_id) {
    struct model *m = w->model;
    *ret_type = m->group_type != 0 ? json_span(m->text, &m->tokens[m->group_type]) : m->only_group;
    *ret_id = m->group_id;
    for (uint32_t i = 0; i < m->member_count && *ret_id == 0; i++) {
        struct model_member *member = &m->members[i];
        if (member->op == OP_MEMBER && member->key != 0) {
            *ret_type = json_span(m->text, &m->tokens[member->key]);
            *ret_id = first_id(m, member->value);
            member->is_written = *ret_id != 0;
        }
    }
    return *ret_id != 0;
}

/* ---- sessions ---- */

/* Milliseconds that begin a UUIDv7; 0 = it is none. */
static uint64_t uuid7_ms(struct span id) {
    uint64_t ms = 0;
    bool is = id.n == 36 && id.p[8] == '-' && id.p[13] == '-' && id.p[14] == '7' &&
              id.p[18] == '-' && id.p[23] == '-';
    for (size_t i = 0; i < 13 && is; i++) {
        int digit = i == 8 ? 0 : hex_digit_value(id.p[i]);
        is = digit >= 0;
        ms = i == 8 ? ms : ms << 4 | (uint64_t)(digit & 15);
    }
    return is ? ms : 0;
}

void model_put_session_ms(struct model_writer *w, const char *key) {
    struct model *m = w->model;
    struct span id = model_id(m, m->facts[SLOT_SESSION_ID]);
    uint64_t ms = 0;
    bool is_number = id.n != 0 && id.n < 16 && span_to_u64(id, &ms);
    ms = is_number ? ms : uuid7_ms(id);
    if (ms != 0) {
        put_key(w, span_str(key));
        buf_put_u64_dec(w->out, ms);
        mark(w, SLOT_SESSION_ID);
    }
}

void model_put_session_uuid7(struct model_writer *w, const char *key) {
    struct model *m = w->model;
    struct span id = model_id(m, m->facts[SLOT_SESSION_ID]);
    uint64_t ms = 0;
    if (uuid7_ms(id) != 0) {
        model_put_fact(w, key, SLOT_SESSION_ID);
        return;
    }
    if (id.n == 0 || id.n >= 16 || !span_to_u64(id, &ms) || ms == 0) {
        return;
    }
    /* Equal numbers give equal ids; what follows the time says nothing but the number again. */
    uint64_t rest = hash64(id.p, id.n, 7);
    uint64_t more = hash64(id.p, id.n, 9);
    char text[37];
    (void)snprintf(text, sizeof text, "%08llx-%04llx-7%03llx-%04llx-%012llx",
                   (unsigned long long)(ms >> 16 & 0xffffffff), (unsigned long long)(ms & 0xffff),
                   (unsigned long long)(rest & 0xfff),
                   (unsigned long long)((rest >> 12 & 0x3fff) | 0x8000),
                   (unsigned long long)(more & UINT64_C(0xffffffffffff)));
    model_put(w, key, text);
    mark(w, SLOT_SESSION_ID);
}
