/*
 * Patterns of the plan: a small regular language that is matched in one pass, one table look-up a byte.
 *
 *   literals · \d \w \s and \ before any sign · [a-z0-9_] [^...] · ( ) · | · ? * + {m} {m,} {m,n}
 *
 * A pattern is always anchored at both ends (^ and $ may stand there and say the same). A bare dot is refused: a pattern exists to say what
 * may leave, and "anything" is what it must not say. The text becomes an automaton of states (Thompson), and that a table (subset
 * construction) when the plan is read; a pattern whose table would exceed its limit is an error there, so that nothing is left to blow up
 * on hostile values. Classes are over ASCII; other characters match as literals, byte by byte.
 */
#include <stdlib.h>

#include "base/check.h"
#include "flow/policy/policy_int.h"

enum {
    STATES_MAX = 2048,
    SETS_MAX = 256,
    GROUPS_MAX = 16,
    TABLE_MAX = 512, /* rows of the table */
    REPEAT_MAX = 64,
    NOWHERE = 0xffff,
    MATCH = 0, /* the automaton's only accepting state */
};

struct byte_set {
    uint64_t bits[4];
};

struct nfa_state {
    uint16_t set; /* NOWHERE: an empty step */
    uint16_t out;
    uint16_t out2;
};

/* A part of the automaton: one entry, one exit whose `out` is still open. */
struct part {
    uint16_t first; /* states [first, until) belong to it */
    uint16_t until;
    uint16_t entry;
    uint16_t exit;
};

/* One open parenthesis. */
struct group {
    bool has_alternatives;
    bool has_sequence;
    uint16_t first;
    struct part alternatives;
    struct part sequence;
};

struct builder {
    struct nfa_state states[STATES_MAX];
    unsigned state_count;
    struct byte_set sets[SETS_MAX];
    unsigned set_count;
    struct group groups[GROUPS_MAX];
    unsigned depth;
    struct span text;
    size_t at;
    const char *problem;
};

struct pattern {
    uint16_t class_of[256]; /* bytes that no set tells apart share a column */
    unsigned columns;
    unsigned rows;
    uint8_t accepts[TABLE_MAX];
    uint16_t next[]; /* rows × columns; row 0 = no way on */
};

static bool fail(struct builder *b, const char *problem) {
    if (b->problem == NULL) {
        b->problem = problem;
    }
    return false;
}

static void set_add(struct byte_set *set, unsigned byte) {
    set->bits[byte >> 6] |= UINT64_C(1) << (byte & 63);
}

static bool set_has(const struct byte_set *set, unsigned byte) {
    return (set->bits[byte >> 6] >> (byte & 63) & 1) != 0;
}

static uint16_t add_state(struct builder *b, uint16_t set, uint16_t out, uint16_t out2) {
    if (b->state_count == STATES_MAX) {
        (void)fail(b, "the pattern is too large");
        return 1;
    }
    b->states[b->state_count] = (struct nfa_state){set, out, out2};
    return (uint16_t)b->state_count++;
}

static struct part part_of_set(struct builder *b, const struct byte_set *set) {
    uint16_t index = 0;
    while (index < b->set_count && memcmp(&b->sets[index], set, sizeof *set) != 0) {
        index++;
    }
    if (index == SETS_MAX) {
        (void)fail(b, "the pattern is too large");
        index = 0;
    }
    if (index == b->set_count) {
        b->sets[b->set_count++] = *set;
    }
    uint16_t state = add_state(b, index, NOWHERE, NOWHERE);
    return (struct part){state, (uint16_t)b->state_count, state, state};
}

static struct part part_empty(struct builder *b) {
    uint16_t state = add_state(b, NOWHERE, NOWHERE, NOWHERE);
    return (struct part){state, (uint16_t)b->state_count, state, state};
}

static struct part part_join(struct builder *b, struct part a, struct part c) {
    b->states[a.exit].out = c.entry;
    return (struct part){a.first, c.until, a.entry, c.exit};
}

