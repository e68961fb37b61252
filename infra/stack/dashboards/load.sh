#!/usr/bin/env bash
# Loads the index patterns beside it into OpenSearch Dashboards; those of an earlier release are replaced.
#
#   load.sh URL [--stay]        URL: http://127.0.0.1:5601; --stay: does not end then, for a container that Compose waits for
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
url=${1:?the URL of OpenSearch Dashboards}
answer=$(curl -fsS --retry 10 --retry-all-errors --retry-delay 3 --max-time 60 -H 'osd-xsrf: true' \
  --form "file=@$here/index-patterns.ndjson" "$url/api/saved_objects/_import?overwrite=true")
case $answer in
  *'"success":true'*) echo "index patterns are loaded" ;;
  *) echo "index patterns were refused: $answer" >&2; exit 1 ;;
esac
if [ "${2:-}" = --stay ]; then
  : >/tmp/loaded
  exec sleep infinity
fi
