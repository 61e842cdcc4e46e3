{{/*
Each guard renders the reason why the chart must not be installed so, with what to do about it, or nothing.
guards.yaml collects them.
*/}}

{{/* Takes (list "backend" .Values.backend.image). */}}
{{- define "todo.guard.image" -}}
{{- $what := index . 0 -}}
{{- $tag := (index . 1).tag -}}
{{- if not $tag -}}
{{ $what }}.image.tag is missing: pass the tag of the image that was built, with --set-string {{ $what }}.image.tag=TAG
{{- else if eq $tag "latest" -}}
{{ $what }}.image.tag is "latest", which names no particular image: tag the image otherwise and pass that, with --set-string {{ $what }}.image.tag=TAG
{{- end -}}
{{- end }}

{{/*
Minikube only (FR-018). `lookup` shows nothing where Helm talks to no cluster (helm template, a client-side dry run), so
only a cluster that does show nodes can be refused.
*/}}
{{- define "todo.guard.cluster" -}}
{{- if not .Values.allowAnyCluster -}}
{{- $nodes := (lookup "v1" "Node" "" "").items | default list -}}
{{- $minikube := false -}}
{{- range $nodes -}}
{{- if hasKey (.metadata.labels | default dict) "minikube.k8s.io/name" -}}{{- $minikube = true -}}{{- end -}}
{{- end -}}
{{- if and $nodes (not $minikube) -}}
this cluster is no Minikube: none of its nodes (the first is {{ (index $nodes 0).metadata.name }}) has the label minikube.k8s.io/name. Point Helm at a Minikube with --kube-context NAME, or, where this cluster is meant, pass --set allowAnyCluster=true
{{- end -}}
{{- end -}}
{{- end }}

{{/*
The backend's Secret: named, or made. One that is named but not there yet is no error (it may follow, and a dry run
comes before it); one that is there must have the required keys: better to hear of it here than from pods that wait.
*/}}
{{- define "todo.guard.backendSecret" -}}
{{- $name := .Values.backend.secret.name -}}
{{- $namespace := .Release.Namespace -}}
{{- if .Values.secrets.create -}}
{{- if $name -}}
backend.secret.name and secrets.create=true exclude each other: name an existing Secret, or let the chart make one
{{- end -}}
{{- else if not $name -}}
{{- $example := printf "%s-env" (include "todo.backend.name" .) -}}
backend.secret.name is missing: make the Secret with
    kubectl --namespace {{ $namespace }} create secret generic {{ $example }}{{ range .Values.backend.secret.keys.required }} --from-literal={{ . }}=...{{ end }}
  and pass --set backend.secret.name={{ $example }}; or let the chart make one, with --set secrets.create=true
{{- else -}}
{{- $secret := lookup "v1" "Secret" $namespace $name -}}
{{- if $secret -}}
{{- $missing := list -}}
{{- range .Values.backend.secret.keys.required -}}
{{- if not (hasKey ($secret.data | default dict) .) -}}{{- $missing = append $missing . -}}{{- end -}}
{{- end -}}
{{- if $missing -}}
the Secret {{ $name }} in namespace {{ $namespace }} lacks {{ join " and " $missing }}: add what is missing, or pass the name of another Secret with --set backend.secret.name=NAME
{{- end -}}
{{- end -}}
{{- end -}}
{{- end }}

{{- define "todo.guard.postgresSecret" -}}
{{- if and .Values.postgres.enabled (not .Values.secrets.create) (not .Values.postgres.secret.name) -}}
{{- $name := include "todo.postgres.name" . -}}
postgres.secret.name is missing: make the Secret with
    kubectl --namespace {{ .Release.Namespace }} create secret generic {{ $name }} --from-literal=POSTGRES_PASSWORD=...
  and pass --set postgres.secret.name={{ $name }}; or let the chart make one, with --set secrets.create=true
{{- end -}}
{{- end }}

{{/* The schema checks the types of secret values only: its messages print what they complain about. */}}
{{- define "todo.guard.authSecret" -}}
{{- with .Values.secrets.values.AUTH_SECRET -}}
{{- if lt (len .) 32 -}}
secrets.values.AUTH_SECRET has {{ len . }} characters and needs 32 or more: make one with `openssl rand -base64 48`, or leave it empty for a random one
{{- end -}}
{{- end -}}
{{- end }}

{{- define "todo.guard.databaseUrl" -}}
{{- $url := .Values.secrets.values.DATABASE_URL -}}
{{- if $url -}}
{{- if not (regexMatch "^postgres(ql)?://[^[:space:]]+$" $url) -}}
secrets.values.DATABASE_URL is no Postgres URL: it begins with postgresql:// and has no spaces, as Neon prints it
{{- end -}}
{{- else if and .Values.secrets.create (not .Values.postgres.enabled) -}}
secrets.values.DATABASE_URL is missing: pass the URL of a Postgres, or --set postgres.enabled=true for an embedded one
{{- else if .Values.secrets.create -}}
{{- include "todo.secrets.settle" . -}}
{{- if not .Values.secrets.settled.postgresPassword -}}
{{- $name := include "todo.postgres.secretName" . -}}
DATABASE_URL is made of POSTGRES_PASSWORD in the Secret {{ $name }}, which namespace {{ .Release.Namespace }} does not show: make it with
    kubectl --namespace {{ .Release.Namespace }} create secret generic {{ $name }} --from-literal=POSTGRES_PASSWORD=...
  or pass secrets.values.DATABASE_URL (helm template reads no cluster and needs that)
{{- end -}}
{{- end -}}
{{- end }}

