package hawser_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/hawser-project/hawser/"

// mayImport says which folders a folder may import: the arrows of the architecture, which point down and never sideways
// between workers. It is decided, not observed: change it in a review of its own. "." is the folder itself. A worker may
// also import its own subtree. A folder without a line is an error.
const mayImport = `
	corda:         .
	internal:      .
	bus:           . internal
	cluster/fault: .
	cluster/topic: cluster corda bus internal
	cluster:       . corda bus internal
	worker:        cluster bus corda internal
	process:       worker cluster bus corda internal
	cmd:           . process cluster bus corda internal
	sdk:           .
	test:          . cmd process worker cluster bus corda internal sdk
`

// clusterMayImport names the few nouns that are made of other nouns. All others import cluster/fault only.
var clusterMayImport = map[string][]string{
	"cluster/flow":   {"cluster/message"},
	"cluster/hosted": {"cluster/message"},
}

// onlyIn confines a third-party module to one folder. Test files and test/ may use any of them.
var onlyIn = map[string]string{
	"github.com/cockroachdb/pebble": "bus/embedded",
	"github.com/twmb/franz-go":      "bus/distributed",
	"github.com/jackc/pgx":          "bus/distributed",
	"github.com/tetratelabs/wazero": "worker/flow/wasm",
	"github.com/spf13/cobra":        "cmd/hawser",
}

// impure are what corda may never import: it has no I/O, clock, goroutine or randomness of its own.
var impure = []string{"net", "net/http", "os", "context", "sync", "database/sql", "log/slog", "crypto/rand", "math/rand", "math/rand/v2"}

// goFile is a file with what it imports.
type goFile struct {
	path, folder string // slash-separated, from the root
	test         bool
	imports      []string
}

// goFiles parses the imports of every Go file. It reads the files itself, so that the test cache sees them.
func goFiles(t *testing.T) (files []goFile) {
	t.Helper()
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && path != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata") {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(path, ".go") {
			return nil
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		f := goFile{path: filepath.ToSlash(path), folder: filepath.ToSlash(filepath.Dir(path)), test: strings.HasSuffix(path, "_test.go")}
		for _, i := range parsed.Imports {
			name, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				return err
			}
			f.imports = append(f.imports, name)
		}
		files = append(files, f)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestArrowsPointDown(t *testing.T) {
	t.Parallel()
	rules := parseRules(t)
	for _, f := range goFiles(t) {
		if f.folder == "." {
			continue
		}
		for _, i := range f.imports {
			target, ours := strings.CutPrefix(i, module)
			vectors := f.test && within(target, "test/interop") // golden data, without code of ours
			if ours && !vectors && !allowed(rules, f, target) {
				t.Errorf("%s imports %s, which its place in the architecture does not allow", f.path, target)
			}
		}
	}
}

func parseRules(t *testing.T) map[string][]string {
	t.Helper()
	rules := make(map[string][]string)
	for line := range strings.Lines(strings.TrimSpace(mayImport)) {
		folder, list, ok := strings.Cut(strings.TrimSpace(line), ":")
		if !ok {
			t.Fatalf("mayImport: %q", line)
		}
		rules[folder] = strings.Fields(list)
	}
	return rules
}

func allowed(rules map[string][]string, f goFile, target string) bool {
	layer, _, _ := strings.Cut(f.folder, "/")
	rule, found := rules[f.folder]
	if !found {
		rule, found = rules[layer]
	}
	if !found {
		return false
	}
	switch {
	case within(target, f.folder) || within(f.folder, target) && layer == "worker":
		return true // its own subtree, and what is above in the same worker
	case layer == "worker" && within(target, "worker"):
		own := strings.Join(strings.SplitN(f.folder, "/", 3)[:2], "/")
		return within(target, own)
	case layer == "cluster" && within(target, "cluster"):
		return f.folder == "cluster/topic" || target == "cluster/fault" || slices.Contains(clusterMayImport[f.folder], target)
	}
	return slices.ContainsFunc(rule, func(r string) bool {
		if r == "." {
			r = layer
		}
		return within(target, r)
	})
}

func within(path, folder string) bool { return path == folder || strings.HasPrefix(path, folder+"/") }

func TestThirdPartyModulesStayInTheirFolders(t *testing.T) {
	t.Parallel()
	for _, f := range goFiles(t) {
		if f.test || within(f.folder, "test") || within(f.folder, "bus/bustest") {
			continue
		}
		for _, i := range f.imports {
			for name, folder := range onlyIn {
				if within(i, name) && !within(f.folder, folder) {
					t.Errorf("%s imports %s, which is for %s only", f.path, i, folder)
				}
			}
		}
	}
}

func TestCordaIsPure(t *testing.T) {
	t.Parallel()
	for _, f := range goFiles(t) {
		if f.test || !within(f.folder, "corda") {
			continue
		}
		for _, i := range f.imports {
			if slices.Contains(impure, i) {
				t.Errorf("%s imports %s: nothing in corda may do I/O, run goroutines, read a clock or be random", f.path, i)
			}
		}
	}
}

func TestOnlyTestsImportTest(t *testing.T) {
	t.Parallel()
	for _, f := range goFiles(t) {
		for _, i := range f.imports {
			if target, ours := strings.CutPrefix(i, module); ours && within(target, "test") && !f.test && !within(f.folder, "test") {
				t.Errorf("%s imports %s", f.path, target)
			}
		}
	}
}
