/* bulkhead preview: an event as one vendor would receive it, before the first byte leaves. */
#include <stdlib.h>
#include <string.h>

#include "cli/cli_held.h"
#include "cli/cli_items.h"
#include "gateway/snapshot.h"
#include "model/class.h"
#include "model/consent.h"
#include "os/file.h"

enum { OUT_MAX = 2 * LIMIT_EVENT_BYTES };

struct preview {
    bool json;
    bool explain;
    const struct settings_source *source;
    struct aid_maker *aids;
    struct policy *policy;
    const struct ruleset *ruleset;
    const struct protocol_ops *protocol; /* the source's */
    struct translator *translator;       /* NULL: the vendor speaks the source's protocol */
    const struct protocol_ops *vendor_protocol;
    struct json_token *tokens; /* scratch of a translation */
    struct span env;           /* as of a request whose browser sends these signals */
    struct buf out;
    bool first_leaf;
    uint64_t sent;
    uint64_t withheld;
};

static void put_quoted(struct span text) {
    uint8_t room[8192];
    struct buf b = buf_of(room, sizeof room);
    json_put_string(&b, text);
    (void)fwrite(b.p, 1, b.full ? 0 : b.n, stdout);
}

static void explain_json(void *context, const struct policy_leaf *leaf) {
    struct preview *p = context;
    (void)printf("%s{\"path\":", p->first_leaf ? "" : ",");
    put_quoted(leaf->pointer);
    (void)printf(",\"class\":\"%s\",\"form\":\"%s\"",
                 leaf->class_id != CLASS_NONE ? class_name(leaf->class_id) : "",
                 form_name(leaf->form));
    if (leaf->reason != REASON_NONE) {
        (void)printf(",\"reason\":\"%s\"", reason_word(leaf->reason));
    }
    (void)printf(",\"rule\":");
    put_quoted(span_str(leaf->rule != NULL ? leaf->rule : ""));
    (void)printf("}");
    p->first_leaf = false;
}

static void explain_text(void *context, const struct policy_leaf *leaf) {
    (void)context;
    bool leaves = leaf->form.id != FORM_DROP && leaf->form.id != FORM_NONE;
    const char *class = leaf->class_id != CLASS_NONE ? class_name(leaf->class_id) : "-";
    (void)printf("  %s%-6s%s %-34.*s %s", leaves ? CLI_GREEN : CLI_YELLOW,
                 leaves ? "leaves" : "stays", CLI_PLAIN, (int)leaf->pointer.n,
                 (const char *)leaf->pointer.p, class);
    (void)printf(leaves ? " as %s\n         " : "\n         ", form_name(leaf->form));
    cli_flow(leaf->rule != NULL ? leaf->rule : "", 9, 9);
    (void)printf("\n");
}

/* An event may be several items in the vendor's words: an array then. */
static void print_items(const struct preview *p, const struct translated *items) {
    (void)printf(items->item_count > 1 ? "[" : "");
    for (unsigned i = 0; i < items->item_count; i++) {
        (void)printf(i == 0 ? "" : ",");
        (void)fwrite(p->out.p + items->items[i].at, 1, items->items[i].size, stdout);
    }
    (void)printf(items->item_count > 1 ? "]" : "");
}

static void print_result(const struct preview *p, const struct verdict *verdict,
                         const struct translated *items) {
    if (verdict->sends && p->translator != NULL) {
        print_items(p, items);
    } else if (verdict->sends) {
        (void)fwrite(verdict->json.p, 1, verdict->json.n, stdout);
    } else {
        (void)printf("null");
    }
    if (!verdict->sends && !p->json && p->explain) {
        (void)printf("    (%s)", reason_word(verdict->reason) != NULL ? reason_word(verdict->reason)
                                                                      : "nothing left");
    }
}

