#include "engine/keyring/keyring.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "engine/keyring/keyring_int.h"
#include "os/file.h"

/*
 * A new key is in the file before anybody may use it: a pseudonym or a sealed segment whose key a
 * crash took away could never be read again. So adding an entry rewrites the file first and counts
 * the entry after.
 */

static bool name_is_good(struct span name) {
    if (name.n == 0 || name.n > KEYRING_NAME_MAX) {
        return false;
    }
    for (size_t i = 0; i < name.n; i++) {
        if (name.p[i] <= ' ' || name.p[i] >= 0x7f) {
            return false;
        }
    }
    return true;
}

struct keyring_entry *keyring_entry_new(enum keyring_kind kind, struct span name,
                                        uint32_t generation) {
    if (!name_is_good(name)) {
        return NULL;
    }
    struct keyring_entry *entry = (struct keyring_entry *)calloc(1, sizeof *entry);
    if (entry == NULL) {
        return NULL;
    }
    entry->kind = kind;
    entry->generation = generation;
    memcpy(entry->name, name.p, name.n);
    entry->secrets = (struct keyring_secrets *)secret_new(sizeof *entry->secrets);
    if (entry->secrets == NULL) {
        keyring_entry_free(entry);
        return NULL;
    }
    return entry;
}

void keyring_entry_free(struct keyring_entry *entry) {
    if (entry != NULL) {
        secret_free(entry->secrets);
        entry->secrets = NULL;
        free(entry);
    }
}

void keyring_entry_complete(struct keyring_entry *entry) {
    struct keyring_secrets *secrets = entry->secrets;
    if (entry->kind == KEYRING_LOG) {
        sign_keypair_of_seed(secrets->seed, secrets->sign_secret, entry->sign_public);
        return;
    }
    for (unsigned domain = 1; domain < KEYRING_DOMAINS; domain++) {
        char label[32];
        (void)snprintf(label, sizeof label, "bulkhead/domain/%u", domain);
        hkdf_sha256(secrets->key, label, secrets->domain_key[domain], KEY_SIZE);
    }
}

static int write_file(struct keyring *keyring, struct err *err) {
    size_t size = keyring_encoded_size(keyring);
    uint8_t *memory = (uint8_t *)malloc(size);
    if (memory == NULL) {
        return err_set(err, BH_E_NOMEM, "no memory for the key file");
    }
    struct buf b = buf_of(memory, size);
    keyring_encode(keyring, &b);
    int code = os_file_replace(keyring->path, b.p, b.n, 0600);
    free(memory);
    return code == 0 ? 0
                     : err_set(err, code, "cannot write the key file %s: %s", keyring->path,
                               bh_error_text(code));
}

static int read_file(struct keyring *keyring, struct err *err) {
    enum { SIZE_MAX_BYTES = 1024 * 1024 };
    uint8_t *memory = (uint8_t *)malloc(SIZE_MAX_BYTES);
    size_t n = 0;
    if (memory == NULL) {
        return err_set(err, BH_E_NOMEM, "no memory for the key file");
    }
    int code = os_file_read_whole(keyring->path, memory, SIZE_MAX_BYTES, &n);
    if (code == 0) {
        code = keyring_decode(keyring, span_of(memory, n));
        if (code == BH_E_KEY) {
            (void)err_set(err, code, "this master key does not open the key file %s",
                          keyring->path);
        } else if (code != 0) {
            (void)err_set(err, code, "the key file %s is unusable: %s", keyring->path,
                          bh_error_text(code));
        }
    } else if (code != BH_E_NOTFOUND) {
        (void)err_set(err, code, "cannot read the key file %s: %s", keyring->path,
                      bh_error_text(code));
    }
    free(memory);
    return code;
}

static struct keyring *keyring_new(void) {
    struct keyring *keyring = (struct keyring *)calloc(1, sizeof *keyring);
    if (keyring == NULL) {
        return NULL;
    }
    os_lock_init(&keyring->lock, OS_LOCK_KEYRING);
    keyring->roots = (struct keyring_roots *)secret_new(sizeof *keyring->roots);
    if (keyring->roots == NULL) {
        keyring_free(keyring);
        return NULL;
    }
    return keyring;
}

static int create_or_read(struct keyring *keyring, bool create, uint16_t instance,
                          struct err *err) {
    int code = read_file(keyring, err);
    if (code == BH_E_NOTFOUND && !create) {
        return err_set(err, code, "there is no key file %s yet: bulkhead serve makes it",
                       keyring->path);
    }
    if (code == BH_E_NOTFOUND) {
        keyring->instance = instance;
        os_random(keyring->deployment, sizeof keyring->deployment);
        os_random(keyring->roots->root, KEY_SIZE);
        return write_file(keyring, err);
    }
    if (code == 0 && keyring->instance != instance) {
        return err_set(err, BH_E_CONFIG, "this data folder belongs to instance number %u, not %u",
                       keyring->instance, instance);
    }
    return code;
}

/* Who may write into the folder may put older files in the place of ours, whatever their modes. */
static int check_data(const char *data_dir, struct err *err) {
    enum { OTHERS_WRITE = 0002 };
    unsigned mode = 0;
    if (os_path_mode(data_dir, &mode) != 0 || (mode & OTHERS_WRITE) == 0) {
        return 0; /* what cannot be read is the next step's to say */
    }
    return err_set(
        err, BH_E_KEY,
        "the data folder %s has mode %04o: anyone may replace what lies in it; chmod 0700 %s",
        data_dir, mode, data_dir);
}

