{{/* The fields of a Release (fairlead.records.release) that a person or a rollout sets; its generation is the revision. */}}
{{- define "fairlead-model.arm" -}}
{{- dict "version" (int .version) "bundle_uri" .bundleUri "digest" .digest | toJson -}}
{{- end -}}

{{/* "true" or nothing. A value that was set to null is no map. */}}
{{- define "fairlead-model.hasCandidate" -}}
{{- with .Values.candidate }}{{ if .digest }}true{{ end }}{{ end -}}
{{- end -}}

{{/* What one arm alone is told, where the split is outside of the pods. */}}
{{- define "fairlead-model.armRelease" -}}
{{- dict "model" .root.Values.model "champion" (include "fairlead-model.arm" .arm | fromJson) "candidate" nil | toJson -}}
{{- end -}}

{{/* What is counted for each key of an A/B test or a bandit, or null, in an object: fromJson reads nothing else. */}}
{{- define "fairlead-model.outcome" -}}
{{- $found := dict "rule" nil -}}
{{- with .Values.traffic.outcome -}}
{{- $_ := set $found "rule" (dict "metric" .metric "horizon_seconds" .horizonSeconds "low" .low "high" .high "binary" .binary "missing" .missing) -}}
{{- end -}}
{{- $found | toJson -}}
{{- end -}}

{{- define "fairlead-model.release" -}}
{{- $candidate := dict "arm" nil -}}
{{- if include "fairlead-model.hasCandidate" . -}}
{{- $_ := set $candidate "arm" (include "fairlead-model.arm" .Values.candidate | fromJson) -}}
{{- end -}}
{{- dict
  "model" .Values.model
  "champion" (include "fairlead-model.arm" .Values.champion | fromJson)
  "candidate" $candidate.arm
  "candidate_weight" .Values.traffic.candidateWeight
  "shadow_percent" .Values.traffic.shadowPercent
  "rollout" .Values.traffic.rollout
  "note" .Values.traffic.note
  "latency_bound_ms" .Values.traffic.latencyBoundMs
  "outcome" (include "fairlead-model.outcome" . | fromJson).rule
  "label_horizon_seconds" .Values.traffic.labelHorizonSeconds
  "slices" (.Values.traffic.slices | default list)
  | toJson -}}
{{- end -}}

{{/* The Serve section, with the key that keeps a client on one arm. */}}
{{- define "fairlead-model.serve" -}}
{{- $serve := deepCopy .Values.serve -}}
{{- with .Values.traffic.sticky -}}
{{- $_ := set $serve "sticky" . -}}
{{- end -}}
{{- $serve | toJson -}}
{{- end -}}
