/*
 * The courier's thread and what others may ask of it.
 *
 *   NEVER, CUT --courier_restore--> RETRYING --whole answer--> ACTIVE --no answer, 408, 425, 429, 5xx--> RETRYING
 *        ^                             |                          |--401, 403, 404, 3xx twice, refuses everything--> PARKED
 *        +--------courier_cut----------+--------------------------+            |--probe accepted, new credential or endpoint--> RETRYING
 *
 * The thread's loop does one thing at a time and looks at the gate's state in between; it waits in courier_wait (wakes: journal, dns,
 * control) or in curl_multi_poll (wakes: control). Whatever it was doing, a cut has already closed the way out when it notices.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "crypto/crypto.h"
#include "flow/deliver/deliver_int.h"
#include "os/clock.h"
#include "os/log.h"
#include "os/socket.h"

enum {
    COURIER_MAGIC = 0x434f5552,
    STACK_SIZE = 256 * 1024,
    PROBE_US = 5 * 60 * 1000 * 1000,
    IDLE_MS = 60 * 1000,
    RESOLVER_POLL_MS = 5,
    FAILURE_WAIT_MS = 5000,
};

/* -- waiting ---------------------------------------------------------------------------------------------------------------------------- */

bool courier_is_stopping(const struct courier *courier) {
    return atomic_load_explicit(&courier->stopping, memory_order_acquire);
}

bool courier_grace_is_over(const struct courier *courier) {
    return courier_is_stopping(courier) &&
           os_mono_us() >= atomic_load_explicit(&courier->stop_until_us, memory_order_acquire);
}

uint64_t courier_tick(struct courier *courier, uint64_t ms_max) {
    int64_t wait = ledger_tick(courier->ledger, os_wall_us() / 1000);
    if (wait < 0) {
        /* No space: its lines wait, and nothing new is sent without one. */
        log_event(LOG_ERROR, "the ledger cannot be written", LOG_WORD("vendor", courier->vendor),
                  LOG_INT("code", wait));
        wait = 1000;
    }
    if (courier_is_stopping(courier) && ms_max > 20) {
        ms_max = 20;
    }
    return (uint64_t)wait < ms_max ? (uint64_t)wait + 1 : ms_max;
}

void courier_wait(struct courier *courier, uint64_t ms) {
    uint64_t until = os_mono_us() + ms * 1000;
    for (;;) {
        uint64_t left = courier_tick(courier, ms);
        if (courier_is_stopping(courier) || os_wake_wait(courier->wake_fd, (int)left)) {
            return;
        }
        uint64_t now = os_mono_us();
        if (now >= until) {
            return;
        }
        ms = (until - now) / 1000 + 1;
    }
}

/* Under the gate's lock, from any thread. */
static void wake(void *context) {
    struct courier *courier = context;
    os_wake_signal(courier->wake_fd);
    if (courier->transfer.multi != NULL) {
        (void)curl_multi_wakeup(courier->transfer.multi);
    }
}

static void fatal_register(const struct courier *courier, int code) {
    log_event(LOG_ERROR, "cut register write or sync failed; ending at once, recovery decides",
              LOG_WORD("vendor", courier->vendor), LOG_INT("code", code));
    os_process_end(3);
}

/* -- parking ------------------------------------------------------------------------------------------------------------------------------ */

void courier_park(struct courier *courier, uint16_t status, const char *why) {
    char text[COURIER_WHY] = {0};
    char answer[24] = "";
    if (status != 0) {
        (void)snprintf(answer, sizeof answer, " (status %u)", status);
    }
    (void)snprintf(text, sizeof text, "%s%s", why, answer);
    courier->probe_us = os_mono_us() + PROBE_US;
    delivery_pause(courier);
    os_lock(&courier->gate.lock);
    memcpy(courier->parked_because, text, sizeof text);
    os_unlock(&courier->gate.lock);
    if (!gate_move(&courier->gate, VENDOR_PARKED)) {
        return;
    }
    log_event(LOG_ERROR, "vendor parked", LOG_WORD("vendor", courier->vendor),
              LOG_INT("status", status));
    int r = ledger_state(courier->ledger, VENDOR_PARKED, "bulkhead", text);
    if (r != 0) {
        log_event(LOG_ERROR, "the parking is not in the ledger",
                  LOG_WORD("vendor", courier->vendor), LOG_INT("code", r));
    }
}

