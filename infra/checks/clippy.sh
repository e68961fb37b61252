#!/usr/bin/env bash
# Clippy on our own crates, warnings being errors, with the dependencies as `cargo build` compiled them.
#
# `cargo clippy` and `cargo check` compile every dependency once more, for metadata alone: ten minutes that say nothing
# about our code. As a compiler wrapper clippy looks at the same crates and shares the build's dependencies.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

wrapper=$(rustup which clippy-driver)
libraries=$(rustc --print sysroot)/lib
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# no code is generated where only lints are wanted, but for what the next crate links
LD_LIBRARY_PATH=$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} CLIPPY_CONF_DIR=$PWD RUSTC_WORKSPACE_WRAPPER=$wrapper \
  cargo build --workspace --all-targets --test 'real_*' --message-format short "$@" 2>&1 | tee "$log" >&2
if grep -qE '(^|: )(warning|error)' "$log"; then
  echo "clippy: see above" >&2
  exit 1
fi
