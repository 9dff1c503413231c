/* bulkhead inspect: what the detectors see, one line of findings per line of input. Useful on its own: people pipe logs through it. */
#include <string.h>

#include "cli/cli_items.h"
#include "model/class.h"

static int print_findings(void *context, const struct cli_item *item) {
    static const char *const by[] = {"", "key", "value", "schema"};
    (void)context;
    (void)printf("{\"line\":%llu,\"findings\":[", (unsigned long long)item->line);
    for (size_t i = 0; i < item->finding_count; i++) {
        const struct finding *f = &item->findings[i];
        uint8_t room[4096];
        uint8_t quoted[8192];
        struct buf pointer = buf_of(room, sizeof room);
        struct buf text = buf_of(quoted, sizeof quoted);
        cli_pointer(item->text, item->tokens, f->leaf, &pointer);
        json_put_string(&text, buf_span(&pointer));
        (void)printf("%s{\"path\":%.*s,\"class\":\"%s\"", i != 0 ? "," : "", (int)text.n,
                     (const char *)text.p, class_name(f->class_id));
        if (f->length != FINDING_WHOLE) {
            (void)printf(",\"start\":%u,\"end\":%u", f->start, f->start + f->length);
        }
        if (item->tokens[f->leaf].kind == JSON_KEY) {
            (void)printf(",\"in\":\"key\"");
        }
        (void)printf(",\"by\":\"%s\"}", by[f->by & 3]);
    }
    (void)printf("]}\n");
    return CLI_DONE;
}

static int inspect_run(const struct cli_args *args) {
    const struct protocol_ops *protocol = protocol_by_id(PROTOCOL_MIXPANEL);
    uint64_t bad = 0;
    if (cli_has(args, "--source")) {
        struct settings *settings = cli_settings(args, false);
        if (settings == NULL) {
            return CLI_FAILED;
        }
        protocol = NULL;
        for (unsigned i = 0; i < settings->source_count; i++) {
            if (strcmp(settings->sources[i].name, cli_value(args, "--source")) == 0) {
                protocol = protocol_by_id(settings->sources[i].protocol);
            }
        }
        settings_free(settings);
        if (protocol == NULL) {
            return cli_fail_text("no such source: %s", cli_value(args, "--source"));
        }
    }
    int code = cli_items(protocol, false, print_findings, NULL, &bad);
    return code == CLI_DONE && bad != 0 ? CLI_NO : code;
}

static const struct cli_option inspect_options[] = {
    {"--source", "NAME", "whose items these are (decides the protocol)"}};

const struct cli_command cli_command_inspect = {
    .name = "inspect",
    .usage = "inspect [--source NAME] < events.ndjson",
    .summary = "Show what is personal or secret in items, and where; values are never printed",
    .details =
        "One batch item a line, as the SDK sends it. One line of findings comes out per line: path (RFC 6901), class, byte span in the\n"
        "decoded string (none: the whole value), by key, value or schema. Exit code 1 when a line could not be read.\n\n"
        "example:\n  echo '{\"event\":\"x\",\"properties\":{\"note\":\"mail ada@example.com\"}}' | bulkhead inspect\n",
    .options = inspect_options,
    .option_count = BH_COUNT(inspect_options),
    .run = inspect_run,
};
