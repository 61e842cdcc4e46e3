{{/*
Each guard renders an error with its fix, or nothing. guards.yaml collects them.
*/}}

{{/* Takes (list "backend" .Values.backend.image). */}}
{{- define "todo.guard.image" -}}
{{- $what := index . 0 -}}
{{- $tag := (index . 1).tag -}}
{{- if not $tag -}}
{{ $what }}.image.tag is missing: pass the tag of the built image, with --set-string {{ $what }}.image.tag=TAG
{{- else if eq $tag "latest" -}}
{{ $what }}.image.tag is "latest", which does not identify an image: give the image another tag and pass that, with --set-string {{ $what }}.image.tag=TAG
{{- end -}}
{{- end }}

{{/*
Minikube only (FR-018). Without a cluster (helm template, a client-side dry run) `lookup` returns nothing. So the guard
fails only if the cluster shows nodes.
*/}}
{{- define "todo.guard.cluster" -}}
{{- if not .Values.allowAnyCluster -}}
{{- $nodes := (lookup "v1" "Node" "" "").items | default list -}}
{{- $minikube := false -}}
{{- range $nodes -}}
{{- if hasKey (.metadata.labels | default dict) "minikube.k8s.io/name" -}}{{- $minikube = true -}}{{- end -}}
{{- end -}}
{{- if and $nodes (not $minikube) -}}
this cluster is not Minikube: none of its nodes (the first is {{ (index $nodes 0).metadata.name }}) has the label minikube.k8s.io/name. Choose a Minikube cluster with --kube-context NAME. If you want this cluster, pass --set allowAnyCluster=true
{{- end -}}
{{- end -}}
{{- end }}

{{/*
Checks the backend's Secret. An absent one is not an error: it may be created later, for example after a dry run. An existing
one must have the required keys, because otherwise the pods would wait for them.
*/}}
{{- define "todo.guard.backendSecret" -}}
{{- $name := .Values.backend.secret.name -}}
{{- $namespace := .Release.Namespace -}}
{{- if .Values.secrets.create -}}
{{- if $name -}}
backend.secret.name and secrets.create=true exclude each other: name an existing Secret, or let the chart create one
{{- end -}}
{{- else if not $name -}}
{{- $example := printf "%s-env" (include "todo.backend.name" .) -}}
backend.secret.name is missing: create the Secret with
    kubectl --namespace {{ $namespace }} create secret generic {{ $example }}{{ range .Values.backend.secret.keys.required }} --from-literal={{ . }}=...{{ end }}
  and pass --set backend.secret.name={{ $example }}; or let the chart create one, with --set secrets.create=true
{{- else -}}
{{- $secret := lookup "v1" "Secret" $namespace $name -}}
{{- if $secret -}}
{{- $missing := list -}}
{{- range .Values.backend.secret.keys.required -}}
{{- if not (hasKey ($secret.data | default dict) .) -}}{{- $missing = append $missing . -}}{{- end -}}
{{- end -}}
{{- if $missing -}}
the Secret {{ $name }} in namespace {{ $namespace }} lacks {{ join " and " $missing }}: add these keys, or pass the name of another Secret with --set backend.secret.name=NAME
{{- end -}}
{{- end -}}
{{- end -}}
{{- end }}

{{- define "todo.guard.postgresSecret" -}}
{{- if and .Values.postgres.enabled (not .Values.secrets.create) (not .Values.postgres.secret.name) -}}
{{- $name := include "todo.postgres.name" . -}}
postgres.secret.name is missing: create the Secret with
    kubectl --namespace {{ .Release.Namespace }} create secret generic {{ $name }} --from-literal=POSTGRES_PASSWORD=...
  and pass --set postgres.secret.name={{ $name }}; or let the chart create one, with --set secrets.create=true
{{- end -}}
{{- end }}

{{/* The schema checks only the types of secret values, because its messages print the values. */}}
{{- define "todo.guard.authSecret" -}}
{{- with .Values.secrets.values.AUTH_SECRET -}}
{{- if lt (len .) 32 -}}
secrets.values.AUTH_SECRET has {{ len . }} characters and needs at least 32: generate one with `openssl rand -base64 48`, or leave it empty for a random one
{{- end -}}
{{- end -}}
{{- end }}

