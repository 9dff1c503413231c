#define _GNU_SOURCE
#include "deliver_kit.h"

#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "journal_kit.h"

#include "os/clock.h"
#include "os/file.h"
#include "os/log.h"
#include "os/socket.h"
#include "protocol/wire/wire.h"

/* -- the vendor ------------------------------------------------------------------------------------------------------------------------- */

enum { BODY_MAX = 2 * 1024 * 1024 };

struct connection {
    struct kit_vendor *vendor;
    int fd;
    unsigned number;
    uint8_t *in;
    size_t n;
    uint8_t *plain;
};

void kit_status(struct kit_answer *answer, int status) {
    answer->status = status;
    (void)snprintf(answer->body, sizeof answer->body, "{\"code\":%d,\"error\":\"x\",\"status\":0}",
                   status);
}

void kit_accept(struct kit_vendor *vendor, const struct kit_post *post, struct kit_answer *answer) {
    (void)vendor;
    answer->status = 200;
    bool is_import = strncmp(post->path, "/import", 7) == 0;
    (void)snprintf(answer->body, sizeof answer->body,
                   is_import ? "{\"code\":200,\"num_records_imported\":%zu,\"status\":\"OK\"}"
                             : "{\"error\":null,\"status\":1,\"n\":%zu}",
                   post->item_count);
}

size_t kit_arrived(const struct kit_vendor *vendor, uint32_t from, uint32_t to) {
    size_t n = 0;
    for (uint32_t i = from; i < to; i++) {
        n += atomic_load(&vendor->arrived[i]) != 0;
    }
    return n;
}

void kit_vendor_settle(struct kit_vendor *v) {
    unsigned passes = atomic_load(&v->idle_passes);
    for (unsigned i = 0; i < 100000 && atomic_load(&v->idle_passes) - passes < 2; i++) {
        os_sleep_us(100);
    }
    for (unsigned i = 0;
         i < 10000 && !atomic_load(&v->hang_in_accept) && atomic_load(&v->open) != 0; i++) {
        os_sleep_us(100);
    }
    assert_true(atomic_load(&v->hang_in_accept) || atomic_load(&v->open) == 0);
}

size_t kit_accepted(const struct kit_vendor *vendor, uint32_t from, uint32_t to) {
    size_t n = 0;
    for (uint32_t i = from; i < to; i++) {
        n += atomic_load(&vendor->accepted[i]) != 0;
    }
    return n;
}

/* More bytes; false at the end. Waits while the vendor hangs. */
static bool read_more(struct connection *c) {
    for (;;) {
        if (atomic_load(&c->vendor->stopping)) {
            return false;
        }
        if (c->n == BODY_MAX) {
            return false;
        }
        long got = os_recv(c->fd, c->in + c->n, BODY_MAX - c->n);
        if (got > 0) {
            c->n += (size_t)got;
            atomic_fetch_add(&c->vendor->bytes, (uint64_t)got);
            return true;
        }
        if (got != BH_E_AGAIN) {
            return false;
        }
        os_sleep_us(100);
    }
}

static bool send_all(int fd, const char *p, size_t n) {
    while (n != 0) {
        long put = os_send(fd, p, n);
        if (put < 0 && put != BH_E_AGAIN) {
            return false;
        }
        p += put > 0 ? put : 0;
        n -= put > 0 ? (size_t)put : 0;
        if (put <= 0) {
            os_sleep_us(100);
        }
    }
    return true;
}

static size_t head_value(struct span head, const char *name) {
    size_t at = span_find(head, span_str(name));
    uint64_t value = 0;
    if (at == SIZE_MAX) {
        return 0;
    }
    struct span rest = span_trim(span_from(head, at + strlen(name)));
    size_t end = span_find_byte(rest, '\r');
    (void)!span_to_u64(span_cut(rest, 0, end == SIZE_MAX ? rest.n : end), &value);
    return (size_t)value;
}

