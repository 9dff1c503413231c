/*
 * random_kit: chance that can be repeated. script/test chooses BH_SEED and prints it; the same seed
 * gives the same run. One sequence a program (random_*), or one a thread (struct random_kit).
 *
 * splitmix64: any seed, also 0, gives a good sequence. Source: Steele, Lea, Flood, "Fast splittable
 * pseudorandom number generators", OOPSLA 2014.
 */
#ifndef BH_TEST_RANDOM_KIT_H
#define BH_TEST_RANDOM_KIT_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

struct random_kit {
    uint64_t state;
};

static inline uint64_t random_kit_next(struct random_kit *random) {
    random->state += UINT64_C(0x9e3779b97f4a7c15);
    uint64_t z = random->state;
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

/* 0 to n - 1; n is not 0. */
static inline uint64_t random_kit_below(struct random_kit *random, uint64_t n) {
    return random_kit_next(random) % n;
}

/* A number from the environment, such as how often to try. */
static inline uint64_t random_kit_number(const char *name, uint64_t otherwise) {
    const char *text = getenv(name);
    return text != NULL ? strtoull(text, NULL, 0) : otherwise;
}

/* BH_SEED, or `otherwise`; printed, so that a failure can be repeated. */
static inline uint64_t random_kit_seed(uint64_t otherwise) {
    uint64_t seed = random_kit_number("BH_SEED", otherwise);
    printf("seed %llu\n", (unsigned long long)seed);
    return seed;
}

/* -- the program's own sequence ---------------------------------------------------------------- */

static struct random_kit random_own;

static inline void random_start(uint64_t otherwise) {
    random_own.state = random_kit_seed(otherwise);
}

static inline uint64_t random_next(void) {
    return random_kit_next(&random_own);
}

static inline size_t random_below(uint64_t n) {
    return (size_t)random_kit_below(&random_own, n);
}

#endif
