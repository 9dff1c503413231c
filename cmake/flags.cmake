# The one place that decides how C is compiled. Everything here holds for every target.

set(CMAKE_C_STANDARD 17)
set(CMAKE_C_STANDARD_REQUIRED ON)
set(CMAKE_C_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}")

include(CheckPIESupported)
check_pie_supported(LANGUAGES C)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)

if(NOT CMAKE_BUILD_TYPE)
    set(CMAKE_BUILD_TYPE Release CACHE STRING "Debug or Release" FORCE)
endif()
# Assertions stay on in production, so NDEBUG is never defined.
set(CMAKE_C_FLAGS_DEBUG "-O1 -g -fno-omit-frame-pointer")
set(CMAKE_C_FLAGS_RELEASE "-O2 -g")
add_compile_definitions("BULKHEAD_VERSION=\"${PROJECT_VERSION}\"" $<$<CONFIG:Debug>:BULKHEAD_DEBUG=1>)

add_compile_options(
    -Wall -Wextra -Wpedantic -Werror -Wshadow -Wconversion -Wsign-conversion -Wstrict-prototypes
    -Wmissing-prototypes -Wcast-qual -Wcast-align -Wpointer-arith -Wwrite-strings -Wundef -Wvla
    -Wswitch-enum -Wformat=2 -Wimplicit-fallthrough
    # A panic names src/..., wherever the tree was built.
    "-fmacro-prefix-map=${CMAKE_SOURCE_DIR}/=")

if(CMAKE_C_COMPILER_ID STREQUAL "GNU")
    add_compile_options(-Wlogical-op -Wduplicated-cond -Walloca)
    if(NOT BULKHEAD_SANITIZE)
        # Instrumented code has other branches and larger frames than ours.
        add_compile_options(-Wduplicated-branches -Wstack-usage=16384)
    endif()
elseif(CMAKE_C_COMPILER_ID STREQUAL "Clang")
    add_compile_options(-Wcomma -Wconditional-uninitialized)
else()
    message(FATAL_ERROR "Bulkhead is built with gcc or clang, not with ${CMAKE_C_COMPILER_ID}")
endif()

add_compile_options(-fstack-protector-strong)
add_link_options(-Wl,-z,relro,-z,now -Wl,-z,noexecstack)

if(BULKHEAD_FUZZ)
    if(NOT CMAKE_C_COMPILER_ID STREQUAL "Clang")
        message(FATAL_ERROR "libFuzzer needs clang: use the fuzz preset")
    endif()
    add_compile_options(-fsanitize=fuzzer-no-link)
    add_compile_definitions(BULKHEAD_FUZZ=1)
endif()

if(BULKHEAD_SANITIZE)
    add_compile_options("-fsanitize=${BULKHEAD_SANITIZE}" -fno-sanitize-recover=all)
    add_link_options("-fsanitize=${BULKHEAD_SANITIZE}")
else()
    # Fortified libc functions hide from the sanitizers, so only plain builds have them.
    add_compile_options(-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2)
endif()

# The baseline is x86-64. Only sources named in SIMD_SOURCES get these; they are chosen at run time.
set(BULKHEAD_SIMD_OPTIONS -march=x86-64-v3 -mpclmul)
