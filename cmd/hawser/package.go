package main

import (
	"crypto"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hawser-project/hawser/cluster/cpi"
	"github.com/hawser-project/hawser/cluster/grouppolicy"
	"github.com/hawser-project/hawser/internal/wholefile"
	"github.com/hawser-project/hawser/process"
)

func newPackage() *cobra.Command {
	c := &cobra.Command{Use: "package", Short: "Build and inspect application packages (.cpi)", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
	c.AddCommand(newPackageBuild(), newPackageInspect())
	return c
}

type packageFlags struct {
	name, version, policy, key, chain, out string
	modules                                []string
}

// newPackageBuild signs WebAssembly modules and a group policy into a package that a cluster takes.
func newPackageBuild() *cobra.Command {
	var f packageFlags
	c := &cobra.Command{
		Use: "build", Short: "Make a signed package of modules and a group policy", Args: cobra.NoArgs,
		Long: `Make a signed package (.cpi) of WebAssembly modules and a group policy.

The package is checked as a cluster would check it before it is written, so that
what this command makes can be uploaded wherever its signer is trusted: import
the signer's certificate as code-signer first.

Build a module from Go with
  GOOS=wasip1 GOARCH=wasm go build -buildmode=c-shared -trimpath -ldflags="-s -w -buildid=" -o trade.wasm ./trade

Examples:
  hawser package build --name trade --version 1.0 --module trade=trade.wasm \
      --policy GroupPolicy.json --key signer.key --chain signer.pem --out trade.cpi`,
		RunE: func(c *cobra.Command, _ []string) error { return buildPackage(c, f) },
	}
	c.Flags().StringVar(&f.name, "name", "", "name of the package")
	c.Flags().StringVar(&f.version, "version", "", "version of the package")
	c.Flags().StringArrayVar(&f.modules, "module", nil, "a module as NAME=FILE.wasm; may be given more than once")
	c.Flags().StringVar(&f.policy, "policy", "", "file with the group policy (JSON)")
	c.Flags().StringVar(&f.key, "key", "", "file with the signer's private key (PEM, PKCS#8 or SEC 1)")
	c.Flags().StringVar(&f.chain, "chain", "", "file with the signer's certificate and those above it (PEM)")
	c.Flags().StringVar(&f.out, "out", "", "file to write")
	for _, name := range []string{"name", "version", "policy", "key", "chain", "out"} {
		_ = c.MarkFlagRequired(name) // the flag exists
	}
	return c
}

func buildPackage(c *cobra.Command, f packageFlags) error {
	options := cpi.BuildOptions{Name: f.name, Version: f.version, CheckGroupPolicy: checkPolicy}
	var err error
	if options.GroupPolicy, err = os.ReadFile(f.policy); err != nil {
		return err
	}
	if options.Signer, err = readKey(f.key); err != nil {
		return err
	}
	if options.Chain, err = readCertificates(f.chain); err != nil {
		return err
	}
	checker, err := process.NewModuleChecker(c.Context())
	if err != nil {
		return err
	}
	defer func() { _ = checker.Close(c.Context()) }()
	options.CheckModule = checker.Check
	for _, m := range f.modules {
		name, file, ok := strings.Cut(m, "=")
		if !ok {
			return &usageError{fmt.Errorf("--module %q: want NAME=FILE.wasm", m)}
		}
		wasm, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		options.Modules = append(options.Modules, cpi.BuildModule{Name: name, Version: f.version, Wasm: wasm})
	}
	return wholefile.Write(f.out, 0o600, func(w io.Writer) error { return cpi.Build(w, options) })
}

func checkPolicy(policy []byte) error {
	_, err := grouppolicy.Parse(policy)
	return err
}

func readKey(path string) (crypto.Signer, error) {
	octets, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(octets)
	if block == nil {
		return nil, fmt.Errorf("%s: no PEM block in it", path)
	}
	if k, err := x509.ParseECPrivateKey(block.Bytes); err == nil {
		return k, nil
	}
	if k, err := x509.ParsePKCS1PrivateKey(block.Bytes); err == nil {
		return k, nil
	}
	k, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: a private key in PKCS#8, PKCS#1 or SEC 1 is wanted, without a passphrase", path)
	}
	signer, ok := k.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("%s: the key can't sign", path)
	}
	return signer, nil
}