static struct part part_either(struct builder *b, struct part a, struct part c) {
    uint16_t end = add_state(b, NOWHERE, NOWHERE, NOWHERE);
    uint16_t split = add_state(b, NOWHERE, a.entry, c.entry);
    b->states[a.exit].out = end;
    b->states[c.exit].out = end;
    return (struct part){a.first, (uint16_t)b->state_count, split, end};
}

/* skip: may be passed over; again: may be repeated. */
static struct part part_loop(struct builder *b, struct part a, bool skip, bool again) {
    uint16_t end = add_state(b, NOWHERE, NOWHERE, NOWHERE);
    uint16_t split = add_state(b, NOWHERE, a.entry, end);
    b->states[a.exit].out = again ? split : end;
    uint16_t entry = skip ? split : a.entry;
    return (struct part){a.first, (uint16_t)b->state_count, entry, end};
}

static struct part part_copy(struct builder *b, struct part a) {
    unsigned shift = b->state_count - a.first;
    for (unsigned i = a.first; i < a.until && b->problem == NULL; i++) {
        struct nfa_state s = b->states[i];
        (void)add_state(b, s.set, s.out == NOWHERE ? NOWHERE : (uint16_t)(s.out + shift),
                        s.out2 == NOWHERE ? NOWHERE : (uint16_t)(s.out2 + shift));
    }
    if (b->problem != NULL) {
        return a;
    }
    return (struct part){(uint16_t)(a.first + shift), (uint16_t)(a.until + shift),
                         (uint16_t)(a.entry + shift), (uint16_t)(a.exit + shift)};
}

/* {low,high}: copies of the original, which stays behind unused. high == 0: without end. */
static struct part part_repeat(struct builder *b, struct part a, unsigned low, unsigned high) {
    struct part whole = part_empty(b);
    whole.first = a.first;
    for (unsigned i = 0; i < low && b->problem == NULL; i++) {
        whole = part_join(b, whole, part_copy(b, a));
    }
    for (unsigned i = low; i < high && b->problem == NULL; i++) {
        whole = part_join(b, whole, part_loop(b, part_copy(b, a), true, false));
    }
    if (high == 0 && b->problem == NULL) {
        whole = part_join(b, whole, part_loop(b, part_copy(b, a), true, true));
    }
    whole.first = a.first;
    whole.until = (uint16_t)b->state_count;
    return whole;
}

/* -- reading the text ------------------------------------------------------------------------------ */

static bool peek(const struct builder *b, uint8_t c) {
    return b->at < b->text.n && b->text.p[b->at] == c;
}

static void add_range(struct byte_set *set, unsigned from, unsigned to) {
    for (unsigned c = from; c <= to; c++) {
        set_add(set, c);
    }
}

/* After a backslash. Letters other than d, w, s would look like the escapes of larger languages, and are refused. */
static bool read_escape(struct builder *b, struct byte_set *set) {
    if (b->at == b->text.n) {
        return fail(b, "nothing follows the backslash");
    }
    uint8_t c = b->text.p[b->at++];
    bool is_letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    if (c == 'd' || c == 'w') {
        add_range(set, '0', '9');
    }
    if (c == 'w') {
        add_range(set, 'a', 'z');
        add_range(set, 'A', 'Z');
        set_add(set, '_');
    } else if (c == 's') {
        set_add(set, ' ');
    } else if (c != 'd' && (is_letter || c >= 0x80)) {
        return fail(b, "only \\d, \\w, \\s and a sign may follow a backslash");
    } else if (c != 'd') {
        set_add(set, c);
    }
    return true;
}

static bool read_class_item(struct builder *b, struct byte_set *set) {
    uint8_t from = b->text.p[b->at++];
    if (from >= 0x80 || from < 0x20) {
        return fail(b, "a class holds ASCII characters only");
    }
    if (from == '\\') {
        return read_escape(b, set);
    }
    if (!peek(b, '-') || b->at + 1 >= b->text.n || b->text.p[b->at + 1] == ']') {
        set_add(set, from);
        return true;
    }
    uint8_t to = b->text.p[b->at + 1];
    if (to < from || to >= 0x80 || to == '\\') {
        return fail(b, "the range of a class runs backwards");
    }
    b->at += 2;
    add_range(set, from, to);
    return true;
}

