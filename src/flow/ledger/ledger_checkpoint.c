/*
 * Checkpoints of one log. `checkpoint` is the newest note, replaced whole; `checkpoints` is the history: notes one after another, each
 * followed by an empty line. The history is what an auditor compares with the checkpoints that he kept.
 */
#include <stdio.h>
#include <stdlib.h>

#include "flow/ledger/ledger_int.h"
#include "os/file.h"

enum { HISTORY_MAX = 256 * 1024 * 1024 };

int checkpoint_read(const char *path, const char *origin, const uint8_t *public_key,
                    struct tlog_checkpoint *ret_checkpoint, struct buf *note) {
    char file[LEDGER_PATH + 16];
    (void)snprintf(file, sizeof file, "%s/checkpoint", path);
    int r = os_file_read_whole(file, note->p, note->cap, &note->n);
    return r != 0 ? r : tlog_checkpoint_verify(buf_span(note), origin, public_key, ret_checkpoint);
}

static int append_history(const char *path, struct span note) {
    char file[LEDGER_PATH + 16];
    struct os_file history = OS_FILE_NONE;
    uint64_t size = 0;
    (void)snprintf(file, sizeof file, "%s/checkpoints", path);
    int r = os_file_open(file, OS_OPEN_WRITE | OS_OPEN_CREATE, &history);
    if (r == 0) {
        r = os_file_size(history, &size);
    }
    if (r == 0) {
        r = os_file_write_at(history, size, note.p, note.n);
    }
    os_file_close(&history);
    return r;
}

int checkpoint_write(const char *path, const char *origin, const struct log_keys *keys,
                     const struct tlog_range *tree) {
    char file[LEDGER_PATH + 16];
    uint8_t room[TLOG_NOTE_MAX];
    struct buf note = buf_of(room, sizeof room - 1);
    struct tlog_hash root;
    tlog_range_root(tree, &root);
    int r = tlog_checkpoint_sign(origin, tree->size, &root, origin, keys->sign_secret,
                                 keys->sign_public, &note);
    if (r != 0) {
        return r;
    }
    (void)snprintf(file, sizeof file, "%s/checkpoint", path);
    r = os_file_replace(file, note.p, note.n, 0600);
    if (r != 0) {
        return r;
    }
    room[note.n] = '\n';
    return append_history(path, span_of(room, note.n + 1));
}

/* Size of the note at the start of `rest`: text, empty line, signature lines, up to the empty line that ends it. */
static size_t note_size(struct span rest) {
    size_t text = span_find(rest, SPAN_LIT("\n\n"));
    if (text == SIZE_MAX) {
        return SIZE_MAX;
    }
    size_t signatures = span_find(span_from(rest, text + 2), SPAN_LIT("\n\n"));
    return signatures == SIZE_MAX ? SIZE_MAX : text + 2 + signatures + 1;
}

int checkpoint_history(const char *path,
                       int (*each)(void *context, struct span note, uint64_t offset),
                       void *context) {
    char file[LEDGER_PATH + 16];
    struct os_file history = OS_FILE_NONE;
    uint64_t size = 0;
    size_t n = 0;
    (void)snprintf(file, sizeof file, "%s/checkpoints", path);
    int r = os_file_open(file, OS_OPEN_READ, &history);
    if (r == 0) {
        r = os_file_size(history, &size);
    }
    if (r == 0 && size > HISTORY_MAX) {
        r = BH_E_TOO_BIG;
    }
    uint8_t *text = r == 0 ? malloc(size + 1) : NULL;
    if (r == 0) {
        r = text == NULL ? BH_E_NOMEM : os_file_read_at(history, 0, text, size, &n);
    }
    os_file_close(&history);
    for (size_t at = 0; r == 0 && at < n;) {
        struct span rest = span_of(text + at, n - at);
        size_t note = note_size(rest);
        if (note == SIZE_MAX) {
            break; /* the last note was being written when the power went: the newest file has it */
        }
        r = each(context, span_cut(rest, 0, note), at);
        at += note + 1;
    }
    free(text);
    return r;
}
