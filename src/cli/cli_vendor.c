/* status, tap, cut, restore: the daemon's day. status also reads the data folder of a daemon that is dead. */
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "engine/json/json.h"
#include "flow/deliver/deliver.h"
#include "flow/journal/journal.h"
#include "os/clock.h"
#include "os/file.h"

enum { STATUS_TOKENS = 20000 };

/* -- a small reader of our own answers -------------------------------------------------------------------------------------------- */

struct doc {
    struct span text;
    struct json_token *tokens;
    size_t count;
};

static bool doc_parse(struct doc *doc, struct span text) {
    size_t offset = 0;
    doc->text = text;
    doc->tokens = malloc(STATUS_TOKENS * sizeof *doc->tokens);
    return doc->tokens != NULL &&
           json_parse(text, 16, doc->tokens, STATUS_TOKENS, &doc->count, &offset) == 0;
}

static struct span doc_text(const struct doc *doc, uint32_t object, const char *key) {
    uint32_t at = json_get(doc->text, doc->tokens, object, span_str(key));
    return at != 0 ? json_span(doc->text, &doc->tokens[at]) : SPAN_LIT("");
}

static uint64_t doc_number(const struct doc *doc, uint32_t object, const char *key) {
    int64_t value = 0;
    return json_integer(doc_text(doc, object, key), &value) && value > 0 ? (uint64_t)value : 0;
}

static int print_answer(const struct cli_answer *answer) {
    (void)fwrite(answer->body, 1, answer->size, stdout);
    return CLI_DONE;
}

/* The "error" of an answer that is not 200. */
static int fail_answer(const struct cli_answer *answer) {
    struct doc doc = {0};
    if (doc_parse(&doc, span_of(answer->body, answer->size))) {
        char text[1024];
        struct buf b = buf_of(text, sizeof text - 1);
        json_unescape(doc_text(&doc, 0, "error"), &b);
        text[b.n] = '\0';
        (void)cli_fail_text("%s", text);
    } else {
        (void)cli_fail_text("the daemon answered %u", answer->status);
    }
    free(doc.tokens);
    return CLI_FAILED;
}

/* -- status ----------------------------------------------------------------------------------------------------------------------- */

static const char *state_colour(struct span state) {
    if (span_is(state, "active")) {
        return CLI_GREEN;
    }
    return span_is(state, "retrying") ? CLI_YELLOW : CLI_RED;
}

static void print_status_vendor(const struct doc *doc, uint32_t key, bool live) {
    char backlog[32];
    char delivered[32];
    char withheld[32];
    char when[32] = "never";
    uint32_t v = key + 1;
    struct span name = json_span(doc->text, &doc->tokens[key]);
    struct span state = doc_text(doc, v, "state");
    uint64_t last = doc_number(doc, v, "last_success_ms");
    cli_number(doc_number(doc, v, "backlog"), backlog);
    cli_number(doc_number(doc, v, "delivered"), delivered);
    cli_number(doc_number(doc, v, "withheld"), withheld);
    if (last != 0) {
        cli_time_text(last, when);
    }
    (void)printf("  %-16.*s %s%-9.*s%s %9s", (int)name.n, (const char *)name.p, state_colour(state),
                 (int)state.n, (const char *)state.p, CLI_PLAIN, backlog);
    if (live) {
        (void)printf(" %9s %9s  %s", delivered, withheld, when);
    }
    (void)printf("\n");
    struct span why = doc_text(doc, v, "parked_because");
    if (why.n != 0) {
        (void)printf("  %-16s %.*s\n", "", (int)why.n, (const char *)why.p);
    }
    struct span damage = doc_text(doc, v, "out_of_service");
    if (damage.n != 0) {
        (void)printf("  %-16s out of service: %.*s\n"
                     "  %-16s put a sound copy in place and restart; see bulkhead ledger verify\n",
                     "", (int)damage.n, (const char *)damage.p, "");
    }
}

