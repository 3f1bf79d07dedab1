// Command webhook gives the same answer as Slicewise from the smallest webhook that a Go programmer would write:
// net/http and encoding/json, the envelope first and then the fields of the object that count.
//
// It has no pools, no policies, no updates, no refusals and no metrics: what each class gets is read from a file at the
// start. Everything that it leaves out is work that the other side does.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"strconv"
	"strings"
)

const (
	gpu         = "nvidia.com/gpu"
	vendor      = "nvidia.com/"
	classLabel  = "slicewise.io/workload-class"
	annotation  = "slicewise.io/decision"
	poolLabel   = "slicewise.io/pool"
	visible     = "NVIDIA_VISIBLE_DEVICES"
	largestBody = 7 << 20
)

// answers is what the start-up file holds: the decision of every class, made by the other side beforehand.
type answers struct {
	Namespaces map[string]bool     `json:"namespaces"`
	Default    string              `json:"default"`
	Classes    map[string]decision `json:"classes"`
}

type decision struct {
	Policy     string              `json:"policy"`
	Class      string              `json:"class"`
	ClassFrom  string              `json:"classFrom"`
	Strategy   string              `json:"strategy"`
	Pools      []string            `json:"pools"`
	Containers map[string]assigned `json:"containers"`
	Reason     string              `json:"reason"`
	Steered    bool                `json:"steered"`
	To         string              `json:"to,omitempty"`
}

type assigned struct {
	From  string `json:"from"`
	To    string `json:"to"`
	Count int    `json:"count"`
	Asked int    `json:"asked"`
}

type review struct {
	APIVersion string    `json:"apiVersion"`
	Kind       string    `json:"kind"`
	Request    *request  `json:"request,omitempty"`
	Response   *response `json:"response,omitempty"`
}

type request struct {
	UID  string `json:"uid"`
	Kind struct {
		Group string `json:"group"`
		Kind  string `json:"kind"`
	} `json:"kind"`
	Namespace string          `json:"namespace"`
	Operation string          `json:"operation"`
	Object    json.RawMessage `json:"object"`
}

type response struct {
	UID       string `json:"uid"`
	Allowed   bool   `json:"allowed"`
	Patch     []byte `json:"patch,omitempty"`
	PatchType string `json:"patchType,omitempty"`
}

type metadata struct {
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
}

type pod struct {
	Metadata *metadata `json:"metadata"`
	Spec     *podSpec  `json:"spec"`
}

type parent struct {
	Metadata *metadata `json:"metadata"`
	Spec     struct {
		Template *pod `json:"template"`
	} `json:"spec"`
}

type podSpec struct {
	Containers     []container       `json:"containers"`
	InitContainers []container       `json:"initContainers"`
	NodeSelector   map[string]string `json:"nodeSelector"`
	Affinity       *affinity         `json:"affinity"`
	Tolerations    []toleration      `json:"tolerations"`
}

type container struct {
	Name      string `json:"name"`
	Resources struct {
		Requests map[string]string `json:"requests"`
		Limits   map[string]string `json:"limits"`
	} `json:"resources"`
	Env []variable `json:"env"`
}

type variable struct {
	Name  string `json:"name"`
	Value string `json:"value,omitempty"`
}

type affinity struct {
	NodeAffinity *nodeAffinity `json:"nodeAffinity"`
}

type nodeAffinity struct {
	Required *nodeSelector `json:"requiredDuringSchedulingIgnoredDuringExecution"`
}

type nodeSelector struct {
	Terms []term `json:"nodeSelectorTerms"`
}

type term struct {
	Expressions []expression `json:"matchExpressions"`
}

type expression struct {
	Key      string   `json:"key"`
	Operator string   `json:"operator"`
	Values   []string `json:"values"`
}

type toleration struct {
	Key      string `json:"key"`
	Operator string `json:"operator"`
	Effect   string `json:"effect"`
}

type operation struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	Value any    `json:"value,omitempty"`
}

