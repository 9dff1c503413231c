/*
 * Writing: the item as the vendor receives it, from the decisions of every leaf.
 *
 * Containers are opened when their first leaf is written, so that what lost all its members is not there at all. What policy adds itself
 * (insert id, time, the empty id that says "nobody") goes to the end of the properties.
 *
 * Invariants
 *  W1 A leaf is written only after what was found in it has been asked about (check_findings).
 *  W2 Every class that leaves is entered in the verdict first; when the list is full, the item does not leave.
 */
#include "base/check.h"
#include "flow/policy/policy_int.h"

enum { EDITS_MAX = 64, EDIT_TEXT = 80 };

/* A span of the source that is replaced. */
struct edit {
    uint32_t start;
    uint32_t end;
    uint8_t size;
    uint8_t text[EDIT_TEXT];
};

struct edits {
    struct edit list[EDITS_MAX];
    unsigned count;
};

/* -- what leaves ------------------------------------------------------------------------------------- */

_Static_assert(sizeof(struct disclosed) == 4, "compared as one word");

static bool disclose(struct policy *p, uint16_t class_id, struct form form) {
    struct verdict *v = p->verdict;
    if (p->judging != NULL) {
        return true; /* only asked, not yet written */
    }
    const struct disclosed one = {class_id, form};
    for (unsigned i = 0; i < v->disclosed_count; i++) {
        if (memcmp(&v->disclosed[i], &one, sizeof one) == 0) {
            return true;
        }
    }
    if (v->disclosed_count == VERDICT_DISCLOSED_MAX) {
        return false;
    }
    v->disclosed[v->disclosed_count++] = one;
    return true;
}

static unsigned disclosed_order(const struct disclosed *d) {
    return (unsigned)d->class_id << 16 | (unsigned)d->form.id << 8 | d->form.level;
}

static void sort_disclosed(struct verdict *v) {
    for (unsigned i = 1; i < v->disclosed_count; i++) {
        struct disclosed moved = v->disclosed[i];
        unsigned k = i;
        for (; k > 0 && disclosed_order(&v->disclosed[k - 1]) > disclosed_order(&moved); k--) {
            v->disclosed[k] = v->disclosed[k - 1];
        }
        v->disclosed[k] = moved;
    }
}

/* False when there is no room for one more person of a link. */
static bool add_aid(struct verdict *v, const struct aid *aid) {
    for (unsigned i = 0; i < v->aid_count; i++) {
        if (memcmp(v->aids[i].b, aid->b, sizeof aid->b) == 0) {
            return true;
        }
    }
    if (v->aid_count == VERDICT_AIDS_MAX) {
        return false;
    }
    v->aids[v->aid_count++] = *aid;
    return true;
}

static void count_withheld(struct policy *p, uint32_t token, struct decision *d, uint8_t reason) {
    d->act = ACT_WITHHOLD;
    d->reason = reason;
    p->verdict->withheld_leaves++;
    p->verdict->withheld_by_reason[reason < REASON_LIMIT ? reason : 0]++;
    if (d->field != NULL && d->field->role == ROLE_PERSON && event_is_link(p->in->event->kind)) {
        uint8_t person = d->field->person;
        p->link_broken = p->link_broken || person == PERSON_DISTINCT ||
                         person == PERSON_ANONYMOUS || person == PERSON_ALIAS ||
                         person == PERSON_MERGED;
    }
    if (d->field != NULL && d->field->role == ROLE_GROUP_KEY) {
        p->link_broken = true;
    }
    if (p->explain != NULL) {
        policy_tell(p, token, d);
    }
    if (token == p->name_token && p->reason == REASON_NONE) {
        p->reason = reason; /* what was found in the event's name stops the event */
    }
}

/* -- what was found in a leaf -------------------------------------------------------------------------- */

/* Whether a span of the source is in what the form left. */
static bool is_left(const struct shape *shape, uint32_t start, uint32_t end) {
    for (unsigned i = 0; i < shape->count; i++) {
        const struct piece *piece = &shape->pieces[i];
        if (piece->start != UINT32_MAX && start < piece->start + piece->bytes.n &&
            end > piece->start) {
            return true;
        }
    }
    return false;
}

