/*
 * Fault layer: a disk that loses, tears, reorders and refuses, for tests.
 *
 *   os_file_* --> fault layer --> kernel
 *                    |  unsynced writes stay here; reads see them; fdatasync lets them through
 *                    +--> power loss: a random part of them reaches the file, the process ends
 *
 * Purpose: to prove that what was synced survives and that what was not is recognised. A kill -9
 * alone proves nothing of the kind, because the kernel's page cache survives it.
 *
 * Reachable only in builds with BH_FAULTS (debug presets, or -DBULKHEAD_FAULTS=ON) and only when
 * the environment variable BULKHEAD_FAULTS is set; its value is a list of settings joined by
 * commas:
 *
 *   seed=7              of every random choice below
 *   loss_at=1234        power loss before the 1234th changing operation: write, sync, reserve,
 *                       truncate, rename, unlink
 *   signal=1            power loss on SIGUSR2
 *   garble=1            at a power loss some lost sectors hold random bytes instead of the old ones
 *   names=1             changes of names (create, rename, unlink) that no sync of their folder
 *                       followed are lost too, the newest first
 *   eio_sync=PART:WHEN  fdatasync fails with EIO on files whose path contains PART; the unsynced
 *                       bytes are partly lost
 *   eio_write=, eio_read=, eio_truncate=, eio_rename=, eio_dir=    the same for other operations
 *   enospc=PART:WHEN    fallocate fails with ENOSPC;   enospc_write= for writes
 *
 * WHEN is 3 (the third such operation), 3+ (from the third on), 3-9, or @FILE (while FILE exists).
 * A power loss ends the process with status OS_FAULT_LOSS_STATUS. Changes of sizes are
 * not delayed: they last at once. Sectors have 512 bytes; each is written wholly or not at all.
 *
 * Thread: install before any other thread starts; the operations from any thread. Memory: grows
 * with what is not synced.
 */
#ifndef BH_OS_FAULT_H
#define BH_OS_FAULT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/errors.h"

enum { OS_FAULT_LOSS_STATUS = 86, OS_FAULT_SECTOR = 512 };

/* Installs the layer as $BULKHEAD_FAULTS says; does nothing when it is not set or the build has no
 * faults. *ret_installed tells. */
int os_fault_from_environment(bool *ret_installed, struct err *err) BH_MUST_USE;
/* For tests: the same from a text, in any build. BH_E_CONFIG names the bad setting. */
int os_fault_install(const char *spec, struct err *err) BH_MUST_USE;
/* Forgets what is not synced and gives the real calls back. */
void os_fault_remove(void);
/* Changing operations so far. */
uint64_t os_fault_operations(void);
/* Now. */
_Noreturn void os_fault_power_loss(void);

#endif
