#include "base/check.h"
#include "base/hash.h"
#include "engine/seglog/seglog_int.h"

/* Offsets are those of docs/format/segment.md. */

#define HEADER_MAGIC UINT64_C(0x474f4c4745534842) /* "BHSEGLOG" */
#define FOOTER_MAGIC UINT64_C(0x5245544f4f464842) /* "BHFOOTER" */
#define FRAME_MAGIC  UINT32_C(0x52464842)         /* "BHFR" */

enum {
    HEADER_CRC_AT = SEGLOG_HEADER_SIZE - 4,
    FRAME_CRC_SEALED_AT = 40,
    FRAME_CRC_AT = 44,
    FOOTER_FIXED_CRC_AT = 60
};

_Static_assert(SEGLOG_BLOB_MAX % SEGLOG_ALIGN == 0, "a footer is padded to 8");
_Static_assert(SEGLOG_FOOTER_FIXED + SEGLOG_BLOB_MAX + SEGLOG_FOOTER_TAIL <= SEGLOG_FOOTER_MAX,
               "the largest footer fits");

void seglog_header_encode(const struct seglog_header *header, uint8_t out[SEGLOG_HEADER_SIZE]) {
    memset(out, 0, SEGLOG_HEADER_SIZE);
    put_u64(out, HEADER_MAGIC);
    put_u16(out + 8, SEGLOG_FORMAT);
    put_u16(out + 10, SEGLOG_FORMAT);
    put_u16(out + 12, header->kind);
    put_u16(out + 14, SEGLOG_CIPHER_AES256_GCM);
    memcpy(out + 16, header->deployment, sizeof header->deployment);
    put_u16(out + 32, header->instance);
    put_u64(out + 36, header->number);
    put_u64(out + 44, header->first_seq);
    put_u64(out + 52, header->created_us);
    memcpy(out + 60, header->previous_footer, SHA256_SIZE);
    memcpy(out + SEGLOG_WRAPPED_KEY_AT, header->wrapped_key, WRAPPED_KEY_SIZE);
    put_u64(out + 132, header->first_frame);
    put_u32(out + HEADER_CRC_AT, crc32c(out, HEADER_CRC_AT));
}

int seglog_header_decode(const uint8_t in[SEGLOG_HEADER_SIZE], struct seglog_header *ret_header) {
    static const uint8_t destroyed[WRAPPED_KEY_SIZE] = {0};
    if (get_u64(in) != HEADER_MAGIC) {
        return BH_E_CORRUPT;
    }
    /* Destroying overwrites the key alone; the checksum cannot be right any more. */
    if (memcmp(in + SEGLOG_WRAPPED_KEY_AT, destroyed, sizeof destroyed) == 0) {
        return BH_E_NOTFOUND;
    }
    if (get_u32(in + HEADER_CRC_AT) != crc32c(in, HEADER_CRC_AT)) {
        return BH_E_CORRUPT;
    }
    if (get_u16(in + 10) > SEGLOG_FORMAT || get_u16(in + 14) != SEGLOG_CIPHER_AES256_GCM) {
        return BH_E_VERSION;
    }
    ret_header->kind = get_u16(in + 12);
    memcpy(ret_header->deployment, in + 16, sizeof ret_header->deployment);
    ret_header->instance = get_u16(in + 32);
    ret_header->number = get_u64(in + 36);
    ret_header->first_seq = get_u64(in + 44);
    ret_header->created_us = get_u64(in + 52);
    memcpy(ret_header->previous_footer, in + 60, SHA256_SIZE);
    memcpy(ret_header->wrapped_key, in + SEGLOG_WRAPPED_KEY_AT, WRAPPED_KEY_SIZE);
    ret_header->first_frame = get_u64(in + 132);
    return ret_header->first_frame != 0 ? 0 : BH_E_CORRUPT;
}

void seglog_frame_encode(const struct seglog_frame_header *header,
                         uint8_t out[SEGLOG_FRAME_HEADER_SIZE]) {
    put_u32(out, FRAME_MAGIC);
    put_u32(out + 4, header->sealed_size);
    put_u64(out + 8, header->number);
    put_u64(out + 16, header->first_seq);
    put_u32(out + 24, header->events);
    put_u32(out + 28, header->chunks);
    put_u64(out + 32, header->time_us);
}

