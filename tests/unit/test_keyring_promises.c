/* Sealed: a master key that anybody but its owner could have read is no key any more. */
/* depends: keyring crypto os base */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/keyring/keyring.h"
#include "engine/keyring/keyring_int.h"
#include "os/file.h"

static char folder[160];
static char data[200];
static char key[200];

static int set_up(void **state) {
    (void)state;
    const char *base = getenv("TMPDIR");
    struct err err = {0};
    (void)snprintf(folder, sizeof folder, "%s/bh-keyring-promises-XXXXXX",
                   base != NULL ? base : "/tmp");
    if (mkdtemp(folder) == NULL || crypto_init() != 0) {
        return -1;
    }
    (void)snprintf(data, sizeof data, "%s/data", folder);
    (void)snprintf(key, sizeof key, "%s/master.key", folder);
    return os_dir_make(data) == 0 ? keyring_master_create(key, &err) : -1;
}

static int tear_down(void **state) {
    (void)state;
    return unlink(key) == 0 && rmdir(data) == 0 ? rmdir(folder) : -1;
}

static void every_mode_but_two_is_refused(void **state) {
    (void)state;
    struct keyring_source source = {.file = key};
    uint8_t master[KEY_SIZE];
    for (mode_t mode = 0; mode <= 0777; mode++) {
        struct err err = {0};
        bool is_private = mode == 0400 || mode == 0600;
        assert_int_equal(chmod(key, mode), 0);
        int r = keyring_master_read(&source, data, folder, master, &err);
        /* The folder stands for one that is in git, which is asked only of a key that is private. */
        const char *why = is_private ? "kept in git" : "only its owner";
        if (r != BH_E_KEY || strstr(err.text, why) == NULL) {
            fail_msg("mode %04o: %d %s", (unsigned)mode, r, err.text);
        }
    }
    assert_int_equal(chmod(key, 0400), 0);
    assert_int_equal(keyring_master_read(&source, data, data, master, &(struct err){0}), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_mode_but_two_is_refused),
    };
    return cmocka_run_group_tests_name("keyring_promises", tests, set_up, tear_down);
}
