{{/*
Everything of one program: its configuration, its pods, and how many of them may be away.

  root       $
  component  operator, worker, listener, web: also the name of its values
  program    the command, as a list
  settings   what the chart decides of its configuration; the user's `config` has the rest
  drain      seconds that a stop may take by the settings
  env        environment variables, as a list in YAML
  ports      by name, beside that of operations
  page       whether it has a page instead of a port of operations
  files      by name: what else stands in /etc/osmo/config; none if it is left out
  secrets    by name of the folder in /etc/osmo: the Secret that is mounted there, or an empty text
  passwords  of "queue" and "store" those that it uses, whose password may be in a Secret
  account    the service account, whose token is mounted; or an empty text
  audience   that of a token of the account for somebody else, in /etc/osmo/token; or an empty text
  scaled     whether somebody else says how many there are
*/}}
{{- define "osmo.program" -}}
{{- $root := .root }}
{{- $values := index $root.Values .component }}
{{- $settings := .settings }}
{{- if not .page }}
{{- $settings = merge (dict "operations" (printf "%s:%d" $root.Values.bindAddress (int $root.Values.operationsPort))) $settings }}
{{- end }}
{{- range $name, $value := $settings }}
{{- if and (hasKey $values.config $name) (not (kindIs "map" $value)) }}
{{- fail (printf "%s.config.%s cannot be set: it follows from other values of the chart" $.component $name) }}
{{- end }}
{{- end }}
{{- range $name := list "queue" "store" }}
{{- if hasKey $values.config $name }}
{{- fail (printf "%s.config.%s cannot be set: it follows from %s.url or %s.urlSecret" $.component $name $name $name) }}
{{- end }}
{{- end }}
{{- $passwords := list }}
{{- range .passwords }}
{{- if (index $root.Values .).passwordSecret.name }}
{{- $passwords = append $passwords . }}
{{- $_ := set $settings (printf "%s_password_file" .) (printf "/etc/osmo/%s-password/password" .) }}
{{- end }}
{{- end }}
{{- $config := include "osmo.toml" (dict "path" "" "of" (mergeOverwrite (deepCopy $values.config) $settings)) }}
apiVersion: v1
kind: ConfigMap
metadata:
  {{- include "osmo.metadata" . | nindent 2 }}
data:
  config.toml: |
    {{- $config | trim | nindent 4 }}
  {{- range $name, $content := .files }}
  {{ $name }}: {{ $content | quote }}
  {{- end }}
---
apiVersion: apps/v1
kind: Deployment
metadata:
  {{- include "osmo.metadata" . | nindent 2 }}
