/* Status and metrics: the same facts, once as JSON for commands and once in Prometheus' text format. */
#include <stdlib.h>

#include "engine/json/json.h"
#include "gateway/gateway_int.h"
#include "os/clock.h"

static uint64_t sum_accepted(struct gateway *gateway, uint16_t source) {
    uint64_t sum = 0;
    for (unsigned i = 0; i < gateway->loop_count; i++) {
        sum += atomic_load_explicit(&gateway->loops[i]->counters.accepted[source],
                                    memory_order_relaxed);
    }
    return sum;
}

static uint64_t sum_refused(struct gateway *gateway, uint16_t source, unsigned reason) {
    uint64_t sum = 0;
    for (unsigned i = 0; i < gateway->loop_count; i++) {
        sum += atomic_load_explicit(&gateway->loops[i]->counters.refused[source][reason],
                                    memory_order_relaxed);
    }
    return sum;
}

bool gateway_is_ready(struct gateway *gateway) {
    return atomic_load_explicit(&gateway->ready, memory_order_acquire) &&
           !journal_is_out_of_space(gateway->journal);
}

static void status_sources(struct gateway *gateway, struct buf *out) {
    const struct settings *settings = atomic_load(&gateway->snapshot)->settings;
    buf_put_str(out, ",\"sources\":{");
    for (unsigned i = 0; i < settings->source_count; i++) {
        const struct settings_source *source = &settings->sources[i];
        uint64_t refused = 0;
        for (unsigned reason = 1; reason < REASON_LIMIT; reason++) {
            refused += sum_refused(gateway, source->number, reason);
        }
        buf_printf(out, "%s\"%s\":{\"accepted\":%llu,\"refused\":%llu}", i != 0 ? "," : "",
                   source->name, (unsigned long long)sum_accepted(gateway, source->number),
                   (unsigned long long)refused);
    }
    buf_put_byte(out, '}');
}

static void status_vendor(const struct gateway_vendor *vendor, const struct courier_status *s,
                          struct buf *out) {
    buf_printf(
        out,
        "\"%s\":{\"state\":\"%s\",\"backlog\":%llu,\"settled_seq\":%llu,\"delivered\":%llu,\"refused\":%llu,\"withheld\":%llu",
        vendor->name, vendor_state_word(s->state), (unsigned long long)s->backlog,
        (unsigned long long)s->settled_seq, (unsigned long long)s->accepted_events,
        (unsigned long long)s->refused_events, (unsigned long long)s->withheld_events);
    buf_printf(
        out,
        ",\"poison\":%llu,\"attempts\":%llu,\"retries\":%llu,\"bytes_sent\":%llu,\"last_status\":%u,\"last_success_ms\":%llu",
        (unsigned long long)s->poison_events, (unsigned long long)s->attempts,
        (unsigned long long)s->retries, (unsigned long long)s->bytes_sent, s->last_status,
        (unsigned long long)s->last_success_ms);
    buf_printf(
        out,
        ",\"retry_at_ms\":%llu,\"ledger_leaves\":%llu,\"contract\":%u,\"withheld_by_reason\":{",
        (unsigned long long)s->retry_at_ms, (unsigned long long)s->ledger_leaves, s->contract);
    bool first = true;
    for (unsigned reason = 1; reason < REASON_LIMIT; reason++) {
        if (s->withheld_by_reason[reason] != 0) {
            buf_printf(out, "%s\"%s\":%llu", first ? "" : ",", reason_word(reason),
                       (unsigned long long)s->withheld_by_reason[reason]);
            first = false;
        }
    }
    buf_put_byte(out, '}');
    if (s->parked_because[0] != '\0') {
        buf_put_str(out, ",\"parked_because\":");
        json_put_string(out, span_str(s->parked_because));
    }
    if (vendor->courier == NULL) {
        buf_put_str(out, ",\"out_of_service\":");
        json_put_string(out, span_str(vendor->damage.text));
    }
    buf_put_byte(out, '}');
}

