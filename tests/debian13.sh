#!/bin/bash
# The newer stack, tried for real on a machine whose glibc is too old for it: a Debian 13 in a folder, and in it what a user of
# Debian 13 types. For `make test-next`.
#
#   debian13.sh FOLDER "COMMAND" [SHARED]   makes the root file system FOLDER unless it is there, lays this tree into its /src, runs
#                                           COMMAND; the folder SHARED, if given, is in there at the same path, which is $SHARED for COMMAND
#
# Needs root, debootstrap, a mirror of Debian and the right to make mount namespaces; where one is missing it says so and ends with
# 0. Where another call works in FOLDER it says that, and ends with 1. The mirror is debootstrap's own, or DEBIAN_MIRROR. The settings
# by which pip and uv find their index here are handed over, never written down.
set -euo pipefail

suite=trixie
# pyfarmhash and crcmod exist as source only.
packages=python3.13,python3.13-venv,python3-dev,g++,make,git,ca-certificates,procps
inside=

skip() {
    echo "skipped: $*"
    exit 0
}

look_for_what_is_needed() {
    [ "$(uname -sm)" = "Linux x86_64" ] || skip "the newer stack's packages for Linux are for x86_64, and this is $(uname -sm)"
    [ "$(id -u)" = 0 ] || skip "only root can make a root file system and enter it"
    command -v debootstrap >/dev/null || skip "debootstrap is missing: 'apt-get install debootstrap'"
    unshare --mount --pid --fork true 2>/dev/null || skip "no mount namespaces may be made here"
}

# Every mount is made in a namespace of its own and ends with the last process in it, however that one ends: nothing has to be
# unmounted. Killing unshare kills all that runs inside.
apart() {
    unshare --mount --propagation private --pid --fork --kill-child "$@" </dev/null &
    inside=$!
    wait "$inside"
}
trap 'kill -KILL "$inside" 2>/dev/null; echo "interrupted" >&2; exit 130' INT TERM HUP

# What runs inside inherits the lock, so that it holds also where this script alone was killed.
lock() {
    mkdir -p "${root%/*}/"
    exec 9>"$root.lock"
    flock --nonblock 9 || {
        echo "another call works in $root; wait until it has ended" >&2
        exit 1
    }
}

make_root() {
    [ "$(cat "$root/.made" 2>/dev/null)" = "$suite $packages" ] && return
    echo "making a Debian 13 in $root (0.8 GB, a minute or more) ..."
    rm -rf --one-file-system "$root"
    mkdir -p "$root"
    # The quotes of an unset mirror would be an empty argument.
    apart debootstrap --variant=minbase --include="$packages" "$suite" "$root" ${DEBIAN_MIRROR:+"$DEBIAN_MIRROR"} \
        >"$root.log" 2>&1 || {
        ! grep -q "Failed getting release" "$root.log" || skip "no mirror of Debian answers; DEBIAN_MIRROR names another"
        tail -n 5 "$root.log"
        exit 1
    }
    echo "$suite $packages" >"$root/.made"
}

# `cp` without what is ignored or deleted; the environment of the last time stays, as it does in a user's clone.
lay_tree() {
    local path
    rm -rf "$root/src.new"
    mkdir -p "$root/src.new"
    git ls-files -co --exclude-standard -z \
        | while read -rd '' path; do [ ! -e "$path" ] || printf '%s\0' "$path"; done \
        | xargs -0 cp -p --parents -t "$root/src.new"
    for path in .venv .tools; do
        [ ! -d "$root/src/$path" ] || mv "$root/src/$path" "$root/src.new/$path"
    done
    rm -rf "$root/src"
    mv "$root/src.new" "$root/src"
}

hand_over_settings() {
    local file
    for file in /etc/resolv.conf /etc/hosts /etc/pip.conf /etc/uv/uv.toml "${SSL_CERT_FILE:-}" "${PIP_CERT:-}" "${PIP_CONFIG_FILE:-}"; do
        [ ! -f "$file" ] || install -D -m 644 "$file" "$root$file"
    done
    for file in .config/pip/pip.conf .config/uv/uv.toml; do
        [ ! -f "$HOME/$file" ] || install -D -m 644 "$HOME/$file" "$root/root/$file"
    done
    mapfile -t settings < <(env | grep -E '^(PIP_|UV_(DEFAULT_|EXTRA_)?INDEX|UV_(FIND_LINKS|HTTP_|NATIVE_TLS)|SSL_CERT_FILE=|CI=|(HTTPS?|NO|https?|no)_(PROXY|proxy)=)')
    settings+=(SHARED="$shared" HOME=/root LANG=C.UTF-8 PATH=/usr/sbin:/usr/bin:/sbin:/bin)
}

# What runs in a script's background does not hear an interrupt, unless it is told to. The shell stays the first process, since processes whose parents have died become its children and are waited for.
enter() {
    [ -z "$shared" ] || mkdir -p "$root$shared"
    apart bash -ec 'mount --rbind /dev "$1/dev"; mount -t proc proc "$1/proc"
        [ -z "$0" ] || mount --bind "$0" "$1$0"; exec chroot "$@"' "$shared" \
        "$root" /usr/bin/env --default-signal=INT,QUIT -i "${settings[@]}" bash -c "cd /src && { $1; }; exit \$?"
}

look_for_what_is_needed
# After it, since the realpath of a Mac knows no -m.
root=$(realpath -m "$1")
shared=${3:+$(realpath "$3")}
lock
make_root
lay_tree
hand_over_settings
enter "$2"
