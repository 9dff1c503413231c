/*
 * gateway: the wiring. Threads, rings, back-pressure, reload, shutdown, admin, health.
 *
 *   main: signals · loop 0..n-1: ingest + inspect + journal writer · commit (journal) · resolver · courier per vendor · dns ·
 *   keeper: retention, gaps, forecast · admin: Unix socket (status, cut, restore, reload, tap) · health: /healthz /readyz /metrics
 *
 * Start order: hardening, keys, journal recovery, resolver, register, couriers, loops, listeners: nothing is accepted before all that keeps a promise runs.
 * Stop order on SIGTERM: ready off, loops answer what they have in hand, last commit, couriers get 5 s, else "unknown". Correctness rests on
 * the kill -9 path alone.
 */
#ifndef BH_GATEWAY_H
#define BH_GATEWAY_H

#include "base/errors.h"

struct gateway_options {
    const char *dir;
    bool allow_core; /* tests only: BULKHEAD_ALLOW_CORE=1 */
};

/* Runs until SIGTERM or SIGINT. */
int gateway_run(const struct gateway_options *options, struct err *err) BH_MUST_USE;

#endif
