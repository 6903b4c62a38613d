package hawser_test

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func TestEveryPackageSaysWhatItIsFor(t *testing.T) {
	t.Parallel()
	said := make(map[string]bool)
	for _, f := range goFiles(t) {
		if f.test {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), f.path, nil, parser.PackageClauseOnly|parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		said[f.folder] = said[f.folder] || hasPackageComment(parsed)
	}
	for folder, ok := range said {
		if !ok {
			t.Errorf("%s has no package comment", folder)
		}
	}
}

func hasPackageComment(f *ast.File) bool {
	if f.Doc == nil {
		return false
	}
	text := f.Doc.Text()
	return strings.HasPrefix(text, "Package "+f.Name.Name+" ") || f.Name.Name == "main" && strings.HasPrefix(text, "Command ")
}

// unfinished are the marks of work that is not done. One with an issue number is fine.
var unfinished = regexp.MustCompile(`(?://|/\*).*\b(TODO|FIXME|XXX)\b(?:[^(]|$)`)

func TestNothingIsLeftUnfinished(t *testing.T) {
	t.Parallel()
	for _, f := range goFiles(t) {
		if f.path == "tidy_test.go" {
			continue
		}
		octets, err := os.ReadFile(f.path)
		if err != nil {
			t.Fatal(err)
		}
		if m := unfinished.Find(octets); m != nil {
			t.Errorf("%s: %s", f.path, m)
		}
		if i := bytes.Index(octets, []byte("time.Sleep(")); i >= 0 && f.test && !bytes.Contains(octets, []byte("synctest")) {
			t.Errorf("%s sleeps outside of a synctest bubble", f.path)
		}
	}
}

func TestFilesAreOfAReadableLength(t *testing.T) {
	t.Parallel()
	const most = 600
	for _, f := range goFiles(t) {
		octets, err := os.ReadFile(f.path)
		if err != nil {
			t.Fatal(err)
		}
		if n := bytes.Count(octets, []byte("\n")); n > most && !f.test && !within(f.folder, "bus/bustest") {
			t.Errorf("%s has %d lines, more than %d", f.path, n, most)
		}
	}
}

// TestLinksOfDocumentsLead checks the relative links of every Markdown file.
func TestLinksOfDocumentsLead(t *testing.T) {
	t.Parallel()
	link := regexp.MustCompile(`\]\(([^)#:]+)(?:#[^)]*)?\)`)
	documents, err := filepath.Glob("*.md")
	if err != nil {
		t.Fatal(err)
	}
	more, err := filepath.Glob("docs/*/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, document := range append(documents, more...) {
		octets, err := os.ReadFile(document)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range link.FindAllSubmatch(octets, -1) {
			target := filepath.Join(filepath.Dir(document), string(m[1]))
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s links to %s, which is not there", document, m[1])
			}
		}
	}
}

// TestDependenciesAreDecided checks that every direct dependency has its line in the decisions, and none more.
func TestDependenciesAreDecided(t *testing.T) {
	t.Parallel()
	mod, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	decided, err := os.ReadFile("docs/decisions/dependencies.md")
	if err != nil {
		t.Fatal(err)
	}
	direct := make(map[string]bool)
	for line := range strings.Lines(string(mod)) {
		name, _, ok := strings.Cut(strings.TrimSpace(strings.TrimPrefix(line, "require ")), " ")
		if ok && strings.Contains(name, ".") && !strings.Contains(line, "// indirect") {
			direct[name] = true
			if !bytes.Contains(decided, []byte("| `"+name+"` |")) {
				t.Errorf("%s has no line in docs/decisions/dependencies.md", name)
			}
		}
	}
	for _, m := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\|").FindAllSubmatch(decided, -1) {
		if !direct[string(m[1])] {
			t.Errorf("docs/decisions/dependencies.md has a line for %s, which is no direct dependency", m[1])
		}
	}
}
