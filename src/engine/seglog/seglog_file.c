#include <stdio.h>

#include "base/check.h"
#include "base/hash.h"
#include "engine/seglog/seglog_int.h"

enum { NAME_DIGITS = 10, NAME_SIZE = NAME_DIGITS + 4, BLOCK = 8192 };

void seglog_path_named(const char *dir, const char *name, char out[SEGLOG_PATH_MAX]) {
    int n = snprintf(out, SEGLOG_PATH_MAX, "%s/%s", dir, name);
    check(n > 0 && n < SEGLOG_PATH_MAX);
}

void seglog_path(const char *dir, uint64_t number, char out[SEGLOG_PATH_MAX]) {
    char name[32];
    (void)snprintf(name, sizeof name, "%010llu.seg", (unsigned long long)number);
    seglog_path_named(dir, name, out);
}

static int scan_name(void *context, const char *name) {
    struct seglog_span *span = (struct seglog_span *)context;
    struct span text = span_str(name);
    uint64_t number = 0;
    if (text.n != NAME_SIZE || !span_is(span_from(text, NAME_DIGITS), ".seg") ||
        !span_to_u64(span_cut(text, 0, NAME_DIGITS), &number) || number == 0) {
        return 0;
    }
    span->first = span->count == 0 || number < span->first ? number : span->first;
    span->last = number > span->last ? number : span->last;
    span->count++;
    return 0;
}

int seglog_scan_dir(const char *dir, struct seglog_span *ret_span) {
    *ret_span = (struct seglog_span){0, 0, 0};
    int code = os_dir_list(dir, scan_name, ret_span);
    return code == BH_E_NOTFOUND ? 0 : code;
}

int seglog_file_open(const char *dir, uint64_t number, unsigned kind, bool writable,
                     struct seglog_file *ret_file) {
    char path[SEGLOG_PATH_MAX];
    uint8_t raw[SEGLOG_HEADER_SIZE];
    size_t n = 0;
    seglog_path(dir, number, path);
    struct seglog_file opened = {OS_FILE_NONE, number, {0}};
    int code = os_file_open(path, writable ? OS_OPEN_WRITE : OS_OPEN_READ, &opened.file);
    if (code != 0) {
        return code;
    }
    code = os_file_read_at(opened.file, 0, raw, sizeof raw, &n);
    if (code == 0) {
        code = n == sizeof raw ? seglog_header_decode(raw, &opened.header) : BH_E_CORRUPT;
    }
    if (code == 0 && (opened.header.number != number ||
                      (kind != SEGLOG_ANY_KIND && opened.header.kind != (uint16_t)kind))) {
        code = BH_E_CORRUPT;
    }
    if (code != 0) {
        os_file_close(&opened.file);
        return code;
    }
    *ret_file = opened;
    return 0;
}

void seglog_file_close(struct seglog_file *file) {
    os_file_close(&file->file);
    file->number = 0;
}

int seglog_footer_at(const struct seglog_file *file, uint64_t offset,
                     struct seglog_footer *ret_footer) {
    uint8_t raw[SEGLOG_FOOTER_MAX];
    struct seglog_footer footer;
    size_t n = 0;
    int code = os_file_read_at(file->file, offset, raw, SEGLOG_FOOTER_FIXED, &n);
    if (code != 0) {
        return code;
    }
    if (n != SEGLOG_FOOTER_FIXED || !seglog_footer_starts(raw, &footer)) {
        return BH_E_NOTFOUND;
    }
    code = os_file_read_at(file->file, offset, raw, footer.size, &n);
    if (code != 0) {
        return code;
    }
    return n == footer.size && seglog_footer_decode(span_of(raw, n), ret_footer) ? 0 : BH_E_TORN;
}

int seglog_file_footer(const struct seglog_file *file, struct seglog_footer *ret_footer,
                       uint64_t *ret_offset) {
    uint64_t size = 0;
    uint8_t tail[SEGLOG_FOOTER_TAIL];
    size_t n = 0;
    int code = os_file_size(file->file, &size);
    if (code != 0) {
        return code;
    }
    if (size < SEGLOG_HEADER_SIZE + SEGLOG_FOOTER_FIXED + SEGLOG_FOOTER_TAIL) {
        return BH_E_NOTFOUND;
    }
    code = os_file_read_at(file->file, size - sizeof tail, tail, sizeof tail, &n);
    if (code != 0) {
        return code;
    }
    uint64_t footer_size = get_u32(tail);
    if (n != sizeof tail || footer_size > SEGLOG_FOOTER_MAX ||
        footer_size > size - SEGLOG_HEADER_SIZE) {
        return BH_E_NOTFOUND;
    }
    code = seglog_footer_at(file, size - footer_size, ret_footer);
    if (code == 0 && ret_footer->size == footer_size) {
        *ret_offset = size - footer_size;
        return 0;
    }
    return code == BH_E_IO ? code : BH_E_NOTFOUND;
}

