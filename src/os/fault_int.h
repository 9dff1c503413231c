/* Shared between the files of the fault layer: changes of names that no folder sync has made last.
 * Under the layer's mutex. */
#ifndef BH_OS_FAULT_INT_H
#define BH_OS_FAULT_INT_H

#include <stdint.h>

/* Before the operation: what it would overwrite or remove is kept open, so that it can come back.
 * */
struct fault_names_before {
    int old_fd; /* of the file that the name means now; -1 = none */
};
struct fault_names_before fault_names_before(const char *path);

/* After it succeeded. */
void fault_names_created(const char *path);
void fault_names_renamed(const char *from, const char *to, struct fault_names_before before);
void fault_names_unlinked(const char *path, struct fault_names_before before);
/* After it failed, or when names are not tracked. */
void fault_names_forget(struct fault_names_before before);

/* The folder of this descriptor was synced: its changes last. */
void fault_names_synced(int folder_fd);
/* Undoes the changes from a random one on, newest first. */
void fault_names_lose(uint64_t random);
void fault_names_reset(void);

#endif
