#include "cli/cli_held.h"

#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "cli/cli_items.h"
#include "flow/journal/journal.h"
#include "model/class.h"

enum { NAMES_MAX = 2000, NAME_MAX = 127 };

enum section { SECTION_EVENT, SECTION_PROPERTY, SECTION_TRAIT, SECTION_OTHER, SECTION_COUNT };
static const char *const sections[] = {"event", "property", "trait", "field"};
static const char *const plan_sections[] = {"events", "properties", "traits"};

/* What values looked like; a bit each. */
enum look { LOOK_BOOLEAN = 1, LOOK_NUMBER = 2, LOOK_STRING = 4, LOOK_URL = 8, LOOK_EMPTY = 16 };
static const char *const looks[] = {"boolean", "number", "string", "url", "empty"};

struct held_name {
    uint64_t hash;
    uint64_t count;
    uint16_t found; /* a class that inspection found in it; CLASS_NONE = nothing */
    uint8_t section;
    uint8_t look;
    bool is_shown; /* the name itself is no personal data and a plan can say it */
    char name[NAME_MAX + 1];
};

struct held {
    const struct settings *settings;
    const struct snapshot_vendor *vendor;
    struct policy *policy;
    uint64_t events;
    uint64_t first_seq;
    uint64_t last_seq;
    uint64_t left_out; /* leaves beyond NAMES_MAX names */
    size_t count;
    struct held_name names[NAMES_MAX];
    struct json_token tokens[LIMIT_EVENT_TOKENS];
    uint32_t leaves[LIMIT_EVENT_TOKENS];
};

/* -- gathering --------------------------------------------------------------------------------- */

static uint16_t found_in(const struct record_event *event, uint32_t token) {
    for (size_t i = 0; i < event->finding_count; i++) {
        const struct finding *f = &event->findings[i];
        if (f->leaf == token && f->by != FOUND_BY_SCHEMA) {
            return f->class_id;
        }
    }
    return CLASS_NONE;
}

/*
 * The leaf's name as the plan writes it: keys below the first one, joined by dots; elements of arrays have that of their array. False: a key has
 * personal data in it, or the name is too long for a plan.
 */
static bool name_of(const struct held *h, const struct record_event *event, uint32_t leaf,
                    struct buf *out, unsigned *ret_keys) {
    bool good = true;
    uint32_t at = 0;
    *ret_keys = 0;
    while (at < leaf) {
        bool object = h->tokens[at].kind == JSON_OBJECT;
        uint32_t child = at + 1;
        while (h->tokens[child].next <= leaf) {
            child = h->tokens[child].next;
        }
        at = child;
        if (!object) {
            continue;
        }
        uint8_t room[1024];
        struct buf key = buf_of(room, sizeof room);
        if (++*ret_keys > 1) {
            buf_put_str(out, *ret_keys > 2 ? "." : "");
            buf_put_span(out, json_text(event->json, &h->tokens[child], &key));
        }
        good = good && !key.full && found_in(event, child) == CLASS_NONE;
        at = child + 1;
    }
    return good && !out->full;
}

static uint8_t look_of(struct span text, const struct json_token *token) {
    struct span value = json_span(text, token);
    switch (token->kind) {
    case JSON_TRUE:
    case JSON_FALSE:
        return LOOK_BOOLEAN;
    case JSON_NUMBER:
        return LOOK_NUMBER;
    case JSON_STRING:
        return span_starts(value, SPAN_LIT("https://")) || span_starts(value, SPAN_LIT("http://"))
                   ? LOOK_URL
                   : LOOK_STRING;
    default:
        return LOOK_EMPTY;
    }
}

