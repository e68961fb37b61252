# Shared by the scripts beside it; sourced, not run.
set -euo pipefail

cache=${XDG_CACHE_HOME:-$HOME/.cache}/tidemark
# Keys of test servers that only this machine reaches; infra/stack sets others.
access_key=${SERVERS_ACCESS_KEY:-tidemark} secret_key=${SERVERS_SECRET_KEY:-tidemark-secret} region=${S3_REGION:-us-east-1}

# The settings of the full stack, among them the versions of servers, which stand nowhere else.
stack_settings=$(cd "$(dirname "${BASH_SOURCE[0]}")/../stack" && pwd)/.env

# load_settings [PATTERN]: exports those whose names match, as far as the environment does not already say otherwise.
load_settings() {
  local name value
  while IFS='=' read -r name value; do
    [[ $name =~ ^[A-Z][A-Z0-9_]*$ && $name == ${1:-*} ]] && [ -z "${!name:-}" ] && export "$name=$value"
  done <"$stack_settings"
  return 0
}

# Containers and plain processes of tests are of these, too (compose.yml, kafka.sh, opensearch.sh, up.sh).
load_settings '*_VERSION'

die() { echo "${0##*/}: $*" >&2; exit 1; }

need() { command -v "$1" >/dev/null || die "$1 is missing: $2"; }

docker_works() { [ "${TIDEMARK_DOCKER:-auto}" != no ] && command -v docker >/dev/null && docker info >/dev/null 2>&1; }

free_port() {
  python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# port_for NAME [WISH]: the port that NAME had in this data directory, else WISH, else any: the first of them that is free.
port_for() {
  python3 - "$(cat "$data/$1.port" 2>/dev/null)" "${2:-0}" <<'PY'
import socket, sys
for port in [*sys.argv[1].split()[:1], sys.argv[2], "0"]:
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind(("127.0.0.1", int(port)))
        except OSError:
            continue
        print(s.getsockname()[1])
        break
PY
}

# alive NAME: a process of this data directory runs under the id that NAME.pid holds. Its command line is compared, for
# ids are used again.
alive() {
  [ -s "$data/$1.pid" ] && { tr "\0" " " <"/proc/$(cat "$data/$1.pid")/cmdline"; } 2>/dev/null | grep -qF -- "$data/$1"
}

# wait_for NAME SECONDS COMMAND…: until COMMAND succeeds; fails early if NAME's process is gone.
wait_for() {
  local name=$1 deadline=$((SECONDS + $2)); shift 2
  until "$@" >/dev/null 2>&1; do
    if [ "$SECONDS" -ge "$deadline" ] || { [ -s "$data/$name.pid" ] && ! alive "$name"; }; then
      tail -n 20 "$data/$name.log" >&2 || true
      die "$name does not answer"
    fi
    sleep 0.1
  done
}

# stop NAME SIGNAL [SECONDS]: politely, then by force.
stop() {
  alive "$1" || { rm -f "$data/$1.pid"; return 0; }
  local pid deadline=$((SECONDS + ${3:-20}))
  pid=$(cat "$data/$1.pid")
  kill "-$2" "$pid"
  # One that was stopped hears it only then.
  kill -CONT "$pid"
  while alive "$1" && [ "$SECONDS" -lt "$deadline" ]; do sleep 0.1; done
  ! alive "$1" || kill -KILL "$pid"
  rm -f "$data/$1.pid"
}

# once PATH WHAT COMMAND…: PATH, which COMMAND makes on the first call. It runs in a new folder beside PATH, which holds nothing
# but a log, and leaves there what is moved to PATH, under PATH's last name. One process makes it, the others wait.
once() {
  local path=$1 what=$2 staging; shift 2
  mkdir -p "${path%/*}"
  (
    flock 9
    [ -e "$path" ] && exit 0
    echo "$what (once)" >&2
    staging=$(mktemp -d "${path%/*}/making.XXXXXX"); trap 'rm -rf "$staging"' EXIT
    cd "$staging"
    ("$@") >made.log 2>&1 || { tail -n 5 made.log >&2; exit 1; }
    mv "${path##*/}" "$path"
  ) 9>"$path.lock" || return 1
  echo "$path"
}

# build MODULE VERSION NAME: the path of a Go program, built on the first call.
build() {
  once "$cache/$3-$2/$3" "building $3 $2, some minutes" go_install "$1@$2"
}

go_install() {
  need go "install Go, or start a Docker engine"
  GOBIN=$PWD GOFLAGS=-buildvcs=false CGO_ENABLED=0 go install -trimpath -ldflags "-s -w" "$1"
}

# An unsigned request that the S3 server itself refuses shows that it answers.
s3_answers() {
  python3 - "$1" <<'PY'
import sys, urllib.error, urllib.request
try:
    urllib.request.urlopen(f"http://127.0.0.1:{sys.argv[1]}/", timeout=5)
except urllib.error.HTTPError as error:
    sys.exit(error.code >= 500)
PY
}

parse_data() {
  data=""; rest=()
  while [ $# -gt 0 ]; do
    case $1 in
      --data) [ $# -ge 2 ] || die "--data takes a directory"; data=$2; shift 2 ;;
      -*) die "unknown option $1" ;;
      *) rest+=("$1"); shift ;;
    esac
  done
  [ -n "$data" ] || die "--data DIR is needed"
}
