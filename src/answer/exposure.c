/*
 * One scan of the ledger fills two sets of people for every shape (source, classes with forms): certain and possible. The sets of the cells (class, form), of the
 * sources and of all are unions of these; then they are counted.
 *
 * A person is the root of her aliases as of the time asked for; a set holds roots. "In clear" means form raw of a class that says something of the person by itself:
 * not what she did (user.behavior, user.telemetry), not her preferences, not system.*; those under a pseudonym are the second grade.
 */
#include "answer/exposure.h"

#include <roaring/roaring.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/date.h"
#include "engine/json/json.h"
#include "flow/ledger/ledger.h"
#include "model/class.h"
#include "model/form.h"
#include "model/limits.h"

enum { SHAPES_MAX = 1 << 16, CELLS_MAX = 512, LINE_MAX_BYTES = 1024 * 1024, TEXT_MAX = 256 * 1024 };

struct cell {
    uint16_t class_id;
    struct form form;
    roaring_bitmap_t *certain;
    roaring_bitmap_t *possible; /* with those that are certain; taken off when counted */
};

/* What the scan fills: one set is found by a number, and a row is put into one set. */
struct shape_cell {
    uint16_t source;
    size_t pair_count;
    const struct ledger_pair *pairs; /* the reader's */
    roaring_bitmap_t *certain;
    roaring_bitmap_t *possible;
};

struct source_cell {
    uint16_t number;
    roaring_bitmap_t *certain;
    roaring_bitmap_t *possible;
};

struct exposure {
    const struct exposure_query *query;
    struct resolve_view *view;
    const struct aid_maker *aids;
    struct ledger_reader *reader;
    uint32_t *roots;
    uint32_t ord_count;
    uint32_t
        known_ord; /* ords up to this one existed at the time asked for: they rise in journal order */
    uint32_t subject_root; /* 0 = everybody; UINT32_MAX = an id that is not known here, so nobody */
    struct shape_cell *shapes; /* by number */
    struct cell cells[CELLS_MAX];
    unsigned cell_count;
    struct source_cell sources[LIMIT_SOURCES];
    unsigned source_count;
    roaring_bitmap_t *certain;
    roaring_bitmap_t *clear;
    roaring_bitmap_t *possible;
    uint64_t nobody_records; /* entries about nobody: counted as records, never as people */
    uint64_t open_attempts;  /* rows without a complete answer */
    bool failed;             /* out of memory */
    uint8_t *text;
};

static bool is_clear(uint16_t class_id, uint8_t form) {
    return form == FORM_RAW && !class_is_within(class_id, CLASS_BEHAVIOR) &&
           !class_is_within(class_id, CLASS_TELEMETRY) &&
           !class_is_within(class_id, CLASS_SYSTEM) &&
           !class_is_within(class_id, CLASS_PRIVACY_PREFERENCES);
}

/* -- filling ----------------------------------------------------------------------------------------------------------------------- */

static struct cell *cell_of(struct exposure *x, const struct ledger_pair *pair) {
    for (unsigned i = 0; i < x->cell_count; i++) {
        struct cell *c = &x->cells[i];
        if (c->class_id == pair->class_id && c->form.id == pair->form &&
            c->form.level == pair->level) {
            return c;
        }
    }
    if (x->cell_count == CELLS_MAX) {
        return NULL;
    }
    struct cell *c = &x->cells[x->cell_count++];
    *c = (struct cell){pair->class_id,
                       {pair->form, pair->level},
                       roaring_bitmap_create(),
                       roaring_bitmap_create()};
    return c->certain != NULL && c->possible != NULL ? c : NULL;
}

static struct source_cell *source_of(struct exposure *x, uint16_t number) {
    for (unsigned i = 0; i < x->source_count; i++) {
        if (x->sources[i].number == number) {
            return &x->sources[i];
        }
    }
    if (x->source_count == LIMIT_SOURCES) {
        return NULL;
    }
    struct source_cell *s = &x->sources[x->source_count++];
    *s = (struct source_cell){number, roaring_bitmap_create(), roaring_bitmap_create()};
    return s->certain != NULL && s->possible != NULL ? s : NULL;
}

