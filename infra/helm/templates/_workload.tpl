{{/* What both Deployments have in common, beside names and containers. */}}
{{- define "todo.strategy" -}}
type: RollingUpdate
rollingUpdate:
  maxSurge: {{ .Values.rollout.maxSurge }}
  maxUnavailable: {{ .Values.rollout.maxUnavailable }}
{{- end }}

{{/* A wish, not a demand: Minikube mostly has one node. Takes (list $ "backend"). */}}
{{- define "todo.spread" -}}
- maxSkew: 1
  topologyKey: kubernetes.io/hostname
  whenUnsatisfiable: ScheduleAnyway
  labelSelector:
    matchLabels:
      {{- include "todo.selectorLabels" . | nindent 6 }}
  # Old pods do not count while new ones replace them.
  matchLabelKeys: [pod-template-hash]
{{- end }}

{{/* Where the pods of a component may run, and who may pull their image. Takes (list $ .Values.backend). */}}
{{- define "todo.placement" -}}
{{- with (index . 0).Values.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with (index . 1).nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with (index . 1).tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/*
The Ingress controller hears of a pod's end at the same moment as the pod: until it has, the pod goes on serving.
*/}}
{{- define "todo.lifecycle" -}}
preStop:
  sleep:
    seconds: {{ .Values.rollout.preStopSleepSeconds }}
{{- end }}

{{/* Service of a component. Takes (list $ "backend" 8000 $tag). */}}
{{- define "todo.service" -}}
{{- $root := index . 0 -}}
{{- $component := index . 1 -}}
apiVersion: v1
kind: Service
metadata:
  name: {{ include "todo.fullname" $root }}-{{ $component }}
  labels:
    {{- include "todo.labels" (list $root $component (index . 3)) | nindent 4 }}
spec:
  type: ClusterIP
  selector:
    {{- include "todo.selectorLabels" (list $root $component) | nindent 4 }}
  ports:
    - name: http
      port: {{ index . 2 }}
      targetPort: http
      protocol: TCP
{{- end }}

{{/* ServiceAccount of a component: a name of its own, no token. Takes (list $ "backend" $tag). */}}
{{- define "todo.serviceAccount" -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ include "todo.fullname" (index . 0) }}-{{ index . 1 }}
  labels:
    {{- include "todo.labels" . | nindent 4 }}
automountServiceAccountToken: false
{{- end }}

{{/*
Budget of a component: one pod stays when a node is drained. With a single replica it would forbid every drain, so
there is none then; an autoscaler may leave one, so then one may go. Pods that are not ready never stand in a drain's
way. Takes (list $ "backend" $tag).
*/}}
{{- define "todo.pdb" -}}
{{- $replicas := (index (index . 0).Values (index . 1)).replicas -}}
{{- $autoscaled := kindIs "invalid" $replicas -}}
{{- if or $autoscaled (gt (int $replicas) 1) -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ include "todo.fullname" (index . 0) }}-{{ index . 1 }}
  labels:
    {{- include "todo.labels" . | nindent 4 }}
spec:
  {{- if $autoscaled }}
  maxUnavailable: 1
  {{- else }}
  minAvailable: 1
  {{- end }}
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels:
      {{- include "todo.selectorLabels" (list (index . 0) (index . 1)) | nindent 6 }}
{{- end }}
{{- end }}
