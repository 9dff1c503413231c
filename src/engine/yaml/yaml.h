/*
 * YAML for configuration: a thin wrapper of libfyaml that keeps file, line and column of every node.
 *
 * Purpose: load one file into a read-only tree and let readers complain precisely: yaml_error points at a node with a caret. Refused: anchors,
 * aliases, tags, duplicate keys, several documents, files over 1 MiB, depth over 16.
 * Thread: any, one tree at a time per thread. Memory: malloc (configuration time only).
 */
#ifndef BH_ENGINE_YAML_H
#define BH_ENGINE_YAML_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/errors.h"

struct yaml_doc;
struct yaml_node; /* opaque; lives as long as its document */

enum yaml_kind { YAML_SCALAR = 1, YAML_SEQUENCE, YAML_MAPPING };

int yaml_load(const char *path, struct yaml_doc **ret_doc, struct err *err) BH_MUST_USE;
/* `name` is shown in errors. */
int yaml_load_text(const char *name, struct span text, struct yaml_doc **ret_doc,
                   struct err *err) BH_MUST_USE;
void yaml_free(struct yaml_doc *doc);

const struct yaml_node *yaml_root(const struct yaml_doc *doc);
enum yaml_kind yaml_kind_of(const struct yaml_node *node);
struct span yaml_text(const struct yaml_node *node); /* a scalar's bytes */
bool yaml_is_null(const struct yaml_node *node);
size_t yaml_count(const struct yaml_node *node); /* entries of a sequence or mapping */
const struct yaml_node *yaml_at(const struct yaml_node *node,
                                size_t index); /* element, or mapping's value */
const struct yaml_node *yaml_key_at(const struct yaml_node *node, size_t index); /* mapping's key */
const struct yaml_node *yaml_get(const struct yaml_node *mapping, const char *key); /* or NULL */

/* Fills err with file, line, column of the node and a text that ends with the source line and a caret; returns BH_E_CONFIG. */
int yaml_error(struct err *err, const struct yaml_node *node, const char *format, ...)
    BH_PRINTF(3, 4);
/* Refuses keys outside the list, naming the nearest valid one ("did you mean"). */
int yaml_only_keys(const struct yaml_node *mapping, const char *const *keys, size_t count,
                   struct err *err) BH_MUST_USE;
const char *yaml_nearest(struct span word, const char *const *words, size_t count); /* or NULL */

/* Typed scalars; each fails with a precise error. Sizes: 128MiB, 2GiB, 500KB; durations: 7d, 24h, 10m, 5s, 50ms; booleans true/false. */
int yaml_bool(const struct yaml_node *node, bool *ret_value, struct err *err) BH_MUST_USE;
int yaml_u64(const struct yaml_node *node, uint64_t min, uint64_t max, uint64_t *ret_value,
             struct err *err) BH_MUST_USE;
int yaml_size(const struct yaml_node *node, uint64_t *ret_bytes, struct err *err) BH_MUST_USE;
int yaml_duration(const struct yaml_node *node, uint64_t *ret_us, struct err *err) BH_MUST_USE;

#endif
