#!/usr/bin/env bash
# Runs the chaos of the batch layer on a local directory and on S3, with a server that it starts and stops.
#
#   infra/checks/chaos.sh --kills N [--seed N] [--local]     --local leaves S3 out
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

programs=${CARGO_TARGET_DIR:-target}/debug
arguments=()
local_only=
while [ $# -gt 0 ]; do
  case $1 in
    --local) local_only=1; shift ;;
    *) arguments+=("$1"); shift ;;
  esac
done

"$programs/chaos_batch" "${arguments[@]}"
[ -z "$local_only" ] || exit 0

data=$(mktemp -d)
trap 'infra/servers/down.sh --data "$data" || true; rm -rf "$data"' EXIT
infra/servers/up.sh --data "$data" s3
# exports the endpoint and the keys
# shellcheck disable=SC1091
. "$data/env"
: "${TIDEMARK_TEST_S3_ENDPOINT:?infra/servers/up.sh wrote no endpoint}"
"$programs/chaos_batch" "${arguments[@]}" --store-url "s3://tidemark-chaos/runs"
