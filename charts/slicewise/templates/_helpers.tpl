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

{{- /* Labels of an object: (dict "root" $ "component" NAME), and "more" for labels beside the customary ones. */ -}}
{{- define "slicewise.labels" -}}
{{- $root := .root -}}
{{- $own := dict "app.kubernetes.io/name" "slicewise" "app.kubernetes.io/part-of" "slicewise" -}}
{{- $_ := set $own "app.kubernetes.io/instance" $root.Release.Name -}}
{{- $_ := set $own "app.kubernetes.io/version" $root.Chart.AppVersion -}}
{{- $_ := set $own "app.kubernetes.io/managed-by" $root.Release.Service -}}
{{- $_ := set $own "helm.sh/chart" (printf "%s-%s" $root.Chart.Name ($root.Chart.Version | replace "+" "_")) -}}
{{- with .component -}}
{{- $_ := set $own "app.kubernetes.io/component" . -}}
{{- end -}}
{{- toYaml (merge $own (.more | default dict) $root.Values.commonLabels) -}}
{{- end -}}

{{- /* Deployments are found by these; they cannot change within the life of a release. */ -}}
{{- define "slicewise.selectorLabels" -}}
app.kubernetes.io/name: slicewise
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "slicewise.serviceAccountName" -}}
{{- (index .root.Values .component).serviceAccount.name | default (printf "slicewise-%s" .component) -}}
{{- end -}}

{{- define "slicewise.serviceAccount" -}}
{{- $account := (index .root.Values .component).serviceAccount -}}
{{- if $account.create }}
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ include "slicewise.serviceAccountName" . }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "slicewise.labels" . | nindent 4 }}
  {{- with $account.annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- if not $account.automountServiceAccountToken }}
automountServiceAccountToken: false
{{- end }}
---
{{- end }}
{{- end -}}

{{- /* A binding's roleRef and subjects: (dict "root" $ "component" NAME "kind" Role|ClusterRole "name" ROLE) */ -}}
{{- define "slicewise.bound" -}}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: {{ .kind }}
  name: {{ .name }}
subjects:
  - kind: ServiceAccount
    name: {{ include "slicewise.serviceAccountName" . }}
    namespace: {{ .root.Release.Namespace }}
{{- end -}}

{{- /* Where pods run: (dict "root" $ "component" NAME); what a component says itself wins. */ -}}
{{- define "slicewise.placement" -}}
{{- $values := .root.Values -}}
{{- $own := index $values .component | default dict -}}
{{- with $values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with $own.nodeSelector | default $values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $own.tolerations | default $values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $own.affinity | default $values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- /* What the pod templates of both Deployments say alike: (dict "root" $ "component" NAME) */ -}}
{{- define "slicewise.podMetadata" -}}
{{- $root := .root -}}
{{- $own := index $root.Values .component -}}
labels:
  {{- $labels := include "slicewise.selectorLabels" . | fromYaml }}
  {{- $_ := set $labels "app.kubernetes.io/instance" $root.Release.Name }}
  {{- $_ := set $labels "app.kubernetes.io/part-of" "slicewise" }}
  {{- toYaml (merge $labels $own.podLabels $root.Values.podLabels $root.Values.commonLabels) | nindent 2 }}
{{- with merge (.annotations | default dict) $own.podAnnotations $root.Values.podAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "slicewise.deployment" -}}
{{- $own := index .root.Values .component -}}
replicas: {{ $own.replicas }}
revisionHistoryLimit: {{ $own.revisionHistoryLimit }}
{{- with $own.minReadySeconds }}
minReadySeconds: {{ . }}
{{- end }}
selector:
  matchLabels:
    {{- include "slicewise.selectorLabels" . | nindent 4 }}
{{- end -}}

{{- define "slicewise.pod" -}}
{{- $values := .root.Values -}}
{{- $own := index $values .component -}}
serviceAccountName: {{ include "slicewise.serviceAccountName" . }}
# Otherwise variables named after Services would stand among those of the flags.
enableServiceLinks: false
{{- with $own.priorityClassName | default $values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- include "slicewise.placement" . }}
topologySpreadConstraints:
  {{- if $own.topologySpreadConstraints }}
  {{- toYaml $own.topologySpreadConstraints | nindent 2 }}
  {{- else }}
  {{- $component := . }}
  {{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
  - topologyKey: {{ . }}
    maxSkew: 1
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "slicewise.selectorLabels" $component | nindent 8 }}
  {{- end }}
  {{- end }}
