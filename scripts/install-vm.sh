#!/bin/sh
# Installs what the vm tier needs, on Debian (x86_64) as root: QEMU, erofs-utils, bubblewrap, and in
# a folder of its own a kernel for its machines. The kernel is taken out of its package: this machine
# goes on with its own. Where that cannot be done it says so in one line and ends well, unless
# `--required` is given: the `vm` tier is then not offered, and says why.
#
#     sh scripts/install-vm.sh [--required] [--to FOLDER]
set -eu

required=""
folder=/usr/local/lib/freehold/vm
while [ $# -gt 0 ]; do
    case "$1" in
        --required) required=1 ;;
        --to) folder="$2"; shift ;;
        *) echo "usage: install-vm.sh [--required] [--to FOLDER]" >&2; exit 2 ;;
    esac
    shift
done
kernel="${KERNEL_PACKAGE:-linux-image-cloud-amd64}"
modules="virtio_ring virtio virtio_mmio virtio_blk virtio_console libcrc32c erofs overlay"

give_up() {
    echo "The vm tier was not installed: $1" >&2
    exit "${required:-0}"
}

is_there() { PATH="$PATH:/usr/sbin:/sbin" command -v "$1" >/dev/null 2>&1; }

packages=""
is_there qemu-system-x86_64 || packages="$packages qemu-system-x86"
is_there mkfs.erofs || packages="$packages erofs-utils"
is_there bwrap || packages="$packages bubblewrap"
if [ -z "$packages" ] && [ -r "$folder/vmlinuz" ] && [ -r "$folder/busybox" ]; then
    echo "$folder holds the kernel of virtual machines; $(qemu-system-x86_64 --version | head -n 1)"
    exit 0
fi
[ "$(uname)" = Linux ] || give_up "it runs on Linux alone"
[ "$(uname -m)" = x86_64 ] || give_up "it runs on x86_64 alone, and this is $(uname -m)"
[ "$(id -u)" = 0 ] || give_up "run this as root: sudo sh scripts/install-vm.sh"
command -v apt-get >/dev/null 2>&1 && command -v dpkg-deb >/dev/null 2>&1 || give_up "no apt here"

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

# Runs a command; its last complaint is told when it fails.
quietly() {
    "$@" >"$work/said" 2>&1 || give_up "$1: $(tail -n 1 "$work/said")"
}

export DEBIAN_FRONTEND=noninteractive
echo "Installing a kernel for virtual machines${packages:+,$packages} ..."
quietly apt-get update -q
# Kernels and their modules are packed in several ways.
# shellcheck disable=SC2086 # a list of packages
quietly apt-get install -q -y --no-install-recommends $packages lz4 zstd xz-utils

cd "$work"
# A meta package names the one that has the files.
package="$(apt-cache depends "$kernel" 2>/dev/null |
    sed -n 's/^ *Depends: \(linux-image-[0-9].*\)$/\1/p' | head -n 1)"
for each in "${package:-$kernel}" busybox-static; do
    quietly apt-get -o APT::Sandbox::User=root download -q "$each"
done
for each in ./*.deb; do
    quietly dpkg-deb -x "$each" files
done

fresh="$folder.new"
rm -rf "$fresh"
mkdir -p "$fresh"
cp files/boot/vmlinuz-* "$fresh/vmlinuz" || give_up "${package:-$kernel} has no kernel"
for busybox in files/bin/busybox files/usr/bin/busybox; do
    if [ -f "$busybox" ]; then cp "$busybox" "$fresh/busybox"; fi
done
for name in $modules; do
    found="$(find files -name "$name.ko*" | head -n 1)"
    case "$found" in
        *.ko) cp "$found" "$fresh/$name.ko" ;;
        *.ko.xz) xz -dc "$found" >"$fresh/$name.ko" ;;
        *.ko.zst) zstd -dqc "$found" >"$fresh/$name.ko" ;;
        *) ;; # built into the kernel, or not: the platform says so when it looks
    esac
done
chmod -R a+rX "$fresh"
rm -rf "$folder"
mv "$fresh" "$folder"
echo "$folder holds ${package:-$kernel}; \`freehold doctor\` says whether this machine can use it."