static void unpark(struct courier *courier) {
    courier->delivery.retry_us = 0;
    courier->delivery.failures = 0;
    if (gate_move(&courier->gate, VENDOR_RETRYING)) {
        log_event(LOG_INFO, "vendor is tried again", LOG_WORD("vendor", courier->vendor));
    }
}

static bool read_credential(struct courier *courier, bool *ret_changed, struct err *err) {
    int r = credentials_read(courier->rules, &courier->credential, &courier->proxy_login,
                             ret_changed, err);
    bool has_login = courier->rules->egress.proxy_credential_kind == CREDENTIAL_NONE ||
                     courier->proxy_login.bytes != NULL;
    courier->has_credential = r == 0 || (courier->credential.bytes != NULL && has_login);
    return courier->has_credential;
}

static void probe(struct courier *courier) {
    uint64_t now = os_mono_us();
    if (now < courier->probe_us) {
        courier_wait(courier, (courier->probe_us - now) / 1000 + 1);
        return;
    }
    bool changed = false;
    struct err err = {0};
    courier->probe_us = now + PROBE_US;
    if (!read_credential(courier, &changed, &err)) {
        return;
    }
    if (changed || delivery_probe(courier)) {
        unpark(courier);
    }
}

/* -- control, as the courier sees it -------------------------------------------------------------------------------------------------------- */

static void take_rules(struct courier *courier) {
    os_lock(&courier->gate.lock);
    struct rules *next = courier->next_rules;
    courier->next_rules = NULL;
    os_unlock(&courier->gate.lock);
    if (next == NULL) {
        return;
    }
    bool is_elsewhere = strcmp(next->endpoint, courier->rules->endpoint) != 0 ||
                        strcmp(next->ca_file, courier->rules->ca_file) != 0 ||
                        !egress_equal(&next->egress, &courier->rules->egress);
    courier->rules = next;
    rules_drop_older(next);
    bool changed = false;
    struct err err = {0};
    if (gate_state_is_open(gate_state(&courier->gate))) {
        (void)read_credential(courier, &changed, &err);
        if (is_elsewhere) {
            transfer_close(courier);
        }
        if ((is_elsewhere || changed) && courier->has_credential &&
            gate_state(&courier->gate) != VENDOR_ACTIVE) {
            unpark(courier);
        }
    }
    /* What was read under the old rules is judged again; delivery does it itself with a window that it has begun. */
    window_forget_next(courier);
    courier->shown_until = courier->window.next_seq;
    if (delivery_is_idle(courier)) {
        courier->shown_until = courier->window.first_seq;
        window_begin(courier, courier->window.first_seq);
    }
}

struct restoring {
    struct courier *courier;
    const struct restore_request *request;
};

/* Under the gate's lock: all lines, then the register; only then may bytes leave. */
static int commit_restore(void *context) {
    const struct restoring *restoring = context;
    struct courier *courier = restoring->courier;
    const struct restore_request *request = restoring->request;
    int r = ledger_state(courier->ledger, VENDOR_RETRYING, request->who, request->why);
    if (r != 0) {
        return err_set(request->err, r, "the ledger of %s cannot be written: %s", courier->vendor,
                       bh_error_text(r));
    }
    r = cut_register_write(courier->config.reg, courier->vendor, VENDOR_ACTIVE, true);
    if (r == BH_E_FULL) {
        return err_set(request->err, r, "the cut register has room for %d vendors only",
                       LIMIT_VENDORS);
    }
    if (r != 0) {
        fatal_register(courier, r);
    }
    return 0;
}

/* Of a vendor to which nothing may leave: no connection, no memory, all that is known written. */
static void put_away(struct courier *courier) {
    if (!courier->is_resting) {
        transfer_close(courier);
        delivery_abandon(courier);
        window_release(courier);
        courier->is_resting = true;
    }
}

