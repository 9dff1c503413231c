#include "cli/cli_items.h"

#include <stdlib.h>
#include <string.h>

#include "os/clock.h"
#include "os/env.h"
#include "protocol/wire/wire.h"

enum {
    LINE_MAX_BYTES = LIMIT_EVENT_BYTES + 64 * 1024,
    BODY_MAX = LINE_MAX_BYTES + 64,
    FINDINGS_MAX = LIMIT_EVENT_FINDINGS
};

struct walker {
    const struct protocol_ops *protocol;
    bool overwrite;
    struct protocol_work work;
    struct protocol_item items[4];
    struct inspector *inspector;
    struct finding findings[FINDINGS_MAX];
    struct json_token *tokens; /* of the item alone */
    uint8_t *line;
    uint8_t *body; /* of a request that holds the line */
    uint64_t number;
    uint64_t bad;
};

void cli_pointer(struct span text, const struct json_token *tokens, uint32_t leaf,
                 struct buf *out) {
    uint32_t at = 0;
    while (at < leaf) {
        bool object = tokens[at].kind == JSON_OBJECT;
        uint32_t child = at + 1;
        uint64_t index = 0;
        for (; tokens[child].next <= leaf; child = tokens[child].next) {
            index++;
        }
        buf_put_byte(out, '/');
        if (!object) {
            buf_put_u64_dec(out, index);
            at = child;
            continue;
        }
        uint8_t room[1024];
        struct buf key_room = buf_of(room, sizeof room);
        struct span key = json_text(text, &tokens[child], &key_room);
        for (size_t i = 0; i < key.n; i++) {
            if (key.p[i] == '~' || key.p[i] == '/') {
                buf_put_str(out, key.p[i] == '~' ? "~0" : "~1");
            } else {
                buf_put_byte(out, key.p[i]);
            }
        }
        if (child == leaf) {
            return; /* the key itself */
        }
        at = child + 1;
    }
}

static void complain(struct walker *w, const char *what) {
    (void)fprintf(stderr, "bulkhead: line %llu: %s\n", (unsigned long long)w->number, what);
    w->bad++;
}

/* The line as the only item of a request, as an SDK of this protocol sends it. */
static int decode_line(struct walker *w, struct span line, struct protocol_decoded *ret) {
    if (w->protocol->alone == NULL) {
        return BH_E_UNSUPPORTED;
    }
    struct protocol_alone alone = w->protocol->alone(line);
    struct buf body = buf_of(w->body, BODY_MAX);
    buf_put_str(&body, alone.before);
    buf_put_span(&body, line);
    buf_put_str(&body, alone.after);
    struct protocol_request request = {
        .method = 2, /* HTTP_POST */
        .path = span_str(alone.path),
        .body = w->body,
        .body_len = body.n,
        .now_ms = (int64_t)(os_wall_us() / 1000),
    };
    return body.full ? BH_E_TOO_BIG : w->protocol->decode(&request, &w->work, ret);
}

static int take_line(struct walker *w, struct span line,
                     int (*each)(void *context, const struct cli_item *item), void *context) {
    struct protocol_decoded decoded;
    w->number++;
    if (span_trim(line).n == 0) {
        return 0;
    }
    int r = decode_line(w, line, &decoded);
    if (r != 0 || decoded.item_count != 1) {
        complain(w, r != 0 ? bh_error_text(r) : "one item a line is expected");
        return 0;
    }
    struct protocol_item *item = &decoded.items[0];
    if (item->reason != REASON_NONE) {
        complain(w, reason_word(item->reason));
        return 0;
    }
    size_t count = 0;
    size_t offset = 0;
    struct inspect_item seen = {.root = 0, .kind = item->kind};
    r = json_parse(item->json, LIMIT_JSON_DEPTH, w->tokens, LIMIT_EVENT_TOKENS, &count, &offset);
    if (r == 0) {
        inspect_items(w->inspector, w->protocol, item->json, w->tokens, count, &seen, 1,
                      w->findings, FINDINGS_MAX);
        r = seen.error;
    }
    if (r != 0) {
        complain(w, bh_error_text(r));
        return 0;
    }
    const struct finding *findings = &w->findings[seen.finding_first];
    if (w->overwrite) {
        /* NOLINTNEXTLINE(performance-no-int-to-ptr): our own buffer, writable */
        (void)inspect_overwrite((uint8_t *)(uintptr_t)item->json.p, w->tokens, 0, findings,
                                seen.finding_count);
    }
    struct cli_item out = {w->number, &decoded, item,     item->json,
                           w->tokens, count,    findings, seen.finding_count};
    return each(context, &out);
}

static int walk_lines(struct walker *w, int (*each)(void *context, const struct cli_item *item),
                      void *context) {
    size_t n = 0;
    bool end = false;
    int code = 0;
    while (code == 0 && !(end && n == 0)) {
        size_t newline = span_find_byte(span_of(w->line, n), '\n');
        if (newline == SIZE_MAX && !end && n < LINE_MAX_BYTES) {
            long got = os_stdin_read(w->line + n, LINE_MAX_BYTES - n);
            if (got < 0) {
                return cli_fail_text("cannot read standard input");
            }
            end = got == 0;
            n += (size_t)got;
            continue;
        }
        if (newline == SIZE_MAX && !end) {
            return cli_fail_text("line %llu is longer than 1 MiB",
                                 (unsigned long long)w->number + 1);
        }
        size_t size = newline == SIZE_MAX ? n : newline;
        code = take_line(w, span_of(w->line, size), each, context);
        size_t used = newline == SIZE_MAX ? n : newline + 1;
        memmove(w->line, w->line + used, n - used);
        n -= used;
    }
    return code;
}

int cli_items(const struct protocol_ops *protocol, bool overwrite,
              int (*each)(void *context, const struct cli_item *item), void *context,
              uint64_t *ret_bad) {
    enum { TEXT_MAX = 2 * BODY_MAX };
    struct err err = {0};
    struct walker *w = calloc(1, sizeof *w);
    int code = CLI_FAILED;
    if (w == NULL) {
        return cli_fail_text("out of memory");
    }
    w->protocol = protocol;
    w->overwrite = overwrite;
    w->line = malloc(LINE_MAX_BYTES);
    w->body = malloc(BODY_MAX);
    w->tokens = malloc(LIMIT_EVENT_TOKENS * sizeof *w->tokens);
    w->work = (struct protocol_work){
        .text = malloc(TEXT_MAX),
        .text_cap = TEXT_MAX,
        .tokens = malloc(LIMIT_EVENT_TOKENS * sizeof *w->tokens),
        .tokens_cap = LIMIT_EVENT_TOKENS,
        .items = w->items,
        .items_cap = BH_COUNT(w->items),
        .decoded_max = BODY_MAX,
        .wire = wire_new(),
    };
    if (w->line == NULL || w->body == NULL || w->tokens == NULL || w->work.text == NULL ||
        w->work.tokens == NULL || w->work.wire == NULL) {
        (void)cli_fail_text("out of memory");
    } else if (inspect_tables_init(&err) != 0 || inspector_new(&w->inspector) != 0) {
        (void)cli_fail(&err);
    } else {
        code = walk_lines(w, each, context);
    }
    *ret_bad = w->bad;
    inspector_free(w->inspector);
    wire_free(w->work.wire);
    free(w->work.text);
    free(w->work.tokens);
    free(w->tokens);
    free(w->body);
    free(w->line);
    free(w);
    return code;
}

uint64_t cli_never_closed(void *context, uint64_t property) {
    (void)context;
    (void)property;
    return UINT64_MAX;
}
