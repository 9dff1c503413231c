/*
 * The loader: libfyaml's events become a tree in three growing arrays (nodes, children, text), so that freeing is three calls and depth
 * costs no stack. A container's children wait on `pending` until it closes and then move to `children` in one piece.
 *
 * libfyaml resolves nothing here: anchors, aliases and tags are refused as they pass, because a value that stands elsewhere in the file
 * cannot be reviewed where it is used.
 */
#include "engine/yaml/yaml.h"

#include <libfyaml.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "engine/yaml/yaml_int.h"
#include "os/file.h"

enum {
    YAML_BYTES_MAX = 1024 * 1024,
    YAML_DEPTH_MAX = 16,
    YAML_MAGIC = 0x79616d6c,
    SOURCE_SHOWN = 76,  /* bytes of a source line under an error */
    LINE_LOOKED = 4096, /* bytes of it to either side in which a secret is looked for */
};

struct level {
    uint32_t node;
    size_t pending_first;
};

struct loader {
    struct yaml_doc *doc;
    struct err *err;
    uint32_t *pending;
    size_t pending_count;
    size_t pending_cap;
    struct level levels[YAML_DEPTH_MAX];
    unsigned depth;
    uint32_t
        offset; /* of the last event that has a place: a missing value is reported at its key */
    bool has_root;
};

/* Room for `more` further elements; the arrays at least double, so that loading is linear. */
static int grow(void **array, size_t *cap, size_t count, size_t more, size_t size) {
    if (count + more <= *cap) {
        return 0;
    }
    size_t wanted = *cap * 2 > count + more ? *cap * 2 : count + more + 16;
    void *moved = realloc(*array, wanted * size);
    if (moved == NULL) {
        return BH_E_NOMEM;
    }
    *array = moved;
    *cap = wanted;
    return 0;
}

/* Line and column, from 1 and in bytes, of an offset. */
static void place(const struct yaml_doc *doc, uint32_t offset, uint32_t *ret_line,
                  uint32_t *ret_column) {
    uint32_t line = 1;
    uint32_t start = 0;
    for (uint32_t i = 0; i < offset && i < doc->source_size; i++) {
        if (doc->source[i] == '\n') {
            line++;
            start = i + 1;
        }
    }
    *ret_line = line;
    *ret_column = offset - start + 1;
}

/* Bytes of the UTF-8 character at `at`, in its shortest form and no surrogate; 0 when it is none. */
static size_t utf8_size(const uint8_t *p, size_t n) {
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t size = p[0] < 0x80   ? 1
                  : p[0] < 0xc0 ? 0
                  : p[0] < 0xe0 ? 2
                  : p[0] < 0xf0 ? 3
                  : p[0] < 0xf8 ? 4
                                : 0;
    if (size < 2) {
        return size;
    }
    if (size > n) {
        return 0;
    }
    uint32_t code = p[0] & (0x7fU >> size);
    for (size_t i = 1; i < size; i++) {
        if ((p[i] & 0xc0) != 0x80) {
            return 0;
        }
        code = code << 6 | (p[i] & 0x3fU);
    }
    return code >= least[size] && code <= 0x10ffff && (code < 0xd800 || code > 0xdfff) ? size : 0;
}

/* Where the value at `at` of a line ends: at its quote, at the brace of a mapping, else at the next sign of a mapping around it. */
static size_t value_end(struct span line, size_t at) {
    uint8_t first = at < line.n ? line.p[at] : 0;
    size_t end = at + 1;
    if (first == '"' || first == '\'') {
        while (end < line.n && line.p[end] != first) {
            end++;
        }
        return end;
    }
    while (end < line.n && line.p[end] != '}' &&
           (first == '{' || (line.p[end] != ',' && line.p[end] != ' '))) {
        end++;
    }
    return end;
}

/* A mapping that says where a secret is, and not what it is. */
static bool is_reference(struct span value) {
    static const char *const words[] = {"env:", "file:", "systemd:"};
    size_t at = 1;
    if (value.n == 0 || value.p[0] != '{') {
        return false;
    }
    while (at < value.n && value.p[at] == ' ') {
        at++;
    }
    for (size_t i = 0; i < BH_COUNT(words); i++) {
        if (span_starts(span_from(value, at), span_str(words[i]))) {
            return true;
        }
    }
    return false;
}