static int discard(struct courier *courier, const struct restore_request *request) {
    uint64_t durable = journal_durable_seq(courier->config.journal);
    uint64_t from = courier->window.first_seq;
    if (durable < from) {
        return 0;
    }
    struct ledger_reason_count reason = {REASON_DISCARDED, durable + 1 - from};
    int r =
        ledger_passed(courier->ledger, from, durable + 1 - from, &reason, 1, request->who, true);
    if (r != 0) {
        return err_set(request->err, r, "the discarding cannot be recorded: %s", bh_error_text(r));
    }
    courier->window.first_seq = durable + 1;
    return 0;
}

static int do_restore(struct courier *courier, const struct restore_request *request) {
    bool changed = false;
    put_away(courier); /* the cut may have been noticed only now */
    int r = credentials_read(courier->rules, &courier->credential, &courier->proxy_login, &changed,
                             request->err);
    if (r != 0) {
        return r;
    }
    courier->has_credential = true;
    if (!request->replay) {
        r = discard(courier, request);
    }
    struct restoring restoring = {courier, request};
    r = r == 0 ? gate_reopen(&courier->gate, VENDOR_RETRYING, commit_restore, &restoring) : r;
    courier->window.skip_final = true;
    window_begin(courier, courier->window.first_seq);
    return r;
}

static void answer_restore(struct courier *courier, struct restore_request *request, int result) {
    os_lock(&courier->gate.lock);
    request->result = result;
    request->is_done = true;
    courier->restore = NULL;
    os_cond_signal_all(&courier->restored);
    os_unlock(&courier->gate.lock);
}

static void take_restore(struct courier *courier) {
    os_lock(&courier->gate.lock);
    struct restore_request *request = courier->restore;
    os_unlock(&courier->gate.lock);
    if (request != NULL) {
        answer_restore(courier, request, do_restore(courier, request));
    }
}

/* At the end of the thread: who asks from now on gets no answer of it either. */
static void refuse_restore(struct courier *courier) {
    os_lock(&courier->gate.lock);
    courier->has_ended = true;
    struct restore_request *request = courier->restore;
    os_unlock(&courier->gate.lock);
    if (request != NULL) {
        answer_restore(courier, request,
                       err_set(request->err, BH_E_CLOSED, "the daemon is stopping"));
    }
}

/* -- the loop -------------------------------------------------------------------------------------------------------------------------------- */

/* How long the window's first event has waited: since it was read, and when nothing more is there to be read, since it arrived. */
static uint64_t waited_ms(const struct window *window, bool is_caught_up) {
    uint64_t waited = (os_mono_us() - window->opened_us) / 1000;
    uint64_t wall = os_wall_us();
    uint64_t age = wall > window->received_us ? (wall - window->received_us) / 1000 : 0;
    return is_caught_up && age > waited ? age : waited;
}

/* Nothing waits: no memory is needed, and there is nothing to be behind with. */
static void settle_down(struct courier *courier) {
    if (courier->has_permit) {
        window_release(courier);
    }
    if (courier->delivery.failures == 0 && gate_state(&courier->gate) == VENDOR_RETRYING) {
        (void)gate_move(&courier->gate, VENDOR_ACTIVE);
    }
}

/* The window is closed when full, or when its first event has waited long enough. */
static void gather(struct courier *courier) {
    struct window *window = &courier->window;
    int r = window_fill(courier, window, WINDOW_EVENTS);
    if (r == 0) {
        return;
    }
    if (r == BH_E_BUSY) {
        courier_wait(courier, 20);
        return;
    }
    if (r != BH_E_AGAIN) {
        log_event(LOG_ERROR, "events cannot be read or judged; tried again",
                  LOG_WORD("vendor", courier->vendor), LOG_INT("code", r));
        courier->batch.count = courier->batch_at = 0;
        courier_wait(courier, FAILURE_WAIT_MS);
        return;
    }
    bool is_caught_up = window->next_seq > journal_durable_seq(courier->config.journal);
    uint64_t wait = IDLE_MS;
    if (window->opened_us != 0) {
        uint64_t waited = waited_ms(window, is_caught_up);
        if (waited >= LINGER_MS) {
            window_close(courier, window);
            return;
        }
        wait = LINGER_MS - waited;
    } else if (is_caught_up) {
        settle_down(courier);
    }
    /* Events that are there wait for the resolver, which wakes nobody. */
    courier_wait(courier, !is_caught_up && wait > RESOLVER_POLL_MS ? RESOLVER_POLL_MS : wait);
}

