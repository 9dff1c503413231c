#include "cli/cli.h"

#include <stdarg.h>
#include <string.h>

#include "engine/yaml/yaml.h"
#include "os/clock.h"
#include "os/env.h"

#define COMMAND(symbol) extern const struct cli_command cli_command_##symbol;
#include "cli/commands.def"
#undef COMMAND

static const struct cli_command *const commands[] = {
#define COMMAND(symbol) &cli_command_##symbol,
#include "cli/commands.def"
#undef COMMAND
};

const char *cli_value(const struct cli_args *args, const char *option) {
    for (unsigned i = 0; i < args->option_count; i++) {
        if (strcmp(args->options[i].name, option) == 0) {
            return args->values[i];
        }
    }
    return NULL;
}

bool cli_has(const struct cli_args *args, const char *option) {
    return cli_value(args, option) != NULL;
}

int cli_fail(const struct err *err) {
    (void)fprintf(stderr, "bulkhead: ");
    if (err->file[0] != '\0') {
        (void)fprintf(stderr, "%s:", err->file);
        if (err->line != 0) {
            (void)fprintf(stderr, "%u:%u:", err->line, err->column);
        }
        (void)fprintf(stderr, " ");
    }
    (void)fprintf(stderr, "%s\n", err->text[0] != '\0' ? err->text : bh_error_text(err->code));
    return CLI_FAILED;
}

int cli_fail_text(const char *format, ...) {
    va_list args;
    va_start(args, format);
    (void)fprintf(stderr, "bulkhead: ");
    (void)vfprintf(stderr, format, args);
    (void)fprintf(stderr, "\n");
    va_end(args);
    return CLI_FAILED;
}

struct settings *cli_settings(const struct cli_args *args, bool secrets) {
    struct settings *settings = NULL;
    struct err err = {0};
    if (settings_load(settings_dir(args->dir), secrets, &settings, &err) != 0 ||
        settings_number(settings, true, &err) != 0) {
        (void)cli_fail(&err);
        settings_free(settings);
        return NULL;
    }
    return settings;
}

/* "; there are web and api": the way out of a wrong name. */
static void say_others(const char *what, const char *name, const char *const *others,
                       size_t count) {
    char text[512];
    struct buf b = buf_of(text, sizeof text - 1);
    for (size_t i = 0; i < count; i++) {
        buf_printf(&b, "%s%s", i == 0 ? "" : i + 1 == count ? " and " : ", ", others[i]);
    }
    text[b.n] = '\0';
    (void)cli_fail_text("no such %s: %s; %s %s", what, name, count == 1 ? "there is" : "there are",
                        count == 0 ? "none" : text);
}

const struct settings_source *cli_source(const struct settings *settings, const char *name) {
    const char *others[LIMIT_SOURCES];
    unsigned i = 0;
    for (; i < settings->source_count; i++) {
        if (strcmp(settings->sources[i].name, name) == 0) {
            return &settings->sources[i];
        }
        others[i % LIMIT_SOURCES] = settings->sources[i].name;
    }
    say_others("source", name, others, i < LIMIT_SOURCES ? i : LIMIT_SOURCES);
    return NULL;
}

bool cli_vendor_exists(const struct settings *settings, const char *name) {
    const char *others[LIMIT_VENDORS];
    for (unsigned i = 0; i < settings->vendor_count; i++) {
        if (strcmp(settings->vendors[i], name) == 0) {
            return true;
        }
        others[i] = settings->vendors[i];
    }
    say_others("vendor", name, others, settings->vendor_count);
    return false;
}

bool cli_colour(void) {
    const char *no = os_env("NO_COLOR");
    return os_is_terminal(1) && (no == NULL || no[0] == '\0');
}

const char *cli_style(const char *sequence) {
    return cli_colour() ? sequence : "";
}

void cli_bar(char *out, size_t cap, uint64_t part, uint64_t whole, unsigned width) {
    bool blocks = os_is_terminal(1);
    const char *full = blocks ? "\xe2\x96\x88" : "#";
    const char *none = blocks ? "\xe2\x96\x91" : ".";
    unsigned cells = whole != 0 ? (unsigned)((double)part / (double)whole * width + 0.5) : 0;
    if (cells == 0 && part != 0) {
        cells = 1; /* a few must never look like nobody */
    }
    struct buf b = buf_of(out, cap - 1);
    for (unsigned i = 0; i < width; i++) {
        buf_put_str(&b, i < cells ? full : none);
    }
    out[b.n] = '\0';
}