/*
 * Whether byte i of a source line may be a secret that somebody wrote where none belongs: errors go to logs. What stands behind a key that
 * carries one, and user and password of an address.
 */
static bool is_hidden(struct span line, size_t i) {
    static const char *const keys[] = {"credential:", "token:", "secret:", "://"};
    for (size_t k = 0; k < BH_COUNT(keys); k++) {
        struct span key = span_str(keys[k]);
        size_t at = 0;
        size_t found;
        while ((found = span_find(span_from(line, at), key)) != SIZE_MAX) {
            at += found + key.n;
            bool is_address = key.p[0] == ':';
            while (!is_address && at < line.n && line.p[at] == ' ') {
                at++;
            }
            if (i < at || is_reference(span_from(line, at))) {
                continue;
            }
            struct span rest = span_from(line, at);
            size_t sign = is_address ? span_find_byte(rest, '@') : SIZE_MAX;
            size_t end = !is_address ? value_end(line, at) : sign != SIZE_MAX ? at + sign : at;
            if (i < end) {
                return true;
            }
        }
    }
    return false;
}

/* The line that holds `at`, of which a secret may be shown only as stars. */
static struct span line_of(const struct yaml_doc *doc, size_t at, size_t *ret_start) {
    size_t start = at;
    size_t end = at;
    while (start > 0 && at - start < LINE_LOOKED && doc->source[start - 1] != '\n') {
        start--;
    }
    while (end < doc->source_size && end - at < LINE_LOOKED && doc->source[end] != '\n') {
        end++;
    }
    *ret_start = start;
    return span_of(doc->source + start, end - start);
}

/* "\n  12 | source line\n     |   ^" as far as it fits; a long line is shown around the column. */
static void show_source(const struct yaml_doc *doc, uint32_t offset, uint32_t line,
                        struct buf *out) {
    size_t at = offset < doc->source_size ? offset : doc->source_size;
    size_t start = at;
    while (start > 0 && doc->source[start - 1] != '\n' && at - start < SOURCE_SHOWN - 20) {
        start--;
    }
    while (start < at && (doc->source[start] & 0xc0) == 0x80) {
        start++;
    }
    size_t end = at;
    while (end < doc->source_size && doc->source[end] != '\n' && end - start < SOURCE_SHOWN) {
        end++;
    }
    while (end > at && end < doc->source_size && (doc->source[end] & 0xc0) == 0x80) {
        end--;
    }
    size_t line_start;
    struct span whole = line_of(doc, at, &line_start);
    char number[16];
    int width = snprintf(number, sizeof number, "%4u", line);
    buf_put_str(out, "\n");
    buf_put_str(out, number);
    buf_put_str(out, " | ");
    for (size_t i = start; i < end;) {
        size_t size = utf8_size(doc->source + i, end - i);
        if (is_hidden(whole, i - line_start)) {
            buf_put_byte(out, '*');
        } else if (size == 0 || doc->source[i] < 0x20) {
            buf_put_byte(out, size == 0 ? '?' : ' ');
        } else {
            buf_put(out, doc->source + i, size);
        }
        i += size != 0 ? size : 1;
    }
    buf_put_str(out, "\n");
    for (int i = 0; i < width; i++) {
        buf_put_byte(out, ' ');
    }
    buf_put_str(out, " | ");
    for (size_t i = start; i < at; i++) {
        if ((doc->source[i] & 0xc0) != 0x80) {
            buf_put_byte(out, ' ');
        }
    }
    buf_put_byte(out, '^');
}