static bool add_edit(struct edits *edits, uint32_t start, uint32_t end, uint16_t class_id,
                     uint8_t form, struct span value) {
    /* Findings that overlap are replaced together. */
    for (; edits->count != 0 && start < edits->list[edits->count - 1].end; edits->count--) {
        const struct edit *last = &edits->list[edits->count - 1];
        start = last->start < start ? last->start : start;
        end = last->end > end ? last->end : end;
    }
    if (edits->count == EDITS_MAX) {
        return false;
    }
    struct edit *edit = &edits->list[edits->count++];
    struct buf text = buf_of(edit->text, sizeof edit->text);
    if (form == FORM_MASK) {
        shape_mask(class_id, span_cut(value, start, end - start), &text);
    } else {
        buf_put_byte(&text, '[');
        buf_put_str(&text, class_name(class_id));
        buf_put_byte(&text, ']');
    }
    edit->start = start;
    edit->end = end;
    edit->size = (uint8_t)text.n;
    return !text.full;
}

/* One finding under a form that shows bytes of the source: REASON_NONE = it may stay, or it will be replaced. */
static uint8_t check_found(struct policy *p, const struct finding *f, const struct shape *shape,
                           struct span value, struct edits *edits) {
    bool is_whole = f->length == FINDING_WHOLE;
    uint32_t start = is_whole ? 0 : f->start;
    uint32_t end = is_whole || f->length > value.n || f->start > value.n - f->length
                       ? (uint32_t)value.n
                       : f->start + f->length;
    if (start < end && !is_left(shape, start, end)) {
        return REASON_NONE;
    }
    struct class_rule rule =
        policy_class(p, f->class_id < CLASS_LIMIT ? f->class_id : (uint16_t)CLASS_NONE);
    if (rule.state == CLASS_NEVER_OPEN) {
        return REASON_NEVER;
    }
    if (rule.state != CLASS_OPEN) {
        return rule.state == CLASS_NO_CONSENT ? REASON_NO_CONSENT : REASON_NOT_ALLOWED;
    }
    if (rule.form.id == FORM_REDACT || rule.form.id == FORM_MASK) {
        if (!add_edit(edits, start, end, f->class_id, rule.form.id, value)) {
            return REASON_TOO_COMPLEX;
        }
        return rule.form.id == FORM_REDACT || disclose(p, f->class_id, rule.form)
                   ? REASON_NONE
                   : REASON_TOO_COMPLEX;
    }
    if (rule.form.id != FORM_RAW) {
        return REASON_FORM_UNFIT; /* a part of a text has no pseudonym and no coarse form */
    }
    return disclose(p, f->class_id, rule.form) ? REASON_NONE : REASON_TOO_COMPLEX;
}

/*
 * W1. Own class apart, a never-class withholds; a pseudonym is entered under each class found; under other forms each needs a line of its own.
 * d->found = the class that decided.
 */
static uint8_t check_findings(struct policy *p, uint32_t token, struct decision *d,
                              const struct shape *shape, struct span value, struct edits *edits,
                              uint32_t *cursor) {
    const struct record_event *event = p->in->event;
    if (BH_LIKELY(!has_finding(p, token, cursor))) {
        return REASON_NONE;
    }
    for (uint32_t i = *cursor; i < event->finding_count && event->findings[i].leaf == token; i++) {
        const struct finding *f = &event->findings[i];
        uint8_t reason = REASON_NONE;
        bool says_table =
            f->by == FOUND_BY_SCHEMA && d->field != NULL && f->class_id == d->field->class_id;
        if (f->class_id == d->class_id || says_table) {
            continue;
        }
        if (d->form.id == FORM_PSEUDONYM && d->act == ACT_SHAPE) {
            if (class_is_never(f->class_id)) {
                reason = REASON_NEVER;
            } else if (!disclose(p, f->class_id, d->form)) {
                reason = REASON_TOO_COMPLEX;
            }
        } else {
            reason = check_found(p, f, shape, value, edits);
        }
        if (reason != REASON_NONE) {
            d->found = f->class_id;
            return reason;
        }
    }
    return REASON_NONE;
}

/* Nothing has to be known of the value to write it: most leaves of most events. */
static bool leaves_as_it_is(const struct decision *d) {
    bool is_person = d->field != NULL && d->field->role == ROLE_PERSON;
    return d->act == ACT_KEEP || (d->form.id == FORM_RAW && !d->is_time && !is_person);
}