/* Since the daemon started; the list itself is made from what is kept. */
static void print_undeclared(const struct doc *doc, uint32_t key) {
    uint32_t reasons = json_get(doc->text, doc->tokens, key + 1, SPAN_LIT("withheld_by_reason"));
    uint64_t names = reasons != 0 ? doc_number(doc, reasons, "undeclared") : 0;
    uint64_t events = reasons != 0 ? doc_number(doc, reasons, "event_undeclared") : 0;
    if (names + events != 0) {
        char properties[32];
        char whole[32];
        struct span name = json_span(doc->text, &doc->tokens[key]);
        cli_number(names, properties);
        cli_number(events, whole);
        (void)printf("  %-16.*s undeclared: %s properties, %s events\n"
                     "  %-16s which: bulkhead preview %.*s --held\n",
                     (int)name.n, (const char *)name.p, properties, whole, "", (int)name.n,
                     (const char *)name.p);
    }
}

static void print_dedupe(const struct doc *doc) {
    uint32_t dedupe = json_get(doc->text, doc->tokens, 0, SPAN_LIT("dedupe"));
    if (dedupe == 0) {
        return;
    }
    char text[32];
    uint64_t window = doc_number(doc, dedupe, "window_s");
    uint64_t since = doc_number(doc, dedupe, "since_ms");
    if (window == 0) {
        (void)printf("  dedupe           off\n\n");
        return;
    }
    cli_number(doc_number(doc, dedupe, "repeats"), text);
    (void)printf("  dedupe           %s repeats; window ", text);
    cli_number(window % 3600 == 0 ? window / 3600 : window, text);
    (void)printf("%s %s", text, window % 3600 == 0 ? "h" : "s");
    if (since != 0) {
        cli_time_text(since, text);
        (void)printf(", known since %s", text);
    }
    (void)printf("\n\n");
}

static void print_status(const struct doc *doc, bool live) {
    struct span ready = doc_text(doc, 0, "ready");
    char text[32];
    (void)printf("%sbulkhead%s  %s", CLI_BOLD, CLI_PLAIN,
                 !live                    ? "no daemon runs; this is what its data folder says"
                 : span_is(ready, "true") ? "ready"
                                          : "NOT READY");
    if (live) {
        cli_number(doc_number(doc, 0, "uptime_s"), text);
        (void)printf(", up %s s (all counts but backlog are since then)", text);
    }
    (void)printf("\n\n");
    uint32_t journal = json_get(doc->text, doc->tokens, 0, SPAN_LIT("journal"));
    if (journal != 0) {
        cli_number(doc_number(doc, journal, "durable_seq"), text);
        (void)printf("  journal          last event %s", text);
        cli_number(doc_number(doc, journal, "bytes") / 1000000, text);
        (void)printf(", %s MB on disk\n", text);
        if (json_get(doc->text, doc->tokens, 0, SPAN_LIT("dedupe")) == 0) {
            (void)printf("\n");
        }
    }
    print_dedupe(doc);
    (void)printf("  %s%-16s %-9s %9s", CLI_DIM, "vendor", "state", "backlog");
    if (live) {
        (void)printf(" %9s %9s  %s", "delivered", "withheld", "last answer");
    }
    (void)printf("%s\n", CLI_PLAIN);
    uint32_t vendors = json_get(doc->text, doc->tokens, 0, SPAN_LIT("vendors"));
    for (uint32_t at = vendors + 1; vendors != 0 && at < doc->tokens[vendors].next;
         at = doc->tokens[at].next) {
        print_status_vendor(doc, at, live);
    }
    for (uint32_t at = vendors + 1; vendors != 0 && at < doc->tokens[vendors].next;
         at = doc->tokens[at].next) {
        print_undeclared(doc, at);
    }
    uint32_t sources = json_get(doc->text, doc->tokens, 0, SPAN_LIT("sources"));
    if (sources == 0) {
        return;
    }
    (void)printf("\n  %s%-16s %19s %9s%s\n", CLI_DIM, "source", "accepted", "refused", CLI_PLAIN);
    for (uint32_t at = sources + 1; at < doc->tokens[sources].next; at = doc->tokens[at].next) {
        char refused[32];
        struct span name = json_span(doc->text, &doc->tokens[at]);
        cli_number(doc_number(doc, at + 1, "accepted"), text);
        cli_number(doc_number(doc, at + 1, "refused"), refused);
        (void)printf("  %-16.*s %19s %9s\n", (int)name.n, (const char *)name.p, text, refused);
    }
}