static void add_row(void *context, const struct ledger_row *row) {
    struct exposure *x = context;
    if (row->ord == 0) {
        x->nobody_records += row->events;
        return;
    }
    uint32_t person = row->ord <= x->ord_count ? x->roots[row->ord] : row->ord;
    if (x->subject_root != 0 && person != x->subject_root) {
        return;
    }
    struct shape_cell *shape = &x->shapes[row->shape % SHAPES_MAX];
    roaring_bitmap_t **set = row->certain ? &shape->certain : &shape->possible;
    *set = *set != NULL ? *set : roaring_bitmap_create();
    if (*set == NULL) {
        x->failed = true;
        return;
    }
    shape->source = row->source;
    shape->pairs = row->pairs;
    shape->pair_count = row->pair_count;
    roaring_bitmap_add(*set, person);
    x->open_attempts += row->outcome_ms == 0 || row->result == RESULT_UNKNOWN;
}

static void join(roaring_bitmap_t *to, const roaring_bitmap_t *from) {
    if (from != NULL) {
        roaring_bitmap_or_inplace(to, from);
    }
}

static bool join_shape(struct exposure *x, const struct shape_cell *shape) {
    struct source_cell *source = source_of(x, shape->source);
    if (source == NULL) {
        return false;
    }
    join(source->certain, shape->certain);
    join(source->possible, shape->possible);
    join(x->certain, shape->certain);
    join(x->possible, shape->possible);
    bool clear = false;
    for (size_t i = 0; i < shape->pair_count; i++) {
        struct cell *cell = cell_of(x, &shape->pairs[i]);
        if (cell == NULL) {
            return false;
        }
        join(cell->certain, shape->certain);
        join(cell->possible, shape->possible);
        clear |= is_clear(shape->pairs[i].class_id, shape->pairs[i].form);
    }
    if (clear) {
        join(x->clear, shape->certain);
    }
    return true;
}

static int join_shapes(struct exposure *x) {
    bool good = !x->failed;
    for (size_t i = 0; i < SHAPES_MAX && good; i++) {
        const struct shape_cell *shape = &x->shapes[i];
        good = (shape->certain == NULL && shape->possible == NULL) || join_shape(x, shape);
    }
    return good ? 0 : BH_E_NOMEM;
}

/* -- counting and writing -------------------------------------------------------------------------------------------------------------- */

static uint64_t only_possible(const roaring_bitmap_t *certain, const roaring_bitmap_t *possible) {
    return roaring_bitmap_andnot_cardinality(possible, certain);
}

static int compare_cells(const void *a, const void *b) {
    const struct cell *x = a;
    const struct cell *y = b;
    int by_class = strcmp(class_name(x->class_id), class_name(y->class_id));
    if (by_class != 0) {
        return by_class;
    }
    return x->form.id != y->form.id ? (int)x->form.id - (int)y->form.id
                                    : (int)x->form.level - (int)y->form.level;
}

static void put_classes(struct exposure *x, struct buf *b) {
    qsort(x->cells, x->cell_count, sizeof x->cells[0], compare_cells);
    buf_put_str(b, ",\"classes\":{");
    for (unsigned i = 0; i < x->cell_count; i++) {
        const struct cell *c = &x->cells[i];
        bool first = i == 0 || x->cells[i - 1].class_id != c->class_id;
        if (first) {
            buf_printf(b, "%s\"%s\":{", i != 0 ? "}," : "", class_name(c->class_id));
        }
        buf_printf(b, "%s\"%s\":{\"certain\":%llu,\"possible\":%llu}", first ? "" : ",",
                   form_name(c->form),
                   (unsigned long long)roaring_bitmap_get_cardinality(c->certain),
                   (unsigned long long)only_possible(c->certain, c->possible));
    }
    buf_put_str(b, x->cell_count != 0 ? "}}" : "}");
}

