{{/* What `fairlead serve --pod` is told: one version, for good. */}}
{{- define "fairlead-model.podSettings" -}}
{{- $serve := include "fairlead-model.serve" .root | fromJson -}}
{{- $_ := set $serve "backend" "process" -}}
{{- $_ := set $serve "host" "0.0.0.0" -}}
{{- $_ := set $serve "port" 9000 -}}
{{- dict
  "model" .root.Values.model
  "store" .root.Values.store.uri
  "base" "/var/fairlead"
  "serve" $serve
  "arm" (include "fairlead-model.arm" .arm | fromJson)
  | toJson -}}
{{- end -}}

{{/* One predictor: Fairlead's own server in a container that has the graph's name. Port 9000, because the orchestrator
that Seldon puts beside it has 8000. */}}
{{- define "fairlead-model.predictor" -}}
{{- $ := .root -}}
- name: {{ .name }}
  replicas: {{ int $.Values.seldon.replicas }}
  traffic: {{ int .traffic }}
  {{- if .shadow }}
  shadow: true
  {{- end }}
  labels:
    fairlead.dev/arm: {{ .name }}
    fairlead.dev/version: {{ int .arm.version | quote }}
  graph:
    name: {{ $.Values.model }}
    type: MODEL
    endpoint:
      type: REST
      service_host: localhost
      httpPort: 9000
    children: []
  componentSpecs:
    - metadata:
        labels:
          {{- include "fairlead-model.podLabels" $ | nindent 10 }}
          app.kubernetes.io/component: {{ .name }}
        {{- with $.Values.podAnnotations }}
        annotations:
          {{- toYaml . | nindent 10 }}
        {{- end }}
      {{- if $.Values.autoscaling.enabled }}
      hpaSpec:
        minReplicas: {{ int $.Values.autoscaling.minReplicas }}
        maxReplicas: {{ int $.Values.autoscaling.maxReplicas }}
        metricsv2:
          - type: Resource
            resource:
              name: cpu
              target:
                type: Utilization
                averageUtilization: {{ int $.Values.autoscaling.targetCpuPercent }}
      {{- end }}
      spec:
        {{- include "fairlead-model.podSpec" $ | nindent 8 }}
        automountServiceAccountToken: false
        {{- with include "fairlead-model.placement" $.Values.seldon }}
        {{- . | trim | nindent 8 }}
        {{- end }}
        containers:
          - name: {{ $.Values.model }}
            image: {{ include "fairlead-model.image" $ }}
            imagePullPolicy: {{ $.Values.image.pullPolicy }}
            command: [python, -m, fairlead.cli, serve, --pod]
            env:
              {{- include "fairlead-model.env" $ | nindent 14 }}
              - name: FAIRLEAD_POD
                value: {{ include "fairlead-model.podSettings" (dict "root" $ "arm" .arm) | quote }}
              {{- with $.Values.env }}
              {{- toYaml . | nindent 14 }}
              {{- end }}
            {{- with include "fairlead-model.envFrom" $ }}
            envFrom:
              {{- . | nindent 14 }}
            {{- end }}
            ports:
              - name: http
                containerPort: 9000
                protocol: TCP
            securityContext:
              {{- include "fairlead-model.securityContext" $ | nindent 14 }}
            volumeMounts:
              {{- include "fairlead-model.volumeMounts" $ | nindent 14 }}
            startupProbe:
              httpGet: {path: /v2/health/live, port: http}
              periodSeconds: 2
              failureThreshold: 60
            livenessProbe:
              httpGet: {path: /v2/health/live, port: http}
              periodSeconds: 5
              timeoutSeconds: 5
              failureThreshold: 6
            readinessProbe:
              httpGet: {path: /v2/health/ready, port: http}
              periodSeconds: 2
              timeoutSeconds: 2
              failureThreshold: 2
            lifecycle:
              {{- include "fairlead-model.preStop" $ | nindent 14 }}
            resources:
              {{- toYaml $.Values.seldon.resources | nindent 14 }}
{{- end -}}

{{/* One version as a Model of Core v2. */}}
{{- define "fairlead-model.seldonModel" -}}
{{- $ := .root -}}
apiVersion: mlops.seldon.io/v1alpha1
kind: Model
metadata:
  name: {{ include "fairlead-model.fullname" $ }}-{{ int .arm.version }}
  namespace: {{ $.Release.Namespace }}
  labels:
    {{- include "fairlead-model.labels" $ | nindent 4 }}
    fairlead.dev/version: {{ int .arm.version | quote }}
  annotations:
    fairlead.dev/model-digest: {{ .arm.digest }}
spec:
  storageUri: {{ ternary .arm.bundleUri (printf "%s/%s" (trimSuffix "/" $.Values.store.uri) .arm.bundleUri) (hasPrefix "s3://" .arm.bundleUri) | quote }}
  {{- with $.Values.store.existingSecret }}
  secretName: {{ . }}
  {{- end }}
  requirements:
    {{- toYaml $.Values.seldon.requirements | nindent 4 }}
  replicas: {{ int $.Values.seldon.replicas }}
  {{- if $.Values.autoscaling.enabled }}
  minReplicas: {{ int $.Values.autoscaling.minReplicas }}
  maxReplicas: {{ int $.Values.autoscaling.maxReplicas }}
  {{- end }}
{{- end -}}