{{- define "todo.guard.databaseUrl" -}}
{{- $url := .Values.secrets.values.DATABASE_URL -}}
{{- if $url -}}
{{- if not (regexMatch "^postgres(ql)?://[^[:space:]]+$" $url) -}}
secrets.values.DATABASE_URL is not a Postgres URL: pass one that begins with postgresql:// and has no spaces, as Neon prints it
{{- end -}}
{{- else if and .Values.secrets.create (not .Values.postgres.enabled) -}}
secrets.values.DATABASE_URL is missing: pass the URL of a Postgres, or --set postgres.enabled=true for an embedded one
{{- else if .Values.secrets.create -}}
{{- include "todo.secrets.settle" . -}}
{{- if not .Values.secrets.settled.postgresPassword -}}
{{- $name := include "todo.postgres.secretName" . -}}
DATABASE_URL needs POSTGRES_PASSWORD of the Secret {{ $name }}, which is not visible in namespace {{ .Release.Namespace }}: create it with
    kubectl --namespace {{ .Release.Namespace }} create secret generic {{ $name }} --from-literal=POSTGRES_PASSWORD=...
  or pass secrets.values.DATABASE_URL (always needed with helm template, which reads no cluster)
{{- end -}}
{{- end -}}
{{- end }}

{{/* Bytes of a Kubernetes quantity; the API server may have changed its unit. */}}
{{- define "todo.bytes" -}}
{{- $units := dict "" 1 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "m" 0.001 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 -}}
{{- mulf (regexFind "^[0-9.]+" .) (get $units (regexFind "[A-Za-z]*$" .)) -}}
{{- end }}

{{/*
Kubernetes cannot change the volume of a StatefulSet. The guard prevents a release that is half applied. It also finds a claim
that `helm uninstall` left: Kubernetes would silently keep its old size.
*/}}
{{- define "todo.guard.volumeSize" -}}
{{- if .Values.postgres.enabled -}}
{{- $size := .Values.postgres.storage.size -}}
{{- $name := include "todo.postgres.name" . -}}
{{- $claim := printf "data-%s-0" $name -}}
{{- $set := lookup "apps/v1" "StatefulSet" .Release.Namespace $name -}}
{{- $templates := dig "spec" "volumeClaimTemplates" list ($set | default dict) -}}
{{- $volume := first $templates | default (lookup "v1" "PersistentVolumeClaim" .Release.Namespace $claim) -}}
{{- $old := dig "spec" "resources" "requests" "storage" "" ($volume | default dict) -}}
{{- if and $old (ne (include "todo.bytes" $old) (include "todo.bytes" $size)) -}}
postgres.storage.size is {{ $size }}, but the volume {{ $claim }} in namespace {{ .Release.Namespace }} has {{ $old }}, which Kubernetes cannot change: pass --set postgres.storage.size={{ $old }}; or, if you do not need the todos, delete them with
    kubectl --namespace {{ .Release.Namespace }} delete --ignore-not-found statefulset/{{ $name }} persistentvolumeclaim/{{ $claim }}
{{- end -}}
{{- end -}}
{{- end }}

{{/* Postgres cannot read the files of another major version. Accepts tags that do not begin with a number. */}}
{{- define "todo.guard.postgresMajor" -}}
{{- if .Values.postgres.enabled -}}
{{- $name := include "todo.postgres.name" . -}}
{{- $set := lookup "apps/v1" "StatefulSet" .Release.Namespace $name | default dict -}}
{{- $image := (first (dig "spec" "template" "spec" "containers" list $set) | default dict).image | default "" -}}
{{- $old := regexFind ":[0-9]+[^:/@]*" (regexFind "[^/]*$" $image) | trimPrefix ":" -}}
{{- $tag := .Values.postgres.image.tag -}}
{{- $majors := list (regexFind "^[0-9]+" $old) (regexFind "^[0-9]+" $tag) -}}
{{- if and (first $majors) (last $majors) (ne (first $majors) (last $majors)) -}}
postgres.image.tag is {{ $tag }}, but Postgres {{ first $majors }} created the database in namespace {{ .Release.Namespace }}, and another major version cannot read its files: pass --set-string postgres.image.tag={{ $old }}; or dump the todos, and before the new version starts delete the old files with
    kubectl --namespace {{ .Release.Namespace }} delete statefulset/{{ $name }} persistentvolumeclaim/data-{{ $name }}-0
{{- end -}}
{{- end -}}
{{- end }}