/* since_ms: repeats of events from before it are not known; null: those of the whole window are. */
static void status_dedupe(struct gateway *gateway, struct buf *out) {
    struct resolver_stats s;
    resolver_stats(gateway->resolver, &s);
    buf_printf(out,
               ",\"dedupe\":{\"window_s\":%u,\"known\":%llu,\"repeats\":%llu,\"bytes\":%llu,"
               "\"since_ms\":",
               s.repeat_window_s, (unsigned long long)s.repeat_entries,
               (unsigned long long)s.repeat_events, (unsigned long long)s.repeat_bytes);
    if (s.repeat_since_us == 0) {
        buf_put_str(out, "null}");
    } else {
        buf_put_u64_dec(out, s.repeat_since_us / 1000);
        buf_put_byte(out, '}');
    }
}

void status_write(struct gateway *gateway, struct buf *out) {
    const struct settings *settings = atomic_load(&gateway->snapshot)->settings;
    struct journal_stats journal;
    journal_stats(gateway->journal, &journal);
    uint64_t forecast = journal_forecast_s(gateway->journal);
    buf_printf(out, "{\"ready\":%s,\"instance\":\"%s\",\"version\":\"%s\",\"uptime_s\":%llu",
               gateway_is_ready(gateway) ? "true" : "false", settings->instance, BULKHEAD_VERSION,
               (unsigned long long)((os_mono_us() - gateway->started_us) / 1000000));
    buf_printf(
        out,
        ",\"listen\":\"%s\",\"journal\":{\"durable_seq\":%llu,\"first_seq\":%llu,\"bytes\":%llu,\"out_of_space\":%s,\"forecast_s\":",
        settings->listen_ingest, (unsigned long long)journal_durable_seq(gateway->journal),
        (unsigned long long)journal_first_seq(gateway->journal),
        (unsigned long long)journal.bytes_on_disk,
        journal_is_out_of_space(gateway->journal) ? "true" : "false");
    if (forecast == UINT64_MAX) {
        buf_put_str(out, "null");
    } else {
        buf_put_u64_dec(out, forecast);
    }
    buf_printf(out, ",\"resolved_seq\":%llu}", (unsigned long long)resolver_seq(gateway->resolver));
    status_dedupe(gateway, out);
    status_sources(gateway, out);
    buf_put_str(out, ",\"vendors\":{");
    for (unsigned i = 0; i < gateway->vendor_count; i++) {
        struct courier_status status;
        gateway_vendor_status(gateway, &gateway->vendors[i], &status);
        if (i != 0) {
            buf_put_byte(out, ',');
        }
        status_vendor(&gateway->vendors[i], &status, out);
    }
    buf_put_str(out, "}}\n");
}

/* -- Prometheus ----------------------------------------------------------------------------------------------------------------- */