{{/* Bytes of a Kubernetes quantity, which the API server may have written in another unit. */}}
{{- define "todo.bytes" -}}
{{- $units := dict "" 1 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "m" 0.001 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 -}}
{{- mulf (regexFind "^[0-9.]+" .) (get $units (regexFind "[A-Za-z]*$" .)) -}}
{{- end }}

{{/*
Kubernetes does not let the volume of a StatefulSet change: better to hear of it here than from a release that is half
applied. Where `helm uninstall` has left the claim alone, the old size would go on without a word.
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
postgres.storage.size is {{ $size }}, and the volume {{ $claim }} in namespace {{ .Release.Namespace }} was made with {{ $old }}, which Kubernetes does not let change: pass --set postgres.storage.size={{ $old }}; or, where the todos may go, delete them with
    kubectl --namespace {{ .Release.Namespace }} delete --ignore-not-found statefulset/{{ $name }} persistentvolumeclaim/{{ $claim }}
{{- end -}}
{{- end -}}
{{- end }}

{{/* A Postgres does not open the files of another major version. Tags that begin with no number are let through. */}}
{{- define "todo.guard.postgresMajor" -}}
{{- if .Values.postgres.enabled -}}
{{- $name := include "todo.postgres.name" . -}}
{{- $set := lookup "apps/v1" "StatefulSet" .Release.Namespace $name | default dict -}}
{{- $image := (first (dig "spec" "template" "spec" "containers" list $set) | default dict).image | default "" -}}
{{- $old := regexFind ":[0-9]+[^:/@]*" (regexFind "[^/]*$" $image) | trimPrefix ":" -}}
{{- $tag := .Values.postgres.image.tag -}}
{{- $majors := list (regexFind "^[0-9]+" $old) (regexFind "^[0-9]+" $tag) -}}
{{- if and (first $majors) (last $majors) (ne (first $majors) (last $majors)) -}}
postgres.image.tag is {{ $tag }}, and the database in namespace {{ .Release.Namespace }} was made by Postgres {{ first $majors }}, whose files another major version does not open: pass --set-string postgres.image.tag={{ $old }}; or dump the todos, and before the new version starts delete the old files with
    kubectl --namespace {{ .Release.Namespace }} delete statefulset/{{ $name }} persistentvolumeclaim/data-{{ $name }}-0
{{- end -}}
{{- end -}}
{{- end }}

{{/*
What is random must be kept, and only a cluster keeps it. Helm without one (helm template) knows no kinds: every rendering
would sign out all users, and have another password for the same database.
*/}}
{{- define "todo.guard.random" -}}
{{- if and .Values.secrets.create (not (.Capabilities.APIVersions.Has "v1/Secret")) -}}
{{- $random := list -}}
{{- if not .Values.secrets.values.AUTH_SECRET -}}{{- $random = append $random "AUTH_SECRET" -}}{{- end -}}
{{- if and .Values.postgres.enabled (not .Values.postgres.secret.name) -}}{{- $random = append $random "POSTGRES_PASSWORD" -}}{{- end -}}
{{- with $random -}}
secrets.create would make a random {{ join " and " . }}, and this rendering reads no cluster that keeps it: the next one would make another. Use `helm install` (to look only: --dry-run=server); or make the Secrets yourself, and pass --set secrets.create=false and their names as backend.secret.name{{ if has "POSTGRES_PASSWORD" . }} and postgres.secret.name{{ end }}
{{- end -}}
{{- end -}}
{{- end }}

{{/* Kubernetes refuses a variable that a container has twice, or takes the last one without a word. */}}
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
the chart itself sets {{ join " and " . }}: take it out of there. `config` has the settings, and the backend's Secret the secrets
{{- end -}}
{{- end }}

{{/* TLS needs a host, and a Secret that is there must have both keys; an absent one may follow. */}}
{{- define "todo.guard.tls" -}}
{{- $name := .Values.ingress.tls.secretName -}}
{{- if and $name .Values.ingress.enabled -}}
{{- if not .Values.ingress.host -}}
ingress.tls.secretName needs the host that its certificate is for: pass --set ingress.host=NAME
{{- end -}}
{{- $secret := lookup "v1" "Secret" .Release.Namespace $name -}}
{{- if $secret -}}
{{- $missing := list -}}
{{- range list "tls.crt" "tls.key" -}}
{{- if not (hasKey ($secret.data | default dict) .) -}}{{- $missing = append $missing . -}}{{- end -}}
{{- end -}}
{{- if $missing -}}
the Secret {{ $name }} in namespace {{ .Release.Namespace }} lacks {{ join " and " $missing }}: make it anew with
    kubectl --namespace {{ .Release.Namespace }} create secret tls {{ $name }} --cert=FILE --key=FILE
{{- end -}}
{{- end -}}
{{- end -}}
{{- end }}

{{- define "todo.guard.grace" -}}
{{- if ge (int .Values.rollout.preStopSleepSeconds) (int .Values.rollout.terminationGracePeriodSeconds) -}}
rollout.preStopSleepSeconds ({{ .Values.rollout.preStopSleepSeconds }}) leaves nothing of rollout.terminationGracePeriodSeconds ({{ .Values.rollout.terminationGracePeriodSeconds }}) for running requests to end: make the latter larger
{{- end -}}
{{- end }}
