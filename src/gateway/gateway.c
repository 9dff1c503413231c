#include "gateway/gateway_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "flow/inspect/inspect.h"
#include "gateway/flags.h"
#include "os/clock.h"
#include "os/fault.h"
#include "os/file.h"
#include "os/log.h"
#include "os/socket.h"

enum { COURIER_GRACE_MS = 5000 };

/* -- vendors ---------------------------------------------------------------------------------------------------------------------- */

static int add_vendor(struct gateway *gateway, const struct snapshot *snapshot,
                      const struct snapshot_vendor *vendor, struct err *err) {
    struct gateway_vendor *v = &gateway->vendors[gateway->vendor_count];
    (void)snprintf(v->name, sizeof v->name, "%s", vendor->name);
    struct courier_config config = {
        .data_dir = snapshot->settings->data,
        .vendor = v->name,
        .journal = gateway->journal,
        .resolver = gateway->resolver,
        .keyring = gateway->keyring,
        .reg = gateway->reg,
        .dns = gateway->dns,
        .aids = gateway->aids,
        .nice = true,
        .tap = tap_verdict,
        .tap_context = &gateway->tap,
    };
    struct courier_rules rules;
    snapshot_rules(snapshot, vendor, &rules);
    int r = courier_open(&config, &rules, &v->courier, err);
    if (r == BH_E_CORRUPT || r == BH_E_TAMPERED || r == BH_E_VERSION) {
        /* One vendor's damaged files are no reason to keep the others waiting. */
        v->damage = *err;
        *err = (struct err){0};
        log_problem(
            LOG_ERROR,
            "vendor out of service: what is kept of it is damaged; nothing is sent to it, its events stay in the journal; "
            "see bulkhead ledger verify, put a sound copy of the file in place and restart",
            &v->damage);
        r = 0;
    }
    if (r == 0) {
        gateway->vendor_count++;
    }
    return r;
}

static int start_vendor(struct gateway_vendor *vendor) {
    return vendor->courier != NULL ? courier_start(vendor->courier) : 0;
}

void gateway_vendor_status(struct gateway *gateway, const struct gateway_vendor *vendor,
                           struct courier_status *ret_status) {
    if (vendor->courier != NULL) {
        courier_status(vendor->courier, ret_status);
        return;
    }
    uint64_t first = journal_first_seq(gateway->journal);
    first = first != 0 ? first : 1;
    uint64_t durable = journal_durable_seq(gateway->journal);
    enum vendor_state state = cut_register_state(gateway->reg, vendor->name);
    bool is_open = state == VENDOR_ACTIVE || state == VENDOR_RETRYING;
    *ret_status = (struct courier_status){
        .state = is_open ? VENDOR_PARKED : state,
        .settled_seq = first,
        .backlog = durable + 1 > first ? durable + 1 - first : 0,
    };
}

static void set_distinct(struct gateway *gateway, const struct snapshot *snapshot) {
    enum { DISTINCT_MAX = 1024 };
    struct resolve_distinct *properties = calloc(DISTINCT_MAX, sizeof *properties);
    if (properties != NULL) {
        resolver_set_distinct(gateway->resolver, properties,
                              plan_distinct(snapshot->plan, properties, DISTINCT_MAX));
        free(properties);
    }
}

/* After every load. Of a source's vendors at most one is asked (snapshot_load). */
static void set_flags(struct gateway *gateway, const struct snapshot *snapshot) {
    for (unsigned i = 0; i < snapshot->settings->source_count; i++) {
        struct courier *asked = NULL;
        for (unsigned k = 0; k < snapshot->vendor_count; k++) {
            const struct snapshot_vendor *vendor = &snapshot->vendors[k];
            const struct gateway_vendor *v = gateway_find_vendor(gateway, span_str(vendor->name));
            if (vendor->facts.forwards_flags && vendor->sources[i].feeds_vendor && v != NULL) {
                asked = v->courier;
            }
        }
        atomic_store_explicit(&gateway->flags_of[snapshot->settings->sources[i].number], asked,
                              memory_order_release);
    }
}

