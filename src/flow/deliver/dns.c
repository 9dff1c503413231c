/*
 * Look-ups of vendors' host names on threads that nobody waits for.
 *
 *   courier --dns_lookup--> entry WANTED --a thread--> RUNNING --> READY (60 s) or FAILED (5 s) --> the courier's wake
 *
 * getaddrinfo cannot be stopped, and a resolver that never answers holds its thread for as long as it likes: a look-up that finds no
 * thread free starts another, up to THREADS_MAX. dns_stop does not wait for a held one; the object then stays behind for it.
 */
#include <stdlib.h>

#include "base/check.h"
#include "flow/deliver/deliver_int.h"
#include "model/limits.h"
#include "os/clock.h"
#include "os/outbound.h"
#include "os/socket.h"
#include "os/thread.h"

enum {
    THREADS_MAX = 4,
    ENTRIES = LIMIT_VENDORS,
    ADDRESSES_MAX = 8,
    WAKES_MAX = LIMIT_VENDORS,
    GOOD_US = 60 * 1000 * 1000,
    BAD_US = 5 * 1000 * 1000,
    STOP_WAIT_US = 20 * 1000,
};

enum entry_state { ENTRY_FREE, ENTRY_WANTED, ENTRY_RUNNING, ENTRY_READY, ENTRY_FAILED };

struct dns_entry {
    enum entry_state state;
    char host[DNS_HOST_MAX + 1];
    struct os_address_text addresses[ADDRESSES_MAX];
    size_t count;
    uint64_t until_us;
    int wakes[WAKES_MAX];
    unsigned wake_count;
};

struct dns {
    struct os_lock lock;
    struct os_cond changed;
    bool stopping;
    unsigned running; /* threads that have not ended */
    unsigned busy;    /* of these, inside the resolver */
    unsigned started;
    struct os_thread threads[THREADS_MAX];
    struct dns_entry entries[ENTRIES];
};

static struct dns_entry *wanted_entry(struct dns *dns) {
    for (size_t i = 0; i < ENTRIES; i++) {
        if (dns->entries[i].state == ENTRY_WANTED) {
            return &dns->entries[i];
        }
    }
    return NULL;
}

static void finish(struct dns_entry *entry, int r, const struct os_address_text *addresses,
                   size_t count) {
    entry->state = r == 0 ? ENTRY_READY : ENTRY_FAILED;
    entry->until_us = os_mono_us() + (r == 0 ? GOOD_US : BAD_US);
    entry->count = r == 0 ? count : 0;
    memcpy(entry->addresses, addresses, entry->count * sizeof *addresses);
    for (unsigned i = 0; i < entry->wake_count; i++) {
        os_wake_signal(entry->wakes[i]);
    }
    entry->wake_count = 0;
}

static void run(void *context) {
    struct dns *dns = context;
    os_lock(&dns->lock);
    while (!dns->stopping) {
        struct dns_entry *entry = wanted_entry(dns);
        if (entry == NULL) {
            (void)os_cond_wait(&dns->changed, &dns->lock, UINT64_MAX);
            continue;
        }
        char host[DNS_HOST_MAX + 1];
        struct os_address_text addresses[ADDRESSES_MAX];
        size_t count = 0;
        memcpy(host, entry->host, sizeof host);
        entry->state = ENTRY_RUNNING;
        dns->busy++;
        os_unlock(&dns->lock);
        int r = os_resolve_host(host, addresses, ADDRESSES_MAX, &count);
        os_lock(&dns->lock);
        dns->busy--;
        if (!dns->stopping) {
            finish(entry, r, addresses, count);
        }
    }
    dns->running--;
    os_cond_signal_all(&dns->changed);
    os_unlock(&dns->lock);
}

static int start_thread(struct dns *dns) {
    int r = os_thread_start(&dns->threads[dns->started], "dns", 262144, run, dns);
    if (r == 0) {
        dns->started++;
        dns->running++;
    }
    return r;
}

int dns_start(struct dns **ret_dns) {
    struct dns *dns = calloc(1, sizeof *dns);
    if (dns == NULL) {
        return BH_E_NOMEM;
    }
    os_lock_init(&dns->lock, OS_LOCK_DNS);
    os_cond_init(&dns->changed);
    os_lock(&dns->lock);
    int r = start_thread(dns);
    os_unlock(&dns->lock);
    if (r != 0) {
        dns_stop(dns);
        return r;
    }
    *ret_dns = dns;
    return 0;
}