int keyring_open(const char *data_dir, const char *config_dir, const struct keyring_source *source,
                 bool create, uint16_t instance, struct keyring **ret_keyring, struct err *err) {
    struct keyring *keyring = keyring_new();
    if (keyring == NULL) {
        return err_set(err, BH_E_NOMEM, "no memory for keys");
    }
    int n = snprintf(keyring->path, sizeof keyring->path, "%s/keys", data_dir);
    int code = 0;
    if (n < 0 || (size_t)n >= sizeof keyring->path - 8) {
        code = err_set(err, BH_E_CONFIG, "the path of the data folder is too long");
    }
    if (code == 0) {
        code = keyring_master_read(source, data_dir, config_dir, keyring->roots->master, err);
    }
    if (code == 0 && create) {
        code = os_dir_make(data_dir);
        if (code != 0) {
            (void)err_set(err, code, "cannot make the data folder %s: %s", data_dir,
                          bh_error_text(code));
        }
    }
    if (code == 0) {
        code = check_data(data_dir, err);
    }
    if (code == 0) {
        code = create_or_read(keyring, create, instance, err);
    }
    if (code != 0) {
        keyring_free(keyring);
        return code;
    }
    *ret_keyring = keyring;
    return 0;
}

void keyring_free(struct keyring *keyring) {
    if (keyring == NULL) {
        return;
    }
    for (uint32_t i = 0; i < keyring->entry_count; i++) {
        keyring_entry_free(keyring->entries[i]);
        keyring->entries[i] = NULL;
    }
    secret_free(keyring->roots);
    keyring->roots = NULL;
    os_lock_fini(&keyring->lock);
    free(keyring);
}

const uint8_t *keyring_deployment(const struct keyring *keyring) {
    return keyring->deployment;
}

uint16_t keyring_instance(const struct keyring *keyring) {
    return keyring->instance;
}

void keyring_derive(const struct keyring *keyring, const char *label, uint8_t out[KEY_SIZE]) {
    hkdf_sha256(keyring->roots->root, label, out, KEY_SIZE);
}

/* The newest generation of that name, or NULL. */
static struct keyring_entry *find(const struct keyring *keyring, enum keyring_kind kind,
                                  const char *name) {
    struct keyring_entry *newest = NULL;
    for (uint32_t i = 0; i < keyring->entry_count; i++) {
        struct keyring_entry *entry = keyring->entries[i];
        if (entry->kind == kind && strcmp(entry->name, name) == 0 &&
            (newest == NULL || entry->generation > newest->generation)) {
            newest = entry;
        }
    }
    return newest;
}

static int add(struct keyring *keyring, enum keyring_kind kind, const char *name,
               uint32_t generation, struct keyring_entry **ret_entry, struct err *err) {
    if (keyring->entry_count == KEYRING_ENTRIES_MAX) {
        return err_set(err, BH_E_TOO_MANY, "the key file holds %d keys already",
                       KEYRING_ENTRIES_MAX);
    }
    struct keyring_entry *entry = keyring_entry_new(kind, span_str(name), generation);
    if (entry == NULL) {
        return err_set(err, BH_E_KEY, "cannot make a key for that name");
    }
    os_random(entry->secrets->key, KEY_SIZE);
    if (kind == KEYRING_LOG) {
        os_random(entry->secrets->seed, KEY_SIZE);
    }
    keyring_entry_complete(entry);
    keyring->entries[keyring->entry_count++] = entry;
    int code = write_file(keyring, err);
    if (code != 0) {
        keyring->entries[--keyring->entry_count] = NULL;
        keyring_entry_free(entry);
        return code;
    }
    *ret_entry = entry;
    return 0;
}

int keyring_vendor(struct keyring *keyring, const char *vendor, struct vendor_keys *ret_keys,
                   struct err *err) {
    int code = 0;
    os_lock(&keyring->lock);
    struct keyring_entry *entry = find(keyring, KEYRING_VENDOR, vendor);
    if (entry == NULL) {
        code = add(keyring, KEYRING_VENDOR, vendor, 1, &entry, err);
    }
    os_unlock(&keyring->lock);
    if (code != 0) {
        return code;
    }
    check(entry != NULL);
    ret_keys->generation = entry->generation;
    ret_keys->domain_key[0] = NULL;
    for (unsigned domain = 1; domain < KEYRING_DOMAINS; domain++) {
        ret_keys->domain_key[domain] = entry->secrets->domain_key[domain];
    }
    return 0;
}

int keyring_log(struct keyring *keyring, const char *log_name, bool create,
                struct log_keys *ret_keys, struct err *err) {
    int code = 0;
    os_lock(&keyring->lock);
    struct keyring_entry *entry = find(keyring, KEYRING_LOG, log_name);
    if (entry == NULL) {
        code = create ? add(keyring, KEYRING_LOG, log_name, 0, &entry, err)
                      : err_set(err, BH_E_NOTFOUND, "there is no key for the log %s", log_name);
    }
    os_unlock(&keyring->lock);
    if (code != 0) {
        return code;
    }
    check(entry != NULL);
    ret_keys->wrapping = entry->secrets->key;
    ret_keys->sign_secret = entry->secrets->sign_secret;
    ret_keys->sign_public = entry->sign_public;
    return 0;
}
