#!/usr/bin/env bash
# measure.sh xtask|script|skaffold|tilt|devspace [watch|dev]: one round in a checkout of the tool's own. Prints the tool, the
# case, the seconds until the command has ended and its change is served, how many pods are new, and the load. `watch` and `dev`
# (only xtask and Skaffold) start the tool's loop first; the seconds then count from the save to the answer.
# measure.sh all: six rounds of each tool in turn, then the table of the last five.
set -euo pipefail
cd "$(dirname "$0")/../.."
tool=$1 mode=${2:-} address=http://127.0.0.1:8680 host=$1.localhost release=todo-$1
export TILT_DISABLE_ANALYTICS=1 DEVSPACE_SKIP_VERSION_CHECK=true SKAFFOLD_UPDATE_CHECK=false

# Prints the seconds of a tool ($1) and a case ($2): the median, the fastest and the slowest.
summary() {
  awk -F '\t' -v tool="$1" -v case="$2" '$1 == tool && $2 == case { print $3 + 0 }' "$results" | sort --numeric-sort |
    awk '{ s[NR] = $1 } END { printf " %.1f (%.1f to %.1f) |", s[int((NR + 1) / 2)], s[1], s[NR] }'
}

if [[ $tool == all ]]; then
  results=$(mktemp) tools=(xtask script skaffold tilt devspace)
  for round in 0 1 2 3 4 5; do # round 0 only deploys the state that the others change
    for tool in "${tools[@]}"; do "../$tool/docs/comparison/measure.sh" "$tool"; done | tee >( ((round == 0)) || cat >>"$results")
  done
  printf '\n| |%s\n' "$(printf ' %s |' "${tools[@]}")"
  for case in nothing backend frontend; do
    printf '| %s |%s\n' "$case" "$(for tool in "${tools[@]}"; do summary "$tool" "$case"; done)"
  done
  exit
fi

skaffold=(--filename docs/comparison/skaffold.yaml --kube-context todo-compare --default-repo localhost:5680)
[[ $tool != xtask ]] || host=localhost release=todo
case $tool$mode in
  xtask) command=(cargo xtask deploy dev --yes --profile todo-compare) ;;
  xtaskwatch) command=(cargo xtask deploy dev --yes --profile todo-compare --watch) ;;
  xtaskdev) command=(cargo xtask dev --yes --port 3680) address=http://127.0.0.1:3680 ;;
  script) command=(docs/comparison/deploy.sh) ;;
  skaffold) command=(skaffold run "${skaffold[@]}") ;;
  tilt) command=(tilt ci --file docs/comparison/Tiltfile --context todo-compare) ;;
  devspace) command=(devspace deploy --config docs/comparison/devspace.yaml --kube-context todo-compare --namespace todo
    --skip-push-local-kube=false) ;;
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