/* After "[". */
static bool read_class(struct builder *b, struct byte_set *set) {
    bool negated = peek(b, '^');
    b->at += negated;
    size_t start = b->at;
    while (b->at < b->text.n && (!peek(b, ']') || b->at == start)) {
        if (!read_class_item(b, set)) {
            return false;
        }
    }
    if (b->at == b->text.n) {
        return fail(b, "the class is not closed with ]");
    }
    b->at++;
    if (negated) {
        for (unsigned i = 0; i < 4; i++) {
            set->bits[i] = ~set->bits[i];
        }
        set->bits[2] = 0;
        set->bits[3] = 0;
        set->bits[0] &= ~UINT64_C(0xffffffff); /* no control characters */
    }
    return true;
}

static bool read_number(struct builder *b, unsigned *ret_value) {
    size_t start = b->at;
    unsigned value = 0;
    while (b->at < b->text.n && b->text.p[b->at] >= '0' && b->text.p[b->at] <= '9' &&
           value <= REPEAT_MAX) {
        value = value * 10 + (unsigned)(b->text.p[b->at++] - '0');
    }
    *ret_value = value;
    return b->at != start && value <= REPEAT_MAX;
}

/* After "{". */
static bool read_counts(struct builder *b, unsigned *ret_low, unsigned *ret_high) {
    if (!read_number(b, ret_low)) {
        return fail(b, "a repetition is {m}, {m,} or {m,n}, of 64 at most");
    }
    *ret_high = *ret_low;
    if (peek(b, ',')) {
        b->at++;
        *ret_high = 0;
        if (!peek(b, '}') && (!read_number(b, ret_high) || *ret_high == 0)) {
            return fail(b, "a repetition is {m}, {m,} or {m,n}, of 64 at most");
        }
        if (*ret_high != 0 && *ret_high < *ret_low) {
            return fail(b, "a repetition {m,n} runs backwards");
        }
    } else if (*ret_low == 0) {
        return fail(b, "{0} matches nothing");
    }
    if (!peek(b, '}')) {
        return fail(b, "a repetition is {m}, {m,} or {m,n}, of 64 at most");
    }
    b->at++;
    return true;
}

static bool read_quantifiers(struct builder *b, struct part *atom) {
    while (b->at < b->text.n && b->problem == NULL) {
        uint8_t c = b->text.p[b->at];
        if (c != '?' && c != '*' && c != '+' && c != '{') {
            break;
        }
        b->at++;
        if (c == '{') {
            unsigned low = 0;
            unsigned high = 0;
            if (!read_counts(b, &low, &high)) {
                return false;
            }
            *atom = part_repeat(b, *atom, low, high);
        } else {
            *atom = part_loop(b, *atom, c != '+', c != '?');
        }
    }
    return b->problem == NULL;
}

static void append(struct builder *b, struct part atom) {
    struct group *g = &b->groups[b->depth];
    g->sequence = g->has_sequence ? part_join(b, g->sequence, atom) : atom;
    g->has_sequence = true;
}

/* Ends the alternative that is being read. */
static void end_alternative(struct builder *b) {
    struct group *g = &b->groups[b->depth];
    struct part sequence = g->has_sequence ? g->sequence : part_empty(b);
    g->alternatives = g->has_alternatives ? part_either(b, g->alternatives, sequence) : sequence;
    g->has_alternatives = true;
    g->has_sequence = false;
}

static bool open_group(struct builder *b) {
    if (b->depth + 1 == GROUPS_MAX) {
        return fail(b, "parentheses are nested too deep");
    }
    if (peek(b, '?')) {
        return fail(b, "(?...) is not part of this language");
    }
    b->groups[++b->depth] = (struct group){.first = (uint16_t)b->state_count};
    return true;
}

