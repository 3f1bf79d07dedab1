{{- /* Names are fixed: the Service's is in certificates, the accounts' are what security reviews look for. */ -}}

{{- define "slicewise.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "slicewise.placement" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- /* What a registration of files/ becomes here: (list $ NAME) */ -}}
{{- define "slicewise.registration" -}}
{{- $root := index . 0 -}}
{{- $values := $root.Values -}}
{{- $document := $root.Files.Get (printf "files/%s.yaml" (index . 1)) | fromYaml -}}
{{- if eq $values.certificates.source "cert-manager" -}}
{{- $from := printf "%s/slicewise-webhook" $root.Release.Namespace -}}
{{- $_ := set $document.metadata "annotations" (dict "cert-manager.io/inject-ca-from" $from) -}}
{{- end -}}
{{- range $document.webhooks -}}
{{- $_ := set .clientConfig.service "namespace" $root.Release.Namespace -}}
{{- if eq $values.certificates.source "secret" -}}
{{- $_ := set .clientConfig "caBundle" (b64enc $values.certificates.caBundle) -}}
{{- end -}}
{{- if .namespaceSelector -}}
{{- $_ := set . "failurePolicy" $values.webhook.failurePolicy -}}
{{- $_ := set . "timeoutSeconds" $values.webhook.timeoutSeconds -}}
{{- range .namespaceSelector.matchExpressions -}}
{{- if eq .key "kubernetes.io/metadata.name" -}}
{{- $names := concat .values $values.webhook.excludedNamespaces (list $root.Release.Namespace) -}}
{{- $_ := set . "values" ($names | uniq | sortAlpha) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if or (hasPrefix "workloads." .name) (hasPrefix "repeats-" .name) -}}
{{- $rules := .rules -}}
{{- $operations := (first .rules).operations -}}
{{- range $values.webhook.kinds -}}
{{- if ne .scope "Cluster" -}}
{{- $resource := .resource | default (printf "%ss" (lower .kind)) -}}
{{- $versions := .versions | default (list "v1") -}}
{{- $rule := dict "operations" $operations "apiGroups" (list (.group | default "")) "apiVersions" $versions -}}
{{- $rules = append $rules (merge $rule (dict "resources" (list $resource) "scope" "Namespaced")) -}}
{{- end -}}
{{- end -}}
{{- $_ := set . "rules" $rules -}}
{{- end -}}
{{- end -}}
{{- toYaml $document -}}
{{- end -}}