void seglog_frame_encode_crc(uint32_t crc_sealed, uint8_t out[SEGLOG_FRAME_HEADER_SIZE]) {
    put_u32(out + FRAME_CRC_SEALED_AT, crc_sealed);
    put_u32(out + FRAME_CRC_AT, crc32c(out, FRAME_CRC_AT));
}

bool seglog_frame_decode(const uint8_t in[SEGLOG_FRAME_HEADER_SIZE],
                         struct seglog_frame_header *ret_header) {
    if (get_u32(in) != FRAME_MAGIC || get_u32(in + FRAME_CRC_AT) != crc32c(in, FRAME_CRC_AT)) {
        return false;
    }
    ret_header->sealed_size = get_u32(in + 4);
    ret_header->number = get_u64(in + 8);
    ret_header->first_seq = get_u64(in + 16);
    ret_header->events = get_u32(in + 24);
    ret_header->chunks = get_u32(in + 28);
    ret_header->time_us = get_u64(in + 32);
    ret_header->crc_sealed = get_u32(in + FRAME_CRC_SEALED_AT);
    return ret_header->sealed_size >= GCM_TAG_SIZE &&
           ret_header->sealed_size <= SEGLOG_FRAME_MAX - SEGLOG_FRAME_HEADER_SIZE;
}

size_t seglog_footer_encode(struct seglog_footer *footer, const uint8_t *blob,
                            uint8_t out[SEGLOG_FOOTER_MAX]) {
    check(footer->blob_size <= SEGLOG_BLOB_MAX);
    size_t padded = (size_t)seglog_aligned(footer->blob_size);
    size_t size = SEGLOG_FOOTER_FIXED + padded + SEGLOG_FOOTER_TAIL;
    footer->size = (uint32_t)size;
    memset(out, 0, size);
    put_u64(out, FOOTER_MAGIC);
    put_u32(out + 8, footer->size);
    put_u32(out + 12, footer->blob_size);
    put_u64(out + 16, footer->first_frame);
    put_u64(out + 24, footer->last_frame);
    put_u64(out + 32, footer->next_seq);
    put_u64(out + 40, footer->time_us_min);
    put_u64(out + 48, footer->time_us_max);
    put_u32(out + FOOTER_FIXED_CRC_AT, crc32c(out, FOOTER_FIXED_CRC_AT));
    if (footer->blob_size != 0) {
        memcpy(out + SEGLOG_FOOTER_FIXED, blob, footer->blob_size);
    }
    put_u32(out + size - 8, footer->size);
    put_u32(out + size - 4, crc32c(out, size - 4));
    sha256(span_of(out, size), footer->hash);
    return size;
}

bool seglog_footer_starts(const uint8_t in[SEGLOG_FOOTER_FIXED], struct seglog_footer *ret_footer) {
    if (get_u64(in) != FOOTER_MAGIC ||
        get_u32(in + FOOTER_FIXED_CRC_AT) != crc32c(in, FOOTER_FIXED_CRC_AT)) {
        return false;
    }
    ret_footer->size = get_u32(in + 8);
    ret_footer->blob_size = get_u32(in + 12);
    ret_footer->first_frame = get_u64(in + 16);
    ret_footer->last_frame = get_u64(in + 24);
    ret_footer->next_seq = get_u64(in + 32);
    ret_footer->time_us_min = get_u64(in + 40);
    ret_footer->time_us_max = get_u64(in + 48);
    return ret_footer->blob_size <= SEGLOG_BLOB_MAX && ret_footer->first_frame != 0 &&
           ret_footer->size ==
               SEGLOG_FOOTER_FIXED + seglog_aligned(ret_footer->blob_size) + SEGLOG_FOOTER_TAIL;
}

bool seglog_footer_decode(struct span in, struct seglog_footer *ret_footer) {
    if (in.n < SEGLOG_FOOTER_FIXED + SEGLOG_FOOTER_TAIL ||
        !seglog_footer_starts(in.p, ret_footer) || ret_footer->size != in.n ||
        get_u32(in.p + in.n - 8) != in.n || get_u32(in.p + in.n - 4) != crc32c(in.p, in.n - 4)) {
        return false;
    }
    sha256(in, ret_footer->hash);
    return true;
}
