#!/usr/bin/env bash
# Stops what up.sh started.
#
#   down.sh --data DIR
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/lib.sh"
parse_data "$@"
[ -d "$data" ] || exit 0
data=$(cd "$data" && pwd)

if [ -s "$data/compose" ]; then
  . "$data/compose.env"
  docker compose -f "$here/compose.yml" -p "$(cat "$data/compose")" down -v >&2
  rm -f "$data/compose" "$data/compose.env"
fi

stop s3 TERM
stop kafka TERM
stop opensearch TERM
# Where the start was cut short, only the server's own file has its id.
[ -s "$data/postgres.pid" ] || head -n 1 "$data/postgres/cluster/postmaster.pid" >"$data/postgres.pid" 2>/dev/null || true
# A "fast" shutdown: clients are thrown out.
stop postgres INT
rm -f "$data/env"