/* The highest nodes of the taxonomy without a cell at or below them. */
static void put_not_disclosed(const struct exposure *x, struct buf *b) {
    bool reached[CLASS_LIMIT] = {false};
    for (unsigned i = 0; i < x->cell_count; i++) {
        for (uint16_t c = x->cells[i].class_id; c != CLASS_NONE; c = class_parent(c)) {
            reached[c] = true;
        }
    }
    unsigned count = 0;
    const uint16_t *all = class_all(&count);
    bool first = true;
    buf_put_str(b, ",\"not_disclosed\":[");
    for (unsigned i = 0; i < count; i++) {
        uint16_t parent = class_parent(all[i]);
        if (!reached[all[i]] && (parent == CLASS_NONE || reached[parent])) {
            buf_printf(b, "%s\"%s\"", first ? "" : ",", class_name(all[i]));
            first = false;
        }
    }
    buf_put_byte(b, ']');
}

static const char *source_name(const struct exposure *x, uint16_t number) {
    for (size_t i = 0; i < x->query->source_count; i++) {
        if (x->query->sources[i].number == number) {
            return x->query->sources[i].name;
        }
    }
    return NULL;
}

static void put_sources(const struct exposure *x, struct buf *b) {
    buf_put_str(b, ",\"sources\":{");
    for (unsigned i = 0; i < x->source_count; i++) {
        const struct source_cell *s = &x->sources[i];
        const char *name = source_name(x, s->number);
        buf_put_str(b, i != 0 ? ",\"" : "\"");
        if (name != NULL) {
            buf_put_str(b, name);
        } else {
            buf_printf(b, "#%u",
                       s->number); /* a source that is no longer configured still counts */
        }
        buf_printf(b, "\":{\"certain\":%llu,\"possible\":%llu}",
                   (unsigned long long)roaring_bitmap_get_cardinality(s->certain),
                   (unsigned long long)only_possible(s->certain, s->possible));
    }
    buf_put_byte(b, '}');
}

static void exposure_time(uint64_t ms, struct buf *b) {
    buf_put_byte(b, '"');
    date_put_time((int64_t)ms, true, b);
    buf_put_byte(b, '"');
}

static void put_time(struct buf *b, const char *key, uint64_t ms) {
    buf_printf(b, ",\"%s\":", key);
    if (ms == 0 || ms == UINT64_MAX) {
        buf_put_str(b, "null");
    } else {
        exposure_time(ms, b);
    }
}

static void put_limits(const struct exposure *x, uint64_t watched, struct buf *b) {
    buf_put_str(b, ",\"limits\":[");
    if (watched == 0) {
        buf_put_str(
            b, "\"This vendor has no record here: nothing was ever sent to it through Bulkhead.\"");
    } else {
        buf_put_str(b, "\"What this vendor received before ");
        struct buf time = buf_of(b->p + b->n, b->cap - b->n);
        exposure_time(watched, &time);
        if (!time.full && time.n >= 2) {
            memmove(b->p + b->n, b->p + b->n + 1, time.n - 2); /* without the quotes */
            b->n += time.n - 2;
        }
        buf_put_str(b, " is not in this record.\"");
    }
    buf_put_str(b, ",\"Ways to this vendor that do not pass Bulkhead: none declared.\"");
    buf_put_str(b, ",\"What the vendor derived from the data or passed on is not known here.\"");
    if (x->subject_root == UINT32_MAX) {
        buf_put_str(
            b, ",\"This id is not known here: nothing about it was ever taken in by Bulkhead.\"");
    }
    if (x->open_attempts != 0) {
        buf_put_str(
            b,
            ",\"Possible: sent, but no complete answer was read; the vendor may or may not have it.\"");
    }
    if (x->nobody_records != 0) {
        buf_printf(b, ",\"%llu records named no person; they are counted as records only.\"",
                   (unsigned long long)x->nobody_records);
    }
    buf_put_str(
        b,
        ",\"Signed, not witnessed: hold a checkpoint to show that the record was not changed later.\"]");
}

