/*
 * Feature flags: a question about a person, passed on where a contract says so, and what of the answer the SDK may have.
 *
 *   question --policy, as an item of the field table--> {"token":...,"geoip_disable":true,<what may leave>} --> /flags/
 *   answer --> {<members of this table, ids turned back>,"sessionRecording":false,...}
 *
 * The vendor may say anything. An answer is parsed whole; only the members that are flags are copied, so that nothing of it
 * switches replay or site apps on or tells the SDK to be silent. A pseudonym that the question carried is the person's own
 * id again wherever the answer repeats it: the SDK knows no other.
 */
#include "base/check.h"
#include "base/compiler.h"
#include "protocol/posthog/posthog_int.h"
#include "protocol/wire/loose.h"

enum {
    PAIRS_MAX = 16,
    BASE32_SIZE = 26, /* what pseudonyms are long */
    UUID_SIZE = 36,
};

static uint8_t root_place(enum event_kind kind) {
    (void)kind;
    return PLACE_PROFILE;
}

static void person_begin(struct person_iter *it, struct span text, const struct json_token *tokens,
                         uint32_t root, enum event_kind kind, struct buf *scratch) {
    (void)kind;
    item_person_begin(it, text, tokens, root, PLACE_PROFILE, scratch);
}

/* Of a question inspect and policy want the table only; it is no item that is kept or sent in a batch. */
static const struct protocol_ops question_ops = {
    .id = PROTOCOL_POSTHOG,
    .name = "posthog",
    .names = {.person = "distinct_id",
              .insert_id = "uuid",
              .insert_form = INSERT_FORM_UUID,
              .time = "timestamp",
              .time_form = TIME_FORM_ISO,
              .page_url = {"person_properties", "$initial_current_url"},
              .links_alone = true,
              .asks = true},
    .root_place = root_place,
    .field = posthog_field,
    .is_reserved_event = posthog_is_reserved_event,
    .fields = posthog_fields,
    .is_placeholder = posthog_is_placeholder,
    .person_begin = person_begin,
    .person_next = posthog_person_next,
};

static void introduce(const struct person_ref *person, struct buf *out) {
    bool is_inner = person->kind != PERSON_DISTINCT;
    buf_put_str(out, person->kind == PERSON_ANONYMOUS ? "{\"properties\":{\"$anon_distinct_id\":"
                     : is_inner                       ? "{\"properties\":{\"$device_id\":"
                                                      : "{\"distinct_id\":");
    json_put_string(out, person->id);
    buf_put_str(out, is_inner ? "}}" : "}");
}

static int encode(uint8_t form, struct span sent, struct span credential, struct buf *plain,
                  struct protocol_post *ret) {
    static const char *const paths[] = {
        [FORM_FLAGS] = "/flags/",          [FORM_FLAGS_V2] = "/flags/?v=2",
        [FORM_DECIDE] = "/decide/",        [FORM_DECIDE_V2] = "/decide/?v=2",
        [FORM_DECIDE_V3] = "/decide/?v=3", [FORM_DECIDE_V4] = "/decide/?v=4",
    };
    size_t before = plain->n;
    check(form < BH_COUNT(paths) && sent.n > 2 && sent.p[0] == '{');
    buf_put_str(plain, "{\"token\":");
    json_put_string(plain, credential);
    buf_put_str(plain, ",\"geoip_disable\":true,");
    buf_put_span(plain, span_from(sent, 1));
    if (plain->full) {
        return BH_E_FULL;
    }
    *ret = (struct protocol_post){.path = paths[form],
                                  .content_type = "application/json",
                                  .plain = span_of(plain->p + before, plain->n - before)};
    ret->body = ret->plain;
    return 0;
}

/* -- ids that are turned back ------------------------------------------------------------------- */

struct pair {
    struct span sent;  /* the pseudonym */
    struct span asked; /* what the SDK wrote, as it stands in JSON, without quotes */
};

struct pairs {
    struct pair list[PAIRS_MAX];
    size_t count;
    bool is_full;
};

static struct span unquoted(struct span value) {
    bool is_string = value.n >= 2 && value.p[0] == '"';
    return is_string ? span_cut(value, 1, value.n - 2) : value;
}

static bool find_member(struct span object, struct span wanted, struct span *ret_value) {
    struct span key;
    size_t i = 1;
    while (loose_next_key(object, &i, &key) && loose_take_value(object, &i, ret_value)) {
        if (span_equal(key, wanted)) {
            return true;
        }
    }
    return false;
}

