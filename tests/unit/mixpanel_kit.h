/* A decoder with memory of its own, for the tests of the protocols; Mixpanel unless told. */
#ifndef MIXPANEL_KIT_H
#define MIXPANEL_KIT_H

#include "protocol/protocol.h"

struct kit {
    struct protocol_work work;
    struct protocol_decoded decoded;
    uint8_t body[LIMIT_REQUEST_BYTES + 4096];
};

enum { KIT_NOW = 1790000000 };
#define KIT_NOW_MS (INT64_C(1000) * KIT_NOW)

/* The protocol from now on. */
void kit_use(const struct protocol_ops *protocol);
const struct protocol_ops *kit_protocol(void);
/* One for the program: its buffers are large. */
struct kit *kit_get(void);
/* method is enum http_method. The result is in kit->decoded. */
int kit_decode(unsigned method, const char *path, struct span query, struct span authorization,
               struct span body);
/* POST of a text to a path. */
int kit_post(const char *path, const char *body);
/* Answer to what was decoded last. */
struct protocol_reply kit_reply(enum reply_kind kind);

#endif
