/* Readers of the tree: navigation, typed scalars, and the nearest valid word for a misspelt one. */
#include <stdlib.h>

#include "base/check.h"
#include "engine/yaml/yaml.h"
#include "engine/yaml/yaml_int.h"

const struct yaml_node *yaml_root(const struct yaml_doc *doc) {
    check(doc->node_count != 0);
    return &doc->nodes[0];
}

enum yaml_kind yaml_kind_of(const struct yaml_node *node) {
    return (enum yaml_kind)node->kind;
}

struct span yaml_text(const struct yaml_node *node) {
    if (node->kind != YAML_SCALAR || node->text_size == 0) {
        return SPAN_NONE;
    }
    return span_of(node->doc->text + node->text_start, node->text_size);
}

bool yaml_is_null(const struct yaml_node *node) {
    if (node->kind != YAML_SCALAR || node->is_quoted) {
        return false;
    }
    struct span text = yaml_text(node);
    return text.n == 0 || span_is(text, "~") || span_is(text, "null");
}

size_t yaml_count(const struct yaml_node *node) {
    return node->kind == YAML_MAPPING ? node->child_count / 2 : node->child_count;
}

static const struct yaml_node *child(const struct yaml_node *node, size_t index) {
    check(index < node->child_count);
    return &node->doc->nodes[node->doc->children[node->child_first + index]];
}

const struct yaml_node *yaml_at(const struct yaml_node *node, size_t index) {
    return child(node, node->kind == YAML_MAPPING ? 2 * index + 1 : index);
}

const struct yaml_node *yaml_key_at(const struct yaml_node *node, size_t index) {
    check(node->kind == YAML_MAPPING);
    return child(node, 2 * index);
}

const struct yaml_node *yaml_get(const struct yaml_node *mapping, const char *key) {
    if (mapping->kind != YAML_MAPPING) {
        return NULL;
    }
    for (size_t i = 0; i < yaml_count(mapping); i++) {
        if (span_is(yaml_text(yaml_key_at(mapping, i)), key)) {
            return yaml_at(mapping, i);
        }
    }
    return NULL;
}

/* -- nearest word ------------------------------------------------------------------------------ */

enum { WORD_MAX = 64 };

static size_t least(size_t a, size_t b) {
    return a < b ? a : b;
}

/*
 * Edit distance of two words of at most WORD_MAX bytes, in which two letters that changed places count as one slip. Three rows of the usual
 * table.
 */
static size_t edit_distance(struct span a, struct span b) {
    size_t rows[3][WORD_MAX + 1];
    for (size_t j = 0; j <= b.n; j++) {
        rows[0][j] = j;
    }
    for (size_t i = 1; i <= a.n; i++) {
        size_t *row = rows[i % 3];
        const size_t *last = rows[(i + 2) % 3];
        const size_t *before = rows[(i + 1) % 3];
        row[0] = i;
        for (size_t j = 1; j <= b.n; j++) {
            size_t replaced = last[j - 1] + (a.p[i - 1] == b.p[j - 1] ? 0 : 1);
            row[j] = least(replaced, least(last[j], row[j - 1]) + 1);
            if (i > 1 && j > 1 && a.p[i - 1] == b.p[j - 2] && a.p[i - 2] == b.p[j - 1]) {
                row[j] = least(row[j], before[j - 2] + 1);
            }
        }
    }
    return rows[a.n % 3][b.n];
}

const char *yaml_nearest(struct span word, const char *const *words, size_t count) {
    if (word.n == 0 || word.n > WORD_MAX) {
        return NULL;
    }
    const char *best = NULL;
    size_t best_distance = (word.n + 2) / 3 + 1;
    for (size_t i = 0; i < count; i++) {
        struct span candidate = span_str(words[i]);
        if (candidate.n == 0 || candidate.n > WORD_MAX) {
            continue;
        }
        size_t distance = edit_distance(word, candidate);
        if (distance < best_distance) {
            best_distance = distance;
            best = words[i];
        }
    }
    return best;
}

/* "a, b, c" */
static void list_words(const char *const *words, size_t count, struct buf *out) {
    for (size_t i = 0; i < count; i++) {
        buf_put_str(out, i == 0 ? "" : ", ");
        buf_put_str(out, words[i]);
    }
}

