/*
 * Frames: what is encoded inside a string, and inside that, without recursion.
 *
 *   frame 0   the leaf's decoded string      url=https%3A%2F%2Fx.example%2F%3Fd%3DeyJlbWFpbCI6...
 *   frame 1   unquoted                       url=https://x.example/?d=eyJlbWFpbCI6...
 *   frame 2   a base64 run of it             {"email":"jonas@example.com"}
 *   frame 3   a string of that JSON          jonas@example.com
 *
 * A frame is opened (its text looked at), then asked for its next child until it has none. Which
 * children it has is decided once:
 *   JSON that parses    -> each string and key of it
 *   else, if unquoting changes it -> the unquoted text
 *   else                -> each base64 run that decodes to text
 * so that the children of a frame lie in disjoint parts of it. With at most DECODES_MAX decodings
 * inside each other the work is at most 1 + DECODES_MAX times the bytes. JSON that does not parse
 * (an SDK truncates strings) is text like any other.
 */
#include "flow/inspect/inspect_int.h"

#include "base/check.h"

static uint8_t *pool_take(struct inspector *in, size_t n) {
    if (n > POOL_BYTES - in->pool_used) {
        in->error = BH_E_TOO_MANY;
        return NULL;
    }
    uint8_t *p = in->pool + in->pool_used;
    in->pool_used += n;
    return p;
}

uint8_t *pool_text(struct inspector *in, size_t n) {
    uint8_t *p = pool_take(in, n + 2);
    if (p == NULL) {
        return NULL;
    }
    p[0] = '\n';
    return p + 1;
}

struct span pool_keep(struct inspector *in, uint8_t *text, size_t n) {
    check(text + n < in->pool + in->pool_used);
    text[n] = '\n';
    in->pool_used = (size_t)(text + n + 1 - in->pool);
    return (struct span){text, n};
}

struct span pool_unescape(struct inspector *in, struct span raw) {
    uint8_t *room = pool_text(in, raw.n);
    if (room == NULL) {
        return SPAN_NONE;
    }
    struct buf b = buf_of(room, raw.n);
    json_unescape(raw, &b);
    return pool_keep(in, room, b.n);
}

static uint32_t *pool_marks(struct inspector *in, size_t count) {
    size_t padding = (4 - (in->pool_used & 3)) & 3;
    uint8_t *p = pool_take(in, padding + count * sizeof(uint32_t));
    return p == NULL ? NULL : (uint32_t *)(void *)(p + padding);
}

static bool looks_like_json(struct span text) {
    size_t i = 0;
    while (i < text.n && i < 8 && is_space(text.p[i])) {
        i++;
    }
    return text.n - i >= 2 && (text.p[i] == '{' || text.p[i] == '[' || text.p[i] == '"');
}

/* Parses the frame's text as JSON; false when it is none. */
static bool frame_parse(struct inspector *in, struct frame *f) {
    size_t count = 0;
    size_t offset = 0;
    struct json_token *tokens = in->nested + in->tokens_used;
    int rc = json_parse(f->text, LIMIT_JSON_DEPTH, tokens, NESTED_TOKENS_MAX - in->tokens_used,
                        &count, &offset);
    if (rc == BH_E_TOO_MANY || rc == BH_E_TOO_DEEP) {
        in->error = BH_E_TOO_MANY; /* too much to look at is too much to take */
        return false;
    }
    if (rc != 0) {
        return false;
    }
    in->tokens_used += count;
    walk_open(&f->walk, f->text, tokens, 0, NULL, 0, &f->info);
    return true;
}

/* Remembers a decoded text for the secrets scan. */
static void remember(struct inspector *in, struct span text, bool root, unsigned features) {
    if ((features & HAS_RUN) == 0 && (features & HAS_COLON) == 0) {
        return;
    }
    if (in->segment_count == SEGMENTS_MAX) {
        secrets_flush(in);
    }
    struct segment *s = &in->segments[in->segment_count++];
    s->start = (uint32_t)(text.p - in->pool);
    s->length = (uint32_t)text.n;
    s->leaf = in->leaf;
    s->root = root;
}

