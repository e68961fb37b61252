#!/usr/bin/env bash
# Runs the tests that need real servers: starts the servers, runs every test binary named real_*, stops the servers.
#
#   test-real.sh [arguments for cargo test, such as --test real_s3]
#
# Fails if a test fails, if a server can't be had, or if no test ran at all.
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/lib.sh"
need cargo "install Rust by rustup"
need python3 "install Python 3"
[ $# -gt 0 ] || set -- --test 'real_*'

scratch=$(mktemp -d)
# The user that PostgreSQL runs as must get through.
chmod 711 "$scratch"
cleanup() { "$here/down.sh" --data "$scratch" || true; rm -rf "$scratch"; }
trap cleanup EXIT
trap 'exit 130' INT TERM

"$here/up.sh" --data "$scratch" s3 postgres kafka opensearch >/dev/null
. "$scratch/env"
cd "$here/../.."
status=0
cargo test --workspace "$@" 2>&1 | tee "$scratch/tests.log" || status=$?
ran=$(sed -n 's/^test result: .* \([0-9]*\) passed; \([0-9]*\) failed.*/\1 \2/p' "$scratch/tests.log" | awk '{ n += $1 + $2 } END { print n + 0 }')
echo "$ran tests ran against real servers"
[ "$status" = 0 ] || exit "$status"
[ "$ran" -gt 0 ] || die "no test ran"
