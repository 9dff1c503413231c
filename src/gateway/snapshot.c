#include "gateway/snapshot.h"

#include <stdlib.h>
#include <string.h>

#include "os/file.h"

static bool source_feeds(const struct settings_source *source, const char *vendor) {
    for (unsigned i = 0; i < source->vendor_count; i++) {
        if (strcmp(source->vendors[i], vendor) == 0) {
            return true;
        }
    }
    return false;
}

int snapshot_vendor_init(const struct settings *settings, const struct plan *plan, const char *name,
                         struct snapshot_vendor *vendor, struct err *err) {
    char path[SETTINGS_PATH + 128];
    vendor->name = name;
    settings_vendor_path(settings, name, path, sizeof path);
    vendor->sources = calloc(settings->source_count + 1, sizeof *vendor->sources);
    if (vendor->sources == NULL) {
        return err_set(err, BH_E_NOMEM, "out of memory");
    }
    for (unsigned i = 0; i < settings->source_count; i++) {
        const struct settings_source *source = &settings->sources[i];
        vendor->sources[i] =
            (struct policy_source){source->number, source->name, source_feeds(source, name)};
    }
    int r = contract_load(path, &vendor->contract, err);
    if (r != 0) {
        return r;
    }
    contract_facts(vendor->contract, &vendor->facts);
    if (strcmp(vendor->facts.vendor, name) != 0) {
        return err_set_at(err, BH_E_CONFIG, path, 1, 1,
                          "vendor: %s must be the name of its file, %s", vendor->facts.vendor,
                          name);
    }
    return ruleset_compile(vendor->contract, plan, vendor->sources, settings->source_count,
                           &vendor->ruleset, err);
}

void snapshot_vendor_fini(struct snapshot_vendor *vendor) {
    ruleset_free(vendor->ruleset);
    contract_free(vendor->contract);
    free(vendor->sources);
    memset(vendor, 0, sizeof *vendor);
}

/* Flags come from one place, or the SDK would see now these and now those. */
static int check_flags(const struct snapshot *s, struct err *err) {
    for (unsigned i = 0; i < s->settings->source_count; i++) {
        const char *asked = NULL;
        for (unsigned k = 0; k < s->vendor_count; k++) {
            const struct snapshot_vendor *vendor = &s->vendors[k];
            if (!vendor->facts.forwards_flags || !vendor->sources[i].feeds_vendor) {
                continue;
            }
            if (asked != NULL) {
                return err_set(err, BH_E_CONFIG,
                               "source %s: its flags would be forwarded to %s and to %s; flags: "
                               "forward may stand in one of these contracts",
                               s->settings->sources[i].name, asked, vendor->name);
            }
            asked = vendor->name;
        }
    }
    return 0;
}

static int load_sources(struct snapshot *s, struct err *err) {
    unsigned count = s->settings->source_count;
    struct ingest_source *ingest = calloc(count + 1, sizeof *ingest);
    s->resolve_sources = calloc(count + 1, sizeof *s->resolve_sources);
    s->source_spaces = calloc(count + 1, sizeof *s->source_spaces);
    if (ingest == NULL || s->resolve_sources == NULL || s->source_spaces == NULL) {
        free(ingest);
        return err_set(err, BH_E_NOMEM, "out of memory");
    }
    for (unsigned i = 0; i < count; i++) {
        const struct settings_source *source = &s->settings->sources[i];
        ingest[i] = (struct ingest_source){
            .number = source->number,
            .protocol = source->protocol,
            .trust_server = source->trust_server,
            .name = span_str(source->name),
            .token = span_str(source->token),
            .space = span_str(source->space),
            .import_secret = span_str(source->import_secret),
            .import_project = span_str(source->import_project_id),
        };
        s->resolve_sources[i] = (struct resolve_source){
            .number = source->number,
            .trust_server = source->trust_server,
            .new_people_per_hour = source->new_people_per_hour,
            .space = source->space,
        };
        s->source_spaces[i] = source->space;
    }
    int r = ingest_sources_new(ingest, count, &s->ingest_sources);
    free(ingest);
    return r == 0 ? 0 : err_set(err, r, "cannot build the table of sources: %s", bh_error_text(r));
}

int snapshot_tls(const struct settings *settings, struct tls_context **ret_tls, struct err *err) {
    *ret_tls = NULL;
    if (settings->tls_certificate[0] == '\0') {
        return 0;
    }
    unsigned mode = 0;
    if (os_path_mode(settings->tls_key, &mode) == 0 && (mode & 7) != 0) {
        return err_set(err, BH_E_CONFIG, "%s: anyone may read this key; chmod 640 it, or less",
                       settings->tls_key);
    }
    return tls_context_new(settings->tls_certificate, settings->tls_key, ret_tls, err);
}

int snapshot_load(const char *dir, struct snapshot **ret_snapshot, struct err *err) {
    struct snapshot *s = calloc(1, sizeof *s);
    if (s == NULL) {
        return err_set(err, BH_E_NOMEM, "out of memory");
    }
    char path[SETTINGS_PATH + 32];
    int r = settings_load(dir, true, &s->settings, err);
    if (r == 0) {
        r = settings_number(s->settings, false, err);
    }
    if (r == 0) {
        r = snapshot_tls(s->settings, &s->tls, err);
    }
    if (r == 0) {
        settings_plan_path(s->settings, path, sizeof path);
        r = plan_load(path, &s->plan, err);
    }
    if (r == 0) {
        r = load_sources(s, err);
    }
    for (unsigned i = 0; r == 0 && i < s->settings->vendor_count; i++) {
        s->vendor_count = i + 1;
        r = snapshot_vendor_init(s->settings, s->plan, s->settings->vendors[i], &s->vendors[i],
                                 err);
    }
    r = r == 0 ? check_flags(s, err) : r;
    if (r != 0) {
        snapshot_free(s);
        return r;
    }
    *ret_snapshot = s;
    return 0;
}

void snapshot_free(struct snapshot *snapshot) {
    while (snapshot != NULL) {
        struct snapshot *older = snapshot->older;
        for (unsigned i = 0; i < snapshot->vendor_count; i++) {
            snapshot_vendor_fini(&snapshot->vendors[i]);
        }
        tls_context_free(snapshot->tls);
        ingest_sources_free(snapshot->ingest_sources);
        plan_free(snapshot->plan);
        free(snapshot->resolve_sources);
        free(snapshot->source_spaces);
        settings_free(snapshot->settings);
        free(snapshot);
        snapshot = older;
    }
}

void snapshot_rules(const struct snapshot *snapshot, const struct snapshot_vendor *vendor,
                    struct courier_rules *ret_rules) {
    *ret_rules = (struct courier_rules){
        .facts = vendor->facts,
        .ruleset = vendor->ruleset,
        .sources = vendor->sources,
        .source_count = snapshot->settings->source_count,
        .source_spaces = snapshot->source_spaces,
    };
}
