/*
 * What the tests of journal and resolver share: a folder, keys, requests whose content says who put
 * them, and a disk that fails on demand.
 *
 * An event's JSON names its writer, ticket and index, so that a reader can prove that it is there
 * once, whole and in order.
 */
#ifndef JOURNAL_KIT_H
#define JOURNAL_KIT_H

#include "flow/journal/journal.h"
#include "unit/random_kit.h"

/* A new folder below TMPDIR or /tmp, with data/ in it. */
void kit_dir_make(char out[128]);
/* Removes the folder and all in it. */
void kit_dir_remove(const char *dir);
/* Names every file of a folder with its size, sorted; returns the count. */
struct kit_file {
    char name[64];
    uint64_t size;
};
size_t kit_files(const char *dir, struct kit_file *files, size_t cap);
void kit_copy_dir(const char *from, const char *to);

struct keyring *kit_keyring(const char *dir);

/* Defaults for a small journal in dir/journal without a reserve. */
struct journal_config kit_config(const char *dir, struct keyring *keyring, char journal_dir[160]);
struct journal *kit_open(const struct journal_config *config,
                         struct journal_recovery *ret_recovery);

/*
 * A request that can be recognised. Memory is static; valid until the next call from the same
 * thread.
 */
enum { KIT_EVENTS_MAX = 64, KIT_SOURCE_BASE = 10 };
struct kit_request {
    struct record_request request;
    struct record_event events[KIT_EVENTS_MAX];
    size_t count;
    struct finding findings[4];
    char *memory;
};
struct kit_request *kit_request_new(void);
void kit_request_free(struct kit_request *request);
/*
 * pad: bytes of filler in each event; random filler when `random` is given (it does not compress),
 * else repeated text.
 */
void kit_request_fill(struct kit_request *request, unsigned writer, uint64_t ticket, size_t events,
                      size_t pad, struct random_kit *random);
/* Reads back who put an event; false when it is not whole. */
bool kit_event_read(const struct record_event *event, unsigned *ret_writer, uint64_t *ret_ticket,
                    size_t *ret_index, size_t *ret_count);

/*
 * Waits until the writer's requests are answered; results go to `results` by ticket. Fails the test
 * after 20 s.
 */
void kit_wait(struct journal_writer *writer, unsigned requests, int *results, size_t results_cap);

/* -- a disk that fails ------------------------------------------------------------------------- */

/*
 * Counts the calls of each kind from kit_disk_install on; the n-th of the chosen kind (and, when
 * `stays`, all later ones) fails with errno.
 */
enum kit_call { KIT_WRITE, KIT_SYNC, KIT_RESERVE, KIT_TRUNCATE, KIT_OPEN, KIT_RENAME, KIT_CALLS };
struct kit_disk {
    enum kit_call call;
    uint64_t nth; /* from 1; 0 = never */
    bool stays;
    int error; /* errno */
};
void kit_disk_install(const struct kit_disk *disk);
void kit_disk_set(const struct kit_disk *disk); /* NULL: heals; counting goes on */
uint64_t kit_disk_count(enum kit_call call);
void kit_disk_remove(void);

#endif
