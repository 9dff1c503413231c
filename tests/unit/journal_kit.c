#define _GNU_SOURCE
#include "journal_kit.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "model/class.h"
#include "os/clock.h"
#include "os/file.h"
#include "os/socket.h"

/* -- folders ----------------------------------------------------------------------------------- */

void kit_dir_make(char out[128]) {
    const char *tmp = getenv("TMPDIR");
    (void)snprintf(out, 128, "%s/journal-test-XXXXXX", tmp != NULL ? tmp : "/tmp");
    assert_non_null(mkdtemp(out));
    char data[160];
    (void)snprintf(data, sizeof(data), "%s/data", out);
    assert_int_equal(mkdir(data, 0700), 0);
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const struct kit_file *)a)->name, ((const struct kit_file *)b)->name);
}

size_t kit_files(const char *dir, struct kit_file *files, size_t cap) {
    DIR *d = opendir(dir);
    if (d == NULL) {
        return 0;
    }
    size_t count = 0;
    for (struct dirent *entry = readdir(d); entry != NULL; entry = readdir(d)) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) {
            continue;
        }
        assert_true(count < cap && strlen(entry->d_name) < sizeof(files[0].name));
        char path[512];
        (void)snprintf(path, sizeof(path), "%s/%s", dir, entry->d_name);
        struct stat st;
        assert_int_equal(lstat(path, &st), 0);
        (void)snprintf(files[count].name, sizeof(files[count].name), "%.63s", entry->d_name);
        files[count].size = (uint64_t)st.st_size;
        count++;
    }
    (void)closedir(d);
    qsort(files, count, sizeof(*files), by_name);
    return count;
}

void kit_dir_remove(const char *dir) {
    struct kit_file *files = (struct kit_file *)calloc(1024, sizeof(*files));
    assert_non_null(files);
    size_t count = kit_files(dir, files, 1024);
    for (size_t i = 0; i < count; i++) {
        char path[512];
        (void)snprintf(path, sizeof(path), "%s/%s", dir, files[i].name);
        struct stat st;
        assert_int_equal(lstat(path, &st), 0);
        if (S_ISDIR(st.st_mode)) {
            kit_dir_remove(path);
        } else {
            (void)unlink(path);
        }
    }
    free(files);
    (void)rmdir(dir);
}

static void copy_file(const char *from, const char *to) {
    int in = open(from, O_RDONLY);
    int out = open(to, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(in >= 0 && out >= 0);
    static _Thread_local char block[65536];
    ssize_t n;
    while ((n = read(in, block, sizeof(block))) > 0) {
        assert_int_equal(write(out, block, (size_t)n), n);
    }
    assert_int_equal(n, 0);
    (void)close(in);
    (void)close(out);
}

void kit_copy_dir(const char *from, const char *to) {
    (void)mkdir(to, 0700);
    struct kit_file *files = (struct kit_file *)calloc(1024, sizeof(*files));
    assert_non_null(files);
    size_t count = kit_files(from, files, 1024);
    for (size_t i = 0; i < count; i++) {
        char a[512];
        char b[512];
        (void)snprintf(a, sizeof(a), "%.400s/%.63s", from, files[i].name);
        (void)snprintf(b, sizeof(b), "%.400s/%.63s", to, files[i].name);
        copy_file(a, b);
    }
    free(files);
}

/* -- keys and journals ------------------------------------------------------------------------- */

struct keyring *kit_keyring(const char *dir) {
    assert_int_equal(crypto_init(), 0);
    char key[160];
    char data[160];
    (void)snprintf(key, sizeof(key), "%s/master.key", dir);
    (void)snprintf(data, sizeof(data), "%s/data", dir);
    struct err err = {0};
    if (access(key, F_OK) != 0) {
        assert_int_equal(keyring_master_create(key, &err), 0);
    }
    const struct keyring_source source = {.file = key};
    struct keyring *keyring = NULL;
    int r = keyring_open(data, data, &source, true, 7, &keyring, &err);
    if (r != 0) {
        print_error("keyring: %s\n", err.text);
    }
    assert_int_equal(r, 0);
    return keyring;
}

struct journal_config kit_config(const char *dir, struct keyring *keyring, char journal_dir[160]) {
    (void)snprintf(journal_dir, 160, "%s/data/journal", dir);
    return (struct journal_config){.dir = journal_dir,
                                   .keyring = keyring,
                                   .segment_size = JOURNAL_SEGMENT_MIN,
                                   .max_bytes = 64 * JOURNAL_SEGMENT_MIN,
                                   .keep_us = (uint64_t)7 * 24 * 3600 * 1000000,
                                   .writers = 2,
                                   .chunk_pool = 4 * 1024 * 1024,
                                   .reserve = JOURNAL_NO_RESERVE};
}

struct journal *kit_open(const struct journal_config *config,
                         struct journal_recovery *ret_recovery) {
    struct journal *journal = NULL;
    struct err err = {0};
    struct journal_recovery recovery = {0};
    int r = journal_open(config, &journal, &recovery, &err);
    if (r != 0) {
        print_error("journal_open: %d %s\n", r, err.text);
    }
    assert_int_equal(r, 0);
    if (ret_recovery != NULL) {
        *ret_recovery = recovery;
    }
    return journal;
}

/* -- requests ---------------------------------------------------------------------------------- */

enum { REQUEST_MEMORY = 12 * 1024 * 1024 };

struct kit_request *kit_request_new(void) {
    struct kit_request *request = (struct kit_request *)calloc(1, sizeof(*request));
    assert_non_null(request);
    request->memory = (char *)malloc(REQUEST_MEMORY);
    assert_non_null(request->memory);
    return request;
}

void kit_request_free(struct kit_request *request) {
    free(request->memory);
    free(request);
}

static void fill_pad(struct buf *b, size_t pad, struct random_kit *random) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    static const char text[] = "the quick brown fox jumps over the lazy dog ";
    uint8_t *at = buf_room(b, pad);
    assert_non_null(at);
    for (size_t i = 0; i < pad; i++) {
        at[i] = (uint8_t)(random != NULL ? digits[random_kit_next(random) & 63]
                                         : text[i % (sizeof(text) - 1)]);
    }
}

