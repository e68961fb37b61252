#!/usr/bin/env bash
# The demo on a full stack of its own, made anew and removed afterwards: files and a stream of trips through S3, Kafka, OpenSearch
# and PostgreSQL, every answer audited.
#
#   demo.sh [arguments of the demo, such as --rows 240000 --seconds 20]
#
# KEEP=yes leaves the stack running. Where a Docker engine answers, it is that one's stack, whose data are removed first.
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/../servers/lib.sh"
root=$(cd "$here/../.." && pwd)
export STACK_DATA=${STACK_DATA:-$root/demo-data/stack} BATCH_INTERVAL=${BATCH_INTERVAL:-5s} SEGMENT_AGE_MAX=${SEGMENT_AGE_MAX:-1s}
demo=$(dirname "${TIDEMARK_BIN:-${CARGO_TARGET_DIR:-$root/target}/debug/tidemark}")/demo
[ -x "$demo" ] || die "no demo at $demo: run \`make build\`"

if [ "${KEEP:-no}" != yes ]; then
  trap '"$here/stack.sh" down --remove' EXIT
  trap 'exit 130' INT TERM
fi
"$here/stack.sh" down --remove
"$here/stack.sh" up
. "$("$here/stack.sh" env)"
# Who answers keeps no view up where others do: those know how fresh it is.
indexers=()
for door in $("$here/stack.sh" door indexer); do indexers+=(--indexer "$door"); done
"$demo" --out "$root/demo-data" --server "$TIDEMARK_SERVER" "${indexers[@]}" "$@"
[ "${KEEP:-no}" != yes ] || echo "The stack runs on; \`STACK_DATA=$STACK_DATA make stack-down REMOVE=yes\` ends it."