static void step(struct courier *courier) {
    take_rules(courier);
    take_restore(courier);
    questions_step(courier);
    enum vendor_state state = gate_state(&courier->gate);
    if (!gate_state_is_open(state)) {
        put_away(courier);
        courier_wait(courier, IDLE_MS);
        return;
    }
    courier->is_resting = false;
    if (!courier->has_credential && state != VENDOR_PARKED) {
        courier_park(courier, 0, "no credential");
        return;
    }
    if (state == VENDOR_PARKED) {
        probe(courier);
        return;
    }
    uint64_t now = os_mono_us();
    if (courier->delivery.retry_us > now) {
        courier_wait(courier, (courier->delivery.retry_us - now) / 1000 + 1);
        return;
    }
    if (courier->window.closed || !delivery_is_idle(courier)) {
        delivery_step(courier);
    } else {
        gather(courier);
    }
    (void)courier_tick(courier, 0);
}

static void run(void *context) {
    struct courier *courier = context;
    check(courier->magic == COURIER_MAGIC);
    if (courier->config.nice) {
        os_thread_set_nice(OS_NICE_LOW);
    }
    while (!courier_is_stopping(courier)) {
        step(courier);
    }
    refuse_restore(courier);
    delivery_abandon(courier);
    transfer_close(courier);
    int r = ledger_flush(courier->ledger);
    if (r != 0) {
        log_event(LOG_ERROR, "the ledger cannot be written", LOG_WORD("vendor", courier->vendor),
                  LOG_INT("code", r));
    }
}

/* -- opening ----------------------------------------------------------------------------------------------------------------------------------- */

/* What a courier has beside the bodies; see docs/adr/0042-deliver-memory.md. */
_Static_assert(2 * (WINDOW_EVENTS * (sizeof(struct window_item) + sizeof(uint16_t)) +
                    sizeof(union window_work)) +
                       WINDOW_EVENTS *
                           (sizeof(uint64_t) + sizeof(uint32_t) + sizeof(struct suspect)) +
                       SPREAD_SLOTS * sizeof(struct spread_slot) + sizeof(struct outcome_slot) <=
                   (size_t)512 * 1024,
               "a courier's tables");

static int map_buffers(struct courier *courier) {
    size_t tokens = LIMIT_EVENT_TOKENS * sizeof *courier->tokens;
    size_t packed = wire_gzip_bound(ITEMS_MAX) / 4096 * 4096 + 4096;
    courier->body = buf_of(os_memory_map(packed), packed);
    courier->spread = os_memory_map(SPREAD_SLOTS * sizeof *courier->spread);
    courier->seqs = os_memory_map(WINDOW_EVENTS * sizeof *courier->seqs);
    courier->refused = os_memory_map(WINDOW_EVENTS * sizeof *courier->refused);
    courier->delivery.suspects = os_memory_map(WINDOW_EVENTS * sizeof *courier->delivery.suspects);
    courier->delivery.last = os_memory_map(sizeof *courier->delivery.last);
    bool good = courier->body.p != NULL && courier->spread != NULL && courier->seqs != NULL &&
                courier->refused != NULL && courier->delivery.suspects != NULL &&
                courier->delivery.last != NULL;
    if (good) {
        courier->tokens = (struct json_token *)(void *)(courier->body.p + packed - tokens);
    }
    int r = good ? window_init(&courier->window) : BH_E_NOMEM;
    r = r == 0 ? window_init(&courier->next) : r;
    r = r == 0 ? questions_init(&courier->questions) : r;
    return r == 0 ? transfer_init(&courier->transfer) : r;
}

static void unmap(void *p, size_t size) {
    if (p != NULL) {
        os_memory_unmap(p, size);
    }
}

static void unmap_buffers(struct courier *courier) {
    unmap(courier->body.p, courier->body.cap);
    unmap(courier->spread, SPREAD_SLOTS * sizeof *courier->spread);
    unmap(courier->seqs, WINDOW_EVENTS * sizeof *courier->seqs);
    unmap(courier->refused, WINDOW_EVENTS * sizeof *courier->refused);
    unmap(courier->delivery.suspects, WINDOW_EVENTS * sizeof *courier->delivery.suspects);
    unmap(courier->delivery.last, sizeof *courier->delivery.last);
    window_fini(&courier->window);
    window_fini(&courier->next);
    questions_fini(&courier->questions);
    transfer_fini(&courier->transfer);
}