void kit_request_fill(struct kit_request *request, unsigned writer, uint64_t ticket, size_t events,
                      size_t pad, struct random_kit *random) {
    assert_true(events >= 1 && events <= KIT_EVENTS_MAX);
    struct buf b = buf_of(request->memory, REQUEST_MEMORY);
    request->request = (struct record_request){.protocol = PROTOCOL_MIXPANEL,
                                               .kind = 3,
                                               .source = (uint16_t)(KIT_SOURCE_BASE + writer),
                                               .detectors = 1,
                                               .events = (uint16_t)events,
                                               .received_us = 1700000000000000U + ticket,
                                               .skew_ms = -5,
                                               .peer = {1, 2, 3},
                                               .env = SPAN_LIT("{\"path\":\"/track\"}")};
    for (int i = 0; i < 4; i++) {
        request->findings[i] =
            (struct finding){(uint16_t)(i + 1), (uint16_t)(i + CLASS_NAME), FOUND_BY_KEY,
                             (uint32_t)i * 1000, i == 3 ? FINDING_WHOLE : (uint32_t)i * 70000};
    }
    for (size_t i = 0; i < events; i++) {
        size_t start = b.n;
        buf_printf(&b, "{\"w\":%u,\"t\":%llu,\"i\":%zu,\"n\":%zu,\"pad\":\"", writer,
                   (unsigned long long)ticket, i, events);
        fill_pad(&b, pad, random);
        buf_put_str(&b, "\"}");
        assert_false(b.full);
        struct record_event *event = &request->events[i];
        *event = (struct record_event){.kind = EVENT_TRACK,
                                       .flags = EVENT_NO_TIME,
                                       .time_ms = (int64_t)(1700000000000 + (int64_t)ticket),
                                       .dedupe = ticket * 1000 + i,
                                       .ids = (ticket + i) % 3 == 0 ? 0 : UINT64_MAX - i,
                                       .findings = request->findings,
                                       .finding_count = (uint16_t)((ticket + i) % 5),
                                       .json = span_of(b.p + start, b.n - start)};
        memset(event->aid.b, (int)(1 + i), sizeof(event->aid.b));
    }
    request->count = events;
}

