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
    if (r == 0) {
        r = os_file_sync(history);
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
    /* History first: a torn end of it is then never a checkpoint that anybody may hold. */
    room[note.n] = '\n';
    r = append_history(path, span_of(room, note.n + 1));
    if (r != 0) {
        return r;
    }
    (void)snprintf(file, sizeof file, "%s/checkpoint", path);
    return os_file_replace(file, note.p, note.n, 0600);
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

static int read_history(const char *path, uint8_t **ret_text, size_t *ret_n) {
    char file[LEDGER_PATH + 16];
    struct os_file history = OS_FILE_NONE;
    uint64_t size = 0;
    uint8_t *text = NULL;
    (void)snprintf(file, sizeof file, "%s/checkpoints", path);
    int r = os_file_open(file, OS_OPEN_READ, &history);
    if (r == 0) {
        r = os_file_size(history, &size);
    }
    if (r == 0) {
        text = size <= HISTORY_MAX ? malloc(size + 1) : NULL;
        r = text == NULL ? BH_E_NOMEM : os_file_read_at(history, 0, text, size, ret_n);
    }
    os_file_close(&history);
    if (r != 0) {
        free(text);
        return r;
    }
    *ret_text = text;
    return 0;
}

int checkpoint_history(const char *path,
                       int (*each)(void *context, struct span note, uint64_t offset, bool is_last),
                       void *context) {
    uint8_t *text = NULL;
    size_t n = 0;
    int r = read_history(path, &text, &n);
    for (size_t at = 0; r == 0 && at < n;) {
        struct span rest = span_of(text + at, n - at);
        size_t note = note_size(rest);
        bool is_last = note == SIZE_MAX || at + note + 1 >= n;
        r = each(context, note == SIZE_MAX ? rest : span_cut(rest, 0, note), at, is_last);
        at += is_last ? rest.n : note + 1;
    }
    free(text);
    return r;
}

struct repair {
    const char *origin;
    const uint8_t *public_key;
    uint64_t cut_at; /* UINT64_MAX: nothing to cut */
};

static int look_at_last(void *context, struct span note, uint64_t offset, bool is_last) {
    struct repair *repair = context;
    struct tlog_checkpoint checkpoint;
    if (is_last &&
        tlog_checkpoint_verify(note, repair->origin, repair->public_key, &checkpoint) != 0) {
        repair->cut_at = offset;
    }
    return 0;
}

int checkpoint_repair(const char *path, const char *origin, const uint8_t *public_key) {
    char file[LEDGER_PATH + 16];
    struct repair repair = {origin, public_key, UINT64_MAX};
    struct os_file history = OS_FILE_NONE;
    int r = checkpoint_history(path, look_at_last, &repair);
    if (r != 0 || repair.cut_at == UINT64_MAX) {
        return r == BH_E_NOTFOUND ? 0 : r;
    }
    (void)snprintf(file, sizeof file, "%s/checkpoints", path);
    r = os_file_open(file, OS_OPEN_WRITE, &history);
    r = r == 0 ? os_file_truncate(history, repair.cut_at) : r;
    r = r == 0 ? os_file_sync(history) : r;
    os_file_close(&history);
    return r;
}
