/*
 * Verification of one log, offline, from its bytes alone: every frame's checksum and seal, every line's form, the tree, the root of each attempt's entries, and every
 * signed checkpoint of the history against the tree as it was at that size. The first thing that is wrong is named by file and offset.
 */
#include <stdio.h>
#include <stdlib.h>

#include "flow/ledger/ledger_int.h"
#include "os/file.h"

/* Roots that checkpoints claim, in order of size. */
struct claim {
    uint64_t size;
    uint64_t offset; /* in `checkpoints` */
    struct tlog_hash root;
};

struct verify {
    const struct ledger_verify_options *options;
    struct ledger_verify_report *report;
    char path[LEDGER_PATH];
    char origin[256];
    struct log_keys keys;
    struct tlog_range tree;
    struct claim *claims;
    size_t claim_count;
    size_t claim_cap;
    size_t claim_next;
    uint64_t next_attempt;
    uint64_t segment;
    uint64_t offset;
    uint64_t
        unfinished; /* offset of a last note of the history that does not verify; UINT64_MAX = none */
};

static int wrong(struct verify *v, int code, const char *file, uint64_t offset, const char *text) {
    struct ledger_verify_report *report = v->report;
    (void)snprintf(report->file, sizeof report->file, "%s", file);
    report->offset = offset;
    (void)snprintf(report->text, sizeof report->text, "%s", text);
    return code;
}

static int wrong_frame(struct verify *v, int code, const char *text) {
    char file[64];
    (void)snprintf(file, sizeof file, "%010llu.seg", (unsigned long long)v->segment);
    return wrong(v, code, file, v->offset, text);
}

static int add_claim(void *context, struct span note, uint64_t offset, bool is_last) {
    struct verify *v = context;
    struct tlog_checkpoint checkpoint;
    if (tlog_checkpoint_verify(note, v->origin, v->keys.sign_public, &checkpoint) != 0) {
        if (is_last && offset != UINT64_MAX) {
            v->unfinished = offset; /* add_newest decides whether it may be */
            return 0;
        }
        return wrong(v, BH_E_TAMPERED, "checkpoints", offset,
                     "this checkpoint is not signed by the log's key");
    }
    if (v->claim_count != 0 && checkpoint.size < v->claims[v->claim_count - 1].size) {
        return wrong(v, BH_E_TAMPERED, "checkpoints", offset,
                     "this checkpoint is of a smaller tree than the one before");
    }
    if (v->claim_count == v->claim_cap) {
        size_t cap = v->claim_cap != 0 ? v->claim_cap * 2 : 256;
        struct claim *more = realloc(v->claims, cap * sizeof *more);
        if (more == NULL) {
            return BH_E_NOMEM;
        }
        v->claims = more;
        v->claim_cap = cap;
    }
    v->claims[v->claim_count++] = (struct claim){checkpoint.size, offset, checkpoint.root};
    v->report->checkpoints++;
    return 0;
}

static int add_newest(struct verify *v) {
    uint8_t room[TLOG_NOTE_MAX];
    struct buf note = buf_of(room, sizeof room);
    struct tlog_checkpoint checkpoint;
    int r = checkpoint_read(v->path, v->origin, v->keys.sign_public, &checkpoint, &note);
    if (r == BH_E_NOTFOUND) {
        return v->claim_count == 0
                   ? 0
                   : wrong(v, BH_E_CORRUPT, "checkpoint", 0, "the newest checkpoint is missing");
    }
    if (r != 0) {
        return wrong(v, BH_E_TAMPERED, "checkpoint", 0, "the newest checkpoint does not verify");
    }
    uint64_t before = v->claim_count != 0 ? v->claims[v->claim_count - 1].size : 0;
    if (v->unfinished != UINT64_MAX && checkpoint.size > before) {
        return wrong(v, BH_E_TAMPERED, "checkpoints", v->unfinished,
                     "this checkpoint is not signed by the log's key");
    }
    return add_claim(v, buf_span(&note), UINT64_MAX, true);
}

static int check_claims(struct verify *v) {
    struct tlog_hash root;
    while (v->claim_next < v->claim_count && v->claims[v->claim_next].size == v->tree.size) {
        const struct claim *claim = &v->claims[v->claim_next++];
        tlog_range_root(&v->tree, &root);
        if (!secret_equal(root.b, claim->root.b, sizeof root.b)) {
            return claim->offset == UINT64_MAX
                       ? wrong(v, BH_E_TAMPERED, "checkpoint", 0,
                               "the tree is not the one that was signed")
                       : wrong(v, BH_E_TAMPERED, "checkpoints", claim->offset,
                               "the tree is not the one that was signed");
        }
    }
    return 0;
}

/* An attempt whose ords are all known gets its entries_root recomputed. */
static int check_entries(struct verify *v, const struct leaf *leaf) {
    struct tlog_range tree;
    struct tlog_hash root;
    struct entry_walk walk;
    struct entry entry;
    bool all_known = v->options->lid_of != NULL;
    uint64_t count = 0;
    tlog_range_init(&tree);
    int r = entry_walk_begin(&walk, leaf);
    while (r == 0 && (r = entry_walk_next(&walk, &entry)) == 0) {
        uint8_t lid[16] = {0};
        if (all_known && entry.ord != 0 &&
            v->options->lid_of(v->options->context, entry.ord, lid) != 0) {
            all_known = false;
        }
        entry_append(&tree, lid, entry.shape, entry.events);
        count++;
    }
    if (r != BH_E_AGAIN) {
        return wrong_frame(v, BH_E_CORRUPT, "an attempt's entries cannot be read");
    }
    if (!all_known) {
        v->report->entries_unchecked += count;
        return 0;
    }
    v->report->entries += count;
    tlog_range_root(&tree, &root);
    return secret_equal(root.b, leaf->attempt.entries_root, 32)
               ? 0
               : wrong_frame(v, BH_E_TAMPERED, "an attempt's entries are not those of its line");
}

