/* Shared between the files of keyring. */
#ifndef BH_ENGINE_KEYRING_INT_H
#define BH_ENGINE_KEYRING_INT_H

#include "engine/keyring/keyring.h"
#include "os/thread.h"

enum {
    KEYRING_NAME_MAX = 80, /* a vendor's name of 64 and a log's number */
    KEYRING_ENTRIES_MAX = 4096,
    KEYRING_DOMAINS = 8,
    KEYRING_PATH_MAX = 1024,
    KEYRING_DEPLOYMENT_SIZE = 16,
};

/* Numbers are on disk. */
enum keyring_kind { KEYRING_VENDOR = 1, KEYRING_LOG = 2 };

/* What an entry keeps in guarded memory. The first 32 bytes are what is wrapped. */
struct keyring_secrets {
    uint8_t key[KEY_SIZE];  /* K_v or K_log */
    uint8_t seed[KEY_SIZE]; /* log: of its Ed25519 pair */
    uint8_t sign_secret[SIGN_SECRET_SIZE];
    uint8_t domain_key[KEYRING_DOMAINS][KEY_SIZE]; /* vendor */
};

struct keyring_entry {
    enum keyring_kind kind;
    uint32_t generation; /* vendor: from 1; log: 0 */
    char name[KEYRING_NAME_MAX + 1];
    uint8_t sign_public[SIGN_PUBLIC_SIZE];
    struct keyring_secrets *secrets;
};

/* The keys of the process, in guarded memory. */
struct keyring_roots {
    uint8_t master[KEY_SIZE];
    uint8_t root[KEY_SIZE];
};

struct keyring {
    struct os_lock lock; /* over entry_count and the file; an entry that is counted never changes */
    char path[KEYRING_PATH_MAX];
    uint16_t instance;
    uint8_t deployment[KEYRING_DEPLOYMENT_SIZE];
    struct keyring_roots *roots;
    uint32_t entry_count;
    struct keyring_entry *entries[KEYRING_ENTRIES_MAX];
};

/* keyring_master.c: 32 bytes into `master`. */
int keyring_master_read(const struct keyring_source *source, const char *data_dir,
                        const char *config_dir, uint8_t master[KEY_SIZE],
                        struct err *err) BH_MUST_USE;

/* An entry with zeroed secrets, not yet in the ring; NULL without memory or with a bad name. */
struct keyring_entry *keyring_entry_new(enum keyring_kind kind, struct span name,
                                        uint32_t generation);
void keyring_entry_free(struct keyring_entry *entry);
/* Derives what follows from key and seed. */
void keyring_entry_complete(struct keyring_entry *entry);

/* keyring_file.c: the bytes of docs/format/keys.md. */
size_t keyring_encoded_size(const struct keyring *keyring);
void keyring_encode(const struct keyring *keyring, struct buf *b);
/* Fills an empty keyring that has its master. CORRUPT, VERSION, KEY, NOMEM. */
int keyring_decode(struct keyring *keyring, struct span bytes) BH_MUST_USE;

#endif