/* The leaf in its form, and what was found in it. */
static uint8_t shape_leaf(struct policy *p, uint32_t token, struct decision *d, struct shape *shape,
                          struct edits *edits, uint32_t *cursor) {
    struct span value;
    edits->count = 0;
    shape->count = 0;
    shape->is_same = true;
    shape->is_plain = false;
    shape->is_string = p->tokens[token].kind == JSON_STRING;
    if (!policy_value(p, token, &value)) {
        return REASON_WRONG_TYPE;
    }
    if (d->act == ACT_KEEP) {
        shape->pieces[0] = (struct piece){value, 0};
        shape->count = 1;
    } else if (!shape_make(p, d, token, value, shape)) {
        return REASON_FORM_UNFIT;
    }
    return check_findings(p, token, d, shape, value, edits, cursor);
}

void policy_check_found(struct policy *p, uint32_t token, struct decision *d, uint32_t *cursor) {
    if (!has_finding(p, token, cursor)) {
        return;
    }
    struct shape shape;
    struct edits edits;
    uint8_t reason = shape_leaf(p, token, d, &shape, &edits, cursor);
    if (reason != REASON_NONE) {
        d->act = ACT_WITHHOLD;
        d->reason = reason;
    }
}

/* -- bytes -------------------------------------------------------------------------------------------- */

static void put_separator(struct policy *p, struct walk *parent, uint32_t key) {
    struct span name = key != 0 ? json_span(p->text, &p->tokens[key]) : SPAN_NONE;
    uint8_t *at = buf_room(p->out, (size_t)parent->has_members + (key != 0 ? name.n + 3 : 0));
    if (at == NULL) {
        return;
    }
    if (parent->has_members) {
        *at++ = ',';
    }
    parent->has_members = true;
    if (key != 0) {
        *at++ = '"';
        memcpy(at, name.p, name.n);
        at[name.n] = '"';
        at[name.n + 1] = ':';
    }
}

/* Opens the containers on the way that are not yet. */
static void open_walks(struct policy *p) {
    unsigned i = p->depth;
    while (i > 0 && !p->walks[i - 1].is_open) {
        i--;
    }
    for (; i < p->depth; i++) {
        struct walk *w = &p->walks[i];
        if (i > 0) {
            put_separator(p, &p->walks[i - 1], w->key);
        }
        buf_put_byte(p->out, w->is_array ? '[' : '{');
        w->is_open = true;
    }
}

/* The shape's text with its edits, decoded, into the policy's memory; pieces are in source order where they are of the source. */
static struct span shape_text(struct policy *p, const struct shape *shape,
                              const struct edits *edits, struct buf *b) {
    unsigned e = 0;
    (void)p;
    for (unsigned i = 0; i < shape->count; i++) {
        const struct piece *piece = &shape->pieces[i];
        if (piece->start == UINT32_MAX) {
            buf_put_span(b, piece->bytes);
            continue;
        }
        uint32_t at = piece->start;
        uint32_t end = piece->start + (uint32_t)piece->bytes.n;
        while (at < end) {
            while (e < edits->count && edits->list[e].end <= at) {
                e++;
            }
            if (e == edits->count || edits->list[e].start >= end) {
                buf_put_span(b, span_cut(piece->bytes, at - piece->start, end - at));
                break;
            }
            const struct edit *edit = &edits->list[e];
            if (edit->start > at) {
                buf_put_span(b, span_cut(piece->bytes, at - piece->start, edit->start - at));
            }
            if (edit->start >= piece->start || at == piece->start) {
                buf_put(b, edit->text, edit->size);
            }
            at = edit->end < end ? edit->end : end;
        }
    }
    return buf_span(b);
}

/*
 * The value, and its key if it has one, as in the source: in one piece, unless there is white space between the two.
 */
static void put_source(struct policy *p, struct walk *parent, uint32_t key, uint32_t token) {
    const struct json_token *t = &p->tokens[token];
    const struct json_token *k = &p->tokens[key];
    uint32_t quote = t->kind == JSON_STRING;
    uint32_t start = t->start - quote;
    if (key != 0) {
        if (start != k->start + k->len + 2) {
            put_separator(p, parent, key);
            parent->has_members = false; /* its comma is written */
        } else {
            start = k->start - 1;
        }
    }
    size_t n = t->start + t->len + quote - start;
    uint8_t *at = buf_room(p->out, n + parent->has_members);
    if (at != NULL) {
        *at = ',';
        memcpy(at + parent->has_members, p->text.p + start, n);
    }
    parent->has_members = true;
}

