/*
 * The cut register: what a start believes about each vendor.
 *
 *   data/register: header slot, then LIMIT_VENDORS slots of 512 B, preallocated; docs/format/register.md has the bytes.
 *
 * A slot is overwritten in place by one write of one sector and synced: no allocation, no rename, so that a cut is durable in the time
 * of one sync and works on a full disk. A slot that does not verify may have been any vendor's, so while there is one, every vendor
 * without a slot of its own counts as cut: the register can fail only towards sending nothing.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/hash.h"
#include "flow/deliver/deliver_int.h"
#include "model/limits.h"
#include "os/clock.h"
#include "os/file.h"
#include "os/thread.h"

enum {
    SLOT_SIZE = 512,
    SLOTS = LIMIT_VENDORS,
    FILE_SIZE = (SLOTS + 1) * SLOT_SIZE,
    FORMAT = 1,
    SLOT_MAGIC = 0x54534752, /* "RGST" */
    AT_FORMAT = 8,
    AT_MIN_READER = 10,
    AT_SLOTS = 12,
    AT_STATE = 4,
    AT_RESTORED = 5,
    AT_NAME_SIZE = 6,
    AT_CHANGED = 8,
    AT_NAME = 16,
    AT_CRC = SLOT_SIZE - 4,
};

static const uint8_t file_magic[8] = {'B', 'H', 'R', 'E', 'G', 'I', 'S', 'T'};

struct cut_register {
    struct os_lock lock;
    struct os_file file;
    uint8_t slots[SLOTS][SLOT_SIZE];
};

static bool slot_is_free(const uint8_t *slot) {
    static const uint8_t zeros[SLOT_SIZE];
    return memcmp(slot, zeros, SLOT_SIZE) == 0;
}

static bool slot_is_sound(const uint8_t *slot) {
    return get_u32(slot) == SLOT_MAGIC && get_u32(slot + AT_CRC) == crc32c(slot, AT_CRC) &&
           get_u16(slot + AT_NAME_SIZE) <= LIMIT_NAME && slot[AT_STATE] <= VENDOR_CLOSED;
}

static uint8_t *slot_of(struct cut_register *reg, const char *vendor) {
    struct span name = span_str(vendor);
    for (size_t i = 0; i < SLOTS; i++) {
        uint8_t *slot = reg->slots[i];
        if (slot_is_sound(slot) &&
            span_equal(name, span_of(slot + AT_NAME, get_u16(slot + AT_NAME_SIZE)))) {
            return slot;
        }
    }
    return NULL;
}

static bool has_broken_slot(const struct cut_register *reg) {
    for (size_t i = 0; i < SLOTS; i++) {
        if (!slot_is_free(reg->slots[i]) && !slot_is_sound(reg->slots[i])) {
            return true;
        }
    }
    return false;
}

static int create(struct os_file file) {
    uint8_t header[SLOT_SIZE] = {0};
    memcpy(header, file_magic, sizeof file_magic);
    put_u16(header + AT_FORMAT, FORMAT);
    put_u16(header + AT_MIN_READER, FORMAT);
    put_u32(header + AT_SLOTS, SLOTS);
    put_u32(header + AT_CRC, crc32c(header, AT_CRC));
    int r = os_file_reserve(file, FILE_SIZE);
    r = r == 0 ? os_file_write_at(file, 0, header, sizeof header) : r;
    return r == 0 ? os_file_sync(file) : r;
}

static int read_slots(struct cut_register *reg) {
    uint8_t header[SLOT_SIZE];
    size_t n = 0;
    int r = os_file_read_at(reg->file, 0, header, sizeof header, &n);
    if (r != 0) {
        return r;
    }
    if (n != sizeof header || memcmp(header, file_magic, sizeof file_magic) != 0 ||
        get_u32(header + AT_CRC) != crc32c(header, AT_CRC) || get_u32(header + AT_SLOTS) != SLOTS) {
        return BH_E_CORRUPT;
    }
    if (get_u16(header + AT_MIN_READER) > FORMAT) {
        return BH_E_VERSION;
    }
    r = os_file_read_at(reg->file, SLOT_SIZE, reg->slots, sizeof reg->slots, &n);
    return r == 0 && n != sizeof reg->slots ? BH_E_CORRUPT : r;
}

