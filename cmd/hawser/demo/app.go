package demo

import (
	"bytes"
	"compress/gzip"
	"context"
	_ "embed"
	"io"
	"os"
	"os/exec"
	"path/filepath"
)

// Application is the sample that the demo runs: its source is sdk/examples/trade.
const Application = "trade"

// tradeModule is the sample's module as it was built last, for machines without the go command. A test compares it with
// what the source gives.
//
//go:generate go run ./buildtrade trade.wasm.gz
//go:embed trade.wasm.gz
var tradeModule []byte

// tradePackage is where the sample's source is, from the root of the checkout.
const tradePackage = "./sdk/examples/trade"

// Module returns the sample's module: built from the source where there is a go command and a checkout around the working
// directory, else from the copy in the binary. built says which it was.
func Module(ctx context.Context) (module []byte, built bool, err error) {
	root, found := checkout()
	if goCommand, lookErr := exec.LookPath("go"); found && lookErr == nil {
		module, err = BuildModule(ctx, goCommand, root)
		return module, true, err
	}
	module, err = Embedded()
	return module, false, err
}

// Embedded returns the copy in the binary.
func Embedded() ([]byte, error) {
	r, err := gzip.NewReader(bytes.NewReader(tradeModule))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}

// BuildModule builds the sample's module. The flags make equal source equal octets.
func BuildModule(ctx context.Context, goCommand, root string) ([]byte, error) {
	dir, err := os.MkdirTemp("", "hawser-trade-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	out := filepath.Join(dir, "trade.wasm")
	build := exec.CommandContext(ctx, goCommand, //nolint:gosec // the go command of the PATH
		"build", "-buildmode=c-shared", "-trimpath", "-buildvcs=false",
		"-ldflags=-s -w -buildid=", "-o", out, tradePackage)
	build.Dir = root
	build.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0", "GOFLAGS=")
	var output bytes.Buffer
	build.Stdout, build.Stderr = &output, &output
	if err := build.Run(); err != nil {
		return nil, &buildError{err, output.String()}
	}
	return os.ReadFile(out)
}

type buildError struct {
	cause  error
	output string
}

func (e *buildError) Error() string { return "build the sample: " + e.cause.Error() + "\n" + e.output }
func (e *buildError) Unwrap() error { return e.cause }

// checkout finds the root of a checkout at or above the working directory.
func checkout() (root string, found bool) {
	dir, err := os.Getwd()
	for err == nil {
		if _, err := os.Stat(filepath.Join(dir, "sdk", "examples", "trade", "trade.go")); err == nil {
			if _, err := os.Stat(filepath.Join(dir, "go.work")); err == nil {
				return dir, true
			}
		}
		if parent := filepath.Dir(dir); parent != dir {
			dir = parent
			continue
		}
		break
	}
	return "", false
}