/* Pieces that JSON need not escape. */
static void put_pieces(struct buf *out, const struct shape *shape) {
    size_t n = shape->is_string ? 2 : 0;
    for (unsigned i = 0; i < shape->count; i++) {
        n += shape->pieces[i].bytes.n;
    }
    uint8_t *at = buf_room(out, n);
    if (at == NULL) {
        return;
    }
    if (shape->is_string) {
        *at++ = '"';
    }
    for (unsigned i = 0; i < shape->count; i++) {
        if (shape->pieces[i].bytes.n != 0) {
            memcpy(at, shape->pieces[i].bytes.p, shape->pieces[i].bytes.n);
            at += shape->pieces[i].bytes.n;
        }
    }
    if (shape->is_string) {
        *at = '"';
    }
}

static void put_value(struct policy *p, uint32_t token, const struct shape *shape,
                      const struct edits *edits) {
    /* Parts of a text that was sent without escapes need none either, nor does what forms put in between. */
    bool is_clean = shape->is_plain || (p->tokens[token].flags & JSON_ESCAPED) == 0;
    if (is_clean && edits->count == 0) {
        put_pieces(p->out, shape);
        return;
    }
    uint8_t memory[2 * VALUE_BYTES_MAX];
    struct buf b = buf_of(memory, sizeof memory);
    struct span text = shape_text(p, shape, edits, &b);
    if (b.full) {
        p->out->full = true;
        return;
    }
    if (shape->is_string || edits->count != 0) {
        json_put_string(p->out, text);
    } else {
        buf_put_span(p->out, text);
    }
}

/* -- leaves --------------------------------------------------------------------------------------------- */

static bool is_operation(const struct field *field) {
    return field != NULL &&
           (field->role == ROLE_OPERATION || field->role == ROLE_NAMES || field_is_delete(field));
}

/* Whether a leaf stands in an operation, which stands in the item or in its properties, or is one. */
static bool is_of_operation(const struct policy *p, const struct field *field) {
    bool is = p->depth == 1 && is_operation(field);
    for (unsigned i = 1; i < p->depth && !is; i++) {
        is = is_operation(p->walks[i].field);
    }
    return is;
}

/* What the item as a whole wants to know of a leaf that leaves. */
static bool note_left(struct policy *p, const struct decision *d, const struct shape *shape) {
    uint8_t role = d->field != NULL ? d->field->role : (uint8_t)ROLE_DATA;
    uint8_t kind = p->in->event->kind;
    if (role == ROLE_PERSON && d->act == ACT_SHAPE) {
        const struct protocol_names *names = &p->in->protocol->names;
        bool is_primary =
            names->person != NULL ? d->field->person == PERSON_DISTINCT : d->field->rank != 0;
        bool is_link = event_is_link(kind) || (names->links_alone && kind == EVENT_PROFILE);
        /* A group's item is about the group; the person is whom it puts into it. */
        p->has_person = p->has_person || (is_primary && kind != EVENT_GROUP);
        if (names->person != NULL || is_primary || event_is_link(kind)) {
            p->links = (uint8_t)(p->links + (p->links < 255));
        }
        if (is_link && !add_aid(p->verdict, &shape->aid)) {
            return false;
        }
    }
    if (role == ROLE_GROUP_KEY) {
        p->links = 1;
    }
    /* A group update is about the group, whoever sent it; context.groupId is not what it is about. */
    uint8_t place = p->walks[p->depth - 1].place;
    if (role == ROLE_GROUP_ID && kind == EVENT_GROUP && d->act == ACT_SHAPE &&
        (p->depth == 1 || place == PLACE_EVENT_PROPERTY) && !field_is_delete(d->field)) {
        p->has_person = true;
    }
    /* Groups that the item itself names: what a group update is about, or whom else an update links. */
    if (p->depth > 1 && p->walks[1].place == PLACE_GROUPS && d->act == ACT_SHAPE) {
        p->has_person = p->has_person || kind == EVENT_GROUP;
        p->links = (uint8_t)(p->links + (!event_is_link(kind) && p->links < 255));
    }
    if (kind == EVENT_PROFILE || kind == EVENT_GROUP) {
        p->has_operation = p->has_operation || is_of_operation(p, d->field);
    }
    return true;
}

