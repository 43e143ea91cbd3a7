{{- define "fairlead-model.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* One release is one model, so the release's name is the name of everything. */}}
{{- define "fairlead-model.fullname" -}}
{{- default .Release.Name .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "fairlead-model.chart" -}}
{{- printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "fairlead-model.labels" -}}
helm.sh/chart: {{ include "fairlead-model.chart" . }}
app.kubernetes.io/name: {{ include "fairlead-model.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: fairlead
app.kubernetes.io/managed-by: {{ .Release.Service }}
fairlead.dev/model: {{ .Values.model }}
{{- end -}}

{{/* What finds the pods. It never changes with a chart's version: a changed pod template would replace the pods. */}}
{{- define "fairlead-model.selectorLabels" -}}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/part-of: fairlead
fairlead.dev/model: {{ .Values.model }}
{{- end -}}

{{- define "fairlead-model.podLabels" -}}
{{ include "fairlead-model.selectorLabels" . }}
{{- with .Values.podLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "fairlead-model.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "fairlead-model.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "fairlead-model.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag }}
{{- end -}}
{{- end -}}

{{- define "fairlead-model.tokenSecret" -}}
{{- default (printf "%s-token" (include "fairlead-model.fullname" .)) .Values.token.existingSecret -}}
{{- end -}}

{{- define "fairlead-model.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "fairlead-model.securityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: {{ .Values.readOnlyRootFilesystem }}
capabilities:
  drop: [ALL]
{{- end -}}

{{/* What every container that serves needs to know. */}}
{{- define "fairlead-model.env" -}}
- name: FAIRLEAD_TOKEN_FILE
  value: /etc/fairlead/token/token
{{- with .Values.store.endpoint }}
- name: AWS_ENDPOINT_URL
  value: {{ . | quote }}
{{- end }}
{{- with .Values.store.region }}
- name: AWS_DEFAULT_REGION
  value: {{ . | quote }}
{{- end }}
- name: PYTHONUNBUFFERED
  value: "1"
{{- end -}}

{{- define "fairlead-model.envFrom" -}}
{{- with .Values.store.existingSecret -}}
- secretRef:
    name: {{ . }}
{{- end -}}
{{- end -}}

{{- define "fairlead-model.volumes" -}}
- name: tmp
  emptyDir:
    sizeLimit: {{ .Values.scratchSizeLimit }}
- name: base
  emptyDir:
    sizeLimit: {{ .Values.scratchSizeLimit }}
- name: token
  secret:
    secretName: {{ include "fairlead-model.tokenSecret" . }}
    defaultMode: 288
    items:
      - key: token
        path: token
{{- end -}}

{{- define "fairlead-model.volumeMounts" -}}
- name: tmp
  mountPath: /tmp
- name: base
  mountPath: /var/fairlead
- name: token
  mountPath: /etc/fairlead/token
  readOnly: true
{{- end -}}

{{/* nodeSelector, tolerations, affinity and priority of one kind of pod. */}}
{{- define "fairlead-model.placement" -}}
{{- with .nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end -}}

{{/* How many pods answer at least. */}}
{{- define "fairlead-model.servingPods" -}}
{{- if eq .Values.backend "ray" -}}
{{- ternary (int .Values.ray.workers.min) (int .Values.ray.workers.replicas) (and .Values.autoscaling.enabled (gt (int .Values.ray.workers.max) (int .Values.ray.workers.min))) -}}
{{- else if eq .Values.backend "seldon" -}}
{{- ternary (int .Values.autoscaling.minReplicas) (int .Values.seldon.replicas) .Values.autoscaling.enabled -}}
{{- else -}}0{{- end -}}
{{- end -}}
