/*
 * Rule sets of one vendor: numbered, kept on disk while an event may need them.
 *
 *   data/rules/<vendor>/<n>.json   {"first_seq":N,"rules":<normal form, RFC 8785>}
 *
 * The verdict of an event is the meet of the set that was in force at its seq and all later ones. Until the first restore there is no history: the
 * newest set alone counts, from seq 1. A set's file is written and synced before the ledger's contract line, and that before the set is used.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "crypto/crypto.h"
#include "engine/json/json.h"
#include "flow/deliver/deliver_int.h"
#include "os/file.h"
#include "os/log.h"

enum { RULES_TEXT_MAX = 9 * 1024 * 1024, HEADER_MAX = 128, FILES_MAX = 4 * RULE_SETS_MAX };

/* -- files ------------------------------------------------------------------------------------------------------------------------ */

static void set_path(const struct rules_config *config, uint32_t number, char *out, size_t cap) {
    (void)snprintf(out, cap, "%s/rules/%s/%u.json", config->data_dir, config->vendor, number);
}

static uint8_t time_of(struct span rules_json, const struct json_token *tokens, uint32_t rules_at) {
    static const char *const words[] = {"ms", "second", "minute", "hour"};
    uint32_t contract = json_get(rules_json, tokens, rules_at, SPAN_LIT("contract"));
    uint32_t time = contract != 0 ? json_get(rules_json, tokens, contract, SPAN_LIT("time")) : 0;
    for (size_t i = 0; time != 0 && i < BH_COUNT(words); i++) {
        if (span_is(json_span(rules_json, &tokens[time]), words[i])) {
            return (uint8_t)(TIME_MS + i);
        }
    }
    return TIME_HOUR;
}

/* A file's text -> a rule set; what it does not say is CORRUPT. */
static int parse_set(struct span text, struct rule_set *ret_set, struct err *err) {
    size_t cap = text.n / 2 + 16;
    size_t count = 0;
    size_t offset = 0;
    struct json_token *tokens = malloc(cap * sizeof *tokens);
    if (tokens == NULL) {
        return err_set(err, BH_E_NOMEM, "out of memory");
    }
    int64_t first_seq = 0;
    int r = json_parse(text, LIMIT_JSON_DEPTH, tokens, cap, &count, &offset);
    if (r == 0 && tokens[0].kind == JSON_OBJECT) {
        uint32_t first = json_get(text, tokens, 0, SPAN_LIT("first_seq"));
        uint32_t rules = json_get(text, tokens, 0, SPAN_LIT("rules"));
        bool good = first != 0 && rules != 0 && tokens[first].kind == JSON_NUMBER &&
                    json_integer(json_span(text, &tokens[first]), &first_seq) && first_seq >= 0;
        r = good ? ruleset_read(json_span(text, &tokens[rules]), &ret_set->ruleset, err)
                 : BH_E_CORRUPT;
        ret_set->first_seq = (uint64_t)first_seq;
        ret_set->time = good ? time_of(text, tokens, rules) : TIME_HOUR;
    }
    free(tokens);
    return r;
}

static int load_set(const struct rules_config *config, uint32_t number, struct rule_set *ret_set,
                    struct err *err) {
    char path[COURIER_PATH];
    size_t n = 0;
    set_path(config, number, path, sizeof path);
    uint8_t *text = malloc(RULES_TEXT_MAX + HEADER_MAX);
    if (text == NULL) {
        return err_set(err, BH_E_NOMEM, "out of memory");
    }
    int r = os_file_read_whole(path, text, RULES_TEXT_MAX + HEADER_MAX, &n);
    r = r == 0 ? parse_set(span_of(text, n), ret_set, err) : r;
    ret_set->number = number;
    free(text);
    return r == 0 ? 0 : err_set(err, r, "rule set %s: %s", path, bh_error_text(r));
}

/* Writes the newest set under its number; *ret_set is read back from the very bytes. */
static int store_set(const struct rules_config *config, const struct ruleset *newest,
                     uint32_t number, uint64_t first_seq, uint8_t ret_sha256[32],
                     struct rule_set *ret_set, struct err *err) {
    char path[COURIER_PATH];
    uint8_t *text = malloc(RULES_TEXT_MAX + HEADER_MAX);
    if (text == NULL) {
        return err_set(err, BH_E_NOMEM, "out of memory");
    }
    struct buf b = buf_of(text, RULES_TEXT_MAX + HEADER_MAX);
    buf_printf(&b, "{\"first_seq\":%llu,\"rules\":", (unsigned long long)first_seq);
    size_t from = b.n;
    int r = ruleset_write(newest, &b);
    size_t to = b.n;
    buf_put_str(&b, "}\n");
    r = r == 0 && b.full ? BH_E_FULL : r;
    if (r == 0) {
        sha256(span_of(text + from, to - from), ret_sha256);
        set_path(config, number, path, sizeof path);
        r = os_file_replace(path, b.p, b.n, 0600);
    }
    r = r == 0 ? parse_set(buf_span(&b), ret_set, err) : r;
    ret_set->number = number;
    free(text);
    return r == 0
               ? 0
               : err_set(err, r, "rule set %u of %s: %s", number, config->vendor, bh_error_text(r));
}