static void read_items(struct kit_post *post) {
    struct span rest = post->plain;
    size_t at;
    while ((at = span_find(rest, SPAN_LIT("\"tokens\":"))) != SIZE_MAX &&
           post->item_count < KIT_ITEMS_MAX) {
        rest = span_from(rest, at + 9);
        uint32_t value = 0;
        for (size_t i = 0; i < rest.n && rest.p[i] >= '0' && rest.p[i] <= '9'; i++) {
            value = value * 10 + (uint32_t)(rest.p[i] - '0');
        }
        post->items[post->item_count++] = value % KIT_EVENTS;
    }
}

/* One request; false when the connection is over. (long because each way to misbehave is one case) */
static bool serve(struct connection *c, struct kit_post *post, struct kit_answer *answer) {
    struct kit_vendor *v = c->vendor;
    size_t head_end;
    while ((head_end = span_find(span_of(c->in, c->n), SPAN_LIT("\r\n\r\n"))) == SIZE_MAX) {
        if (!read_more(c)) {
            return false;
        }
    }
    head_end += 4;
    struct span head = span_of(c->in, head_end);
    size_t length = head_value(head, "Content-Length:");
    memset(post, 0, sizeof *post);
    post->time_us = os_mono_us();
    post->connection = c->number;
    size_t path_at = span_find_byte(head, ' ') + 1;
    struct span path = span_from(head, path_at);
    path = span_cut(path, 0, span_find_byte(path, ' '));
    (void)snprintf(post->path, sizeof post->path, "%.*s", (int)path.n, (const char *)path.p);
    (void)snprintf(post->head, sizeof post->head, "%.*s", (int)head.n, (const char *)head.p);
    while (atomic_load(&v->hang_in_body) && !atomic_load(&v->stopping)) {
        /* An end shows even behind bytes that nobody reads. */
        struct pollfd fd = {c->fd, POLLRDHUP, 0};
        if (poll(&fd, 1, 1) > 0) {
            return false;
        }
    }
    while (c->n == head_end && length != 0) {
        if (!read_more(c)) {
            return false;
        }
    }
    if (v->first_byte != NULL && length != 0) {
        v->first_byte(v);
    }
    while (c->n < head_end + length) {
        if (!read_more(c)) {
            return false;
        }
    }
    post->plain = span_of(c->in + head_end, length);
    (void)pthread_mutex_lock(&v->lock);
    if (!v->is_blind && length > 2 && c->in[head_end] == 0x1f) {
        struct buf out = buf_of(c->plain, BODY_MAX);
        post->plain = wire_gunzip(v->wire, post->plain, &out) == 0 ? buf_span(&out) : SPAN_NONE;
    }
    read_items(post);
    post->number = atomic_load(&v->posts) + 1;
    for (size_t i = 0; i < post->item_count; i++) {
        atomic_fetch_add(&v->arrived[post->items[i]], 1);
    }
    memset(answer, 0, offsetof(struct kit_answer, body));
    memset((char *)answer + offsetof(struct kit_answer, is_refusal), 0,
           sizeof *answer - offsetof(struct kit_answer, is_refusal));
    answer->body[0] = '\0';
    (v->behave != NULL ? v->behave : kit_accept)(v, post, answer);
    if (answer->status == 200 && !answer->hang && !answer->reset && !answer->is_refusal) {
        for (size_t i = 0; i < post->item_count; i++) {
            atomic_fetch_add(&v->accepted[post->items[i]], 1);
        }
    }
    atomic_fetch_add(&v->posts, 1);
    (void)pthread_mutex_unlock(&v->lock);
    size_t used = head_end + length;
    memmove(c->in, c->in + used, c->n - used);
    c->n -= used;
    if (answer->delay_ms != 0) {
        os_sleep_us(answer->delay_ms * 1000U);
    }
    if (answer->hang) {
        while (read_more(c)) {
        }
        return false;
    }
    if (answer->reset) {
        os_close_reset(c->fd);
        c->fd = -1;
        return false;
    }
    static _Thread_local char out[70000];
    int n = answer->raw
                ? snprintf(out, sizeof out, "%s", answer->body)
                : snprintf(out, sizeof out, "HTTP/1.1 %d X\r\nContent-Length: %zu\r\n%s\r\n%s",
                           answer->status, strlen(answer->body),
                           answer->headers != NULL ? answer->headers : "", answer->body);
    if (!send_all(c->fd, out, (size_t)n)) {
        return false;
    }
    if (answer->again != NULL) {
        os_sleep_us(answer->again_ms * 1000U);
        if (!send_all(c->fd, answer->again, strlen(answer->again))) {
            return false;
        }
    }
    return !answer->then_close;
}

