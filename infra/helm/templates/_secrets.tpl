{{/* Name of the backend's Secret: the existing one's, or that of the one which the chart makes. */}}
{{- define "todo.backend.secretName" -}}
{{- .Values.backend.secret.name | default (include "todo.backend.name" .) -}}
{{- end }}

{{/* Name of the embedded Postgres's Secret, likewise. */}}
{{- define "todo.postgres.secretName" -}}
{{- .Values.postgres.secret.name | default (include "todo.postgres.name" .) -}}
{{- end }}

{{/*
The values of the Secrets that the chart makes (secrets.create), settled once a rendering: what is random must be the
same in the Secret, in the URL made of it and in the checksum that restarts the pods. Therefore the result is kept
among the values, which all templates share. What is in the cluster already is found by `lookup` and kept.
Include this, then read .Values.secrets.settled.
*/}}
{{- define "todo.secrets.settle" -}}
{{- if not (hasKey .Values.secrets "settled") -}}
{{- $given := .Values.secrets.values -}}
{{- $settled := dict "postgresOwned" false "postgresPassword" "" -}}

{{- $auth := $given.AUTH_SECRET -}}
{{- if not $auth -}}
{{- $old := lookup "v1" "Secret" .Release.Namespace (include "todo.backend.name" .) | default dict -}}
{{- $auth = get ($old.data | default dict) "AUTH_SECRET" | b64dec | default (randAlphaNum 48) -}}
{{- end -}}

{{- $url := $given.DATABASE_URL -}}
{{- if .Values.postgres.enabled -}}
{{- $old := lookup "v1" "Secret" .Release.Namespace (include "todo.postgres.secretName" .) | default dict -}}
{{- $password := get ($old.data | default dict) "POSTGRES_PASSWORD" | b64dec -}}
{{- if not .Values.postgres.secret.name -}}
{{- /* A Secret of that name which this release did not make (xtask's, say) is used and left alone. */ -}}
{{- $owner := get (dig "metadata" "annotations" dict $old) "meta.helm.sh/release-name" -}}
{{- $_ := set $settled "postgresOwned" (or (not $old) (eq $owner .Release.Name)) -}}
{{- $password = $password | default (randAlphaNum 32) -}}
{{- end -}}
{{- $_ := set $settled "postgresPassword" $password -}}
{{- $password = $password | urlquery | replace "+" "%20" -}}
{{- $url = $url | default (printf "postgresql://todo:%s@%s:5432/todo?sslmode=disable" $password (include "todo.postgres.name" .)) -}}
{{- end -}}

{{- $_ := set $settled "backend" (dict "DATABASE_URL" $url "OPENAI_API_KEY" $given.OPENAI_API_KEY "AUTH_SECRET" $auth) -}}
{{- $_ := set .Values.secrets "settled" $settled -}}
{{- end -}}
{{- end }}

{{/*
Checksum that restarts the backend when the chart's own Secret changes. AUTH_SECRET is part of it and random, so that
nobody can guess the database's password from an annotation which everybody may read.
*/}}
{{- define "todo.secrets.checksum" -}}
{{- include "todo.secrets.settle" . -}}
{{- .Values.secrets.settled.backend | toJson | sha256sum -}}
{{- end }}
