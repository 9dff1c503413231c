/* Keys: the same after a restart, refused where they must not lie, and no byte of the file may
 * change unseen. */
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

#include "base/hash.h"
#include "engine/keyring/keyring.h"
#include "os/file.h"
#include "os/thread.h"

static char top[200];
static char data[256];
static char config[256];
static char key_path[256];
static struct keyring_source source;

static int remove_name(void *context, const char *name) {
    char path[512];
    (void)snprintf(path, sizeof path, "%s/%s", (const char *)context, name);
    if (unlink(path) != 0) {
        int code = os_dir_list(path, remove_name, path);
        return code != 0 ? code : rmdir(path);
    }
    return 0;
}

static int set_up(void **state) {
    (void)state;
    const char *base = getenv("TMPDIR");
    struct err err = {0};
    (void)snprintf(top, sizeof top, "%s/bh-keyring-%u", base != NULL ? base : "/tmp",
                   os_process_id());
    (void)snprintf(data, sizeof data, "%s/data", top);
    (void)snprintf(config, sizeof config, "%s/config", top);
    (void)snprintf(key_path, sizeof key_path, "%s/secret/deep/eu-1.key", top);
    assert_int_equal(os_dir_make(top), 0);
    assert_int_equal(os_dir_make(config), 0);
    assert_int_equal(keyring_master_create(key_path, &err), 0);
    source = (struct keyring_source){.file = key_path};
    return crypto_init();
}

static int tear_down(void **state) {
    (void)state;
    int code = os_dir_list(top, remove_name, top);
    return code != 0 ? code : rmdir(top);
}

static struct keyring *open_ring(bool create) {
    struct keyring *keyring = NULL;
    struct err err = {0};
    int code = keyring_open(data, config, &source, create, 7, &keyring, &err);
    if (code != 0) {
        print_message("%s\n", err.text);
    }
    assert_int_equal(code, 0);
    return keyring;
}

static void expect_refusal(const struct keyring_source *from, int expected, const char *why) {
    struct keyring *keyring = NULL;
    struct err err = {0};
    assert_int_equal(keyring_open(data, config, from, false, 7, &keyring, &err), expected);
    if (strstr(err.text, why) == NULL) {
        print_message("%s\n", err.text);
    }
    assert_non_null(strstr(err.text, why));
}

static void a_master_key_is_made_once_and_private(void **state) {
    (void)state;
    unsigned mode = 0;
    uint8_t text[100];
    size_t n = 0;
    struct err err = {0};
    assert_int_equal(os_path_mode(key_path, &mode), 0);
    assert_int_equal(mode, 0400);
    assert_int_equal(os_file_read_whole(key_path, text, sizeof text, &n), 0);
    assert_int_equal(n, 65);
    assert_int_equal(keyring_master_create(key_path, &err), BH_E_EXISTS);
}

static void keys_are_the_same_after_a_restart(void **state) {
    (void)state;
    struct err err = {0};
    uint8_t deployment[16];
    uint8_t derived[KEY_SIZE];
    uint8_t again[KEY_SIZE];
    uint8_t person[2][KEY_SIZE];
    uint8_t wrapping[KEY_SIZE];
    uint8_t public_key[SIGN_PUBLIC_SIZE];
    struct vendor_keys vendor;
    struct vendor_keys other;
    struct log_keys log;
    struct keyring *keyring = NULL;
    assert_int_equal(keyring_open(data, config, &source, false, 7, &keyring, &err), BH_E_NOTFOUND);
    keyring = open_ring(true);
    memcpy(deployment, keyring_deployment(keyring), sizeof deployment);
    assert_int_equal(keyring_instance(keyring), 7);
    keyring_derive(keyring, "bulkhead/id", derived);
    keyring_derive(keyring, "bulkhead/journal", again);
    assert_memory_not_equal(derived, again, KEY_SIZE);
    assert_int_equal(keyring_vendor(keyring, "mixpanel", &vendor, &err), 0);
    assert_int_equal(keyring_vendor(keyring, "posthog", &other, &err), 0);
    assert_int_equal(vendor.generation, 1);
    assert_null(vendor.domain_key[0]);
    for (int i = 1; i < 8; i++) {
        assert_memory_not_equal(vendor.domain_key[i], other.domain_key[i], KEY_SIZE);
        assert_memory_not_equal(vendor.domain_key[i], vendor.domain_key[i % 7 + 1], KEY_SIZE);
    }
    memcpy(person[0], vendor.domain_key[1], KEY_SIZE);
    memcpy(person[1], other.domain_key[1], KEY_SIZE);
    assert_int_equal(keyring_log(keyring, "mixpanel-1", false, &log, &err), BH_E_NOTFOUND);
    assert_int_equal(keyring_log(keyring, "mixpanel-1", true, &log, &err), 0);
    memcpy(wrapping, log.wrapping, KEY_SIZE);
    memcpy(public_key, log.sign_public, SIGN_PUBLIC_SIZE);
    keyring_free(keyring);

    for (int life = 0; life < 2; life++) {
        keyring = open_ring(life == 0);
        assert_memory_equal(keyring_deployment(keyring), deployment, sizeof deployment);
        keyring_derive(keyring, "bulkhead/id", again);
        assert_memory_equal(derived, again, KEY_SIZE);
        assert_int_equal(keyring_vendor(keyring, "posthog", &other, &err), 0);
        assert_int_equal(keyring_vendor(keyring, "mixpanel", &vendor, &err), 0);
        assert_memory_equal(vendor.domain_key[1], person[0], KEY_SIZE);
        assert_memory_equal(other.domain_key[1], person[1], KEY_SIZE);
        assert_int_equal(keyring_log(keyring, "mixpanel-1", false, &log, &err), 0);
        assert_memory_equal(log.wrapping, wrapping, KEY_SIZE);
        assert_memory_equal(log.sign_public, public_key, SIGN_PUBLIC_SIZE);
        uint8_t signature[SIGNATURE_SIZE];
        sign_detached(log.sign_secret, SPAN_LIT("checkpoint"), signature);
        assert_true(sign_verify(public_key, SPAN_LIT("checkpoint"), signature));
        keyring_free(keyring);
    }
    assert_int_equal(keyring_open(data, config, &source, true, 8, &keyring, &err), BH_E_CONFIG);
}

