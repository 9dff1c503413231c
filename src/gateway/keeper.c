/*
 * The keeper: what must be done now and then and may never stand in an event's way. Journal retention with its recorded gaps, and the alarm
 * with a forecast when the journal nears its maximum.
 */
#include "gateway/gateway_int.h"
#include "os/clock.h"
#include "os/log.h"
#include "os/socket.h"

enum { KEEPER_PERIOD_MS = 2000, FORECAST_ALARM_S = 72 * 3600, ALARM_EVERY_US = 600 * 1000 * 1000 };

static int record_gap(void *context, const char *vendor, uint64_t from_seq, uint64_t until_seq) {
    struct gateway *gateway = context;
    struct gateway_vendor *v = gateway_find_vendor(gateway, span_str(vendor));
    if (v == NULL) {
        return BH_E_NOTFOUND;
    }
    log_event(LOG_ERROR, "backlog lapsed: the disk budget of this vendor is used",
              LOG_WORD("vendor", v->name), LOG_INT("from_seq", from_seq),
              LOG_INT("until_seq", until_seq));
    return courier_gap(v->courier, from_seq, until_seq);
}

static void retain(struct gateway *gateway, uint64_t *alarm_after_us) {
    struct journal_settlement settlements[LIMIT_VENDORS + 1];
    size_t count = 0;
    for (unsigned i = 0; i < gateway->vendor_count; i++) {
        struct courier_status status;
        const struct gateway_vendor *vendor = &gateway->vendors[i];
        gateway_vendor_status(gateway, vendor, &status);
        /* Of a vendor out of service nothing lapses: there is no ledger that could say so. */
        settlements[count++] = (struct journal_settlement){
            vendor->courier != NULL ? vendor->name : NULL, status.settled_seq, status.budget};
    }
    /* The resolver holds segments back like a vendor, but never lapses: its lag is milliseconds. */
    settlements[count++] =
        (struct journal_settlement){NULL, resolver_settled_seq(gateway->resolver), 0};
    int64_t freed = journal_retain(gateway->journal, settlements, count, record_gap, gateway);
    if (freed > 0) {
        log_event(LOG_INFO, "journal segments dropped", LOG_INT("bytes", freed));
    } else if (freed < 0) {
        log_event(LOG_ERROR, "journal retention failed", LOG_INT("code", freed));
    }
    uint64_t forecast = journal_forecast_s(gateway->journal);
    uint64_t now = os_mono_us();
    if (forecast < FORECAST_ALARM_S && now >= *alarm_after_us) {
        *alarm_after_us = now + ALARM_EVERY_US;
        log_event(LOG_WARN, "journal will reach its maximum", LOG_INT("in_seconds", forecast));
    }
}

void keeper_run(void *context) {
    struct gateway *gateway = context;
    uint64_t alarm_after_us = 0;
    os_thread_set_nice(OS_NICE_IDLE);
    while (!atomic_load_explicit(&gateway->stopping, memory_order_acquire)) {
        if (!os_wake_wait(gateway->stop_fd, KEEPER_PERIOD_MS)) {
            retain(gateway, &alarm_after_us);
        }
    }
}
