/* bulkhead exposure: the question of 3 a.m. The answer is made in answer/exposure; here it becomes a page that a person reads. */
#include <stdlib.h>
#include <string.h>

#include "answer/exposure.h"
#include "cli/cli.h"
#include "engine/json/json.h"

enum { ANSWER_TOKENS = 20000, BAR_WIDTH = 24, CELL_BAR = 12 };

struct exposure_out {
    bool json;
    bool list;
    uint8_t *last; /* the last line: the answer itself; lines before it are people */
    size_t last_size;
    size_t last_cap;
    uint64_t people;
};

static void print_person(const struct exposure_out *out, struct span line);

/* Lines come whole. The answer is the last one; with --json all go straight out. */
static int take_line(void *context, struct span line) {
    struct exposure_out *out = context;
    if (out->json) {
        return fwrite(line.p, 1, line.n, stdout) == line.n ? 0 : BH_E_IO;
    }
    if (span_starts(line, SPAN_LIT("{\"person\":"))) {
        print_person(out, line);
        out->people++;
        return 0;
    }
    if (line.n > out->last_cap) {
        uint8_t *more = realloc(out->last, line.n);
        if (more == NULL) {
            return BH_E_NOMEM;
        }
        out->last = more;
        out->last_cap = line.n;
    }
    memcpy(out->last, line.p, line.n);
    out->last_size = line.n;
    return 0;
}

struct page {
    struct span text;
    struct json_token tokens[ANSWER_TOKENS];
};

static uint32_t member(const struct page *page, uint32_t object, const char *key) {
    return json_get(page->text, page->tokens, object, span_str(key));
}

static uint64_t number(const struct page *page, uint32_t object, const char *key) {
    uint32_t at = member(page, object, key);
    int64_t value = 0;
    return at != 0 && json_integer(json_span(page->text, &page->tokens[at]), &value) && value > 0
               ? (uint64_t)value
               : 0;
}

static void word(const struct page *page, uint32_t at, char *out, size_t cap) {
    struct buf b = buf_of(out, cap - 1);
    if (at != 0) {
        json_unescape(json_span(page->text, &page->tokens[at]), &b);
    }
    out[b.n] = '\0';
}

static void print_person(const struct exposure_out *out, struct span line) {
    (void)out;
    static struct page page;
    size_t count = 0;
    size_t offset = 0;
    char id[256];
    char grade[32];
    page.text = line;
    if (json_parse(line, 16, page.tokens, ANSWER_TOKENS, &count, &offset) != 0) {
        return;
    }
    word(&page, member(&page, 0, "person"), id, sizeof id);
    word(&page, member(&page, 0, "grade"), grade, sizeof grade);
    (void)printf("  %-40s %-9s", id, grade);
    uint32_t classes = member(&page, 0, "classes");
    for (uint32_t at = classes + 1; classes != 0 && at < page.tokens[classes].next;
         at = page.tokens[at].next) {
        struct span name = json_span(line, &page.tokens[at]);
        (void)printf(" %.*s", (int)name.n, (const char *)name.p);
    }
    (void)printf("\n");
}

static void print_cell(const char *name, const char *form, uint64_t certain, uint64_t possible,
                       uint64_t all) {
    char bar[BAR_WIDTH * 4 + 1];
    char c[32];
    char p[32];
    bool clear = strcmp(form, "raw") == 0;
    cli_bar(bar, sizeof bar, certain + possible, all, CELL_BAR);
    cli_number(certain, c);
    cli_number(possible, p);
    (void)printf("  %-31s %s%-15s%s %s %7s %9s\n", name, clear ? CLI_RED : CLI_DIM, form, CLI_PLAIN,
                 bar, c, p);
}

static bool is_empty(const struct page *page, uint32_t list) {
    return list == 0 || page->tokens[list].next == list + 1;
}

static void print_classes(const struct page *page, uint64_t all) {
    uint32_t classes = member(page, 0, "classes");
    if (is_empty(page, classes)) {
        return;
    }
    (void)printf("\n  %s%-31s %-15s %-*s %7s %9s%s\n", CLI_DIM, "what", "in which form", CELL_BAR,
                 "of everybody", "certain", "possible", CLI_PLAIN);
    for (uint32_t at = classes + 1; classes != 0 && at < page->tokens[classes].next;
         at = page->tokens[at].next) {
        char name[96];
        word(page, at, name, sizeof name);
        uint32_t forms = at + 1;
        for (uint32_t f = forms + 1; f < page->tokens[forms].next; f = page->tokens[f].next) {
            char form[48];
            word(page, f, form, sizeof form);
            print_cell(name, form, number(page, f + 1, "certain"), number(page, f + 1, "possible"),
                       all);
            name[0] = '\0';
        }
    }
}