/* What the vendor has no word for; the key alone, as it stands in the item. */
static void explain_lost(void *context, struct span key) {
    struct preview *p = context;
    if (p->json) {
        (void)printf("%s{\"key\":\"%.*s\",\"reason\":\"%s\",\"rule\":\"%s has no such field\"}",
                     p->first_leaf ? "" : ",", (int)key.n, (const char *)key.p,
                     reason_word(REASON_NOT_EXPRESSIBLE), p->vendor_protocol->name);
        p->first_leaf = false;
        return;
    }
    (void)printf("  %slost  %s %.*s: %s has no such field\n", CLI_YELLOW, CLI_PLAIN, (int)key.n,
                 (const char *)key.p, p->vendor_protocol->name);
}

static int preview_item(void *context, const struct cli_item *item) {
    struct preview *p = context;
    struct record_request request = {.protocol = p->protocol->id,
                                     .kind = item->decoded->envelope.endpoint,
                                     .source = p->source->number,
                                     .events = 1,
                                     .env = p->env};
    struct record_event event = {
        .seq = item->line,
        .kind = item->item->kind,
        .flags = item->item->flags,
        .time_ms = item->item->time_ms,
        .findings = item->findings,
        .finding_count = (uint16_t)item->finding_count,
        .json = item->text,
    };
    if (item->item->person.n != 0) {
        aid_make(p->aids, span_str(p->source->space), item->item->person, &event.aid);
    }
    if (item->item->dedupe.n != 0) {
        event.dedupe = aid_dedupe(p->aids, p->source->number, item->item->dedupe);
    }
    struct policy_input input = {
        .protocol = p->protocol,
        .request = &request,
        .event = &event,
        .tokens = item->tokens,
        .token_count = item->token_count,
        .space = span_str(p->source->space),
        .rulesets = &p->ruleset,
        .ruleset_count = 1,
        .distinct_closed_at = cli_never_closed,
    };
    struct verdict verdict;
    p->out.n = 0;
    p->out.full = false;
    p->first_leaf = true;
    if (p->explain && p->json) {
        (void)printf("{\"line\":%llu,\"leaves\":[", (unsigned long long)item->line);
    }
    policy_apply(p->policy, &input, &p->out, &verdict,
                 p->explain ? (p->json ? explain_json : explain_text) : NULL, p);
    struct translated items = {0};
    if (verdict.sends && p->translator != NULL) {
        policy_translate(p->policy, &input, p->translator, p->tokens, &p->out, &verdict, &items,
                         p->explain ? explain_lost : NULL, p);
    }
    if (p->explain && p->json) {
        (void)printf("],\"event\":");
    }
    print_result(p, &verdict, &items);
    (void)printf(p->explain && p->json ? "}\n" : "\n");
    p->sent += verdict.sends;
    p->withheld += !verdict.sends;
    return CLI_DONE;
}

static const struct settings_source *choose_source(const struct settings *settings,
                                                   const struct snapshot_vendor *vendor,
                                                   const char *name) {
    if (name != NULL) {
        return cli_source(settings, name);
    }
    for (unsigned i = 0; i < settings->source_count; i++) {
        if (vendor->sources[i].feeds_vendor) {
            return &settings->sources[i];
        }
    }
    return NULL;
}

static int preview_with(const struct cli_args *args, struct preview *p,
                        const struct settings *settings, const struct snapshot_vendor *vendor,
                        struct err *err) {
    struct keyring *keyring = NULL;
    struct vendor_keys keys;
    uint64_t bad = 0;
    int code = CLI_FAILED;
    p->source = choose_source(settings, vendor, cli_value(args, "--source"));
    if (p->source == NULL) {
        return cli_has(args, "--source")
                   ? CLI_FAILED
                   : cli_fail_text("no source feeds %s; list it in vendors: of a source in "
                                   "bulkhead.yaml",
                                   vendor->name);
    }
    int r = crypto_init();
    r = r == 0 ? os_dir_make(settings->data) : r;
    r = r == 0 ? keyring_open(settings->data, settings->dir, &settings->key, true,
                              settings->instance_number, &keyring, err)
               : r;
    r = r == 0 ? keyring_vendor(keyring, vendor->name, &keys, err) : r;
    if (r == 0) {
        p->aids = aid_maker_new(keyring);
        r = p->aids != NULL ? policy_new(&keys, p->aids, settings->instance_number, &p->policy)
                            : BH_E_NOMEM;
    }
    if (r == 0 && cli_has(args, "--held")) {
        code = cli_held(args, settings, keyring, vendor, p->policy);
    } else if (r == 0) {
        p->ruleset = vendor->ruleset;
        p->protocol = protocol_by_id(p->source->protocol);
        p->vendor_protocol = protocol_by_name(span_str(vendor->facts.connector));
        r = p->protocol == p->vendor_protocol
                ? 0
                : translator_new(p->protocol, p->vendor_protocol, &p->translator);
    }
    if (r == 0 && !cli_has(args, "--held")) {
        code = cli_items(p->protocol, true, preview_item, p, &bad);
        code = code == CLI_DONE && bad != 0 ? CLI_NO : code;
    } else if (r != 0) {
        err->code = r;
        (void)cli_fail(err);
    }
    translator_free(p->translator);
    policy_free(p->policy);
    aid_maker_free(p->aids);
    keyring_free(keyring);
    return code;
}

