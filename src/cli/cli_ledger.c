/* bulkhead ledger verify and ledger checkpoint: on the files alone, with or without a daemon. */
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "engine/json/json.h"
#include "flow/ledger/ledger.h"
#include "flow/resolve/resolve.h"
#include "os/file.h"

struct ledger_world {
    struct settings *settings;
    struct keyring *keyring;
    struct resolver *resolver;
    struct resolve_view *view;
    char dir[SETTINGS_PATH + 16];
};

static void world_close(struct ledger_world *w) {
    resolve_view_free(w->view);
    resolver_free(w->resolver);
    keyring_free(w->keyring);
    settings_free(w->settings);
}

static int world_open(const struct cli_args *args, struct ledger_world *w) {
    struct err err = {0};
    w->settings = cli_settings(args, false);
    if (w->settings == NULL) {
        return CLI_FAILED;
    }
    int r = crypto_init();
    r = r == 0 ? keyring_open(w->settings->data, w->settings->dir, &w->settings->key, false,
                              w->settings->instance_number, &w->keyring, &err)
               : r;
    if (r == 0) {
        char dir[SETTINGS_PATH + 16];
        (void)snprintf(dir, sizeof dir, "%s/resolve", w->settings->data);
        struct resolve_config config = {.dir = dir, .keyring = w->keyring};
        r = resolver_open(&config, &w->resolver, &err);
    }
    r = r == 0 ? resolve_view_new(w->resolver, &w->view) : r;
    r = r == 0 ? resolve_view_begin(w->view) : r;
    (void)snprintf(w->dir, sizeof w->dir, "%s/ledger", w->settings->data);
    if (r != 0) {
        err.code = r;
        return cli_fail(&err);
    }
    return CLI_DONE;
}

static int lid_of(void *context, uint32_t ord, uint8_t ret_lid[16]) {
    struct ledger_world *w = context;
    struct resolve_row row;
    struct aid aid;
    int r = resolve_by_ord(w->view, ord, &row, &aid);
    if (r == 0) {
        memcpy(ret_lid, row.lid, 16);
    }
    return r;
}

static void verify_progress(void *context, uint64_t done, uint64_t total) {
    (void)context;
    cli_progress("verifying", done, total);
}

static void print_fine(const struct cli_args *args, const char *log,
                       const struct ledger_verify_report *report) {
    if (args->json) {
        (void)printf(
            "{\"log\":\"%s\",\"ok\":true,\"leaves\":%llu,\"attempts\":%llu,\"outcomes\":%llu,\"entries\":%llu,\"entries_unchecked\":%llu,"
            "\"checkpoints\":%llu,\"bytes\":%llu,\"witnessed\":false}\n",
            log, (unsigned long long)report->leaves, (unsigned long long)report->attempts,
            (unsigned long long)report->outcomes, (unsigned long long)report->entries,
            (unsigned long long)report->entries_unchecked, (unsigned long long)report->checkpoints,
            (unsigned long long)report->bytes);
        return;
    }
    char leaves[32];
    char attempts[32];
    char entries[32];
    cli_number(report->leaves, leaves);
    cli_number(report->attempts, attempts);
    cli_number(report->entries, entries);
    (void)printf("%sverified%s %s: %s lines, %s attempts, %s entries, %llu signed checkpoints\n",
                 CLI_GREEN, CLI_PLAIN, log, leaves, attempts, entries,
                 (unsigned long long)report->checkpoints);
    if (report->entries_unchecked != 0) {
        cli_number(report->entries_unchecked, entries);
        (void)printf(
            "  %s entries name erased or unknown people; their attempts' roots were not recomputed\n",
            entries);
    }
    (void)printf(
        "  signed, not witnessed: this shows that nothing changed since a checkpoint that\n"
        "  you hold; compare one with `bulkhead ledger checkpoint`\n");
}

static void print_wrong(const struct cli_args *args, const char *log,
                        const struct ledger_verify_report *report) {
    if (args->json) {
        (void)printf(
            "{\"log\":\"%s\",\"ok\":false,\"file\":\"%s\",\"offset\":%llu,\"text\":\"%s\"}\n", log,
            report->file, (unsigned long long)report->offset, report->text);
        return;
    }
    (void)printf("%sREFUSED%s %s: %s, offset %llu: %s\n", CLI_RED, CLI_PLAIN, log, report->file,
                 (unsigned long long)report->offset, report->text);
}

struct log_list {
    const char *vendor; /* NULL = all */
    unsigned count;
    char names[256][96];
};