/* The frame on top has its text; looks at it and decides what children it has. */
static void frame_open(struct inspector *in, struct frame *f, unsigned features) {
    f->mode = MODE_DONE;
    f->cursor = 0;
    f->tokens_before = in->tokens_used;
    if (detect_by_key(in, JSON_STRING, f->text, &f->info)) {
        return; /* never-on-disk as a whole: what else is in it does not matter */
    }
    if (looks_like_json(f->text) && frame_parse(in, f)) {
        f->mode = MODE_JSON;
        return;
    }
    if (in->error != 0) {
        return;
    }
    detect_text(in, f->text, &f->info, features);
    if (f->decodes < DECODES_MAX) {
        f->mode = (features & HAS_QUOTED) != 0   ? MODE_UNQUOTE
                  : (features & HAS_BASE64) != 0 ? MODE_BASE64
                                                 : MODE_DONE;
    }
}

/* A new top frame over `text`, which stands for [start, start + length) of the frame below. */
static struct frame *frame_push(struct inspector *in, struct span text, enum frame_how how,
                                size_t start, size_t length, const struct key_info *info) {
    check(in->frame_count > 0 && in->frame_count < FRAMES_MAX);
    const struct frame *below = &in->frames[in->frame_count - 1];
    struct frame *f = &in->frames[in->frame_count++];
    f->text = text;
    f->source_start = (uint32_t)start;
    f->source_length = (uint32_t)length;
    f->marks = NULL;
    f->how = (uint8_t)how;
    f->info = *info;
    f->decodes = (uint8_t)(below->decodes + (how != FRAME_SLICE));
    return f;
}

static void child_open(struct inspector *in, struct frame *f) {
    unsigned features = gate_features(f->text.p, f->text.n, f->text.p + f->text.n);
    if (f->how != FRAME_SLICE) {
        remember(in, f->text, false, features);
    }
    if (in->error == 0) {
        frame_open(in, f, features);
    }
}

/* A string or key of a JSON frame becomes a frame of its own. */
static void child_string(struct inspector *in, const struct frame *parent,
                         const struct walk_step *step) {
    struct span raw = json_span(parent->text, step->token);
    if (raw.n == 0) {
        return;
    }
    const struct key_info *info = step->info;
    if ((step->token->flags & JSON_ESCAPED) == 0) {
        child_open(in, frame_push(in, raw, FRAME_SLICE, step->token->start, raw.n, info));
        return;
    }
    if (parent->decodes == DECODES_MAX) {
        return;
    }
    struct span text = pool_unescape(in, raw);
    if (in->error == 0) {
        child_open(in, frame_push(in, text, FRAME_WHOLE, step->token->start, raw.n, info));
    }
}

static bool step_json(struct inspector *in, struct frame *f) {
    struct walk_step step;
    if (!walk_next(in, &f->walk, &step)) {
        return false;
    }
    if (step.token->kind == JSON_STRING || step.token->kind == JSON_KEY) {
        child_string(in, f, &step);
        return true;
    }
    /* A scalar is looked at in a frame of its own, so that its finding maps to its bytes. */
    struct span raw = json_span(f->text, step.token);
    (void)frame_push(in, raw, FRAME_SLICE, step.token->start, raw.n, step.info);
    detect_scalar(in, (enum json_kind)step.token->kind, raw, step.info);
    in->frame_count--;
    return true;
}

static bool step_unquote(struct inspector *in, struct frame *f) {
    f->mode = MODE_DONE;
    if (!unquote_changes(f->text)) {
        f->mode = MODE_BASE64;
        return true;
    }
    uint32_t *marks = pool_marks(in, unquote_marks_count(f->text.n));
    uint8_t *room = pool_text(in, f->text.n);
    if (room == NULL || marks == NULL) {
        return false;
    }
    struct span text = pool_keep(in, room, unquote(f->text, room, marks));
    struct frame *child = frame_push(in, text, FRAME_UNQUOTE, 0, f->text.n,
                                     &(struct key_info){.flags = f->info.flags});
    child->marks = marks;
    child_open(in, child);
    return true;
}