static int preview_run(const struct cli_args *args) {
    uint8_t env_room[64];
    struct buf env = buf_of(env_room, sizeof env_room);
    signals_put((uint8_t)((cli_has(args, "--gpc") ? SIGNAL_GPC : 0) |
                          (cli_has(args, "--dnt") ? SIGNAL_DNT : 0)),
                SPAN_LIT("{}"), &env);
    struct preview p = {.json = args->json,
                        .explain = cli_has(args, "--explain"),
                        .tokens = malloc(LIMIT_EVENT_TOKENS * sizeof *p.tokens),
                        .env = buf_span(&env),
                        .out = buf_of(malloc(OUT_MAX), OUT_MAX)};
    struct err err = {0};
    struct plan *plan = NULL;
    struct snapshot_vendor vendor = {0};
    char path[SETTINGS_PATH + 32];
    struct settings *settings = cli_settings(args, false);
    int code = CLI_FAILED;
    if (settings != NULL && p.out.p != NULL && p.tokens != NULL &&
        cli_vendor_exists(settings, args->positional[0])) {
        settings_plan_path(settings, path, sizeof path);
        int r = plan_load(path, &plan, &err);
        r = r == 0 ? snapshot_vendor_init(settings, plan, args->positional[0], &vendor, &err) : r;
        code = r == 0 ? preview_with(args, &p, settings, &vendor, &err) : cli_fail(&err);
    }
    snapshot_vendor_fini(&vendor);
    plan_free(plan);
    settings_free(settings);
    free(p.out.p);
    free(p.tokens);
    return code;
}

static const struct cli_option preview_options[] = {
    {"--source", "NAME", "whose items these are (default: the first source that feeds the vendor)"},
    {"--explain", NULL, "add for every leaf the class, the form and the rule that decided"},
    {"--gpc", NULL, "as from a browser that sends Sec-GPC: 1 (Global Privacy Control)"},
    {"--dnt", NULL, "as from a browser that sends DNT: 1 (Do Not Track)"},
    {"--held", NULL, "instead: what of the events kept is held as undeclared"},
};

const struct cli_command cli_command_preview = {
    .name = "preview",
    .usage = "preview VENDOR [--source NAME] [--explain] [--gpc] [--dnt] < events.ndjson | --held",
    .summary = "Show events as a vendor would receive them; null where nothing leaves",
    .details =
        "One batch item a line, as the SDK sends it. Nothing is sent or kept.\n"
        "--held reads no input: it lists names (never values) in the kept events that\n"
        "plan.yaml does not declare, and proposes lines for it.\n"
        "Where a contract requires consent, the event itself says what is given.\n\n"
        "example:\n"
        "  echo '{\"event\":\"Signed In\",\"properties\":{\"distinct_id\":\"u1\",\"note\":\"hi\"}}' |\n"
        "    bulkhead -c ./bulkhead preview mixpanel --explain\n"
        "  bulkhead -c ./bulkhead preview mixpanel --held\n",
    .positional_min = 1,
    .positional_max = 1,
    .options = preview_options,
    .option_count = BH_COUNT(preview_options),
    .run = preview_run,
};
