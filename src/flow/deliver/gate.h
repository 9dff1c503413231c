/*
 * Gate: one vendor's state, and all sockets through which bytes could reach it.
 *
 *   libcurl --open callback--> gate_socket_open (refuses unless open)  --> registry of sockets
 *   any thread: gate_cut --> state, sever every socket of the registry
 *
 * Invariants
 *  G1 The state that counts for sending is the one here, under the lock.
 *  G2 A socket that libcurl may use is in the registry from its making to its closing, by a descriptor of the gate's
 *     own: libcurl closes a socket that has not connected yet without a word, and its number may be a file's the next
 *     moment. No number of libcurl's is touched but by libcurl.
 *  G3 After gate_cut returned, every socket that existed is severed and none is made until gate_reopen. libcurl may still try: each try
 *     fails in the kernel.
 * Threads: the lock guards all; the callbacks and gate_sweep belong to the courier.
 */
#ifndef BH_FLOW_GATE_H
#define BH_FLOW_GATE_H

#include <stdbool.h>

#include "base/errors.h"
#include "flow/deliver/deliver.h"
#include "os/thread.h"

/* One courier has one transfer at a time: its connection, an idle one, and a second address family racing. */
enum { GATE_SOCKETS_MAX = 16 };

struct gate {
    struct os_lock lock;
    enum vendor_state state;
    struct gate_socket {
        int fd;  /* libcurl's */
        int own; /* ours, of the same socket */
    } sockets[GATE_SOCKETS_MAX];
    unsigned socket_count;
    void (*wake)(
        void *context); /* called under the lock when the state was changed by another thread */
    void *wake_context;
};

void vendor_gate_init(struct gate *gate, enum vendor_state state, void (*wake)(void *context),
                      void *wake_context);
void gate_fini(struct gate *gate);

enum vendor_state gate_state(struct gate *gate);
/* Whether a state lets bytes out. */
bool gate_state_is_open(enum vendor_state state);
/* The courier's own changes among active, retrying and parked; false and no change when the gate is not open. */
bool gate_move(struct gate *gate, enum vendor_state state);
/*
 * From a state that is not open to `state`; `commit` runs under the lock before it takes effect (it makes the restore durable) and its failure leaves all as it was.
 */
int gate_reopen(struct gate *gate, enum vendor_state state, int (*commit)(void *context),
                void *context) BH_MUST_USE;
/* Returns microseconds until no byte could leave. */
uint64_t gate_cut(struct gate *gate);

/* libcurl's open and close callbacks. */
int gate_socket_open(struct gate *gate, int family); /* -1 = refused */
void gate_socket_close(struct gate *gate, int fd);
/* The courier, outside of libcurl: lets go of the sockets that libcurl has closed without a word. */
void gate_sweep(struct gate *gate);
/* Between transfers: whether nothing has come on kept connections; severs them all when something has. */
bool gate_idle_is_silent(struct gate *gate);
void gate_drop_idle(struct gate *gate);

#endif