/* A vendor's file may not vanish while the vendor has a courier: its ledger and backlog would be forgotten. */
static int check_reload(struct gateway *gateway, const struct snapshot *next, struct err *err) {
    for (unsigned i = 0; i < gateway->vendor_count; i++) {
        bool found = false;
        for (unsigned k = 0; k < next->vendor_count; k++) {
            found |= strcmp(next->vendors[k].name, gateway->vendors[i].name) == 0;
        }
        if (!found) {
            return err_set(
                err, BH_E_CONFIG,
                "vendors/%s.yaml is gone; cut the vendor and keep its file, its record still counts",
                gateway->vendors[i].name);
        }
    }
    const struct settings *now = atomic_load(&gateway->snapshot)->settings;
    if (strcmp(now->data, next->settings->data) != 0 ||
        strcmp(now->listen_ingest, next->settings->listen_ingest) != 0) {
        return err_set(err, BH_E_CONFIG, "data and listen take effect at a restart only");
    }
    if ((now->tls_certificate[0] == '\0') != (next->settings->tls_certificate[0] == '\0')) {
        return err_set(err, BH_E_CONFIG,
                       "listen: tls can change at a reload, but begin or end at a restart only");
    }
    return 0;
}

static int reload_locked(struct gateway *gateway, struct err *err) {
    struct snapshot *next = NULL;
    int r = snapshot_load(gateway->dir, &next, err);
    if (r != 0) {
        return r;
    }
    r = check_reload(gateway, next, err);
    if (r != 0) {
        snapshot_free(next);
        return r;
    }
    next->older = atomic_load(&gateway->snapshot);
    atomic_store_explicit(&gateway->snapshot, next, memory_order_release);
    resolver_set_sources(gateway->resolver, next->resolve_sources, next->settings->source_count);
    set_distinct(gateway, next);
    for (unsigned i = 0; i < next->vendor_count && r == 0; i++) {
        struct gateway_vendor *v = gateway_find_vendor(gateway, span_str(next->vendors[i].name));
        struct courier_rules rules;
        snapshot_rules(next, &next->vendors[i], &rules);
        if (v != NULL && v->courier == NULL) {
            continue; /* out of service until a restart */
        }
        if (v != NULL) {
            r = courier_reload(v->courier, &rules, err);
        } else if (gateway->vendor_count < LIMIT_VENDORS) {
            r = add_vendor(gateway, next, &next->vendors[i], err);
            r = r == 0 ? start_vendor(&gateway->vendors[gateway->vendor_count - 1]) : r;
        }
    }
    set_flags(gateway, next);
    return r;
}

int gateway_reload(struct gateway *gateway, struct err *err) {
    os_lock(&gateway->config_lock);
    int r = reload_locked(gateway, err);
    os_unlock(&gateway->config_lock);
    if (r == 0) {
        log_event(LOG_INFO, "configuration reloaded", LOG_INT("vendors", gateway->vendor_count));
    } else {
        log_problem(LOG_ERROR, "configuration not reloaded; the old one stays in force", err);
    }
    return r;
}

/* -- start ------------------------------------------------------------------------------------------------------------------------ */

static int open_journal(struct gateway *gateway, const struct snapshot *snapshot, struct err *err) {
    const struct settings *settings = snapshot->settings;
    char dir[SETTINGS_PATH + 16];
    (void)snprintf(dir, sizeof dir, "%s/journal", settings->data);
    struct journal_config config = {
        .dir = dir,
        .keyring = gateway->keyring,
        .segment_size = settings->journal_segment,
        .max_bytes = settings->journal_max,
        .keep_us = settings->journal_keep_us,
        .writers = gateway->loop_count,
        .chunk_pool = 16U << 20,
    };
    struct journal_recovery recovery = {0};
    int r = journal_open(&config, &gateway->journal, &recovery, err);
    if (r == 0) {
        log_event(LOG_INFO, "journal open", LOG_INT("segments", recovery.segments),
                  LOG_INT("next_seq", recovery.next_seq),
                  LOG_INT("torn_bytes", recovery.torn_bytes));
    }
    return r;
}

static int open_resolver(struct gateway *gateway, const struct snapshot *snapshot,
                         struct err *err) {
    char dir[SETTINGS_PATH + 16];
    (void)snprintf(dir, sizeof dir, "%s/resolve", snapshot->settings->data);
    struct resolve_config config = {
        .dir = dir,
        .keyring = gateway->keyring,
        .journal = gateway->journal,
        .sources = snapshot->resolve_sources,
        .source_count = snapshot->settings->source_count,
        .repeat_window_s = snapshot->settings->dedupe_window_s,
    };
    return resolver_open(&config, &gateway->resolver, err);
}

