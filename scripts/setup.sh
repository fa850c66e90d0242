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
if [ "$kind" = dev ] && [ "$(uname)" = Linux ]; then
    # So that their suites run. What cannot be installed here is skipped, but not in CI.
    for tier in gvisor vm; do
        sh "scripts/install-$tier.sh" ${CI:+--required}
    done
fi
# A registry for the tests of container images, which skip without one. The program alone: Debian's
# package would also start it as a service.
fetch_registry() {
    (cd "$1" && apt-get -q download docker-registry && dpkg-deb -x docker-registry_*.deb .) \
        >"$said" 2>&1 && cp "$1/usr/bin/docker-registry" .venv/bin/
}
if [ "$kind" = dev ] && ! PATH="$PATH:.venv/bin" command -v docker-registry >/dev/null 2>&1 &&
    command -v apt-get >/dev/null 2>&1; then
    work="$(mktemp -d)"
    chmod 755 "$work"
    fetch_registry "$work" || { [ "$(id -u)" = 0 ] && quietly apt-get update -q &&
        fetch_registry "$work"; } ||
        echo "No docker-registry from apt: the tests that pull images will be skipped." >&2
    rm -rf "$work"
fi
if [ "$kind" = dev ]; then # an OpenID provider, and MCP's conformance suite: CI must have them
    for packages in tests/oidc_provider tests/conformance/suite; do
        .venv/bin/python tests/npm_packages.py "$packages" >"$said" 2>&1 && continue
        tail -n 3 "$said" >&2
        if [ -n "${CI:-}" ]; then exit 1; fi
        echo "No $packages from npm: the tests that need it will be skipped." >&2
    done
fi
# The model that finds tools by their meaning, for the tests that measure it: CI must have it.
if [ "$kind" = dev ] && ! .venv/bin/freehold embeddings fetch --beside-python >"$said" 2>&1; then
    tail -n 3 "$said" >&2
    if [ -n "${CI:-}" ]; then exit 1; fi
    echo "No weights of the local model: the tests that need them will be skipped." >&2
fi
# A browser for the tests of the console, which skip without one.
if [ "$kind" = dev ] && [ "$(uname)" = Linux ] && ! command -v chromium >/dev/null 2>&1; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        echo "Installing chromium ..."
        export DEBIAN_FRONTEND=noninteractive
        { apt-get update -q && apt-get install -q -y --no-install-recommends chromium; } \
            >"$said" 2>&1 ||
            echo "No chromium from apt: the tests of the console will be skipped." >&2
    else
        echo "For the console's tests, install Chromium: sudo apt-get install chromium" >&2
    fi
fi
touch ".venv/.$kind"
if [ "$kind" = dev ]; then touch .venv/.run; fi