/* People known as of then: roots among the ords that existed. */
static uint64_t count_people(const struct exposure *x) {
    uint64_t people = 0;
    for (uint32_t ord = 1; ord <= x->known_ord; ord++) {
        people += x->roots[ord] == ord;
    }
    return x->subject_root != 0 ? 1 : people;
}

static int write_answer(struct exposure *x, int (*write)(void *context, struct span bytes),
                        void *context) {
    struct buf b = buf_of(x->text, TEXT_MAX);
    uint8_t note_room[8192];
    struct buf note = buf_of(note_room, sizeof note_room);
    uint64_t watched = ledger_watched_since(x->reader);
    uint64_t certain = roaring_bitmap_get_cardinality(x->certain);
    uint64_t possible = only_possible(x->certain, x->possible);
    uint64_t people = count_people(x);
    buf_put_str(&b, "{\"vendor\":");
    json_put_string(&b, span_str(x->query->vendor));
    put_time(&b, "from", x->query->from_ms);
    put_time(&b, "to", x->query->to_ms);
    buf_printf(
        &b,
        ",\"people\":{\"certain\":%llu,\"certain_clear\":%llu,\"possible\":%llu,\"none_recorded\":%llu}",
        (unsigned long long)certain, (unsigned long long)roaring_bitmap_get_cardinality(x->clear),
        (unsigned long long)possible,
        (unsigned long long)(people > certain + possible ? people - certain - possible : 0));
    put_classes(x, &b);
    put_not_disclosed(x, &b);
    put_sources(x, &b);
    put_time(&b, "watched_since", watched);
    buf_put_str(&b, ",\"checkpoint\":");
    if (ledger_reader_checkpoint(x->reader, &note) == 0) {
        json_put_string(&b, buf_span(&note));
    } else {
        buf_put_str(&b, "null");
    }
    put_limits(x, watched, &b);
    buf_put_str(&b, "}\n");
    return b.full ? BH_E_FULL : write(context, buf_span(&b));
}

/* -- one line a person ------------------------------------------------------------------------------------------------------------------- */

static void put_id(struct exposure *x, uint32_t ord, struct buf *b) {
    uint8_t room[1024];
    struct buf id = buf_of(room, sizeof room);
    if (resolve_id_text(x->view, ord, &id) == 0) {
        json_put_string(b, buf_span(&id));
    } else {
        buf_printf(b, "\"#%u\"", ord);
    }
}

/* Members of each person as a chain through one array: next[ord], heads by root. */
static uint32_t *chain_members(const struct exposure *x) {
    uint32_t *next = calloc((size_t)x->ord_count + 1, sizeof *next);
    uint32_t *last = calloc((size_t)x->ord_count + 1, sizeof *last);
    for (uint32_t ord = 1; next != NULL && last != NULL && ord <= x->ord_count; ord++) {
        uint32_t root = x->roots[ord];
        if (root != ord) {
            next[last[root] != 0 ? last[root] : root] = ord;
        }
        last[root] = ord;
    }
    free(last);
    return next;
}

static void put_person_classes(const struct exposure *x, uint32_t person, struct buf *b) {
    uint16_t open = CLASS_NONE;
    buf_put_str(b, ",\"classes\":{");
    for (unsigned i = 0; i < x->cell_count; i++) {
        const struct cell *c = &x->cells[i];
        bool certain = roaring_bitmap_contains(c->certain, person);
        if (!certain && !roaring_bitmap_contains(c->possible, person)) {
            continue;
        }
        if (open != c->class_id) {
            buf_printf(b, "%s\"%s\":{", open != CLASS_NONE ? "}," : "", class_name(c->class_id));
        }
        buf_printf(b, "%s\"%s\":\"%s\"", open != c->class_id ? "" : ",", form_name(c->form),
                   certain ? "certain" : "possible");
        open = c->class_id;
    }
    buf_put_str(b, open != CLASS_NONE ? "}}" : "}");
}

