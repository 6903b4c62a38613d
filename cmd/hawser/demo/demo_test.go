package demo_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/hawser-project/hawser/cmd/hawser/demo"
	"github.com/hawser-project/hawser/process"
)

// TestTheEmbeddedModuleIsTheSamplesSource builds the sample and compares it with the copy in the binary: octet by octet
// under the Go release that the copy was built with, and by the flows it declares under any other.
func TestTheEmbeddedModuleIsTheSamplesSource(t *testing.T) {
	t.Parallel()
	root, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	built, err := demo.BuildModule(t.Context(), "go", root)
	if err != nil {
		t.Fatal(err)
	}
	embedded, err := demo.Embedded()
	if err != nil {
		t.Fatal(err)
	}
	release, err := os.ReadFile("trade.wasm.gz.go-version")
	if err != nil {
		t.Fatal(err)
	}
	if strings.TrimSpace(string(release)) == runtime.Version() {
		if !bytes.Equal(built, embedded) {
			t.Error("the copy in the binary is not what the source gives: run go generate ./cmd/hawser/demo")
		}
		return
	}
	checker, err := process.NewModuleChecker(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = checker.Close(t.Context()) }()
	var manifests [2]any
	for i, module := range [][]byte{built, embedded} {
		octets, err := checker.Check("trade", module)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(octets, &manifests[i]); err != nil {
			t.Fatal(err)
		}
	}
	want, _ := json.Marshal(manifests[0])
	if got, _ := json.Marshal(manifests[1]); !bytes.Equal(got, want) {
		t.Errorf("the copy declares %s, the source %s: run go generate ./cmd/hawser/demo", got, want)
	}
}
