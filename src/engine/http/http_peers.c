/*
 * Connections per peer.
 *
 * A peer is an IPv4 address or an IPv6 /64, since whoever has one address of a /64 has them all. The table has at least twice
 * as many slots as there can be connections, so probing ends; its hash has a random seed, so peers cannot choose collisions.
 */
#include "base/check.h"
#include "base/hash.h"
#include "engine/http/http_int.h"

size_t http_peers_slots(size_t connections_max) {
    size_t count = 16;
    while (count < connections_max * 2) {
        count *= 2;
    }
    return count;
}

void http_peers_init(struct http_peers *peers, struct http_peer_slot *slots, size_t count,
                     uint64_t seed, uint32_t max) {
    check(count != 0 && (count & (count - 1)) == 0);
    peers->_slots = slots;
    peers->_mask = count - 1;
    peers->_seed = seed;
    peers->_max = max;
}

/* false for a peer that is not counted: a Unix socket, or no limit at all. */
static bool peer_key(const struct http_peers *peers, const struct os_peer *peer,
                     uint64_t ret_key[2]) {
    static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    static const uint8_t none[16] = {0};
    ret_key[0] = get_u64(peer->address);
    ret_key[1] = memcmp(peer->address, mapped, sizeof mapped) == 0 ? get_u64(peer->address + 8) : 0;
    return peers->_max != 0 && memcmp(peer->address, none, sizeof none) != 0;
}

/* The slot with this key, or the empty one where it would go. */
static size_t peer_find(const struct http_peers *peers, const uint64_t key[2]) {
    size_t at = hash64(key, sizeof(uint64_t) * 2, peers->_seed) & peers->_mask;
    while (peers->_slots[at].count != 0 &&
           (peers->_slots[at].key[0] != key[0] || peers->_slots[at].key[1] != key[1])) {
        at = (at + 1) & peers->_mask;
    }
    return at;
}

bool http_peers_add(struct http_peers *peers, const struct os_peer *peer) {
    uint64_t key[2];
    if (!peer_key(peers, peer, key)) {
        return true;
    }
    struct http_peer_slot *slot = &peers->_slots[peer_find(peers, key)];
    if (slot->count >= peers->_max) {
        return false;
    }
    slot->key[0] = key[0];
    slot->key[1] = key[1];
    slot->count++;
    return true;
}

void http_peers_remove(struct http_peers *peers, const struct os_peer *peer) {
    uint64_t key[2];
    if (!peer_key(peers, peer, key)) {
        return;
    }
    size_t hole = peer_find(peers, key);
    check(peers->_slots[hole].count != 0);
    peers->_slots[hole].count--;
    if (peers->_slots[hole].count != 0) {
        return;
    }
    /* Entries after the hole move back unless that would put them before their home. */
    for (size_t at = (hole + 1) & peers->_mask; peers->_slots[at].count != 0;
         at = (at + 1) & peers->_mask) {
        size_t home = hash64(peers->_slots[at].key, sizeof peers->_slots[at].key, peers->_seed) &
                      peers->_mask;
        if (((at - home) & peers->_mask) >= ((at - hole) & peers->_mask)) {
            peers->_slots[hole] = peers->_slots[at];
            peers->_slots[at].count = 0;
            hole = at;
        }
    }
}

int http_peer_table_new(unsigned connections_max, unsigned per_peer_max,
                        struct http_peer_table **ret_table) {
    size_t slots = http_peers_slots(connections_max);
    size_t size = sizeof(struct http_peer_table) + slots * sizeof(struct http_peer_slot);
    struct http_peer_table *table = os_memory_map(size);
    uint64_t seed = 0;
    if (table == NULL) {
        return BH_E_NOMEM;
    }
    os_random(&seed, sizeof seed);
    table->mapped = size;
    os_lock_init(&table->lock, OS_LOCK_PEERS);
    void *at = table + 1;
    http_peers_init(&table->peers, at, slots, seed, per_peer_max);
    *ret_table = table;
    return 0;
}

void http_peer_table_free(struct http_peer_table *table) {
    if (table == NULL) {
        return;
    }
    os_lock_fini(&table->lock);
    os_memory_unmap(table, table->mapped);
}