int yaml_only_keys(const struct yaml_node *mapping, const char *const *keys, size_t count,
                   struct err *err) {
    char list[200];
    struct buf out = buf_of(list, sizeof list - 1);
    list_words(keys, count, &out);
    list[out.n] = '\0';
    if (mapping->kind != YAML_MAPPING) {
        return yaml_error(err, mapping, "expected a mapping with %s", list);
    }
    for (size_t i = 0; i < yaml_count(mapping); i++) {
        const struct yaml_node *key = yaml_key_at(mapping, i);
        struct span word = yaml_text(key);
        bool known = false;
        for (size_t k = 0; k < count && !known; k++) {
            known = span_is(word, keys[k]);
        }
        if (!known) {
            const char *near = yaml_nearest(word, keys, count);
            int shown = (int)least(word.n, 60);
            if (near != NULL) {
                return yaml_error(err, key, "unknown key '%.*s'; did you mean '%s'?", shown,
                                  (const char *)word.p, near);
            }
            return yaml_error(err, key, "unknown key '%.*s'; expected %s", shown,
                              (const char *)word.p, list);
        }
    }
    return 0;
}

/* -- typed scalars -------------------------------------------------------------------------------- */

int yaml_bool(const struct yaml_node *node, bool *ret_value, struct err *err) {
    struct span text = yaml_text(node);
    if (node->kind == YAML_SCALAR && !node->is_quoted &&
        (span_is(text, "true") || span_is(text, "false"))) {
        *ret_value = text.n == 4;
        return 0;
    }
    return yaml_error(err, node, "expected true or false");
}

int yaml_u64(const struct yaml_node *node, uint64_t min, uint64_t max, uint64_t *ret_value,
             struct err *err) {
    uint64_t value;
    if (node->kind != YAML_SCALAR || node->is_quoted || !span_to_u64(yaml_text(node), &value) ||
        value < min || value > max) {
        return yaml_error(err, node, "expected a number from %llu to %llu", (unsigned long long)min,
                          (unsigned long long)max);
    }
    *ret_value = value;
    return 0;
}

struct unit {
    const char *word;
    uint64_t factor;
};

/* A number directly followed by one of the units. */
static bool with_unit(const struct yaml_node *node, const struct unit *units, size_t count,
                      uint64_t *ret_value) {
    struct span text = yaml_text(node);
    size_t digits = 0;
    while (digits < text.n && text.p[digits] >= '0' && text.p[digits] <= '9') {
        digits++;
    }
    uint64_t value;
    if (!span_to_u64(span_cut(text, 0, digits), &value)) {
        return false;
    }
    struct span word = span_from(text, digits);
    for (size_t i = 0; i < count; i++) {
        if (span_is(word, units[i].word) && value <= UINT64_MAX / units[i].factor) {
            *ret_value = value * units[i].factor;
            return true;
        }
    }
    return false;
}

int yaml_size(const struct yaml_node *node, uint64_t *ret_bytes, struct err *err) {
    static const struct unit units[] = {
        {"B", 1},
        {"KB", UINT64_C(1000)},
        {"MB", UINT64_C(1000000)},
        {"GB", UINT64_C(1000000000)},
        {"TB", UINT64_C(1000000000000)},
        {"KiB", UINT64_C(1) << 10},
        {"MiB", UINT64_C(1) << 20},
        {"GiB", UINT64_C(1) << 30},
        {"TiB", UINT64_C(1) << 40},
    };
    if (!with_unit(node, units, BH_COUNT(units), ret_bytes)) {
        return yaml_error(err, node, "expected a size such as 500KB, 128MiB or 2GiB");
    }
    return 0;
}

int yaml_duration(const struct yaml_node *node, uint64_t *ret_us, struct err *err) {
    static const struct unit units[] = {
        {"us", 1},
        {"ms", UINT64_C(1000)},
        {"s", UINT64_C(1000000)},
        {"m", UINT64_C(60000000)},
        {"h", UINT64_C(3600000000)},
        {"d", UINT64_C(86400000000)},
    };
    if (!with_unit(node, units, BH_COUNT(units), ret_us)) {
        return yaml_error(err, node, "expected a duration such as 7d, 24h, 10m, 5s or 50ms");
    }
    return 0;
}
