/*
 * Wire: transport encodings that all protocols wrap JSON in.
 *
 * unwrap sniffs and never trusts Content-Type or Content-Encoding (recorded SDKs contradict both):
 *
 *   1f 8b ...      gzip, then again
 *   { or [         JSON as it stands
 *   k=v&data=...   a form: its `data`, percent-decoded, then JSON, base64 or lz64
 *
 * Owner: a `struct wire` (gzip state, unpacking by libdeflate, packing by ISA-L) belongs to one
 * thread; made at start, since that allocates.
 * Errors: SYNTAX, TOO_BIG (the output cap is hard: nothing is written past it).
 */
#ifndef BH_PROTOCOL_WIRE_H
#define BH_PROTOCOL_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/errors.h"

struct wire;

struct wire *wire_new(void); /* NULL: no memory */
void wire_free(struct wire *wire);

/*
 * JSON text of a body. It stands in `body` (mutable) or in out; out->n is advanced over what was
 * used. `max` bounds the decoded size.
 */
int wire_unwrap_body(struct wire *wire, uint8_t *body, size_t body_len, size_t max, struct buf *out,
                     uint8_t **ret_text, size_t *ret_len) BH_MUST_USE;
/* JSON text of one form or query value (raw): percent-decoding, then JSON, base64 or lz64. */
int wire_unwrap_value(struct wire *wire, struct span raw, size_t max, struct buf *out,
                      uint8_t **ret_text, size_t *ret_len) BH_MUST_USE;

/* One gzip member or several; BH_E_SYNTAX, BH_E_TOO_BIG. */
int wire_gunzip(struct wire *wire, struct span in, struct buf *out) BH_MUST_USE;
int wire_gzip(struct wire *wire, struct span in, struct buf *out) BH_MUST_USE;
/* Room that wire_gzip needs for n bytes. */
size_t wire_gzip_bound(size_t n);

/* How far into out->p the calls above may have written: a little further than out->n. */
size_t wire_reach(const struct buf *out);

/* user:secret of a Basic header, decoded into out. */
bool wire_basic(struct span authorization, struct buf *out, struct span *ret_user,
                struct span *ret_secret);
/* "Basic " and a credential that is the user, without a password. out->full when it does not fit. */
void wire_put_basic(struct span credential, struct buf *out);

#endif
