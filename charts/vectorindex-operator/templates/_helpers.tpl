{{/* Name of all that is installed: the release's, with the chart's unless that is part of it. */}}
{{- define "vectorindex.fullname" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* What selects the operator's pod; never changes within a release. */}}
{{- define "vectorindex.selectorLabels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* Labels of every object. Helm adds app.kubernetes.io/managed-by itself. */}}
{{- define "vectorindex.labels" -}}
{{ include "vectorindex.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end -}}

{{- define "vectorindex.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{- printf "%s@%s" .repository .digest -}}
{{- else -}}
{{- printf "%s:%s" .repository (.tag | default $.Chart.AppVersion) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The operator's rights: what its code calls, and nothing else. It deletes runs, when their time to live is over; owner references do the rest. In its own namespace it has a few more. */}}
{{- define "vectorindex.rules" -}}
# What users write is only read, and deleted where they ask for that (ttlSecondsAfterFinished) …
- apiGroups: [vectorindex.io]
  resources: [vectorindexes]
  verbs: [get, list, watch]
- apiGroups: [vectorindex.io]
  resources: [indexdeletes, indexrebuilds, indexoptimizes]
  verbs: [get, list, watch, delete]
# … and answered in the status.
- apiGroups: [vectorindex.io]
  resources: [vectorindexes/status, indexdeletes/status, indexrebuilds/status, indexoptimizes/status]
  verbs: [patch]
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch]
# The objects of an index, by server-side apply; a ConfigMap may also hold the IDs of an IndexDelete.
- apiGroups: [""]
  resources: [configmaps, services]
  verbs: [get, list, watch, create, patch]
- apiGroups: [apps]
  resources: [statefulsets]
  verbs: [get, list, watch, create, patch]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create]
{{- end -}}