int seglog_frame_at(const struct seglog_file *file, uint64_t offset,
                    struct seglog_frame_header *ret_header, bool *ret_found) {
    uint8_t raw[SEGLOG_FRAME_HEADER_SIZE];
    size_t n = 0;
    int code = os_file_read_at(file->file, offset, raw, sizeof raw, &n);
    if (code == 0) {
        *ret_found = n == sizeof raw && seglog_frame_decode(raw, ret_header);
    }
    return code;
}

int seglog_frame_load(const struct seglog_file *file, uint64_t offset,
                      const struct seglog_frame_header *header, struct gcm *gcm, uint8_t *buffer,
                      size_t cap, struct span *ret_plain) {
    uint32_t size = seglog_frame_size(header->sealed_size);
    size_t n = 0;
    if (size > cap) {
        return BH_E_FULL;
    }
    int code = os_file_read_at(file->file, offset, buffer, size, &n);
    if (code != 0) {
        return code;
    }
    uint8_t *sealed = buffer + SEGLOG_FRAME_HEADER_SIZE;
    struct seglog_frame_header again;
    if (n != size || !seglog_frame_decode(buffer, &again) || again.number != header->number ||
        again.sealed_size != header->sealed_size ||
        crc32c(sealed, again.sealed_size) != again.crc_sealed) {
        return BH_E_TORN;
    }
    for (size_t i = SEGLOG_FRAME_HEADER_SIZE + again.sealed_size; i < size; i++) {
        if (buffer[i] != 0) {
            return BH_E_TORN;
        }
    }
    code = gcm_open(gcm, again.number, span_of(buffer, SEGLOG_FRAME_AAD_SIZE),
                    span_of(sealed, again.sealed_size), sealed);
    if (code == 0) {
        *ret_plain = span_of(sealed, again.sealed_size - GCM_TAG_SIZE);
    }
    return code;
}

static bool all_zero(const uint8_t *p, size_t n) {
    return n == 0 || (p[0] == 0 && memcmp(p, p + 1, n - 1) == 0);
}

/* Looks at one block for the start of a later frame or of a footer; `n` reaches past the block so
 * that none is split. */
static bool find_later(const uint8_t *block, size_t starts, size_t n, uint64_t expected_frame,
                       uint64_t *ret_next_seq) {
    for (size_t i = 0; i < starts; i += SEGLOG_ALIGN) {
        struct seglog_frame_header frame;
        struct seglog_footer footer;
        if (n - i >= SEGLOG_FRAME_HEADER_SIZE && seglog_frame_decode(block + i, &frame) &&
            frame.number > expected_frame) {
            *ret_next_seq = frame.first_seq;
            return true;
        }
        if (n - i >= SEGLOG_FOOTER_FIXED && seglog_footer_starts(block + i, &footer) &&
            footer.last_frame >= expected_frame) {
            *ret_next_seq = footer.next_seq;
            return true;
        }
    }
    return false;
}

/*
 * A frame is written only after the one before it was synced, and a footer only after the last
 * frame. So one good header of either kind, with a later number, proves that everything before it
 * had been synced. Random bytes look like one with a probability of 2^-64. Linear: only headers are
 * checked, never what they announce.
 */
int seglog_judge_tail(const struct seglog_file *file, uint64_t offset, uint64_t expected_frame,
                      struct seglog_tail *ret_tail) {
    uint8_t block[BLOCK + SEGLOG_FOOTER_FIXED];
    struct seglog_tail tail = {false, 0, 0};
    for (uint64_t at = offset;; at += BLOCK) {
        size_t n = 0;
        int code = os_file_read_at(file->file, at, block, sizeof block, &n);
        if (code != 0) {
            return code;
        }
        size_t starts = n < BLOCK ? n : BLOCK;
        if (!all_zero(block, n)) {
            size_t last = starts;
            while (last > 0 && block[last - 1] == 0) {
                last--;
            }
            tail.torn_bytes = last != 0 ? at + last - offset : tail.torn_bytes;
            if (!tail.rotten) {
                tail.rotten = find_later(block, starts, n, expected_frame, &tail.next_seq);
            }
        }
        if (n < sizeof block) {
            break;
        }
    }
    *ret_tail = tail;
    return 0;
}

