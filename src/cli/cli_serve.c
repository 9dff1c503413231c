/* bulkhead serve and bulkhead demo. */
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "gateway/gateway.h"
#include "os/env.h"
#include "os/file.h"

static int serve_run(const struct cli_args *args) {
    struct err err = {0};
    const char *core = os_env("BULKHEAD_ALLOW_CORE");
    struct gateway_options options = {.dir = settings_dir(args->dir),
                                      .allow_core = core != NULL && strcmp(core, "1") == 0};
    int r = gateway_run(&options, &err);
    return r == 0 ? CLI_DONE : cli_fail(&err);
}

const struct cli_command cli_command_serve = {
    .name = "serve",
    .usage = "serve",
    .summary = "Run the gateway until SIGTERM; SIGHUP reloads the configuration",
    .details =
        "Logs go to standard error, one JSON object a line, never a value of an event.\n"
        "/healthz, /readyz and /metrics are on the health listener.\n\nexample:\n  bulkhead -c ./bulkhead serve\n",
    .run = serve_run,
};

/* The demo drives real SDKs, so it lives with them in the source tree; this command finds it from the program's own place. */
static int demo_run(const struct cli_args *args) {
    char path[SETTINGS_PATH];
    char script[SETTINGS_PATH + 32];
    (void)args;
    os_program_path(path, sizeof path);
    for (char *slash = strrchr(path, '/'); slash != NULL && slash != path;
         slash = strrchr(path, '/')) {
        *slash = '\0';
        (void)snprintf(script, sizeof script, "%s/demo/run", path);
        if (os_path_exists(script)) {
            char *argv[] = {script, NULL};
            (void)os_exec(script, argv);
            return cli_fail_text("cannot run %s", script);
        }
    }
    return cli_fail_text(
        "the demo drives real SDKs and comes with the source tree: run script/demo there");
}

const struct cli_command cli_command_demo = {
    .name = "demo",
    .usage = "demo",
    .summary =
        "Show the whole way in under a minute, with real SDKs and a stand-in vendor, without a network",
    .details = "The same as script/demo of the source tree.\n\nexample:\n  bulkhead demo\n",
    .run = demo_run,
};
