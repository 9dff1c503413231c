/*
 * Checksums and in-memory hashes. Neither is a secret: a hash table that a peer may fill takes a random
 * `seed` at start.
 *
 * crc32c: Castagnoli polynomial (RFC 3720 appendix B.4), SSE4.2 where the processor has it; the
 * scalar twin gives the same numbers. hash64: multiply-fold over 16-byte steps, for tables in memory
 * only and never on disk.
 * Any thread.
 */
#ifndef BH_BASE_HASH_H
#define BH_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

uint32_t crc32c(const void *p, size_t n);
/* Continues `crc` over more bytes: crc32c_more(crc32c(a), b) == crc32c(a followed by b). */
uint32_t crc32c_more(uint32_t crc, const void *p, size_t n);
uint32_t crc32c_scalar_more(uint32_t crc, const void *p, size_t n);
uint64_t hash64(const void *p, size_t n, uint64_t seed);

#endif