static void *run_connection(void *context) {
    struct connection *c = context;
    struct kit_post *post = malloc(sizeof *post);
    struct kit_answer *answer = malloc(sizeof *answer);
    while (atomic_load(&c->vendor->hang_in_accept) && !atomic_load(&c->vendor->stopping)) {
        os_sleep_us(500);
    }
    while (serve(c, post, answer)) {
    }
    os_close(c->fd);
    atomic_fetch_sub(&c->vendor->open, 1);
    free(post);
    free(answer);
    free(c->in);
    free(c->plain);
    free(c);
    return NULL;
}

static void *run_vendor(void *context) {
    struct kit_vendor *v = context;
    while (!atomic_load(&v->stopping)) {
        struct os_peer peer;
        int fd = -1;
        int r = os_accept(v->listener, &fd, &peer);
        if (r != 0) {
            atomic_fetch_add(&v->idle_passes, 1);
            os_sleep_us(200);
            continue;
        }
        struct connection *c = calloc(1, sizeof *c);
        c->vendor = v;
        c->fd = fd;
        c->in = malloc(BODY_MAX);
        c->plain = malloc(BODY_MAX);
        c->number = atomic_fetch_add(&v->connections, 1) + 1;
        atomic_fetch_add(&v->open, 1);
        pthread_t thread;
        assert_int_equal(pthread_create(&thread, NULL, run_connection, c), 0);
        (void)pthread_detach(thread);
    }
    return NULL;
}

void kit_vendor_start(struct kit_vendor *v) {
    struct err err = {0};
    char address[32];
    int small = 16 * 1024;
    atomic_store(&v->stopping, false);
    (void)pthread_mutex_init(&v->lock, NULL);
    v->wire = v->wire != NULL ? v->wire : wire_new();
    (void)snprintf(address, sizeof address, "127.0.0.1:%u", v->port);
    assert_int_equal(os_listen(address, false, &v->listener, &err), 0);
    /* A small window, so that a body that is not read stops on the way. */
    assert_int_equal(setsockopt(v->listener, SOL_SOCKET, SO_RCVBUF, &small, sizeof small), 0);
    assert_int_equal(os_local_port(v->listener, &v->port), 0);
    assert_int_equal(pthread_create(&v->thread, NULL, run_vendor, v), 0);
}

void kit_vendor_stop(struct kit_vendor *v) {
    atomic_store(&v->stopping, true);
    (void)pthread_join(v->thread, NULL);
    os_close(v->listener);
    for (unsigned i = 0; atomic_load(&v->open) != 0 && i < 50000; i++) {
        os_sleep_us(100);
    }
    assert_int_equal(atomic_load(&v->open), 0);
    wire_free(v->wire);
    v->wire = NULL;
}

/* -- the world ------------------------------------------------------------------------------------------------------------------------------- */

static const char *plan_text =
    "events:\n  Step *: {}\nproperties:\n  tokens: { type: number }\ntraits:\n  tokens: { type: number }\n";
static const char *allow_text =
    "  user.unique_id: pseudonym\n  user.unique_id.pseudonymous: pseudonym\n  user.behavior: raw\n  system.operations: raw\n";
static kit_write_fn *write_text;
static uint8_t spoken = PROTOCOL_MIXPANEL;
static void (*show_to)(void *context, const struct tap_line *line);

void kit_use(const char *plan, const char *allow, kit_write_fn *write) {
    plan_text = plan;
    allow_text = allow;
    write_text = write;
}

