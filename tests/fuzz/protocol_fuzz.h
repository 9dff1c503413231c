/*
 * What the fuzz targets of all protocols do: any path, query, Authorization and body through decode and reply; the same bytes
 * as the vendor's answer and as an item to be sent; what was decoded through encode.
 *
 * Input: two bytes that the target reads (path, method); query up to a newline; header up to a newline; body.
 */
#ifndef PROTOCOL_FUZZ_H
#define PROTOCOL_FUZZ_H

#include "fuzz/fuzz_entry.h"
#include "protocol/protocol.h"

struct fuzzed_protocol {
    const struct protocol_ops *ops;
    const char *path;
    size_t frame;      /* bytes around the items of a request, beyond what encoded_size counts */
    bool encodes_all;  /* every item that was decoded can be sent as it came */
    bool groups_alone; /* a group update names no person, though its primary id is read */
};

/* input: what follows the two bytes. */
void fuzz_protocol(const struct fuzzed_protocol *protocol, bool is_post, struct span input);

#endif
