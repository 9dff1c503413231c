/* What the ledger's own files share. */
#ifndef BH_FLOW_LEDGER_INT_H
#define BH_FLOW_LEDGER_INT_H

#include "engine/seglog/seglog.h"
#include "engine/tlog/tlog.h"
#include "flow/ledger/ledger.h"
#include "flow/ledger/ledger_leaf.h"

enum {
    LEDGER_PATH = 512,
    LEDGER_SEGMENT = 128 * 1024 * 1024,
    LEDGER_GROW = 1024 * 1024,
    LEDGER_FRAME = 1024 * 1024, /* largest frame that this version writes */
};

/* seglog's seqs are leaf indexes + 1, so that a reader can seek by leaf. */
void ledger_seglog_config(const char *path, const struct keyring *keyring, const uint8_t *wrapping,
                          struct seglog_config *ret_config);
/* "<dir>/<vendor>-<n>" and the checkpoint's origin "bulkhead/<deployment hex>/<instance>/<vendor>-<n>". */
void ledger_log_path(const char *dir, const char *log_name, char *out, size_t cap);
void ledger_origin(const struct keyring *keyring, const char *log_name, char *out, size_t cap);
/* Newest n for which a folder exists; 0 = none. */
uint32_t ledger_newest(const char *dir, const char *vendor);

/* ledger_checkpoint.c: the newest note in `checkpoint`, all of them in `checkpoints`. */
int checkpoint_read(const char *path, const char *origin, const uint8_t *public_key,
                    struct tlog_checkpoint *ret_checkpoint, struct buf *note) BH_MUST_USE;
int checkpoint_write(const char *path, const char *origin, const struct log_keys *keys,
                     const struct tlog_range *tree) BH_MUST_USE;
/* Calls `each` for every note of the history, oldest first; its non-zero return ends the walk. The last one may be unfinished: the power went while it
 * was written, before it became the newest. */
int checkpoint_history(const char *path,
                       int (*each)(void *context, struct span note, uint64_t offset, bool is_last),
                       void *context) BH_MUST_USE;
/* Cuts an unfinished last note off. */
int checkpoint_repair(const char *path, const char *origin, const uint8_t *public_key) BH_MUST_USE;

#endif
