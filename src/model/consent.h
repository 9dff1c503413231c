/*
 * Consent: what a person agreed to, as a set of categories, and what a browser says for its user with every request.
 *
 *   request "Sec-GPC: 1" --ingest--> env {"Sec-GPC":true,"path":"/track"} --journal--> policy
 *
 * An event says itself what was agreed to; nothing is remembered from one event to the next.
 * Sets are bits of one byte. Any thread; pure.
 */
#ifndef BH_MODEL_CONSENT_H
#define BH_MODEL_CONSENT_H

#include <stdint.h>

#include "base/bytes.h"

enum consent_bit {
#define CONSENT(number, name, word) CONSENT_##name = 1 << (number),
#include "model/consents.def"
    CONSENT_ALL = 31,
    CONSENT_SETS = 32, /* how many sets of consents there are */
};

enum signal_bit {
#define SIGNAL(number, name, word, header) SIGNAL_##name = 1 << (number),
#include "model/consents.def"
    SIGNAL_ALL = 3,
};

/* The bit of a word of ours, 0 = no such. */
uint8_t consent_by_name(struct span word);
uint8_t signal_by_name(struct span word);
/* The word of a bit. */
const char *consent_name(uint8_t bit);
const char *signal_name(uint8_t bit);
/* All words, for complaints. */
const char *const *consent_words(size_t *ret_count);
const char *const *signal_words(size_t *ret_count);
/* Of a category as consent managers write it: our word in any case, or one of Google's consent mode; 0 = not known. */
uint8_t consent_of_category(struct span category);
/* What a signal refuses, whatever else an event says. */
uint8_t signals_refuse(uint8_t signals);

/* The bit of a request's header: SIGNAL_GPC for "Sec-GPC: 1"; 0 for all other names and values. */
uint8_t signal_of_header(struct span name, struct span value);
/* Puts signals in front of the members of an env. Its keys begin with capitals, as no other key of an env does, so RFC 8785 has them first. */
void signals_put(uint8_t signals, struct span env, struct buf *out);
uint8_t signals_read(struct span env);
/* The signals in an env; none has them in nearly all. */
static inline uint8_t signals_of_env(struct span env) {
    return env.n > 2 && env.p[2] < 'a' ? signals_read(env) : 0;
}

#endif