/* What a dead daemon left: states from the register, backlogs from journal and ledgers. */
static int offline_status(const struct settings *settings, struct buf *out, struct err *err) {
    struct keyring *keyring = NULL;
    struct journal *journal = NULL;
    struct cut_register *reg = NULL;
    struct journal_recovery recovery = {0};
    char dir[SETTINGS_PATH + 16];
    (void)snprintf(dir, sizeof dir, "%s/journal", settings->data);
    struct journal_config config = {
        .dir = dir, .segment_size = settings->journal_segment, .read_only = true};
    int r = crypto_init();
    r = r == 0 ? keyring_open(settings->data, settings->dir, &settings->key, false,
                              settings->instance_number, &keyring, err)
               : r;
    config.keyring = keyring;
    r = r == 0 ? journal_open(&config, &journal, &recovery, err) : r;
    r = r == 0 ? cut_register_open(settings->data, &reg, err) : r;
    if (r == 0) {
        buf_printf(out, "{\"ready\":false,\"journal\":{\"durable_seq\":%llu},\"vendors\":{",
                   (unsigned long long)journal_durable_seq(journal));
    }
    for (unsigned i = 0; r == 0 && i < settings->vendor_count; i++) {
        struct ledger_config ledger_config = {
            .vendor = settings->vendors[i], .keyring = keyring, .read_only = true};
        struct ledger_recovery ledger_recovery = {0};
        struct ledger *ledger = NULL;
        uint64_t backlog = 0;
        (void)snprintf(dir, sizeof dir, "%s/ledger", settings->data);
        ledger_config.dir = dir;
        int opened = ledger_open(&ledger_config, &ledger, &ledger_recovery, err);
        bool is_damaged = opened == BH_E_CORRUPT || opened == BH_E_TAMPERED;
        if (opened != 0 && opened != BH_E_NOTFOUND && !is_damaged) {
            r = opened;
            break;
        }
        r = journal_count_from(
            journal, ledger_recovery.settled_seq != 0 ? ledger_recovery.settled_seq : 1, &backlog);
        ledger_close(ledger);
        buf_printf(out, "%s\"%s\":{\"state\":\"%s\",\"backlog\":%llu", i != 0 ? "," : "",
                   settings->vendors[i],
                   vendor_state_word(cut_register_state(reg, settings->vendors[i])),
                   (unsigned long long)backlog);
        if (is_damaged) {
            buf_put_str(out, ",\"out_of_service\":");
            json_put_string(out, span_str(err->text));
            *err = (struct err){0};
        }
        buf_put_byte(out, '}');
    }
    buf_put_str(out, "}}\n");
    cut_register_free(reg);
    journal_free(journal);
    keyring_free(keyring);
    return r;
}

static int status_run(const struct cli_args *args) {
    enum { OFFLINE_MAX = 64 * 1024 };
    struct settings *settings = cli_settings(args, false);
    if (settings == NULL) {
        return CLI_FAILED;
    }
    struct cli_answer answer = {0};
    struct err err = {0};
    int r = cli_admin(settings, "GET", "/v1/status", SPAN_NONE, &answer);
    bool live = r == 0;
    if (r == BH_E_NOTFOUND) {
        struct buf b = buf_of(malloc(OFFLINE_MAX), OFFLINE_MAX);
        r = b.p != NULL ? offline_status(settings, &b, &err) : BH_E_NOMEM;
        answer = (struct cli_answer){.status = 200, .body = b.p, .size = b.n};
    }
    int code = CLI_FAILED;
    struct doc doc = {0};
    if (r != 0) {
        code = err.text[0] != '\0'
                   ? cli_fail(&err)
                   : cli_fail_text("no answer from the daemon: %s", bh_error_text(r));
    } else if (answer.status != 200) {
        code = fail_answer(&answer);
    } else if (args->json) {
        code = print_answer(&answer);
    } else if (doc_parse(&doc, span_of(answer.body, answer.size))) {
        print_status(&doc, live);
        code = CLI_DONE;
    }
    free(doc.tokens);
    cli_answer_free(&answer);
    settings_free(settings);
    return code;
}

