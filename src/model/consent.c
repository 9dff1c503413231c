#include "model/consent.h"

#include <stdbool.h>
#include <stddef.h>

static const char *const words[] = {
#define CONSENT(number, name, word) [number] = (word),
#include "model/consents.def"
};

static const char *const signals_by_number[] = {
#define SIGNAL(number, name, word, header) [number] = (word),
#include "model/consents.def"
};

static const char *const headers[] = {
#define SIGNAL(number, name, word, header) [number] = (header),
#include "model/consents.def"
};

_Static_assert(CONSENT_ALL == (1 << BH_COUNT(words)) - 1 && CONSENT_SETS == CONSENT_ALL + 1,
               "every consent has its bit");
_Static_assert(SIGNAL_ALL == (1 << BH_COUNT(headers)) - 1, "every signal has its bit");

static uint8_t bit_of(const char *const *list, size_t count, struct span word, bool any_case) {
    for (size_t i = 0; i < count; i++) {
        struct span one = span_str(list[i]);
        if (any_case ? span_equal_nocase(one, word) : span_equal(one, word)) {
            return (uint8_t)(1U << i);
        }
    }
    return 0;
}

static const char *name_of(const char *const *list, size_t count, uint8_t bit) {
    for (size_t i = 0; i < count; i++) {
        if (bit == 1U << i) {
            return list[i];
        }
    }
    return "";
}

uint8_t consent_by_name(struct span word) {
    return bit_of(words, BH_COUNT(words), word, false);
}

uint8_t signal_by_name(struct span word) {
    return bit_of(signals_by_number, BH_COUNT(signals_by_number), word, false);
}

const char *consent_name(uint8_t bit) {
    return name_of(words, BH_COUNT(words), bit);
}

const char *signal_name(uint8_t bit) {
    return name_of(signals_by_number, BH_COUNT(signals_by_number), bit);
}

const char *const *consent_words(size_t *ret_count) {
    *ret_count = BH_COUNT(words);
    return words;
}

const char *const *signal_words(size_t *ret_count) {
    *ret_count = BH_COUNT(signals_by_number);
    return signals_by_number;
}

/* Of ad_storage, ad_user_data and ad_personalization one that is denied refuses advertising. */
uint8_t consent_of_category(struct span category) {
    static const struct {
        const char *word;
        uint8_t bit;
    } others[] = {
        {"analytics_storage", CONSENT_ANALYTICS},
        {"functionality_storage", CONSENT_FUNCTIONAL},
        {"personalization_storage", CONSENT_PERSONALIZATION},
        {"ad_storage", CONSENT_ADVERTISING},
        {"ad_user_data", CONSENT_ADVERTISING},
        {"ad_personalization", CONSENT_ADVERTISING},
    };
    for (size_t i = 0; i < BH_COUNT(others); i++) {
        if (span_is(category, others[i].word)) {
            return others[i].bit;
        }
    }
    return bit_of(words, BH_COUNT(words), category, true);
}

/* Global Privacy Control is an opt-out of sale and sharing: of advertising across contexts, that is. */
uint8_t signals_refuse(uint8_t signals) {
    return (signals & SIGNAL_GPC) != 0 ? CONSENT_ADVERTISING | CONSENT_SOCIAL : 0;
}

uint8_t signal_of_header(struct span name, struct span value) {
    return value.n == 1 && value.p[0] == '1' ? bit_of(headers, BH_COUNT(headers), name, true) : 0;
}

void signals_put(uint8_t signals, struct span env, struct buf *out) {
    bool any = false;
    buf_put_byte(out, '{');
    for (size_t i = 0; i < BH_COUNT(headers); i++) {
        if ((signals >> i & 1U) != 0) {
            buf_printf(out, "%s\"%s\":true", any ? "," : "", headers[i]);
            any = true;
        }
    }
    struct span members = span_from(env, 1); /* and the closing brace */
    if (any && members.n > 1) {
        buf_put_byte(out, ',');
    }
    buf_put_span(out, members);
}

uint8_t signals_read(struct span env) {
    uint8_t signals = 0;
    for (size_t i = 0; i < BH_COUNT(headers); i++) {
        struct span rest = span_from(env, 2); /* {" or ," and then the name */
        struct span name = span_str(headers[i]);
        if (span_starts(rest, name) && span_starts(span_from(rest, name.n), SPAN_LIT("\":true"))) {
            signals |= (uint8_t)(1U << i);
            env = span_from(rest, name.n + sizeof "\":true" - 1);
        }
    }
    return signals;
}
