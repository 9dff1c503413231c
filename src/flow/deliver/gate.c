#include "flow/deliver/gate.h"

#include "base/check.h"
#include "os/clock.h"
#include "os/outbound.h"
#include "os/socket.h"

void vendor_gate_init(struct gate *gate, enum vendor_state state, void (*wake)(void *context),
                      void *wake_context) {
    *gate = (struct gate){.state = state, .wake = wake, .wake_context = wake_context};
    os_lock_init(&gate->lock, OS_LOCK_GATE);
}

void gate_fini(struct gate *gate) {
    check(gate->socket_count == 0);
    os_lock_fini(&gate->lock);
}

enum vendor_state gate_state(struct gate *gate) {
    os_lock(&gate->lock);
    enum vendor_state state = gate->state;
    os_unlock(&gate->lock);
    return state;
}

bool gate_state_is_open(enum vendor_state state) {
    return state == VENDOR_ACTIVE || state == VENDOR_RETRYING || state == VENDOR_PARKED;
}

bool gate_move(struct gate *gate, enum vendor_state state) {
    check(gate_state_is_open(state));
    os_lock(&gate->lock);
    bool is_open = gate_state_is_open(gate->state);
    if (is_open) {
        gate->state = state;
    }
    os_unlock(&gate->lock);
    return is_open;
}

int gate_reopen(struct gate *gate, enum vendor_state state, int (*commit)(void *context),
                void *context) {
    check(gate_state_is_open(state));
    os_lock(&gate->lock);
    int r = gate->state == VENDOR_CLOSED ? BH_E_STATE : commit(context);
    if (r == 0) {
        gate->state = state;
    }
    os_unlock(&gate->lock);
    return r;
}

static void sever_all(struct gate *gate) {
    os_lock_assert_held(&gate->lock);
    for (unsigned i = 0; i < gate->socket_count; i++) {
        os_outbound_sever(gate->sockets[i].own);
    }
}

uint64_t gate_cut(struct gate *gate) {
    uint64_t start = os_mono_us();
    os_lock(&gate->lock);
    if (gate->state != VENDOR_CLOSED) {
        gate->state = VENDOR_CUT;
    }
    sever_all(gate);
    gate->wake(gate->wake_context);
    os_unlock(&gate->lock);
    return os_mono_us() - start;
}

static void let_go(struct gate *gate, unsigned i) {
    os_close(gate->sockets[i].own);
    gate->sockets[i] = gate->sockets[--gate->socket_count];
}

static void sweep(struct gate *gate) {
    os_lock_assert_held(&gate->lock);
    for (unsigned i = gate->socket_count; i-- > 0;) {
        if (!os_outbound_is_same(gate->sockets[i].fd, gate->sockets[i].own)) {
            let_go(gate, i);
        }
    }
}

void gate_sweep(struct gate *gate) {
    os_lock(&gate->lock);
    sweep(gate);
    os_unlock(&gate->lock);
}

int gate_socket_open(struct gate *gate, int family) {
    struct gate_socket made = {-1, -1};
    os_lock(&gate->lock);
    sweep(gate);
    if (gate_state_is_open(gate->state) && gate->socket_count < GATE_SOCKETS_MAX &&
        os_outbound_open(family, &made.fd) == 0) {
        if (os_outbound_share(made.fd, &made.own) == 0) {
            gate->sockets[gate->socket_count++] = made;
        } else {
            os_close(made.fd);
            made.fd = -1;
        }
    }
    os_unlock(&gate->lock);
    return made.fd;
}

void gate_socket_close(struct gate *gate, int fd) {
    os_lock(&gate->lock);
    unsigned i = 0;
    while (i < gate->socket_count && gate->sockets[i].fd != fd) {
        i++;
    }
    check(i < gate->socket_count);
    let_go(gate, i);
    os_close(fd);
    os_unlock(&gate->lock);
}

bool gate_idle_is_silent(struct gate *gate) {
    bool is_silent = true;
    os_lock(&gate->lock);
    for (unsigned i = 0; i < gate->socket_count; i++) {
        is_silent &= os_outbound_is_quiet(gate->sockets[i].own);
    }
    if (!is_silent) {
        sever_all(gate);
    }
    os_unlock(&gate->lock);
    return is_silent;
}

void gate_drop_idle(struct gate *gate) {
    os_lock(&gate->lock);
    sever_all(gate);
    os_unlock(&gate->lock);
}