static void count_name(struct held *h, enum section section, struct span name, bool is_shown,
                       uint8_t look, uint16_t found) {
    is_shown = is_shown && span_find_byte(name, '\0') == SIZE_MAX;
    name = is_shown ? name : SPAN_LIT("");
    uint64_t hash = hash64(name.p, name.n, section);
    struct held_name *n = h->names;
    while (n < h->names + h->count &&
           !(n->hash == hash && n->section == section && n->is_shown == is_shown &&
             span_equal(span_str(n->name), name))) {
        n++;
    }
    if (n == h->names + NAMES_MAX) {
        h->left_out++;
        return;
    }
    if (n == h->names + h->count) {
        h->count++;
        *n = (struct held_name){
            .hash = hash, .section = (uint8_t)section, .is_shown = is_shown, .found = CLASS_NONE};
        memcpy(n->name, name.p, name.n);
    }
    n->count++;
    n->look |= look;
    n->found = n->found == CLASS_NONE ? found : n->found;
}

static void count_leaf(struct held *h, const struct record_event *event, uint32_t leaf) {
    char room[NAME_MAX];
    struct buf name = buf_of(room, sizeof room);
    const struct json_token *token = &h->tokens[leaf];
    bool is_profile = event->kind == EVENT_PROFILE || event->kind == EVENT_GROUP;
    unsigned keys = 0;
    uint16_t found = found_in(event, leaf);
    bool is_shown = name_of(h, event, leaf, &name, &keys);
    if (keys > 1) {
        count_name(h, is_profile ? SECTION_TRAIT : SECTION_PROPERTY, buf_span(&name), is_shown,
                   look_of(event->json, token), found);
        return;
    }
    bool is_event_name = !is_profile && token->kind == JSON_STRING;
    json_unescape(json_span(event->json, token), &name);
    if (is_event_name) {
        count_name(h, SECTION_EVENT, buf_span(&name), !name.full && found == CLASS_NONE,
                   LOOK_STRING, found);
    } else {
        count_name(h, SECTION_OTHER, SPAN_NONE, false, look_of(event->json, token), found);
    }
}

static bool is_fed(const struct held *h, uint16_t source) {
    for (unsigned i = 0; i < h->settings->source_count; i++) {
        if (h->settings->sources[i].number == source) {
            return h->vendor->sources[i].feeds_vendor;
        }
    }
    return false;
}

static void count_event(struct held *h, const struct record_request *request,
                        const struct record_event *event) {
    const struct ruleset *rules = h->vendor->ruleset;
    size_t count = 0;
    size_t offset = 0;
    const struct protocol_ops *protocol = protocol_by_id(request->protocol);
    if (protocol == NULL || !is_fed(h, request->source) ||
        json_parse(event->json, LIMIT_JSON_DEPTH, h->tokens, LIMIT_EVENT_TOKENS, &count, &offset) !=
            0) {
        return;
    }
    struct policy_input input = {.protocol = protocol,
                                 .request = request,
                                 .event = event,
                                 .tokens = h->tokens,
                                 .token_count = count,
                                 .rulesets = &rules,
                                 .ruleset_count = 1,
                                 .distinct_closed_at = cli_never_closed};
    size_t leaves = policy_undeclared(h->policy, &input, h->leaves, LIMIT_EVENT_TOKENS);
    for (size_t i = 0; i < leaves; i++) {
        count_leaf(h, event, h->leaves[i]);
    }
    h->events++;
    h->first_seq = h->first_seq == 0 ? event->seq : h->first_seq;
    h->last_seq = event->seq;
}

static int read_journal(struct held *h, struct journal *journal) {
    struct journal_reader *reader = NULL;
    struct journal_batch batch;
    uint64_t gap_until = 0;
    uint64_t end = journal_durable_seq(journal);
    int r = journal_reader_new(journal, 1, -1, &reader);
    while (r == 0) {
        r = journal_reader_next(reader, &batch, &gap_until);
        if (r == BH_E_NOTFOUND && gap_until > journal_reader_seq(reader)) {
            journal_reader_seek(reader, gap_until); /* what was settled and dropped */
            r = 0;
            continue;
        }
        for (uint32_t i = 0; r == 0 && i < batch.count; i++) {
            count_event(h, &batch.requests[batch.request_of[i]], &batch.events[i]);
        }
        cli_progress("reading what is kept", h->last_seq, end);
    }
    if (reader != NULL) {
        journal_reader_free(reader);
    }
    return r == BH_E_AGAIN ? 0 : r;
}

/* -- saying ------------------------------------------------------------------------------------ */