static void family(struct buf *out, const char *name, const char *type, const char *help) {
    buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void single(struct buf *out, const char *name, const char *type, const char *help,
                   uint64_t value) {
    family(out, name, type, help);
    buf_printf(out, "%s %llu\n", name, (unsigned long long)value);
}

static void metrics_ingest(struct gateway *gateway, struct buf *out) {
    const struct settings *settings = atomic_load(&gateway->snapshot)->settings;
    family(out, "bulkhead_events_accepted_total", "counter", "Events acknowledged, by source.");
    for (unsigned i = 0; i < settings->source_count; i++) {
        buf_printf(out, "bulkhead_events_accepted_total{source=\"%s\"} %llu\n",
                   settings->sources[i].name,
                   (unsigned long long)sum_accepted(gateway, settings->sources[i].number));
    }
    family(out, "bulkhead_events_refused_total", "counter",
           "Events not kept, by source and reason; an empty source is an unknown token.");
    for (unsigned i = 0; i <= settings->source_count; i++) {
        uint16_t number = i < settings->source_count ? settings->sources[i].number : 0;
        for (unsigned reason = 1; reason < REASON_LIMIT; reason++) {
            uint64_t count = sum_refused(gateway, number, reason);
            if (count != 0) {
                buf_printf(out, "bulkhead_events_refused_total{source=\"%s\",reason=\"%s\"} %llu\n",
                           number != 0 ? settings->sources[i].name : "", reason_word(reason),
                           (unsigned long long)count);
            }
        }
    }
    struct http_stats http = {0};
    uint64_t requests = 0;
    uint64_t overwritten = 0;
    uint64_t findings = 0;
    for (unsigned i = 0; i < gateway->loop_count; i++) {
        struct http_stats one;
        http_server_stats(gateway->loops[i]->server, &one);
        http.open_connections += one.open_connections;
        http.bad_requests += one.bad_requests;
        http.timeouts += one.timeouts;
        http.bytes_in += one.bytes_in;
        http.aborted += one.aborted;
        requests += one.requests;
        overwritten +=
            atomic_load_explicit(&gateway->loops[i]->counters.overwritten, memory_order_relaxed);
        findings +=
            atomic_load_explicit(&gateway->loops[i]->counters.findings, memory_order_relaxed);
    }
    single(out, "bulkhead_http_requests_total", "counter", "Whole requests read.", requests);
    single(out, "bulkhead_http_bad_requests_total", "counter",
           "Requests refused by the HTTP parser.", http.bad_requests);
    single(out, "bulkhead_http_timeouts_total", "counter", "Connections closed by a deadline.",
           http.timeouts);
    single(out, "bulkhead_http_received_bytes_total", "counter", "Bytes read from sockets.",
           http.bytes_in);
    single(out, "bulkhead_http_connections", "gauge", "Open connections.", http.open_connections);
    single(out, "bulkhead_inspect_findings_total", "counter", "Findings in accepted events.",
           findings);
    single(out, "bulkhead_inspect_overwritten_total", "counter",
           "Events in which a value was blanked before the journal.", overwritten);
}

static void metrics_journal(struct gateway *gateway, struct buf *out) {
    struct journal_stats j;
    journal_stats(gateway->journal, &j);
    single(out, "bulkhead_journal_durable_seq", "gauge", "Last durable event.",
           journal_durable_seq(gateway->journal));
    single(out, "bulkhead_journal_resolved_seq", "gauge", "Last event whose ids have numbers.",
           resolver_seq(gateway->resolver));
    single(out, "bulkhead_journal_bytes", "gauge", "Bytes of journal segments on disk.",
           j.bytes_on_disk);
    single(out, "bulkhead_journal_frames_total", "counter", "Frames written; one sync each.",
           j.frames);
    single(out, "bulkhead_journal_sync_microseconds_total", "counter", "Time spent in syncs.",
           j.sync_us_total);
    single(out, "bulkhead_journal_out_of_space", "gauge", "1 while no space could be reserved.",
           journal_is_out_of_space(gateway->journal));
    single(out, "bulkhead_ready", "gauge", "1 when events are taken.", gateway_is_ready(gateway));
    single(out, "bulkhead_memory_anonymous_bytes", "gauge", "Anonymous memory of the process.",
           os_process_rss_anon());
}

static void metrics_dedupe(struct gateway *gateway, struct buf *out) {
    struct resolver_stats s;
    resolver_stats(gateway->resolver, &s);
    single(out, "bulkhead_dedupe_repeats_total", "counter",
           "Accepted events that repeat one before: they count for no vendor.", s.repeat_events);
    single(out, "bulkhead_dedupe_known", "gauge", "Events whose repeats are known.",
           s.repeat_entries);
    single(out, "bulkhead_dedupe_bytes", "gauge", "Bytes of it on disk.", s.repeat_bytes);
    single(out, "bulkhead_dedupe_window_seconds", "gauge",
           "How long a repeat is known; 0: dedupe is off.", s.repeat_window_s);
    single(out, "bulkhead_dedupe_since_seconds", "gauge",
           "Repeats of what came before this time are not known; 0: those of the window are.",
           s.repeat_since_us / 1000000);
}

static void metrics_questions(struct gateway *gateway, const struct courier_status *s,
                              struct buf *out) {
    family(out, "bulkhead_vendor_questions_total", "counter",
           "Questions about flags handed to the network, by whether the answer came in time.");
    for (unsigned i = 0; i < gateway->vendor_count; i++) {
        buf_printf(out,
                   "bulkhead_vendor_questions_total{vendor=\"%s\",result=\"answered\"} %llu\n"
                   "bulkhead_vendor_questions_total{vendor=\"%s\",result=\"unanswered\"} %llu\n",
                   gateway->vendors[i].name, (unsigned long long)s[i].questions_answered,
                   gateway->vendors[i].name,
                   (unsigned long long)(s[i].questions - s[i].questions_answered));
    }
}

static void metrics_vendors(struct gateway *gateway, struct buf *out) {
    struct courier_status *s = calloc(LIMIT_VENDORS, sizeof *s);
    for (unsigned i = 0; s != NULL && i < gateway->vendor_count; i++) {
        gateway_vendor_status(gateway, &gateway->vendors[i], &s[i]);
    }
    if (s == NULL) {
        return;
    }
    family(out, "bulkhead_vendor_state", "gauge", "1 for the state that the vendor is in.");
    for (unsigned i = 0; i < gateway->vendor_count; i++) {
        for (unsigned state = VENDOR_ACTIVE; state <= VENDOR_CLOSED; state++) {
            bool is = s[i].state == state || (s[i].state == VENDOR_NEVER && state == VENDOR_CUT);
            buf_printf(out, "bulkhead_vendor_state{vendor=\"%s\",state=\"%s\"} %d\n",
                       gateway->vendors[i].name, vendor_state_word((enum vendor_state)state), is);
        }
    }
    family(out, "bulkhead_vendor_out_of_service", "gauge",
           "1 while nothing is sent because what is kept of the vendor is damaged.");
    for (unsigned i = 0; i < gateway->vendor_count; i++) {
        buf_printf(out, "bulkhead_vendor_out_of_service{vendor=\"%s\"} %d\n",
                   gateway->vendors[i].name, gateway->vendors[i].courier == NULL);
    }
    family(out, "bulkhead_vendor_backlog_events", "gauge",
           "Events accepted and not yet delivered or decided.");
    for (unsigned i = 0; i < gateway->vendor_count; i++) {
        buf_printf(out, "bulkhead_vendor_backlog_events{vendor=\"%s\"} %llu\n",
                   gateway->vendors[i].name, (unsigned long long)s[i].backlog);
    }
    family(out, "bulkhead_vendor_events_total", "counter", "Events by what became of them.");
    for (unsigned i = 0; i < gateway->vendor_count; i++) {
        const char *v = gateway->vendors[i].name;
        buf_printf(out, "bulkhead_vendor_events_total{vendor=\"%s\",result=\"accepted\"} %llu\n", v,
                   (unsigned long long)s[i].accepted_events);
        buf_printf(out, "bulkhead_vendor_events_total{vendor=\"%s\",result=\"refused\"} %llu\n", v,
                   (unsigned long long)s[i].refused_events);
        buf_printf(out, "bulkhead_vendor_events_total{vendor=\"%s\",result=\"withheld\"} %llu\n", v,
                   (unsigned long long)s[i].withheld_events);
        buf_printf(out, "bulkhead_vendor_events_total{vendor=\"%s\",result=\"poison\"} %llu\n", v,
                   (unsigned long long)s[i].poison_events);
    }
    family(out, "bulkhead_vendor_withheld_total", "counter",
           "Leaves and events withheld, by reason.");
    for (unsigned i = 0; i < gateway->vendor_count; i++) {
        for (unsigned reason = 1; reason < REASON_LIMIT; reason++) {
            if (s[i].withheld_by_reason[reason] != 0) {
                buf_printf(out,
                           "bulkhead_vendor_withheld_total{vendor=\"%s\",reason=\"%s\"} %llu\n",
                           gateway->vendors[i].name, reason_word(reason),
                           (unsigned long long)s[i].withheld_by_reason[reason]);
            }
        }
    }
    family(out, "bulkhead_vendor_attempts_total", "counter", "Requests handed to the network.");
    for (unsigned i = 0; i < gateway->vendor_count; i++) {
        buf_printf(out, "bulkhead_vendor_attempts_total{vendor=\"%s\"} %llu\n",
                   gateway->vendors[i].name, (unsigned long long)s[i].attempts);
    }
    family(out, "bulkhead_vendor_sent_bytes_total", "counter", "Body bytes handed to the network.");
    for (unsigned i = 0; i < gateway->vendor_count; i++) {
        buf_printf(out, "bulkhead_vendor_sent_bytes_total{vendor=\"%s\"} %llu\n",
                   gateway->vendors[i].name, (unsigned long long)s[i].bytes_sent);
    }
    metrics_questions(gateway, s, out);
    free(s);
}

void metrics_write(struct gateway *gateway, struct buf *out) {
    metrics_ingest(gateway, out);
    metrics_journal(gateway, out);
    metrics_dedupe(gateway, out);
    metrics_vendors(gateway, out);
}
