/* Shared between the files of seglog: the three structures on disk and one segment file. */
#ifndef BH_ENGINE_SEGLOG_INT_H
#define BH_ENGINE_SEGLOG_INT_H

#include "engine/seglog/seglog.h"
#include "os/file.h"

enum {
    SEGLOG_FORMAT = 1,
    SEGLOG_CIPHER_AES256_GCM = 1,
    SEGLOG_WRAPPED_KEY_AT = 92,
    SEGLOG_FRAME_AAD_SIZE = 40, /* the frame header up to its checksums */
    SEGLOG_FOOTER_FIXED = 64,
    SEGLOG_FOOTER_TAIL = 8,
    SEGLOG_ALIGN = 8,
    SEGLOG_PATH_MAX = 256,
    SEGLOG_DIR_MAX = 200,
    SEGLOG_ANY_KIND = 0,
};

struct seglog_header {
    uint16_t kind;
    uint16_t instance;
    uint8_t deployment[16];
    uint64_t number;
    uint64_t first_seq;
    uint64_t first_frame;
    uint64_t created_us;
    uint8_t previous_footer[SHA256_SIZE];
    uint8_t wrapped_key[WRAPPED_KEY_SIZE];
};

struct seglog_footer {
    uint32_t size; /* whole, with blob and tail */
    uint32_t blob_size;
    uint64_t first_frame;
    uint64_t last_frame; /* first_frame - 1 in a segment without frames */
    uint64_t next_seq;
    uint64_t time_us_min;
    uint64_t time_us_max;
    uint8_t hash[SHA256_SIZE]; /* of the whole footer; not stored */
};

static inline uint64_t seglog_aligned(uint64_t n) {
    return (n + (SEGLOG_ALIGN - 1)) & ~(uint64_t)(SEGLOG_ALIGN - 1);
}

static inline uint32_t seglog_frame_size(uint32_t sealed_size) {
    return (uint32_t)seglog_aligned(SEGLOG_FRAME_HEADER_SIZE + (uint64_t)sealed_size);
}

/* seglog_format.c: bytes to structures and back. */

void seglog_header_encode(const struct seglog_header *header, uint8_t out[SEGLOG_HEADER_SIZE]);
/* CORRUPT, VERSION; NOTFOUND for a destroyed segment. */
int seglog_header_decode(const uint8_t in[SEGLOG_HEADER_SIZE],
                         struct seglog_header *ret_header) BH_MUST_USE;

struct seglog_frame_header {
    uint32_t sealed_size;
    uint64_t number;
    uint64_t first_seq;
    uint32_t events;
    uint32_t chunks;
    uint64_t time_us;
    uint32_t crc_sealed;
};
/* Without the checksums, which need the sealed bytes. */
void seglog_frame_encode(const struct seglog_frame_header *header,
                         uint8_t out[SEGLOG_FRAME_HEADER_SIZE]);
void seglog_frame_encode_crc(uint32_t crc_sealed, uint8_t out[SEGLOG_FRAME_HEADER_SIZE]);
/* false when these bytes are no frame header. */
bool seglog_frame_decode(const uint8_t in[SEGLOG_FRAME_HEADER_SIZE],
                         struct seglog_frame_header *ret_header);

/* Fills size and hash of *footer; returns the size. */
size_t seglog_footer_encode(struct seglog_footer *footer, const uint8_t *blob,
                            uint8_t out[SEGLOG_FOOTER_MAX]);
/* The fixed part alone: proves that a footer starts here. */
bool seglog_footer_starts(const uint8_t in[SEGLOG_FOOTER_FIXED], struct seglog_footer *ret_footer);
/* The whole of it, in.n == its size. */
bool seglog_footer_decode(struct span in, struct seglog_footer *ret_footer);

/* seglog_file.c: one segment file, and the folder. */

struct seglog_file {
    struct os_file file;
    uint64_t number;
    struct seglog_header header;
};

void seglog_path(const char *dir, uint64_t number, char out[SEGLOG_PATH_MAX]);
void seglog_path_named(const char *dir, const char *name, char out[SEGLOG_PATH_MAX]);

struct seglog_span {
    uint64_t first; /* 0: there is none */
    uint64_t last;
    uint64_t count;
};
int seglog_scan_dir(const char *dir, struct seglog_span *ret_span) BH_MUST_USE;

/* Opens and reads the header. NOTFOUND (also when destroyed), CORRUPT, VERSION, IO. */
int seglog_file_open(const char *dir, uint64_t number, unsigned kind, bool writable,
                     struct seglog_file *ret_file) BH_MUST_USE;
void seglog_file_close(struct seglog_file *file);
/* The footer that the file ends with; NOTFOUND when it does not end with one. */
int seglog_file_footer(const struct seglog_file *file, struct seglog_footer *ret_footer,
                       uint64_t *ret_offset) BH_MUST_USE;
/* The footer that starts at offset; NOTFOUND when there is none, TORN when only its start is
 * good. */
int seglog_footer_at(const struct seglog_file *file, uint64_t offset,
                     struct seglog_footer *ret_footer) BH_MUST_USE;

/* The frame header at offset; false when none is there. */
int seglog_frame_at(const struct seglog_file *file, uint64_t offset,
                    struct seglog_frame_header *ret_header, bool *ret_found) BH_MUST_USE;
/* Reads and opens the sealed bytes of a frame whose header is good. TORN: its checksum or padding
 * is wrong. TAMPERED: only its tag is. FULL. */
int seglog_frame_load(const struct seglog_file *file, uint64_t offset,
                      const struct seglog_frame_header *header, struct gcm *gcm, uint8_t *buffer,
                      size_t cap, struct span *ret_plain) BH_MUST_USE;

/* What lies behind the last good frame. */
struct seglog_tail {
    bool rotten;         /* a later frame or footer: what is missing here had been synced */
    uint64_t next_seq;   /* where what follows starts, when rotten; 0 = unknown */
    uint64_t torn_bytes; /* up to the last byte that is not zero */
};
int seglog_judge_tail(const struct seglog_file *file, uint64_t offset, uint64_t expected_frame,
                      struct seglog_tail *ret_tail) BH_MUST_USE;

/* Ends the file at offset with this footer and the caller's blob, cuts off what is behind, syncs.
 * buffer: SEGLOG_FOOTER_MAX. Sets footer->hash. */
int seglog_footer_write(const struct seglog_config *config, uint8_t *buffer, struct os_file file,
                        uint64_t offset, struct seglog_footer *footer) BH_MUST_USE;

/* seglog_recover.c: what a start finds. */

#define SEGLOG_NEXT_NAME "next.seg"

struct seglog_state {
    uint64_t number; /* newest segment, closed; 0 = none */
    uint64_t next_seq;
    uint64_t next_frame;
    uint8_t last_footer[SHA256_SIZE];
};
/* Leaves every segment closed. The buffer holds SEGLOG_FRAME_MAX, so that any frame fits. */
int seglog_recover(const struct seglog_config *config, uint8_t *buffer,
                   struct seglog_recovery *report, struct seglog_state *ret_state,
                   struct err *err) BH_MUST_USE;

#endif
