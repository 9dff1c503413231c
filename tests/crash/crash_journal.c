/*
 * Power loss under load: two writers and the real commit thread on a disk that loses and garbles
 * what was not synced.
 */
/* depends: journal inspect keyring seglog json model crypto os base */
/* sources: ../unit/journal_kit.c */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "unit/journal_kit.h"

#include "os/fault.h"
#include "os/log.h"
#include "os/socket.h"
#include "os/thread.h"

/*
 * A run is a child process: it opens the journal (recovering from the run before), and each of its
 * two threads puts random requests, tells the parent of each one through a pipe before it is put
 * and again when it is answered, until the disk loses power at a random changing operation. The
 * parent then reads the journal on a good disk: every answered request is there once, whole and in
 * its writer's order; whatever else is there was at least put; seqs have no hole.
 */
enum { WRITERS = 2, TICKETS_MAX = 20000, REQUESTS_A_RUN = 60, RUNS = 3 };

enum note_kind { NOTE_PUT = 1, NOTE_KEPT = 2, NOTE_DONE = 3 };
struct note {
    uint8_t kind;
    uint8_t writer;
    uint16_t ticket;
    uint32_t operations; /* of NOTE_DONE */
};

struct ledger {
    bool put[WRITERS][TICKETS_MAX];
    bool kept[WRITERS][TICKETS_MAX];
    unsigned next_ticket[WRITERS];
};

static struct ledger seen;

/* -- the child --------------------------------------------------------------------------------- */

struct load {
    struct journal *journal;
    unsigned writer;
    unsigned first_ticket;
    uint64_t seed;
    int out;
};

/* script/test sets BH_FULL always: 1 for the proof counts, 0 for the small ones. */
static bool is_full_count(void) {
    const char *full = getenv("BH_FULL");
    return full != NULL && strcmp(full, "1") == 0;
}

static void tell(int out, enum note_kind kind, unsigned writer, uint64_t ticket) {
    const struct note note = {(uint8_t)kind, (uint8_t)writer, (uint16_t)ticket, 0};
    if (write(out, &note, sizeof(note)) != (ssize_t)sizeof(note)) {
        _exit(93);
    }
}

static void tell_kept(void *context, uint64_t ticket, int result) {
    const struct load *load = (const struct load *)context;
    if (result == 0) {
        tell(load->out, NOTE_KEPT, load->writer, ticket);
    }
}

static void run_load(void *context) {
    struct load *load = (struct load *)context;
    struct journal_writer *writer = journal_writer_of(load->journal, load->writer);
    struct random_kit random = {load->seed};
    struct kit_request *request = kit_request_new();
    unsigned answered = 0;
    for (unsigned i = 0; i < REQUESTS_A_RUN; i++) {
        uint64_t ticket = load->first_ticket + i;
        size_t events = 1 + random_kit_below(&random, 20);
        bool is_large = random_kit_below(&random, 6) == 0;
        kit_request_fill(request, load->writer, ticket, events,
                         random_kit_below(&random, is_large ? 60000 : 800), &random);
        tell(load->out, NOTE_PUT, load->writer, ticket);
        while (journal_writer_put(writer, &request->request, request->events, events, ticket) !=
               0) {
            (void)os_wake_wait(journal_writer_wake_fd(writer), 1000);
            answered += journal_writer_complete(writer, tell_kept, load);
        }
        if (random_kit_below(&random, 3) != 0) {
            journal_writer_flush(writer);
        }
        if (random_kit_below(&random, 4) == 0) {
            (void)os_wake_wait(journal_writer_wake_fd(writer), 20);
        }
        answered += journal_writer_complete(writer, tell_kept, load);
    }
    journal_writer_flush(writer);
    while (answered < REQUESTS_A_RUN) {
        (void)os_wake_wait(journal_writer_wake_fd(writer), 1000);
        answered += journal_writer_complete(writer, tell_kept, load);
    }
    kit_request_free(request);
}

/*
 * Ends the process: 0 with the number of operations told when nothing was lost,
 * OS_FAULT_LOSS_STATUS else.
 */
static _Noreturn void run_child(const struct journal_config *config, const char *spec,
                                uint64_t seed, const unsigned *first_tickets, int out) {
    log_set_level(LOG_ERROR);
    struct err err = {0};
    struct journal *journal = NULL;
    if (os_fault_install(spec, &err) != 0) {
        _exit(90);
    }
    if (journal_open(config, &journal, NULL, &err) != 0) {
        (void)fprintf(stderr, "%s\n", err.text);
        _exit(91);
    }
    if (journal_start(journal) != 0) {
        _exit(92);
    }
    struct load loads[WRITERS];
    struct os_thread threads[WRITERS];
    for (unsigned i = 0; i < WRITERS; i++) {
        loads[i] = (struct load){journal, i, first_tickets[i], seed * 31 + i, out};
        if (os_thread_start(&threads[i], "load", 0, run_load, &loads[i]) != 0) {
            _exit(94);
        }
    }
    for (unsigned i = 0; i < WRITERS; i++) {
        os_thread_join(&threads[i]);
    }
    journal_free(journal);
    const struct note note = {NOTE_DONE, 0, 0, (uint32_t)os_fault_operations()};
    os_fault_remove();
    _exit(write(out, &note, sizeof(note)) == (ssize_t)sizeof(note) ? 0 : 95);
}

/* -- the parent -------------------------------------------------------------------------------- */

