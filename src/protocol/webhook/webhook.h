/*
 * Webhook: events in no vendor's words, to an endpoint of the operator's own, signed as Standard Webhooks has it (docs/format/webhook.md).
 *
 *   struct model --write--> {"id":...,"type":"track",...}  --encode--> {"type":"events","data":[...]}  --sign--> webhook-id, -timestamp, -signature
 *
 * A connector only: no SDK speaks it, so there is nothing to decode, and policy, which judges in the source's words, asks its field table for nothing.
 * Numbers are in the ledger (flags bits 0-3) and are given once.
 */
#ifndef BH_PROTOCOL_WEBHOOK_H
#define BH_PROTOCOL_WEBHOOK_H

#include "protocol/protocol.h"

/* Endpoint of the vendor. */
enum webhook_endpoint { WEBHOOK_SEND = 1 };

extern const struct protocol_ops webhook_ops;

#endif