const struct cli_command cli_command_status = {
    .name = "status",
    .usage = "status",
    .summary = "Show sources, vendors, their states and backlogs; also of a daemon that is dead",
    .details =
        "state is active, retrying, parked, cut or closed; backlog counts events accepted and not yet delivered or decided.\n"
        "Under a parked vendor stands why; `vendor: parked_because` with --json.\n\n"
        "example:\n  bulkhead status --json\n",
    .run = status_run,
};

/* -- cut and restore ------------------------------------------------------------------------------------------------------------- */

static int post(const struct cli_args *args, const char *path, const char *mode,
                struct cli_answer *ret_answer, struct settings **ret_settings) {
    uint8_t room[2048];
    struct buf b = buf_of(room, sizeof room);
    struct settings *settings = cli_settings(args, false);
    if (settings == NULL) {
        return CLI_FAILED;
    }
    *ret_settings = settings;
    buf_put_str(&b, "{\"vendor\":");
    json_put_string(&b, span_str(args->positional[0]));
    buf_printf(&b, ",\"mode\":\"%s\",\"why\":", mode);
    json_put_string(&b, span_str(cli_has(args, "--why") ? cli_value(args, "--why") : ""));
    buf_put_byte(&b, '}');
    if (b.full) {
        return cli_fail_text("--why is too long (at most 255 bytes)");
    }
    int r = cli_admin(settings, "POST", path, buf_span(&b), ret_answer);
    if (r == BH_E_NOTFOUND) {
        return -1;
    }
    if (r != 0) {
        return cli_fail_text("no answer from the daemon: %s", bh_error_text(r));
    }
    if (ret_answer->status == 404 && !cli_vendor_exists(settings, args->positional[0])) {
        return CLI_FAILED;
    }
    return ret_answer->status == 200 ? CLI_DONE : fail_answer(ret_answer);
}

/* No daemon: the register alone, which is what the next start believes. */
static int cut_offline(const struct cli_args *args, const struct settings *settings) {
    struct cut_register *reg = NULL;
    struct err err = {0};
    int r = cut_register_open(settings->data, &reg, &err);
    r = r == 0 ? cut_register_cut(reg, args->positional[0]) : r;
    cut_register_free(reg);
    if (r != 0) {
        return err.text[0] != '\0'
                   ? cli_fail(&err)
                   : cli_fail_text("cannot write the cut register: %s", bh_error_text(r));
    }
    (void)printf(args->json ? "{\"vendor\":\"%s\",\"state\":\"cut\",\"offline\":true}\n"
                            : "%s is cut. No daemon runs; the next one will start with it cut.\n",
                 args->positional[0]);
    return CLI_DONE;
}

static int cut_run(const struct cli_args *args) {
    struct cli_answer answer = {0};
    struct settings *settings = NULL;
    int code = post(args, "/v1/cut", "", &answer, &settings);
    if (code == -1) {
        code = cli_vendor_exists(settings, args->positional[0]) ? cut_offline(args, settings)
                                                                : CLI_FAILED;
    } else if (code == CLI_DONE && args->json) {
        code = print_answer(&answer);
    } else if (code == CLI_DONE) {
        struct doc doc = {0};
        if (doc_parse(&doc, span_of(answer.body, answer.size))) {
            char backlog[32];
            cli_number(doc_number(&doc, 0, "backlog"), backlog);
            (void)printf("%s%s is cut.%s No byte for it can leave since %.3f ms after the command\n"
                         "arrived; durable after %.3f ms.\n",
                         CLI_RED, args->positional[0], CLI_PLAIN,
                         (double)doc_number(&doc, 0, "us") / 1000.0,
                         (double)doc_number(&doc, 0, "durable_us") / 1000.0);
            (void)printf(
                "Events are taken and kept as before; %s wait. Next:\n  bulkhead exposure %s\n  bulkhead restore %s --replay|--discard\n",
                backlog, args->positional[0], args->positional[0]);
        }
        free(doc.tokens);
    }
    cli_answer_free(&answer);
    settings_free(settings);
    return code;
}