void cli_number(uint64_t value, char out[32]) {
    char digits[24];
    int n = snprintf(digits, sizeof digits, "%llu", (unsigned long long)value);
    int at = 0;
    for (int i = 0; i < n; i++) {
        if (i != 0 && (n - i) % 3 == 0) {
            out[at++] = ',';
        }
        out[at++] = digits[i];
    }
    out[at] = '\0';
}

void cli_progress(const char *what, uint64_t done, uint64_t total) {
    if (!os_is_terminal(2)) {
        return;
    }
    unsigned cells = total != 0 ? (unsigned)(done * 30 / total) : 0;
    (void)fprintf(stderr, "\r%s [", what);
    for (unsigned i = 0; i < 30; i++) {
        (void)fputs(i < cells ? "#" : "-", stderr);
    }
    (void)fprintf(stderr, "] %3u %%%s", total != 0 ? (unsigned)(done * 100 / total) : 0,
                  done >= total ? "\r\033[K" : "");
    (void)fflush(stderr);
}

void cli_flow(const char *text, size_t indent, size_t column) {
    enum { COLUMNS = 80 };
    bool is_start = true;
    while (*text != '\0') {
        bool is_fresh = is_start && column == 0;
        size_t n = strcspn(text, is_fresh && *text == ' ' ? "\n" : " \n");
        if (*text == '[') { /* an option of a usage line and its value stay together */
            n = strcspn(text, "]") + (strchr(text, ']') != NULL);
        }
        if (n != 0) {
            if (!is_start && column + 1 + n > COLUMNS) {
                (void)printf("\n%*s", (int)indent, "");
                column = indent;
                is_start = true;
            }
            (void)printf("%s%.*s", is_start ? "" : " ", (int)n, text);
            column += n + (is_start ? 0 : 1);
            is_start = false;
            text += n;
        } else if (*text == '\n' && (is_fresh || strchr("\n ", text[1]) != NULL)) {
            (void)printf("\n"); /* strchr finds the end of the text as well */
            column = 0;
            is_start = true;
            text++;
        } else {
            text++;
        }
    }
}

/* -- help ------------------------------------------------------------------------------------------------------------------------ */

static void print_help(void) {
    (void)printf(
        "%sbulkhead%s: the gateway between your users' data and the vendors that receive it\n\n",
        CLI_BOLD, CLI_PLAIN);
    (void)printf("usage: bulkhead [-c DIR] COMMAND [ARGUMENTS] [--json] [--help]\n\n");
    for (size_t i = 0; i < BH_COUNT(commands); i++) {
        (void)printf("  %-18s ", commands[i]->name);
        cli_flow(commands[i]->summary, 21, 21);
        (void)printf("\n");
    }
    (void)printf(
        "\n-c DIR names the configuration folder ($BULKHEAD_DIR, else the current folder).\n"
        "`bulkhead COMMAND --help` shows options and an example.\n"
        "Exit codes: 0 done, 1 the answer is no, 2 usage or failure.\n");
}

static void print_command_help(const struct cli_command *command) {
    char usage[256];
    (void)snprintf(usage, sizeof usage, "%s [--json]", command->usage);
    (void)printf("usage: bulkhead [-c DIR] ");
    cli_flow(usage, 25, 25);
    (void)printf("\n\n");
    cli_flow(command->summary, 0, 0);
    (void)printf(".\n");
    if (command->option_count != 0) {
        (void)printf("\n");
    }
    for (unsigned i = 0; i < command->option_count; i++) {
        char left[64];
        const struct cli_option *option = &command->options[i];
        (void)snprintf(left, sizeof left, "%s%s%s", option->name, option->value != NULL ? " " : "",
                       option->value != NULL ? option->value : "");
        (void)printf("  %-18s ", left);
        cli_flow(option->help, 21, 21);
        (void)printf("\n");
    }
    (void)printf("\n");
    cli_flow(command->details, 0, 0);
}

/* -- arguments --------------------------------------------------------------------------------------------------------------------- */

static const struct cli_command *find_command(int argc, char **argv, int *ret_words) {
    const struct cli_command *found = NULL;
    for (size_t i = 0; i < BH_COUNT(commands); i++) {
        const char *name = commands[i]->name;
        const char *space = strchr(name, ' ');
        size_t first = space != NULL ? (size_t)(space - name) : strlen(name);
        bool match = strlen(argv[0]) == first && memcmp(argv[0], name, first) == 0;
        if (match && space != NULL) {
            match = argc > 1 && strcmp(argv[1], space + 1) == 0;
        }
        if (match) {
            found = commands[i];
            *ret_words = space != NULL ? 2 : 1;
        }
    }
    return found;
}