{{/*
Only a cluster can keep generated secrets. Without one (helm template) every rendering would generate new ones: it would sign
out all users and change the password of the same database. Helm without a cluster knows no API kinds.
*/}}
{{- define "todo.guard.random" -}}
{{- if and .Values.secrets.create (not (.Capabilities.APIVersions.Has "v1/Secret")) -}}
{{- $random := list -}}
{{- if not .Values.secrets.values.AUTH_SECRET -}}{{- $random = append $random "AUTH_SECRET" -}}{{- end -}}
{{- if and .Values.postgres.enabled (not .Values.postgres.secret.name) -}}{{- $random = append $random "POSTGRES_PASSWORD" -}}{{- end -}}
{{- with $random -}}
secrets.create would generate a random {{ join " and " . }}, but this rendering has no cluster to keep it in. Use `helm install` (to see the result only: --dry-run=server); or create the Secrets yourself, and pass --set secrets.create=false and their names as backend.secret.name{{ if has "POSTGRES_PASSWORD" . }} and postgres.secret.name{{ end }}
{{- end -}}
{{- end -}}
{{- end }}

{{/* Kubernetes rejects a duplicate variable, or silently uses the last one. */}}
{{- define "todo.guard.extraEnv" -}}
{{- $keys := .Values.backend.secret.keys -}}
{{- $own := dict "backend" (concat (include "todo.config.backendKeys" . | fromJsonArray) $keys.required $keys.optional) "frontend" (list "API_BASE_URL" "ENVIRONMENT" "PORT" "HOSTNAME") -}}
{{- $twice := list -}}
{{- range $component, $names := $own -}}
{{- range (index $.Values $component).extraEnv -}}
{{- if has .name $names -}}{{- $twice = append $twice (printf "%s in %s.extraEnv" .name $component) -}}{{- end -}}
{{- end -}}
{{- end -}}
{{- with $twice -}}
the chart itself sets {{ join " and " . }}: remove it there. Change settings in `config`, and secrets in the backend's Secret
{{- end -}}
{{- end }}

{{/* TLS needs a host. An existing Secret must have both keys; an absent one may be created later. */}}
{{- define "todo.guard.tls" -}}
{{- $name := .Values.ingress.tls.secretName -}}
{{- if and $name .Values.ingress.enabled -}}
{{- if not .Values.ingress.host -}}
ingress.tls.secretName needs the host of its certificate: pass --set ingress.host=NAME
{{- end -}}
{{- $secret := lookup "v1" "Secret" .Release.Namespace $name -}}
{{- if $secret -}}
{{- $missing := list -}}
{{- range list "tls.crt" "tls.key" -}}
{{- if not (hasKey ($secret.data | default dict) .) -}}{{- $missing = append $missing . -}}{{- end -}}
{{- end -}}
{{- if $missing -}}
the Secret {{ $name }} in namespace {{ .Release.Namespace }} lacks {{ join " and " $missing }}: create it again with
    kubectl --namespace {{ .Release.Namespace }} create secret tls {{ $name }} --cert=FILE --key=FILE
{{- end -}}
{{- end -}}
{{- end -}}
{{- end }}

{{- define "todo.guard.grace" -}}
{{- if ge (int .Values.rollout.preStopSleepSeconds) (int .Values.rollout.terminationGracePeriodSeconds) -}}
rollout.preStopSleepSeconds ({{ .Values.rollout.preStopSleepSeconds }}) leaves no time of rollout.terminationGracePeriodSeconds ({{ .Values.rollout.terminationGracePeriodSeconds }}) for running requests: raise the latter
{{- end -}}
{{- end }}