static void print_words(const struct page *page, const char *key, const char *title,
                        bool one_line) {
    uint32_t list = member(page, 0, key);
    if (is_empty(page, list)) {
        return;
    }
    (void)printf("\n  %s%s%s\n%s", CLI_BOLD, title, CLI_PLAIN, one_line ? "   " : "");
    size_t column = 3;
    for (uint32_t at = list + 1; at < page->tokens[list].next; at = page->tokens[at].next) {
        char text[512];
        word(page, at, text, sizeof text);
        if (one_line && column + 1 + strlen(text) > 80) {
            (void)printf("\n   ");
            column = 3;
        }
        column += strlen(text) + 1;
        if (one_line) {
            (void)printf(" %s", text);
        } else {
            (void)printf("    - ");
            cli_flow(text, 6, 6);
            (void)printf("\n");
        }
    }
    (void)printf("%s", one_line ? "\n" : "");
}

static void print_people(const struct page *page, uint64_t *ret_all) {
    uint32_t people = member(page, 0, "people");
    uint64_t certain = number(page, people, "certain");
    uint64_t clear = number(page, people, "certain_clear");
    uint64_t possible = number(page, people, "possible");
    uint64_t none = number(page, people, "none_recorded");
    *ret_all = certain + possible + none;
    const struct {
        const char *name;
        uint64_t value;
        const char *colour;
    } rows[] = {{"certain, in clear", clear, CLI_RED},
                {"certain, pseudonymous or coarse only", certain - clear, CLI_YELLOW},
                {"possible", possible, CLI_YELLOW},
                {"no disclosure recorded", none, CLI_GREEN}};
    (void)printf("\n");
    for (size_t i = 0; i < BH_COUNT(rows); i++) {
        char bar[BAR_WIDTH * 4 + 1];
        char text[32];
        cli_bar(bar, sizeof bar, rows[i].value, *ret_all, BAR_WIDTH);
        cli_number(rows[i].value, text);
        (void)printf("  %-38s %s%s%s %12s\n", rows[i].name, rows[i].colour, bar, CLI_PLAIN, text);
    }
}

static void print_page(const struct exposure_out *out, const struct exposure_query *query) {
    struct page *page = malloc(sizeof *page);
    size_t count = 0;
    size_t offset = 0;
    uint64_t all = 0;
    char from[48] = "the beginning of the record";
    char to[48] = "now";
    if (page == NULL) {
        return;
    }
    page->text = span_of(out->last, out->last_size);
    if (json_parse(page->text, 16, page->tokens, ANSWER_TOKENS, &count, &offset) == 0) {
        if (query->from_ms != 0) {
            cli_time_text(query->from_ms, from);
        }
        if (query->to_ms != UINT64_MAX) {
            cli_time_text(query->to_ms, to);
        }
        (void)printf("\n%sWhat %s was sent%s, from %s to %s\n", CLI_BOLD, query->vendor, CLI_PLAIN,
                     from, to);
        print_people(page, &all);
        print_classes(page, all);
        print_words(page, "not_disclosed",
                    "not disclosed in this window (these and all below them)", true);
        uint32_t sources = member(page, 0, "sources");
        if (!is_empty(page, sources)) {
            (void)printf("\n  %s%-34s %10s %10s%s\n", CLI_DIM, "by source", "certain", "possible",
                         CLI_PLAIN);
        }
        for (uint32_t at = sources + 1; sources != 0 && at < page->tokens[sources].next;
             at = page->tokens[at].next) {
            char name[96];
            char c[32];
            char p[32];
            word(page, at, name, sizeof name);
            cli_number(number(page, at + 1, "certain"), c);
            cli_number(number(page, at + 1, "possible"), p);
            (void)printf("  %-34s %10s %10s\n", name, c, p);
        }
        print_words(page, "limits", "what this answer cannot know", false);
    }
    free(page);
}

/* -- the command --------------------------------------------------------------------------------------------------------------------- */

static int read_time(const struct cli_args *args, const char *option, uint64_t *ret_ms) {
    const char *text = cli_value(args, option);
    if (text != NULL && !cli_time(text, ret_ms)) {
        return cli_fail_text(
            "%s %s: a time is 2026-11-09, 2026-11-09T12:00Z, -7d, -12h or now (UTC)", option, text);
    }
    return CLI_DONE;
}