static int take_option(const struct cli_command *command, struct cli_args *args, int argc,
                       char **argv, int *at) {
    const char *word = argv[*at];
    const char *equals = strchr(word, '=');
    size_t name_size = equals != NULL ? (size_t)(equals - word) : strlen(word);
    for (unsigned i = 0; i < command->option_count; i++) {
        const struct cli_option *option = &command->options[i];
        if (strlen(option->name) != name_size || memcmp(option->name, word, name_size) != 0) {
            continue;
        }
        if (option->value != NULL && args->values[i] != NULL) {
            return cli_fail_text("%s is given twice; it takes one value", option->name);
        }
        if (option->value == NULL) {
            args->values[i] = "";
            return equals == NULL ? 0 : cli_fail_text("%s takes no value", option->name);
        }
        if (equals != NULL) {
            args->values[i] = equals + 1;
            return 0;
        }
        if (*at + 1 >= argc) {
            return cli_fail_text("%s needs a value: %s %s", option->name, option->name,
                                 option->value);
        }
        args->values[i] = argv[++*at];
        return 0;
    }
    return cli_fail_text("unknown option %s; see `bulkhead %s --help`", word, command->name);
}

/* Returns -1 to go on, else an exit code. */
static int parse_args(const struct cli_command *command, struct cli_args *args, int argc,
                      char **argv) {
    args->options = command->options;
    args->option_count = command->option_count;
    for (int i = 0; i < argc; i++) {
        const char *word = argv[i];
        if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) {
            print_command_help(command);
            return CLI_DONE;
        }
        if (strcmp(word, "--json") == 0) {
            args->json = true;
        } else if (strcmp(word, "-c") == 0 && i + 1 < argc) {
            args->dir = argv[++i];
        } else if (word[0] == '-' && word[1] != '\0') {
            if (take_option(command, args, argc, argv, &i) != 0) {
                return CLI_FAILED;
            }
        } else if (args->positional_count < BH_COUNT(args->positional)) {
            args->positional[args->positional_count++] = word;
        }
    }
    if (args->positional_count < command->positional_min ||
        args->positional_count > command->positional_max) {
        return cli_fail_text("usage: bulkhead %s", command->usage);
    }
    return -1;
}

/* What may have been meant: the second word of a command that has two, or the nearest first word. */
static int unknown_command(const char *word) {
    const char *firsts[BH_COUNT(commands)];
    char room[BH_COUNT(commands)][32];
    char seconds[128] = "";
    struct buf b = buf_of(seconds, sizeof seconds - 1);
    for (size_t i = 0; i < BH_COUNT(commands); i++) {
        const char *name = commands[i]->name;
        (void)snprintf(room[i], sizeof room[i], "%.*s", (int)strcspn(name, " "), name);
        firsts[i] = room[i];
        if (strcmp(room[i], word) == 0) {
            buf_printf(&b, "%sbulkhead %s", b.n != 0 ? " or " : "", name);
        }
    }
    seconds[b.n] = '\0';
    if (b.n != 0) {
        return cli_fail_text("%s needs a second word: %s", word, seconds);
    }
    const char *near = yaml_nearest(span_str(word), firsts, BH_COUNT(commands));
    return near != NULL ? cli_fail_text("unknown command %s; did you mean %s?", word, near)
                        : cli_fail_text("unknown command %s; `bulkhead --help` lists them", word);
}

int cli_main(int argc, char **argv) {
    struct cli_args args = {0};
    int at = 1;
    while (at + 1 < argc && strcmp(argv[at], "-c") == 0) {
        args.dir = argv[at + 1];
        at += 2;
    }
    int words = 0;
    bool asks = at < argc && strcmp(argv[at], "help") == 0;
    if (asks && at + 1 < argc) {
        const struct cli_command *about = find_command(argc - at - 1, argv + at + 1, &words);
        if (about == NULL) {
            return unknown_command(argv[at + 1]);
        }
        print_command_help(about);
        return CLI_DONE;
    }
    if (at >= argc || asks || strcmp(argv[at], "--help") == 0 || strcmp(argv[at], "-h") == 0) {
        print_help();
        return at >= argc ? CLI_FAILED : CLI_DONE;
    }
    if (strcmp(argv[at], "--version") == 0) {
        (void)printf("bulkhead %s\n", BULKHEAD_VERSION);
        return CLI_DONE;
    }
    const struct cli_command *command = find_command(argc - at, argv + at, &words);
    if (command == NULL) {
        return unknown_command(argv[at]);
    }
    int r = parse_args(command, &args, argc - at - words, argv + at + words);
    return r >= 0 ? r : command->run(&args);
}