static void put_person(struct exposure *x, uint32_t person, const uint32_t *next, struct buf *b) {
    bool certain = roaring_bitmap_contains(x->certain, person);
    buf_put_str(b, "{\"person\":");
    put_id(x, person, b);
    buf_put_str(b, ",\"ids\":[");
    for (uint32_t ord = person; ord != 0; ord = ord <= x->ord_count ? next[ord] : 0) {
        buf_put_str(b, ord != person ? "," : "");
        put_id(x, ord, b);
    }
    buf_printf(b, "],\"grade\":\"%s\",\"clear\":%s", certain ? "certain" : "possible",
               roaring_bitmap_contains(x->clear, person) ? "true" : "false");
    put_person_classes(x, person, b);
    buf_put_str(b, ",\"sources\":[");
    bool first = true;
    for (unsigned i = 0; i < x->source_count; i++) {
        const char *name = source_name(x, x->sources[i].number);
        if (roaring_bitmap_contains(x->sources[i].certain, person) ||
            roaring_bitmap_contains(x->sources[i].possible, person)) {
            buf_printf(b, "%s\"%s\"", first ? "" : ",", name != NULL ? name : "#");
            first = false;
        }
    }
    buf_put_str(b, "]}\n");
}

static int write_list(struct exposure *x, int (*write)(void *context, struct span bytes),
                      void *context) {
    roaring_bitmap_t *all = roaring_bitmap_or(x->certain, x->possible);
    uint32_t *next = chain_members(x);
    uint8_t *line = malloc(LINE_MAX_BYTES);
    int r = all != NULL && next != NULL && line != NULL ? 0 : BH_E_NOMEM;
    qsort(x->cells, x->cell_count, sizeof x->cells[0], compare_cells);
    roaring_uint32_iterator_t *it = r == 0 ? roaring_create_iterator(all) : NULL;
    while (r == 0 && it != NULL && it->has_value) {
        struct buf b = buf_of(line, LINE_MAX_BYTES);
        put_person(x, it->current_value, next, &b);
        r = b.full ? BH_E_FULL : write(context, buf_span(&b));
        (void)roaring_advance_uint32_iterator(it);
    }
    if (it != NULL) {
        roaring_free_uint32_iterator(it);
    }
    if (all != NULL) {
        roaring_bitmap_free(all);
    }
    free(next);
    free(line);
    return r;
}

/* -- the whole --------------------------------------------------------------------------------------------------------------------------- */

static int find_subject(struct exposure *x, struct err *err) {
    struct aid aid;
    struct resolve_row row;
    if (x->query->subject.n == 0) {
        return 0;
    }
    struct span id = x->query->subject;
    if (span_starts(id, SPAN_LIT("$device:"))) {
        id = span_from(id, 8);
    }
    aid_make(x->aids, x->query->space, id, &aid);
    int r = resolve_lookup(x->view, &aid, &row);
    if (r != 0 && r != BH_E_NOTFOUND) {
        return err_set(err, r, "cannot look the id up: %s", bh_error_text(r));
    }
    x->subject_root =
        r == 0 && row.ord != 0 && row.ord <= x->known_ord ? x->roots[row.ord] : UINT32_MAX;
    return 0;
}