static int by_section_and_count(const void *a, const void *b) {
    const struct held_name *x = a;
    const struct held_name *y = b;
    if (x->section != y->section) {
        return x->section < y->section ? -1 : 1;
    }
    if (x->count != y->count) {
        return x->count > y->count ? -1 : 1;
    }
    return strcmp(x->name, y->name);
}

static void put_looks(struct buf *out, uint8_t look, const char *between) {
    bool is_first = true;
    for (unsigned i = 0; i < BH_COUNT(looks); i++) {
        if ((look >> i & 1) != 0) {
            buf_printf(out, "%s%s", is_first ? "" : between, looks[i]);
            is_first = false;
        }
    }
}

static void print_json(const struct held *h) {
    (void)printf("{\"vendor\":\"%s\",\"events\":%llu,\"from_seq\":%llu,\"until_seq\":%llu,"
                 "\"left_out\":%llu,\"names\":[",
                 h->vendor->name, (unsigned long long)h->events, (unsigned long long)h->first_seq,
                 (unsigned long long)h->last_seq, (unsigned long long)h->left_out);
    for (size_t i = 0; i < h->count; i++) {
        const struct held_name *n = &h->names[i];
        uint8_t room[1024];
        struct buf b = buf_of(room, sizeof room);
        buf_printf(&b, "%s{\"section\":\"%s\",\"name\":", i != 0 ? "," : "", sections[n->section]);
        if (n->is_shown) {
            json_put_string(&b, span_str(n->name));
        } else {
            buf_put_str(&b, "null");
        }
        buf_printf(&b, ",\"count\":%llu,\"looks\":[\"", (unsigned long long)n->count);
        put_looks(&b, n->look, "\",\"");
        buf_put_str(&b, "\"],\"found\":");
        if (n->found != CLASS_NONE) {
            buf_printf(&b, "\"%s\"}", class_name(n->found));
        } else {
            buf_put_str(&b, "null}");
        }
        (void)fwrite(b.p, 1, b.n, stdout);
    }
    (void)printf("]}\n");
}

/* As a key of YAML; quoted also keeps control characters from a terminal. */
static void put_key(struct buf *out, const char *name) {
    size_t n = strlen(name);
    bool plain =
        n != 0 && name[n - 1] != ' ' &&
        (strchr("$_", name[0]) != NULL || ((name[0] | 32) >= 'a' && (name[0] | 32) <= 'z'));
    for (size_t i = 0; i < n; i++) {
        char c = name[i];
        plain = plain && (((c | 32) >= 'a' && (c | 32) <= 'z') || (c >= '0' && c <= '9') ||
                          strchr("$_.- ", c) != NULL);
    }
    if (plain) {
        buf_put_str(out, name);
    } else {
        json_put_string(out, span_str(name));
    }
}

static void print_table(const struct held *h) {
    (void)printf("  %s%-9s %-36s %8s  %s%s\n", CLI_DIM, "", "name", "times", "looks like",
                 CLI_PLAIN);
    for (size_t i = 0; i < h->count; i++) {
        const struct held_name *n = &h->names[i];
        uint8_t room[1024];
        char times[32];
        char text[512];
        struct buf b = buf_of(room, sizeof room);
        struct buf look = buf_of(text, sizeof text);
        put_key(&b, n->name);
        put_looks(&look, n->section == SECTION_EVENT ? 0 : n->look, ", ");
        cli_number(n->count, times);
        (void)printf("  %-9s %-36.*s %8s%s%.*s\n", sections[n->section],
                     n->is_shown ? (int)b.n : 26,
                     n->is_shown ? (const char *)b.p : "(a name that is not shown)", times,
                     look.n != 0 ? "  " : "", (int)look.n, (const char *)look.p);
        if (n->found != CLASS_NONE) {
            (void)printf("  %-9s   %s was found in it\n", "", class_name(n->found));
        }
    }
}

/* A star opens other names too, and control characters a plan refuses. */
static bool is_nameable(const char *name) {
    bool good = name[0] != '\0';
    for (; *name != '\0'; name++) {
        good = good && *name != '*' && (uint8_t)*name >= 0x20;
    }
    return good;
}

