{{/* A dictionary as a TOML file: (dict "path" "" "of" DICT). Helm's own toToml writes every number of
the values with a fraction, which a setting that counts does not take. A text, a number, a switch or a
list of them is the same in JSON. */}}
{{- define "osmo.toml" -}}
{{- range $name, $value := .of }}
{{- if not (or (kindIs "map" $value) (kindIs "invalid" $value)) }}
{{ include "osmo.key" $name }} = {{ toJson $value }}
{{- end }}
{{- end }}
{{- range $name, $value := .of }}
{{- if kindIs "map" $value }}
{{- $path := printf "%s%s" $.path (include "osmo.key" $name) }}
{{- $inner := include "osmo.toml" (dict "path" (printf "%s." $path) "of" $value) }}
{{- if not (hasPrefix "\n\n[" $inner) }}

[{{ $path }}]
{{- end }}
{{- $inner }}
{{- end }}
{{- end }}
{{- end }}

{{- define "osmo.key" -}}
{{ if regexMatch "^[A-Za-z0-9_-]+$" . }}{{ . }}{{ else }}{{ toJson . }}{{ end }}
{{- end }}
