#define _GNU_SOURCE
#include "os/fault_int.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"

/*
 * A file system keeps changes of names in order, and a power loss takes the newest of them. So they
 * are a list; a sync of their folder makes them last, and a loss undoes a random number of those
 * that are left, from the end. What a rename or an unlink removed is held open and copied back.
 */

enum { CHANGES_MAX = 4096, PATH_BYTES = 512 };

enum change_kind { CHANGE_CREATED, CHANGE_RENAMED, CHANGE_UNLINKED };

struct change {
    enum change_kind kind;
    int old_fd;
    dev_t device; /* of the folder */
    ino_t folder;
    char path[PATH_BYTES];
    char from[PATH_BYTES];
};

static struct change changes[CHANGES_MAX];
static unsigned change_count;

struct fault_names_before fault_names_before(const char *path) {
    return (struct fault_names_before){open(path, O_RDONLY | O_CLOEXEC)};
}

void fault_names_forget(struct fault_names_before before) {
    if (before.old_fd >= 0) {
        (void)close(before.old_fd);
    }
}

static void add(enum change_kind kind, const char *path, const char *from, int old_fd) {
    char folder[PATH_BYTES];
    struct stat st;
    check(change_count < CHANGES_MAX);
    const char *slash = strrchr(path, '/');
    int length = slash == NULL ? 1 : slash == path ? 1 : (int)(slash - path);
    (void)snprintf(folder, sizeof folder, "%.*s", length, slash == NULL ? "." : path);
    if (stat(folder, &st) != 0) {
        fault_names_forget((struct fault_names_before){old_fd});
        return;
    }
    struct change *change = &changes[change_count++];
    *change =
        (struct change){.kind = kind, .device = st.st_dev, .folder = st.st_ino, .old_fd = old_fd};
    (void)snprintf(change->path, sizeof change->path, "%s", path);
    (void)snprintf(change->from, sizeof change->from, "%s", from);
}

void fault_names_created(const char *path) {
    add(CHANGE_CREATED, path, "", -1);
}

void fault_names_renamed(const char *from, const char *to, struct fault_names_before before) {
    add(CHANGE_RENAMED, to, from, before.old_fd);
}

void fault_names_unlinked(const char *path, struct fault_names_before before) {
    add(CHANGE_UNLINKED, path, "", before.old_fd);
}

void fault_names_synced(int folder_fd) {
    struct stat st;
    unsigned kept = 0;
    if (fstat(folder_fd, &st) != 0) {
        return;
    }
    for (unsigned i = 0; i < change_count; i++) {
        if (changes[i].device == st.st_dev && changes[i].folder == st.st_ino) {
            fault_names_forget((struct fault_names_before){changes[i].old_fd});
        } else {
            changes[kept++] = changes[i];
        }
    }
    change_count = kept;
}

static void bring_back(const char *path, int old_fd) {
    char block[4096];
    struct stat st;
    off_t at = 0;
    ssize_t n = 0;
    if (old_fd < 0 || fstat(old_fd, &st) != 0) {
        return;
    }
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, st.st_mode & 07777);
    if (fd < 0) {
        return;
    }
    while ((n = pread(old_fd, block, sizeof block, at)) > 0 &&
           pwrite(fd, block, (size_t)n, at) == n) {
        at += n;
    }
    (void)close(fd);
}

void fault_names_lose(uint64_t random) {
    unsigned last = change_count != 0 ? (unsigned)(random % (change_count + 1)) : 0;
    while (change_count > last) {
        const struct change *change = &changes[--change_count];
        if (change->kind == CHANGE_CREATED) {
            (void)unlink(change->path);
        } else if (change->kind == CHANGE_RENAMED) {
            int moved = rename(change->path, change->from);
            (void)moved; /* gone already: then there is nothing to move back */
            bring_back(change->path, change->old_fd);
        } else {
            bring_back(change->path, change->old_fd);
        }
    }
}

void fault_names_reset(void) {
    while (change_count != 0) {
        fault_names_forget((struct fault_names_before){changes[--change_count].old_fd});
    }
}
