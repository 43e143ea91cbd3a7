{{/* The environment of Ray's processes: fairlead.serve.ray_settings.LOCAL_ENVIRONMENT, with longer draining,
because a load balancer outside of the pod needs to hear of it, and with HAProxy's metrics, which Prometheus may read. */}}
{{- define "fairlead-model.rayEnv" -}}
{{ include "fairlead-model.env" . }}
- name: RAY_USAGE_STATS_ENABLED
  value: "0"
- name: RAY_SERVE_ENABLE_HA_PROXY
  value: "1"
- name: RAY_SERVE_THROUGHPUT_OPTIMIZED
  value: "1"
- name: RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S
  value: "5"
- name: RAY_worker_niceness
  value: "0"
# A replica that dies or freezes in the middle of a request: another one answers it, and it is found out about soon. A
# server is given more time than any deadline.
- name: RAY_SERVE_HAPROXY_RETRY_ON
  value: conn-failure empty-response response-timeout
- name: RAY_SERVE_HAPROXY_TIMEOUT_SERVER_S
  value: {{ max 3 (addf 1 (divf (default 200 .Values.serve.deadline_ms) 1000) | ceil) | quote }}
- name: RAY_SERVE_HAPROXY_TIMEOUT_CONNECT_S
  value: "1"
- name: RAY_SERVE_HAPROXY_HEALTH_CHECK_INTER
  value: 1s
- name: RAY_SERVE_HAPROXY_TUNE_BUFSIZE
  value: "65536"
{{- if not .Values.autoscaling.enabled }}
# Around Ray's count of requests, which only its autoscaler needs: see fairlead.serve.ray_front.
- name: RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH
  value: fairlead.serve.ray_front.middlewares
{{- end }}
{{- with .Values.env }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "fairlead-model.hasWorkers" -}}
{{- if gt (int .Values.ray.workers.max) 0 -}}true{{- end -}}
{{- end -}}

{{/* CPUs that Ray reserves for each replica: with workers the head has none to give, so that all replicas are there. */}}
{{- define "fairlead-model.replicaCpus" -}}
{{- ternary .Values.ray.cpusPerReplica 0 (eq (include "fairlead-model.hasWorkers" .) "true") -}}
{{- end -}}

{{- define "fairlead-model.ingressDeployment" -}}
{{- $ingress := dict "name" "ingress" -}}
{{- with .Values.autoscaling -}}
{{- if .enabled -}}
{{- $_ := set $ingress "autoscaling_config" (dict
  "min_replicas" (int .minReplicas)
  "max_replicas" (int .maxReplicas)
  "target_ongoing_requests" .targetOngoingRequests
  "upscale_delay_s" .upscaleDelaySeconds
  "downscale_delay_s" .downscaleDelaySeconds) -}}
{{- else -}}
{{- $replicas := int (default 1 $.Values.serve.replicas) -}}
{{- $_ := set $ingress "num_replicas" $replicas -}}
{{- with int $.Values.ray.workers.replicas -}}
{{/* Spread for good: what waits for a lost pod's successor must not move in with the survivor. */}}
{{- $_ := set $ingress "max_replicas_per_node" (div (add $replicas . -1) . | int) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $ingress | toJson -}}
{{- end -}}

{{/* The configuration of Ray Serve. `release` is a Release as JSON: what one RayService is told. A change of traffic
changes nothing but the control's user_config, so no replica is replaced. What is not said here, the code says. */}}
{{- define "fairlead-model.serveConfig" -}}
{{- $ := .root -}}
{{- $app := printf "fairlead-%s" $.Values.model -}}
{{- $args := dict
  "model" $.Values.model
  "store" $.Values.store.uri
  "base" "/var/fairlead"
  "serve" (include "fairlead-model.serve" $ | fromJson)
  "num_cpus" (include "fairlead-model.replicaCpus" $ | float64)
-}}
{{- with .record -}}
{{- $_ := set $args "record" . -}}
{{- end -}}
{{- $told := dict "revision" (int $.Release.Revision) "release" (.release | fromJson) -}}
{{- dict
  "proxy_location" "EveryNode"
  "http_options" (dict "host" "0.0.0.0" "port" 8000)
  "logging_config" (dict "enable_access_log" false)
  "applications" (list
    (dict
      "name" (printf "%s-control" $app)
      "import_path" "fairlead.serve.ray_cluster:control"
      "route_prefix" nil
      "args" $args
      "deployments" (list (dict "name" "control" "user_config" $told)))
    (dict
      "name" $app
      "import_path" "fairlead.serve.ray_cluster:ingress"
      "route_prefix" "/"
      "args" $args
      "deployments" (list (include "fairlead-model.ingressDeployment" $ | fromJson))))
  | toYaml -}}
{{- end -}}

