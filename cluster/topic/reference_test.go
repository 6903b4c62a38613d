package topic_test

import (
	"bytes"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/printer"
	"go/token"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/hawser-project/hawser/bus"
	"github.com/hawser-project/hawser/cluster/topic"
)

// reference is the page that is printed from the table, and the words and types that stand beside it in the source.
const reference = "../../docs/reference/topics.md"

var update = flag.Bool("update", false, "write "+reference+" anew")

func TestTheReferencePageIsPrintedFromTheTable(t *testing.T) {
	t.Parallel()
	got := page(topic.Definitions(), declarations(t))
	if *update {
		if err := os.WriteFile(reference, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(reference)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("docs/reference/topics.md is not what the table says; run: go test ./cluster/topic -run Reference -update")
	}
}

// declared is what the source says of a topic, command or call beyond its definition.
type declared struct {
	types   string // as written between the brackets
	comment string
}

// declarations reads the variables of this package, by the name that each has on the bus.
func declarations(t *testing.T) map[string]declared {
	t.Helper()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	found := make(map[string]declared)
	fset := token.NewFileSet()
	for _, name := range files {
		f, err := parser.ParseFile(fset, name, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			spec, ok := n.(*ast.ValueSpec)
			if !ok || len(spec.Values) != 1 {
				return true
			}
			if literal, ok := spec.Values[0].(*ast.CompositeLit); ok {
				if name := nameField(literal); name != "" {
					found[name] = declared{typeArguments(fset, literal.Type), strings.Join(strings.Fields(spec.Doc.Text()), " ")}
				}
			}
			return true
		})
	}
	return found
}

// nameField returns the value of the field Name of a literal.
func nameField(literal *ast.CompositeLit) string {
	for _, e := range literal.Elts {
		if pair, ok := e.(*ast.KeyValueExpr); ok {
			key, isName := pair.Key.(*ast.Ident)
			value, isText := pair.Value.(*ast.BasicLit)
			if isName && isText && key.Name == "Name" {
				name, _ := strconv.Unquote(value.Value)
				return name
			}
		}
	}
	return ""
}

// typeArguments prints what stands between the brackets of a generic type.
func typeArguments(fset *token.FileSet, e ast.Expr) string {
	var args []ast.Expr
	switch e := e.(type) {
	case *ast.IndexExpr:
		args = []ast.Expr{e.Index}
	case *ast.IndexListExpr:
		args = e.Indices
	}
	texts := make([]string, 0, len(args))
	for _, a := range args {
		var b strings.Builder
		_ = printer.Fprint(&b, fset, a) // a strings.Builder takes everything
		texts = append(texts, "`"+b.String()+"`")
	}
	return strings.Join(texts, " to ")
}

func page(all []bus.Definition, said map[string]declared) []byte {
	var b bytes.Buffer
	b.WriteString(`# Topics, commands and calls

What the workers of a cluster say to each other. This page is printed from ` + "`cluster/topic`" + ` by its test
(` + "`go test ./cluster/topic -run Reference -update`" + `); a worker is refused what it does not list. Every value is CBOR with integer
keys; the types are Go's.
`)
	for _, s := range []struct{ what, title, about, types, from, to string }{
		{"topic", "Topics", "Streams of records, in order per key. A *stream* drops a record once every reader has finished it; a *table* keeps the last\n" +
			"record of every key, and its readers hold it in memory.", "Value", "Written by", "Read by"},
		{"command", "Commands", "Requests that are not lost: each runs as a step of the role that answers it and is answered after the commit. The reply is\n" +
			"kept for 24 hours, so that the same id gets the same reply.", "Request to reply", "Asked by", "Answered by"},
		{"call", "Calls", "Requests and replies without durability.", "Request to reply", "Asked by", "Answered by"},
	} {
		fmt.Fprintf(&b, "\n## %s\n\n%s\n\n", s.title, s.about)
		kept, rule := "", ""
		if s.what == "topic" {
			kept, rule = " Kept as |", " --- |"
		}
		fmt.Fprintf(&b, "| Name | %s |%s %s | %s | About |\n| --- | --- |%s --- | --- | --- |\n", s.types, kept, s.from, s.to, rule)
		for _, d := range all {
			if d.What == s.what {
				fmt.Fprintln(&b, line(d, said[d.Name]))
			}
		}
	}
	return b.Bytes()
}

func line(d bus.Definition, said declared) string {
	kept := ""
	if d.What == "topic" {
		kept = " stream |"
		if d.Compacted {
			kept = " table |"
		}
	}
	return fmt.Sprintf("| `%s` | %s |%s %s | %s | %s |", d.Name, said.types, kept, names(d.From), names(d.To), strings.ReplaceAll(said.comment, "|", "\\|"))
}

func names(roles []bus.Role) string {
	list := make([]string, 0, len(roles))
	for _, r := range roles {
		list = append(list, string(r))
	}
	return strings.Join(list, ", ")
}
