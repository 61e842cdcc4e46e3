{{/* URL of the API for the frontend's server. */}}
{{- define "todo.apiBaseUrl" -}}
{{- .Values.config.apiBaseUrl | default (printf "http://%s:8000" (include "todo.backend.name" .)) -}}
{{- end }}

{{/* The ConfigMap's entries, as YAML. */}}
{{- define "todo.config.data" -}}
API_BASE_URL: {{ include "todo.apiBaseUrl" . | quote }}
ENVIRONMENT: {{ .Values.config.environment | quote }}
ALLOWED_ORIGINS: {{ .Values.config.allowedOrigins | quote }}
{{- with .Values.config.limits }}
SIGN_UPS_PER_HOUR: {{ .signUpsPerHour | int64 | quote }}
TODOS_PER_USER: {{ .todosPerUser | int64 | quote }}
ASSISTANT_TOKENS_PER_DAY: {{ .assistantTokensPerDay | int64 | quote }}
{{- end }}
OPENAI_BASE_URL: {{ .Values.config.openai.baseUrl | quote }}
OPENAI_MODEL: {{ .Values.config.openai.model | quote }}
{{- end }}

{{/* Keys of the ConfigMap that the backend reads, as a JSON list. */}}
{{- define "todo.config.backendKeys" -}}
["ENVIRONMENT", "OPENAI_BASE_URL", "OPENAI_MODEL", "ALLOWED_ORIGINS", "SIGN_UPS_PER_HOUR", "TODOS_PER_USER", "ASSISTANT_TOKENS_PER_DAY"]
{{- end }}

{{/*
Environment from the ConfigMap, by key. Takes (list $ "ENVIRONMENT" ...).
*/}}
{{- define "todo.config.env" -}}
{{- $root := first . -}}
{{- range rest . }}
- name: {{ . }}
  valueFrom:
    configMapKeyRef:
      name: {{ include "todo.config.name" $root }}
      key: {{ . }}
{{- end }}
{{- end }}

{{/*
Checksum of the given keys: a change restarts only the pods that read one of them. Takes (list $ "ENVIRONMENT" ...).
*/}}
{{- define "todo.config.checksum" -}}
{{- $data := include "todo.config.data" (first .) | fromYaml -}}
{{- $read := dict -}}
{{- range rest . }}{{- $_ := set $read . (index $data .) -}}{{- end -}}
{{- $read | toJson | sha256sum -}}
{{- end }}
