# Sourced by every script: where the tree is, the pinned Node.js first in PATH, and one way to speak.
# shellcheck shell=bash
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export BH_ROOT=$root
export PATH="$root/.tools/node/node_modules/.bin:$PATH"
cd "$root"

# Plain words when piped, dim arrows on a terminal; always on standard error, which leaves output to programs.
say() {
    if [ -t 2 ]; then
        printf '\033[2m==>\033[0m %s\n' "$*" >&2
    else
        printf '==> %s\n' "$*" >&2
    fi
}

fail() {
    printf '%s: %s\n' "$(basename "$0")" "$*" >&2
    exit 2
}

# Prints the comment block at the top of a script as its --help.
usage() {
    awk 'NR > 1 { if (!/^#/) exit; sub(/^# ?/, ""); print }' "$1"
}
