{{/* Name of the backend's Secret: the existing one, or the one that the chart creates. */}}
{{- define "todo.backend.secretName" -}}
{{- .Values.backend.secret.name | default (include "todo.backend.name" .) -}}
{{- end }}

{{/* Name of the embedded Postgres's Secret, likewise. */}}
{{- define "todo.postgres.secretName" -}}
{{- .Values.postgres.secret.name | default (include "todo.postgres.name" .) -}}
{{- end }}

{{/*
Determines the values of the chart's own Secrets (secrets.create) once per rendering. A generated value must be the same in
the Secret, in the URL and in the checksum that restarts the pods. So the result is stored in the values, which all templates
share. `lookup` finds values that the cluster already has. Include this, then read .Values.secrets.settled.
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
{{- /* Uses a Secret of that name from elsewhere (for example xtask), but does not manage it. */ -}}
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
Checksum that restarts the backend when the chart's own Secret changes. It includes the random AUTH_SECRET, so nobody can
guess the database password from the readable annotation.
*/}}
{{- define "todo.secrets.checksum" -}}
{{- include "todo.secrets.settle" . -}}
{{- .Values.secrets.settled.backend | toJson | sha256sum -}}
{{- end }}
