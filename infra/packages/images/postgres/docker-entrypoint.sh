#!/bin/sh
# Starts PostgreSQL; on the first start makes the database first, from POSTGRES_USER, POSTGRES_DB and
# POSTGRES_PASSWORD_FILE or POSTGRES_PASSWORD, as the official image does.
set -eu

fail() { echo "docker-entrypoint: $1" >&2; exit 1; }

make_database() {
  user=${POSTGRES_USER:-postgres}
  database=${POSTGRES_DB:-$user}
  if [ -n "${POSTGRES_PASSWORD_FILE:-}" ]; then
    [ -r "$POSTGRES_PASSWORD_FILE" ] || fail "cannot read POSTGRES_PASSWORD_FILE ($POSTGRES_PASSWORD_FILE)"
    password=$(cat "$POSTGRES_PASSWORD_FILE")
  else
    password=${POSTGRES_PASSWORD:-}
  fi
  [ -n "$password" ] || fail "no password: set POSTGRES_PASSWORD_FILE or POSTGRES_PASSWORD"
  # Made beside its place and renamed at the end: who is killed in between starts anew, never with half a database.
  new=$PGDATA.new
  rm -rf "$new"
  printf '%s\n' "$password" | initdb --pgdata="$new" --username="$user" --pwfile=/dev/stdin --encoding=UTF8 \
    --locale-provider=builtin --locale=C.UTF-8 --auth-local=trust --auth-host=scram-sha-256 --data-checksums \
    --set=listen_addresses='*' --set=jit=off
  echo 'host all all all scram-sha-256' >> "$new/pg_hba.conf"
  if [ "$database" != postgres ]; then
    quoted=$(printf '%s' "$database" | sed 's/"/""/g')
    printf 'CREATE DATABASE "%s";\n' "$quoted" | postgres --single -j -D "$new" postgres > /dev/null
  fi
  sync
  mv -T "$new" "$PGDATA" || fail "cannot put the database at PGDATA ($PGDATA): it must be an empty or absent folder below the volume"
}

case "${1:-postgres}" in -*) set -- postgres "$@" ;; esac
if [ "$1" = postgres ]; then
  [ "$(id -u)" != 0 ] || fail "runs as user 999, not as root: leave the user as the image says"
  mkdir -p "$(dirname "$PGDATA")"
  [ -s "$PGDATA/PG_VERSION" ] || make_database
fi
# Nothing else needs it, and /proc would keep showing it.
unset POSTGRES_PASSWORD
exec "$@"
