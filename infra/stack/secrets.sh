#!/usr/bin/env bash
# Makes the secrets of a full stack, each in a file of its own, where they are not there yet.
#
#   secrets.sh [DIR]        DIR: infra/stack/secrets, where docker-compose.yml looks for them
#
# | file | holds |
# | --- | --- |
# | tokens | the bearer token of Tidemark's doors |
# | s3-access-key, s3-secret-key | the S3 server's keys |
# | aws-credentials | the same, as AWS clients read them |
# | postgres-password | the database user's password |
# | grafana-password | the password of Grafana's user `admin` |
# | roles.env | what roles take by environment: PGPASSWORD |
#
# The folder is closed to others. Its files are not: containers read them under other users, one by one.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
dir=${1:-$here/secrets}

# Letters and digits only: they stand in URLs and files of several grammars.
made() { python3 -c 'import secrets, string; print("".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(32)))'; }

mkdir -p "$dir"
chmod 700 "$dir"
for name in tokens s3-secret-key postgres-password grafana-password; do
  [ -s "$dir/$name" ] || made >"$dir/$name"
done
[ -s "$dir/s3-access-key" ] || echo tidemark >"$dir/s3-access-key"
printf '[default]\naws_access_key_id = %s\naws_secret_access_key = %s\n' "$(cat "$dir/s3-access-key")" \
  "$(cat "$dir/s3-secret-key")" >"$dir/aws-credentials"
echo "PGPASSWORD=$(cat "$dir/postgres-password")" >"$dir/roles.env"
chmod 644 "$dir"/*