var escaper = strings.NewReplacer("~", "~0", "/", "~1")

func (known *answers) judge(asked *request) ([]operation, error) {
	if asked.Operation != "CREATE" || !known.Namespaces[asked.Namespace] {
		return nil, nil
	}
	switch asked.Kind.Kind {
	case "Pod":
		var found pod
		if err := json.Unmarshal(asked.Object, &found); err != nil {
			return nil, err
		}
		return known.rewrite(found.Metadata, "", &found)
	case "Job", "Deployment":
		var found parent
		if err := json.Unmarshal(asked.Object, &found); err != nil {
			return nil, err
		}
		if found.Spec.Template == nil {
			return nil, nil
		}
		return known.rewrite(found.Metadata, "/spec/template", found.Spec.Template)
	}
	return nil, nil
}

func (known *answers) rewrite(object *metadata, pointer string, template *pod) ([]operation, error) {
	if template.Spec == nil {
		return nil, nil
	}
	given := known.Classes[known.class(object, template.Metadata)]
	given.Containers = map[string]assigned{}
	var operations []operation
	var idle []operation
	for _, group := range []struct {
		name       string
		containers []container
	}{{"containers", template.Spec.Containers}, {"initContainers", template.Spec.InitContainers}} {
		for index := range group.containers {
			each := &group.containers[index]
			path := fmt.Sprintf("%s/spec/%s/%d", pointer, group.name, index)
			count, err := each.count()
			if err != nil {
				return nil, err
			}
			if count > 0 {
				given.Containers[each.Name] = assigned{gpu, given.To, count, count}
				operations = rename(operations, path+"/resources/requests/", each.Resources.Requests, given.To, count)
				operations = rename(operations, path+"/resources/limits/", each.Resources.Limits, given.To, count)
			} else {
				idle = hide(idle, path, each)
			}
		}
	}
	if len(given.Containers) == 0 {
		return nil, nil
	}
	operations = append(operations, idle...)
	if given.Steered {
		operations = append(operations, steer(pointer+"/spec", template.Spec, given.Pools)...)
	}
	operations = append(operations, tolerate(pointer+"/spec", template.Spec)...)
	given.To = ""
	text, err := json.Marshal(given)
	if err != nil {
		return nil, err
	}
	if pointer != "" {
		operations = append(operations, annotate(pointer, template.Metadata, string(text)))
	}
	return append(operations, annotate("", object, string(text))), nil
}

func (known *answers) class(object, template *metadata) string {
	for _, each := range []*metadata{object, template} {
		if each != nil {
			if name, ok := each.Labels[classLabel]; ok {
				return name
			}
		}
	}
	return known.Default
}

func (c *container) count() (int, error) {
	most := 0
	for _, amounts := range []map[string]string{c.Resources.Requests, c.Resources.Limits} {
		if text, ok := amounts[gpu]; ok {
			number, err := strconv.Atoi(text)
			if err != nil {
				return 0, err
			}
			most = max(most, number)
		}
	}
	return most, nil
}

func rename(operations []operation, path string, amounts map[string]string, to string, count int) []operation {
	if _, ok := amounts[gpu]; !ok || to == gpu {
		return operations
	}
	return append(operations,
		operation{Op: "remove", Path: path + escaper.Replace(gpu)},
		operation{Op: "add", Path: path + escaper.Replace(to), Value: strconv.Itoa(count)})
}

func hide(operations []operation, path string, c *container) []operation {
	for _, each := range c.Env {
		if each.Name == visible {
			return operations
		}
	}
	hidden := variable{visible, "void"}
	if c.Env == nil {
		return append(operations, operation{Op: "add", Path: path + "/env", Value: []variable{hidden}})
	}
	return append(operations, operation{Op: "add", Path: path + "/env/-", Value: hidden})
}

