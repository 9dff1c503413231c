#include "protocol/wire/item.h"

#include "base/check.h"
#include "protocol/wire/wire.h"

/* Only to tell which item of a batch is too deep; linear and without a stack, so any number would do. */
enum { DEPTH_SEARCH = 4096 };

/* -- the request as a whole --------------------------------------------------------------------- */

int item_unwrap(const struct protocol_request *request, struct span data,
                struct protocol_work *work, struct buf *scratch, struct span *ret_text) {
    uint8_t *text = NULL;
    size_t length = 0;
    int rc = request->body_len > 0
                 ? wire_unwrap_body(work->wire, request->body, request->body_len, work->decoded_max,
                                    scratch, &text, &length)
                 : wire_unwrap_value(work->wire, data, work->decoded_max, scratch, &text, &length);
    if (rc != 0) {
        return rc;
    }
    length = json_repair_cesu8(text, length);
    json_repair_escapes(text, length);
    *ret_text = span_of(text, length);
    return 0;
}

int item_parse(struct span text, struct protocol_work *work, struct protocol_decoded *ret,
               bool *ret_deep) {
    size_t offset = 0;
    ret->text = text;
    ret->tokens = work->tokens;
    int rc = json_parse(text, LIMIT_JSON_DEPTH, work->tokens, work->tokens_cap, &ret->token_count,
                        &offset);
    *ret_deep = rc == BH_E_TOO_DEEP;
    if (rc == BH_E_TOO_DEEP) {
        rc = json_parse(text, DEPTH_SEARCH, work->tokens, work->tokens_cap, &ret->token_count,
                        &offset);
    }
    return rc;
}

/* -- over the members that a table may know ----------------------------------------------------- */

static struct span text_of(struct span text, const struct json_token *token, struct buf *scratch) {
    return (token->flags & JSON_ESCAPED) == 0 ? json_span(text, token)
                                              : json_text(text, token, scratch);
}

/* The next field of the table and its value; objects with an inside are entered after they were said. */
static bool next_field(const struct item_table *table, struct person_iter *it,
                       const struct field **ret_field, uint32_t *ret_value) {
    for (;;) {
        while (it->_at >= it->_end) {
            if (it->_depth == 0) {
                return false;
            }
            it->_depth--;
            it->_end = it->_outer[it->_depth].end;
            it->_place = it->_outer[it->_depth].place;
        }
        uint32_t value = it->_at + 1;
        check_slow(it->tokens[it->_at].kind == JSON_KEY);
        struct span key = text_of(it->text, &it->tokens[it->_at], it->scratch);
        const struct field *field = table->field((enum field_place)it->_place, key);
        it->_at = it->tokens[it->_at].next;
        if (field == NULL) {
            continue;
        }
        bool enters = field->inside != PLACE_NONE && it->tokens[value].kind == JSON_OBJECT;
        if (enters && it->_depth < PERSON_ITER_DEPTH) {
            it->_outer[it->_depth].end = it->_end;
            it->_outer[it->_depth].place = it->_place;
            it->_depth++;
            it->_at = value + 1;
            it->_end = it->tokens[value].next;
            it->_place = field->inside;
        }
        *ret_field = field;
        *ret_value = value;
        return true;
    }
}

/* -- ids of people ------------------------------------------------------------------------------ */

bool item_person_id(const struct item_table *table, struct span text,
                    const struct json_token *token, struct buf *scratch, struct span *ret_id,
                    bool *ret_is_device) {
    struct span id = SPAN_NONE;
    *ret_is_device = false;
    if (token->kind == JSON_STRING) {
        id = text_of(text, token, scratch);
        struct span prefix =
            table->device_prefix != NULL ? span_str(table->device_prefix) : SPAN_NONE;
        if (prefix.n != 0 && span_starts(id, prefix)) {
            *ret_is_device = true;
            id = span_from(id, prefix.n);
        }
    } else if (token->kind == JSON_NUMBER) {
        /* 1e3 and 1000.0 are the same person as 1000: SDKs in JavaScript cannot tell them apart. */
        int64_t number;
        id = json_span(text, token);
        if (json_integer(id, &number)) {
            size_t before = scratch->n;
            buf_put_i64_dec(scratch, number);
            id = scratch->full ? SPAN_NONE : span_of(scratch->p + before, scratch->n - before);
        }
    }
    if (id.n == 0 || table->is_placeholder(id)) {
        return false;
    }
    *ret_id = id;
    return true;
}

void item_person_begin(struct person_iter *it, struct span text, const struct json_token *tokens,
                       uint32_t root, enum field_place root_place, struct buf *scratch) {
    *it = (struct person_iter){.text = text, .tokens = tokens, .root = root, .scratch = scratch};
    if (tokens[root].kind == JSON_OBJECT) {
        it->_place = (uint8_t)root_place;
        it->_at = root + 1;
        it->_end = tokens[root].next;
    }
}

static bool take(const struct item_table *table, struct person_iter *it, uint32_t token,
                 struct person_ref *ret) {
    struct span id;
    bool is_device;
    if (!item_person_id(table, it->text, &it->tokens[token], it->scratch, &id, &is_device)) {
        return false;
    }
    *ret = (struct person_ref){.id = id,
                               .leaf = token - it->root,
                               .kind = it->_person,
                               .is_device = is_device || it->_person == PERSON_DEVICE};
    return true;
}

bool item_person_next(const struct item_table *table, struct person_iter *it,
                      struct person_ref *ret) {
    for (;;) {
        while (it->_element < it->_elements_end) {
            uint32_t element = it->_element;
            it->_element = it->tokens[element].next;
            if (take(table, it, element, ret)) {
                return true;
            }
        }
        const struct field *field = NULL;
        uint32_t value = 0;
        if (!next_field(table, it, &field, &value)) {
            return false;
        }
        if (field->role != ROLE_PERSON) {
            continue;
        }
        it->_person = field->person;
        if (it->tokens[value].kind == JSON_ARRAY) {
            it->_element = value + 1;
            it->_elements_end = it->tokens[value].next;
        } else if (take(table, it, value, ret)) {
            return true;
        }
    }
}

