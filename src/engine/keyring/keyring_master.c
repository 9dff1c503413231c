#include <stdio.h>

#include "base/check.h"
#include "engine/keyring/keyring_int.h"
#include "os/env.h"
#include "os/file.h"

/* The key as text may have white space around it; more than this is no key. */
enum { MASTER_TEXT_MAX = 256, HEX_DIGITS = 2 * KEY_SIZE };

static bool parse_master(struct span text, uint8_t master[KEY_SIZE]) {
    if (text.n == KEY_SIZE) {
        memcpy(master, text.p, KEY_SIZE);
        return true;
    }
    text = span_trim(text);
    if (text.n != HEX_DIGITS) {
        return false;
    }
    for (size_t i = 0; i < KEY_SIZE; i++) {
        int high = hex_digit_value(text.p[2 * i]);
        int low = hex_digit_value(text.p[2 * i + 1]);
        if (high < 0 || low < 0) {
            return false;
        }
        master[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

/* Whether path is folder or lies in it; both real. */
static bool lies_in(const char *path, const char *folder) {
    size_t n = strlen(folder);
    return strncmp(path, folder, n) == 0 &&
           (path[n] == '/' || path[n] == 0 || (n != 0 && folder[n - 1] == '/'));
}

static bool lies_in_unreal(const char *path, const char *folder) {
    char real[KEYRING_PATH_MAX];
    return folder != NULL && os_path_real(folder, real, sizeof real) == 0 && lies_in(path, real);
}

/* Whether some folder above the real path is a git work tree. */
static bool lies_in_work_tree(const char *path) {
    char folder[KEYRING_PATH_MAX];
    char git[KEYRING_PATH_MAX + 8];
    size_t n = strlen(path);
    memcpy(folder, path, n + 1);
    for (;;) {
        while (n > 0 && folder[n - 1] != '/') {
            n--;
        }
        if (n == 0) {
            return false;
        }
        n--;
        folder[n] = 0;
        (void)snprintf(git, sizeof git, "%s/.git", folder);
        if (os_path_exists(git)) {
            return true;
        }
    }
}

static int check_place(const char *file, const char *data_dir, const char *config_dir,
                       struct err *err) {
    char real[KEYRING_PATH_MAX];
    unsigned mode = 0;
    int code = os_path_real(file, real, sizeof real);
    if (code != 0) {
        return err_set(err, BH_E_KEY,
                       "there is no master key file %s; bring it from its backup (a new instance: "
                       "bulkhead init NEWDIR --key FILE writes one)",
                       file);
    }
    code = os_path_mode(real, &mode);
    if (code != 0 || (mode != 0400 && mode != 0600)) {
        return err_set(err, BH_E_KEY,
                       "%s has mode %04o; only its owner may read a master key: chmod 0400 %s",
                       file, mode, file);
    }
    if (lies_in_unreal(real, data_dir)) {
        return err_set(err, BH_E_KEY,
                       "%s lies in the data folder, next to what it opens: move it elsewhere",
                       file);
    }
    if (lies_in_unreal(real, config_dir) || lies_in_work_tree(real)) {
        return err_set(err, BH_E_KEY, "%s lies in a folder that is kept in git: move it elsewhere",
                       file);
    }
    return 0;
}

/* The text of the key, wherever it is; the caller wipes it. */
static int read_text(const struct keyring_source *source, const char *data_dir,
                     const char *config_dir, uint8_t text[MASTER_TEXT_MAX], size_t *ret_n,
                     struct err *err) {
    int code = 0;
    if (source->credential != NULL) {
        char path[KEYRING_PATH_MAX];
        const char *folder = os_env("CREDENTIALS_DIRECTORY");
        if (folder == NULL) {
            return err_set(err, BH_E_KEY, "no credential %s: the service manager gave none",
                           source->credential);
        }
        (void)snprintf(path, sizeof path, "%s/%s", folder, source->credential);
        code = os_file_read_whole(path, text, MASTER_TEXT_MAX, ret_n);
        return code == 0
                   ? 0
                   : err_set(err, BH_E_KEY, "cannot read the credential %s", source->credential);
    }
    if (source->file != NULL) {
        code = check_place(source->file, data_dir, config_dir, err);
        if (code != 0) {
            return code;
        }
        code = os_file_read_whole(source->file, text, MASTER_TEXT_MAX, ret_n);
        return code == 0
                   ? 0
                   : err_set(err, BH_E_KEY, "cannot read the master key file %s", source->file);
    }
    if (source->env != NULL) {
        const char *value = os_env(source->env);
        if (value == NULL || strlen(value) > MASTER_TEXT_MAX) {
            return err_set(err, BH_E_KEY, "the variable %s holds no master key", source->env);
        }
        *ret_n = strlen(value);
        memcpy(text, value, *ret_n);
        return 0;
    }
    if (source->exec == NULL) {
        return err_set(err, BH_E_KEY,
                       "no master key: bulkhead.yaml says neither file, env, exec nor credential");
    }
    code = os_command_output(source->exec, text, MASTER_TEXT_MAX, ret_n);
    return code == 0 ? 0 : err_set(err, BH_E_KEY, "the command that gives the master key failed");
}

int keyring_master_read(const struct keyring_source *source, const char *data_dir,
                        const char *config_dir, uint8_t master[KEY_SIZE], struct err *err) {
    uint8_t text[MASTER_TEXT_MAX];
    size_t n = 0;
    int code = read_text(source, data_dir, config_dir, text, &n, err);
    if (code == 0 && !parse_master(span_of(text, n), master)) {
        code = err_set(err, BH_E_KEY, "the master key must be 32 bytes or 64 hexadecimal digits");
    }
    secret_wipe(text, sizeof text);
    return code;
}

/* The folders above path, as far as they are missing. */
static int make_folders(const char *path) {
    char folder[KEYRING_PATH_MAX];
    size_t n = strlen(path);
    if (n >= sizeof folder) {
        return BH_E_TOO_BIG;
    }
    for (size_t i = 1; i < n; i++) {
        if (path[i] == '/') {
            memcpy(folder, path, i);
            folder[i] = 0;
            int code = os_path_exists(folder) ? 0 : os_dir_make(folder);
            if (code != 0) {
                return code;
            }
        }
    }
    return 0;
}

static int write_new(const char *path, struct span text) {
    char folder[KEYRING_PATH_MAX];
    struct os_file file = OS_FILE_NONE;
    int code = os_file_open(
        path, OS_OPEN_WRITE | OS_OPEN_CREATE | OS_OPEN_EXCLUSIVE | OS_OPEN_SECRET, &file);
    if (code != 0) {
        return code;
    }
    code = os_file_write_at(file, 0, text.p, text.n);
    if (code == 0) {
        code = os_file_sync(file);
    }
    os_file_close(&file);
    const char *slash = strrchr(path, '/');
    (void)snprintf(folder, sizeof folder, "%.*s",
                   slash != NULL && slash != path ? (int)(slash - path) : 1,
                   slash != NULL ? path : ".");
    return code == 0 ? os_dir_sync(folder) : code;
}

int keyring_master_create(const char *path, struct err *err) {
    uint8_t master[KEY_SIZE];
    uint8_t text[HEX_DIGITS + 1];
    struct buf b = buf_of(text, sizeof text);
    if (os_path_exists(path)) {
        return err_set(err, BH_E_EXISTS, "there is a master key file %s already", path);
    }
    os_random(master, sizeof master);
    buf_put_hex(&b, master, sizeof master);
    buf_put_byte(&b, '\n');
    check(!b.full);
    int code = make_folders(path);
    if (code == 0) {
        code = write_new(path, buf_span(&b));
    }
    secret_wipe(master, sizeof master);
    secret_wipe(text, sizeof text);
    return code == 0 ? 0
                     : err_set(err, code, "cannot write the master key file %s: %s", path,
                               bh_error_text(code));
}
