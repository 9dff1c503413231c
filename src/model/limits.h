/*
 * Limits of the event path, each with its derivation. Configuration may lower them, and raise those
 * marked (c) up to the second number.
 */
#ifndef BH_MODEL_LIMITS_H
#define BH_MODEL_LIMITS_H

enum {
    /*
     * Request: Mixpanel documents 10 MB, real SDKs stay below 1 MB; 4 MiB decoded, (c) to 10 MiB.
     */
    LIMIT_REQUEST_BYTES = 4 * 1024 * 1024,
    LIMIT_REQUEST_BYTES_MAX = 10 * 1024 * 1024,
    LIMIT_REQUEST_EVENTS = 2000,
    /* An item: one event alone in a chunk may be 1 MiB. */
    LIMIT_EVENT_BYTES = 1024 * 1024,
    LIMIT_EVENT_LEAVES = 4096,
    LIMIT_EVENT_FINDINGS = 4096,
    LIMIT_JSON_DEPTH = 32,
    /*
     * Tokens of one request: 4 MiB of JSON rarely has more than one token per 6 bytes; beyond is
     * too_complex.
     */
    LIMIT_REQUEST_TOKENS = 700000,
    /* Tokens of one item: leaves, their keys and containers; indexes fit u16. */
    LIMIT_EVENT_TOKENS = 16384,
    LIMIT_SOURCES = 1024,
    LIMIT_VENDORS = 64,
    LIMIT_LOOPS = 64,
    LIMIT_NAME = 64, /* source, vendor, instance names: [a-z0-9-] */
    /* HTTP: mixpanel-node puts whole payloads in the URL. */
    LIMIT_HTTP_HEAD = 64 * 1024 + 16 * 1024,
    LIMIT_HTTP_TARGET = 64 * 1024,
    LIMIT_HTTP_HEADERS = 100,
    LIMIT_HTTP_HEADER_LINE = 16 * 1024,
};

#endif