/* -- the item as a whole ------------------------------------------------------------------------ */

struct reading {
    const struct item_table *table;
    const struct protocol_decoded *decoded;
    struct buf *scratch;
    struct protocol_item *item;
    struct item_facts *facts;
    struct span first_id; /* any id of a person; another one makes a link */
    uint8_t rank;         /* of the primary id so far; 0 = none */
    uint8_t time_rank;    /* of the time so far; 0 = none */
};

static void note_person(struct reading *r, const struct field *field, uint32_t value) {
    struct span id;
    bool is_device;
    const struct json_token *token = &r->decoded->tokens[value];
    if (!item_person_id(r->table, r->decoded->text, token, r->scratch, &id, &is_device)) {
        if (field->rank != 0 && field->rank == r->rank) {
            /* The same key again without an id takes the first one's place, too. */
            r->rank = 0;
            r->item->person = SPAN_NONE;
        }
        return;
    }
    if (field->rank != 0 && (r->rank == 0 || field->rank <= r->rank)) {
        r->rank = field->rank;
        r->item->person = id;
    }
    if (field->person == PERSON_ECHO) {
        return;
    }
    if (r->first_id.n == 0) {
        r->first_id = id;
    } else if (!span_equal(r->first_id, id)) {
        r->item->flags |= EVENT_HAS_LINKS;
    }
}

static struct span string_of(struct reading *r, uint32_t value) {
    const struct json_token *token = &r->decoded->tokens[value];
    if (token->kind == JSON_STRING) {
        return text_of(r->decoded->text, token, r->scratch);
    }
    return token->kind == JSON_NUMBER ? json_span(r->decoded->text, token) : SPAN_NONE;
}

static void note(struct reading *r, const struct field *field, uint32_t value) {
    const struct json_token *tokens = r->decoded->tokens;
    bool is_string = tokens[value].kind == JSON_STRING;
    int64_t ms;
    switch ((enum field_role)field->role) {
    case ROLE_EVENT_NAME:
        r->item->event_name = is_string ? string_of(r, value) : SPAN_NONE;
        break;
    case ROLE_CALL:
        r->facts->call = is_string ? string_of(r, value) : SPAN_NONE;
        break;
    case ROLE_TOKEN:
        r->item->token = is_string ? string_of(r, value) : SPAN_NONE;
        break;
    case ROLE_INSERT_ID:
        r->item->dedupe = string_of(r, value);
        break;
    case ROLE_TIME:
        if (field->rank != 0 && (r->time_rank == 0 || field->rank <= r->time_rank) &&
            field_time_ms((enum json_kind)tokens[value].kind, string_of(r, value), &ms)) {
            r->time_rank = field->rank;
            r->item->time_ms = ms;
            r->item->said_ms = ms;
        }
        break;
    case ROLE_PERSON:
        if (tokens[value].kind != JSON_ARRAY) {
            note_person(r, field, value);
            break;
        }
        for (uint32_t i = value + 1; i < tokens[value].next; i = tokens[i].next) {
            note_person(r, field, i);
        }
        break;
    case ROLE_DATA:
    case ROLE_PROPERTIES:
    case ROLE_OPERATION:
    case ROLE_NAMES:
    case ROLE_GROUP_KEY:
    case ROLE_GROUP_ID:
    case ROLE_PLUMBING:
    case ROLE_ONWARD:
        break;
    }
}

void item_read(const struct item_table *table, enum field_place root_place,
               const struct protocol_decoded *decoded, struct buf *scratch,
               struct protocol_item *item, struct item_facts *ret_facts) {
    struct person_iter it;
    struct reading r = {
        .table = table, .decoded = decoded, .scratch = scratch, .item = item, .facts = ret_facts};
    const struct field *field = NULL;
    uint32_t value = 0;
    *ret_facts = (struct item_facts){0};
    item_person_begin(&it, decoded->text, decoded->tokens, item->root, root_place, scratch);
    while (next_field(table, &it, &field, &value)) {
        note(&r, field, value);
    }
    ret_facts->names_person = r.rank != 0;
    ret_facts->has_time = r.time_rank != 0;
}

uint8_t item_check(const struct protocol_decoded *decoded, uint32_t root, bool deep) {
    const struct json_token *tokens = decoded->tokens;
    uint32_t count = tokens[root].next - root;
    if (tokens[root].kind != JSON_OBJECT) {
        return REASON_MALFORMED;
    }
    if (tokens[root].len > LIMIT_EVENT_BYTES) {
        return REASON_TOO_BIG;
    }
    if (count > LIMIT_EVENT_TOKENS) {
        return REASON_TOO_COMPLEX;
    }
    if (count > LIMIT_EVENT_LEAVES || deep) {
        unsigned depth_max = tokens[root].depth + LIMIT_JSON_DEPTH;
        uint32_t leaves = 0;
        for (uint32_t i = root; i < tokens[root].next; i++) {
            bool is_container = tokens[i].kind == JSON_OBJECT || tokens[i].kind == JSON_ARRAY;
            leaves += !is_container && tokens[i].kind != JSON_KEY;
            if (is_container && tokens[i].depth >= depth_max) {
                return REASON_TOO_COMPLEX;
            }
        }
        if (leaves > LIMIT_EVENT_LEAVES) {
            return REASON_TOO_COMPLEX;
        }
    }
    return count == 1 ? REASON_EMPTY : REASON_NONE;
}