func readCertificates(path string) (chain []*x509.Certificate, err error) {
	rest, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: certificate %d: %w", path, len(chain)+1, err)
		}
		chain = append(chain, certificate)
	}
	if len(chain) == 0 {
		return nil, fmt.Errorf("%s: no certificate in it", path)
	}
	return chain, nil
}

// packageReport is what inspect prints with --json.
type packageReport struct {
	Name              string         `json:"name"`
	Version           string         `json:"version"`
	SignerSummaryHash string         `json:"signerSummaryHash"`
	Checksum          string         `json:"checksum"`
	Size              int64          `json:"size"`
	GroupID           string         `json:"groupId"`
	Signers           []string       `json:"signers"`
	Modules           []moduleReport `json:"modules"`
}

type moduleReport struct {
	Name     string          `json:"name"`
	Version  string          `json:"version"`
	Hash     string          `json:"hash"`
	Size     int64           `json:"size"`
	Manifest json.RawMessage `json:"manifest"`
}

// newPackageInspect shows what is in a package after checking all of it but whether its signer is trusted.
func newPackageInspect() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use: "inspect FILE", Short: "Check a package and show what is in it", Args: cobra.ExactArgs(1),
		Long: `Check a package as a cluster would, except whether its signer is trusted, and show what is in it.

Examples:
  hawser package inspect trade.cpi
  hawser package inspect --json trade.cpi | jq .modules`,
		RunE: func(c *cobra.Command, args []string) error { return inspectPackage(c, args[0], asJSON) },
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func inspectPackage(c *cobra.Command, path string, asJSON bool) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	checker, err := process.NewModuleChecker(c.Context())
	if err != nil {
		return err
	}
	defer func() { _ = checker.Close(c.Context()) }()
	p, err := cpi.Open(file, info.Size(), cpi.Options{AnySigner: true, CheckModule: checker.Check, CheckGroupPolicy: checkPolicy})
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	report := reportOf(p)
	if asJSON {
		out := json.NewEncoder(c.OutOrStdout())
		out.SetIndent("", "  ")
		return out.Encode(report)
	}
	return printReport(c.OutOrStdout(), report)
}

func reportOf(p *cpi.Package) packageReport {
	r := packageReport{
		Name: p.Name, Version: p.Version, SignerSummaryHash: p.SignerSummaryHash, Checksum: p.ShortChecksum(), Size: p.Size,
		GroupID: p.GroupID, Signers: []string{}, Modules: []moduleReport{},
	}
	for _, s := range p.Signers {
		r.Signers = append(r.Signers, s.Subject.String())
	}
	for _, m := range p.Modules {
		r.Modules = append(r.Modules, moduleReport{m.Name, m.Version, m.Hash, m.Size, m.Manifest})
	}
	return r
}

func printReport(w io.Writer, r packageReport) error {
	var b strings.Builder
	fmt.Fprintf(&b, "package   %s %s\nchecksum  %s\nsize      %d octets\nsigner    %s\n          %s\ngroup     %s\n",
		r.Name, r.Version, r.Checksum, r.Size, strings.Join(r.Signers, "; "), r.SignerSummaryHash, r.GroupID)
	for _, m := range r.Modules {
		fmt.Fprintf(&b, "module    %s %s  %d octets  SHA-256 %s\n", m.Name, m.Version, m.Size, m.Hash)
		var manifest struct {
			Flows []struct{ Class, Kind string }
		}
		if err := json.Unmarshal(m.Manifest, &manifest); err != nil {
			return fmt.Errorf("manifest of %s: %w", m.Name, err)
		}
		for _, f := range manifest.Flows {
			fmt.Fprintf(&b, "  flow    %s (%s)\n", f.Class, f.Kind)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}