void kit_speak(uint8_t protocol) {
    spoken = protocol;
}

void kit_show_to(void (*tap)(void *context, const struct tap_line *line)) {
    show_to = tap;
}

const char *kit_connector = "mixpanel";

static const struct resolve_source SOURCES[] = {{.number = 1, .trust_server = true}};
static const struct policy_source POLICY_SOURCES[] = {{1, "web", true}};
static const char *const SPACES[] = {""};

static void compile(struct kit_world *world) {
    char text[4096];
    struct err err = {0};
    (void)snprintf(
        text, sizeof text,
        "vendor: mixpanel\nconnector: %s\nendpoint: %s\ncredential: { env: KIT_TOKEN }\npurpose: analytics\nretention: 1d\n%s%s%s"
        "allow:\n%stime: second\nundeclared: hold\n%s",
        kit_connector, world->endpoint, world->ca[0] != '\0' ? "ca: " : "", world->ca,
        world->ca[0] != '\0' ? "\n" : "", allow_text, world->extra);
    int r = contract_load_text("contract", span_str(text), &world->contract, &err);
    r = r == 0 ? plan_load_text("plan", span_str(plan_text), &world->plan, &err) : r;
    r = r == 0 ? ruleset_compile(world->contract, world->plan, POLICY_SOURCES, 1, &world->ruleset,
                                 &err)
               : r;
    if (r != 0) {
        print_error("%s:%u:%u %s\n", err.file, err.line, err.column, err.text);
    }
    assert_int_equal(r, 0);
}

static void forget(struct kit_world *world) {
    ruleset_free(world->ruleset);
    plan_free(world->plan);
    contract_free(world->contract);
    world->ruleset = NULL;
    world->plan = NULL;
    world->contract = NULL;
}

static struct courier_rules rules_of(struct kit_world *world) {
    struct courier_rules rules = {.ruleset = world->ruleset,
                                  .sources = POLICY_SOURCES,
                                  .source_count = 1,
                                  .source_spaces = SPACES};
    contract_facts(world->contract, &rules.facts);
    return rules;
}

void kit_reload(struct kit_world *world) {
    struct err err = {0};
    forget(world);
    compile(world);
    struct courier_rules rules = rules_of(world);
    int r = courier_reload(world->courier, &rules, &err);
    if (r != 0) {
        print_error("reload: %s\n", err.text);
    }
    assert_int_equal(r, 0);
}

static void check_ok(int r, const struct err *err, const char *what) {
    if (r != 0) {
        print_error("%s: %d %s\n", what, r, err->text);
    }
    assert_int_equal(r, 0);
}

static void open_parts(struct kit_world *world) {
    char dir[200];
    struct err err = {0};
    world->keyring = kit_keyring(world->dir);
    world->aids = aid_maker_new(world->keyring);
    struct journal_config config = kit_config(world->dir, world->keyring, dir);
    config.chunk_pool = 16 * 1024 * 1024;
    world->journal = kit_open(&config, NULL);
    (void)snprintf(dir, sizeof dir, "%s/resolve", world->data);
    struct resolve_config resolve = {.dir = dir,
                                     .keyring = world->keyring,
                                     .journal = world->journal,
                                     .sources = SOURCES,
                                     .source_count = 1,
                                     .map_size = 1 << 28};
    check_ok(resolver_open(&resolve, &world->resolver, &err), &err, "resolver");
    check_ok(cut_register_open(world->data, &world->reg, &err), &err, "register");
    check_ok(dns_start(&world->dns), &err, "dns");
}

void kit_open_world(struct kit_world *world) {
    struct err err = {0};
    open_parts(world);
    compile(world);
    struct courier_rules rules = rules_of(world);
    struct courier_config courier = {
        .data_dir = world->data,
        .vendor = "mixpanel",
        .journal = world->journal,
        .resolver = world->resolver,
        .keyring = world->keyring,
        .reg = world->reg,
        .dns = world->dns,
        .aids = world->aids,
        .tap = show_to,
    };
    check_ok(courier_open(&courier, &rules, &world->courier, &err), &err, "courier");
    check_ok(journal_start(world->journal), &err, "journal");
    check_ok(resolver_start(world->resolver), &err, "resolver");
    check_ok(courier_start(world->courier), &err, "courier");
}

