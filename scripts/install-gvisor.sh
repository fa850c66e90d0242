#!/bin/sh
# Installs gVisor's runsc, a static binary, from Debian 13's package, on Debian and Ubuntu as root.
# Older releases package one that cannot run without hardware help, and so nobody's apt sources are
# touched: apt gets a configuration of its own for this one download, which checks the archive's
# signature. Without root, apt or a network it says so in one line and ends well, unless
# `--required` is given: the `gvisor` tier is then not offered, and says why.
#
#     sh scripts/install-gvisor.sh [--required] [--to FILE]
set -eu

required=""
target=/usr/local/bin/runsc
while [ $# -gt 0 ]; do
    case "$1" in
        --required) required=1 ;;
        --to) target="$2"; shift ;;
        *) echo "usage: install-gvisor.sh [--required] [--to FILE]" >&2; exit 2 ;;
    esac
    shift
done
suite=trixie
public=http://deb.debian.org/debian
keys=usr/share/keyrings/debian-archive-keyring.gpg

give_up() {
    echo "gVisor was not installed: $1" >&2
    exit "${required:-0}"
}

# One that knows the systrap platform needs neither KVM nor ptrace.
usable() { "$1" flags 2>&1 | grep -q systrap; }

for found in "$target" "$(command -v runsc || true)"; do
    if [ -n "$found" ] && [ -x "$found" ] && usable "$found"; then
        echo "$found is $("$found" --version | head -n 1)"
        exit 0
    fi
done
[ "$(uname)" = Linux ] || give_up "it runs on Linux alone"
[ "$(id -u)" = 0 ] || give_up "run this as root: sudo sh scripts/install-gvisor.sh"
command -v apt-get >/dev/null 2>&1 && command -v dpkg-deb >/dev/null 2>&1 ||
    give_up "no apt here; put a runsc of 2024 or later into $(dirname "$target")"

place="$(mktemp -d)"
trap 'rm -rf "$place"' EXIT
chmod 755 "$place"
mkdir -p "$place/lists/partial" "$place/cache/archives/partial" "$place/parts" "$place/got"
# apt downloads as its own unprivileged user.
chown -R _apt "$place/lists" "$place/cache" "$place/got" 2>/dev/null || true

# The mirror that this machine takes Debian from, if it does.
mirror() {
    codename="$(. /etc/os-release 2>/dev/null && [ "${ID:-}" = debian ] &&
        echo "${VERSION_CODENAME:-}")" || codename=""
    # shellcheck disable=SC2016 # apt's own variables
    apt-get indextargets --format '$(RELEASE) $(REPO_URI) $(ORIGIN)' 'Created-By: Packages' \
        2>/dev/null | while read -r release uri origin; do
        case "$release" in
            *-*) continue ;;
            stable | testing | unstable | sid | "$codename") ;;
            *) [ "$origin" = Debian ] || continue ;;
        esac
        case "$origin" in "" | Debian) echo "${uri%/}" ;; esac
    done | head -n 1
}

# apt without the machine's sources and pins, with its proxies, certificates and mirrors' logins.
isolated() {
    apt-get -q -o Dir::Etc::sourcelist="$place/sources.list" -o Dir::Etc::sourceparts="$place/parts" \
        -o Dir::Etc::preferences=/dev/null -o Dir::Etc::preferencesparts="$place/parts" \
        -o Dir::State::lists="$place/lists" -o Dir::Cache="$place/cache" \
        -o APT::Default-Release="$suite" -o Acquire::Languages=none -o Acquire::Retries=3 "$@"
}

# Ubuntu does not bring Debian's keys along, but packages them, signed by its own.
if [ -r "/$keys" ]; then
    keyring="/$keys"
else
    (cd "$place/got" && apt-get -q download debian-archive-keyring) >"$place/said" 2>&1 ||
        { apt-get -q update && cd "$place/got" && apt-get -q download debian-archive-keyring; } \
            >"$place/said" 2>&1 || give_up "Debian's keys are not to be had: $(tail -n 1 "$place/said")"
    dpkg-deb -x "$place"/got/debian-archive-keyring_*.deb "$place/keys"
    keyring="$place/keys/$keys"
fi

echo "Installing runsc into $(dirname "$target") ..."
problem="no network"
for base in $(mirror) "$public"; do
    echo "deb [signed-by=$keyring] $base $suite main" >"$place/sources.list"
    # update alone calls a mirror that does not answer a warning
    if isolated update -o APT::Update::Error-Mode=any >"$place/said" 2>&1 &&
        (cd "$place/got" && isolated download runsc) >>"$place/said" 2>&1; then
        problem=""
        break
    fi
    problem="$(sed -n 's/^[EW]: //p' "$place/said" | head -n 1)"  # those after it follow from it
    problem="${problem:-apt could not download it from $base}"
done
[ -z "$problem" ] || give_up "$problem"

dpkg-deb -x "$place"/got/runsc_*.deb "$place/package"
usable "$place/package/usr/bin/runsc" || give_up "the package's runsc does not run here"
mkdir -p "$(dirname "$target")"
install -m 755 "$place/package/usr/bin/runsc" "$target.new"
mv "$target.new" "$target"
echo "$target is $("$target" --version | head -n 1)"
