{{- define "usher.name" -}}
{{- if contains "usher" .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-usher" (.Release.Name | trunc 34 | trimSuffix "-") -}}
{{- end -}}
{{- end -}}

{{- define "usher.selector" -}}
app.kubernetes.io/name: usher
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* What every object carries. */}}
{{- define "usher.labels" -}}
{{ include "usher.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "usher.prepullSelector" -}}
app.kubernetes.io/name: usher-prepull
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* Usher's pods as a peer of a NetworkPolicy of another namespace. */}}
{{- define "usher.peer" -}}
namespaceSelector:
  matchLabels:
    kubernetes.io/metadata.name: {{ .Release.Namespace }}
podSelector:
  matchLabels: {{- include "usher.selector" . | nindent 4 }}
{{- end -}}

{{/* What the operator names as the cluster's own: networks of one family, "four" or "six". */}}
{{- define "usher.ownNetworks" -}}
{{- $all := concat (.root.Values.networkPolicies.workspaces.never | default list) (.root.Values.workspaces.podNetworks | default list) -}}
{{- range uniq $all -}}
{{- if eq (contains ":" .) (eq $.family "six") }}
- {{ . }}
{{- end -}}
{{- end -}}
{{- end -}}

{{/*
Public addresses as peers of a NetworkPolicy, without what is the cluster's own; empty if nothing is left.
The API refuses an `except` that is not a true part of its `cidr`: a network as wide as the block shuts all of it, and one
of IPv6 outside of the block is shut already. IPv6 is open only where its networks are named: none of them is known else.
*/}}
{{- define "usher.publicBlocks" -}}
{{- $four := include "usher.ownNetworks" (dict "root" . "family" "four") -}}
{{- $six := include "usher.ownNetworks" (dict "root" . "family" "six") -}}
{{- if not (regexMatch "(?m)/0+$" $four) }}
- ipBlock:
    cidr: 0.0.0.0/0
    except:
      # This network, private networks, carriers' NAT, loopback, link-local with the metadata of most clouds,
      # IETF's own with Oracle's, multicast, reserved; and Azure's wire server.
      - 0.0.0.0/8
      - 10.0.0.0/8
      - 100.64.0.0/10
      - 127.0.0.0/8
      - 169.254.0.0/16
      - 172.16.0.0/12
      - 192.0.0.0/24
      - 192.168.0.0/16
      - 224.0.0.0/4
      - 240.0.0.0/4
      - 168.63.129.16/32
      {{- with $four }}
      {{- . | trim | nindent 6 }}
      {{- end }}
{{- end }}
{{- if and $six (not (regexMatch "(?m)/0*[0-3]$" $six)) }}
- ipBlock:
    cidr: 2000::/3
    {{- with regexFindAll "(?m)^- [23][0-9a-fA-F]{3}:.*$" $six -1 }}
    except:
      {{- join "\n" . | nindent 6 }}
    {{- end }}
{{- end }}
{{- end -}}

{{/* "true" where the listener speaks TLS. */}}
{{- define "usher.https" -}}
{{- if or .Values.tls.secret .Values.acme.directory }}true{{ end -}}
{{- end -}}

{{- define "usher.scheme" -}}
{{ ternary "https" "http" (ne (include "usher.https" .) "") }}
{{- end -}}

{{/* The Service's port that answers http-01 and leads to https; empty = there is none. */}}
{{- define "usher.redirectPort" -}}
{{- if include "usher.https" . -}}
{{- with .Values.service.redirectPort | default (ternary 80 0 (ne .Values.acme.directory "")) }}{{ . | int }}{{ end -}}
{{- end -}}
{{- end -}}

{{/* What the restricted profile wants of every pod. No image needs to know this user. */}}
{{- define "usher.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{/* What it wants of every container, and that nothing is written but to volumes. */}}
{{- define "usher.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{- define "usher.image" -}}
{{- with .Values.image -}}
{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end -}}
{{- end -}}

{{- define "usher.named" -}}
{{- range . }}
- name: {{ . }}
{{- end }}
{{- end -}}

{{/* Where the container listens: above 1024, so that it needs no right for it. */}}
{{- define "usher.listenPort" -}}
{{ ternary 8443 8080 (ne (include "usher.https" .) "") }}
{{- end -}}

{{- define "usher.servicePort" -}}
{{ .Values.service.port | default (ternary 443 80 (ne (include "usher.https" .) "")) | int }}
{{- end -}}

{{- define "usher.publicPort" -}}
{{ .Values.publicPort | default (include "usher.servicePort" .) | int }}
{{- end -}}

{{/* An origin without the port that goes without saying. */}}
{{- define "usher.origin" -}}
{{- $port := include "usher.publicPort" .root -}}
{{- $usual := ternary "443" "80" (ne (include "usher.https" .root) "") -}}
{{ include "usher.scheme" .root }}://{{ .host }}{{ if ne $port $usual }}:{{ $port }}{{ end }}
{{- end -}}

{{/* The drain's last words take up to 8 s (proxy/src/drain.rs); the rest is for a busy node. */}}
{{- define "usher.gracePeriod" -}}
{{ add .Values.drain.delay .Values.drain.after .Values.drain.spread 8 12 }}
{{- end -}}

{{/* Whoever may start a pod in a namespace can read every Secret of it: workspaces never run beside records. */}}
{{- define "usher.check" -}}
{{- if and .Values.tls.secret .Values.acme.directory -}}
{{- fail "tls.secret and acme.directory are two sources of one certificate: leave one of them out" -}}
{{- end -}}
{{- if has .Release.Namespace .Values.workspaces.namespaces -}}
{{- fail (printf "workspaces.namespaces must not have %q, the release's own namespace: whoever starts a pod there can read the records and keys of Usher" .Release.Namespace) -}}
{{- end -}}
{{- end -}}

{{/* Whoever may patch a Deployment can let its pods read every Secret beside it. */}}
{{- define "usher.checkRoutes" -}}
{{- range .Values.routes -}}
{{- if eq .namespace $.Release.Namespace -}}
{{- fail (printf "routes must not lead into %q, the release's own namespace: whoever may change a pod there can read the records and keys of Usher" .namespace) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "usher.configSource" -}}
{{- with .Values.existingConfig -}}
{{- if .secret -}}
secret: {secretName: {{ .secret }}, items: [{key: {{ .key | quote }}, path: usher.toml}]}
{{- else if .configMap -}}
configMap: {name: {{ .configMap }}, items: [{key: {{ .key | quote }}, path: usher.toml}]}
{{- else -}}
configMap: {name: {{ include "usher.name" $ }}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The whole of usher.toml: root keys first, as TOML wants it, then the operator's text, then tables. */}}
{{- define "usher.toml" -}}
domain = {{ .Values.domain | quote }}
{{- with .Values.portal }}
portal = {{ . | quote }}
{{- end }}
state_dir = "/var/lib/usher/state"
driver = "kubernetes"
{{ .Values.config | trimSuffix "\n" }}

[[listeners]]
address = ["0.0.0.0:{{ include "usher.listenPort" . }}", "[::]:{{ include "usher.listenPort" . }}"]
public_port = {{ include "usher.publicPort" . }}
{{- if include "usher.https" . }}
protocol = "https"
{{- end }}
{{- if .Values.proxyProtocol }}
proxy_protocol = true
{{- end }}
{{- if include "usher.redirectPort" . }}

[[listeners]]
address = ["0.0.0.0:8080", "[::]:8080"]
protocol = "redirect"
{{- if .Values.proxyProtocol }}
proxy_protocol = true
{{- end }}
{{- end }}
{{- with .Values.tls.secret }}

[certificates.site]
source = "secret"
secret = {{ . | quote }}
{{- end }}
{{- with .Values.acme }}
{{- if .directory }}

[certificates.site]
source = "acme"
authorities = ["site"]
challenge = {{ .challenge | quote }}
per_host = {{ ne .challenge "dns-01" }}

[acme.site]
directory = {{ .directory | quote }}
terms_of_service_agreed = {{ .termsOfServiceAgreed }}
{{- with .contact }}
contact = {{ toJson . }}
{{- end }}
{{- end }}
{{- end }}

[admin]
address = "{{ ternary (printf "[%s]" .Values.adminIp) .Values.adminIp (contains ":" .Values.adminIp) }}:9090"

[kubernetes]
namespace = {{ first .Values.workspaces.namespaces | quote }}
{{- with rest .Values.workspaces.namespaces }}
more_namespaces = {{ toJson . }}
{{- end }}
{{- with .Values.workspaces.podNetworks }}
pod_networks = {{ toJson . }}
{{- end }}

[drain]
delay = "{{ .Values.drain.delay | int }}s"
after = "{{ .Values.drain.after | int }}s"
spread = "{{ .Values.drain.spread | int }}s"
{{ end -}}
