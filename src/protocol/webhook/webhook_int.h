/* What the webhook module's files share with each other only. */
#ifndef BH_PROTOCOL_WEBHOOK_INT_H
#define BH_PROTOCOL_WEBHOOK_INT_H

#include "protocol/webhook/webhook.h"
#include "protocol/wire/model.h"

/* webhook_model.c */
extern const struct protocol_model webhook_model;

/* webhook_sign.c: see protocol_ops. A credential is one secret or, while it is changed, two, with space between: whsec_ and base64 of 24 to 64 bytes. */
bool webhook_is_credential(struct span credential);
/* " v1,..." for each secret. */
int webhook_put_signatures(struct span credential, struct span id, struct span time,
                           struct span body, struct buf *out) BH_MUST_USE;
int webhook_sign(const struct protocol_signing *signing, struct buf *out) BH_MUST_USE;

#endif