void dns_stop(struct dns *dns) {
    if (dns == NULL) {
        return;
    }
    os_lock(&dns->lock);
    dns->stopping = true;
    os_cond_signal_all(&dns->changed);
    while (dns->running != 0 && os_cond_wait(&dns->changed, &dns->lock, STOP_WAIT_US)) {
    }
    bool is_free = dns->running == 0;
    os_unlock(&dns->lock);
    if (!is_free) {
        return; /* a thread in the resolver may still come back to it; the process is about to end */
    }
    for (unsigned i = 0; i < dns->started; i++) {
        os_thread_join(&dns->threads[i]);
    }
    os_cond_fini(&dns->changed);
    os_lock_fini(&dns->lock);
    free(dns);
}

/* The host's entry, else one to use for it: free, or out of date. NULL when all are held by look-ups. */
static struct dns_entry *entry_of(struct dns *dns, const char *host) {
    struct dns_entry *room = NULL;
    uint64_t now = os_mono_us();
    for (size_t i = 0; i < ENTRIES; i++) {
        struct dns_entry *entry = &dns->entries[i];
        if (entry->state != ENTRY_FREE && strcmp(entry->host, host) == 0) {
            return entry;
        }
        bool is_old = entry->state >= ENTRY_READY && entry->until_us <= now;
        if (entry->state == ENTRY_FREE || is_old) {
            room = room != NULL ? room : entry;
        }
    }
    return room;
}

static void want(struct dns *dns, struct dns_entry *entry, const char *host) {
    memcpy(entry->host, host, strlen(host) + 1);
    entry->state = ENTRY_WANTED;
    entry->wake_count = 0;
    if (dns->busy == dns->started && dns->started < THREADS_MAX) {
        (void)start_thread(dns); /* without it the look-up waits for the threads that are there */
    }
    os_cond_signal_all(&dns->changed);
}

static void add_wake(struct dns_entry *entry, int wake_fd) {
    for (unsigned i = 0; i < entry->wake_count; i++) {
        if (entry->wakes[i] == wake_fd) {
            return;
        }
    }
    if (entry->wake_count < WAKES_MAX) {
        entry->wakes[entry->wake_count++] = wake_fd;
    }
}

static void write_addresses(const struct dns_entry *entry, struct buf *out) {
    for (size_t i = 0; i < entry->count; i++) {
        const char *text = entry->addresses[i].text;
        bool is_v6 = strchr(text, ':') != NULL;
        buf_printf(out, "%s%s%s%s", i != 0 ? "," : "", is_v6 ? "[" : "", text, is_v6 ? "]" : "");
    }
}

static int lookup_locked(struct dns *dns, const char *host, int wake_fd, struct buf *out) {
    struct dns_entry *entry = entry_of(dns, host);
    if (entry == NULL) {
        return BH_E_BUSY;
    }
    bool is_same = entry->state != ENTRY_FREE && strcmp(entry->host, host) == 0;
    bool is_known = is_same && entry->state >= ENTRY_READY && os_mono_us() < entry->until_us;
    if (is_known && entry->state == ENTRY_READY) {
        write_addresses(entry, out);
        return out->full ? BH_E_FULL : 0;
    }
    if (is_known) {
        return BH_E_NOTFOUND;
    }
    if (!is_same || entry->state >= ENTRY_READY) {
        want(dns, entry, host);
    }
    add_wake(entry, wake_fd);
    return BH_E_AGAIN;
}

int dns_lookup(struct dns *dns, const char *host, int wake_fd, struct buf *out) {
    if (strlen(host) > DNS_HOST_MAX) {
        return BH_E_NOTFOUND;
    }
    os_lock(&dns->lock);
    int r = lookup_locked(dns, host, wake_fd, out);
    os_unlock(&dns->lock);
    return r;
}

void dns_forget_wake(struct dns *dns, int wake_fd) {
    os_lock(&dns->lock);
    for (size_t i = 0; i < ENTRIES; i++) {
        struct dns_entry *entry = &dns->entries[i];
        for (unsigned k = 0; k < entry->wake_count; k++) {
            if (entry->wakes[k] == wake_fd) {
                entry->wakes[k--] = entry->wakes[--entry->wake_count];
            }
        }
    }
    os_unlock(&dns->lock);
}
