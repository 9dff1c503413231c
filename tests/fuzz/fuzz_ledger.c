/* Frames and leaves of a ledger as bytes: whatever they are, walking them ends, stays inside, and says CORRUPT or VERSION. */
/* depends: ledger keyring seglog tlog crypto model os base */
#include "flow/ledger/ledger_leaf.h"
#include "fuzz/fuzz_entry.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct frame_walk walk;
    struct leaf leaf;
    if (frame_walk_begin(&walk, span_of(data, size)) != 0) {
        return 0;
    }
    while (frame_walk_next(&walk, &leaf) == 0) {
        struct entry_walk entries;
        struct entry entry;
        if (leaf.type != LEAF_ATTEMPT) {
            continue;
        }
        int r = entry_walk_begin(&entries, &leaf);
        while (r == 0) {
            r = entry_walk_next(&entries, &entry);
        }
    }
    return 0;
}