static int check_leaf(struct verify *v, const struct leaf *leaf) {
    struct tlog_hash hash;
    int r = 0;
    tlog_leaf(leaf->bytes, &hash);
    tlog_range_append(&v->tree, &hash);
    v->report->leaves++;
    if (leaf->type == LEAF_ATTEMPT) {
        v->report->attempts++;
        if (v->next_attempt != 0 && leaf->attempt.number != v->next_attempt) {
            return wrong_frame(v, BH_E_TAMPERED, "attempt numbers have a gap");
        }
        v->next_attempt = leaf->attempt.number + 1;
        r = check_entries(v, leaf);
    } else if (leaf->type == LEAF_OUTCOME) {
        v->report->outcomes++;
        if (leaf->outcome.attempt >= v->next_attempt) {
            return wrong_frame(v, BH_E_TAMPERED, "an outcome stands before its attempt");
        }
    }
    return r == 0 ? check_claims(v) : r;
}

static int check_frame(struct verify *v, const struct seglog_frame *frame) {
    struct frame_walk walk;
    struct leaf leaf;
    v->segment = frame->segment;
    v->offset = frame->offset;
    if (frame->first_seq != v->tree.size + 1) {
        return wrong_frame(v, BH_E_TAMPERED, "a frame is missing before this one");
    }
    int r = frame_walk_begin(&walk, frame->plain);
    while (r == 0 && (r = frame_walk_next(&walk, &leaf)) == 0) {
        r = check_leaf(v, &leaf);
    }
    if (r == BH_E_AGAIN) {
        r = 0;
    } else if (v->report->text[0] == '\0') {
        r = wrong_frame(v, r, bh_error_text(r));
    }
    v->report->frames++;
    v->report->bytes += frame->size;
    return r;
}

static int sum_bytes(void *context, const struct seglog_segment *segment) {
    *(uint64_t *)context += segment->bytes;
    return 0;
}

static int check_log(struct verify *v, const struct seglog_config *config) {
    struct seglog_reader *reader = NULL;
    struct seglog_frame frame;
    struct err err = {0};
    uint64_t total = 0;
    uint8_t *room = malloc(SEGLOG_FRAME_MAX);
    int r = room != NULL ? seglog_list(config->dir, config->kind, sum_bytes, &total) : BH_E_NOMEM;
    r = r == 0 ? seglog_reader_new(config, &reader, &err) : r;
    while (r == 0 &&
           (r = seglog_read_next(reader, UINT64_MAX, room, SEGLOG_FRAME_MAX, &frame)) == 0) {
        r = check_frame(v, &frame);
        if (v->options->progress != NULL) {
            v->options->progress(v->options->context, v->report->bytes, total);
        }
    }
    if (reader != NULL && r != 0 && r != BH_E_AGAIN && r != BH_E_TORN &&
        v->report->text[0] == '\0') {
        struct seglog_recovery where;
        seglog_reader_report(reader, &where);
        v->segment = where.rot_segment;
        v->offset = where.rot_offset;
        r = wrong_frame(v, r, bh_error_text(r));
    }
    if (v->options->progress != NULL) {
        v->options->progress(v->options->context, total, total);
    }
    seglog_reader_free(reader);
    free(room);
    return r == BH_E_AGAIN || r == BH_E_TORN ? 0 : r;
}

int ledger_verify(const struct ledger_verify_options *options,
                  struct ledger_verify_report *ret_report) {
    struct verify v = {.options = options, .report = ret_report, .unfinished = UINT64_MAX};
    struct seglog_config config;
    struct err err = {0};
    memset(ret_report, 0, sizeof *ret_report);
    tlog_range_init(&v.tree);
    ledger_log_path(options->dir, options->log_name, v.path, sizeof v.path);
    ledger_origin(options->keyring, options->log_name, v.origin, sizeof v.origin);
    int r = os_path_exists(v.path)
                ? keyring_log(options->keyring, options->log_name, false, &v.keys, &err)
                : BH_E_NOTFOUND;
    if (r != 0) {
        return wrong(&v, r, options->log_name, 0, "there is no such log, or no key for it");
    }
    ledger_seglog_config(v.path, options->keyring, v.keys.wrapping, &config);
    r = checkpoint_history(v.path, add_claim, &v);
    r = r == BH_E_NOTFOUND ? 0 : r;
    r = r == 0 ? add_newest(&v) : r;
    r = r == 0 ? check_claims(&v) : r;
    r = r == 0 ? check_log(&v, &config) : r;
    if (r == 0 && v.claim_next != v.claim_count) {
        r = wrong(&v, BH_E_TAMPERED, "checkpoint", 0,
                  "the log ends before the tree that was signed: lines are missing at its end");
    }
    free(v.claims);
    return r;
}
