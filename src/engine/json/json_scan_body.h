/*
 * The scanner itself, included by json_scalar.c and json_avx2.c, which define the two kernels that
 * may be wide: string_stop() with its struct kernel, and first_bad_utf8(). Tokens, errors and
 * offsets cannot differ between the twins for any other reason than a wrong kernel.
 *
 * One loop turn reads one member or element: [key and colon] value, then as many closing brackets
 * as follow, then the comma. An open container keeps its parent's index in `next` until it is
 * closed, so nesting needs no stack.
 */
#include <stdbool.h>

#include "base/check.h"
#include "base/compiler.h"

#define NO_PARENT   UINT32_MAX
#define DEPTH_LIMIT 60000U /* depth is a u16 */

struct scan {
    const uint8_t *p;
    const uint8_t *end;
    const uint8_t *begin;
    struct json_token *tokens;
    uint32_t count;
    uint32_t cap;
    uint32_t open;  /* innermost open container, or NO_PARENT */
    uint32_t depth; /* number of open containers */
    uint32_t depth_max;
    bool in_object;
    struct kernel kernel; /* what string_stop() keeps between calls; all zero at first */
};

static BH_ALWAYS_INLINE void skip_space(struct scan *s) {
    if (BH_LIKELY(s->p<s->end && * s->p> ' ')) {
        return;
    }
    while (s->p < s->end && (*s->p == ' ' || *s->p == '\n' || *s->p == '\r' || *s->p == '\t')) {
        s->p++;
    }
}

/* Takes the next token; its length and subtree are set when its end is known. */
static BH_ALWAYS_INLINE struct json_token *push(struct scan *s, enum json_kind kind,
                                                const uint8_t *start) {
    if (BH_UNLIKELY(s->count == s->cap)) {
        return NULL;
    }
    struct json_token *token = &s->tokens[s->count++];
    token->start = (uint32_t)(start - s->begin);
    token->depth = (uint16_t)s->depth;
    token->kind = (uint8_t)kind;
    token->flags = 0;
    token->next = s->count;
    return token;
}

static bool is_hex(uint8_t c) {
    return (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'f');
}

/* At a backslash: steps over the escape; p stays at the offending byte of a wrong one. */
static bool skip_escape(struct scan *s) {
    s->p++;
    if (s->p == s->end) {
        return false;
    }
    switch (*s->p) {
    case '"':
    case '\\':
    case '/':
    case 'b':
    case 'f':
    case 'n':
    case 'r':
    case 't':
        s->p++;
        return true;
    case 'u':
        s->p++;
        for (int i = 0; i < 4; i++, s->p++) {
            if (s->p == s->end || !is_hex(*s->p)) {
                return false;
            }
        }
        return true;
    default:
        return false;
    }
}

/* At a string's first byte after its quote; afterwards p is past the closing quote. */
static BH_ALWAYS_INLINE int scan_string(struct scan *s, enum json_kind kind) {
    const uint8_t *start = s->p;
    struct json_token *token = push(s, kind, start);
    if (BH_UNLIKELY(token == NULL)) {
        s->p = start - 1;
        return BH_E_TOO_MANY;
    }
    uint64_t non_ascii = 0;
    uint8_t flags = 0;
    int rc = 0;
    while (true) {
        s->p = string_stop(&s->kernel, s->p, s->end, &non_ascii);
        if (BH_LIKELY(s->p < s->end && *s->p == '"')) {
            break;
        }
        flags |= JSON_ESCAPED;
        if (s->p == s->end || *s->p != '\\' || !skip_escape(s)) {
            rc = BH_E_SYNTAX;
            break;
        }
    }
    size_t length = (size_t)(s->p - start);
    if (BH_UNLIKELY(non_ascii != 0)) {
        size_t bad = first_bad_utf8(start, length);
        if (bad < length) {
            s->p = start + bad;
            return BH_E_UTF8;
        }
        flags |= JSON_NON_ASCII;
    }
    token->len = (uint32_t)length;
    token->flags = flags;
    s->p += rc == 0;
    return rc;
}

static BH_ALWAYS_INLINE bool skip_digits(struct scan *s) {
    const uint8_t *first = s->p;
    while (s->p < s->end && (uint8_t)(*s->p - '0') <= 9) {
        s->p++;
    }
    return s->p > first;
}

static BH_ALWAYS_INLINE int scan_number(struct scan *s) {
    const uint8_t *start = s->p;
    struct json_token *token = push(s, JSON_NUMBER, start);
    if (BH_UNLIKELY(token == NULL)) {
        return BH_E_TOO_MANY;
    }
    s->p += *s->p == '-';
    if (s->p < s->end && *s->p == '0') {
        s->p++;
    } else if (!skip_digits(s)) {
        return BH_E_SYNTAX;
    }
    if (s->p < s->end && *s->p == '.') {
        s->p++;
        if (!skip_digits(s)) {
            return BH_E_SYNTAX;
        }
    }
    if (s->p < s->end && (*s->p | 0x20) == 'e') {
        s->p++;
        s->p += s->p < s->end && (*s->p == '+' || *s->p == '-');
        if (!skip_digits(s)) {
            return BH_E_SYNTAX;
        }
    }
    token->len = (uint32_t)(s->p - start);
    return 0;
}

