/* Sealed: an id as the SDK sent it can be read with its slot, and with nothing else that lies on the disk. */
/* depends: resolve journal inspect keyring seglog protocol mixpanel wire json model crypto os base */
/* sources: journal_kit.c */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "unit/journal_kit.h"

#include "flow/resolve/resolve.h"
#include "os/clock.h"
#include "os/file.h"

enum { SLOT_SIZE = 32, SLOT_HEADER_SIZE = 4096 }; /* docs/format/resolve.md */

static const char ID[] = "jane.roe@example.com";

struct fixture {
    char dir[128];
    char resolve_dir[200];
    struct keyring *keyring;
    struct journal *journal;
    struct resolver *resolver;
    struct aid_maker *aids;
};

static void open_resolver(struct fixture *f) {
    static const struct resolve_source sources[] = {{.number = 1}};
    struct err err = {0};
    struct resolve_config config = {.dir = f->resolve_dir,
                                    .keyring = f->keyring,
                                    .journal = f->journal,
                                    .sources = sources,
                                    .source_count = 1,
                                    .map_size = 64 * 1024 * 1024};
    assert_int_equal(resolver_open(&config, &f->resolver, &err), 0);
}

static int set_up(void **state) {
    char journal_dir[160];
    struct fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    kit_dir_make(f->dir);
    (void)snprintf(f->resolve_dir, sizeof f->resolve_dir, "%s/data/resolve", f->dir);
    f->keyring = kit_keyring(f->dir);
    f->aids = aid_maker_new(f->keyring);
    struct journal_config config = kit_config(f->dir, f->keyring, journal_dir);
    f->journal = kit_open(&config, NULL);
    assert_int_equal(journal_start(f->journal), 0);
    open_resolver(f);
    *state = f;
    return 0;
}

static int tear_down(void **state) {
    struct fixture *f = *state;
    resolver_free(f->resolver);
    journal_free(f->journal);
    aid_maker_free(f->aids);
    keyring_free(f->keyring);
    kit_dir_remove(f->dir);
    free(f);
    return 0;
}

/* One event about ID, journalled and resolved. */
static void resolve_one(struct fixture *f) {
    char json[200];
    int n = snprintf(json, sizeof json,
                     "{\"event\":\"Step\",\"properties\":{\"distinct_id\":\"%s\"}}", ID);
    struct record_event event = {.kind = EVENT_TRACK, .json = span_of(json, (size_t)n)};
    struct record_request request = {.protocol = PROTOCOL_MIXPANEL,
                                     .kind = 1,
                                     .source = 1,
                                     .events = 1,
                                     .received_us = os_wall_us()};
    struct journal_writer *writer = journal_writer_of(f->journal, 0);
    int result = 1;
    aid_make(f->aids, SPAN_NONE, span_str(ID), &event.aid);
    assert_int_equal(journal_writer_put(writer, &request, &event, 1, 0), 0);
    journal_writer_flush(writer);
    kit_wait(writer, 1, &result, 1);
    assert_int_equal(result, 0);
    assert_int_equal(resolver_start(f->resolver), 0);
    for (unsigned i = 0; i < 20000 && resolver_seq(f->resolver) < 1; i++) {
        os_sleep_us(1000);
    }
    assert_int_equal(resolver_seq(f->resolver), 1);
    resolver_stop(f->resolver);
}

/* 0 and the text of ord 1, or an error. */
static int read_text(struct fixture *f, struct buf *out) {
    struct resolve_view *view = NULL;
    assert_int_equal(resolve_view_new(f->resolver, &view), 0);
    assert_int_equal(resolve_view_begin(view), 0);
    int r = resolve_id_text(view, 1, out);
    resolve_view_end(view);
    resolve_view_free(view);
    return r;
}

static bool holds(const char *path, struct span wanted) {
    struct os_file file = OS_FILE_NONE;
    uint64_t size = 0;
    size_t n = 0;
    assert_int_equal(os_file_open(path, OS_OPEN_READ, &file), 0);
    assert_int_equal(os_file_size(file, &size), 0);
    uint8_t *bytes = malloc(size + 1);
    assert_non_null(bytes);
    assert_int_equal(os_file_read_at(file, 0, bytes, size, &n), 0);
    os_file_close(&file);
    bool found = span_find(span_of(bytes, n), wanted) != SIZE_MAX;
    free(bytes);
    return found;
}

/* `but`: a folder in it, looked into by itself. */
static void check_folder(const char *dir, size_t at_least, const char *but) {
    struct kit_file files[16];
    size_t count = kit_files(dir, files, 16);
    assert_true(count >= at_least);
    for (size_t i = 0; i < count; i++) {
        char path[2048];
        (void)snprintf(path, sizeof path, "%s/%s", dir, files[i].name);
        if (strcmp(files[i].name, but) != 0) {
            assert_false(holds(path, span_str(ID)));
            assert_false(holds(path, SPAN_LIT("example.com")));
        }
    }
}

static void no_id_lies_in_the_clear(void **state) {
    struct fixture *f = *state;
    char repeats[2048];
    uint8_t room[100];
    struct buf text = buf_of(room, sizeof room);
    resolve_one(f);
    assert_int_equal(read_text(f, &text), 0);
    assert_true(span_is(buf_span(&text), ID));
    check_folder(f->resolve_dir, 2, "repeats");
    (void)snprintf(repeats, sizeof repeats, "%s/repeats", f->resolve_dir);
    check_folder(repeats, 1, "");
}

/* Other bytes in the slot open nothing, zeros are an erased one: with the slot the id is gone, whatever else is kept. */
static void the_slot_is_the_only_key(void **state) {
    struct fixture *f = *state;
    uint8_t slot[SLOT_SIZE];
    uint8_t room[100];
    struct buf text = buf_of(room, sizeof room);
    struct os_file file = OS_FILE_NONE;
    char path[2048];
    size_t n = 0;
    resolve_one(f);
    (void)snprintf(path, sizeof path, "%s/slots", f->resolve_dir);
    assert_int_equal(os_file_open(path, OS_OPEN_WRITE, &file), 0);
    assert_int_equal(os_file_read_at(file, SLOT_HEADER_SIZE + SLOT_SIZE, slot, sizeof slot, &n), 0);
    slot[0] ^= 1;
    assert_int_equal(os_file_write_at(file, SLOT_HEADER_SIZE + SLOT_SIZE, slot, sizeof slot), 0);
    assert_int_equal(read_text(f, &text), BH_E_TAMPERED);
    memset(slot, 0, sizeof slot);
    assert_int_equal(os_file_write_at(file, SLOT_HEADER_SIZE + SLOT_SIZE, slot, sizeof slot), 0);
    assert_int_equal(read_text(f, &text), BH_E_NOTFOUND);
    os_file_close(&file);
    assert_int_equal(text.n, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(no_id_lies_in_the_clear, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_slot_is_the_only_key, set_up, tear_down),
    };
    return cmocka_run_group_tests_name("resolve_promises", tests, NULL, NULL);
}
