#!/usr/bin/env bash
# Compiler wrapper of run.sh: what libFuzzer has to see of the crate under test, as cargo-fuzz passes it.
set -euo pipefail
case " $* " in
  *" --crate-name tidemark_shared "*)
    exec "$@" -C opt-level=2 -C codegen-units=1 -C passes=sancov-module \
      -C llvm-args=-sanitizer-coverage-level=4 -C llvm-args=-sanitizer-coverage-inline-8bit-counters \
      -C llvm-args=-sanitizer-coverage-pc-table -C llvm-args=-sanitizer-coverage-trace-compares
    ;;
esac
exec "$@"
