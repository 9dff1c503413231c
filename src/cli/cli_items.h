/*
 * Items from standard input for inspect and preview: one batch item a line, as the SDK sends it. The same decoder, inspector and overwriting as serve uses.
 */
#ifndef BH_CLI_ITEMS_H
#define BH_CLI_ITEMS_H

#include "cli/cli.h"
#include "flow/inspect/inspect.h"
#include "protocol/protocol.h"

struct cli_item {
    uint64_t line;
    struct protocol_decoded *decoded;
    struct protocol_item *item; /* reason REASON_NONE */
    struct span text;           /* of the item alone, never-spans overwritten when `overwrite` */
    const struct json_token *tokens; /* of `text`, root 0 */
    size_t token_count;
    const struct finding *findings;
    size_t finding_count;
};

/* Calls `each` for every line; a line that is no item is reported on standard error with its number and counted in *ret_bad. `each` returns 0 or an exit code that ends the walk. */
int cli_items(const struct protocol_ops *protocol, bool overwrite,
              int (*each)(void *context, const struct cli_item *item), void *context,
              uint64_t *ret_bad);

/*
 * What a plan declares. An item's undeclared leaves come as tokens of its text, at most cap.
 */
struct cli_declared;
int cli_declared_new(const char *file, const struct protocol_ops *protocol,
                     struct cli_declared **ret_declared, struct err *err) BH_MUST_USE;
void cli_declared_free(struct cli_declared *declared);
size_t cli_undeclared(struct cli_declared *declared, const struct protocol_ops *protocol,
                      const struct cli_item *item, uint32_t *ret_tokens, size_t cap);

/* For policy_input.distinct_closed_at: max_distinct is the daemon's to count, so here no property is closed. */
uint64_t cli_never_closed(void *context, uint64_t property);

/* RFC 6901 pointer of the token `leaf`. */
void cli_pointer(struct span text, const struct json_token *tokens, uint32_t leaf, struct buf *out);

#endif