struct number_list {
    uint32_t numbers[FILES_MAX];
    size_t count;
};

static int add_number(void *context, const char *name) {
    struct number_list *list = context;
    struct span text = span_str(name);
    uint64_t number = 0;
    size_t dot = span_find(text, SPAN_LIT(".json"));
    bool is_set = dot != SIZE_MAX && dot + 5 == text.n &&
                  span_to_u64(span_cut(text, 0, dot), &number) && number != 0 &&
                  number <= UINT32_MAX;
    if (!is_set) {
        return 0;
    }
    if (list->count == FILES_MAX) {
        return BH_E_TOO_MANY;
    }
    size_t at = list->count++;
    for (; at > 0 && list->numbers[at - 1] > number; at--) {
        list->numbers[at] = list->numbers[at - 1];
    }
    list->numbers[at] = (uint32_t)number;
    return 0;
}

static int make_folder(const struct rules_config *config, struct number_list *ret_list,
                       struct err *err) {
    char path[COURIER_PATH];
    (void)snprintf(path, sizeof path, "%s/rules", config->data_dir);
    int r = os_dir_make(path);
    r = r == 0 ? os_dir_sync(config->data_dir) : r;
    char folder[COURIER_PATH];
    (void)snprintf(folder, sizeof folder, "%s/rules/%s", config->data_dir, config->vendor);
    r = r == 0 ? os_dir_make(folder) : r;
    r = r == 0 ? os_dir_sync(path) : r;
    r = r == 0 ? os_dir_list(folder, add_number, ret_list) : r;
    return r == 0 ? 0 : err_set(err, r, "folder %s: %s", folder, bh_error_text(r));
}

/* -- the table -------------------------------------------------------------------------------------------------------------------- */

/* A set is needed while an event exists that came before its successor. */
static void drop_unneeded(const struct rules_config *config, struct rules *rules) {
    size_t first = 0;
    while (first + 1 < rules->count &&
           (!config->has_history || rules->sets[first + 1].first_seq <= config->journal_first)) {
        char path[COURIER_PATH];
        set_path(config, rules->sets[first].number, path, sizeof path);
        int r = os_path_unlink(path);
        if (r != 0 && r != BH_E_NOTFOUND) {
            /* It does no harm: the next start loads it and tries again. */
            log_event(LOG_WARN, "an old rule set stays on disk", LOG_WORD("vendor", config->vendor),
                      LOG_INT("number", rules->sets[first].number));
        }
        first++;
    }
    if (first != 0) {
        rules->count -= first;
        memmove(rules->sets, rules->sets + first, rules->count * sizeof *rules->sets);
    }
}

static int copy_text(char *out, size_t cap, const char *text, const char *what, struct err *err) {
    size_t n = text != NULL ? strlen(text) : 0;
    if (n >= cap) {
        return err_set(err, BH_E_TOO_BIG, "%s is longer than %zu bytes", what, cap - 1);
    }
    memcpy(out, text != NULL ? text : "", n);
    out[n] = '\0';
    return 0;
}

static int copy_facts(struct rules *rules, const struct courier_rules *newest, struct err *err) {
    const struct contract_facts *facts = &newest->facts;
    rules->ops = protocol_by_name(span_str(facts->connector));
    if (rules->ops == NULL) {
        return err_set(err, BH_E_CONFIG, "no connector is named %s", facts->connector);
    }
    rules->credential_kind = facts->credential_kind;
    rules->backlog_max = facts->backlog_max;
    rules->egress = *facts->egress;
    rules->forwards_flags = facts->forwards_flags && rules->ops->ask != NULL;
    int r = copy_text(rules->endpoint, sizeof rules->endpoint, facts->endpoint, "endpoint", err);
    r = r == 0 ? copy_text(rules->ca_file, sizeof rules->ca_file, facts->ca_file, "ca", err) : r;
    r = r == 0 ? copy_text(rules->credential_name, sizeof rules->credential_name, facts->credential,
                           "credential", err)
               : r;
    for (size_t i = 0; r == 0 && i < newest->source_count; i++) {
        uint16_t number = newest->sources[i].number;
        r = number <= LIMIT_SOURCES ? copy_text(rules->space_of[number], sizeof rules->space_of[0],
                                                newest->source_spaces[i], "ids", err)
                                    : err_set(err, BH_E_TOO_MANY, "too many sources");
    }
    return r;
}