static int error_at(struct err *err, const struct yaml_doc *doc, uint32_t offset,
                    const char *text) {
    uint32_t line;
    uint32_t column;
    place(doc, offset, &line, &column);
    char shown[sizeof((struct err *)NULL)->text];
    struct buf out = buf_of(shown, sizeof shown - 1);
    size_t text_size = strlen(text);
    /* A long text gives way, so that the source line always stands. */
    buf_put(&out, text, text_size < 280 ? text_size : 280);
    show_source(doc, offset, line, &out);
    shown[out.n] = '\0';
    return err_set_at(err, BH_E_CONFIG, doc->name, line, column, "%s", shown);
}

int yaml_error(struct err *err, const struct yaml_node *node, const char *format, ...) {
    char text[320];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args); /* cut where it does not fit */
    va_end(args);
    return error_at(err, node->doc, node->offset, text);
}

/* -- building ---------------------------------------------------------------------------------- */

/* Takes the place of an event, if it has one; quoted text is reported from its quote on. */
static void move_to(struct loader *load, struct fy_event *event) {
    const struct yaml_doc *doc = load->doc;
    const struct fy_mark *mark = fy_event_start_mark(event);
    if (mark == NULL || mark->input_pos > doc->source_size) {
        return;
    }
    load->offset = (uint32_t)mark->input_pos;
    if (event->type == FYET_SCALAR && load->offset > 0 &&
        (doc->source[load->offset - 1] == '"' || doc->source[load->offset - 1] == '\'') &&
        fy_scalar_token_get_style(event->scalar.value) != FYSS_PLAIN) {
        load->offset--;
    }
}

static int add_node(struct loader *load, enum yaml_kind kind, uint32_t *ret_index) {
    struct yaml_doc *doc = load->doc;
    int rc = grow((void **)&doc->nodes, &doc->node_cap, doc->node_count, 1, sizeof *doc->nodes);
    if (rc == 0) {
        rc = grow((void **)&load->pending, &load->pending_cap, load->pending_count, 1,
                  sizeof *load->pending);
    }
    if (rc != 0) {
        return err_set(load->err, rc, "%s: no memory", doc->name);
    }
    uint32_t index = (uint32_t)doc->node_count++;
    /* NOLINTNEXTLINE(clang-analyzer-core.uninitialized.ArraySubscript): set by the call before */
    struct yaml_node *node = &doc->nodes[index];
    *node = (struct yaml_node){.doc = doc, .kind = (uint8_t)kind, .offset = load->offset};
    load->pending[load->pending_count++] = index;
    *ret_index = index;
    return 0;
}

static bool expects_key(const struct loader *load) {
    if (load->depth == 0) {
        return false;
    }
    const struct level *top = &load->levels[load->depth - 1];
    return load->doc->nodes[top->node].kind == YAML_MAPPING &&
           (load->pending_count - top->pending_first) % 2 == 0;
}

static int add_scalar(struct loader *load, struct fy_event *event) {
    uint32_t index;
    int rc = add_node(load, YAML_SCALAR, &index);
    if (rc != 0) {
        return rc;
    }
    struct yaml_doc *doc = load->doc;
    struct fy_token *token = event->scalar.value;
    size_t size = 0;
    const char *text = token != NULL ? fy_token_get_text(token, &size) : NULL;
    if (text == NULL) {
        size = 0;
    }
    rc = grow((void **)&doc->text, &doc->text_cap, doc->text_size, size, 1);
    if (rc != 0) {
        return err_set(load->err, rc, "%s: no memory", doc->name);
    }
    if (size != 0) {
        memcpy(doc->text + doc->text_size, text, size);
    }
    /* NOLINTNEXTLINE(clang-analyzer-core.uninitialized.ArraySubscript): set by the call before */
    struct yaml_node *node = &doc->nodes[index];
    node->text_start = (uint32_t)doc->text_size;
    node->text_size = (uint32_t)size;
    node->is_quoted = token != NULL && fy_scalar_token_get_style(token) != FYSS_PLAIN;
    doc->text_size += size;
    return 0;
}

