# Functions that make a fresh Debian, Ubuntu or macOS machine ready, for the scripts beside this one.
# shellcheck shell=bash

step() { printf '\n== %s\n' "$*"; }

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"
    elif command -v sudo >/dev/null; then sudo "$@"
    else echo "$0: root is needed to run: $*" >&2; exit 1
    fi
}

# needs COMMAND APT-PACKAGE BREW-PACKAGE
needs() {
    type -P "$1" >/dev/null && return # a program: a builtin of this shell would not do
    installs "$@"
}

# installs WHAT APT-PACKAGE BREW-PACKAGE
installs() {
    if command -v apt-get >/dev/null; then
        step "installing $2"
        [ -n "${updated:-}" ] || as_root apt-get update -qq
        updated=yes
        as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$2"
    elif command -v brew >/dev/null; then
        step "installing $3"
        brew install "$3"
    else
        echo "$0: please install $1 (package $2 on Debian, $3 with Homebrew)" >&2
        exit 1
    fi
}
