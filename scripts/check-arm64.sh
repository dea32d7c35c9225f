#!/usr/bin/env bash
# Lints larql-compute for AArch64 and runs its tests on an emulated processor, so that the NEON kernels are tested
# on any machine.
#
#     scripts/check-arm64.sh
#
# A linker, an emulator and the source of the standard library are taken from the machine where it has them. What is
# missing is unpacked from Debian's packages into the user's cache folder; nothing is installed. The standard
# library is built from its source, so the source has to be of the very version that the compiler is.
set -euo pipefail
cd "$(dirname "$0")/.."

cache=${XDG_CACHE_HOME:-$HOME/.cache}/larql-arm64
tools=$cache/tools
mkdir -p "$cache/lists"

apt() {
    apt-get -qq -o Debug::NoLocking=true -o Dir::Etc::SourceList="$cache/sources.list" \
        -o Dir::State::Lists="$cache/lists" -o Dir::Cache="$cache" "$@"
}

# unpack FOLDER PACKAGE...: the packages, and what they need that is not installed, unless they are there.
unpack() {
    local folder=$1
    shift
    if [ -d "$folder" ]; then return; fi
    local mirror
    mirror=$(apt-get indextargets --format '$(REPO_URI)' | grep -m 1 '/debian/$')
    {
        if [ -f /etc/apt/sources.list ]; then cat /etc/apt/sources.list; fi
        echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror trixie-backports main"
    } > "$cache/sources.list"
    apt update
    rm -rf "$cache/archives" "$folder.new"
    apt install --download-only --yes --no-install-recommends "$@"
    for package in "$cache"/archives/*.deb; do dpkg -x "$package" "$folder.new"; done
    rm -r "$cache/archives"
    mv "$folder.new" "$folder"
}

if ! { command -v aarch64-linux-gnu-gcc && command -v qemu-aarch64-static; } > /dev/null; then
    unpack "$tools" gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user-static
    export PATH=$tools/usr/bin:$PATH LD_LIBRARY_PATH=$tools/usr/lib/x86_64-linux-gnu
fi

if ! [ -d "$(rustc --print sysroot)/lib/rustlib/src/rust/library" ]; then
    # A second view of the toolchain, with the source where Cargo looks for it.
    version=$(rustc --version | cut -d ' ' -f 2)
    sysroot=$cache/rust-$version
    unpack "$sysroot.source" "rust-src=$version*"
    mkdir -p "$sysroot/lib/rustlib/src"
    ln -sfn "$sysroot.source/usr/src/rustc-$version" "$sysroot/lib/rustlib/src/rust"
    ln -sfn "$(rustc --print target-libdir)/.." "$sysroot/lib/rustlib/x86_64-unknown-linux-gnu"
    printf '#!/bin/sh\nexec "%s" --sysroot "%s" "$@"\n' "$(command -v rustc)" "$sysroot" > "$cache/rustc"
    chmod +x "$cache/rustc"
    # The second one is what Clippy reads.
    export RUSTC=$cache/rustc SYSROOT=$sysroot
fi

libraries=$tools/usr/aarch64-linux-gnu/lib
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER=qemu-aarch64-static
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUSTFLAGS="-C target-feature=+crt-static -C link-args=-B$libraries -C link-args=-L$libraries"
# Building the standard library is not a stable feature of Cargo.
export RUSTC_BOOTSTRAP=1

check() {
    cargo "$1" -Z build-std --target aarch64-unknown-linux-gnu --target-dir "$cache/target" \
        -p larql-compute --lib --tests "${@:2}"
}
check clippy -- --deny warnings
check test