static int start_error(struct err *err, int code, const char *what) {
    return err->text[0] != '\0'
               ? code
               : err_set(err, code, "cannot start %s: %s", what, bh_error_text(code));
}

/* All that keeps a promise, before anything is accepted. */
static int open_stages(struct gateway *gateway, struct err *err) {
    const struct snapshot *snapshot = atomic_load(&gateway->snapshot);
    const struct settings *settings = snapshot->settings;
    int r = keyring_open(settings->data, settings->dir, &settings->key, true,
                         settings->instance_number, &gateway->keyring, err);
    if (r != 0) {
        return r;
    }
    gateway->aids = aid_maker_new(gateway->keyring);
    gateway->ids_key = secret_new(SIPHASH_KEY_SIZE);
    r = gateway->aids != NULL && gateway->ids_key != NULL ? inspect_tables_init(err) : BH_E_NOMEM;
    if (r == 0) {
        os_random(gateway->ids_key, SIPHASH_KEY_SIZE);
    }
    r = r == 0 ? open_journal(gateway, snapshot, err) : r;
    r = r == 0 ? open_resolver(gateway, snapshot, err) : r;
    r = r == 0 ? cut_register_open(settings->data, &gateway->reg, err) : r;
    r = r == 0 ? dns_start(&gateway->dns) : r;
    if (r != 0) {
        return start_error(err, r, "the stages");
    }
    set_distinct(gateway, snapshot);
    for (unsigned i = 0; r == 0 && i < snapshot->vendor_count; i++) {
        r = add_vendor(gateway, snapshot, &snapshot->vendors[i], err);
    }
    return r;
}

static int start_threads(struct gateway *gateway, struct err *err) {
    int r = journal_start(gateway->journal);
    r = r == 0 ? resolver_start(gateway->resolver) : r;
    for (unsigned i = 0; r == 0 && i < gateway->vendor_count; i++) {
        r = start_vendor(&gateway->vendors[i]);
    }
    if (r == 0) {
        const struct settings *settings = atomic_load(&gateway->snapshot)->settings;
        r = http_peer_table_new(settings->connections + gateway->loop_count,
                                settings->connections_per_peer, &gateway->peers);
        gateway->proxy_count = settings->proxy_count;
        memcpy(gateway->proxies, settings->proxies, sizeof gateway->proxies);
    }
    set_flags(gateway, atomic_load(&gateway->snapshot));
    r = r == 0 ? flags_cache_new(&gateway->flags_cache) : r;
    for (unsigned i = 0; r == 0 && i < gateway->loop_count; i++) {
        r = loop_new(gateway, i, &gateway->loops[i], err);
    }
    r = r == 0 ? os_wake_open(&gateway->stop_fd) : r;
    r = r == 0 ? admin_new(gateway, err) : r;
    for (unsigned i = 0; r == 0 && i < gateway->loop_count; i++) {
        r = loop_start(gateway->loops[i]);
    }
    r = r == 0 ? os_thread_start(&gateway->keeper_thread, "keeper", 0, keeper_run, gateway) : r;
    r = r == 0 ? os_thread_start(&gateway->admin_thread, "admin", 0, admin_run, gateway) : r;
    r = r == 0 ? os_thread_start(&gateway->health_thread, "health", 0, health_run, gateway) : r;
    return r == 0 ? 0 : start_error(err, r, "the threads");
}

/* -- stop ----------------------------------------------------------------------------------------------------------------------- */

static void stop_threads(struct gateway *gateway) {
    atomic_store_explicit(&gateway->ready, false, memory_order_release);
    atomic_store_explicit(&gateway->stopping, true, memory_order_release);
    for (unsigned i = 0; i < gateway->loop_count; i++) {
        os_thread_join(&gateway->loops[i]->thread);
    }
    os_wake_signal(gateway->stop_fd);
    os_thread_join(&gateway->keeper_thread);
    journal_stop(gateway->journal);
    uint64_t grace_over = os_mono_us() + COURIER_GRACE_MS * (uint64_t)1000;
    for (unsigned i = 0; i < gateway->vendor_count; i++) {
        if (gateway->vendors[i].courier != NULL) {
            courier_stop_by(gateway->vendors[i].courier, grace_over);
        }
    }
    for (unsigned i = 0; i < gateway->vendor_count; i++) {
        if (gateway->vendors[i].courier != NULL) {
            courier_join(gateway->vendors[i].courier);
        }
    }
    resolver_stop(gateway->resolver);
    atomic_store_explicit(&gateway->loops_done, true, memory_order_release);
    os_thread_join(&gateway->admin_thread);
    os_thread_join(&gateway->health_thread);
}