static struct rules_config rules_config_of(struct courier *courier, uint32_t ledger_contract) {
    return (struct rules_config){
        .data_dir = courier->data_dir,
        .vendor = courier->vendor,
        .ledger = courier->ledger,
        .ledger_contract = ledger_contract,
        .first_free_seq = journal_durable_seq(courier->config.journal) + 1,
        .journal_first = journal_first_seq(courier->config.journal),
        .has_history = cut_register_was_restored(courier->config.reg, courier->vendor),
    };
}

/* A vendor that is new begins with the events to come. */
static int adopt(struct courier *courier, const struct ledger_recovery *recovery, struct err *err) {
    uint64_t durable = journal_durable_seq(courier->config.journal);
    if (recovery->leaves != 0) {
        return 0;
    }
    int r = durable != 0 ? ledger_passed(courier->ledger, 1, durable, NULL, 0, "adoption", true)
                         : ledger_flush(courier->ledger);
    return r == 0 ? 0 : err_set(err, r, "ledger of %s: %s", courier->vendor, bh_error_text(r));
}

static int open_ledger(struct courier *courier, const struct courier_rules *rules,
                       struct err *err) {
    char dir[COURIER_PATH + 16];
    (void)snprintf(dir, sizeof dir, "%s/ledger", courier->data_dir);
    struct ledger_config config = {
        .dir = dir, .vendor = courier->vendor, .keyring = courier->config.keyring};
    struct ledger_recovery recovery = {0};
    int r = ledger_open(&config, &courier->ledger, &recovery, err);
    r = r == 0 ? adopt(courier, &recovery, err) : r;
    if (r != 0) {
        return r;
    }
    struct rules_config rules_config = rules_config_of(courier, recovery.contract);
    r = rules_open(&rules_config, rules, &courier->rules, err);
    courier->all_rules = courier->rules;
    courier->delivery.may_resume = recovery.attempts_without_outcome != 0;
    uint64_t settled = ledger_settled_seq(courier->ledger);
    courier->window.first_seq = settled != 0 ? settled : 1;
    log_event(LOG_INFO, "ledger open", LOG_WORD("vendor", courier->vendor),
              LOG_INT("log", recovery.log_number), LOG_INT("leaves", recovery.leaves),
              LOG_INT("cursor", courier->window.first_seq),
              LOG_INT("without_outcome", recovery.attempts_without_outcome));
    return r;
}

static int open_parts(struct courier *courier, struct err *err) {
    struct vendor_keys keys;
    int r = keyring_vendor(courier->config.keyring, courier->vendor, &keys, err);
    if (r != 0) {
        return r;
    }
    courier->wire = wire_new();
    r = courier->wire != NULL ? map_buffers(courier) : BH_E_NOMEM;
    r = r == 0 ? policy_new(&keys, courier->config.aids, keyring_instance(courier->config.keyring),
                            &courier->policy)
               : r;
    r = r == 0 ? resolve_view_new(courier->config.resolver, &courier->view) : r;
    r = r == 0 ? journal_reader_new(courier->config.journal, courier->window.first_seq,
                                    courier->wake_fd, &courier->reader)
               : r;
    return r == 0 ? 0 : err_set(err, r, "courier of %s: %s", courier->vendor, bh_error_text(r));
}

static enum vendor_state stored_state(struct courier *courier) {
    enum vendor_state state = cut_register_state(courier->config.reg, courier->vendor);
    return state == VENDOR_ACTIVE ? VENDOR_RETRYING : state;
}

