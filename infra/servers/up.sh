#!/usr/bin/env bash
# Starts test servers and writes DIR/env, a file to source, with their addresses.
#
#   up.sh --data DIR [s3] [postgres] [kafka] [opensearch]         all if none is named
#
# Docker Compose where an engine answers (TIDEMARK_DOCKER=no prevents that), with MinIO, else plain processes: S3 is
# versitygw, or MinIO with S3=minio, built once by Go; PostgreSQL is the distribution's; Kafka's jars and OpenSearch come by
# Maven. Those that run are left as they are. Stop them with down.sh --data DIR; kill.sh kills one.
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/lib.sh"
. "$here/kafka.sh"
. "$here/opensearch.sh"
parse_data "$@"
[ ${#rest[@]} -gt 0 ] || rest=(s3 postgres kafka opensearch)
need python3 "install Python 3"
mkdir -p "$data"; data=$(cd "$data" && pwd)
: >"$data/env"

# MinIO shows unfinished uploads under their exact keys only; the contract suite has to know.
write_env_s3() {
  cat >>"$data/env" <<ENV
export TIDEMARK_TEST_S3_SERVER=$2
export TIDEMARK_TEST_S3_ENDPOINT=http://127.0.0.1:$1 AWS_ENDPOINT_URL_S3=http://127.0.0.1:$1
export AWS_ACCESS_KEY_ID=$access_key AWS_SECRET_ACCESS_KEY=$secret_key AWS_REGION=$region
ENV
}

write_env_postgres() {
  echo "export TIDEMARK_TEST_POSTGRES_URL=postgres://tidemark:$secret_key@127.0.0.1:$1/tidemark" >>"$data/env"
}

# ---- by Docker --------------------------------------------------------------------------------

compose_up() {
  local project service
  if [ ! -s "$data/compose" ]; then
    echo "tidemark-test-$$" >"$data/compose"
    # Kafka tells clients its address, so that it must know it.
    echo "export S3_ACCESS_KEY=$access_key S3_SECRET_KEY=$secret_key KAFKA_PORT=$(free_port) KAFKA_SECURE_PORT=$(free_port)" \
      "KAFKA_SECRETS=$data/kafka" >"$data/compose.env"
  fi
  project=$(cat "$data/compose")
  . "$data/compose.env"
  kafka_certificate
  docker compose -f "$here/compose.yml" -p "$project" up -d --wait "$@" >&2
  port_of() { docker compose -f "$here/compose.yml" -p "$project" port "$1" "$2" | sed 's/.*://'; }
  for service in "$@"; do
    case $service in
      s3) local port; port=$(port_of s3 9000); wait_for s3 60 s3_answers "$port"; write_env_s3 "$port" minio ;;
      postgres) write_env_postgres "$(port_of postgres 5432)" ;;
      kafka) wait_for kafka 60 kafka_answers "$KAFKA_PORT"; write_env_kafka "$KAFKA_PORT" "$KAFKA_SECURE_PORT" ;;
      opensearch) write_env_opensearch "$(port_of opensearch 9200)" ;;
      *) die "no such server: $service" ;;
    esac
  done
}

# ---- as plain processes -----------------------------------------------------------------------

s3_up() {
  alive s3 && { write_env_s3 "$(cat "$data/s3.port")" "${S3:-versitygw}"; return; }
  local port program
  mkdir -p "$data/s3/objects" "$data/s3/meta" "$data/s3/versions"
  port=$(port_for s3 "${S3_PORT:-0}")
  case ${S3:-versitygw} in
    versitygw)
      program=$(build github.com/versity/versitygw/cmd/versitygw "$VERSITYGW_VERSION" versitygw)
      ROOT_ACCESS_KEY=$access_key ROOT_SECRET_KEY=$secret_key \
        setsid "$program" --quiet --port "127.0.0.1:$port" --region "$region" \
        posix --sidecar "$data/s3/meta" --versioning-dir "$data/s3/versions" "$data/s3/objects" >"$data/s3.log" 2>&1 </dev/null &
      ;;
    minio)
      program=$(build github.com/minio/minio "$MINIO_MODULE_VERSION" minio)
      MINIO_ROOT_USER=$access_key MINIO_ROOT_PASSWORD=$secret_key MINIO_SITE_REGION=$region MINIO_BROWSER=off \
        setsid "$program" server --quiet --address "127.0.0.1:$port" "$data/s3/objects" >"$data/s3.log" 2>&1 </dev/null &
      ;;
    *) die "S3 is versitygw or minio, not $S3" ;;
  esac
  echo $! >"$data/s3.pid"; echo "$port" >"$data/s3.port"
  wait_for s3 60 s3_answers "$port"
  write_env_s3 "$port" "${S3:-versitygw}"
}