/* The leaf may leave: what is known of it then. False: it does not after all, nor does the item. */
static bool let_leave(struct policy *p, const struct decision *d, const struct shape *shape) {
    if ((d->act == ACT_SHAPE && !disclose(p, d->class_id, d->form)) || !note_left(p, d, shape)) {
        p->reason = REASON_TOO_COMPLEX;
        return false;
    }
    if (BH_UNLIKELY(!p->walks[p->depth - 1].is_open)) {
        open_walks(p);
    }
    return true;
}

static void write_shaped(struct policy *p, uint32_t key, uint32_t token, struct decision *d) {
    struct shape shape;
    struct edits edits;
    uint8_t reason = shape_leaf(p, token, d, &shape, &edits, &p->finding_next);
    if (reason != REASON_NONE) {
        count_withheld(p, token, d, reason);
        return;
    }
    if (!let_leave(p, d, &shape)) {
        return;
    }
    struct walk *parent = &p->walks[p->depth - 1];
    if (shape.is_same && edits.count == 0) {
        put_source(p, parent, key, token);
    } else {
        put_separator(p, parent, key);
        put_value(p, token, &shape, &edits);
    }
    if (p->explain != NULL) {
        policy_tell(p, token, d);
    }
}

void policy_write_leaf(struct policy *p, uint32_t key, uint32_t token, struct decision *d) {
    if (d->act == ACT_WITHHOLD) {
        count_withheld(p, token, d, d->reason);
        return;
    }
    if (d->act != ACT_SKIP) {
        if (!leaves_as_it_is(d) || has_finding(p, token, &p->finding_next)) {
            write_shaped(p, key, token, d);
            return;
        }
        if (!let_leave(p, d, NULL)) {
            return;
        }
        put_source(p, &p->walks[p->depth - 1], key, token);
    }
    if (p->explain != NULL) {
        policy_tell(p, token, d);
    }
}

/* -- what policy adds ------------------------------------------------------------------------------------- */

static void put_added_key(struct policy *p, struct walk *w, const char *key) {
    put_separator(p, w, 0);
    buf_put_byte(p->out, '"');
    buf_put_str(p->out, key);
    buf_put(p->out, "\":", 2);
}

/* In the protocol's form, with milliseconds where the precision or the spread has some. */
static void put_time(struct policy *p) {
    int64_t ms = p->verdict->time_ms;
    if (p->in->protocol->names.time_form == TIME_FORM_ISO) {
        buf_put_byte(p->out, '"');
        time_put_iso(ms, TIME_MS, p->out); /* .mmm always: the spread has them */
        buf_put_byte(p->out, '"');
        return;
    }
    if (p->in->protocol->names.time_form == TIME_FORM_MS) {
        buf_put_i64_dec(p->out, ms);
        return;
    }
    buf_put_i64_dec(p->out, ms / 1000);
    if (ms % 1000 != 0) {
        uint8_t text[4] = {'.', (uint8_t)('0' + ms % 1000 / 100), (uint8_t)('0' + ms % 100 / 10),
                           (uint8_t)('0' + ms % 10)};
        buf_put(p->out, text, sizeof text);
    }
}

static void write_additions(struct policy *p) {
    const struct protocol_names *names = &p->in->protocol->names;
    struct walk *w = &p->walks[p->depth - 1];
    struct verdict *v = p->verdict;
    open_walks(p);
    if (!p->has_person && names->person != NULL && p->in->event->kind == EVENT_TRACK) {
        put_added_key(p, w, names->person);
        buf_put(p->out, "\"\"", 2);
    }
    put_added_key(p, w, names->time);
    put_time(p);
    put_added_key(p, w, names->insert_id);
    v->insert_id_size = (uint8_t)insert_id_make(p, names->insert_form, v->insert_id);
    buf_put_byte(p->out, '"');
    buf_put(p->out, v->insert_id, v->insert_id_size);
    buf_put_byte(p->out, '"');
}

/* -- the walk ---------------------------------------------------------------------------------------------- */

