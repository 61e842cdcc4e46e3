{{/* Parts of both Deployments. */}}
{{- define "todo.strategy" -}}
type: RollingUpdate
rollingUpdate:
  maxSurge: {{ .Values.rollout.maxSurge }}
  maxUnavailable: {{ .Values.rollout.maxUnavailable }}
{{- end }}

{{/* ScheduleAnyway, because Minikube usually has one node. Takes (list $ "backend"). */}}
{{- define "todo.spread" -}}
- maxSkew: 1
  topologyKey: kubernetes.io/hostname
  whenUnsatisfiable: ScheduleAnyway
  labelSelector:
    matchLabels:
      {{- include "todo.selectorLabels" . | nindent 6 }}
  # Ignores the old pods of a rollout.
  matchLabelKeys: [pod-template-hash]
{{- end }}

{{/* Node placement and image pull Secrets of a component. Takes (list $ .Values.backend). */}}
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
Pod and Ingress controller learn of the pod's termination at the same time. The pod serves until the controller has reacted.
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

{{/* ServiceAccount of a component, without a token. Takes (list $ "backend" $tag). */}}
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
Disruption budget of a component: one pod stays while a node is drained. A single replica has no budget, because a budget
would block every drain. An autoscaler may scale to one, so then one pod may go. Pods that are not ready never block a drain.
Takes (list $ "backend" $tag).
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