static void no_key_byte_lies_in_the_file(void **state) {
    (void)state;
    static uint8_t file[4096];
    char path[300];
    size_t n = 0;
    struct err err = {0};
    struct log_keys log;
    struct vendor_keys vendor;
    struct keyring *keyring = open_ring(true);
    assert_int_equal(keyring_log(keyring, "mixpanel-1", true, &log, &err), 0);
    assert_int_equal(keyring_vendor(keyring, "mixpanel", &vendor, &err), 0);
    (void)snprintf(path, sizeof path, "%s/keys", data);
    assert_int_equal(os_file_read_whole(path, file, sizeof file, &n), 0);
    for (size_t i = 0; i + 8 <= KEY_SIZE; i++) {
        assert_int_equal(span_find(span_of(file, n), span_of(log.wrapping + i, 8)), SIZE_MAX);
        assert_int_equal(span_find(span_of(file, n), span_of(log.sign_secret + i, 8)), SIZE_MAX);
        assert_int_equal(span_find(span_of(file, n), span_of(vendor.domain_key[1] + i, 8)),
                         SIZE_MAX);
    }
    keyring_free(keyring);
}

static void write_file(const char *path, const void *p, size_t n, mode_t mode) {
    (void)unlink(path);
    struct os_file file = OS_FILE_NONE;
    assert_int_equal(os_file_open(path, OS_OPEN_WRITE | OS_OPEN_CREATE, &file), 0);
    assert_int_equal(os_file_write_at(file, 0, p, n), 0);
    os_file_close(&file);
    assert_int_equal(chmod(path, mode), 0);
}

static void a_key_is_refused_where_it_must_not_lie(void **state) {
    (void)state;
    static const char hex[] = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n";
    char path[400];
    char folder[300];
    struct keyring_source at = {.file = path};
    keyring_free(open_ring(true));
    (void)snprintf(path, sizeof path, "%s/master.key", data);
    write_file(path, hex, sizeof hex - 1, 0400);
    expect_refusal(&at, BH_E_KEY, "in the data folder");
    (void)snprintf(path, sizeof path, "%s/master.key", config);
    write_file(path, hex, sizeof hex - 1, 0400);
    expect_refusal(&at, BH_E_KEY, "kept in git");
    (void)snprintf(folder, sizeof folder, "%s/project", top);
    assert_int_equal(os_dir_make(folder), 0);
    (void)snprintf(path, sizeof path, "%s/.git", folder);
    assert_int_equal(os_dir_make(path), 0);
    (void)snprintf(path, sizeof path, "%s/sub", folder);
    assert_int_equal(os_dir_make(path), 0);
    (void)snprintf(path, sizeof path, "%s/sub/master.key", folder);
    write_file(path, hex, sizeof hex - 1, 0400);
    expect_refusal(&at, BH_E_KEY, "kept in git");
    /* A link does not hide where the file lies. */
    char real[400];
    memcpy(real, path, sizeof real);
    (void)snprintf(path, sizeof path, "%s/link.key", top);
    assert_int_equal(symlink(real, path), 0);
    expect_refusal(&at, BH_E_KEY, "kept in git");
    (void)snprintf(path, sizeof path, "%s/open.key", top);
    write_file(path, hex, sizeof hex - 1, 0440);
    expect_refusal(&at, BH_E_KEY, "mode 0440");
    (void)snprintf(path, sizeof path, "%s/none.key", top);
    expect_refusal(&at, BH_E_KEY, "no master key file");
    (void)snprintf(path, sizeof path, "%s/short.key", top);
    write_file(path, hex, 63, 0600);
    expect_refusal(&at, BH_E_KEY, "64 hexadecimal digits");
    write_file(path, "g00102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f", 64, 0600);
    expect_refusal(&at, BH_E_KEY, "64 hexadecimal digits");
    write_file(path, hex, sizeof hex - 1, 0600);
    expect_refusal(&at, BH_E_KEY, "does not open the key file");
}

