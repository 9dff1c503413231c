/*
 * What an event costs its courier: from the journal's frames through policy and ledger to the vendor's socket and back, in processor time of the courier's
 * thread, for recorded shapes of about 600 bytes under the contract that `init` writes.
 *
 *   bench_deliver [EVENTS]
 */
/* depends: deliver ledger policy resolve journal inspect protocol mixpanel wire http json keyring seglog tlog yaml crypto model os base */
/* sources: ../unit/deliver_kit.c ../unit/journal_kit.c */
/* libs: cmocka */
#define _GNU_SOURCE
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "os/clock.h"
#include "unit/deliver_kit.h"

static const char plan[] =
    "events: { Signed In: {}, Completion Run: {} }\nproperties:\n  plan: { enum: [free, plus, pro] }\n"
    "  model: { type: string, max_distinct: 50 }\n  prompt_tokens: { type: number }\n  completion_tokens: { type: number }\n"
    "  tokens: { type: number }\n  latency_ms: { type: number }\n  cost_usd: { type: number }\n  stream: { type: boolean }\n"
    "  status_code: { type: number }\ngroups: { company: {} }\n";

static const char allow[] =
    "  user.unique_id: pseudonym\n  user.unique_id.pseudonymous: pseudonym\n  user.device.device_id: pseudonym\n"
    "  user.device.cookie_id: pseudonym\n  user.device: { coarse: family }\n  user.location.imprecise: { coarse: country }\n"
    "  user.workplace: pseudonym\n  user.behavior: raw\n  user.behavior.browsing_history: { coarse: path }\n"
    "  user.privacy_preferences: raw\n  system.operations: raw\n";

static size_t write_event(uint32_t number, char *out, size_t cap) {
    return (size_t)snprintf(
        out, cap,
        "{\"event\":\"Completion Run\",\"properties\":{\"distinct_id\":\"user_%u\",\"$device_id\":\"b165133d-04c1-455d-a2e6-cf09c5e5335e\","
        "\"ip\":\"203.0.113.10\",\"model\":\"lumen-mini\",\"prompt_tokens\":1504,\"completion_tokens\":3008,\"latency_ms\":120,"
        "\"cost_usd\":0.912,\"stream\":true,\"status_code\":200,\"company\":\"org_a05\",\"time\":%llu,\"$insert_id\":\"ins-A-%u\","
        "\"note\":\"undeclared text here\",\"token\":\"mp_project_token_a\",\"mp_lib\":\"node\",\"$lib_version\":\"0.24.0\","
        "\"$os\":\"Linux\",\"$browser\":\"Firefox\",\"tokens\":%u}}",
        number % 97, (unsigned long long)(os_wall_us() / 1000), number, number % KIT_EVENTS);
}

/* Nanoseconds on a processor of the one thread of this process that has the name. */
static unsigned long long thread_ns(const char *name) {
    unsigned long long ns = 0;
    DIR *tasks = opendir("/proc/self/task");
    for (struct dirent *entry = readdir(tasks); entry != NULL; entry = readdir(tasks)) {
        char path[300];
        char text[128] = "";
        (void)snprintf(path, sizeof path, "/proc/self/task/%s/comm", entry->d_name);
        FILE *file = fopen(path, "r");
        if (file == NULL || fgets(text, sizeof text, file) == NULL ||
            strncmp(text, name, strlen(name)) != 0) {
            text[0] = '\0';
        }
        if (file != NULL) {
            (void)fclose(file);
        }
        if (text[0] != '\0') {
            (void)snprintf(path, sizeof path, "/proc/self/task/%s/schedstat", entry->d_name);
            file = fopen(path, "r");
            if (file != NULL && fgets(text, sizeof text, file) != NULL) {
                ns = strtoull(text, NULL, 10);
            }
            if (file != NULL) {
                (void)fclose(file);
            }
        }
    }
    (void)closedir(tasks);
    return ns;
}

int main(int argc, char **argv) {
    static struct kit_world world;
    size_t events = argc > 1 ? strtoul(argv[1], NULL, 10) : 150000;
    kit_use(plan, allow, write_event);
    kit_world_new(&world);
    world.vendor.is_blind = true;
    (void)kit_put_sized(&world, events, EVENT_TRACK, 700);
    while (resolver_seq(world.resolver) < events) {
        os_sleep_us(1000);
    }
    unsigned long long before = thread_ns("courier");
    uint64_t begun = os_mono_us();
    kit_restore(&world, true);
    while (kit_status_of(&world).accepted_events < events) {
        os_sleep_us(1000);
    }
    uint64_t wall = os_mono_us() - begun;
    unsigned long long spent = thread_ns("courier") - before;
    struct courier_status status = kit_status_of(&world);
    printf(
        "%zu events in %llu requests, %llu bytes: %.2f us/event of the courier's processor time, %.0f events/s by the clock\n",
        events, (unsigned long long)status.attempts, (unsigned long long)status.bytes_sent,
        (double)spent / 1000 / (double)events, (double)events * 1e6 / (double)wall);
    kit_world_free(&world);
    return 0;
}