static void release(struct gateway *gateway) {
    for (unsigned i = 0; i < gateway->loop_count; i++) {
        loop_free(gateway->loops[i]);
    }
    flags_cache_free(gateway->flags_cache);
    http_peer_table_free(gateway->peers);
    http_server_free(gateway->admin_server);
    http_server_free(gateway->health_server);
    for (unsigned i = 0; i < gateway->vendor_count; i++) {
        courier_free(gateway->vendors[i].courier);
    }
    dns_stop(gateway->dns);
    cut_register_free(gateway->reg);
    resolver_free(gateway->resolver);
    journal_free(gateway->journal);
    aid_maker_free(gateway->aids);
    secret_free(gateway->ids_key);
    keyring_free(gateway->keyring);
    snapshot_free(atomic_load(&gateway->snapshot));
}

static void wait_for_signals(struct gateway *gateway, int signals) {
    struct os_poller poller;
    if (os_poller_open(&poller) != 0 || os_poller_add(poller, signals, 0, OS_READY_IN) != 0) {
        return;
    }
    for (;;) {
        struct os_ready_event event;
        if (os_poller_wait(poller, &event, 1, -1) <= 0) {
            continue;
        }
        enum os_signal signal = os_signals_read(signals);
        if (signal == OS_SIGNAL_RELOAD) {
            struct err err = {0};
            if (gateway_reload(gateway, &err) != 0) {
                continue; /* said there; the old configuration stays in force */
            }
        } else if (signal == OS_SIGNAL_STOP) {
            break;
        }
    }
    os_poller_close(&poller);
}

int gateway_run(const struct gateway_options *options, struct err *err) {
    struct gateway *gateway = calloc(1, sizeof *gateway);
    struct snapshot *snapshot = NULL;
    int signals = -1;
    if (gateway == NULL) {
        return err_set(err, BH_E_NOMEM, "out of memory");
    }
    gateway->dir = options->dir;
    gateway->started_us = os_mono_us();
    gateway->stop_fd = -1;
    tap_init(&gateway->tap);
    os_lock_init(&gateway->config_lock, OS_LOCK_CONFIG);
    bool has_faults = false;
    int r = os_fault_from_environment(&has_faults, err);
    r = r == 0 ? crypto_init() : r;
    r = r == 0 ? os_process_harden(options->allow_core) : r;
    r = r == 0 ? os_signals_fd(&signals) : r;
    r = r == 0 ? snapshot_load(options->dir, &snapshot, err) : start_error(err, r, "the process");
    if (has_faults) {
        log_event(LOG_WARN, "disk faults are being injected; this is a build for tests",
                  LOG_INT("faults", 1));
    }
    if (r == 0) {
        atomic_store(&gateway->snapshot, snapshot);
        gateway->loop_count =
            /* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): r is 0 only with a snapshot */
            snapshot->settings->loops != 0 ? snapshot->settings->loops : os_cpu_count();
        gateway->loop_count = gateway->loop_count > LIMIT_LOOPS ? LIMIT_LOOPS : gateway->loop_count;
        r = os_dir_make(snapshot->settings->data);
        r = r == 0
                ? open_stages(gateway, err)
                : err_set(err, r, "cannot make %s: %s", snapshot->settings->data, bh_error_text(r));
    }
    if (r == 0) {
        r = start_threads(gateway, err);
    }
    if (r != 0) {
        return r; /* the process ends; recovery is the way back and nothing was accepted */
    }
    atomic_store_explicit(&gateway->ready, true, memory_order_release);
    log_event(LOG_INFO, "ready", LOG_WORD("ingest", snapshot->settings->listen_ingest),
              LOG_INT("port", http_server_port(gateway->loops[0]->server)),
              LOG_INT("loops", gateway->loop_count), LOG_INT("vendors", gateway->vendor_count));
    wait_for_signals(gateway, signals);
    log_event(LOG_INFO, "stopping", LOG_INT("durable_seq", journal_durable_seq(gateway->journal)));
    stop_threads(gateway);
    release(gateway);
    free(gateway);
    return 0;
}