void kit_close_world(struct kit_world *world) {
    journal_stop(world->journal);
    courier_stop_by(world->courier, os_mono_us() + 100000);
    courier_join(world->courier);
    resolver_stop(world->resolver);
    courier_free(world->courier);
    dns_stop(world->dns);
    cut_register_free(world->reg);
    resolver_free(world->resolver);
    journal_free(world->journal);
    aid_maker_free(world->aids);
    keyring_free(world->keyring);
    forget(world);
    world->courier = NULL;
}

void kit_world_new(struct kit_world *world) {
    memset(world, 0, sizeof *world);
    (void)signal(SIGPIPE, SIG_IGN);
    assert_int_equal(setenv("KIT_TOKEN", "vendor_token", 1), 0);
    log_set_level(getenv("KIT_LOG") != NULL ? LOG_DEBUG : LOG_ERROR);
    kit_dir_make(world->dir);
    (void)snprintf(world->data, sizeof world->data, "%s/data", world->dir);
    kit_vendor_start(&world->vendor);
    (void)snprintf(world->endpoint, sizeof world->endpoint, "http://127.0.0.1:%u",
                   world->vendor.port);
    kit_open_world(world);
}

void kit_world_free(struct kit_world *world) {
    kit_close_world(world);
    kit_vendor_stop(&world->vendor);
    kit_dir_remove(world->dir);
}

void kit_restore(struct kit_world *world, bool replay) {
    struct err err = {0};
    check_ok(courier_restore(world->courier, replay, "test", "because", &err), &err, "restore");
}

static void done(void *context, uint64_t ticket, int result) {
    (void)ticket;
    assert_int_equal(result, 0);
    (*(unsigned *)context)++;
}

static size_t write_event(struct kit_world *world, enum event_kind kind, uint32_t number,
                          size_t filler, char *out, size_t cap) {
    if (write_text != NULL) {
        return write_text(number, out, cap);
    }
    uint64_t now = os_wall_us() / 1000000;
    char id[32];
    (void)snprintf(id, sizeof id, "user_%u", number % 97);
    (void)world;
    switch (kind) {
    case EVENT_PROFILE:
        return (size_t)snprintf(
            out, cap, "{\"$distinct_id\":\"%s\",\"$set\":{\"tokens\":%u,\"pad\":\"%0*d\"}}", id,
            number, (int)filler, 0);
    case EVENT_IDENTIFY:
        return (size_t)snprintf(
            out, cap,
            "{\"event\":\"$identify\",\"properties\":{\"distinct_id\":\"%s\",\"$anon_distinct_id\":\"a%u\",\"time\":%llu,\"tokens\":%u}}",
            id, number, (unsigned long long)now, number);
    case EVENT_TRACK:
    case EVENT_ALIAS:
    case EVENT_MERGE:
    case EVENT_GROUP:
        break;
    }
    return (size_t)snprintf(
        out, cap,
        "{\"event\":\"Step 1\",\"properties\":{\"distinct_id\":\"%s\",\"time\":%llu,\"$insert_id\":\"e%u\",\"tokens\":%u,\"pad\":\"%0*d\"}}",
        id, (unsigned long long)now, number, number, (int)filler, 0);
}