static int add_newest(const struct rules_config *config, const struct courier_rules *newest,
                      struct rules *rules, struct err *err) {
    const struct rule_set *last = rules->count != 0 ? &rules->sets[rules->count - 1] : NULL;
    uint8_t sha[32];
    bool is_same = last != NULL && ruleset_equal(last->ruleset, newest->ruleset);
    if (is_same && last->number == config->ledger_contract) {
        return 0;
    }
    if (rules->count == RULE_SETS_MAX) {
        return err_set(
            err, BH_E_TOO_MANY,
            "%d rule sets of %s are still needed by events that wait; deliver or discard them first",
            RULE_SETS_MAX, config->vendor);
    }
    /* Numbers go on from the highest that file or ledger knows: one is never given twice. */
    uint32_t highest = last != NULL && last->number > config->ledger_contract
                           ? last->number
                           : config->ledger_contract;
    struct rule_set set = {0};
    uint64_t first_seq = config->has_history ? config->first_free_seq : 1;
    int r = 0;
    if (is_same && last->number > config->ledger_contract) {
        /* The file was written, the line was not: a crash came between. */
        set = *last;
        struct rule_set again = {0};
        r = store_set(config, newest->ruleset, last->number, last->first_seq, sha, &again, err);
        ruleset_free(again.ruleset);
    } else {
        r = store_set(config, newest->ruleset, highest + 1, first_seq, sha, &set, err);
        if (r == 0) {
            rules->sets[rules->count++] = set;
        }
    }
    if (r == 0) {
        r = ledger_contract(config->ledger, set.number, sha, set.first_seq);
        r = r == 0 ? 0
                   : err_set(err, r, "contract line of %s: %s", config->vendor, bh_error_text(r));
    }
    return r;
}

static int finish(const struct rules_config *config, const struct courier_rules *newest,
                  struct rules *rules, struct err *err) {
    int r = copy_facts(rules, newest, err);
    r = r == 0 ? add_newest(config, newest, rules, err) : r;
    if (r != 0) {
        return r;
    }
    drop_unneeded(config, rules);
    check(rules->count > 0);
    for (size_t i = 0; i < rules->count; i++) {
        rules->in_force[i] = rules->sets[i].ruleset;
    }
    return 0;
}

int rules_open(const struct rules_config *config, const struct courier_rules *newest,
               struct rules **ret_rules, struct err *err) {
    struct number_list *list = calloc(1, sizeof *list);
    struct rules *rules = calloc(1, sizeof *rules);
    int r = list != NULL && rules != NULL ? make_folder(config, list, err)
                                          : err_set(err, BH_E_NOMEM, "out of memory");
    /* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): r is 0 only with a list */
    size_t from = r == 0 && list->count > RULE_SETS_MAX ? list->count - RULE_SETS_MAX : 0;
    for (size_t i = from; r == 0 && i < list->count; i++) {
        r = load_set(config, list->numbers[i], &rules->sets[rules->count], err);
        rules->count += r == 0;
    }
    if (r == 0) {
        drop_unneeded(config, rules);
        r = finish(config, newest, rules, err);
    }
    free(list);
    if (r != 0) {
        rules_free(rules);
        return r;
    }
    *ret_rules = rules;
    return 0;
}

int rules_next(const struct rules_config *config, const struct courier_rules *newest,
               struct rules *old, struct rules **ret_rules, struct err *err) {
    struct rules *rules = calloc(1, sizeof *rules);
    if (rules == NULL) {
        return err_set(err, BH_E_NOMEM, "out of memory");
    }
    rules->count = old->count;
    memcpy(rules->sets, old->sets, sizeof rules->sets);
    int r = finish(config, newest, rules, err);
    if (r != 0) {
        if (rules->count > old->count) {
            ruleset_free(rules->sets[old->count].ruleset);
        }
        free(rules);
        return r;
    }
    rules->older = old;
    rules->generation = old->generation + 1;
    *ret_rules = rules;
    return 0;
}

static bool has_number(const struct rules *rules, uint32_t number) {
    for (size_t i = 0; i < rules->count; i++) {
        if (rules->sets[i].number == number) {
            return true;
        }
    }
    return false;
}

/* Tables share rule sets, and a set that one table has left out is in none that follows: so each belongs to the newest table that has it. */
void rules_drop_older(struct rules *rules) {
    const struct rules *newer = rules;
    struct rules *first = rules->older;
    for (struct rules *at = first; at != NULL; at = at->older) {
        for (size_t i = 0; i < at->count; i++) {
            if (!has_number(newer, at->sets[i].number)) {
                ruleset_free(at->sets[i].ruleset);
            }
        }
        newer = at;
    }
    while (first != NULL) {
        struct rules *older = first->older;
        free(first);
        first = older;
    }
    rules->older = NULL;
}

void rules_free(struct rules *rules) {
    if (rules == NULL) {
        return;
    }
    rules_drop_older(rules);
    for (size_t i = 0; i < rules->count; i++) {
        ruleset_free(rules->sets[i].ruleset);
    }
    free(rules);
}

size_t rules_in_force(const struct rules *rules, uint64_t seq,
                      const struct ruleset *const **ret_sets, uint8_t *ret_time) {
    size_t first = rules->count - 1;
    while (first > 0 && rules->sets[first].first_seq > seq) {
        first--;
    }
    uint8_t time = TIME_MS;
    for (size_t i = first; i < rules->count; i++) {
        time = rules->sets[i].time > time ? rules->sets[i].time : time;
    }
    *ret_time = time;
    *ret_sets = rules->in_force + first;
    return rules->count - first;
}
