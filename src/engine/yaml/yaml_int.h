/* The tree's own types, shared by the loader (yaml.c) and the readers of values (yaml_value.c). */
#ifndef BH_ENGINE_YAML_INT_H
#define BH_ENGINE_YAML_INT_H

#include "engine/yaml/yaml.h"

struct yaml_node {
    const struct yaml_doc *doc;
    uint8_t kind;   /* enum yaml_kind */
    bool is_quoted; /* a quoted null or true is a string */
    uint32_t line;  /* from 1 */
    uint32_t column;
    uint32_t offset; /* of the first byte in the file, for the source line under an error */
    uint32_t text_start;
    uint32_t text_size;
    uint32_t child_first; /* in doc->children; a mapping has key, value, key, value */
    uint32_t child_count;
};

struct yaml_doc {
    uint32_t magic;
    char name[256];
    uint8_t *source;
    size_t source_size;
    struct yaml_node *nodes;
    size_t node_count;
    size_t node_cap;
    uint32_t *children;
    size_t child_count;
    size_t child_cap;
    uint8_t *text; /* the scalars' bytes, one after the other */
    size_t text_size;
    size_t text_cap;
};

#endif