static BH_ALWAYS_INLINE int scan_literal(struct scan *s, enum json_kind kind, const char *word) {
    struct json_token *token = push(s, kind, s->p);
    if (BH_UNLIKELY(token == NULL)) {
        return BH_E_TOO_MANY;
    }
    const uint8_t *start = s->p;
    for (; *word != '\0'; word++, s->p++) {
        if (s->p == s->end || *s->p != (uint8_t)*word) {
            return BH_E_SYNTAX;
        }
    }
    token->len = (uint32_t)(s->p - start);
    return 0;
}

static BH_ALWAYS_INLINE int open_container(struct scan *s, enum json_kind kind) {
    if (BH_UNLIKELY(s->depth >= s->depth_max)) {
        return BH_E_TOO_DEEP;
    }
    struct json_token *token = push(s, kind, s->p);
    if (BH_UNLIKELY(token == NULL)) {
        return BH_E_TOO_MANY;
    }
    token->next = s->open;
    token->len = 0;
    s->open = s->count - 1;
    s->depth++;
    s->in_object = kind == JSON_OBJECT;
    s->p++;
    return 0;
}

/* At the closing bracket of the innermost container. */
static BH_ALWAYS_INLINE void close_container(struct scan *s) {
    struct json_token *token = &s->tokens[s->open];
    uint32_t parent = token->next;
    s->p++;
    s->depth--;
    token->len = (uint32_t)(s->p - s->begin) - token->start;
    token->next = s->count;
    s->in_object = false;
    if (parent != NO_PARENT && s->tokens[parent].kind == JSON_OBJECT) {
        s->in_object = true;
        s->tokens[s->open - 1].next = s->count;
    }
    s->open = parent;
}

/* p is at the first byte of a value; a container is only opened. */
static BH_ALWAYS_INLINE int scan_value(struct scan *s) {
    if (BH_UNLIKELY(s->p == s->end)) {
        return BH_E_SYNTAX;
    }
    switch (*s->p) {
    case '"':
        s->p++;
        return scan_string(s, JSON_STRING);
    case '{':
        return open_container(s, JSON_OBJECT);
    case '[':
        return open_container(s, JSON_ARRAY);
    case 't':
        return scan_literal(s, JSON_TRUE, "true");
    case 'f':
        return scan_literal(s, JSON_FALSE, "false");
    case 'n':
        return scan_literal(s, JSON_NULL, "null");
    case '-':
    case '0':
    case '1':
    case '2':
    case '3':
    case '4':
    case '5':
    case '6':
    case '7':
    case '8':
    case '9':
        return scan_number(s);
    default:
        return BH_E_SYNTAX;
    }
}

static BH_ALWAYS_INLINE int scan_key(struct scan *s) {
    if (s->p == s->end || *s->p != '"') {
        return BH_E_SYNTAX;
    }
    s->p++;
    int rc = scan_string(s, JSON_KEY);
    if (rc != 0) {
        return rc;
    }
    skip_space(s);
    if (s->p == s->end || *s->p != ':') {
        return BH_E_SYNTAX;
    }
    s->p++;
    skip_space(s);
    return 0;
}

static BH_ALWAYS_INLINE bool at_closing(const struct scan *s) {
    return s->p < s->end && *s->p == (s->in_object ? '}' : ']');
}

/*
 * After a complete value: closes what closes and steps over the comma; `open` tells whether more
 * comes.
 */
static BH_ALWAYS_INLINE int scan_after_value(struct scan *s) {
    while (s->open != NO_PARENT) {
        skip_space(s);
        if (s->p < s->end && *s->p == ',') {
            s->p++;
            skip_space(s);
            return 0;
        }
        if (!at_closing(s)) {
            return BH_E_SYNTAX;
        }
        close_container(s);
    }
    return 0;
}

static BH_ALWAYS_INLINE int scan_document(struct scan *s) {
    skip_space(s);
    do {
        int rc = s->in_object ? scan_key(s) : 0;
        uint32_t at = s->count;
        if (rc == 0) {
            rc = scan_value(s);
        }
        if (BH_UNLIKELY(rc != 0)) {
            return rc;
        }
        if (s->open == at) {
            skip_space(s);
            if (!at_closing(s)) {
                continue;
            }
        } else if (s->in_object) {
            s->tokens[at - 1].next = s->count;
        }
        rc = scan_after_value(s);
        if (BH_UNLIKELY(rc != 0)) {
            return rc;
        }
    } while (s->open != NO_PARENT);
    skip_space(s);
    return s->p == s->end ? 0 : BH_E_SYNTAX;
}

static BH_ALWAYS_INLINE int parse(struct span text, unsigned depth_max, struct json_token *tokens,
                                  size_t tokens_cap, size_t *ret_count, size_t *ret_offset) {
    check(text.n <= UINT32_MAX);
    check(tokens != NULL || tokens_cap == 0);
    /* An empty span may have no address; comparing and advancing NULL is not defined. */
    const uint8_t *begin = text.n > 0 ? text.p : (const uint8_t *)"";
    struct scan s = {
        .p = begin,
        .end = begin + text.n,
        .begin = begin,
        .tokens = tokens,
        .cap = tokens_cap < UINT32_MAX ? (uint32_t)tokens_cap : UINT32_MAX - 1,
        .open = NO_PARENT,
        .depth_max = depth_max < DEPTH_LIMIT ? depth_max : DEPTH_LIMIT,
    };
    int rc = scan_document(&s);
    if (rc == 0) {
        check(s.count > 0 && s.depth == 0);
        *ret_count = s.count;
    } else {
        *ret_offset = (size_t)(s.p - begin);
    }
    return rc;
}
