#!/usr/bin/env bash
# The plain script: both images at once, tags made of their IDs, a registry, and Helm that waits and rolls back.
set -euo pipefail
cd "$(dirname "$0")/../.."

build() {
  local id
  id=$(docker build --quiet --provenance=false --secret id=ca,src=/etc/ssl/certs/ca-certificates.crt "apps/$1")
  docker tag "$id" "localhost:5680/todo-$1:${id:7:16}"
  docker push --quiet "localhost:5680/todo-$1:${id:7:16}" >&2
  echo "${id:7:16}" >"$tags/$1"
}
tags=$(mktemp -d)
trap 'rm -r "$tags"' EXIT
build backend & backend=$!
build frontend & frontend=$!
wait $backend
wait $frontend

helm upgrade --install todo-script infra/helm --kube-context todo-compare --namespace todo \
  --values infra/helm/values-dev.yaml --values docs/comparison/values.yaml --set ingress.host=script.localhost \
  --set backend.secret.name=compare-backend-script --set postgres.secret.name=compare-postgres-script \
  --set backend.image.repository=localhost:5680/todo-backend --set-string backend.image.tag="$(cat "$tags/backend")" \
  --set frontend.image.repository=localhost:5680/todo-frontend --set-string frontend.image.tag="$(cat "$tags/frontend")" \
  --wait --rollback-on-failure --timeout 3m