static int open_file(struct cut_register *reg, const char *data_dir, const char *path) {
    uint64_t size = 0;
    int r = os_file_open(path, OS_OPEN_READ | OS_OPEN_WRITE | OS_OPEN_CREATE, &reg->file);
    r = r == 0 ? os_file_size(reg->file, &size) : r;
    if (r == 0 && size == 0) {
        r = create(reg->file);
        r = r == 0 ? os_dir_sync(data_dir) : r;
    }
    return r == 0 ? read_slots(reg) : r;
}

int cut_register_open(const char *data_dir, struct cut_register **ret_register, struct err *err) {
    char path[COURIER_PATH];
    struct cut_register *reg = calloc(1, sizeof *reg);
    if (reg == NULL) {
        return err_set(err, BH_E_NOMEM, "out of memory");
    }
    os_lock_init(&reg->lock, OS_LOCK_REGISTER);
    reg->file = OS_FILE_NONE;
    (void)snprintf(path, sizeof path, "%s/register", data_dir);
    int r = open_file(reg, data_dir, path);
    if (r != 0) {
        cut_register_free(reg);
        return err_set(err, r, "cut register %s: %s", path, bh_error_text(r));
    }
    *ret_register = reg;
    return 0;
}

void cut_register_free(struct cut_register *reg) {
    if (reg != NULL) {
        os_file_close(&reg->file);
        os_lock_fini(&reg->lock);
        free(reg);
    }
}

enum vendor_state cut_register_state(struct cut_register *reg, const char *vendor) {
    os_lock(&reg->lock);
    const uint8_t *slot = slot_of(reg, vendor);
    enum vendor_state state = slot != NULL           ? (enum vendor_state)slot[AT_STATE]
                              : has_broken_slot(reg) ? VENDOR_CUT
                                                     : VENDOR_NEVER;
    os_unlock(&reg->lock);
    return state;
}

bool cut_register_was_restored(struct cut_register *reg, const char *vendor) {
    os_lock(&reg->lock);
    const uint8_t *slot = slot_of(reg, vendor);
    /* Of a slot that is lost, the stricter is believed: that there is a history to be kept to. */
    bool was = slot != NULL ? slot[AT_RESTORED] != 0 : has_broken_slot(reg);
    os_unlock(&reg->lock);
    return was;
}

static uint8_t *slot_for_writing(struct cut_register *reg, const char *vendor) {
    uint8_t *slot = slot_of(reg, vendor);
    for (size_t i = 0; slot == NULL && i < SLOTS; i++) {
        slot = slot_is_free(reg->slots[i]) ? reg->slots[i] : NULL;
    }
    return slot;
}

static int write_locked(struct cut_register *reg, const char *vendor, enum vendor_state state,
                        bool was_restored) {
    uint8_t next[SLOT_SIZE] = {0};
    size_t name_size = strlen(vendor);
    check(name_size <= LIMIT_NAME);
    uint8_t *slot = slot_for_writing(reg, vendor);
    if (slot == NULL) {
        return BH_E_FULL;
    }
    put_u32(next, SLOT_MAGIC);
    next[AT_STATE] = (uint8_t)state;
    next[AT_RESTORED] = was_restored || (slot_is_sound(slot) && slot[AT_RESTORED] != 0);
    put_u16(next + AT_NAME_SIZE, (uint16_t)name_size);
    put_u64(next + AT_CHANGED, os_wall_us());
    memcpy(next + AT_NAME, vendor, name_size);
    put_u32(next + AT_CRC, crc32c(next, AT_CRC));
    uint64_t offset = SLOT_SIZE + (uint64_t)(slot - reg->slots[0]);
    int r = os_file_write_at(reg->file, offset, next, sizeof next);
    r = r == 0 ? os_file_sync(reg->file) : r;
    if (r == 0) {
        memcpy(slot, next, SLOT_SIZE);
    }
    return r;
}

int cut_register_write(struct cut_register *reg, const char *vendor, enum vendor_state state,
                       bool was_restored) {
    os_lock(&reg->lock);
    int r = write_locked(reg, vendor, state, was_restored);
    os_unlock(&reg->lock);
    return r;
}

int cut_register_cut(struct cut_register *reg, const char *vendor) {
    return cut_register_write(reg, vendor, VENDOR_CUT, false);
}

const char *vendor_state_word(enum vendor_state state) {
    switch (state) {
    case VENDOR_ACTIVE:
        return "active";
    case VENDOR_RETRYING:
        return "retrying";
    case VENDOR_PARKED:
        return "parked";
    case VENDOR_CLOSED:
        return "closed";
    case VENDOR_NEVER:
    case VENDOR_CUT:
        break;
    }
    return "cut";
}
