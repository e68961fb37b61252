#!/usr/bin/env bash
# Installs what a bare Debian or Ubuntu lacks for building and checking Tidemark, and only that; says what it installs.
# Quick and silent where nothing is missing.
#
#   infra/setup.sh            compilers for C and C++, make and perl: eight Rust crates bring C or assembly of their own
#                             (zstd-sys, libsqlite3-sys, aws-lc-sys, ring, liblzma-sys, libz-sys; rdkafka-sys by make,
#                             with C++; openssl-src, for librdkafka alone, by perl); none needs cmake or a system library
#   infra/setup.sh python     also .venv with the packages of e2e/requirements.txt, which only checks and benchmarks use
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf 'setup: %s\n' "$*" >&2; }

install_packages() {
  local sudo=()
  if ! command -v apt-get >/dev/null; then
    say "missing: $*; this system has no apt-get, please install them by its own means"
    exit 1
  fi
  if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || { say "missing: $*; installing them needs root or sudo"; exit 1; }
    sudo=(sudo)
  fi
  say "installing the system packages $*"
  "${sudo[@]}" apt-get update -qq
  "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

missing=()
# a compiler without the C library's headers can't build either
if ! command -v cc >/dev/null || ! printf '#include <stdlib.h>\nint main(void){return 0;}\n' | cc -xc - -o /dev/null 2>/dev/null; then
  missing+=(gcc libc6-dev)
fi
command -v c++ >/dev/null || missing+=(g++)
command -v make >/dev/null || missing+=(make)
# what there is of perl without its own package lacks these
perl -MIPC::Cmd -MFindBin -MFile::Compare -e 1 2>/dev/null || missing+=(perl)
if [ "${1:-}" = python ] && ! python3 -c 'import ensurepip, venv' 2>/dev/null; then
  missing+=(python3-venv)
fi
[ ${#missing[@]} = 0 ] || install_packages "${missing[@]}"

if ! command -v cargo >/dev/null; then
  say "cargo is missing: install Rust from https://rustup.rs; rust-toolchain.toml then picks the version"
  exit 1
fi

if [ "${1:-}" = python ]; then
  stamp=.venv/requirements.installed
  if ! cmp -s e2e/requirements.txt "$stamp"; then
    say "installing the Python packages of e2e/requirements.txt into .venv"
    [ -x .venv/bin/python ] || python3 -m venv .venv
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --requirement e2e/requirements.txt
    cp e2e/requirements.txt "$stamp"
  fi
fi