/* The highest ord whose first event lies before at_seq. */
static int find_known(struct exposure *x, uint64_t at_seq) {
    uint32_t low = 0;
    uint32_t high = x->ord_count;
    while (low < high && at_seq != UINT64_MAX) {
        uint32_t middle = low + (high - low + 1) / 2;
        struct resolve_row row;
        struct aid aid;
        int r = resolve_by_ord(x->view, middle, &row, &aid);
        if (r != 0) {
            return r;
        }
        if (row.first_seq < at_seq) {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    x->known_ord = high;
    return 0;
}

static int prepare(struct exposure *x, const char *data_dir, struct keyring *keyring,
                   struct err *err) {
    char dir[1280];
    (void)snprintf(dir, sizeof dir, "%s/ledger", data_dir);
    x->certain = roaring_bitmap_create();
    x->clear = roaring_bitmap_create();
    x->possible = roaring_bitmap_create();
    x->text = malloc(TEXT_MAX);
    x->ord_count = resolve_ord_count(x->view);
    x->roots = calloc((size_t)x->ord_count + 1, sizeof *x->roots);
    x->shapes = calloc(SHAPES_MAX, sizeof *x->shapes);
    if (x->shapes == NULL || x->certain == NULL || x->clear == NULL || x->possible == NULL ||
        x->text == NULL || x->roots == NULL) {
        return err_set(err, BH_E_NOMEM, "out of memory");
    }
    int r = ledger_reader_open(dir, x->query->vendor, keyring, &x->reader, err);
    if (r != 0) {
        return r;
    }
    uint64_t at_seq = UINT64_MAX;
    if (x->query->at_ms != UINT64_MAX) {
        r = ledger_seq_at(x->reader, x->query->at_ms, &at_seq);
    }
    r = r == 0 ? find_known(x, at_seq) : r;
    /* Links as they stood after the last event that counts; at_seq is one past it. */
    uint64_t last_seq = at_seq - (at_seq != 0 && at_seq != UINT64_MAX);
    r = r == 0 ? resolve_roots(x->view, last_seq, x->roots, (size_t)x->ord_count + 1) : r;
    return r == 0 ? find_subject(x, err)
                  : err_set(err, r, "cannot read the links between ids: %s", bh_error_text(r));
}

static void release(struct exposure *x) {
    for (size_t i = 0; x->shapes != NULL && i < SHAPES_MAX; i++) {
        roaring_bitmap_t *sets_of_shape[] = {x->shapes[i].certain, x->shapes[i].possible};
        for (size_t k = 0; k < BH_COUNT(sets_of_shape); k++) {
            if (sets_of_shape[k] != NULL) {
                roaring_bitmap_free(sets_of_shape[k]);
            }
        }
    }
    free(x->shapes);
    for (unsigned i = 0; i < x->cell_count; i++) {
        roaring_bitmap_free(x->cells[i].certain);
        roaring_bitmap_free(x->cells[i].possible);
    }
    for (unsigned i = 0; i < x->source_count; i++) {
        roaring_bitmap_free(x->sources[i].certain);
        roaring_bitmap_free(x->sources[i].possible);
    }
    roaring_bitmap_t *sets[] = {x->certain, x->clear, x->possible};
    for (size_t i = 0; i < BH_COUNT(sets); i++) {
        if (sets[i] != NULL) {
            roaring_bitmap_free(sets[i]);
        }
    }
    ledger_reader_close(x->reader);
    free(x->text);
    free(x->roots);
    free(x);
}

static int source_number(const struct exposure_query *query, uint16_t *ret_number,
                         struct err *err) {
    *ret_number = 0;
    for (size_t i = 0; query->source != NULL && i < query->source_count; i++) {
        if (strcmp(query->sources[i].name, query->source) == 0) {
            *ret_number = query->sources[i].number;
        }
    }
    return query->source == NULL || *ret_number != 0
               ? 0
               : err_set(err, BH_E_NOTFOUND, "no such source: %s", query->source);
}

int exposure_answer(const char *data_dir, struct keyring *keyring, struct resolve_view *view,
                    const struct aid_maker *aids, const struct exposure_query *query,
                    int (*write)(void *context, struct span bytes), void *context,
                    struct err *err) {
    struct exposure *x = calloc(1, sizeof *x);
    if (x == NULL) {
        return err_set(err, BH_E_NOMEM, "out of memory");
    }
    x->query = query;
    x->view = view;
    x->aids = aids;
    struct ledger_query scan = {
        .from_ms = query->from_ms, .to_ms = query->to_ms, .at_ms = query->at_ms};
    int r = source_number(query, &scan.source, err);
    r = r == 0 ? prepare(x, data_dir, keyring, err) : r;
    if (r == 0) {
        r = ledger_scan(x->reader, &scan, add_row, x);
        r = r == 0 ? join_shapes(x) : r;
        r = r == 0 ? 0
                   : err_set(err, r, "cannot read the ledger of %s: %s", query->vendor,
                             bh_error_text(r));
    }
    if (r == 0 && query->list) {
        r = write_list(x, write, context);
    }
    r = r == 0 ? write_answer(x, write, context) : r;
    release(x);
    return r;
}
