#!/usr/bin/env bash
# Kills a test server that up.sh started, as a crash would. up.sh with the same data directory starts it again on what it left.
#
#   kill.sh --data DIR SERVER
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/lib.sh"
parse_data "$@"
[ ${#rest[@]} = 1 ] || die "name one server"
data=$(cd "$data" && pwd) server=${rest[0]}

if [ -s "$data/compose" ]; then
  . "$data/compose.env"
  docker compose -f "$here/compose.yml" -p "$(cat "$data/compose")" kill "$server" >&2
  exit
fi
alive "$server" || die "$server does not run"
kill -KILL "$(cat "$data/$server.pid")"
while alive "$server"; do sleep 0.1; done
rm -f "$data/$server.pid"
