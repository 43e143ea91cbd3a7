{{/* Values that contradict each other are refused here; types and ranges are the schema's. */}}
{{- define "fairlead-model.refuse" -}}
{{- fail (printf "\n\nfairlead-model: %s\n  why: %s\n  fix: %s\n" .what .why .fix) -}}
{{- end -}}

{{- define "fairlead-model.checks" -}}
{{- $t := .Values.traffic -}}
{{- $has := .Values.candidate.digest -}}
{{- if and (gt ($t.candidateWeight | float64) 0.0) (not $has) -}}
{{- include "fairlead-model.refuse" (dict "what" (printf "traffic.candidateWeight is %v without a candidate" $t.candidateWeight) "why" "nobody could answer that share" "fix" "set candidate, or traffic.candidateWeight=0") -}}
{{- end -}}
{{- if and (gt ($t.shadowPercent | float64) 0.0) (not $has) -}}
{{- include "fairlead-model.refuse" (dict "what" (printf "traffic.shadowPercent is %v without a candidate" $t.shadowPercent) "why" "nobody could get the copies" "fix" "set candidate, or traffic.shadowPercent=0") -}}
{{- end -}}
{{- end -}}
