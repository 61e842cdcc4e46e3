#!/usr/bin/env bash
# measure.sh xtask|script|skaffold [watch|dev]: one round in a checkout of the tool's own. Prints the tool, the case, the
# seconds until the command has ended and its change is served, how many pods are new, and the load. `watch` and `dev` start
# the tool's loop first; the seconds then count from the save to the answer.
set -euo pipefail
cd "$(dirname "$0")/../.."
tool=$1 mode=${2:-} address=http://127.0.0.1:8680 host=$1.localhost release=todo-$1
skaffold=(--filename docs/comparison/skaffold.yaml --kube-context todo-compare --default-repo localhost:5680)
[[ $tool != xtask ]] || host=localhost release=todo
case $tool$mode in
  xtask) command=(cargo xtask deploy dev --yes --profile todo-compare) ;;
  xtaskwatch) command=(cargo xtask deploy dev --yes --profile todo-compare --watch) ;;
  xtaskdev) command=(cargo xtask dev --yes --port 3680) address=http://127.0.0.1:3680 ;;
  script) command=(docs/comparison/deploy.sh) ;;
  skaffold) command=(skaffold run "${skaffold[@]}") ;;
  skaffoldwatch) command=(skaffold dev --cleanup=false "${skaffold[@]}") ;;
esac

pods() {
  kubectl --context todo-compare --namespace todo get pods --selector "app.kubernetes.io/instance=$release" --output name | sort
}

# Whether the answer at the path $1 holds $2.
served() { [[ $(curl --silent --max-time 5 --header "Host: $host" "$address$1") == *"$2"* ]]; }

# Takes the case, a path and what its answer must hold.
run() {
  local before start code=0 deadline
  before=$(pods)
  start=$EPOCHREALTIME
  [[ $mode ]] || "${command[@]}" >"/tmp/compare-$tool-$1.log" 2>&1 || code=$?
  deadline=$((SECONDS + 90))
  until served "$2" "$3"; do
    ((SECONDS < deadline)) || { code+=", not served"; break; }
    sleep 0.05
  done
  printf '%s\t%s\t%s s\t%s new pods\tload %s\texit code %s\n' "$tool$mode" "$1" \
    "$(awk -v a="$start" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.2f", b - a }')" \
    "$(comm -13 <(echo "$before") <(pods) | wc -l)" "$(cut -d' ' -f1 /proc/loadavg)" "$code"
}

if [[ $mode ]]; then
  "${command[@]}" >"/tmp/compare-$tool-$mode.log" 2>&1 &
  trap 'kill -INT $!; wait' EXIT
  sleep "${WARM_UP:-60}"
fi
mark=$(date +%s)
[[ $mode ]] || run nothing /api/v1/health '"status"'
sed --in-place "s/^__version__ = .*/__version__ = \"0.$mark\"/" apps/backend/app/__init__.py
run backend /api/v1/health "0.$mark"
[[ ! $mode ]] || sleep "${PAUSE:-10}"
sed --in-place "s/lead: \"Good to see you again[^\"]*\"/lead: \"Good to see you again $mark\"/" apps/frontend/components/account/enter-page.tsx
run frontend /sign-in "again $mark"
