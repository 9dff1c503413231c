#!/usr/bin/env bash
# script/node-test.sh FILE...: run tests with Node's own runner, one file after the other, and count them.
. "$(dirname "$0")/env.sh"

tap=$(mktemp)
trap 'rm -f "$tap"' EXIT
status=0
node --test --test-concurrency=1 --test-reporter=spec --test-reporter-destination=stdout \
    --test-reporter=tap --test-reporter-destination="$tap" "$@" || status=$?
passed=$(sed -n 's/^# pass \([0-9]*\)$/\1/p' "$tap" | tail -n 1)
total=$(sed -n 's/^# tests \([0-9]*\)$/\1/p' "$tap" | tail -n 1)
skipped=$(sed -n 's/^# skipped \([0-9]*\)$/\1/p' "$tap" | tail -n 1)
# What is neither passed nor skipped (failed, cancelled, unfinished) has failed.
failed=$((${total:-0} - ${passed:-0} - ${skipped:-0}))
[ "$status" = 0 ] || [ "$failed" -gt 0 ] || failed=1
[ "${skipped:-0}" = 0 ] || not_run=", $skipped skipped"
echo "${passed:-0} passed, $failed failed${not_run-}"
[ "$failed" = 0 ]
