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

# stop NAME SIGNAL: politely, then by force.
stop() {
  alive "$1" || { rm -f "$data/$1.pid"; return 0; }
  local pid deadline=$((SECONDS + 20))
  pid=$(cat "$data/$1.pid")
  kill "-$2" "$pid"
  while alive "$1" && [ "$SECONDS" -lt "$deadline" ]; do sleep 0.1; done
  ! alive "$1" || kill -KILL "$pid"
  rm -f "$data/$1.pid"
}
stop s3 TERM
stop kafka TERM
stop opensearch TERM
# Where the start was cut short, only the server's own file has its id.
[ -s "$data/postgres.pid" ] || head -n 1 "$data/postgres/cluster/postmaster.pid" >"$data/postgres.pid" 2>/dev/null || true
# A "fast" shutdown: clients are thrown out.
stop postgres INT
rm -f "$data/env"
