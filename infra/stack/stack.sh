#!/usr/bin/env bash
# The full stack on this machine: S3, Kafka, OpenSearch, PostgreSQL, and Tidemark's roles on them.
#
#   stack.sh up                 starts what does not run yet, waits until it answers, prints the doors
#   stack.sh down [--remove]    stops what it started, Tidemark first; --remove: and deletes its data
#   stack.sh logs [NAME…]       follows the logs, of all or of those named; FOLLOW=no: shows their ends
#   stack.sh env                prints the name of a file that gives a shell what `tidemark` needs; it holds secrets
#   stack.sh door ROLE          prints the address of the door of each process that has the role
#
# Docker Compose where an engine answers (TIDEMARK_DOCKER=no prevents that), else plain processes, by infra/servers. Both read
# .env, roles.env and tidemark.toml. Of plain processes:
#
#   STACK_DATA     folder of data, logs and secrets (stack-data)
#   TIDEMARK_BIN   the binary (that of `make build`)
#   S3=minio       MinIO for versitygw
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
servers=$here/../servers
. "$servers/lib.sh"
root=$(cd "$here/../.." && pwd)
data=${STACK_DATA:-$root/stack-data}

# Keys and profiles of the caller's own would count before the files of the stack.
no_other_keys="unset AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN AWS_PROFILE AWS_DEFAULT_PROFILE"

# The environment of roles, from the addresses of the parts and the folder of secrets.
load_roles() {
  $no_other_keys
  set -a
  . "$here/roles.env"
  . "$SECRETS/roles.env"
  set +a
}

# write_shell_env FILE URL [DATA_DIR]: what a shell sources to use `tidemark` on this stack.
write_shell_env() {
  local name
  (umask 077; : >"$1")
  {
    echo "$no_other_keys"
    sed -n 's/^\([A-Z0-9_]*\)=.*/\1/p' "$here/roles.env" "$SECRETS/roles.env" |
      while read -r name; do printf 'export %s=%q\n' "$name" "${!name}"; done
    printf 'export TIDEMARK_TOKEN=%q TIDEMARK_SERVER=%q\n' "$(cat "$SECRETS/tokens")" "$2"
    # Commands ask at TIDEMARK_SERVER; the data directory tells them the process besides, where it is on this machine.
    [ -z "${3:-}" ] || printf 'export TIDEMARK_DATA_DIR=%q\n' "$3"
  } >"$1"
}

# ---- by Docker --------------------------------------------------------------------------------

compose() { docker compose -f "$here/docker-compose.yml" "$@"; }

compose_doors() {
  echo "tidemark     http://127.0.0.1:$HTTP_PORT   token in infra/stack/secrets/tokens"
  echo "S3           http://127.0.0.1:$S3_PORT   keys in infra/stack/secrets/aws-credentials"
  echo "Kafka        127.0.0.1:$KAFKA_PORT"
  echo "OpenSearch   http://127.0.0.1:$OPENSEARCH_PORT"
  echo "PostgreSQL   127.0.0.1:$POSTGRES_PORT"
  [ "$COMPOSE_PROFILES" = full ] || return 0
  echo "Grafana      http://127.0.0.1:$GRAFANA_PORT   user admin, password in infra/stack/secrets/grafana-password"
  echo "Prometheus   http://127.0.0.1:$PROMETHEUS_PORT"
  echo "Dashboards   http://127.0.0.1:$DASHBOARDS_PORT"
}

compose_up() {
  "$here/secrets.sh"
  compose up -d --build --wait >&2
  # Programs of this machine find the parts at the ports that are published.
  SECRETS=$here/secrets S3_ADDRESS=127.0.0.1:$S3_PORT KAFKA_ADDRESS=127.0.0.1:$KAFKA_PORT
  OPENSEARCH_ADDRESS=127.0.0.1:$OPENSEARCH_PORT POSTGRES_ADDRESS=127.0.0.1:$POSTGRES_PORT
  load_roles
  write_shell_env "$SECRETS/stack.env" "http://127.0.0.1:$HTTP_PORT"
  compose_doors
}

compose_door() {
  local service=$1 id
  [ "$COMPOSE_PROFILES" = full ] || service=tidemark
  for id in $(compose ps --quiet "$service"); do echo "http://$(docker port "$id" 8410/tcp | head -n 1)"; done
}

# ---- as plain processes -----------------------------------------------------------------------

find_binary() {
  local built=${CARGO_TARGET_DIR:-$root/target}/debug/tidemark
  binary=${TIDEMARK_BIN:-$built}
  [ -x "$binary" ] || die "no binary at $binary: run \`make build\`"
}

# The roles that are processes of their own, in the order of their start: who takes records and answers comes last.
roles() {
  case $COMPOSE_PROFILES in
    laptop) echo all ;;
    full) echo archiver indexer batch serving ;;
    *) die "COMPOSE_PROFILES is full or laptop, not $COMPOSE_PROFILES" ;;
  esac
}

role_answers() {
  python3 - "$1" <<'PY'
import sys, urllib.request
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
opener.open(f"http://127.0.0.1:{sys.argv[1]}/readyz", timeout=5).read()
PY
}

