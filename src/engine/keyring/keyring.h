/*
 * Keyring: the file data/keys and the master key that opens it.
 *
 *   master (32 B, never in the data folder)
 *      --wraps--> data/keys: root · per vendor and generation K_v · per log K_log, Ed25519
 *                            root --HKDF--> K_id (alias ids), K_journal, K_slots
 *
 * The file is rewritten whole (temp, fsync, rename); docs/format/keys.md has its bytes. All key
 * bytes in memory are in guarded memory. The deployment (16 random bytes) and instance number are
 * in it in clear.
 * Thread: any (one lock inside); entries are never moved, changed or freed before keyring_free. One
 * process at a time may add.
 * Errors: KEY (absent, wrong size, wrong permissions, inside the data folder, the configuration
 * folder or a git work tree, does not open the file), CORRUPT (rotten), TAMPERED (rearranged),
 * VERSION, CONFIG (another instance's data folder), IO.
 */
#ifndef BH_ENGINE_KEYRING_H
#define BH_ENGINE_KEYRING_H

#include "base/bytes.h"
#include "base/errors.h"
#include "crypto/crypto.h"

struct keyring;

/* Where the master key is read from; exactly one is set. exec is a command line for /bin/sh -c
 * whose stdout is the key. */
struct keyring_source {
    const char *file; /* mode must be 0400 or 0600, 32 raw bytes or 64 hex digits */
    const char *env;
    const char *exec;
    const char *credential; /* name under $CREDENTIALS_DIRECTORY */
};

/* Writes a new random master key file (64 hex digits and a newline, mode 0400); EXISTS when there
 * is one. */
int keyring_master_create(const char *path, struct err *err) BH_MUST_USE;
/* Creates data/keys when it is absent and `create`. `data_dir` and `config_dir` are checked against
 * the key file's place. */
int keyring_open(const char *data_dir, const char *config_dir, const struct keyring_source *source,
                 bool create, uint16_t instance, struct keyring **ret_keyring,
                 struct err *err) BH_MUST_USE;
void keyring_free(struct keyring *keyring);

const uint8_t *keyring_deployment(const struct keyring *keyring); /* 16 bytes */
uint16_t keyring_instance(const struct keyring *keyring);
/* HKDF of the root under a label into `out` (the caller's guarded memory). */
void keyring_derive(const struct keyring *keyring, const char *label, uint8_t out[KEY_SIZE]);

struct vendor_keys {
    uint32_t generation;
    /* One derived AES-256 key per pseudonym domain (enum id_domain in model/event.h), [0]
     * unused. */
    const uint8_t *domain_key[8];
};
/* Newest generation of a vendor's pseudonym keys, made (and the file rewritten) when there is
 * none. */
int keyring_vendor(struct keyring *keyring, const char *vendor, struct vendor_keys *ret_keys,
                   struct err *err) BH_MUST_USE;

struct log_keys {
    const uint8_t *wrapping;    /* K_log, KEY_SIZE: wraps the log's segment keys */
    const uint8_t *sign_secret; /* SIGN_SECRET_SIZE */
    const uint8_t *sign_public; /* SIGN_PUBLIC_SIZE */
};
/* Keys of the log "<vendor>-<n>", made when there are none and `create`; else NOTFOUND. */
int keyring_log(struct keyring *keyring, const char *log_name, bool create,
                struct log_keys *ret_keys, struct err *err) BH_MUST_USE;

#endif