static void enter(struct policy *p, uint32_t key, uint32_t token, const struct walk *parent) {
    const struct json_token *t = &p->tokens[token];
    struct walk w = {.end = t->next,
                     .start = token,
                     .key = key,
                     .is_array = t->kind == JSON_ARRAY,
                     .section = parent->section,
                     .place = parent->place};
    if (key != 0 && parent->place != PLACE_NONE) {
        w.field = p->in->protocol->field((enum field_place)parent->place, policy_key(p, key));
    } else if (parent->is_array) {
        w.field = parent->field;
    }
    if (!w.is_array) {
        w.place = w.field != NULL ? w.field->inside : (uint8_t)PLACE_NONE;
        w.section = w.place != PLACE_NONE ? w.place : parent->section;
    }
    check(p->depth < WALK_DEPTH_MAX);
    p->walks[p->depth++] = w;
}

void policy_leave(struct policy *p) {
    struct walk *w = &p->walks[p->depth - 1];
    bool is_properties =
        p->depth == 2 && w->field != NULL && w->field->role == ROLE_PROPERTIES && !w->is_array;
    if (p->writes && (p->in->protocol->names.at_root ? p->depth == 1 : is_properties)) {
        write_additions(p);
    }
    if (w->is_open) {
        buf_put_byte(p->out, w->is_array ? ']' : '}');
    }
    p->depth--;
}

static void write_walk(struct policy *p) {
    uint8_t place = p->in->protocol->root_place((enum event_kind)p->in->event->kind);
    p->depth = 1;
    p->walks[0] = (struct walk){.end = p->tokens[0].next, .place = place, .section = place};
    uint32_t at = 1;
    while (p->depth > 0 && p->reason != REASON_TOO_COMPLEX) {
        struct walk *w = &p->walks[p->depth - 1];
        if (at >= w->end) {
            policy_leave(p);
            continue;
        }
        uint32_t key = w->is_array ? 0 : at;
        uint32_t token = w->is_array ? at : at + 1;
        const struct json_token *t = &p->tokens[token];
        bool is_container = t->kind == JSON_OBJECT || t->kind == JSON_ARRAY;
        w->element++;
        if (is_container && (t->next > token + 1 || p->decisions[token].reason == REASON_EMPTY)) {
            enter(p, key, token, w);
            at = token + 1;
        } else {
            policy_write_leaf(p, key, token, &p->decisions[token]);
            at = t->next;
        }
    }
}

/* Whether what is left says what the item is for. */
static uint8_t check_item(const struct policy *p) {
    const struct protocol_names *names = &p->in->protocol->names;
    switch ((enum event_kind)p->in->event->kind) {
    case EVENT_IDENTIFY:
    case EVENT_ALIAS:
    case EVENT_MERGE:
        return p->link_broken || p->links < 2 ? REASON_NOT_EXPRESSIBLE : REASON_NONE;
    case EVENT_GROUP:
        if (p->link_broken || p->links == 0) {
            return REASON_NOT_EXPRESSIBLE;
        }
        break;
    case EVENT_PROFILE:
    case EVENT_TRACK:
        break;
    }
    if (p->in->event->kind != EVENT_TRACK) {
        if (!p->has_person) {
            return REASON_NOT_EXPRESSIBLE;
        }
        bool links = names->links_alone && (p->in->event->kind == EVENT_GROUP || p->links > 1);
        return p->has_operation || links || names->asks ? REASON_NONE : REASON_EMPTY;
    }
    if (names->person == NULL && !p->has_person) {
        return REASON_NOT_EXPRESSIBLE;
    }
    return p->verdict->insert_id_size != 0 ? REASON_NONE
                                           : REASON_MALFORMED; /* without properties */
}

void policy_write_begin(struct policy *p) {
    int64_t ms = time_floor(p->in->event->time_ms, p->time) + (int64_t)p->in->spread_ms;
    p->verdict->time_ms = ms > 0 ? ms : 0;
    p->writes = true;
    p->finding_next = 0;
    p->has_person = false;
    p->has_operation = false;
    p->links = 0;
    p->link_broken = false;
    if (!aid_is_zero(&p->in->event->aid)) {
        (void)add_aid(p->verdict, &p->in->event->aid);
    }
}

bool policy_write(struct policy *p) {
    uint8_t reason = p->reason;
    if (!p->is_fused) {
        policy_write_begin(p);
        write_walk(p);
    }
    if (reason != REASON_NONE) {
        p->reason = reason; /* it was written for its story alone */
    } else if (p->reason == REASON_NONE) {
        p->reason = check_item(p);
    }
    if (p->reason == REASON_NONE && p->out->full) {
        p->reason = REASON_TOO_BIG;
    }
    sort_disclosed(p->verdict);
    return p->reason == REASON_NONE;
}
