/* bulkhead init: a folder that runs as it is. The key goes outside of it, since the folder is meant for git. */
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/init_files.h"
#include "engine/yaml/yaml.h"
#include "os/env.h"
#include "os/file.h"
#include "protocol/protocol.h"

static const struct cli_option init_options[] = {
    {"--instance", "NAME",
     "name of this instance, in logs and in the key's file name (default main)"},
    {"--vendor", "NAME",
     "whose SDK and contract to begin with: mixpanel (default), posthog, segment, "
     "rudder, amplitude"},
    {"--key", "FILE", "where to write the master key (default ~/.config/bulkhead/NAME.key)"},
};

struct init_words {
    const char *instance;
    const char *key;
    const char *vendor;
};

/* The text with every "@INSTANCE@", "@KEY@" and "@VENDOR@" replaced. */
static int write_template(const char *path, const char *text, const struct init_words *words,
                          struct err *err) {
    enum { TEXT_MAX = 65536 };
    const struct {
        const char *mark;
        const char *word;
    } marks[] = {
        {"@INSTANCE@", words->instance}, {"@KEY@", words->key}, {"@VENDOR@", words->vendor}};
    char *out = malloc(TEXT_MAX);
    if (out == NULL) {
        return err_set(err, BH_E_NOMEM, "out of memory");
    }
    struct buf b = buf_of(out, TEXT_MAX);
    while (*text != '\0') {
        size_t i = 0;
        while (i < BH_COUNT(marks) && strncmp(text, marks[i].mark, strlen(marks[i].mark)) != 0) {
            i++;
        }
        if (i < BH_COUNT(marks)) {
            buf_put_str(&b, marks[i].word);
            text += strlen(marks[i].mark);
        } else {
            buf_put_byte(&b, (uint8_t)*text++);
        }
    }
    int r = b.full ? BH_E_TOO_BIG : os_file_replace(path, b.p, b.n, 0644);
    free(out);
    return r == 0 ? 0 : err_set(err, r, "cannot write %s: %s", path, bh_error_text(r));
}

static int make_folders(const char *path, struct err *err) {
    char part[SETTINGS_PATH];
    size_t n = strlen(path);
    for (size_t i = 1; i <= n && n < sizeof part; i++) {
        if (path[i] != '/' && path[i] != '\0') {
            continue;
        }
        memcpy(part, path, i);
        part[i] = '\0';
        int r = os_path_exists(part) ? 0 : os_dir_make(part);
        if (r != 0) {
            return err_set(err, r, "cannot make the folder %s: %s", part, bh_error_text(r));
        }
    }
    return 0;
}

static int make_key(const char *key, struct err *err) {
    char path[SETTINGS_PATH];
    const char *home = os_env("HOME");
    struct buf b = buf_of(path, sizeof path - 1);
    buf_put_str(&b, key[0] != '~' ? "" : home != NULL ? home : "/root");
    buf_put_str(&b, key[0] == '~' ? key + 1 : key);
    path[b.n] = '\0';
    if (b.full) {
        return err_set(err, BH_E_TOO_BIG, "the key file's path is too long");
    }
    if (os_path_exists(path)) {
        (void)printf("  key    %s (was there already)\n", key);
        return 0;
    }
    char folder[SETTINGS_PATH];
    memcpy(folder, path, sizeof folder);
    char *slash = strrchr(folder, '/');
    if (slash != NULL && slash != folder) {
        *slash = '\0';
        int r = make_folders(folder, err);
        if (r != 0) {
            return r;
        }
    }
    int r = keyring_master_create(path, err);
    if (r == 0) {
        (void)printf("  key    %s (mode 0400; back it up: without it nothing here can be read)\n",
                     key);
    }
    return r;
}