spec:
  {{- if not .scaled }}
  replicas: {{ $values.replicas }}
  {{- end }}
  selector:
    matchLabels:
      {{- include "osmo.selector" . | nindent 6 }}
  strategy:
    # The new one is ready before the old one is asked to stop.
    rollingUpdate: {maxSurge: 1, maxUnavailable: 0}
  template:
    metadata:
      labels:
        {{- include "osmo.selector" . | nindent 8 }}
      annotations:
        # A change of the configuration is a rolling update.
        checksum/config: {{ sha256sum $config }}
        {{- with $values.podAnnotations }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    spec:
      {{- if .account }}
      serviceAccountName: {{ .account }}
      {{- end }}
      automountServiceAccountToken: {{ not (not .account) }}
      # Variables named after Services, such as OSMO_OPERATOR_PORT, would look like settings.
      enableServiceLinks: false
      # What is asked to stop drains first, and then says goodbye.
      terminationGracePeriodSeconds: {{ add 20 (ceil .drain) }}
      securityContext:
        runAsNonRoot: true
        runAsUser: 1001
        runAsGroup: 1001
        fsGroup: 1001
        seccompProfile: {type: RuntimeDefault}
      {{- with $root.Values.image.pullSecrets }}
      imagePullSecrets:
        {{- range . }}
        - name: {{ . }}
        {{- end }}
      {{- end }}
      containers:
        - name: {{ .component }}
          image: {{ include "osmo.image" $root | quote }}
          imagePullPolicy: {{ $root.Values.image.pullPolicy }}
          args: {{ concat .program (list "--config" "/etc/osmo/config/config.toml") | toJson }}
          {{- $env := concat (.env | fromYamlArray) $values.env }}
          {{- with $env }}
          env:
            {{- toYaml . | nindent 12 }}
          {{- end }}
          ports:
            {{- range $name, $port := .ports }}
            - {name: {{ $name }}, containerPort: {{ $port }}}
            {{- end }}
            {{- if not .page }}
            - {name: operations, containerPort: {{ $root.Values.operationsPort }}}
            {{- end }}
          {{- /* The page answers to the address of its pod, by which a kubelet asks. */}}
          {{- $port := .page | ternary "web" "operations" }}
          # Never fails because somebody else is down.
          livenessProbe:
            httpGet: {path: {{ .page | ternary "/" "/livez" }}, port: {{ $port }}}
            periodSeconds: 10
            timeoutSeconds: 5
            failureThreshold: 3
          readinessProbe:
            httpGet: {path: {{ .page | ternary "/" "/readyz" }}, port: {{ $port }}}
            periodSeconds: 5
            timeoutSeconds: 5
            failureThreshold: 2
          # The port is open as soon as the program runs, however long its first list takes.
          startupProbe:
            httpGet: {path: {{ .page | ternary "/" "/livez" }}, port: {{ $port }}}
            periodSeconds: 1
            timeoutSeconds: 5
            failureThreshold: 60
          resources:
            {{- toYaml $values.resources | nindent 12 }}
          securityContext:
            allowPrivilegeEscalation: false
            readOnlyRootFilesystem: true
            capabilities: {drop: [ALL]}
          volumeMounts:
            - {name: config, mountPath: /etc/osmo/config, readOnly: true}
            {{- range $folder, $secret := .secrets }}
            {{- if $secret }}
            - {name: {{ $folder }}, mountPath: /etc/osmo/{{ $folder }}, readOnly: true}
            {{- end }}
            {{- end }}
            {{- range $passwords }}
            - {name: {{ . }}-password, mountPath: /etc/osmo/{{ . }}-password, readOnly: true}
            {{- end }}
            {{- if .audience }}
            - {name: identity, mountPath: /etc/osmo/token, readOnly: true}
            {{- end }}
      volumes:
        - name: config
          configMap: {name: {{ include "osmo.fullname" $root }}-{{ .component }}}
        # Whole folders, which follow their Secret: single files would stay as they are.
        {{- range $folder, $secret := .secrets }}
        {{- if $secret }}
        - name: {{ $folder }}
          secret: {secretName: {{ $secret }}, defaultMode: 0440}
        {{- end }}
        {{- end }}
        {{- range $passwords }}
        - name: {{ . }}-password
          secret:
            secretName: {{ (index $root.Values .).passwordSecret.name }}
            defaultMode: 0440
            # Its own alone.
            items: [{key: {{ include "osmo.passwordKey" (dict "root" $root "name" . "component" $.component) | quote }}, path: password}]
        {{- end }}
        {{- with .audience }}
        - name: identity
          projected:
            defaultMode: 0440
            sources:
              # The kubelet renews it long before it ends.
              - serviceAccountToken: {path: token, audience: {{ . | quote }}, expirationSeconds: 3600}
        {{- end }}
      {{- with $values.nodeSelector }}
      nodeSelector:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $values.tolerations }}
      tolerations:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $values.affinity }}
      affinity:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      topologySpreadConstraints:
        {{- with $values.topologySpreadConstraints }}
        {{- toYaml . | nindent 8 }}
        {{- else }}
        {{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
        - maxSkew: 1
          topologyKey: {{ . }}
          whenUnsatisfiable: ScheduleAnyway
          labelSelector:
            matchLabels:
              {{- include "osmo.selector" $ | nindent 14 }}
        {{- end }}
        {{- end }}
{{- if $root.Values.podDisruptionBudget.enabled }}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  {{- include "osmo.metadata" . | nindent 2 }}
spec:
  # Of one alone too, or its node could never be drained.
  maxUnavailable: 1
  # What is not ready serves nobody, and holds up nobody.
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels:
      {{- include "osmo.selector" . | nindent 6 }}
{{- end }}
{{- end }}
