{{/* The hosts of a URL, with their ports: what is between the credentials and the path. */}}
{{- define "osmo.hosts" -}}
{{ regexReplaceAll "[/?].*$" (regexReplaceAll "^[a-z+]+://([^@/]*@)?" . "") "" }}
{{- end }}

{{/* The ports of a URL, as rules of a NetworkPolicy: (dict "url" URL "port" 6379), where `port` is
that of a URL which names none, or is not known. */}}
{{- define "osmo.ports" -}}
{{- $hosts := regexReplaceAll "\\[[^]]*\\]" (include "osmo.hosts" .url) "" -}}
{{- $found := regexFindAll ":[0-9]+" $hosts -1 | uniq -}}
{{- range $found | default (list (printf ":%d" (int .port))) }}
- {protocol: TCP, port: {{ trimPrefix ":" . }}}
{{- end }}
{{- end }}

{{/* An environment variable with the URL of the queue or the store: (dict "root" $ "name" "queue"
"component" "operator"). */}}
{{- define "osmo.url" -}}
{{- $given := index .root.Values .name -}}
{{- $user := get $given.users .component -}}
- name: OSMO_{{ upper .name }}
{{- if and $user $given.urlSecret.name }}
{{- fail (printf "%s.users and %s.urlSecret exclude each other: the URL in the Secret names its user" .name .name) }}
{{- else if $given.urlSecret.name }}
  valueFrom:
    secretKeyRef: {name: {{ $given.urlSecret.name }}, key: {{ $given.urlSecret.key }}}
{{- else }}
{{- $url := required (printf "say where the %s is: %s.url, or %s.urlSecret.name where it holds a password" .name .name .name) $given.url }}
  value: {{ ternary (regexReplaceAll "^([a-z]+://)([^@/]*@)?" $url (printf "${1}%s@" $user)) $url (not (empty $user)) | quote }}
{{- end }}
{{- end }}

{{/* The key of a program's password in the Secret of the queue or the store: (dict "root" $ "name"
"queue" "component" "operator"). */}}
{{- define "osmo.passwordKey" -}}
{{- $given := index .root.Values .name -}}
{{ get $given.users .component | default $given.passwordSecret.key }}
{{- end }}

{{/* What the scheme of the operator's URLs ends with. */}}
{{- define "osmo.secure" -}}
{{ if .Values.operator.tls.secret }}s{{ end }}
{{- end }}

{{/* Where listeners of this release connect. */}}
{{- define "osmo.connect" -}}
{{- if .Values.listener.connect -}}
{{ .Values.listener.connect }}
{{- else if not .Values.operator.enabled -}}
{{ fail "say where the operator is: listener.connect" }}
{{- else -}}
{{- $secure := include "osmo.secure" . -}}
{{- $host := printf "%s-operator.%s.svc" (include "osmo.fullname" .) .Release.Namespace -}}
{{- with .Values.operator.ports -}}
{{ if .ws }}ws{{ $secure }}://{{ $host }}:{{ .ws }}{{ else }}grpc{{ $secure }}://{{ $host }}:{{ .grpc }}{{ end }}
{{- end }}
{{- end }}
{{- end }}
