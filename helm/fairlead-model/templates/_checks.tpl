{{/* Values that contradict each other are refused here; types and ranges are the schema's, and those of the traffic are
checked once more, because --skip-schema-validation is there. */}}
{{- define "fairlead-model.refuse" -}}
{{- fail (printf "\n\nfairlead-model refuses these values: %s\n  why: %s\n  fix: %s\n" .what .why .fix) -}}
{{- end -}}

{{- define "fairlead-model.checks" -}}
{{- include "fairlead-model.checkModel" . -}}
{{- include "fairlead-model.checkTraffic" . -}}
{{- include "fairlead-model.checkImage" . -}}
{{- if eq .Values.backend "ray" -}}
{{- include "fairlead-model.checkRay" . -}}
{{- else -}}
{{- include "fairlead-model.checkSeldon" . -}}
{{- end -}}
{{- end -}}

{{- define "fairlead-model.checkModel" -}}
{{- $name := include "fairlead-model.fullname" . -}}
{{- if not .Values.model -}}
{{- include "fairlead-model.refuse" (dict "what" "model is empty" "why" "a release serves one model" "fix" "--set model=NAME") -}}
{{- end -}}
{{- if not .Values.champion.digest -}}
{{- include "fairlead-model.refuse" (dict "what" "champion is empty" "why" "without a version nothing can be served" "fix" "set champion.version, champion.bundleUri and champion.digest (fairlead model show champion)") -}}
{{- end -}}
{{- if not (hasPrefix "s3://" .Values.store.uri) -}}
{{- include "fairlead-model.refuse" (dict "what" (printf "store.uri is %q" .Values.store.uri) "why" "pods share nothing but the store, so it must be S3" "fix" "--set store.uri=s3://BUCKET/PREFIX, the project's store") -}}
{{- end -}}
{{- if gt (len $name) 37 -}}
{{- include "fairlead-model.refuse" (dict "what" (printf "the name %s has %d characters" $name (len $name)) "why" "KubeRay takes 47, of which an arm's name needs 10" "fix" "a release name or fullnameOverride of 37 characters at most") -}}
{{- end -}}
{{- end -}}