static bool close_group(struct builder *b) {
    if (b->depth == 0) {
        return fail(b, "a ) closes nothing");
    }
    end_alternative(b);
    struct part inner = b->groups[b->depth].alternatives;
    inner.first = b->groups[b->depth].first;
    inner.until = (uint16_t)b->state_count;
    b->depth--;
    if (!read_quantifiers(b, &inner)) {
        return false;
    }
    append(b, inner);
    return true;
}

static bool read_atom(struct builder *b, uint8_t c) {
    struct byte_set set = {{0}};
    if (c == '.') {
        return fail(b, "a dot matches anything; write a class such as [a-z0-9_-]");
    }
    if (c == '?' || c == '*' || c == '+' || c == '{') {
        return fail(b, "nothing stands before this repetition");
    }
    if (c == '[' ? !read_class(b, &set) : c == '\\' && !read_escape(b, &set)) {
        return false;
    }
    if (c != '[' && c != '\\') {
        if (c < 0x20) {
            return fail(b, "a control character");
        }
        set_add(&set, c);
    }
    struct part atom = part_of_set(b, &set);
    /* A character of several bytes is one atom: é* must not repeat its last byte alone. */
    while (c >= 0xc0 && b->at < b->text.n && (b->text.p[b->at] & 0xc0) == 0x80) {
        struct byte_set more = {{0}};
        set_add(&more, b->text.p[b->at++]);
        atom = part_join(b, atom, part_of_set(b, &more));
    }
    if (!read_quantifiers(b, &atom)) {
        return false;
    }
    append(b, atom);
    return true;
}

static bool read_all(struct builder *b) {
    while (b->at < b->text.n && b->problem == NULL) {
        uint8_t c = b->text.p[b->at++];
        if (c == '^' && b->at == 1) {
            continue;
        }
        if (c == '$' && b->at == b->text.n) {
            break;
        }
        if (c == '^' || c == '$') {
            return fail(b, "^ and $ stand at the ends only; write \\^ or \\$ for the sign");
        }
        bool good = true;
        if (c == '(') {
            good = open_group(b);
        } else if (c == ')') {
            good = close_group(b);
        } else if (c == '|') {
            end_alternative(b);
        } else {
            good = read_atom(b, c);
        }
        if (!good) {
            return false;
        }
    }
    return b->problem == NULL && (b->depth == 0 || fail(b, "a ( is not closed"));
}

/* -- the table --------------------------------------------------------------------------------------- */

struct states {
    uint64_t bits[STATES_MAX / 64];
};

struct table_builder {
    const struct builder *nfa;
    struct states rows[TABLE_MAX];
    unsigned row_count;
    uint16_t stack[2 * STATES_MAX]; /* a state is entered once and pushes two */
};

/* Adds a state and all that empty steps reach from it. */
static void add_closure(struct table_builder *t, struct states *set, uint16_t from) {
    unsigned depth = 0;
    t->stack[depth++] = from;
    while (depth > 0) {
        uint16_t s = t->stack[--depth];
        if ((set->bits[s >> 6] >> (s & 63) & 1) != 0) {
            continue;
        }
        set->bits[s >> 6] |= UINT64_C(1) << (s & 63);
        const struct nfa_state *state = &t->nfa->states[s];
        if (state->set != NOWHERE) {
            continue;
        }
        check(depth + 2 <= BH_COUNT(t->stack));
        if (state->out != NOWHERE) {
            t->stack[depth++] = state->out;
        }
        if (state->out2 != NOWHERE) {
            t->stack[depth++] = state->out2;
        }
    }
}

static unsigned row_of(struct table_builder *t, const struct states *set) {
    for (unsigned i = 0; i < t->row_count; i++) {
        if (memcmp(&t->rows[i], set, sizeof *set) == 0) {
            return i;
        }
    }
    if (t->row_count == TABLE_MAX) {
        return TABLE_MAX;
    }
    t->rows[t->row_count] = *set;
    return t->row_count++;
}