static const struct cli_option why_options[] = {
    {"--why", "TEXT", "reason, kept in the vendor's ledger"}};

const struct cli_command cli_command_cut = {
    .name = "cut",
    .usage = "cut VENDOR [--why TEXT]",
    .summary =
        "Cut a vendor off: when this returns no byte for it can leave, and a restart keeps it so",
    .details =
        "Requests in flight, retries, idle connections, handshakes and look-ups end. What had been handed over counts as possibly\n"
        "received. Events go on being taken and kept.\n\nexample:\n  bulkhead cut mixpanel --why \"breach notice of 9 November\"\n",
    .positional_min = 1,
    .positional_max = 1,
    .options = why_options,
    .option_count = BH_COUNT(why_options),
    .run = cut_run,
};

static int restore_run(const struct cli_args *args) {
    bool replay = cli_has(args, "--replay");
    if (replay == cli_has(args, "--discard")) {
        return cli_fail_text("say what becomes of the backlog: --replay or --discard");
    }
    struct cli_answer answer = {0};
    struct settings *settings = NULL;
    int code = post(args, "/v1/restore", replay ? "replay" : "discard", &answer, &settings);
    if (code == -1) {
        code = cli_fail_text("no daemon runs; start it with `bulkhead serve`");
    } else if (code == CLI_DONE && args->json) {
        code = print_answer(&answer);
    } else if (code == CLI_DONE) {
        (void)printf("%s%s is restored.%s Its backlog is %s.\n", CLI_GREEN, args->positional[0],
                     CLI_PLAIN, replay ? "being delivered" : "discarded, and that is recorded");
    }
    cli_answer_free(&answer);
    settings_free(settings);
    return code;
}

static const struct cli_option restore_options[] = {
    {"--replay", NULL, "deliver what was kept while the vendor was cut"},
    {"--discard", NULL, "give up what was kept; counted and recorded"},
    {"--why", "TEXT", "reason, kept in the vendor's ledger"},
};

const struct cli_command cli_command_restore = {
    .name = "restore",
    .usage = "restore VENDOR --replay|--discard [--why TEXT]",
    .summary = "Let a vendor receive again, and say what becomes of its backlog",
    .details =
        "A new vendor starts cut; its first restore opens it. `bulkhead preview` shows before what would leave.\n"
        "The vendor's credential is read by the daemon: set MIXPANEL_TOKEN where `bulkhead serve` runs.\n\n"
        "example:\n  bulkhead restore mixpanel --replay\n",
    .positional_min = 1,
    .positional_max = 1,
    .options = restore_options,
    .option_count = BH_COUNT(restore_options),
    .run = restore_run,
};

/* -- tap --------------------------------------------------------------------------------------------------------------------------- */