func steer(path string, spec *podSpec, pools []string) []operation {
	wanted := expression{poolLabel, "In", pools}
	if spec.Affinity == nil {
		required := map[string]any{"requiredDuringSchedulingIgnoredDuringExecution": nodeSelector{[]term{{[]expression{wanted}}}}}
		return []operation{{Op: "add", Path: path + "/affinity", Value: map[string]any{"nodeAffinity": required}}}
	}
	path += "/affinity/nodeAffinity"
	if spec.Affinity.NodeAffinity == nil {
		required := map[string]any{"requiredDuringSchedulingIgnoredDuringExecution": nodeSelector{[]term{{[]expression{wanted}}}}}
		return []operation{{Op: "add", Path: path, Value: required}}
	}
	path += "/requiredDuringSchedulingIgnoredDuringExecution"
	if spec.Affinity.NodeAffinity.Required == nil {
		return []operation{{Op: "add", Path: path, Value: nodeSelector{[]term{{[]expression{wanted}}}}}}
	}
	var operations []operation
	for index := range spec.Affinity.NodeAffinity.Required.Terms {
		operations = append(operations, operation{
			Op: "add", Path: fmt.Sprintf("%s/nodeSelectorTerms/%d/matchExpressions/-", path, index), Value: wanted,
		})
	}
	return operations
}

func tolerate(path string, spec *podSpec) []operation {
	for _, each := range spec.Tolerations {
		if each.Operator == "Exists" && (each.Key == "" || each.Key == gpu) {
			return nil
		}
	}
	wanted := toleration{gpu, "Exists", "NoSchedule"}
	if spec.Tolerations == nil {
		return []operation{{Op: "add", Path: path + "/tolerations", Value: []toleration{wanted}}}
	}
	return []operation{{Op: "add", Path: path + "/tolerations/-", Value: wanted}}
}

func annotate(pointer string, current *metadata, text string) operation {
	switch {
	case current == nil:
		value := map[string]any{"annotations": map[string]string{annotation: text}}
		return operation{Op: "add", Path: pointer + "/metadata", Value: value}
	case current.Annotations == nil:
		return operation{Op: "add", Path: pointer + "/metadata/annotations", Value: map[string]string{annotation: text}}
	}
	return operation{Op: "add", Path: pointer + "/metadata/annotations/" + escaper.Replace(annotation), Value: text}
}

func (known *answers) serve(writer http.ResponseWriter, incoming *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(writer, incoming.Body, largestBody))
	if err != nil {
		http.Error(writer, err.Error(), http.StatusRequestEntityTooLarge)
		return
	}
	var asked review
	if err := json.Unmarshal(body, &asked); err != nil || asked.Request == nil {
		http.Error(writer, "the body is no AdmissionReview", http.StatusBadRequest)
		return
	}
	operations, err := known.judge(asked.Request)
	if err != nil {
		http.Error(writer, err.Error(), http.StatusBadRequest)
		return
	}
	answer := response{UID: asked.Request.UID, Allowed: true}
	if len(operations) > 0 {
		answer.PatchType = "JSONPatch"
		if answer.Patch, err = json.Marshal(operations); err != nil {
			http.Error(writer, err.Error(), http.StatusInternalServerError)
			return
		}
	}
	text, err := json.Marshal(review{APIVersion: asked.APIVersion, Kind: asked.Kind, Response: &answer})
	if err != nil {
		http.Error(writer, err.Error(), http.StatusInternalServerError)
		return
	}
	writer.Header().Set("Content-Type", "application/json")
	_, _ = writer.Write(text)
}

func main() {
	listen := flag.String("listen", "127.0.0.1:0", "address")
	certificate := flag.String("certificate", "", "PEM file")
	key := flag.String("key", "", "PEM file")
	file := flag.String("answers", "", "JSON file: what each class gets")
	flag.Parse()
	text, err := os.ReadFile(*file)
	if err != nil {
		log.Fatal(err)
	}
	var known answers
	if err := json.Unmarshal(text, &known); err != nil {
		log.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /mutate", known.serve)
	log.Fatal(http.ListenAndServeTLS(*listen, *certificate, *key, mux))
}