int seglog_footer_write(const struct seglog_config *config, uint8_t *buffer, struct os_file file,
                        uint64_t offset, struct seglog_footer *footer) {
    uint8_t blob[SEGLOG_BLOB_MAX];
    if (config->footer_blob != NULL) {
        size_t n = config->footer_blob(config->context, blob, sizeof blob);
        check(n <= sizeof blob);
        footer->blob_size = (uint32_t)n;
    }
    size_t size = seglog_footer_encode(footer, blob, buffer);
    int code = os_file_write_at(file, offset, buffer, size);
    if (code == 0) {
        code = os_file_truncate(file, offset + size);
    }
    return code == 0 ? os_file_sync(file) : code;
}

int seglog_list(const char *dir, enum seglog_kind kind,
                int (*each)(void *context, const struct seglog_segment *segment), void *context) {
    struct seglog_span span;
    int code = seglog_scan_dir(dir, &span);
    for (uint64_t number = span.first; code == 0 && span.count != 0 && number <= span.last;
         number++) {
        struct seglog_file file;
        struct seglog_footer footer;
        uint64_t footer_at = 0;
        code = seglog_file_open(dir, number, kind, false, &file);
        if (code == BH_E_NOTFOUND) {
            code = 0; /* dropped while we walked */
            continue;
        }
        if (code != 0) {
            break;
        }
        struct seglog_segment segment = {.number = number,
                                         .first_seq = file.header.first_seq,
                                         .created_us = file.header.created_us,
                                         .first_frame = file.header.first_frame};
        code = os_file_size(file.file, &segment.bytes);
        int footer_code = code != 0 ? code : seglog_file_footer(&file, &footer, &footer_at);
        seglog_file_close(&file);
        if (footer_code == 0) {
            segment.closed = true;
            segment.next_seq = footer.next_seq;
            segment.last_frame = footer.last_frame;
            segment.time_us_min = footer.time_us_min;
            segment.time_us_max = footer.time_us_max;
            segment.blob_size = footer.blob_size;
        }
        code = footer_code == BH_E_IO ? footer_code : code;
        if (code == 0) {
            code = each(context, &segment);
        }
    }
    return code;
}

int seglog_segment_blob(const char *dir, uint64_t number, uint8_t *out, size_t cap,
                        size_t *ret_size) {
    struct seglog_file file;
    struct seglog_footer footer;
    uint64_t at = 0;
    size_t n = 0;
    int code = seglog_file_open(dir, number, SEGLOG_ANY_KIND, false, &file);
    if (code != 0) {
        return code;
    }
    code = seglog_file_footer(&file, &footer, &at);
    if (code == BH_E_NOTFOUND) {
        code = BH_E_STATE;
    } else if (code == 0 && footer.blob_size > cap) {
        code = BH_E_FULL;
    } else if (code == 0) {
        code = os_file_read_at(file.file, at + SEGLOG_FOOTER_FIXED, out, footer.blob_size, &n);
    }
    seglog_file_close(&file);
    if (code == 0) {
        *ret_size = n;
    }
    return code;
}

int seglog_drop(const char *dir, uint64_t number) {
    static const uint8_t nothing[WRAPPED_KEY_SIZE] = {0};
    struct seglog_span span;
    struct seglog_file file;
    struct seglog_footer footer;
    char path[SEGLOG_PATH_MAX];
    uint64_t at = 0;
    int code = seglog_scan_dir(dir, &span);
    if (code != 0) {
        return code;
    }
    /* The newest one carries the numbers from which the log goes on. */
    if (span.count == 0 || number != span.first || number == span.last) {
        return BH_E_STATE;
    }
    seglog_path(dir, number, path);
    code = seglog_file_open(dir, number, SEGLOG_ANY_KIND, true, &file);
    if (code == 0) {
        code = seglog_file_footer(&file, &footer, &at);
        if (code == 0) {
            code = os_file_write_at(file.file, SEGLOG_WRAPPED_KEY_AT, nothing, sizeof nothing);
        }
        if (code == 0) {
            code = os_file_sync(file.file);
        }
        seglog_file_close(&file);
        if (code != 0) {
            return code == BH_E_NOTFOUND ? BH_E_STATE : code;
        }
    } else if (code != BH_E_NOTFOUND) {
        return code;
    }
    /* NOTFOUND above: destroyed before, not yet unlinked. */
    code = os_path_unlink(path);
    return code == 0 ? os_dir_sync(dir) : code;
}
