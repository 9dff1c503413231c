/* bulkhead contract check: the whole folder, as serve would read it, with every complaint at its place. */
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "gateway/snapshot.h"
#include "model/class.h"

/* A line for each class and five words on it. */
enum { ASKED_MAX = LIMIT_VENDORS * CLASS_LIMIT * 256 };

/* What of consent each vendor asks, gathered while all are read: strings, each with its end, or members of a JSON object. */
struct asked {
    bool json;
    struct buf out;
};

/* The words need no escapes in JSON. */
static void note_consent(const struct snapshot_vendor *vendor, struct asked *asked) {
    struct buf *out = &asked->out;
    size_t before = out->n;
    if (asked->json) {
        buf_printf(out, "%s\"%s\":\"", before != 0 ? "," : "", vendor->name);
    } else {
        buf_printf(out, "%s ", vendor->name);
    }
    size_t start = out->n;
    ruleset_put_consent(vendor->ruleset, out);
    if (out->n == start) {
        out->n = before;
    } else {
        buf_put_byte(out, asked->json ? '"' : '\0');
    }
}

static int check_vendor(const struct settings *settings, const struct plan *plan, const char *name,
                        struct asked *asked) {
    struct snapshot_vendor vendor = {0};
    struct err err = {0};
    int r = snapshot_vendor_init(settings, plan, name, &vendor, &err);
    if (r != 0) {
        (void)cli_fail(&err);
    } else {
        note_consent(&vendor, asked);
    }
    for (unsigned i = 0; r == 0 && i < settings->source_count; i++) {
        const struct protocol_ops *protocol = protocol_by_id(settings->sources[i].protocol);
        if (vendor.sources[i].feeds_vendor && !ruleset_hears_consent(vendor.ruleset, protocol)) {
            (void)fprintf(stderr,
                          "warning: %s requires consent that source %s cannot say: SDKs of %s send "
                          "none, and plan.yaml has no consent: properties\n",
                          name, settings->sources[i].name, protocol->name);
        }
    }
    snapshot_vendor_fini(&vendor);
    return r;
}

static void print_asked(const struct asked *asked) {
    for (size_t at = 0; at < asked->out.n; at += strlen((const char *)asked->out.p + at) + 1) {
        cli_flow((const char *)asked->out.p + at, 2, 0);
        (void)printf("\n");
    }
}

static void warn_sources(const struct settings *settings) {
    for (unsigned i = 0; i < settings->source_count; i++) {
        const struct settings_source *source = &settings->sources[i];
        if (source->trust_server && source->token_is_literal) {
            (void)fprintf(
                stderr,
                "warning: source %s is a server and its token stands in bulkhead.yaml; use { env: NAME } or { file: PATH }\n",
                source->name);
        }
        if (source->vendor_count == 0) {
            (void)fprintf(stderr, "warning: source %s feeds no vendor\n", source->name);
        }
    }
}

static int contract_check_run(const struct cli_args *args) {
    struct settings *settings = NULL;
    struct err err = {0};
    int r = settings_load(settings_dir(args->dir), false, &settings, &err);
    if (r != 0) {
        if (args->json) {
            (void)printf("{\"ok\":false}\n");
        }
        (void)cli_fail(&err);
        return r == BH_E_CONFIG ? CLI_NO : CLI_FAILED;
    }
    if (settings_number(settings, true, &err) != 0) {
        settings_free(settings);
        return cli_fail(&err);
    }
    char path[SETTINGS_PATH + 32];
    struct plan *plan = NULL;
    settings_plan_path(settings, path, sizeof path);
    int bad = 0;
    struct asked asked = {args->json, buf_of(malloc(ASKED_MAX), ASKED_MAX)};
    if (asked.out.p == NULL) {
        settings_free(settings);
        return cli_fail_text("out of memory");
    }
    if (plan_load(path, &plan, &err) != 0) {
        (void)cli_fail(&err);
        bad++;
    }
    for (unsigned i = 0; plan != NULL && i < settings->vendor_count; i++) {
        bad += check_vendor(settings, plan, settings->vendors[i], &asked) != 0;
    }
    warn_sources(settings);
    if (args->json) {
        (void)printf("{\"ok\":%s,\"vendors\":%u,\"sources\":%u,\"consent\":{%.*s}}\n",
                     bad == 0 ? "true" : "false", settings->vendor_count, settings->source_count,
                     (int)asked.out.n, (const char *)asked.out.p);
    } else if (bad == 0) {
        (void)printf("%sfine%s: %u source%s, %u vendor%s\n", CLI_GREEN, CLI_PLAIN,
                     settings->source_count, settings->source_count == 1 ? "" : "s",
                     settings->vendor_count, settings->vendor_count == 1 ? "" : "s");
        print_asked(&asked);
    }
    free(asked.out.p);
    plan_free(plan);
    settings_free(settings);
    return bad == 0 ? CLI_DONE : CLI_NO;
}

const struct cli_command cli_command_contract_check = {
    .name = "contract check",
    .usage = "contract check",
    .summary = "Check bulkhead.yaml, plan.yaml and every contract",
    .details =
        "Each complaint names file, line and column, what was expected and the nearest valid word.\n"
        "Under `fine` stands what each vendor asks of consent: `requires` and `honour`.\n"
        "Exit code 1 when something is wrong. Secrets are not read: whether a variable or\n"
        "a file with a token is there, `bulkhead serve` says.\n\nexample:\n  bulkhead -c ./bulkhead contract check\n",
    .run = contract_check_run,
};