int courier_open(const struct courier_config *config, const struct courier_rules *rules,
                 struct courier **ret_courier, struct err *err) {
    struct courier *courier = calloc(1, sizeof *courier);
    if (courier == NULL) {
        return err_set(err, BH_E_NOMEM, "out of memory");
    }
    courier->magic = COURIER_MAGIC;
    courier->config = *config;
    courier->wake_fd = -1;
    courier->window_max = WINDOW_EVENTS;
    (void)snprintf(courier->data_dir, sizeof courier->data_dir, "%s", config->data_dir);
    (void)snprintf(courier->vendor, sizeof courier->vendor, "%s", config->vendor);
    os_cond_init(&courier->restored);
    vendor_gate_init(&courier->gate, stored_state(courier), wake, courier);
    int r = curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK ? 0 : BH_E_NOMEM;
    r = r == 0 ? os_wake_open(&courier->wake_fd) : r;
    r = r == 0 ? open_ledger(courier, rules, err)
               : err_set(err, r, "courier of %s: %s", courier->vendor, bh_error_text(r));
    r = r == 0 ? open_parts(courier, err) : r;
    if (r != 0) {
        courier_free(courier);
        return r;
    }
    if (gate_state_is_open(courier->gate.state)) {
        bool changed = false;
        struct err missing = {0};
        if (!read_credential(courier, &changed, &missing)) {
            log_event(LOG_ERROR, "the credential of this vendor is missing",
                      LOG_WORD("vendor", courier->vendor));
        }
    }
    courier->window.skip_final = true;
    window_begin(courier, courier->window.first_seq);
    *ret_courier = courier;
    return 0;
}

int courier_start(struct courier *courier) {
    check(courier->magic == COURIER_MAGIC && !courier->is_started);
    int r = os_thread_start(&courier->thread, "courier", STACK_SIZE, run, courier);
    courier->is_started = r == 0;
    return r;
}

void courier_stop_by(struct courier *courier, uint64_t mono_us) {
    check(courier->magic == COURIER_MAGIC);
    atomic_store_explicit(&courier->stop_until_us, mono_us, memory_order_release);
    atomic_store_explicit(&courier->stopping, true, memory_order_release);
    os_lock(&courier->gate.lock);
    wake(courier);
    os_unlock(&courier->gate.lock);
}

void courier_join(struct courier *courier) {
    check(courier->magic == COURIER_MAGIC);
    check(!courier->is_started || courier_is_stopping(courier));
    if (courier->is_started) {
        os_thread_join(&courier->thread);
        courier->is_started = false;
    }
}

void courier_free(struct courier *courier) {
    if (courier == NULL) {
        return;
    }
    check(courier->magic == COURIER_MAGIC && !courier->is_started);
    transfer_close(courier);
    journal_reader_free(courier->reader);
    resolve_view_free(courier->view);
    policy_free(courier->policy);
    courier_free_translators(courier);
    wire_free(courier->wire);
    ledger_close(courier->ledger);
    rules_free(courier->all_rules);
    secret_free(courier->credential.bytes);
    secret_free(courier->proxy_login.bytes);
    if (courier->has_permit) {
        memory_permit_give();
    }
    unmap_buffers(courier);
    if (courier->config.dns != NULL && courier->wake_fd >= 0) {
        dns_forget_wake(courier->config.dns, courier->wake_fd);
    }
    os_close(courier->wake_fd);
    gate_fini(&courier->gate);
    os_cond_fini(&courier->restored);
    curl_global_cleanup();
    courier->magic = 0;
    free(courier);
}

/* -- control, as others see it ---------------------------------------------------------------------------------------------------------------- */

int courier_reload(struct courier *courier, const struct courier_rules *rules, struct err *err) {
    check(courier->magic == COURIER_MAGIC);
    struct rules *next = NULL;
    struct rules *newest = courier->all_rules;
    struct rules_config config = rules_config_of(courier, newest->sets[newest->count - 1].number);
    int r = rules_next(&config, rules, newest, &next, err);
    if (r != 0) {
        return r;
    }
    os_lock(&courier->gate.lock);
    courier->all_rules = next;
    courier->next_rules = next;
    wake(courier);
    os_unlock(&courier->gate.lock);
    return 0;
}