static int open_container(struct loader *load, enum yaml_kind kind) {
    if (expects_key(load)) {
        return error_at(load->err, load->doc, load->offset,
                        "a key is a plain word, not a list or a mapping");
    }
    uint32_t index;
    int rc = add_node(load, kind, &index);
    if (rc != 0) {
        return rc;
    }
    if (load->depth == YAML_DEPTH_MAX) {
        return error_at(load->err, load->doc, load->offset, "nested deeper than 16 levels");
    }
    load->levels[load->depth++] = (struct level){index, load->pending_count};
    return 0;
}

static int compare_keys(const void *a, const void *b) {
    const struct yaml_node *x = *(const struct yaml_node *const *)a;
    const struct yaml_node *y = *(const struct yaml_node *const *)b;
    size_t n = x->text_size < y->text_size ? x->text_size : y->text_size;
    int order = n != 0 ? memcmp(x->doc->text + x->text_start, y->doc->text + y->text_start, n) : 0;
    if (order == 0 && x->text_size != y->text_size) {
        order = x->text_size < y->text_size ? -1 : 1;
    }
    return order != 0 ? order : (x->offset > y->offset) - (x->offset < y->offset);
}

/* The first key that stood before; sorted, so that a file full of keys takes no quadratic time. */
static int refuse_duplicates(struct loader *load, const struct yaml_node *mapping) {
    struct yaml_doc *doc = load->doc;
    size_t count = mapping->child_count / 2;
    if (count < 2) {
        return 0;
    }
    /* NOLINTNEXTLINE(bugprone-sizeof-expression): an array of pointers */
    const struct yaml_node **keys = malloc(count * sizeof *keys);
    if (keys == NULL) {
        return err_set(load->err, BH_E_NOMEM, "%s: no memory", doc->name);
    }
    for (size_t i = 0; i < count; i++) {
        keys[i] = &doc->nodes[doc->children[mapping->child_first + 2 * i]];
    }
    /* NOLINTNEXTLINE(bugprone-sizeof-expression): an array of pointers */
    qsort(keys, count, sizeof *keys, compare_keys);
    int rc = 0;
    for (size_t i = 1; i < count && rc == 0; i++) {
        struct span key = yaml_text(keys[i]);
        if (span_equal(key, yaml_text(keys[i - 1]))) {
            uint32_t line;
            uint32_t column;
            place(doc, keys[i - 1]->offset, &line, &column);
            rc = yaml_error(load->err, keys[i], "the key '%.*s' stands already in line %u",
                            (int)(key.n < 100 ? key.n : 100), (const char *)key.p, line);
        }
    }
    free(keys);
    return rc;
}

static int close_container(struct loader *load) {
    check(load->depth > 0);
    struct yaml_doc *doc = load->doc;
    const struct level *top = &load->levels[--load->depth];
    size_t count = load->pending_count - top->pending_first;
    int rc = grow((void **)&doc->children, &doc->child_cap, doc->child_count, count,
                  sizeof *doc->children);
    if (rc != 0) {
        return err_set(load->err, rc, "%s: no memory", doc->name);
    }
    struct yaml_node *node = &doc->nodes[top->node];
    node->child_first = (uint32_t)doc->child_count;
    node->child_count = (uint32_t)count;
    if (count != 0) {
        memcpy(doc->children + doc->child_count, load->pending + top->pending_first,
               count * sizeof *load->pending);
    }
    doc->child_count += count;
    load->pending_count = top->pending_first;
    return node->kind == YAML_MAPPING ? refuse_duplicates(load, node) : 0;
}

static int refuse_decoration(struct loader *load, const struct fy_token *anchor,
                             const struct fy_token *tag) {
    if (anchor != NULL) {
        return error_at(load->err, load->doc, load->offset,
                        "anchors (&name) are not allowed; write the value where it is used");
    }
    if (tag != NULL) {
        return error_at(load->err, load->doc, load->offset,
                        "tags (!type) are not allowed; types follow from the key");
    }
    return 0;
}