/* A contract is known for it; else the nearest that is. */
static int check_vendor(const char *vendor, const char *file) {
    size_t count = 0;
    const char *const *words = protocol_list_of_sources(&count);
    const struct protocol_ops *ops = protocol_by_name(span_str(vendor));
    if (init_file_text(file) != NULL) {
        return 0;
    }
    if (ops != NULL && ops->decode == NULL) {
        return cli_fail_text(
            "no SDK speaks %s: begin with the protocol of yours, then write vendors/%s.yaml as "
            "docs/contracts.md shows it",
            vendor, vendor);
    }
    const char *near = yaml_nearest(span_str(vendor), words, count);
    return cli_fail_text("no vendor '%s' is known; did you mean '%s'?", vendor,
                         near != NULL ? near : words[0]);
}

static int write_files(const char *dir, const char *contract, const struct init_words *words,
                       struct err *err) {
    const struct {
        const char *name;
        const char *what;
    } files[] = {
        {"bulkhead.yaml", "listeners, data folder, sources and their tokens"},
        {"plan.yaml", "what events and properties mean; what is not declared does not leave"},
        {contract, "the contract: what this vendor may receive"},
        {".gitignore", "keeps data out of git"},
    };
    char path[SETTINGS_PATH + 64];
    (void)printf("%s\n", dir);
    for (size_t i = 0; i < BH_COUNT(files); i++) {
        (void)snprintf(path, sizeof path, "%s/%s", dir, files[i].name);
        int r = write_template(path, init_file_text(files[i].name), words, err);
        if (r != 0) {
            return r;
        }
        (void)printf("  %-22s %s\n", files[i].name, files[i].what);
    }
    return 0;
}

static int init_run(const struct cli_args *args) {
    struct err err = {0};
    const char *dir = args->positional_count != 0 ? args->positional[0] : settings_dir(args->dir);
    const char *instance = cli_has(args, "--instance") ? cli_value(args, "--instance") : "main";
    const char *vendor = cli_has(args, "--vendor") ? cli_value(args, "--vendor") : "mixpanel";
    char key[SETTINGS_PATH];
    char path[SETTINGS_PATH + 64];
    char contract[SETTINGS_PATH];
    (void)snprintf(key, sizeof key, "~/.config/bulkhead/%s.key", instance);
    (void)snprintf(contract, sizeof contract, "vendors/%s.yaml", vendor);
    const char *key_file = cli_has(args, "--key") ? cli_value(args, "--key") : key;
    int unknown = check_vendor(vendor, contract);
    if (unknown != 0) {
        return unknown;
    }
    (void)snprintf(path, sizeof path, "%s/bulkhead.yaml", dir);
    if (os_path_exists(path)) {
        return cli_fail_text(
            "%s exists already; init changes nothing that is there, so name another "
            "folder: bulkhead init DIR (a second vendor: docs/contracts.md)",
            path);
    }
    (void)snprintf(path, sizeof path, "%s/vendors", dir);
    const struct init_words words = {instance, key_file, vendor};
    if (make_folders(dir, &err) != 0 || make_folders(path, &err) != 0 ||
        write_files(dir, contract, &words, &err) != 0) {
        return cli_fail(&err);
    }
    if (make_key(key_file, &err) != 0) {
        return cli_fail(&err);
    }
    (void)printf("\nnext:\n  bulkhead -c %s contract check\n  bulkhead -c %s serve\n", dir, dir);
    return CLI_DONE;
}

const struct cli_command cli_command_init = {
    .name = "init",
    .usage = "init [DIR] [--vendor NAME] [--instance NAME] [--key FILE]",
    .summary = "Write a configuration folder that runs as it is, and a master key outside it",
    .details =
        "Nothing that exists is changed. New vendors start cut: nothing leaves before `bulkhead restore`.\n\n"
        "example:\n  bulkhead init ./bulkhead --instance eu-1\n"
        "  bulkhead init ./bulkhead --vendor segment\n",
    .positional_max = 1,
    .options = init_options,
    .option_count = BH_COUNT(init_options),
    .run = init_run,
};