uint32_t kit_put_sized(struct kit_world *world, size_t n, enum event_kind kind, size_t filler) {
    enum { BATCH = 500 };
    static struct record_event events[BATCH];
    char *room = malloc(BATCH * (filler + 512));
    uint32_t first = world->next;
    struct journal_writer *writer = journal_writer_of(world->journal, 0);
    unsigned put = 0;
    unsigned answered = 0;
    while (n != 0) {
        size_t count = n < BATCH ? n : BATCH;
        struct record_request request = {.protocol = spoken,
                                         .kind = 1,
                                         .source = 1,
                                         .events = (uint16_t)count,
                                         .received_us = os_wall_us() - 2000000,
                                         .env = SPAN_LIT("{}")};
        for (size_t i = 0; i < count; i++) {
            char *text = room + i * (filler + 512);
            char id[32];
            size_t size = write_event(world, kind, world->next, filler, text, filler + 512);
            events[i] = (struct record_event){.kind = (uint8_t)kind,
                                              .time_ms = (int64_t)(os_wall_us() / 1000),
                                              .json = span_of(text, size)};
            (void)snprintf(id, sizeof id, "user_%u", world->next % 97);
            aid_make(world->aids, SPAN_NONE, span_str(id), &events[i].aid);
            events[i].flags = kind == EVENT_IDENTIFY ? EVENT_HAS_LINKS : 0;
            world->next++;
        }
        int r;
        while ((r = journal_writer_put(writer, &request, events, count, ++world->ticket)) ==
               BH_E_BUSY) {
            journal_writer_flush(writer);
            (void)journal_writer_complete(writer, done, &answered);
            os_sleep_us(200);
        }
        assert_int_equal(r, 0);
        journal_writer_flush(writer);
        put++;
        n -= count;
    }
    for (unsigned i = 0; answered < put && i < 100000; i++) {
        (void)journal_writer_complete(writer, done, &answered);
        os_sleep_us(100);
    }
    assert_int_equal(answered, put);
    free(room);
    return first;
}

uint32_t kit_put(struct kit_world *world, size_t n, enum event_kind kind) {
    return kit_put_sized(world, n, kind, 1);
}

struct courier_status kit_status_of(struct kit_world *world) {
    struct courier_status status;
    courier_status(world->courier, &status);
    return status;
}

bool kit_drained(struct kit_world *world, unsigned ms) {
    uint64_t until = os_mono_us() + ms * (uint64_t)1000;
    while (os_mono_us() < until) {
        if (kit_status_of(world).backlog == 0) {
            return true;
        }
        os_sleep_us(1000);
    }
    struct courier_status s = kit_status_of(world);
    print_error("not drained: state %s backlog %llu settled %llu attempts %llu status %u\n",
                vendor_state_word(s.state), (unsigned long long)s.backlog,
                (unsigned long long)s.settled_seq, (unsigned long long)s.attempts, s.last_status);
    return false;
}

bool kit_until_state(struct kit_world *world, enum vendor_state state, unsigned ms) {
    uint64_t until = os_mono_us() + ms * (uint64_t)1000;
    while (os_mono_us() < until) {
        if (kit_status_of(world).state == state) {
            return true;
        }
        os_sleep_us(1000);
    }
    return false;
}

bool kit_until(_Atomic unsigned *counter, unsigned n, unsigned ms) {
    uint64_t until = os_mono_us() + ms * (uint64_t)1000;
    while (os_mono_us() < until) {
        if (atomic_load(counter) >= n) {
            return true;
        }
        os_sleep_us(100);
    }
    return false;
}

struct sum_context {
    struct kit_sums sums;
    uint64_t last;
};

static void add_row(void *context, const struct ledger_row *row) {
    struct sum_context *c = context;
    c->sums.rows++;
    *(row->certain ? &c->sums.certain : &c->sums.possible) += row->events;
    c->sums.attempts += row->attempt != c->last;
    c->last = row->attempt;
}

struct kit_sums kit_ledger(struct kit_world *world) {
    char dir[200];
    struct err err = {0};
    struct ledger_reader *reader = NULL;
    struct sum_context c = {0};
    struct ledger_query query = {.to_ms = UINT64_MAX, .at_ms = UINT64_MAX};
    (void)snprintf(dir, sizeof dir, "%s/ledger", world->data);
    check_ok(ledger_reader_open(dir, "mixpanel", world->keyring, &reader, &err), &err, "reader");
    check_ok(ledger_scan(reader, &query, add_row, &c), &err, "scan");
    ledger_reader_close(reader);
    return c.sums;
}