int courier_cut(struct courier *courier, const char *who, const char *why, uint64_t *ret_us,
                uint64_t *ret_durable_us) {
    check(courier->magic == COURIER_MAGIC);
    uint64_t start = os_mono_us();
    if (gate_state(&courier->gate) == VENDOR_CLOSED) {
        return BH_E_STATE;
    }
    *ret_us = gate_cut(&courier->gate);
    int r = cut_register_write(courier->config.reg, courier->vendor, VENDOR_CUT, false);
    if (r == BH_E_FULL) {
        return r;
    }
    if (r != 0) {
        fatal_register(courier, r);
    }
    *ret_durable_us = os_mono_us() - start;
    r = ledger_state(courier->ledger, VENDOR_CUT, who, why);
    if (r != 0) {
        log_event(LOG_ERROR, "the cut is in force and durable, but not in the ledger",
                  LOG_WORD("vendor", courier->vendor), LOG_INT("code", r));
    }
    return 0;
}

int courier_restore(struct courier *courier, bool replay, const char *who, const char *why,
                    struct err *err) {
    check(courier->magic == COURIER_MAGIC);
    enum vendor_state state = gate_state(&courier->gate);
    if (gate_state_is_open(state)) {
        return err_set(err, BH_E_STATE, "%s is %s, not cut", courier->vendor,
                       vendor_state_word(state));
    }
    if (state == VENDOR_CLOSED) {
        return err_set(err, BH_E_STATE, "%s is closed", courier->vendor);
    }
    struct restore_request request = {.replay = replay, .who = who, .why = why, .err = err};
    if (!courier->is_started) {
        return do_restore(courier, &request);
    }
    os_lock(&courier->gate.lock);
    while (courier->restore != NULL) {
        (void)os_cond_wait(&courier->restored, &courier->gate.lock, UINT64_MAX);
    }
    if (courier->has_ended) {
        os_unlock(&courier->gate.lock);
        return err_set(err, BH_E_CLOSED, "the daemon is stopping");
    }
    courier->restore = &request;
    wake(courier);
    while (!request.is_done) {
        (void)os_cond_wait(&courier->restored, &courier->gate.lock, UINT64_MAX);
    }
    os_unlock(&courier->gate.lock);
    return request.result;
}

int courier_gap(struct courier *courier, uint64_t from_seq, uint64_t until_seq) {
    check(courier->magic == COURIER_MAGIC);
    uint64_t settled = ledger_settled_seq(courier->ledger);
    from_seq = settled > from_seq ? settled : from_seq;
    if (from_seq >= until_seq) {
        return 0;
    }
    struct ledger_reason_count reason = {REASON_GAP, until_seq - from_seq};
    return ledger_passed(courier->ledger, from_seq, until_seq - from_seq, &reason, 1, "bulkhead",
                         true);
}

struct ledger *courier_ledger(struct courier *courier) {
    return courier->ledger;
}

void courier_status(struct courier *courier, struct courier_status *ret_status) {
    check(courier->magic == COURIER_MAGIC);
    struct courier_counters *c = &courier->counters;
    memset(ret_status, 0, sizeof *ret_status);
    os_lock(&courier->gate.lock);
    ret_status->state = courier->gate.state;
    if (courier->gate.state == VENDOR_PARKED) {
        memcpy(ret_status->parked_because, courier->parked_because, COURIER_WHY);
    }
    ret_status->contract = courier->all_rules->sets[courier->all_rules->count - 1].number;
    ret_status->budget = courier->all_rules->backlog_max;
    os_unlock(&courier->gate.lock);
    uint64_t settled = ledger_settled_seq(courier->ledger);
    uint64_t durable = journal_durable_seq(courier->config.journal);
    settled = settled != 0 ? settled : 1;
    ret_status->settled_seq = settled;
    ret_status->backlog = durable + 1 > settled ? durable + 1 - settled : 0;
#define READ(name) ret_status->name = atomic_load_explicit(&c->name, memory_order_relaxed)
    READ(attempts);
    READ(accepted_events);
    READ(refused_events);
    READ(withheld_events);
    READ(poison_events);
    READ(retries);
    READ(bytes_sent);
    READ(questions);
    READ(questions_answered);
    READ(last_success_ms);
    READ(last_status);
    READ(retry_at_ms);
    for (unsigned i = 0; i < REASON_LIMIT; i++) {
        READ(withheld_by_reason[i]);
    }
#undef READ
    ret_status->ledger_leaves = ledger_leaf_count(courier->ledger);
}
