package rest

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// openapiV5_3 is the interface description of Corda 5.3.
//
//go:embed openapi-v5_3.json
var openapiV5_3 []byte

// openAPI is what the reference's document says of operations.
type openAPI struct {
	document   map[string]json.RawMessage
	paths      map[string]map[string]json.RawMessage
	names      []string            // METHOD and path, sorted
	operations map[string]string   // operationId by name
	queries    map[string][]string // names of query parameters by name
}

func readOpenAPI() *openAPI {
	o := &openAPI{operations: make(map[string]string), queries: make(map[string][]string)}
	if err := json.Unmarshal(openapiV5_3, &o.document); err != nil {
		panic(fmt.Sprintf("rest: the embedded document is damaged: %v", err))
	}
	if err := json.Unmarshal(o.document["paths"], &o.paths); err != nil {
		panic(fmt.Sprintf("rest: the embedded document is damaged: %v", err))
	}
	for path, operations := range o.paths {
		for method, octets := range operations {
			var operation struct {
				OperationID string
				Parameters  []struct{ Name, In string }
			}
			if err := json.Unmarshal(octets, &operation); err != nil {
				panic(fmt.Sprintf("rest: the embedded document is damaged at %s: %v", path, err))
			}
			name := strings.ToUpper(method) + " " + path
			o.names = append(o.names, name)
			o.operations[name] = operation.OperationID
			for _, p := range operation.Parameters {
				if p.In == "query" {
					o.queries[name] = append(o.queries[name], p.Name)
				}
			}
		}
	}
	slices.Sort(o.names)
	return o
}

// sinceOf is the first version that has an operation (spec 1.1).
func sinceOf(name string) version {
	_, path, _ := strings.Cut(name, " ")
	switch {
	case strings.HasPrefix(path, "/group"), name == "DELETE /user/{loginname}", strings.Contains(path, "/parent/"),
		strings.Contains(path, "property"):
		return v5_3
	case strings.Contains(path, "password"), strings.Contains(path, "/db"), strings.HasPrefix(path, "/wrappingkey"):
		return v5_2
	}
	return v5_1
}

// working makes the document of each version: the operations that are served, and no others.
func (o *openAPI) working(r *router) map[string][]byte {
	documents := make(map[string][]byte, len(versionNames))
	for name, version := range versionNames {
		paths := make(map[string]map[string]json.RawMessage)
		for _, s := range r.all {
			if s.unserved || s.extension || s.since > version {
				continue
			}
			if paths[s.template] == nil {
				paths[s.template] = make(map[string]json.RawMessage)
			}
			method := strings.ToLower(s.method)
			paths[s.template][method] = o.paths[s.template][method]
		}
		document := maps.Clone(o.document)
		document["paths"] = mustJSON(paths)
		document["servers"] = mustJSON([]map[string]string{{"url": "/api/" + name}})
		document["info"] = mustJSON(map[string]string{
			"title": "Hawser REST API", "version": name,
			"description": "The operations of Corda 5's REST API that this release serves. Every other one answers 501.",
		})
		documents[name] = mustJSON(document)
	}
	return documents
}

func mustJSON(v any) json.RawMessage {
	octets, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("rest: %v", err)) // maps of strings and of JSON that was read
	}
	return octets
}