bool kit_event_read(const struct record_event *event, unsigned *ret_writer, uint64_t *ret_ticket,
                    size_t *ret_index, size_t *ret_count) {
    char head[128];
    size_t n = event->json.n < sizeof(head) - 1 ? event->json.n : sizeof(head) - 1;
    memcpy(head, event->json.p, n);
    head[n] = '\0';
    unsigned long long ticket = 0;
    if (sscanf(head, "{\"w\":%u,\"t\":%llu,\"i\":%zu,\"n\":%zu,", ret_writer, &ticket, ret_index,
               ret_count) != 4) {
        return false;
    }
    *ret_ticket = ticket;
    bool is_whole = event->json.n > 2 && memcmp(event->json.p + event->json.n - 2, "\"}", 2) == 0;
    return is_whole && event->dedupe == ticket * 1000 + *ret_index &&
           event->finding_count == (ticket + *ret_index) % 5 && event->aid.b[5] == 1 + *ret_index &&
           event->time_ms == (int64_t)(1700000000000 + ticket);
}

/* -- answers ----------------------------------------------------------------------------------- */

struct answers {
    int *results;
    size_t cap;
};

static void take_answer(void *context, uint64_t ticket, int result) {
    struct answers *answers = (struct answers *)context;
    if (answers->results != NULL) {
        assert_true(ticket < answers->cap);
        answers->results[ticket] = result;
    }
}

void kit_wait(struct journal_writer *writer, unsigned requests, int *results, size_t results_cap) {
    struct answers answers = {results, results_cap};
    uint64_t until = os_mono_us() + 20000000;
    unsigned done = journal_writer_complete(writer, take_answer, &answers);
    while (done < requests) {
        assert_true(os_mono_us() < until);
        (void)os_wake_wait(journal_writer_wake_fd(writer), 1000);
        done += journal_writer_complete(writer, take_answer, &answers);
    }
    assert_int_equal(done, requests);
}

/* -- a disk that fails ------------------------------------------------------------------------- */

static const struct os_file_ops *real;
static struct kit_disk plan;
static _Atomic bool plan_is_set;
static _Atomic uint64_t calls[KIT_CALLS];
static _Atomic uint64_t hits;

static bool fails(enum kit_call call) {
    uint64_t n = atomic_fetch_add(&calls[call], 1) + 1;
    if (!atomic_load(&plan_is_set) || plan.nth == 0 || call != plan.call ||
        (plan.stays ? n < plan.nth : n != plan.nth)) {
        return false;
    }
    atomic_fetch_add(&hits, 1);
    errno = plan.error;
    return true;
}

static long kit_pwrite(int fd, const void *p, size_t n, long offset) {
    return fails(KIT_WRITE) ? -1 : real->pwrite(fd, p, n, offset);
}

static int kit_fdatasync(int fd) {
    return fails(KIT_SYNC) ? -1 : real->fdatasync(fd);
}

static int kit_fallocate(int fd, long offset, long n) {
    return fails(KIT_RESERVE) ? -1 : real->fallocate(fd, offset, n);
}

static int kit_ftruncate(int fd, long n) {
    return fails(KIT_TRUNCATE) ? -1 : real->ftruncate(fd, n);
}

static int kit_open_file(const char *path, int flags, unsigned mode) {
    return fails(KIT_OPEN) ? -1 : real->open(path, flags, mode);
}

static int kit_rename(const char *from, const char *to) {
    return fails(KIT_RENAME) ? -1 : real->rename(from, to);
}

void kit_disk_install(const struct kit_disk *disk) {
    static struct os_file_ops ops;
    real = os_file_real_ops();
    ops = *real;
    ops.pwrite = kit_pwrite;
    ops.fdatasync = kit_fdatasync;
    ops.fallocate = kit_fallocate;
    ops.ftruncate = kit_ftruncate;
    ops.open = kit_open_file;
    ops.rename = kit_rename;
    for (int i = 0; i < KIT_CALLS; i++) {
        atomic_store(&calls[i], 0);
    }
    kit_disk_set(disk);
    os_file_install(&ops);
}

void kit_disk_set(const struct kit_disk *disk) {
    atomic_store(&plan_is_set, false);
    if (disk != NULL) {
        plan = *disk;
        atomic_store(&plan_is_set, true);
    }
}

uint64_t kit_disk_count(enum kit_call call) {
    return atomic_load(&calls[call]);
}

void kit_disk_remove(void) {
    os_file_install(NULL);
}