static int take_event(struct loader *load, struct fy_event *event) {
    int rc = 0;
    move_to(load, event);
    switch (event->type) {
    case FYET_DOCUMENT_START:
        if (load->has_root) {
            return error_at(load->err, load->doc, load->offset,
                            "one document per file; '---' starts a second one");
        }
        load->has_root = true;
        return 0;
    case FYET_SCALAR:
        rc = refuse_decoration(load, event->scalar.anchor, event->scalar.tag);
        return rc != 0 ? rc : add_scalar(load, event);
    case FYET_MAPPING_START:
        rc = refuse_decoration(load, event->mapping_start.anchor, event->mapping_start.tag);
        return rc != 0 ? rc : open_container(load, YAML_MAPPING);
    case FYET_SEQUENCE_START:
        rc = refuse_decoration(load, event->sequence_start.anchor, event->sequence_start.tag);
        return rc != 0 ? rc : open_container(load, YAML_SEQUENCE);
    case FYET_MAPPING_END:
    case FYET_SEQUENCE_END:
        return close_container(load);
    case FYET_ALIAS:
        return error_at(load->err, load->doc, load->offset,
                        "aliases (*name) are not allowed; write the value where it is used");
    case FYET_NONE:
    case FYET_STREAM_START:
    case FYET_STREAM_END:
    case FYET_DOCUMENT_END:
        return 0;
    }
    return 0;
}

/* -- parsing ------------------------------------------------------------------------------------- */

static void swallow(struct fy_diag *diag, void *user, const char *text, size_t size) {
    (void)diag;
    (void)user;
    (void)text;
    (void)size; /* collected errors are read instead: nothing may write to standard error here */
}

static struct fy_diag *new_diag(void) {
    struct fy_diag_cfg config;
    fy_diag_cfg_default(&config);
    config.fp = NULL;
    config.output_fn = swallow;
    struct fy_diag *diag = fy_diag_create(&config);
    if (diag != NULL) {
        fy_diag_set_collect_errors(diag, true);
    }
    return diag;
}

static uint32_t offset_of(const struct yaml_doc *doc, int line, int column) {
    size_t at = 0;
    for (int i = 1; i < line && at < doc->source_size; at++) {
        if (doc->source[at] == '\n') {
            i++;
        }
    }
    for (int i = 1; i < column && at < doc->source_size && doc->source[at] != '\n'; i++) {
        at++;
        while (at < doc->source_size && (doc->source[at] & 0xc0) == 0x80) {
            at++;
        }
    }
    return (uint32_t)at;
}

static int syntax_error(struct loader *load, struct fy_diag *diag) {
    void *iterator = NULL;
    const struct fy_diag_error *first = fy_diag_errors_iterate(diag, &iterator);
    if (first == NULL || first->msg == NULL) {
        return error_at(load->err, load->doc, load->offset, "this is not YAML");
    }
    return error_at(load->err, load->doc, offset_of(load->doc, first->line, first->column),
                    first->msg);
}

static int read_events(struct loader *load) {
    struct yaml_doc *doc = load->doc;
    struct fy_diag *diag = new_diag();
    struct fy_parse_cfg config = {.flags = FYPCF_QUIET | FYPCF_JSON_NONE | FYPCF_DISABLE_MMAP_OPT,
                                  .diag = diag};
    struct fy_parser *parser = diag != NULL ? fy_parser_create(&config) : NULL;
    int rc = 0;
    if (parser == NULL ||
        fy_parser_set_string(parser, (const char *)doc->source, doc->source_size) != 0) {
        rc = err_set(load->err, BH_E_NOMEM, "%s: no memory", doc->name);
        goto out;
    }
    bool ended = false;
    while (rc == 0 && !ended) {
        struct fy_event *event = fy_parser_parse(parser);
        if (event == NULL) {
            rc = syntax_error(load, diag);
            break;
        }
        ended = event->type == FYET_STREAM_END;
        rc = take_event(load, event);
        fy_parser_event_free(parser, event);
    }
out:
    if (parser != NULL) {
        fy_parser_destroy(parser);
    }
    if (diag != NULL) {
        fy_diag_destroy(diag);
    }
    return rc;
}

