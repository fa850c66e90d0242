#!/bin/sh
# Makes .venv with the locked dependencies ("run" or "dev"); installs what the system lacks when it
# may, and says in one line what to install when it may not.
set -eu
cd "$(dirname "$0")/.."
kind="$1"
missing=""
said="$(mktemp)"
trap 'rm -f "$said"' EXIT

# Runs a command; what it said is shown only when it fails.
quietly() {
    "$@" >"$said" 2>&1 || {
        cat "$said" >&2
        exit 1
    }
}

python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "Freehold needs Python 3.11 or newer; this is $(python3 --version)." >&2
    exit 1
}
python3 -c 'import ensurepip, venv' 2>/dev/null || missing="python3-venv"
if [ "$(uname)" = Linux ] && ! command -v bwrap >/dev/null 2>&1; then
    missing="$missing bubblewrap"
fi
if [ -n "$missing" ]; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        echo "Installing $missing ..."
        quietly apt-get update -q
        export DEBIAN_FRONTEND=noninteractive
        # shellcheck disable=SC2086 # a list of packages
        quietly apt-get install -q -y --no-install-recommends $missing
    elif [ "$missing" = " bubblewrap" ]; then
        echo "For sandboxes that isolate, install bubblewrap: sudo apt-get install bubblewrap" >&2
    else
        echo "Install first: sudo apt-get install $missing" >&2
        exit 1
    fi
fi

[ -x .venv/bin/python ] || python3 -m venv .venv
echo "Installing the locked dependencies (a minute the first time) ..."
quietly .venv/bin/python -m pip install --disable-pip-version-check --require-hashes \
    -r "requirements/$kind.txt"
quietly .venv/bin/python -m pip install --disable-pip-version-check --no-deps \
    --no-build-isolation --editable .
touch ".venv/.$kind"
if [ "$kind" = dev ]; then touch .venv/.run; fi