{{/* Ray's own health route, answered by the agent of every node: no shell, wget or curl in the image. */}}
{{- define "fairlead-model.rayLiveness" -}}
httpGet:
  path: /api/healthz
  port: 52365
initialDelaySeconds: 30
periodSeconds: 5
timeoutSeconds: 5
failureThreshold: 24
{{- end -}}

{{- define "fairlead-model.rayContainer" -}}
image: {{ include "fairlead-model.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
env:
  {{- include "fairlead-model.rayEnv" . | nindent 2 }}
{{- with include "fairlead-model.envFrom" . }}
envFrom:
  {{- . | nindent 2 }}
{{- end }}
securityContext:
  {{- include "fairlead-model.securityContext" . | nindent 2 }}
volumeMounts:
  {{- include "fairlead-model.volumeMounts" . | nindent 2 }}
livenessProbe:
  {{- include "fairlead-model.rayLiveness" . | nindent 2 }}
{{- end -}}

{{/* Kubernetes takes the pod out of the load balancers at once; until these are told it answers what arrives, then it
lets its clients go (fairlead.serve.leaving). */}}
{{- define "fairlead-model.preStop" -}}
preStop:
  exec:
    command: [python, -m, fairlead.serve.leaving, {{ .Values.preStopSeconds | quote }}]
{{- end -}}

{{- define "fairlead-model.podSpec" -}}
serviceAccountName: {{ include "fairlead-model.serviceAccountName" . }}
enableServiceLinks: false
terminationGracePeriodSeconds: {{ int .Values.terminationGracePeriodSeconds }}
securityContext:
  {{- include "fairlead-model.podSecurityContext" . | nindent 2 }}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
volumes:
  {{- include "fairlead-model.volumes" . | nindent 2 }}
{{- end -}}

{{/* One RayService. `name` is its name, `arm` the label of its pods, `release` what it is told, as
JSON; `record` the name of its record in the store, when it is not the model's only one. */}}
{{- define "fairlead-model.rayService" -}}
{{- $ := .root -}}
{{- $autoscaling := and $.Values.autoscaling.enabled (gt (int $.Values.ray.workers.max) (int $.Values.ray.workers.min)) -}}
{{- $workers := eq (include "fairlead-model.hasWorkers" $) "true" -}}
apiVersion: ray.io/v1
kind: RayService
metadata:
  name: {{ .name }}
  namespace: {{ $.Release.Namespace }}
  labels:
    {{- include "fairlead-model.labels" $ | nindent 4 }}
    app.kubernetes.io/component: {{ .arm }}
  {{- with $.Values.ray.initializingTimeout }}
  annotations:
    ray.io/initializing-timeout: {{ . | quote }}
  {{- end }}
spec:
  excludeHeadPodFromServeSvc: {{ $workers }}
  rayClusterDeletionDelaySeconds: {{ int $.Values.ray.deletionDelaySeconds }}
  upgradeStrategy:
    type: {{ $.Values.ray.upgrade }}
  serveService:
    metadata:
      labels:
        {{- include "fairlead-model.labels" $ | nindent 8 }}
      {{- with $.Values.service.annotations }}
      annotations:
        {{- toYaml . | nindent 8 }}
      {{- end }}
    spec:
      type: {{ $.Values.service.type }}
      ports:
        - name: serve
          port: {{ int $.Values.service.port }}
          targetPort: 8000
          protocol: TCP
          {{- with $.Values.service.nodePort }}
          nodePort: {{ int . }}
          {{- end }}
  serveConfigV2: |
    {{- include "fairlead-model.serveConfig" (dict "root" $ "release" .release "record" .record) | nindent 4 }}
  rayClusterConfig:
    rayVersion: {{ $.Values.ray.version | quote }}
    authOptions:
      mode: token
      {{- with $.Values.ray.authSecret }}
      secretName: {{ . }}
      {{- end }}
    {{- with $.Values.ray.faultTolerance }}
    {{- if .redisAddress }}
    gcsFaultToleranceOptions:
      redisAddress: {{ .redisAddress | quote }}
      {{- if .existingSecret }}
      redisPassword:
        valueFrom:
          secretKeyRef:
            name: {{ .existingSecret }}
            key: password
      {{- end }}
    {{- end }}
    {{- end }}
    {{- if $autoscaling }}
    enableInTreeAutoscaling: true
    autoscalerOptions:
      version: v2
      idleTimeoutSeconds: {{ int $.Values.autoscaling.idleTimeoutSeconds }}
      securityContext:
        {{- include "fairlead-model.securityContext" $ | nindent 8 }}
      resources:
        requests: {cpu: 100m, memory: 512Mi}
        limits: {cpu: 500m, memory: 512Mi}
      volumeMounts:
        - name: tmp
          mountPath: /tmp
    {{- end }}
    headGroupSpec:
      rayStartParams:
        dashboard-host: "0.0.0.0"
        num-cpus: "0"
        object-store-memory: {{ int64 $.Values.ray.objectStoreBytes | quote }}
      template:
        metadata:
          labels:
            {{- include "fairlead-model.podLabels" $ | nindent 12 }}
            app.kubernetes.io/component: {{ .arm }}
          {{- with $.Values.podAnnotations }}
          annotations:
            {{- toYaml . | nindent 12 }}
          {{- end }}
        spec:
          {{- include "fairlead-model.podSpec" $ | nindent 10 }}
          automountServiceAccountToken: {{ $autoscaling }}
          {{- with include "fairlead-model.placement" $.Values.ray.head }}
          {{- . | trim | nindent 10 }}
          {{- end }}
          containers:
            - name: ray-head
              {{- include "fairlead-model.rayContainer" $ | nindent 14 }}
              readinessProbe:
                httpGet:
                  path: /api/healthz
                  port: 52365
                initialDelaySeconds: 5
                periodSeconds: 5
                timeoutSeconds: 5
                failureThreshold: 10
              lifecycle:
                {{- include "fairlead-model.preStop" $ | nindent 16 }}
              ports:
                - {name: gcs-server, containerPort: 6379}
                - {name: dashboard, containerPort: 8265}
                - {name: client, containerPort: 10001}
                - {name: serve, containerPort: 8000}
                - {name: metrics, containerPort: 8080}
              resources:
                {{- toYaml $.Values.ray.head.resources | nindent 16 }}
    workerGroupSpecs:
      {{- if not $workers }} []
      {{- else }}
      - groupName: serving
        replicas: {{ int $.Values.ray.workers.replicas }}
        minReplicas: {{ int $.Values.ray.workers.min }}
        maxReplicas: {{ int $.Values.ray.workers.max }}
        rayStartParams:
          object-store-memory: {{ int64 $.Values.ray.objectStoreBytes | quote }}
        template:
          metadata:
            labels:
              {{- include "fairlead-model.podLabels" $ | nindent 14 }}
              app.kubernetes.io/component: {{ .arm }}
            {{- with $.Values.podAnnotations }}
            annotations:
              {{- toYaml . | nindent 14 }}
            {{- end }}
          spec:
            {{- include "fairlead-model.podSpec" $ | nindent 12 }}
            automountServiceAccountToken: false
            {{- with include "fairlead-model.placement" $.Values.ray.workers }}
            {{- . | trim | nindent 12 }}
            {{- end }}
            containers:
              - name: ray-worker
                {{- include "fairlead-model.rayContainer" $ | nindent 16 }}
                readinessProbe:
                  # The node's HAProxy: a pod without it must get no requests. One that leaves gets none anyway, so there
                  # is time to tell slow from dead: a pod that is only slow may be the last one.
                  httpGet:
                    path: /-/healthz
                    port: serve
                  initialDelaySeconds: 5
                  periodSeconds: 2
                  timeoutSeconds: 5
                  failureThreshold: 3
                lifecycle:
                  {{- include "fairlead-model.preStop" $ | nindent 18 }}
                ports:
                  - {name: serve, containerPort: 8000}
                  - {name: metrics, containerPort: 8080}
                resources:
                  {{- toYaml $.Values.ray.workers.resources | nindent 18 }}
      {{- end }}
{{- end -}}
