/*
 * RudderStack: Segment's messages in its own envelope.
 *
 *   POST /v1/batch             node: gzip with the content type of a form; Basic: the write key is the user
 *   POST /v1/track, /page ...  single messages; /beacon/v1/batch?writeKey=: of a page that is left
 *   GET  /sourceConfig         without which the browser SDK sends nothing
 *
 * To the vendor: /v1/batch, gzip, answered "OK".
 */
#ifndef BH_PROTOCOL_RUDDER_H
#define BH_PROTOCOL_RUDDER_H

#include "protocol/protocol.h"

extern const struct protocol_ops rudder_ops;

#endif