find_postgres() {
  local folder
  for folder in $(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -rV); do
    [ -x "$folder/initdb" ] && { echo "$folder"; return; }
  done
  command -v initdb >/dev/null && dirname "$(command -v initdb)"
}

install_postgres() {
  local sudo=()
  [ "$(id -u)" = 0 ] || sudo=(sudo -n)
  command -v apt-get >/dev/null && { [ ${#sudo[@]} = 0 ] || sudo -n true 2>/dev/null; } ||
    die "initdb is missing: install PostgreSQL, or start a Docker engine"
  echo "installing the package postgresql" >&2
  # The package would start a server of its own.
  "${sudo[@]}" mkdir -p /etc/postgresql-common
  [ -e /etc/postgresql-common/createcluster.conf ] ||
    echo "create_main_cluster = false" | "${sudo[@]}" tee /etc/postgresql-common/createcluster.conf >/dev/null
  "${sudo[@]}" apt-get update -qq >&2
  "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends postgresql >&2
}

postgres_up() {
  alive postgres && { write_env_postgres "$(cat "$data/postgres.port")"; return; }
  local bin port as=()
  bin=$(find_postgres) || { install_postgres; bin=$(find_postgres) || die "initdb is missing after the installation"; }
  mkdir -p "$data/postgres"
  if [ "$(id -u)" = 0 ]; then
    # The server refuses to run as root.
    # Not runuser, which waits beside it: it stops with a server that is stopped, is not continued with it, and leaves it a
    # zombie once it is killed.
    as=(setpriv --reuid=postgres --regid=postgres --init-groups --)
    chown postgres "$data/postgres"
    "${as[@]}" test -w "$data/postgres" || die "the user postgres can't reach $data (a parent folder forbids it)"
  fi
  cd "$data/postgres"
  if [ ! -e cluster/PG_VERSION ]; then
    "${as[@]}" bash -c 'umask 077; printf %s "$1" >password' _ "$secret_key"
    "${as[@]}" "$bin/initdb" -D "$data/postgres/cluster" -U tidemark -E UTF8 --locale=C.UTF-8 --auth=scram-sha-256 \
      --pwfile="$data/postgres/password" >"$data/postgres.log" 2>&1 || { cat "$data/postgres.log" >&2; die "initdb failed"; }
  fi
  port=$(port_for postgres "${POSTGRES_PORT:-0}")
  "${as[@]}" setsid "$bin/postgres" -D "$data/postgres/cluster" -p "$port" -c listen_addresses=127.0.0.1 \
    -c unix_socket_directories= -c "fsync=${POSTGRES_FSYNC:-off}" >>"$data/postgres.log" 2>&1 </dev/null &
  cd "$here"
  export PGPASSWORD=$secret_key PGCONNECT_TIMEOUT=10
  wait_for postgres 60 "$bin/psql" -h 127.0.0.1 -p "$port" -U tidemark -d postgres -Atqc "select 1"
  # Its own file: the process that was started above may be the one that changed the user.
  head -n 1 "$data/postgres/cluster/postmaster.pid" >"$data/postgres.pid"; echo "$port" >"$data/postgres.port"
  "$bin/psql" -h 127.0.0.1 -p "$port" -U tidemark -d postgres -Atqc \
    "select 1 from pg_database where datname = 'tidemark'" | grep -q 1 ||
    "$bin/createdb" -h 127.0.0.1 -p "$port" -U tidemark tidemark
  write_env_postgres "$port"
}

if docker_works; then
  compose_up "${rest[@]}"
else
  for server in "${rest[@]}"; do
    case $server in
      s3) s3_up ;;
      postgres) postgres_up ;;
      kafka) kafka_up ;;
      opensearch) opensearch_up ;;
      *) die "no such server: $server (s3, postgres, kafka, opensearch)" ;;
    esac
  done
fi
cat "$data/env"
