/*
 * Runs a fuzz target over its kept corpus, so that gcc builds and plain test runs profit from what the
 * fuzzer found. Every file is fed as it is, then in a few seeded mutations: a corpus that only ever replays
 * itself would stop finding anything. The seed is printed; BH_SEED=N repeats a run.
 *
 *   replay_x FOLDER|FILE ...
 */
#define _POSIX_C_SOURCE 200809L

#include "fuzz/fuzz_entry.h"
#include "unit/random_kit.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { INPUT_SIZE_MAX = 1 << 20, MUTATIONS_PER_INPUT = 16, PATH_SIZE_MAX = 4096 };

struct replay {
    struct random_kit random;
    size_t inputs;
    size_t runs;
    uint8_t original[INPUT_SIZE_MAX];
    uint8_t mutated[INPUT_SIZE_MAX];
};

static struct replay replay;

static uint64_t replay_random(void) {
    return random_kit_next(&replay.random);
}

/*
 * The target gets a block of exactly the input's size, so that ASan sees a read past its end.
 */
static void replay_run(const uint8_t *data, size_t size) {
    uint8_t *copy = malloc(size > 0 ? size : 1);
    if (copy == NULL) {
        fputs("replay: out of memory\n", stderr);
        exit(2);
    }
    memcpy(copy, data, size);
    (void)LLVMFuzzerTestOneInput(size > 0 ? copy : NULL, size);
    free(copy);
    replay.runs++;
}

static void replay_mutate(size_t size) {
    static const uint8_t telling[] = {0,    '"',  '\\', '{',  '[',  '%',
                                      '\r', '\n', ' ',  0x7f, 0x80, 0xff};
    memcpy(replay.mutated, replay.original, size);
    size_t mutated_size = size;
    if (replay_random() % 4 == 0) {
        mutated_size = (size_t)(replay_random() % (size + 1));
    }
    for (uint64_t left = 1 + replay_random() % 4; left > 0 && mutated_size > 0; left--) {
        uint64_t r = replay_random();
        uint8_t *byte = &replay.mutated[(r >> 16) % mutated_size];
        *byte = (r & 1) != 0 ? telling[(r >> 8) % sizeof telling] : (uint8_t)(r >> 8);
    }
    replay_run(replay.mutated, mutated_size);
}

static void replay_input(size_t size) {
    replay.inputs++;
    replay_run(replay.original, size);
    for (int i = 0; i < MUTATIONS_PER_INPUT && size > 0; i++) {
        replay_mutate(size);
    }
}

static void replay_file(const char *path) {
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        perror(path);
        exit(2);
    }
    size_t size = fread(replay.original, 1, sizeof replay.original, file);
    if (ferror(file) != 0) {
        perror(path);
        exit(2);
    }
    fclose(file);
    replay_input(size);
}

static int replay_is_visible(const struct dirent *entry) {
    return entry->d_name[0] != '.';
}

/* A folder that does not exist is an empty corpus: a new target has none yet. */
static void replay_path(const char *path) {
    struct stat status;
    if (stat(path, &status) != 0) {
        printf("replay: no corpus %s\n", path);
        return;
    }
    if (!S_ISDIR(status.st_mode)) {
        replay_file(path);
        return;
    }
    struct dirent **entries = NULL;
    int count = scandir(path, &entries, replay_is_visible, alphasort);
    if (count < 0) {
        perror(path);
        exit(2);
    }
    for (int i = 0; i < count; i++) {
        char file_path[PATH_SIZE_MAX];
        int length = snprintf(file_path, sizeof file_path, "%s/%s", path, entries[i]->d_name);
        if (length < 0 || (size_t)length >= sizeof file_path) {
            fprintf(stderr, "replay: path too long in %s\n", path);
            exit(2);
        }
        replay_file(file_path);
        free(entries[i]);
    }
    free(entries);
}

int main(int argc, char **argv) {
    replay.random.state = random_kit_number("BH_SEED", 1);
    printf("replay: seed %llu\n", (unsigned long long)replay.random.state);
    replay_input(0);
    for (int i = 1; i < argc; i++) {
        replay_path(argv[i]);
    }
    printf("replay: %zu inputs, %zu runs\n", replay.inputs, replay.runs);
    return 0;
}
