#!/usr/bin/env bash
# measure.sh xtask|script|skaffold|tilt|devspace [watch|dev|crash]: one round in a checkout of the tool's own. Prints the tool,
# the case, the seconds until the command has ended and its change is served, how many pods are new, and the load. `watch` and
# `dev` (only xtask and Skaffold) start the tool's loop first; the seconds then count from the save to the answer. `crash`
# deploys only a backend that crashes; what answers then is the old one.
# measure.sh all: six rounds of each tool in turn, then the table of the last five.
set -euo pipefail
cd "$(dirname "$0")/../.."
tool=$1 mode=${2:-} address=http://127.0.0.1:8680 host=$1.localhost release=todo-$1
[[ $mode != crash ]] || mode=
export TILT_DISABLE_ANALYTICS=1 DEVSPACE_SKIP_VERSION_CHECK=true SKAFFOLD_UPDATE_CHECK=false

if [[ $tool == all ]]; then
  results=$(mktemp) tools=(xtask script skaffold tilt devspace)
  for round in 0 1 2 3 4 5; do
    for tool in "${tools[@]}"; do "../$tool/docs/comparison/measure.sh" "$tool"; done | tee --append "$results"
    ((round)) || : >"$results" # round 0 only deploys the state that the others change
  done
  sort --field-separator=$'\t' --key=3,3n "$results" | awk -F '\t' -v tools="${tools[*]}" '
    { n = ++rounds[$1, $2]; seconds[$1, $2, n] = $3 + 0; if ($4 + 0 > pods[$1, $2]) pods[$1, $2] = $4 + 0 }
    END {
      count = split(tools, tool, " "); split("nothing backend frontend", cases, " ")
      for (c = 1; c <= 3; c++) {
        printf "| %s |", cases[c]
        for (t = 1; t <= count; t++) {
          n = rounds[tool[t], cases[c]]
          printf " %.1f (%.1f to %.1f) |", seconds[tool[t], cases[c], int((n + 1) / 2)],
            seconds[tool[t], cases[c], 1], seconds[tool[t], cases[c], n]
        }
        print ""
      }
      printf "| new pods |"
      for (t = 1; t <= count; t++)
        printf " %d, %d, %d |", pods[tool[t], "nothing"], pods[tool[t], "backend"], pods[tool[t], "frontend"]
      print ""
    }'
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
if [[ ${2:-} == crash ]]; then
  trap 'git checkout --quiet apps/backend/app/start.py' EXIT
  sed --in-place 's/^def run(.*/&\n    raise RuntimeError/' apps/backend/app/start.py
  run crash /api/v1/health '"status"'
  exit
fi
mark=$(date +%s)
[[ $mode ]] || run nothing /api/v1/health '"status"'
sed --in-place "s/^__version__ = .*/__version__ = \"0.$mark\"/" apps/backend/app/__init__.py
run backend /api/v1/health "0.$mark"
[[ ! $mode ]] || sleep "${PAUSE:-10}"
sed --in-place "s/lead: \"Good to see you again[^\"]*\"/lead: \"Good to see you again $mark\"/" apps/frontend/components/account/enter-page.tsx
run frontend /sign-in "again $mark"
