/*
 * Slots: one random key per alias, in a file of its own so that it can be overwritten in place
 * (docs/format/resolve.md).
 *
 * The slot is not the key itself: key = HMAC-SHA-256(K_slots, slot || ord). Zeroing the slot
 * destroys the key; the file without the master key opens nothing.
 */
#include <stdio.h>

#include "base/check.h"
#include "base/hash.h"
#include "flow/resolve/resolve_int.h"

enum {
    HEADER_MAGIC = 0,
    HEADER_FORMAT = 8,
    HEADER_MIN_READER = 10,
    HEADER_DEPLOYMENT = 16,
    HEADER_CRC = SLOT_HEADER_SIZE - 4,
    FORMAT = 1,
    NONCE_ID_TEXT = 1, /* of the slot's key; the profile will have others */
};

static const char magic[8] = "BHSLOTS";

static void fill_header(const struct keyring *keyring, uint8_t header[SLOT_HEADER_SIZE]) {
    memset(header, 0, SLOT_HEADER_SIZE);
    memcpy(header + HEADER_MAGIC, magic, sizeof(magic));
    put_u16(header + HEADER_FORMAT, FORMAT);
    put_u16(header + HEADER_MIN_READER, FORMAT);
    memcpy(header + HEADER_DEPLOYMENT, keyring_deployment(keyring), 16);
    put_u32(header + HEADER_CRC, crc32c(header, HEADER_CRC));
}

static int check_header(const uint8_t *header, size_t n, const struct keyring *keyring) {
    if (n < SLOT_HEADER_SIZE || memcmp(header, magic, sizeof(magic)) != 0 ||
        get_u32(header + HEADER_CRC) != crc32c(header, HEADER_CRC)) {
        return BH_E_CORRUPT;
    }
    if (get_u16(header + HEADER_MIN_READER) > FORMAT) {
        return BH_E_VERSION;
    }
    return memcmp(header + HEADER_DEPLOYMENT, keyring_deployment(keyring), 16) == 0 ? 0 : BH_E_KEY;
}

/* A new file, or one that a crash left without its header: no slot can have been written yet. */
static int make_header(struct slots *slots, const struct keyring *keyring, const char *dir) {
    uint8_t header[SLOT_HEADER_SIZE];
    fill_header(keyring, header);
    int r = os_file_reserve(slots->file, SLOT_BLOCK);
    if (r == 0) {
        r = os_file_write_at(slots->file, 0, header, sizeof(header));
    }
    if (r == 0) {
        r = os_file_sync(slots->file);
    }
    return r == 0 ? os_dir_sync(dir) : r;
}

static int open_file(struct slots *slots, const char *dir, const struct keyring *keyring,
                     bool read_only) {
    char path[320];
    (void)snprintf(path, sizeof(path), "%s/slots", dir);
    int r =
        os_file_open(path, read_only ? OS_OPEN_READ : OS_OPEN_WRITE | OS_OPEN_CREATE, &slots->file);
    if (r != 0) {
        return r;
    }
    uint8_t header[SLOT_HEADER_SIZE];
    size_t n = 0;
    r = os_file_read_at(slots->file, 0, header, sizeof(header), &n);
    static const uint8_t zeros[SLOT_HEADER_SIZE];
    if (r == 0 && !read_only &&
        (n < sizeof(header) || memcmp(header, zeros, sizeof(header)) == 0)) {
        r = make_header(slots, keyring, dir);
    } else if (r == 0) {
        r = check_header(header, n, keyring);
    }
    return r == 0 ? os_file_size(slots->file, &slots->size) : r;
}

int slots_open(const char *dir, const struct keyring *keyring, bool read_only,
               struct slots *ret_slots, struct err *err) {
    struct slots slots = {.file = OS_FILE_NONE};
    uint8_t *key = (uint8_t *)secret_new(KEY_SIZE);
    if (key != NULL) {
        keyring_derive(keyring, "bulkhead/slots", key);
        slots.wrapping = hmac_key_new(key, KEY_SIZE);
    }
    secret_free(key);
    int r = slots.wrapping != NULL ? open_file(&slots, dir, keyring, read_only) : BH_E_NOMEM;
    if (r != 0) {
        slots_close(&slots);
        return err_set(err, r, "%s/slots: %s", dir, bh_error_text(r));
    }
    *ret_slots = slots;
    return 0;
}

void slots_close(struct slots *slots) {
    os_file_close(&slots->file);
    hmac_key_free(slots->wrapping);
    slots->wrapping = NULL;
}

static uint64_t offset_of(uint32_t ord) {
    return SLOT_HEADER_SIZE + (uint64_t)ord * SLOT_SIZE;
}

int slots_write(struct slots *slots, uint32_t ord, const uint8_t *bytes, uint32_t count) {
    check(ord != 0 && count != 0);
    uint64_t end = offset_of(ord + count);
    if (end > slots->size) {
        uint64_t size = (end + SLOT_BLOCK - 1) / SLOT_BLOCK * SLOT_BLOCK;
        int r = os_file_reserve(slots->file, size);
        if (r != 0) {
            return r;
        }
        slots->size = size;
    }
    int r = os_file_write_at(slots->file, offset_of(ord), bytes, (size_t)count * SLOT_SIZE);
    return r == 0 ? os_file_sync(slots->file) : r;
}

int slots_read(const struct slots *slots, uint32_t ord, uint8_t ret_slot[SLOT_SIZE]) {
    static const uint8_t zeros[SLOT_SIZE];
    size_t n = 0;
    int r = os_file_read_at(slots->file, offset_of(ord), ret_slot, SLOT_SIZE, &n);
    if (r != 0) {
        return r;
    }
    return n < SLOT_SIZE || memcmp(ret_slot, zeros, SLOT_SIZE) == 0 ? BH_E_NOTFOUND : 0;
}

/* The cipher under a slot's key; NULL when there is no memory. */
static struct gcm *cipher_of(const struct slots *slots, const uint8_t ord[4],
                             const uint8_t slot[SLOT_SIZE]) {
    uint8_t key[SHA256_SIZE];
    const struct span parts[] = {{slot, SLOT_SIZE}, {ord, 4}};
    hmac_sha256(slots->wrapping, parts, BH_COUNT(parts), key);
    struct gcm *gcm = gcm_new(key);
    secret_wipe(key, sizeof(key));
    return gcm;
}

int slot_seal(const struct slots *slots, uint32_t ord, const uint8_t slot[SLOT_SIZE],
              struct span id, uint8_t *out) {
    uint8_t number[4];
    put_u32(number, ord);
    struct gcm *gcm = cipher_of(slots, number, slot);
    if (gcm == NULL) {
        return BH_E_NOMEM;
    }
    gcm_seal(gcm, NONCE_ID_TEXT, span_of(number, sizeof(number)), id, out);
    gcm_free(gcm);
    return 0;
}

int slot_open(const struct slots *slots, uint32_t ord, const uint8_t slot[SLOT_SIZE],
              struct span sealed, uint8_t *out) {
    if (sealed.n < GCM_TAG_SIZE) {
        return BH_E_CORRUPT;
    }
    uint8_t number[4];
    put_u32(number, ord);
    struct gcm *gcm = cipher_of(slots, number, slot);
    if (gcm == NULL) {
        return BH_E_NOMEM;
    }
    int r = gcm_open(gcm, NONCE_ID_TEXT, span_of(number, sizeof(number)), sealed, out);
    gcm_free(gcm);
    return r;
}
