#!/usr/bin/env bash
# Runs the fuzz targets, each for some seconds: run.sh SECONDS [TARGET…]. What breaks a target stays in artifacts/, what
# was learned in found/; corpus/ is what they start from, and what the tests replay.
#
# Only our own crate is instrumented, by a compiler wrapper as in infra/checks/clippy.sh: it shares the dependencies that
# `cargo build --workspace` compiled, where cargo-fuzz would compile all of DataFusion once more. That needs neither
# cargo-fuzz nor a nightly toolchain; there is no unsafe code of ours that a sanitizer would have to watch.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

seconds=${1:?seconds a target}
shift
targets=("$@")
if [ ${#targets[@]} -eq 0 ]; then
  for file in fuzz_targets/*.rs; do targets+=("$(basename "$file" .rs)"); done
fi

# The libraries: ours, instrumented, and libFuzzer's, built apart so that no other build needs a C++ compiler.
messages=$(mktemp)
trap 'rm -f "$messages"' EXIT
(cd ../.. && RUSTC_WORKSPACE_WRAPPER=$PWD/shared/fuzz/instrument.sh \
  cargo build --workspace --lib --message-format json-render-diagnostics ${CARGO_FLAGS:-}) > "$messages"
library=$(python3 - "$messages" <<'PY'
import json, sys
for line in open(sys.argv[1]):
    message = json.loads(line)
    if message["reason"] == "compiler-artifact" and message["target"]["name"] == "tidemark_testing":
        print(next(name for name in message["filenames"] if name.endswith(".rlib")))
PY
)
dependencies=$(dirname "$library")
[ "$(basename "$dependencies")" = deps ] || dependencies=$dependencies/deps
own=$PWD/target
for target in "${targets[@]}"; do
  # Cargo does not know of the library, so a new one would not make it link again.
  touch "fuzz_targets/$target.rs"
  CARGO_TARGET_DIR=$own cargo rustc --bin "$target" -- --extern "tidemark_testing=$library" -L "dependency=$dependencies"
done
for target in "${targets[@]}"; do
  mkdir -p "artifacts/$target" "found/$target"
  "$own/debug/$target" "found/$target" "corpus/$target" -artifact_prefix="artifacts/$target/" -max_total_time="$seconds" -timeout=25 \
    -rss_limit_mb=4096 -print_final_stats=1
done
