/*
 * Assertions that stay on in production.
 *
 * check() is for our own mistakes only: a broken invariant, a forgotten state. It never judges bytes
 * that a peer, a file or a disk chose; those are errors or verdicts. It has no side effects and is
 * cheap. check_slow() runs in debug and fuzz builds (BH_CHECK_SLOW). A failed check prints file, line
 * and the condition (never a value) and aborts: the journal's recovery is the way back.
 * Any thread.
 */
#ifndef BH_BASE_CHECK_H
#define BH_BASE_CHECK_H

#include "base/compiler.h"

BH_NORETURN BH_COLD void check_failed(const char *file, int line, const char *condition);

#define check(condition)                                  \
    do {                                                  \
        if (BH_UNLIKELY(!(condition))) {                  \
            check_failed(__FILE__, __LINE__, #condition); \
        }                                                 \
    } while (0)

#ifdef BH_CHECK_SLOW
#define check_slow(condition) check(condition)
#else
#define check_slow(condition) ((void)0)
#endif

#define unreachable_because(reason) check_failed(__FILE__, __LINE__, reason)

#endif
