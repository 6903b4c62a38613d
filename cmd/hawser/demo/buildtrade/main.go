// Command buildtrade builds the sample application's module and writes it, compressed, to the file that the hawser binary
// carries. It is run by go generate.
package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"github.com/hawser-project/hawser/cmd/hawser/demo"
)

func main() {
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "buildtrade:", err)
		os.Exit(1)
	}
}

func run(out string) error {
	root, err := filepath.Abs("../../..")
	if err != nil {
		return err
	}
	module, err := demo.BuildModule(context.Background(), "go", root)
	if err != nil {
		return err
	}
	var packed bytes.Buffer
	w, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	if err != nil {
		return err
	}
	if _, err := w.Write(module); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	if err := os.WriteFile(out, packed.Bytes(), 0o644); err != nil { //nolint:gosec // part of the source tree
		return err
	}
	return os.WriteFile(out+".go-version", []byte(runtime.Version()+"\n"), 0o644) //nolint:gosec // the same
}