static void take_notes(int in, uint64_t *ret_operations) {
    struct note note;
    *ret_operations = 0;
    while (read(in, &note, sizeof(note)) == (ssize_t)sizeof(note)) {
        if (note.kind == NOTE_DONE) {
            *ret_operations = note.operations;
            continue;
        }
        assert_true(note.writer < WRITERS && note.ticket < TICKETS_MAX);
        bool *row = note.kind == NOTE_PUT ? seen.put[note.writer] : seen.kept[note.writer];
        row[note.ticket] = true;
        if (note.ticket >= seen.next_ticket[note.writer]) {
            seen.next_ticket[note.writer] = note.ticket + 1U;
        }
    }
}

static int run(const struct journal_config *config, uint64_t seed, uint64_t loss_at,
               uint64_t *ret_operations) {
    int ends[2];
    char spec[96];
    (void)snprintf(spec, sizeof(spec), "seed=%llu,garble=%u,loss_at=%llu", (unsigned long long)seed,
                   (unsigned)(seed & 1), (unsigned long long)loss_at);
    assert_int_equal(pipe(ends), 0);
    (void)fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        (void)close(ends[0]);
        run_child(config, spec, seed, seen.next_ticket, ends[1]);
    }
    (void)close(ends[1]);
    take_notes(ends[0], ret_operations);
    (void)close(ends[0]);
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    if (!WIFEXITED(status)) {
        fail_msg("the child ended by signal %d", WTERMSIG(status));
    }
    return WEXITSTATUS(status);
}

struct progress {
    uint64_t ticket; /* being read */
    size_t index;    /* of its next event; 0 = between requests */
    size_t count;
    uint64_t next; /* the lowest ticket that may come next */
};

static void check_event(struct progress *progress, const struct record_event *event,
                        bool *whole[WRITERS]) {
    unsigned writer;
    uint64_t ticket;
    size_t index;
    size_t count;
    assert_true(kit_event_read(event, &writer, &ticket, &index, &count));
    assert_true(writer < WRITERS && ticket < TICKETS_MAX);
    assert_true(seen.put[writer][ticket]);
    struct progress *p = &progress[writer];
    if (index == 0) {
        /* A request before this one that stopped half-way was never answered. */
        assert_true(p->index == 0 || !seen.kept[writer][p->ticket]);
        assert_true(ticket >= p->next);
        *p = (struct progress){ticket, 0, count, ticket + 1};
    }
    assert_int_equal(ticket, p->ticket);
    assert_int_equal(index, p->index);
    p->index = index + 1 == count ? 0 : index + 1;
    whole[writer][ticket] = whole[writer][ticket] || p->index == 0;
}

static void check_journal(struct journal *journal) {
    static bool whole_memory[WRITERS][TICKETS_MAX];
    memset(whole_memory, 0, sizeof(whole_memory));
    bool *whole[WRITERS] = {whole_memory[0], whole_memory[1]};
    struct progress progress[WRITERS] = {0};
    struct journal_reader *reader = NULL;
    struct journal_batch batch;
    uint64_t gap = 0;
    uint64_t seq = 1;
    int r;
    assert_int_equal(journal_reader_new(journal, 1, -1, &reader), 0);
    while ((r = journal_reader_next(reader, &batch, &gap)) == 0) {
        for (uint32_t i = 0; i < batch.count; i++, seq++) {
            assert_int_equal(batch.events[i].seq, seq);
            check_event(progress, &batch.events[i], whole);
        }
    }
    assert_int_equal(r, BH_E_AGAIN);
    assert_int_equal(seq, journal_durable_seq(journal) + 1);
    journal_reader_free(reader);
    for (unsigned w = 0; w < WRITERS; w++) {
        for (unsigned t = 0; t < TICKETS_MAX; t++) {
            if (seen.kept[w][t] && !whole[w][t]) {
                fail_msg("writer %u, ticket %u was answered and is not there", w, t);
            }
        }
    }
}

static unsigned count_kept(void) {
    unsigned count = 0;
    for (unsigned w = 0; w < WRITERS; w++) {
        for (unsigned t = 0; t < TICKETS_MAX; t++) {
            count += seen.kept[w][t] ? 1U : 0U;
        }
    }
    return count;
}

static void what_was_answered_survives_power_loss(void **state) {
    (void)state;
    uint64_t first = random_kit_seed(1);
    unsigned seeds = is_full_count() ? 500 : 40;
    unsigned losses = 0;
    unsigned kept = 0;
    for (uint64_t seed = first; seed < first + seeds; seed++) {
        char dir[128];
        char journal_dir[160];
        kit_dir_make(dir);
        struct keyring *keyring = kit_keyring(dir);
        struct journal_config config = kit_config(dir, keyring, journal_dir);
        config.chunk_pool = 8 * 1024 * 1024;
        struct random_kit random = {seed * 1000003};
        memset(&seen, 0, sizeof(seen));
        uint64_t operations = 0;
        /* One run without loss tells how many operations a run has. */
        assert_int_equal(run(&config, seed, 1000000000, &operations), 0);
        assert_true(operations > 20);
        for (unsigned i = 0; i < RUNS; i++) {
            uint64_t unused = 0;
            /* Now and then early, within recovery. */
            uint64_t limit = random_kit_below(&random, 4) == 0 ? 12 : operations;
            int status = run(&config, seed * 10 + i, 1 + random_kit_below(&random, limit), &unused);
            assert_true(status == 0 || status == OS_FAULT_LOSS_STATUS);
            losses += status != 0 ? 1U : 0U;
            struct journal *journal = kit_open(&config, NULL);
            check_journal(journal);
            journal_free(journal);
        }
        kept += count_kept();
        keyring_free(keyring);
        kit_dir_remove(dir);
    }
    printf("%u power losses, %u answered requests\n", losses, kept);
    assert_true(losses > seeds);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(what_was_answered_survives_power_loss)};
    return cmocka_run_group_tests_name("crash journal", tests, NULL, NULL);
}
