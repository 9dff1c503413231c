/*
 * The one function that every fuzz target defines.
 *
 * libFuzzer calls it in the fuzz preset; replay_main.c calls it with the kept corpus in every build. It
 * returns 0, keeps nothing between calls, and finds a bug by crashing.
 */
#ifndef FUZZ_ENTRY_H
#define FUZZ_ENTRY_H

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
