/*
 * Chooses between the twins. __builtin_cpu_supports reads a word that the C runtime filled at
 * start.
 */
#include "engine/json/json.h"

#include "engine/json/json_int.h"

int json_parse(struct span text, unsigned depth_max, struct json_token *tokens, size_t tokens_cap,
               size_t *ret_count, size_t *ret_offset) {
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2")) {
        return json_parse_avx2(text, depth_max, tokens, tokens_cap, ret_count, ret_offset);
    }
    return json_parse_scalar(text, depth_max, tokens, tokens_cap, ret_count, ret_offset);
}

bool utf8_valid(struct span s) {
    if (__builtin_cpu_supports("avx2")) {
        return utf8_first_bad_avx2(s.p, s.n) == s.n;
    }
    return utf8_first_bad_scalar(s.p, s.n) == s.n;
}