# start_role ROLE PORT
start_role() {
  local role=$1 name=tidemark-$1 port flags=()
  alive "$name" && return
  [ "$role" = all ] || flags=(--role "$role")
  port=$(port_for "$name" "$2")
  mkdir -p "$data/$name"
  TIDEMARK_DOORS_HTTP=127.0.0.1:$port setsid "$binary" --config "$here/tidemark.toml" --data-dir "$data/$name" up \
    "${flags[@]}" >>"$data/$name.log" 2>&1 </dev/null &
  echo $! >"$data/$name.pid"; echo "$port" >"$data/$name.port"
}

plain_doors() {
  local role
  for role in $started; do
    printf '%-12s http://127.0.0.1:%s   token in %s\n' "tidemark" "$(cat "$data/tidemark-$role.port")" "$SECRETS/tokens ($role)"
  done
  echo "S3           http://$S3_ADDRESS   keys in $SECRETS/aws-credentials"
  echo "Kafka        $KAFKA_ADDRESS"
  echo "OpenSearch   http://$OPENSEARCH_ADDRESS"
  echo "PostgreSQL   $POSTGRES_ADDRESS"
  echo "For \`tidemark\` in a shell:  . $data/stack.env"
}

plain_up() {
  local started role port=$HTTP_PORT
  need python3 "install Python 3"
  find_binary
  started=$(roles) || exit 1
  mkdir -p "$data"; data=$(cd "$data" && pwd)
  # A folder with this mark is one that `down --remove` may delete.
  echo "data of infra/stack/stack.sh" >"$data/stack"
  "$here/secrets.sh" "$data/secrets"
  SERVERS_ACCESS_KEY=$(cat "$data/secrets/s3-access-key") SERVERS_SECRET_KEY=$(cat "$data/secrets/s3-secret-key") \
    TIDEMARK_DOCKER=no "$servers/up.sh" --data "$data" s3 kafka opensearch >/dev/null
  SERVERS_SECRET_KEY=$(cat "$data/secrets/postgres-password") \
    TIDEMARK_DOCKER=no "$servers/up.sh" --data "$data" postgres >/dev/null
  # up.sh wrote what tests source; here stack.env is the one.
  rm -f "$data/env"
  SECRETS=$data/secrets
  S3_ADDRESS=127.0.0.1:$(cat "$data/s3.port")
  KAFKA_ADDRESS=127.0.0.1:$(cut -d ' ' -f 1 "$data/kafka.port")
  OPENSEARCH_ADDRESS=127.0.0.1:$(cat "$data/opensearch.port")
  POSTGRES_ADDRESS=127.0.0.1:$(cat "$data/postgres.port")
  load_roles
  # Serving has the port of the settings, the others take what is free beside it.
  for role in $started; do
    case $role in all | serving) port=$HTTP_PORT ;; *) port=0 ;; esac
    start_role "$role" "$port"
  done
  for role in $started; do
    wait_for "tidemark-$role" 60 role_answers "$(cat "$data/tidemark-$role.port")"
  done
  write_shell_env "$data/stack.env" "http://127.0.0.1:$(cat "$data/tidemark-$role.port")" "$data/tidemark-$role"
  plain_doors
}

plain_down() {
  local role
  [ -e "$data/stack" ] || return 0
  data=$(cd "$data" && pwd)
  # No new requests first; then nothing is curated, shown or archived that came later. Each drains by itself.
  for role in all serving batch indexer archiver; do stop "tidemark-$role" TERM 40; done
  "$servers/down.sh" --data "$data"
  rm -f "$data/stack.env"
  [ "${1:-}" != --remove ] || rm -rf "$data"
}

plain_logs() {
  local name files=() follow=-F
  [ "${FOLLOW:-yes}" != no ] || follow=-q
  [ -e "$data/stack" ] || die "no stack in $data"
  [ $# -gt 0 ] || set -- "$data"/*.log
  for name in "$@"; do name=${name##*/}; files+=("$data/${name%.log}.log"); done
  tail -n 50 "$follow" -v "${files[@]}"
}

plain_env() {
  [ -e "$data/stack.env" ] || die "no stack runs on $data"
  echo "$data/stack.env"
}

plain_door() {
  local name
  [ -e "$data/stack" ] || die "no stack runs on $data"
  data=$(cd "$data" && pwd)
  for name in "tidemark-$1" tidemark-all; do
    ! alive "$name" || echo "http://127.0.0.1:$(cat "$data/$name.port")"
  done
}

# -----------------------------------------------------------------------------------------------

case ${1:-} in
  up | down | logs | env) command=$1; shift ;;
  door) command=$1; shift; [ $# = 1 ] || die "say door ROLE" ;;
  *) die "say up, down [--remove], logs [NAME…], env or door ROLE" ;;
esac
load_settings
if docker_works; then
  case $command in
    up) compose_up ;;
    down) [ -d "$here/secrets" ] || exit 0; compose --profile full --profile laptop down ${1:+--volumes} >&2 ;;
    logs)
      follow=(--follow)
      [ "${FOLLOW:-yes}" != no ] || follow=()
      compose logs --tail 50 "${follow[@]}" "$@"
      ;;
    env) echo "$here/secrets/stack.env" ;;
    door) compose_door "$1" ;;
  esac
else
  "plain_$command" "$@"
fi