{{- define "fairlead-model.checkTraffic" -}}
{{- $t := .Values.traffic -}}
{{- $c := default dict .Values.candidate -}}
{{- $weight := float64 $t.candidateWeight -}}
{{- $shadow := float64 $t.shadowPercent -}}
{{- if or (gt $weight 100.0) (lt $weight 0.0) -}}
{{- include "fairlead-model.refuse" (dict "what" (printf "traffic.candidateWeight is %v" $t.candidateWeight) "why" "it is the candidate's share in percent; the champion has the rest of 100" "fix" "a number from 0 to 100") -}}
{{- end -}}
{{- if or (gt $shadow 100.0) (lt $shadow 0.0) -}}
{{- include "fairlead-model.refuse" (dict "what" (printf "traffic.shadowPercent is %v" $t.shadowPercent) "why" "it is the share of requests that are copied, in percent" "fix" "a number from 0 to 100") -}}
{{- end -}}
{{- if or $c.digest $c.bundleUri (gt (int $c.version) 0) -}}
{{- if not (and $c.digest $c.bundleUri (gt (int $c.version) 0)) -}}
{{- include "fairlead-model.refuse" (dict "what" "candidate is incomplete" "why" "what is tried must be found and verified" "fix" "set candidate.version, candidate.bundleUri and candidate.digest, or none of them") -}}
{{- end -}}
{{- if eq $c.digest .Values.champion.digest -}}
{{- include "fairlead-model.refuse" (dict "what" "the candidate is the champion" "why" "both have the same digest, so there is nothing to try" "fix" "clear candidate, or name another version") -}}
{{- end -}}
{{- else -}}
{{- if gt $weight 0.0 -}}
{{- include "fairlead-model.refuse" (dict "what" (printf "traffic.candidateWeight is %v without a candidate" $t.candidateWeight) "why" "nobody could answer that share" "fix" "set candidate, or traffic.candidateWeight=0") -}}
{{- end -}}
{{- if gt $shadow 0.0 -}}
{{- include "fairlead-model.refuse" (dict "what" (printf "traffic.shadowPercent is %v without a candidate" $t.shadowPercent) "why" "nobody could get the copies" "fix" "set candidate, or traffic.shadowPercent=0") -}}
{{- end -}}
{{- end -}}
{{- if and $t.sticky .Values.serve.sticky -}}
{{- if ne $t.sticky .Values.serve.sticky -}}
{{- include "fairlead-model.refuse" (dict "what" "traffic.sticky and serve.sticky differ" "why" "a client is kept on one arm by one key" "fix" "set one of them") -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "fairlead-model.checkImage" -}}
{{- if not .Values.image.repository -}}
{{- include "fairlead-model.refuse" (dict "what" "image.repository is empty" "why" "the chart knows no registry of yours" "fix" "--set image.repository=REGISTRY/fairlead-serving") -}}
{{- end -}}
{{- if not (or .Values.image.tag .Values.image.digest) -}}
{{- include "fairlead-model.refuse" (dict "what" "image has neither tag nor digest" "why" "pods of one release would run whatever is newest" "fix" "set image.digest (images.lock has it), or image.tag") -}}
{{- end -}}
{{- if eq .Values.image.tag "latest" -}}
{{- include "fairlead-model.refuse" (dict "what" "image.tag is latest" "why" "pods of one release would run whatever is newest" "fix" "set image.digest (images.lock has it), or another tag") -}}
{{- end -}}
{{- range .Values.env -}}
{{- if hasPrefix "RAY_AUTH" .name -}}
{{- include "fairlead-model.refuse" (dict "what" (printf "env sets %s" .name) "why" "Ray's ports execute code, so its token authentication stays on" "fix" "leave it out; ray.authSecret names a token of your own") -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "fairlead-model.checkRay" -}}
{{- with .Values.ray.workers -}}
{{- if or (lt (int .replicas) (int .min)) (gt (int .replicas) (int .max)) -}}
{{- include "fairlead-model.refuse" (dict "what" (printf "ray.workers.replicas is %d, outside of min %d to max %d" (int .replicas) (int .min) (int .max)) "why" "KubeRay would set it back" "fix" "ray.workers.min <= replicas <= max") -}}
{{- end -}}
{{- end -}}
{{- with .Values.autoscaling -}}
{{- if and .enabled (gt (int .minReplicas) (int .maxReplicas)) -}}
{{- include "fairlead-model.refuse" (dict "what" "autoscaling.minReplicas is above autoscaling.maxReplicas" "why" "no number of replicas fits" "fix" "minReplicas <= maxReplicas") -}}
{{- end -}}
{{- end -}}
{{- if .Values.gateway.enabled -}}
{{- if not .Values.gateway.parentRefs -}}
{{- include "fairlead-model.refuse" (dict "what" "gateway.enabled without gateway.parentRefs" "why" "a route that is attached to no Gateway gets no requests" "fix" "gateway.parentRefs: [{name: GATEWAY, namespace: NAMESPACE}]") -}}
{{- end -}}
{{- if or .Values.traffic.sticky .Values.serve.sticky -}}
{{- include "fairlead-model.refuse" (dict "what" "sticky with gateway.enabled" "why" "an HTTPRoute splits each request anew and cannot keep a client on one arm" "fix" "clear traffic.sticky and serve.sticky, or gateway.enabled=false") -}}
{{- end -}}
{{- if .Values.service.nodePort -}}
{{- include "fairlead-model.refuse" (dict "what" "service.nodePort with gateway.enabled" "why" "both arms' Services would want the same port" "fix" "clear service.nodePort") -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "fairlead-model.checkSeldon" -}}
{{- $t := .Values.traffic -}}
{{- if .Values.gateway.enabled -}}
{{- include "fairlead-model.refuse" (dict "what" (printf "gateway.enabled with backend %s" .Values.backend) "why" "Seldon splits traffic itself" "fix" "gateway.enabled=false, or backend=ray") -}}
{{- end -}}
{{- if or $t.sticky .Values.serve.sticky -}}
{{- include "fairlead-model.refuse" (dict "what" (printf "sticky with backend %s" .Values.backend) "why" "Seldon splits each request anew and cannot keep a client on one arm" "fix" "clear traffic.sticky and serve.sticky, or backend=ray") -}}
{{- end -}}
{{- if or (ne (float64 $t.candidateWeight) (float64 (int $t.candidateWeight))) (ne (float64 $t.shadowPercent) (float64 (int $t.shadowPercent))) -}}
{{- include "fairlead-model.refuse" (dict "what" (printf "traffic of %v and %v percent with backend %s" $t.candidateWeight $t.shadowPercent .Values.backend) "why" "Seldon takes whole percents that sum to 100" "fix" "round them, or backend=ray") -}}
{{- end -}}
{{- if and (eq .Values.backend "seldon") (gt (int $t.candidateWeight) 0) (gt (int $t.shadowPercent) 0) -}}
{{- include "fairlead-model.refuse" (dict "what" "the candidate gets traffic and copies with backend seldon" "why" "a predictor of a SeldonDeployment is a shadow or has traffic" "fix" "set traffic.candidateWeight or traffic.shadowPercent to 0, or backend=ray") -}}
{{- end -}}
{{- end -}}