/* Files of mode 0600 are as good as the folder they lie in. A group may be the volume's own. */
static void a_folder_that_anyone_may_write_is_refused(void **state) {
    (void)state;
    struct keyring_source file = {.file = key_path};
    keyring_free(open_ring(true));
    assert_int_equal(chmod(data, 0777), 0);
    expect_refusal(&file, BH_E_KEY, "mode 0777");
    assert_int_equal(chmod(data, 0702), 0);
    expect_refusal(&file, BH_E_KEY, "mode 0702");
    assert_int_equal(chmod(data, 02770), 0);
    keyring_free(open_ring(false));
    assert_int_equal(chmod(data, 0755), 0);
    keyring_free(open_ring(false));
}

static void every_source_gives_the_same_key(void **state) {
    (void)state;
    char command[400];
    char text[100];
    size_t n = 0;
    keyring_free(open_ring(true));
    assert_int_equal(os_file_read_whole(key_path, text, sizeof text - 1, &n), 0);
    text[n] = 0;
    assert_int_equal(setenv("BULKHEAD_TEST_KEY", text, 1), 0);
    (void)snprintf(command, sizeof command, "cat %s", key_path);
    char credentials[300];
    (void)snprintf(credentials, sizeof credentials, "%s/secret/deep", top);
    assert_int_equal(setenv("CREDENTIALS_DIRECTORY", credentials, 1), 0);
    const struct keyring_source sources[] = {{.env = "BULKHEAD_TEST_KEY"},
                                             {.exec = command},
                                             {.credential = "eu-1.key"},
                                             {.file = key_path}};
    for (size_t i = 0; i < BH_COUNT(sources); i++) {
        struct keyring *keyring = NULL;
        struct err err = {0};
        assert_int_equal(keyring_open(data, config, &sources[i], false, 7, &keyring, &err), 0);
        keyring_free(keyring);
    }
    assert_int_equal(unsetenv("BULKHEAD_TEST_KEY"), 0);
    assert_int_equal(unsetenv("CREDENTIALS_DIRECTORY"), 0);
    expect_refusal(&sources[0], BH_E_KEY, "BULKHEAD_TEST_KEY");
    expect_refusal(&sources[2], BH_E_KEY, "eu-1.key");
    expect_refusal(&(struct keyring_source){.exec = "exit 3"}, BH_E_KEY, "command");
    expect_refusal(&(struct keyring_source){.exec = "yes"}, BH_E_KEY, "command");
    expect_refusal(&(struct keyring_source){.exec = NULL}, BH_E_KEY, "neither");
}

/* Whatever byte changes and wherever the file is cut, it is refused; with the checksum made right
 * again it still is. */
static void no_byte_of_the_file_may_change(void **state) {
    (void)state;
    static uint8_t original[4096];
    static uint8_t changed[4096];
    char path[300];
    size_t n = 0;
    struct err err = {0};
    struct log_keys log;
    struct vendor_keys vendor;
    struct keyring *keyring = open_ring(true);
    assert_int_equal(keyring_log(keyring, "mixpanel-1", true, &log, &err), 0);
    assert_int_equal(keyring_vendor(keyring, "mixpanel", &vendor, &err), 0);
    keyring_free(keyring);
    (void)snprintf(path, sizeof path, "%s/keys", data);
    assert_int_equal(os_file_read_whole(path, original, sizeof original, &n), 0);
    for (size_t i = 0; i < n; i++) {
        memcpy(changed, original, n);
        changed[i] ^= 0x20;
        write_file(path, changed, n, 0600);
        assert_int_equal(keyring_open(data, config, &source, false, 7, &keyring, &err),
                         BH_E_CORRUPT);
        put_u32(changed + n - 4, crc32c(changed, n - 4));
        if (i < n - 4) {
            write_file(path, changed, n, 0600);
            assert_int_not_equal(keyring_open(data, config, &source, false, 7, &keyring, &err), 0);
        }
        write_file(path, original, i, 0600);
        assert_int_equal(keyring_open(data, config, &source, false, 7, &keyring, &err),
                         BH_E_CORRUPT);
    }
    write_file(path, original, n, 0600);
    keyring_free(open_ring(false));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_master_key_is_made_once_and_private),
        cmocka_unit_test(keys_are_the_same_after_a_restart),
        cmocka_unit_test(no_key_byte_lies_in_the_file),
        cmocka_unit_test(a_key_is_refused_where_it_must_not_lie),
        cmocka_unit_test(a_folder_that_anyone_may_write_is_refused),
        cmocka_unit_test(every_source_gives_the_same_key),
        cmocka_unit_test(no_byte_of_the_file_may_change),
    };
    return cmocka_run_group_tests_name("keyring", tests, set_up, tear_down);
}
