#!/usr/bin/env bash
# script/ctest.sh PRESET [CTEST ARGUMENT...]: build PRESET and run its C tests, counted by case.
#
# The suites unit, asan and tsan are this with a preset each.
. "$(dirname "$0")/env.sh"

preset=${1:?PRESET is missing}
shift
script/build "$preset" >&2
export ASAN_OPTIONS=abort_on_error=1:detect_leaks=1:strict_string_checks=1
export UBSAN_OPTIONS=print_stacktrace=1
# Threads that outlive main are by design: a look-up that never answers is not waited for, and a crash test's child ends in the middle.
export TSAN_OPTIONS=halt_on_error=1:second_deadlock_stack=1:report_thread_leaks=0
# ThreadSanitizer's fixed shadow meets a kernel with much address randomisation only by luck.
steady=()
[ "$preset" != tsan ] || ! setarch -R true 2>/dev/null || steady=(setarch -R)

# One more than there are cores: some tests wait for seconds.
status=0
"${steady[@]}" ctest --test-dir "build/$preset" --output-on-failure -j "$(($(nproc) + 1))" "$@" || status=$?
log=build/$preset/Testing/Temporary/LastTest.log
cases=$(grep -cF '[       OK ]' "$log" || true)
replays=$(grep -cE '^replay: [0-9]+ inputs' "$log" || true)
failed=$(grep -c '^Test Failed\.' "$log" || true)
[ "$status" = 0 ] || [ "$failed" != 0 ] || failed=1
echo "$((cases + replays)) passed, $failed failed"
[ "$failed" = 0 ]