/* A vendor's logs are called VENDOR-NUMBER; a vendor may be called as another with more behind it. */
static bool is_log_of(const char *name, const char *vendor) {
    size_t n = strlen(vendor);
    return strncmp(name, vendor, n) == 0 && name[n] == '-' &&
           name[n + 1 + strspn(name + n + 1, "0123456789")] == '\0';
}

static int add_log(void *context, const char *name) {
    struct log_list *list = context;
    bool is_wanted = list->vendor == NULL || is_log_of(name, list->vendor);
    if (is_wanted && list->count < BH_COUNT(list->names)) {
        (void)snprintf(list->names[list->count++], sizeof list->names[0], "%s", name);
    }
    return 0;
}

static int compare_logs(const void *a, const void *b) {
    return strcmp((const char *)a, (const char *)b);
}

static int list_logs(const struct cli_args *args, const struct ledger_world *w,
                     struct log_list *list) {
    list->vendor = args->positional_count != 0 ? args->positional[0] : NULL;
    int r = os_dir_list(w->dir, add_log, list);
    qsort(list->names, list->count, sizeof list->names[0], compare_logs);
    return list->count != 0 && (r == 0 || r == BH_E_NOTFOUND)
               ? CLI_DONE
               : cli_fail_text("there is no ledger%s%s in %s", list->vendor != NULL ? " of " : "",
                               list->vendor != NULL ? list->vendor : "", w->dir);
}

static int verify_run(const struct cli_args *args) {
    struct ledger_world w = {0};
    static struct log_list list;
    int code = world_open(args, &w);
    code = code == CLI_DONE ? list_logs(args, &w, &list) : code;
    unsigned wrong = 0;
    for (unsigned i = 0; code == CLI_DONE && i < list.count; i++) {
        struct ledger_verify_report report;
        struct ledger_verify_options options = {.dir = w.dir,
                                                .log_name = list.names[i],
                                                .keyring = w.keyring,
                                                .lid_of = lid_of,
                                                .progress = verify_progress,
                                                .context = &w};
        if (ledger_verify(&options, &report) == 0) {
            print_fine(args, list.names[i], &report);
        } else {
            print_wrong(args, list.names[i], &report);
            wrong++;
        }
    }
    world_close(&w);
    return code == CLI_DONE && wrong != 0 ? CLI_NO : code;
}

const struct cli_command cli_command_ledger_verify = {
    .name = "ledger verify",
    .usage = "ledger verify [VENDOR]",
    .summary = "Recompute everything in the ledgers and name the first byte that is wrong",
    .details =
        "Checks every frame's checksum and seal, every line, the tree, the entries of each attempt and every signed checkpoint. Works while\n"
        "the daemon is dead. Exit code 1 when something is wrong.\n\nexample:\n  bulkhead ledger verify mixpanel\n",
    .positional_max = 1,
    .run = verify_run,
};

static int checkpoint_run(const struct cli_args *args) {
    struct ledger_world w = {0};
    struct err err = {0};
    struct ledger_reader *reader = NULL;
    static uint8_t room[16384];
    struct buf note = buf_of(room, sizeof room);
    int code = world_open(args, &w);
    if (code == CLI_DONE) {
        int r = ledger_reader_open(w.dir, args->positional[0], w.keyring, &reader, &err);
        r = r == 0 ? ledger_reader_checkpoint(reader, &note) : r;
        if (r != 0) {
            err.code = r;
            code = cli_fail(&err);
        } else if (args->json) {
            static uint8_t out[32768];
            struct buf b = buf_of(out, sizeof out);
            json_put_string(&b, buf_span(&note));
            (void)printf("{\"vendor\":\"%s\",\"checkpoint\":%.*s}\n", args->positional[0], (int)b.n,
                         (const char *)b.p);
        } else {
            (void)fwrite(note.p, 1, note.n, stdout);
        }
    }
    ledger_reader_close(reader);
    world_close(&w);
    return code;
}

const struct cli_command cli_command_ledger_checkpoint = {
    .name = "ledger checkpoint",
    .usage = "ledger checkpoint VENDOR",
    .summary =
        "Print the newest signed checkpoint of a vendor's ledger, to be kept by somebody else",
    .details =
        "Whoever holds a checkpoint can show later that nothing before it was changed. C2SP signed-note form.\n\n"
        "example:\n  bulkhead ledger checkpoint mixpanel > checkpoint.txt\n",
    .positional_min = 1,
    .positional_max = 1,
    .run = checkpoint_run,
};