static struct states step(struct table_builder *t, unsigned row, unsigned byte) {
    struct states to = {{0}};
    for (unsigned word = 0; word < STATES_MAX / 64; word++) {
        for (uint64_t bits = t->rows[row].bits[word]; bits != 0; bits &= bits - 1) {
            unsigned s = word * 64 + (unsigned)__builtin_ctzll(bits);
            const struct nfa_state *state = &t->nfa->states[s];
            if (state->set != NOWHERE && set_has(&t->nfa->sets[state->set], byte) &&
                state->out != NOWHERE) {
                add_closure(t, &to, state->out);
            }
        }
    }
    return to;
}

/* Columns: bytes are equal when every set holds both or neither. */
static unsigned number_columns(const struct builder *b, uint16_t class_of[256],
                               uint8_t sample[256]) {
    unsigned columns = 0;
    for (unsigned byte = 0; byte < 256; byte++) {
        unsigned c = 0;
        for (; c < columns; c++) {
            bool same = true;
            for (unsigned s = 0; s < b->set_count && same; s++) {
                same = set_has(&b->sets[s], byte) == set_has(&b->sets[s], sample[c]);
            }
            if (same) {
                break;
            }
        }
        if (c == columns) {
            sample[columns++] = (uint8_t)byte;
        }
        class_of[byte] = (uint16_t)c;
    }
    return columns;
}

static struct pattern *make_table(struct builder *b, uint16_t entry) {
    struct table_builder *t = calloc(1, sizeof *t);
    uint8_t sample[256];
    uint16_t class_of[256];
    unsigned columns = number_columns(b, class_of, sample);
    struct pattern *pattern =
        calloc(1, sizeof *pattern + (size_t)TABLE_MAX * columns * sizeof(uint16_t));
    if (t == NULL || pattern == NULL) {
        (void)fail(b, "out of memory");
        goto out;
    }
    t->nfa = b;
    t->row_count = 1; /* row 0: the empty set of states */
    struct states start = {{0}};
    add_closure(t, &start, entry);
    (void)row_of(t, &start);
    for (unsigned row = 1; row < t->row_count && b->problem == NULL; row++) {
        pattern->accepts[row] = (uint8_t)(t->rows[row].bits[0] & 1);
        for (unsigned c = 0; c < columns; c++) {
            struct states to = step(t, row, sample[c]);
            unsigned next = row_of(t, &to);
            if (next == TABLE_MAX) {
                (void)fail(
                    b,
                    "the pattern is too complex; write it with fewer repetitions and alternatives");
                break;
            }
            pattern->next[row * columns + c] = (uint16_t)next;
        }
    }
    memcpy(pattern->class_of, class_of, sizeof class_of);
    pattern->columns = columns;
    pattern->rows = t->row_count;
out:
    free(t);
    if (b->problem != NULL) {
        free(pattern);
        return NULL;
    }
    return pattern;
}

struct pattern *pattern_new(struct span text, const char **ret_problem, size_t *ret_offset) {
    struct builder *b = calloc(1, sizeof *b);
    if (b == NULL) {
        *ret_problem = "out of memory";
        *ret_offset = 0;
        return NULL;
    }
    b->text = text;
    b->states[MATCH] = (struct nfa_state){NOWHERE, NOWHERE, NOWHERE};
    b->state_count = 1;
    struct pattern *pattern = NULL;
    if (text.n == 0 || text.n > 512) {
        (void)fail(b, "a pattern has 1 to 512 bytes");
    } else if (read_all(b)) {
        end_alternative(b);
        struct part whole = b->groups[0].alternatives;
        if (b->problem == NULL) {
            b->states[whole.exit].out = MATCH;
            pattern = make_table(b, whole.entry);
        }
    }
    *ret_problem = b->problem;
    *ret_offset = b->at;
    free(b);
    return pattern;
}

void pattern_free(struct pattern *pattern) {
    free(pattern);
}

bool pattern_matches(const struct pattern *pattern, struct span text) {
    unsigned row = 1;
    for (size_t i = 0; i < text.n && row != 0; i++) {
        row = pattern->next[row * pattern->columns + pattern->class_of[text.p[i]]];
        check_slow(row < pattern->rows);
    }
    return pattern->accepts[row] != 0;
}
