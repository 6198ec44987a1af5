#!/bin/bash
# Which of the two stacks this machine runs, and with which Python. For the Makefile.
#
#   stack.sh choose [1.16|1.21]   "1.21 /usr/bin/python3.13 why", or "refused: why not" in words; the newer where it can be
#   stack.sh python 3.12          the path of such a Python, or nothing
#
# TFX 1.21 has wheels for Linux on x86_64 and for Apple silicon, TFX 1.16 for Linux on x86_64 and for Intel Macs: those of
# ml-metadata and TFDV, of which no source is published that pip could build. On Linux the newest glibc counts that a wheel of
# the lock file asks for: with TFX 1.21 it is theirs, with TFX 1.16 that of h5py, whose source wants an HDF5.
set -u

machine=$(uname -sm)
newer_glibc=2.39
older_glibc=2.28

# The first python of a version that really starts: a pyenv shim may be on the PATH without a version behind it.
python_of() {
    local path
    for path in "python$1" "${PYENV_ROOT:-$HOME/.pyenv}"/versions/"$1".*/bin/"python$1"; do
        "$path" -c 'import sys; sys.exit("%d.%d" % sys.version_info[:2] != sys.argv[1] or print(sys.executable))' \
            "$1" 2>/dev/null && return
    done
    return 1
}

first_python() {
    local version
    for version in "$@"; do
        python_of "$version" && return
    done
    return 1
}

glibc() {
    local name version
    read -r name version < <(getconf GNU_LIBC_VERSION 2>/dev/null)
    echo "${version:-0.0}"
}

# Why this machine cannot run wheels for one platform each of Linux and macOS; nothing where it can.
why_not() {
    local needed=$1 mac=$2 here minor
    case "$machine" in
        "Darwin $mac") ;;
        "Linux x86_64")
            here=$(glibc)
            minor=${here#*.}
            if ((${here%%.*} < 2 || ${minor%%.*} < ${needed#*.})); then
                [ "$here" = 0.0 ] && echo "needs glibc $needed or later, which this Linux is without" \
                    || echo "needs glibc $needed or later and this machine has $here"
            fi ;;
        *) echo "has packages for Linux on x86_64 and for Macs on $mac, and this is $machine" ;;
    esac
}

refuse() {
    echo "refused: $*"
    exit 0
}

choose() {
    local asked=$1 python why_not_newer why_not_older
    case "$asked" in "" | 1.16 | 1.21) ;; *) refuse "STACK is '$asked', and there are 1.16 and 1.21" ;; esac
    why_not_newer=$(why_not "$newer_glibc" arm64)
    why_not_older=$(why_not "$older_glibc" x86_64)
    if [ "$asked" = 1.21 ] && [ -n "$why_not_newer" ]; then
        [ "$machine" = "Linux x86_64" ] && why_not_newer+="; 'make test-next' tries it in a Debian 13 of its own"
        refuse "TFX 1.21 $why_not_newer"
    elif [ "$asked" = 1.16 ] && [ -n "$why_not_older" ]; then
        refuse "TFX 1.16 $why_not_older"
    elif [ -n "$why_not_newer" ] && [ -n "$why_not_older" ]; then
        refuse "TFX 1.21 $why_not_newer; TFX 1.16 $why_not_older"
    fi

    if [ "$asked" != 1.16 ] && [ -z "$why_not_newer" ]; then
        python=$(first_python 3.13 3.12 3.11) && { echo "1.21 $python the newer of the two stacks"; return; }
        [ "$asked" != 1.21 ] && [ -z "$why_not_older" ] \
            && python=$(python_of 3.10) && { echo "1.16 $python no Python 3.11, 3.12 or 3.13 is here for TFX 1.21"; return; }
        refuse "Python 3.11, 3.12 or 3.13 is needed for TFX 1.21: 'pyenv install 3.13', or put python3.13 on the PATH"
    fi
    python=$(python_of 3.10) || refuse "Python 3.10 is needed (TFX 1.16 runs on no newer one${why_not_newer:+, and TFX 1.21 $why_not_newer}): \
'pyenv install 3.10', or put python3.10 on the PATH"
    [ -n "$why_not_newer" ] && echo "1.16 $python TFX 1.21 $why_not_newer" || echo "1.16 $python the older of the two stacks"
}

case "${1:-}" in
    choose) choose "${2:-}" ;;
    python) python_of "$2" ;;
    *) echo "usage: stack.sh choose [1.16|1.21] | python VERSION" >&2; exit 2 ;;
esac
