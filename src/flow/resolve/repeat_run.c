/*
 * Runs: sorted tables of entries in files (docs/format/repeats.md).
 *
 *   header 4096 | place 0 | place 1 | ...     place = {key u64, content u32, second u32}, zeros where free
 *
 * An entry lies at the first free place from its home on, so those between home and entry are taken
 * by smaller ones: a look-up ends at the first larger entry or free place.
 */
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/hash.h"
#include "flow/resolve/repeat_int.h"

enum {
    RUN_FORMAT = 1,
    AT_FORMAT = 8,
    AT_MIN_READER = 10,
    AT_NUMBER = 16,
    AT_SLOTS = 24,
    AT_PLACES = 32,
    AT_ENTRIES = 40,
    AT_NEWEST = 48,
    AT_CRC = 52,
    AT_HEADER_CRC = REPEAT_RUN_HEADER_SIZE - 4,
    SYNC_BYTES = 32 * 1024 * 1024, /* so that the last sync of a large run has little left to do */
};

static const uint8_t magic[8] = "BHREPEAT";

uint64_t repeat_key_of(uint64_t dedupe, uint32_t content) {
    return dedupe ^ content * UINT64_C(0x9e3779b97f4a7c15);
}

uint32_t repeat_second_of(uint64_t received_us) {
    uint64_t second = received_us / 1000000 + 1;
    return second < UINT32_MAX ? (uint32_t)second : UINT32_MAX;
}

uint64_t repeat_home(uint64_t key, uint64_t slots) {
    __extension__ typedef unsigned __int128 u128;
    return (uint64_t)((u128)key * slots >> 64);
}

bool repeat_is_before(const struct repeat_entry *a, uint64_t key, uint32_t content) {
    return a->key != key ? a->key < key : a->content < content;
}

/* -- reading ----------------------------------------------------------------------------------- */

int repeat_run_read(struct span bytes, struct repeat_run *ret_run) {
    const uint8_t *at = bytes.p;
    if (bytes.n < REPEAT_RUN_HEADER_SIZE || memcmp(at, magic, sizeof(magic)) != 0 ||
        get_u32(at + AT_HEADER_CRC) != crc32c(at, AT_HEADER_CRC)) {
        return BH_E_CORRUPT;
    }
    if (get_u16(at + AT_MIN_READER) > RUN_FORMAT) {
        return BH_E_VERSION;
    }
    *ret_run = (struct repeat_run){
        .number = get_u64(at + AT_NUMBER),
        .slots = get_u64(at + AT_SLOTS),
        .places = get_u64(at + AT_PLACES),
        .entries = get_u64(at + AT_ENTRIES),
        .newest = get_u32(at + AT_NEWEST),
        .crc = get_u32(at + AT_CRC),
        .bytes = at,
        .size = bytes.n,
    };
    uint64_t places = (bytes.n - REPEAT_RUN_HEADER_SIZE) / REPEAT_ENTRY_SIZE;
    bool is_good = bytes.n % REPEAT_ENTRY_SIZE == 0 && ret_run->places == places &&
                   ret_run->slots != 0 && ret_run->slots <= places && ret_run->entries <= places;
    return is_good ? 0 : BH_E_CORRUPT;
}

bool repeat_run_is_whole(const struct repeat_run *run) {
    return crc32c(run->bytes + REPEAT_RUN_HEADER_SIZE,
                  (size_t)(run->size - REPEAT_RUN_HEADER_SIZE)) == run->crc;
}

struct repeat_entry repeat_run_at(const struct repeat_run *run, uint64_t place) {
    const uint8_t *at = run->bytes + REPEAT_RUN_HEADER_SIZE + place * REPEAT_ENTRY_SIZE;
    return (struct repeat_entry){get_u64(at), get_u32(at + 8), get_u32(at + 12)};
}

bool repeat_run_find(const struct repeat_run *run, uint64_t key, uint32_t content,
                     uint32_t *ret_second) {
    for (uint64_t at = repeat_home(key, run->slots); at < run->places; at++) {
        struct repeat_entry entry = repeat_run_at(run, at);
        if (entry.second == 0) {
            return false;
        }
        if (!repeat_is_before(&entry, key, content)) {
            *ret_second = entry.second;
            return entry.key == key && entry.content == content;
        }
    }
    return false;
}

void repeat_run_path(const char *dir, uint64_t number, char out[REPEAT_DIR_MAX + 32]) {
    (void)snprintf(out, REPEAT_DIR_MAX + 32, "%s/%010llu.run", dir, (unsigned long long)number);
}