/* Of the members that left as another text of a pseudonym's size: both. All else left as it was, or coarser. */
static void add_members(struct pairs *pairs, struct span sent, struct span asked) {
    struct span key;
    struct span value;
    struct span before;
    size_t i = 1;
    while (loose_next_key(sent, &i, &key) && loose_take_value(sent, &i, &value)) {
        struct span id = unquoted(value);
        bool is_id = value.p[0] == '"' && (id.n == BASE32_SIZE || id.n == UUID_SIZE);
        if (!is_id || !find_member(asked, key, &before) || span_equal(value, before)) {
            continue;
        }
        if (pairs->count == PAIRS_MAX) {
            pairs->is_full = true;
            return;
        }
        pairs->list[pairs->count++] = (struct pair){id, unquoted(before)};
    }
}

static void list_pairs(const struct protocol_question *question, struct pairs *pairs) {
    static const char *const objects[] = {"groups", "person_properties"};
    add_members(pairs, question->sent, question->asked);
    for (size_t i = 0; i < BH_COUNT(objects); i++) {
        struct span sent;
        struct span asked;
        if (loose_member(question->sent, objects[i], &sent) && sent.p[0] == '{' &&
            find_member(question->asked, span_str(objects[i]), &asked) && asked.p[0] == '{') {
            add_members(pairs, sent, asked);
        }
    }
}

/* Copies JSON with every pseudonym turned back. SYNTAX: an id that has escapes would need others in a text within a text. */
static int put_turned(struct buf *out, struct span json, const struct pairs *pairs) {
    size_t from = 0;
    for (size_t i = 0; i < json.n; i++) {
        for (size_t k = 0; k < pairs->count; k++) {
            const struct pair *pair = &pairs->list[k];
            if (json.p[i] == pair->sent.p[0] && span_starts(span_from(json, i), pair->sent)) {
                if (span_find_byte(pair->asked, '\\') != SIZE_MAX) {
                    return BH_E_SYNTAX;
                }
                buf_put_span(out, span_cut(json, from, i - from));
                buf_put_span(out, pair->asked);
                from = i + pair->sent.n;
                i = from - 1;
                break;
            }
        }
    }
    buf_put_span(out, span_from(json, from));
    return 0;
}

/* -- answers ------------------------------------------------------------------------------------ */

struct answer_row {
    const char *key;
    uint32_t kinds; /* bits of enum json_kind */
};

#define KIND(kind) (1U << (kind))

static const struct answer_row rows[] = {
    {"flags", KIND(JSON_OBJECT)},
    {"featureFlags", KIND(JSON_OBJECT) | KIND(JSON_ARRAY)},
    {"featureFlagPayloads", KIND(JSON_OBJECT)},
    {"errorsWhileComputingFlags", KIND(JSON_TRUE) | KIND(JSON_FALSE)},
    {"quotaLimited", KIND(JSON_ARRAY)},
    {"requestId", KIND(JSON_STRING)},
    {"evaluatedAt", KIND(JSON_NUMBER)},
};

enum { ROWS_THAT_ANSWER = 2 };

static int answer(const struct protocol_question *question, unsigned status, struct span body,
                  struct json_token *tokens, size_t tokens_cap, struct buf *out) {
    struct pairs pairs = {.count = 0};
    size_t count = 0;
    size_t offset = 0;
    body = span_trim(body);
    if (status != 200) {
        return BH_E_SYNTAX;
    }
    int rc = json_parse(body, LIMIT_JSON_DEPTH, tokens, tokens_cap, &count, &offset);
    if (rc != 0 || tokens[0].kind != JSON_OBJECT) {
        return rc == BH_E_TOO_MANY ? BH_E_TOO_BIG : BH_E_SYNTAX;
    }
    list_pairs(question, &pairs);
    bool answers = false;
    buf_put_byte(out, '{');
    for (size_t i = 0; i < BH_COUNT(rows) && rc == 0; i++) {
        uint32_t value = json_get(body, tokens, 0, span_str(rows[i].key));
        if (value == 0 || (rows[i].kinds & KIND(tokens[value].kind)) == 0) {
            continue;
        }
        answers |= i < ROWS_THAT_ANSWER;
        struct span text = json_span(body, &tokens[value]);
        if (tokens[value].kind == JSON_STRING) {
            text = span_of(text.p - 1, text.n + 2); /* with its quotes */
        }
        buf_put_byte(out, '"');
        buf_put_str(out, rows[i].key);
        buf_put(out, "\":", 2);
        rc = put_turned(out, text, &pairs);
        buf_put_byte(out, ',');
    }
    buf_put_str(out, POSTHOG_FLAGS_REST);
    if (rc == 0 && (!answers || pairs.is_full)) {
        rc = BH_E_SYNTAX;
    }
    return rc == 0 && out->full ? BH_E_TOO_BIG : rc;
}

const struct protocol_ask posthog_ask = {
    .item = &question_ops,
    .endpoint = POSTHOG_SEND_FLAGS,
    .introduce = introduce,
    .encode = encode,
    .answer = answer,
};
