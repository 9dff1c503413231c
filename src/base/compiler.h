/* Compiler attributes behind plain names, so that no other file needs to know the compiler. */
#ifndef BH_BASE_COMPILER_H
#define BH_BASE_COMPILER_H

#define BH_MUST_USE __attribute__((warn_unused_result))
#define BH_PRINTF(format_index, first_index) \
    __attribute__((format(printf, format_index, first_index)))
#define BH_NORETURN      __attribute__((noreturn))
#define BH_COLD          __attribute__((cold))
#define BH_ALWAYS_INLINE inline __attribute__((always_inline))
#define BH_LIKELY(x)     __builtin_expect(!!(x), 1)
#define BH_UNLIKELY(x)   __builtin_expect(!!(x), 0)

/* Number of elements of a true array; the division by zero-size keeps pointers out at compile time. */
#define BH_COUNT(array) (sizeof(array) / sizeof((array)[0]))

#endif