int repeat_run_open(const char *dir, uint64_t number, struct repeat_run *ret_run) {
    char path[REPEAT_DIR_MAX + 32];
    struct os_file file = OS_FILE_NONE;
    const uint8_t *bytes = NULL;
    uint64_t size = 0;
    repeat_run_path(dir, number, path);
    int r = os_file_open(path, OS_OPEN_READ, &file);
    if (r != 0) {
        return r;
    }
    r = os_file_size(file, &size);
    r = r == 0 && size < REPEAT_RUN_HEADER_SIZE ? BH_E_CORRUPT : r;
    r = r == 0 ? os_file_map(file, size, &bytes) : r;
    os_file_close(&file);
    if (r != 0) {
        return r;
    }
    r = repeat_run_read(span_of(bytes, (size_t)size), ret_run);
    r = r == 0 && ret_run->number != number ? BH_E_CORRUPT : r;
    if (r != 0) {
        os_file_unmap(bytes, size);
        *ret_run = (struct repeat_run){0};
    }
    return r;
}

void repeat_run_close(struct repeat_run *run) {
    os_file_unmap(run->bytes, run->size);
    *run = (struct repeat_run){0};
}

/* -- writing ----------------------------------------------------------------------------------- */

int repeat_writer_begin(struct repeat_writer *writer, const char *dir, uint64_t number,
                        uint64_t entries) {
    struct buf buffer = writer->buffer;
    buffer.n = 0;
    buffer.full = false;
    *writer = (struct repeat_writer){.file = OS_FILE_NONE,
                                     .number = number,
                                     .slots = entries / 7 * 10 + 16,
                                     .written = REPEAT_RUN_HEADER_SIZE,
                                     .synced = REPEAT_RUN_HEADER_SIZE,
                                     .buffer = buffer};
    repeat_run_path(dir, number, writer->path);
    int r = os_file_open(writer->path, OS_OPEN_WRITE | OS_OPEN_CREATE | OS_OPEN_TRUNCATE,
                         &writer->file);
    if (r != 0) {
        return r;
    }
    r = os_file_reserve(writer->file, REPEAT_RUN_HEADER_SIZE + writer->slots * REPEAT_ENTRY_SIZE);
    if (r != 0) {
        repeat_writer_abandon(writer);
    }
    return r;
}

static int flush(struct repeat_writer *writer) {
    struct buf *b = &writer->buffer;
    writer->crc = crc32c_more(writer->crc, b->p, b->n);
    int r = os_file_write_at(writer->file, writer->written, b->p, b->n);
    writer->written += b->n;
    b->n = 0;
    if (r == 0 && writer->written >= writer->synced + SYNC_BYTES) {
        writer->synced = writer->written;
        r = os_file_sync(writer->file);
    }
    return r;
}

static int put_place(struct repeat_writer *writer, const struct repeat_entry *entry) {
    if (writer->buffer.cap - writer->buffer.n < REPEAT_ENTRY_SIZE) {
        int r = flush(writer);
        if (r != 0) {
            return r;
        }
    }
    uint8_t *at = buf_room(&writer->buffer, REPEAT_ENTRY_SIZE);
    put_u64(at, entry->key);
    put_u32(at + 8, entry->content);
    put_u32(at + 12, entry->second);
    writer->place++;
    return 0;
}

static int skip_to(struct repeat_writer *writer, uint64_t place) {
    static const struct repeat_entry free_place;
    int r = 0;
    while (r == 0 && writer->place < place) {
        r = put_place(writer, &free_place);
    }
    return r;
}

int repeat_writer_put(struct repeat_writer *writer, const struct repeat_entry *entry) {
    int r = skip_to(writer, repeat_home(entry->key, writer->slots));
    writer->entries++;
    writer->newest = entry->second > writer->newest ? entry->second : writer->newest;
    return r == 0 ? put_place(writer, entry) : r;
}

int repeat_writer_end(struct repeat_writer *writer) {
    int r = skip_to(writer, writer->slots);
    r = r == 0 ? flush(writer) : r;
    if (r != 0) {
        return r;
    }
    uint8_t *header = writer->buffer.p;
    check(writer->buffer.cap >= REPEAT_RUN_HEADER_SIZE);
    memset(header, 0, REPEAT_RUN_HEADER_SIZE);
    memcpy(header, magic, sizeof(magic));
    put_u16(header + AT_FORMAT, RUN_FORMAT);
    put_u16(header + AT_MIN_READER, RUN_FORMAT);
    put_u64(header + AT_NUMBER, writer->number);
    put_u64(header + AT_SLOTS, writer->slots);
    put_u64(header + AT_PLACES, writer->place);
    put_u64(header + AT_ENTRIES, writer->entries);
    put_u32(header + AT_NEWEST, writer->newest);
    put_u32(header + AT_CRC, writer->crc);
    put_u32(header + AT_HEADER_CRC, crc32c(header, AT_HEADER_CRC));
    r = os_file_write_at(writer->file, 0, header, REPEAT_RUN_HEADER_SIZE);
    r = r == 0 ? os_file_truncate(writer->file, writer->written) : r;
    r = r == 0 ? os_file_sync(writer->file) : r;
    os_file_close(&writer->file);
    return r;
}

void repeat_writer_abandon(struct repeat_writer *writer) {
    os_file_close(&writer->file);
    int removed = os_path_unlink(writer->path);
    (void)removed; /* else the next start removes it */
}