/*
 * Decodes text from base64 at p until it ends or stops being text; returns the decoded length and
 * how much was read.
 */
static size_t base64_decode(const uint8_t *p, size_t n, uint8_t *out, size_t *ret_read) {
    size_t made = 0;
    size_t i = 0;
    uint32_t v = 0;
    for (; i < n && gate_base64[p[i]] < 64; i++) {
        v = v << 6 | gate_base64[p[i]];
        if ((i & 3) != 3) {
            continue;
        }
        for (unsigned k = 0; k < 3; k++) {
            out[made + k] = (uint8_t)(v >> (16 - 8 * k));
        }
        /*
         * Control characters mean that this is not, or no more, text. Bytes above 0x7f are let
         * through: names are not ASCII.
         */
        for (unsigned k = 0; k < 3; k++) {
            if (out[made + k] < 0x20 && !is_space(out[made + k])) {
                *ret_read = i + 1;
                return made + k;
            }
        }
        made += 3;
    }
    if ((i & 3) >= 2) {
        v <<= (i & 3) == 2 ? 12 : 6;
        out[made++] = (uint8_t)(v >> 16);
        if ((i & 3) == 3) {
            out[made++] = (uint8_t)(v >> 8);
        }
    }
    while (i < n && p[i] == '=') {
        i++;
    }
    *ret_read = i;
    return made;
}

static bool step_base64(struct inspector *in, struct frame *f) {
    const uint8_t *p = f->text.p;
    size_t n = f->text.n;
    size_t i = f->cursor;
    while (i + 8 <= n) {
        if ((gate_bits[p[i]] & GATE_ALNUM) == 0 ||
            (i > 0 && (gate_bits[p[i - 1]] & GATE_ALNUM) != 0)) {
            i++;
            continue;
        }
        size_t run = 0;
        while (run < 8 && (gate_bits[p[i + run]] & GATE_BASE64) != 0) {
            run++;
        }
        if (run == 8 && gate_base64_text(p + i)) {
            break;
        }
        i++;
    }
    if (i + 8 > n) {
        return false;
    }
    uint8_t *room = pool_text(in, (n - i) / 4 * 3 + 3);
    if (room == NULL) {
        return false;
    }
    size_t read = 0;
    size_t made = base64_decode(p + i, n - i, room, &read);
    check(made >= 6 && read >= 8);
    f->cursor = (uint32_t)(i + read);
    child_open(in, frame_push(in, pool_keep(in, room, made), FRAME_WHOLE, i, read, &key_silent));
    return true;
}

static bool frame_step(struct inspector *in, struct frame *f) {
    switch ((enum frame_mode)f->mode) {
    case MODE_JSON:
        return step_json(in, f);
    case MODE_UNQUOTE:
        return step_unquote(in, f);
    case MODE_BASE64:
        return step_base64(in, f);
    case MODE_DONE:
    default:
        return false;
    }
}

void frames_look(struct inspector *in, struct span text, const struct key_info *info,
                 unsigned features, bool decoded) {
    struct frame *root = &in->frames[0];
    root->text = text;
    root->how = FRAME_ROOT;
    root->decodes = 0;
    root->marks = NULL;
    root->source_start = 0;
    root->source_length = (uint32_t)text.n;
    in->frame_count = 1;
    if (decoded) {
        remember(in, text, true, features);
    }
    root->info = *info;
    frame_open(in, root, features);
    while (in->frame_count > 0 && in->error == 0) {
        struct frame *top = &in->frames[in->frame_count - 1];
        if (!frame_step(in, top)) {
            in->tokens_used = top->tokens_before;
            in->frame_count--;
        }
    }
    in->frame_count = 0;
}
