{{- define "osmo.fullname" -}}
{{ .Values.fullnameOverride | default .Release.Name | trunc 40 | trimSuffix "-" }}
{{- end }}

{{/* Of the objects of one component: (dict "root" $ "component" "worker"). */}}
{{- define "osmo.selector" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "osmo.labels" -}}
{{ include "osmo.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "osmo.metadata" -}}
name: {{ include "osmo.fullname" .root }}-{{ .component }}
namespace: {{ .root.Release.Namespace }}
labels:
  {{- include "osmo.labels" . | nindent 2 }}
{{- end }}

{{- define "osmo.image" -}}
{{- with .Values.image -}}
{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end }}
{{- end }}

{{/* The service account of operators that ask the API server whose a token is; empty: none does. */}}
{{- define "osmo.reviewer" -}}
{{- range .Values.operator.auth }}
{{- if and (regexMatch "^kubernetes([?]|$)" .) (not (contains "kubeconfig=" .)) -}}
{{ include "osmo.fullname" $ }}-operator
{{- break }}
{{- end }}
{{- end }}
{{- end }}

{{- define "osmo.serviceAccount" -}}
{{ .Values.listener.serviceAccount.name | default (printf "%s-listener" (include "osmo.fullname" .)) }}
{{- end }}