securityContext:
  {{- toYaml $values.podSecurityContext | nindent 2 }}
{{- end -}}

{{- define "slicewise.container" -}}
{{- $own := index .root.Values .component -}}
name: {{ .component }}
image: {{ include "slicewise.image" .root }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
command: [slicewise, {{ .component }}]
env:
  - name: SLICEWISE_NAMESPACE
    valueFrom:
      fieldRef:
        fieldPath: metadata.namespace
  {{- with $own.extraEnv }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
livenessProbe:
  httpGet:
    path: /healthz
    port: operations
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet:
    path: /readyz
    port: operations
  periodSeconds: 5
  timeoutSeconds: 5
resources:
  {{- toYaml $own.resources | nindent 2 }}
securityContext:
  {{- toYaml .root.Values.securityContext | nindent 2 }}
{{- end -}}

{{- /* The pod of a hook, which runs a script of files/: (dict "root" $ "component" NAME "script" PATH) */ -}}
{{- define "slicewise.script" -}}
serviceAccountName: slicewise-{{ .component }}
restartPolicy: Never
enableServiceLinks: false
{{- include "slicewise.placement" . }}
securityContext:
  {{- toYaml .root.Values.podSecurityContext | nindent 2 }}
containers:
  - name: {{ .component }}
    image: {{ include "slicewise.image" .root }}
    imagePullPolicy: {{ .root.Values.image.pullPolicy }}
    command: [python, -c]
    args:
      - |
        {{- .root.Files.Get .script | nindent 8 }}
    resources:
      requests: {cpu: 50m, memory: 64Mi}
      limits: {memory: 256Mi}
    securityContext:
      {{- toYaml .root.Values.securityContext | nindent 6 }}
{{- end -}}

{{- /* With one replica it would block every drain. */ -}}
{{- define "slicewise.disruptionBudget" -}}
{{- $budget := .root.Values.podDisruptionBudget -}}
{{- if and $budget.enabled (gt (int (index .root.Values .component).replicas) 1) }}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: slicewise-{{ .component }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "slicewise.labels" . | nindent 4 }}
spec:
  minAvailable: 1
  # A replica that is not ready protects nobody, so it does not hold up a drain either.
  unhealthyPodEvictionPolicy: {{ $budget.unhealthyPodEvictionPolicy }}
  selector:
    matchLabels:
      {{- include "slicewise.selectorLabels" . | nindent 6 }}
{{- end }}
{{- end -}}

{{- /* What a registration of files/ becomes here: (list $ NAME) */ -}}
{{- define "slicewise.registration" -}}
{{- $root := index . 0 -}}
{{- $values := $root.Values -}}
{{- $document := $root.Files.Get (printf "files/%s.yaml" (index . 1)) | fromYaml -}}
{{- $_ := set $document.metadata "labels" (include "slicewise.labels" (dict "root" $root "component" "webhook") | fromYaml) -}}
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
{{- if eq .failurePolicy "Ignore" -}}
{{- $_ := set . "failurePolicy" $values.webhook.failurePolicy -}}
{{- end -}}
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

{{- /* What both servers believe of nodes: the same flags, so that they give the same answer. */ -}}
{{- define "slicewise.nodeFlags" -}}
{{- with .root.Values.nodes -}}
- --gpu-operator-namespace={{ .gpuOperatorNamespace }}
- --unlabelled={{ .unlabelled }}
- --transient-taints={{ join "," .transientTaints }}
- --largest-maximum={{ int64 .largestMaximum }}
{{- end }}
{{- end }}

{{- /* The right to read what is planned for nodes, for one server. */ -}}
{{- define "slicewise.nodeFiles" -}}
{{- with .root.Values.nodes.gpuOperatorNamespace -}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  name: slicewise-{{ $.component }}-files
  namespace: {{ . }}
  labels:
    {{- include "slicewise.labels" $ | nindent 4 }}
rules:
  # The MIG manager's and the device plugin's files say what a node is to become.
  - apiGroups: [""]
    resources: [configmaps]
    verbs: [list, watch]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  name: slicewise-{{ $.component }}-files
  namespace: {{ . }}
  labels:
    {{- include "slicewise.labels" $ | nindent 4 }}
{{ include "slicewise.bound" (dict "root" $.root "component" $.component "kind" "Role" "name" (printf "slicewise-%s-files" $.component)) }}
{{- end }}
{{- end }}