/* What a plan may say of it, or NULL: nothing is proposed. */
static const char *proposal(const struct held_name *n) {
    if (!n->is_shown || n->section == SECTION_OTHER || n->found != CLASS_NONE ||
        !is_nameable(n->name)) {
        return NULL;
    }
    if (n->section == SECTION_EVENT) {
        return "{}";
    }
    switch (n->look & ~LOOK_EMPTY) {
    case LOOK_BOOLEAN:
        return "{ type: boolean }";
    case LOOK_NUMBER:
        return "{ type: number }";
    case LOOK_STRING:
        return "{ enum: [its, words] }  # or a pattern";
    case LOOK_URL:
        return "{ type: url }";
    default:
        return NULL;
    }
}

static void print_proposals(const struct held *h) {
    unsigned section = SECTION_COUNT;
    uint64_t proposed = 0;
    for (size_t i = 0; i < h->count; i++) {
        const struct held_name *n = &h->names[i];
        uint8_t room[1024];
        struct buf b = buf_of(room, sizeof room);
        if (proposal(n) == NULL) {
            continue;
        }
        if (proposed++ == 0) {
            (void)printf("\nlines for plan.yaml, for what this vendor should have:\n\n");
        }
        if (section != n->section) {
            section = n->section;
            (void)printf("%s:\n", plan_sections[section]);
        }
        put_key(&b, n->name);
        bool is_open = n->section != SECTION_EVENT && (n->look & LOOK_STRING) != 0;
        (void)printf("  %s%.*s: %s\n", is_open ? "# " : "", (int)b.n, (const char *)b.p,
                     proposal(n));
    }
    if (proposed < h->count) {
        (void)printf("\nnothing is proposed for what holds personal data, is always empty, or has "
                     "values\nof several types.\n");
    }
    if (proposed != 0) {
        (void)printf("\nthen:  bulkhead contract check && kill -HUP <pid of serve>\n"
                     "New lines hold for events that come after them; of a vendor that was never\n"
                     "restored, for all that is kept.\n");
    }
}

static void print_text(const struct held *h) {
    char events[32];
    cli_number(h->events, events);
    (void)printf("%s%s%s: held as undeclared, among %s event%s kept for it\n\n", CLI_BOLD,
                 h->vendor->name, CLI_PLAIN, events, h->events == 1 ? "" : "s");
    if (h->count == 0) {
        (void)printf("  nothing: plan.yaml declares all of it\n");
        return;
    }
    print_table(h);
    if (h->left_out != 0) {
        (void)printf("  and %llu more, of names beyond the first %d\n",
                     (unsigned long long)h->left_out, NAMES_MAX);
    }
    print_proposals(h);
}

int cli_held(const struct cli_args *args, const struct settings *settings,
             const struct keyring *keyring, const struct snapshot_vendor *vendor,
             struct policy *policy) {
    char dir[SETTINGS_PATH + 16];
    struct err err = {0};
    struct journal *journal = NULL;
    struct journal_recovery recovery = {0};
    if (!ruleset_lists_undeclared(vendor->ruleset)) {
        return cli_fail_text("vendors/%s.yaml says undeclared: drop, so nothing is listed; "
                             "undeclared: hold lists",
                             vendor->name);
    }
    struct held *h = calloc(1, sizeof *h);
    if (h == NULL) {
        return cli_fail_text("out of memory");
    }
    h->settings = settings;
    h->vendor = vendor;
    h->policy = policy;
    (void)snprintf(dir, sizeof dir, "%s/journal", settings->data);
    struct journal_config config = {.dir = dir,
                                    .keyring = keyring,
                                    .segment_size = settings->journal_segment,
                                    .read_only = true};
    int r = journal_open(&config, &journal, &recovery, &err);
    r = r == 0 ? read_journal(h, journal) : r;
    int code = CLI_DONE;
    if (r != 0) {
        err.code = r;
        code = cli_fail(&err);
    } else {
        qsort(h->names, h->count, sizeof h->names[0], by_section_and_count);
        args->json ? print_json(h) : print_text(h);
    }
    journal_free(journal);
    free(h);
    return code;
}