/* Marks are byte offsets; lines are counted once, in one walk, because nodes stand in file order. */
static void number_lines(struct yaml_doc *doc) {
    uint32_t line = 1;
    uint32_t start = 0;
    uint32_t at = 0;
    for (size_t i = 0; i < doc->node_count; i++) {
        struct yaml_node *node = &doc->nodes[i];
        if (node->offset < at) {
            place(doc, node->offset, &node->line, &node->column);
            continue;
        }
        for (; at < node->offset; at++) {
            if (doc->source[at] == '\n') {
                line++;
                start = at + 1;
            }
        }
        node->line = line;
        node->column = node->offset - start + 1;
    }
}

/* The parser stops at a zero byte, and lets other bytes that are no text pass, without a word. */
static int refuse_strange_bytes(const struct yaml_doc *doc, struct err *err) {
    size_t size;
    for (size_t i = 0; i < doc->source_size; i += size) {
        uint8_t c = doc->source[i];
        if ((c < 0x20 && c != '\t' && c != '\n' && c != '\r') || c == 0x7f) {
            return error_at(err, doc, (uint32_t)i, "a control character");
        }
        size = utf8_size(doc->source + i, doc->source_size - i);
        if (size == 0) {
            return error_at(err, doc, (uint32_t)i, "not UTF-8");
        }
    }
    return 0;
}

static int load_source(struct yaml_doc *doc, struct err *err) {
    int rc = refuse_strange_bytes(doc, err);
    if (rc != 0) {
        return rc;
    }
    struct loader load = {.doc = doc, .err = err};
    rc = read_events(&load);
    uint32_t index;
    if (rc == 0 && doc->node_count == 0) {
        rc = add_node(&load, YAML_SCALAR, &index); /* an empty file is one null */
    }
    free(load.pending);
    if (rc == 0) {
        check(load.depth == 0);
        number_lines(doc);
    }
    return rc;
}

static struct yaml_doc *new_doc(const char *name, size_t size) {
    struct yaml_doc *doc = calloc(1, sizeof *doc);
    if (doc == NULL) {
        return NULL;
    }
    doc->magic = YAML_MAGIC;
    (void)snprintf(doc->name, sizeof doc->name, "%s",
                   name); /* a long path is cut: it is only shown */
    doc->source = malloc(size + 1);
    if (doc->source == NULL) {
        yaml_free(doc);
        return NULL;
    }
    return doc;
}

int yaml_load_text(const char *name, struct span text, struct yaml_doc **ret_doc, struct err *err) {
    if (text.n > YAML_BYTES_MAX) {
        return err_set_at(err, BH_E_CONFIG, name, 0, 0, "larger than 1 MiB");
    }
    struct yaml_doc *doc = new_doc(name, text.n);
    if (doc == NULL) {
        return err_set(err, BH_E_NOMEM, "%s: no memory", name);
    }
    if (text.n != 0) {
        memcpy(doc->source, text.p, text.n);
    }
    doc->source_size = text.n;
    int rc = load_source(doc, err);
    if (rc != 0) {
        yaml_free(doc);
        return rc;
    }
    *ret_doc = doc;
    return 0;
}

int yaml_load(const char *path, struct yaml_doc **ret_doc, struct err *err) {
    uint8_t *bytes = malloc(YAML_BYTES_MAX + 1);
    if (bytes == NULL) {
        return err_set(err, BH_E_NOMEM, "%s: no memory", path);
    }
    size_t size = 0;
    int rc = os_file_read_whole(path, bytes, YAML_BYTES_MAX, &size);
    if (rc == BH_E_TOO_BIG) {
        rc = err_set_at(err, BH_E_CONFIG, path, 0, 0, "larger than 1 MiB");
    } else if (rc != 0) {
        (void)err_set_at(err, rc, path, 0, 0, "%s", bh_error_text(rc));
    } else {
        rc = yaml_load_text(path, span_of(bytes, size), ret_doc, err);
    }
    free(bytes);
    return rc;
}

void yaml_free(struct yaml_doc *doc) {
    if (doc == NULL) {
        return;
    }
    check(doc->magic == YAML_MAGIC);
    free(doc->source);
    free(doc->nodes);
    free(doc->children);
    free(doc->text);
    doc->magic = 0;
    free(doc);
}
