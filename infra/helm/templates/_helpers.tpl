{{/*
Names. For the release `todo` they are todo-backend, todo-frontend, todo-postgres and todo-config. The release name comes first, so
names of two releases in one namespace never collide.
*/}}
{{- define "todo.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{- define "todo.backend.name" -}}{{ include "todo.fullname" . }}-backend{{- end }}
{{- define "todo.frontend.name" -}}{{ include "todo.fullname" . }}-frontend{{- end }}
{{- define "todo.postgres.name" -}}{{ include "todo.fullname" . }}-postgres{{- end }}
{{- define "todo.config.name" -}}{{ include "todo.fullname" . }}-config{{- end }}

{{/*
Labels that select pods. Kubernetes cannot change them on an existing Deployment. Takes (list $ "backend").
*/}}
{{- define "todo.selectorLabels" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ $root.Chart.Name }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{/*
Labels of an object. The version label has the image's tag, so a new chart version alone restarts nothing. Takes (list $ "backend" $tag).
*/}}
{{- define "todo.labels" -}}
{{- $root := index . 0 -}}
{{ include "todo.selectorLabels" (list $root (index . 1)) }}
app.kubernetes.io/part-of: {{ $root.Chart.Name }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
app.kubernetes.io/version: {{ index . 2 | trunc 63 | trimAll "-_." | quote }}
{{- end }}

{{/* Labels of an object that belongs to no single component. */}}
{{- define "todo.commonLabels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/part-of: {{ .Chart.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end }}

{{/* Image reference. Takes an image's values; guards.yaml rejects invalid ones. */}}
{{- define "todo.image" -}}
{{ printf "%s:%s" .repository .tag }}{{ with .digest }}@{{ . }}{{ end }}
{{- end }}

{{/* Container settings that Pod Security `restricted` requires. */}}
{{- define "todo.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{/* Pod settings that it requires. Takes the numeric ID of user and group. */}}
{{- define "todo.podSecurity" -}}
runAsNonRoot: true
runAsUser: {{ . }}
runAsGroup: {{ . }}
fsGroup: {{ . }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end }}