static void print_tap_line(const struct doc *doc, uint32_t line) {
    uint32_t refused = json_get(doc->text, doc->tokens, line, SPAN_LIT("refused"));
    if (refused != 0) {
        struct span name = doc_text(doc, line, "name");
        struct span reason = doc_text(doc, line, "reason");
        name = name.n != 0 ? name : SPAN_LIT("no source that bulkhead.yaml knows");
        (void)printf("%srefused%s %llu from %.*s: %.*s\n", CLI_RED, CLI_PLAIN,
                     (unsigned long long)doc_number(doc, line, "refused"), (int)name.n,
                     (const char *)name.p, (int)reason.n, (const char *)reason.p);
        return;
    }
    bool sends = span_is(doc_text(doc, line, "sends"), "true");
    struct span vendor = doc_text(doc, line, "vendor");
    struct span kind = doc_text(doc, line, "kind");
    struct span event = doc_text(doc, line, "event");
    struct span reason = doc_text(doc, line, "reason");
    (void)printf("%8llu %-12.*s %s%-5s%s %-8.*s %.*s%.*s",
                 (unsigned long long)doc_number(doc, line, "seq"), (int)vendor.n,
                 (const char *)vendor.p, sends ? CLI_GREEN : CLI_YELLOW, sends ? "sends" : "holds",
                 CLI_PLAIN, (int)kind.n, (const char *)kind.p, (int)event.n, (const char *)event.p,
                 (int)reason.n, (const char *)reason.p);
    uint32_t leaves = json_get(doc->text, doc->tokens, line, SPAN_LIT("leaves"));
    for (uint32_t at = leaves + 1; leaves != 0 && at < doc->tokens[leaves].next; at++) {
        struct span leaf = json_span(doc->text, &doc->tokens[at]);
        (void)printf(" %s%.*s%s", CLI_DIM, (int)leaf.n, (const char *)leaf.p, CLI_PLAIN);
    }
    uint64_t withheld = doc_number(doc, line, "withheld");
    if (withheld != 0) {
        (void)printf(" %s-%llu withheld%s", CLI_YELLOW, (unsigned long long)withheld, CLI_PLAIN);
    }
    (void)printf("\n");
}

static int print_tap(const struct cli_args *args, const struct cli_answer *answer, uint64_t *next) {
    struct doc doc = {0};
    if (!doc_parse(&doc, span_of(answer->body, answer->size))) {
        free(doc.tokens);
        return cli_fail_text("the daemon's answer is not what this command understands");
    }
    uint32_t lines = json_get(doc.text, doc.tokens, 0, SPAN_LIT("lines"));
    for (uint32_t at = lines + 1; lines != 0 && at < doc.tokens[lines].next;
         at = doc.tokens[at].next) {
        if (args->json) {
            struct span line = json_span(doc.text, &doc.tokens[at]);
            (void)printf("%.*s\n", (int)line.n, (const char *)line.p);
        } else {
            print_tap_line(&doc, at);
        }
    }
    (void)fflush(stdout);
    *next = doc_number(&doc, 0, "next");
    free(doc.tokens);
    return CLI_DONE;
}

static int tap_run(const struct cli_args *args) {
    enum { POLL_US = 200000 };
    struct settings *settings = cli_settings(args, false);
    uint64_t limit = UINT64_MAX;
    uint64_t next = UINT64_MAX;
    int code = settings != NULL ? CLI_DONE : CLI_FAILED;
    if (cli_has(args, "--seconds") &&
        !span_to_u64(span_str(cli_value(args, "--seconds")), &limit)) {
        code = cli_fail_text("--seconds needs a whole number");
    }
    uint64_t until = limit == UINT64_MAX ? UINT64_MAX : os_mono_us() + limit * 1000000;
    while (code == CLI_DONE && os_mono_us() < until) {
        char path[64];
        struct cli_answer answer = {0};
        (void)snprintf(path, sizeof path, "/v1/tap?after=%llu", (unsigned long long)next);
        int r = cli_admin(settings, "GET", path, SPAN_NONE, &answer);
        if (r != 0 || answer.status != 200) {
            code = r == BH_E_NOTFOUND
                       ? cli_fail_text("no daemon runs; start it with `bulkhead serve`")
                       : cli_fail_text("no answer from the daemon");
        } else {
            code = print_tap(args, &answer, &next);
        }
        cli_answer_free(&answer);
        os_sleep_us(POLL_US);
    }
    settings_free(settings);
    return code;
}

static const struct cli_option tap_options[] = {{"--seconds", "N", "stop after N seconds"}};

const struct cli_command cli_command_tap = {
    .name = "tap",
    .usage = "tap [--seconds N]",
    .summary = "Watch events and verdicts as they pass, without any value",
    .details =
        "Shows what leaves (class:form), what is withheld and why. Names of events only if plan.yaml declares them.\n"
        "A verdict is made when the event could leave: of a vendor that is cut nothing is shown.\n"
        "Under load lines are left out; nothing is ever slowed down.\n\nexample:\n  bulkhead tap --seconds 30\n",
    .options = tap_options,
    .option_count = BH_COUNT(tap_options),
    .run = tap_run,
};
