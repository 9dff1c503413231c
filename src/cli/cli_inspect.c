/* bulkhead inspect: what the detectors see, one line of findings per line of input. Useful on its own: people pipe logs through it. */
#include <stdlib.h>
#include <string.h>

#include "cli/cli_items.h"
#include "model/class.h"

struct inspection {
    const struct protocol_ops *protocol;
    struct cli_declared *declared; /* NULL without --plan */
    uint32_t undeclared[LIMIT_EVENT_TOKENS];
};

static void print_finding(const struct cli_item *item, const struct finding *f, const char *comma) {
    static const char *const by[] = {"", "key", "value", "schema"};
    uint8_t room[4096];
    uint8_t quoted[8192];
    struct buf pointer = buf_of(room, sizeof room);
    struct buf text = buf_of(quoted, sizeof quoted);
    cli_pointer(item->text, item->tokens, f->leaf, &pointer);
    json_put_string(&text, buf_span(&pointer));
    (void)printf("%s{\"path\":%.*s,\"class\":\"%s\"", comma, (int)text.n, (const char *)text.p,
                 class_name(f->class_id));
    if (f->length != FINDING_WHOLE) {
        (void)printf(",\"start\":%u,\"end\":%u", f->start, f->start + f->length);
    }
    if (item->tokens[f->leaf].kind == JSON_KEY) {
        (void)printf(",\"in\":\"key\"");
    }
    (void)printf(",\"by\":\"%s\"}", by[f->by & 3]);
}

/* What was found and what is undeclared, merged by leaf: of one leaf the findings come first. */
static int print_findings(void *context, const struct cli_item *item) {
    struct inspection *in = context;
    size_t count = in->declared != NULL ? cli_undeclared(in->declared, in->protocol, item,
                                                         in->undeclared, LIMIT_EVENT_TOKENS)
                                        : 0;
    size_t f = 0;
    size_t u = 0;
    (void)printf("{\"line\":%llu,\"findings\":[", (unsigned long long)item->line);
    while (f < item->finding_count || u < count) {
        const char *comma = f + u != 0 ? "," : "";
        if (f < item->finding_count &&
            (u == count || item->findings[f].leaf <= in->undeclared[u])) {
            print_finding(item, &item->findings[f++], comma);
            continue;
        }
        struct finding undeclared = {.leaf = (uint16_t)in->undeclared[u++],
                                     .class_id = CLASS_CONTENT_PRIVATE,
                                     .by = FOUND_BY_SCHEMA,
                                     .length = FINDING_WHOLE};
        print_finding(item, &undeclared, comma);
    }
    (void)printf("]}\n");
    return CLI_DONE;
}

/* The protocol of --source; Mixpanel's without, which needs no configuration. NULL after saying why. */
static const struct protocol_ops *choose_protocol(const struct cli_args *args) {
    const char *name = cli_value(args, "--source");
    if (name == NULL) {
        return protocol_by_id(PROTOCOL_MIXPANEL);
    }
    struct settings *settings = cli_settings(args, false);
    if (settings == NULL) {
        return NULL;
    }
    const struct settings_source *source = cli_source(settings, name);
    const struct protocol_ops *protocol = source != NULL ? protocol_by_id(source->protocol) : NULL;
    settings_free(settings);
    return protocol;
}

static int inspect_run(const struct cli_args *args) {
    struct err err = {0};
    uint64_t bad = 0;
    int code = CLI_FAILED;
    struct inspection *in = calloc(1, sizeof *in);
    if (in == NULL) {
        return cli_fail_text("out of memory");
    }
    in->protocol = choose_protocol(args);
    if (in->protocol != NULL && cli_has(args, "--plan") &&
        cli_declared_new(cli_value(args, "--plan"), in->protocol, &in->declared, &err) != 0) {
        code = cli_fail(&err);
    } else if (in->protocol != NULL) {
        code = cli_items(in->protocol, false, print_findings, in, &bad);
        code = code == CLI_DONE && bad != 0 ? CLI_NO : code;
    }
    cli_declared_free(in->declared);
    free(in);
    return code;
}

static const struct cli_option inspect_options[] = {
    {"--source", "NAME", "whose items these are (decides the protocol)"},
    {"--plan", "FILE", "also what this plan.yaml does not declare"},
};

const struct cli_command cli_command_inspect = {
    .name = "inspect",
    .usage = "inspect [--source NAME] [--plan FILE] < events.ndjson",
    .summary = "Show what is personal or secret in items, and where; values are never printed",
    .details =
        "One batch item a line, as the SDK sends it. One line of findings comes out\n"
        "per line: path (RFC 6901), class, byte span in the decoded string (none: the\n"
        "whole value), by key, value or schema. With --plan, names that the plan does\n"
        "not declare come as user.content.private, by schema. Needs no configuration\n"
        "unless --source is given. Exit code 1 when a line could not be read.\n\n"
        "example:\n  echo '{\"event\":\"x\",\"properties\":{\"note\":\"mail ada@example.com\"}}' |\n"
        "    bulkhead inspect\n"
        "  bulkhead inspect --plan ./bulkhead/plan.yaml < events.ndjson\n",
    .options = inspect_options,
    .option_count = BH_COUNT(inspect_options),
    .run = inspect_run,
};
