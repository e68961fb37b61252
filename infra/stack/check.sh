#!/usr/bin/env bash
# Checks the full stack's files as far as this machine can, and says what it could not: a container engine is not needed, and
# nothing is started.
#
#   check.sh
#
# Beside our own rules (check.py): `docker compose config` by the plugin, or by Compose built from its Go module; hadolint, from
# .venv; `helm lint` and `helm template`, by the helm that is installed, or one built by Go. What is built is kept;
# BUILD_TOOLS=no builds nothing.
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/../servers/lib.sh"
root=$(cd "$here/../.." && pwd)
python=$root/.venv/bin/python
[ -x "$python" ] || die "no .venv: run \`make setup-python\`"

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
failed=0 unchecked=()
say() { printf 'stack-check: %s\n' "$*"; }
failed() { say "FAILED: $*" >&2; failed=1; }

may_build() { [ "${BUILD_TOOLS:-yes}" = yes ] && command -v go >/dev/null; }

# The path of the helm that is installed, else of one that Go builds; empty if neither can be.
find_helm() {
  if command -v helm; then return; fi
  if may_build; then (build helm.sh/helm/v3/cmd/helm v3.22.0 helm) || true; fi
}

# Compose is not made for `go install`: it excludes versions of what it needs, which only a module of its own can.
build_compose() {
  once "$cache/docker-compose-$1/docker-compose" "building docker-compose $1, some minutes" compose_module "$1"
}

compose_module() {
  export GOFLAGS=-buildvcs=false CGO_ENABLED=0 GOWORK=off
  go mod init stack && go get "github.com/docker/compose/v5/cmd@$1" &&
    go build -trimpath -ldflags "-s -w -X github.com/docker/compose/v5/internal.Version=$1" \
      -o docker-compose github.com/docker/compose/v5/cmd
}

own_rules() {
  "$python" "$here/check.py" || failed "rules of infra/stack/check.py"
  say "own rules: one set of settings, containers, Dockerfile, metrics of dashboards and alerts"
}

# Secrets that nobody uses: Compose wants the files to be there.
compose_config() {
  local compose=() profile built=""
  "$here/secrets.sh" "$scratch/secrets"
  if docker compose version >/dev/null 2>&1; then
    compose=(docker compose)
  elif may_build && built=$(build_compose v5.3.1); then
    compose=("$built")
  fi
  if [ ${#compose[@]} = 0 ]; then
    unchecked+=("docker-compose.yml by Compose itself: its plugin is not here, nor could Go build it")
    return
  fi
  for profile in full laptop; do
    COMPOSE_PROFILES=$profile SECRETS_DIR=$scratch/secrets "${compose[@]}" -f "$here/docker-compose.yml" config --quiet ||
      failed "docker compose config, profile $profile"
  done
  say "docker compose config: both profiles, by $("${compose[@]}" version --short 2>/dev/null || echo "${compose[0]}")"
  unchecked+=("that containers start: no Docker engine was used")
}

dockerfile() {
  local hadolint=$root/.venv/bin/hadolint
  if [ -x "$hadolint" ]; then
    "$hadolint" "$here/Dockerfile" || failed "hadolint"
    say "hadolint"
  else
    unchecked+=("the Dockerfile by hadolint: it is not in .venv")
  fi
  unchecked+=("that the image builds")
}

chart() {
  local helm
  helm=$(find_helm)
  if [ -z "$helm" ]; then
    unchecked+=("the chart: helm is not here, nor could Go build it")
    return
  fi
  # A helm that Go built takes itself for one of years ago.
  "$helm" lint --quiet --strict --kube-version 1.31.0 "$here/../helm/tidemark" || failed "helm lint"
  if "$helm" template demo "$here/../helm/tidemark" --namespace data --kube-version 1.31.0 >"$scratch/rendered.yaml"; then
    "$python" "$here/check.py" --rendered "$scratch/rendered.yaml" || failed "rules on what helm template made"
  else
    failed "helm template"
  fi
  say "helm lint, helm template and rules on the pods that it makes"
  unchecked+=("the chart on a cluster")
}

own_rules
compose_config
dockerfile
chart
for what in "${unchecked[@]}"; do say "not checked here: $what"; done
[ "$failed" = 0 ] && say "all that was checked holds"
exit "$failed"
