#include "protocol/wire/loose.h"

size_t loose_skip_space(struct span s, size_t i) {
    while (i < s.n && (s.p[i] == ' ' || s.p[i] == '\n' || s.p[i] == '\r' || s.p[i] == '\t')) {
        i++;
    }
    return i;
}

/* The high bit of each byte that is `c`, and perhaps of some that follow one. */
static inline uint64_t bytes_that_are(uint64_t word, uint8_t c) {
    uint64_t x = word ^ UINT64_C(0x0101010101010101) * c;
    return (x - UINT64_C(0x0101010101010101)) & ~x & UINT64_C(0x8080808080808080);
}

size_t loose_skip_string(struct span s, size_t i) {
    for (i++; i + 8 <= s.n; i += 8) {
        uint64_t word = get_u64(s.p + i);
        uint64_t hit = bytes_that_are(word, '"') | bytes_that_are(word, '\\');
        if (hit == 0) {
            continue;
        }
        i += (size_t)__builtin_ctzll(hit) / 8;
        if (s.p[i] == '"') {
            return i + 1;
        }
        i -= 8 - 2; /* the loop goes on behind what is escaped */
    }
    for (; i < s.n; i++) {
        if (s.p[i] == '\\') {
            i++;
        } else if (s.p[i] == '"') {
            return i + 1;
        }
    }
    return SIZE_MAX;
}

static size_t skip_value(struct span s, size_t i) {
    size_t depth = 0;
    size_t first = i;
    while (i < s.n) {
        uint8_t c = s.p[i];
        if (c == '"') {
            i = loose_skip_string(s, i);
            if (i == SIZE_MAX) {
                return SIZE_MAX;
            }
        } else if (c == '{' || c == '[') {
            depth++;
            i++;
        } else if (depth > 0 && (c == '}' || c == ']')) {
            depth--;
            i++;
        } else if (depth == 0 && (c == ',' || c == '}' || c == ']' || c == ' ' || c == '\n')) {
            return i > first ? i : SIZE_MAX;
        } else {
            i++;
            continue;
        }
        if (depth == 0) {
            return i;
        }
    }
    return depth == 0 && i > first ? i : SIZE_MAX;
}

size_t loose_skip_comma(struct span container, size_t i) {
    size_t at = loose_skip_space(container, i);
    return at < container.n && container.p[at] == ',' ? loose_skip_space(container, at + 1) : at;
}

bool loose_next_key(struct span object, size_t *i, struct span *ret_key) {
    size_t at = loose_skip_comma(object, *i);
    if (at >= object.n || object.p[at] != '"') {
        return false;
    }
    size_t end = loose_skip_string(object, at);
    if (end == SIZE_MAX) {
        return false;
    }
    *ret_key = span_cut(object, at + 1, end - at - 2);
    at = loose_skip_space(object, end);
    if (at >= object.n || object.p[at] != ':') {
        return false;
    }
    *i = loose_skip_space(object, at + 1);
    return true;
}

bool loose_take_value(struct span container, size_t *i, struct span *ret_value) {
    size_t end = skip_value(container, *i);
    if (end == SIZE_MAX) {
        return false;
    }
    *ret_value = span_cut(container, *i, end - *i);
    *i = end;
    return true;
}

bool loose_member(struct span object, const char *name, struct span *ret_value) {
    struct span key;
    struct span value;
    size_t i = 1;
    bool found = false;
    while (loose_next_key(object, &i, &key) && loose_take_value(object, &i, &value)) {
        if (span_is(key, name)) {
            *ret_value = value;
            found = true;
        }
    }
    i = loose_skip_space(object, i);
    return found && i + 1 == object.n && object.p[i] == '}';
}