static int read_query(const struct cli_args *args, struct exposure_query *query) {
    query->vendor = args->positional[0];
    query->to_ms = UINT64_MAX;
    query->at_ms = UINT64_MAX;
    query->source = cli_value(args, "--source");
    query->list = cli_has(args, "--list");
    if (cli_has(args, "--subject")) {
        query->subject = span_str(cli_value(args, "--subject"));
    }
    int code = read_time(args, "--from", &query->from_ms);
    code = code == CLI_DONE ? read_time(args, "--to", &query->to_ms) : code;
    code = code == CLI_DONE ? read_time(args, "--at", &query->at_ms) : code;
    return code == CLI_DONE && query->from_ms >= query->to_ms
               ? cli_fail_text("--from must be before --to")
               : code;
}

static int answer(const struct cli_args *args, const struct settings *settings,
                  struct exposure_query *query, struct exposure_out *out, struct err *err) {
    struct keyring *keyring = NULL;
    struct resolver *resolver = NULL;
    struct resolve_view *view = NULL;
    struct aid_maker *aids = NULL;
    char dir[SETTINGS_PATH + 16];
    struct cli_answer flushed = {0};
    (void)args;
    (void)snprintf(dir, sizeof dir, "%s/resolve", settings->data);
    /* A running daemon writes down what waits first, so that the answer is of this moment; a dead one has nothing waiting. */
    (void)cli_admin(settings, "POST", "/v1/flush", SPAN_NONE, &flushed);
    cli_answer_free(&flushed);
    int r = crypto_init();
    r = r == 0 ? keyring_open(settings->data, settings->dir, &settings->key, false,
                              settings->instance_number, &keyring, err)
               : r;
    if (r == 0) {
        struct resolve_config config = {.dir = dir, .keyring = keyring};
        aids = aid_maker_new(keyring);
        r = aids != NULL ? resolver_open(&config, &resolver, err) : BH_E_NOMEM;
    }
    r = r == 0 ? resolve_view_new(resolver, &view) : r;
    r = r == 0 ? resolve_view_begin(view) : r;
    r = r == 0 ? exposure_answer(settings->data, keyring, view, aids, query, take_line, out, err)
               : r;
    resolve_view_free(view);
    resolver_free(resolver);
    aid_maker_free(aids);
    keyring_free(keyring);
    return r;
}

static uint64_t people_exposed(const struct exposure_out *out) {
    static struct page page;
    size_t count = 0;
    size_t offset = 0;
    page.text = span_of(out->last, out->last_size);
    if (out->last_size == 0 ||
        json_parse(page.text, 16, page.tokens, ANSWER_TOKENS, &count, &offset) != 0) {
        return 1;
    }
    uint32_t people = member(&page, 0, "people");
    return number(&page, people, "certain") + number(&page, people, "possible");
}

static int exposure_run(const struct cli_args *args) {
    struct exposure_query query = {0};
    struct exposure_out out = {.json = args->json};
    struct err err = {0};
    static struct exposure_source sources[LIMIT_SOURCES];
    struct settings *settings =
        read_query(args, &query) == CLI_DONE ? cli_settings(args, false) : NULL;
    if (settings == NULL) {
        return CLI_FAILED;
    }
    for (unsigned i = 0; i < settings->source_count; i++) {
        sources[i] =
            (struct exposure_source){settings->sources[i].number, settings->sources[i].name};
    }
    query.sources = sources;
    query.source_count = settings->source_count;
    int r = answer(args, settings, &query, &out, &err);
    int code = CLI_DONE;
    if (r != 0) {
        err.code = r;
        code = cli_fail(&err);
    } else if (!args->json) {
        print_page(&out, &query);
        code = people_exposed(&out) != 0 ? CLI_DONE : CLI_NO;
    }
    free(out.last);
    settings_free(settings);
    return code;
}

static const struct cli_option exposure_options[] = {
    {"--from", "TIME", "begin of the window, inclusive (2026-11-01, 2026-11-01T09:00Z, -7d)"},
    {"--to", "TIME", "end of the window, exclusive"},
    {"--at", "TIME", "as record and links stood then"},
    {"--source", "NAME", "only what came from this source"},
    {"--subject", "ID", "only the person that this id belongs to"},
    {"--list", NULL, "also one line per person"},
};

const struct cli_command cli_command_exposure = {
    .name = "exposure",
    .usage =
        "exposure VENDOR [--from TIME] [--to TIME] [--source NAME] [--subject ID] [--at TIME] [--list]",
    .summary = "Who was sent what: the upper bound of what a thief at this vendor can have",
    .details =
        "Counts are of people, each once in a cell: certain (completely answered inside the window), else possible. Works while the daemon\n"
        "is dead. Exit code 1 when nobody was exposed.\n\nexample:\n  bulkhead exposure mixpanel --from 2026-11-01 --to 2026-11-09\n",
    .positional_min = 1,
    .positional_max = 1,
    .options = exposure_options,
    .option_count = BH_COUNT(exposure_options),
    .run = exposure_run,
};
