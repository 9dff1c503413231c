/* The words of forms and levels, and which of two rules is the stricter. */
#include "model/form.h"

#include "base/compiler.h"

struct word {
    uint8_t number;
    const char *text;
};

static const struct word forms[] = {
    {FORM_RAW, "raw"},       {FORM_DROP, "drop"},
    {FORM_REDACT, "redact"}, {FORM_PSEUDONYM, "pseudonym"},
    {FORM_MASK, "mask"},     {FORM_COARSE, "coarse"},
    {FORM_SEAL, "seal"},     {FORM_ALIAS, "alias"},
};

static const struct word levels[] = {
    {LEVEL_COUNTRY, "country"}, {LEVEL_REGION, "region"}, {LEVEL_FAMILY, "family"},
    {LEVEL_MAJOR, "major"},     {LEVEL_PATH, "path"},     {LEVEL_NET, "/24"},
    {LEVEL_NET, "/48"},         {LEVEL_HOUR, "hour"},     {LEVEL_DAY, "day"},
    {LEVEL_YEAR, "year"},
};

static const char *const coarse_names[] = {
    [LEVEL_NONE] = "coarse",          [LEVEL_COUNTRY] = "coarse:country",
    [LEVEL_REGION] = "coarse:region", [LEVEL_FAMILY] = "coarse:family",
    [LEVEL_MAJOR] = "coarse:major",   [LEVEL_PATH] = "coarse:path",
    [LEVEL_NET] = "coarse:net",       [LEVEL_HOUR] = "coarse:hour",
    [LEVEL_DAY] = "coarse:day",       [LEVEL_YEAR] = "coarse:year",
};

/*
 * Levels stand on ladders, each from fine to coarse; levels of different ladders cannot be
 * compared.
 */
static const uint8_t level_ladder[] = {
    [LEVEL_COUNTRY] = 1, [LEVEL_REGION] = 1, [LEVEL_FAMILY] = 2,
    [LEVEL_MAJOR] = 2,   [LEVEL_PATH] = 3,   [LEVEL_NET] = 4,
    [LEVEL_HOUR] = 5,    [LEVEL_DAY] = 5,    [LEVEL_YEAR] = 5,
};
static const uint8_t level_coarseness[] = {
    [LEVEL_COUNTRY] = 2, [LEVEL_REGION] = 1, [LEVEL_FAMILY] = 2,
    [LEVEL_MAJOR] = 1,   [LEVEL_PATH] = 1,   [LEVEL_NET] = 1,
    [LEVEL_HOUR] = 1,    [LEVEL_DAY] = 2,    [LEVEL_YEAR] = 3,
};

static uint8_t word_find(const struct word *words, size_t count, struct span text) {
    for (size_t i = 0; i < count; i++) {
        if (span_is(text, words[i].text)) {
            return words[i].number;
        }
    }
    return 0;
}

const char *form_name(struct form form) {
    if (form.id == FORM_COARSE) {
        return form.level < BH_COUNT(coarse_names) ? coarse_names[form.level] : "coarse";
    }
    for (size_t i = 0; i < BH_COUNT(forms); i++) {
        if (forms[i].number == form.id) {
            return forms[i].text;
        }
    }
    return "none";
}

uint8_t form_by_name(struct span name) {
    return word_find(forms, BH_COUNT(forms), name);
}

uint8_t level_by_name(struct span name) {
    return word_find(levels, BH_COUNT(levels), name);
}

static struct form coarser(struct form a, struct form b) {
    const struct form drop = {FORM_DROP, LEVEL_NONE};
    if (a.level == b.level) {
        return a;
    }
    if (a.level >= BH_COUNT(level_ladder) || b.level >= BH_COUNT(level_ladder) ||
        level_ladder[a.level] == 0 || level_ladder[a.level] != level_ladder[b.level]) {
        return drop;
    }
    return level_coarseness[a.level] > level_coarseness[b.level] ? a : b;
}

struct form form_meet(struct form a, struct form b) {
    const struct form drop = {FORM_DROP, LEVEL_NONE};
    if (a.id == FORM_NONE || b.id == FORM_NONE || a.id == FORM_DROP || b.id == FORM_DROP) {
        return drop;
    }
    if (a.id == FORM_RAW) {
        return b;
    }
    if (b.id == FORM_RAW) {
        return a;
    }
    if (a.id != b.id) {
        return drop;
    }
    return a.id == FORM_COARSE ? coarser(a, b) : a;
}

uint64_t time_precision_ms(enum time_precision precision) {
    switch (precision) {
    case TIME_SECOND:
        return 1000;
    case TIME_MINUTE:
        return UINT64_C(60) * 1000;
    case TIME_HOUR:
        return UINT64_C(3600) * 1000;
    case TIME_MS:
        break;
    }
    return 1;
}
