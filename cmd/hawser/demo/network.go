package demo

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	mathrand "math/rand/v2"
	"net"
	"os"
	"path/filepath"

	"github.com/google/uuid"

	"github.com/hawser-project/hawser/cluster/cpi"
	"github.com/hawser-project/hawser/cluster/grouppolicy"
	"github.com/hawser-project/hawser/corda/x500"
	"github.com/hawser-project/hawser/internal/secret"
)

// Network is the demo's network: two organisations that each run a cluster, and what they agreed on.
type Network struct {
	Alice, Bob *Org

	state  state
	signer *authority
}

// state is what the demo remembers from run to run, in demo.json.
type state struct {
	GroupID  string              `json:"groupId"`
	Password string              `json:"password"` // of both administrators; for the demo alone
	Orgs     map[string]orgState `json:"orgs"`
}

type orgState struct {
	Rest    string `json:"rest"`
	Gateway string `json:"gateway"`
	Ops     string `json:"ops"`
}

// The organisations' names.
const (
	aliceName = "O=Alice, L=London, C=GB"
	bobName   = "O=Bob, L=Paris, C=FR"
)

// Open reads the demo's directory, or begins a new one. binary is the hawser command that runs each cluster, as one process.
func Open(dir, binary string) (*Network, error) {
	return OpenWith(dir, func(p Plan) Cluster { return &node{Plan: p, binary: binary} })
}

// OpenWith is Open with clusters that are run in another way.
func OpenWith(dir string, run func(Plan) Cluster) (*Network, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	s, err := openState(filepath.Join(dir, "demo.json"))
	if err != nil {
		return nil, err
	}
	n := &Network{state: s}
	if n.signer, err = openAuthority(dir, "signer", pkix.Name{CommonName: "Demo Signer", Organization: []string{"Demo"}, Locality: []string{"London"}, Country: []string{"GB"}}); err != nil {
		return nil, err
	}
	password := secret.FromString(s.Password)
	if n.Alice, err = newOrg(dir, "alice", aliceName, s.Orgs["alice"], password, run); err != nil {
		return nil, err
	}
	n.Bob, err = newOrg(dir, "bob", bobName, s.Orgs["bob"], password, run)
	return n, err
}

func openState(path string) (s state, err error) {
	octets, err := os.ReadFile(path)
	if err == nil {
		return s, json.Unmarshal(octets, &s)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return s, err
	}
	s = state{GroupID: uuid.NewString(), Password: rand.Text(), Orgs: make(map[string]orgState)}
	ports, err := FreePorts(6)
	if err != nil {
		return s, err
	}
	for i, org := range []string{"alice", "bob"} {
		s.Orgs[org] = orgState{Rest: ports[3*i], Gateway: ports[3*i+1], Ops: ports[3*i+2]}
	}
	if octets, err = json.MarshalIndent(s, "", "  "); err != nil {
		return s, err
	}
	return s, os.WriteFile(path, append(octets, '\n'), 0o600)
}

// Ports that systems do not give to outgoing connections by themselves: what is free stays free until it is listened on.
const firstPort, ports = 10_000, 10_000

// FreePorts finds ports of the loopback interface that nobody listens on.
func FreePorts(count int) (addresses []string, err error) {
	for tries := 0; len(addresses) < count; tries++ {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", firstPort+mathrand.IntN(ports))) //nolint:noctx // returns at once
		if err != nil {
			if tries > 1000 {
				return nil, err
			}
			continue
		}
		defer func() { _ = l.Close() }() // all are held until all are found
		addresses = append(addresses, l.Addr().String())
	}
	return addresses, nil
}

// Password is the password of both administrators.
func (n *Network) Password() string { return n.state.Password }

// Orgs are the organisations.
func (n *Network) Orgs() []*Org { return []*Org{n.Alice, n.Bob} }

// Step is told of each thing that is done, and does it.
type Step func(what string, do func() error) error

// Start runs both clusters.
func (n *Network) Start(ctx context.Context, step Step) error {
	for _, o := range n.Orgs() {
		if err := step("start the cluster of "+o.Short, func() error { return o.Start(ctx) }); err != nil {
			return err
		}
	}
	return nil
}

// Stop ends both clusters in order.
func (n *Network) Stop() error { return errors.Join(n.Alice.Stop(), n.Bob.Stop()) }

// SetUp makes both organisations members of the network, through their REST APIs alone. What an earlier run has done is
// left as it is.
func (n *Network) SetUp(ctx context.Context, module []byte, step Step) error {
	for _, o := range n.Orgs() {
		for _, s := range n.steps(ctx, o, module) {
			if err := step(o.Short+": "+s.what, s.do); err != nil {
				return fmt.Errorf("%s: %s: %w", o.Short, s.what, err)
			}
		}
	}
	return step("exchange member information", func() error {
		return errors.Join(exchange(ctx, n.Alice, n.Bob), exchange(ctx, n.Bob, n.Alice))
	})
}

type setUpStep struct {
	what string
	do   func() error
}

func (n *Network) steps(ctx context.Context, o *Org, module []byte) []setUpStep {
	var checksum string
	return []setUpStep{
		{"trust the package's signer", func() error { return o.trustSigner(ctx, n.signer.pem()) }},
		{"make and certify the endpoint's TLS key", func() error { return o.tlsCertificate(ctx) }},
		{"upload the package", func() (err error) {
			checksum, err = o.upload(ctx, Application, version, func() ([]byte, error) { return n.pack(module) })
			return err
		}},
		{"create the virtual node " + o.Name, func() error { return o.virtualNode(ctx, checksum) }},
		{"make the session key, set the network up, register", func() error { return o.register(ctx) }},
	}
}

// version of the demo's package.
const version = "1.0"

// pack makes the package: the same network and module for both organisations.
func (n *Network) pack(module []byte) ([]byte, error) {
	var members []grouppolicy.StaticMember
	var roots []string
	for _, o := range n.Orgs() {
		name, err := x500.Parse(o.Name)
		if err != nil {
			return nil, err
		}
		members = append(members, grouppolicy.StaticMember{
			Name: name, Endpoints: []grouppolicy.Endpoint{{URL: "https://" + n.state.Orgs[o.Short].Gateway, ProtocolVersion: 1}},
		})
		roots = append(roots, o.tls.pem())
	}
	policy, err := grouppolicy.RenderStatic(grouppolicy.StaticOptions{GroupID: n.state.GroupID, TLSTrustRoots: roots, Members: members})
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	err = cpi.Build(&out, cpi.BuildOptions{
		Name: Application, Version: version, GroupPolicy: policy, Modules: []cpi.BuildModule{{Name: Application, Version: version, Wasm: module}},
		Signer: n.signer.key, Chain: []*x509.Certificate{n.signer.certificate},
	})
	return out.Bytes(), err
}

func exchange(ctx context.Context, from, to *Org) error {
	file, err := from.export(ctx)
	if err != nil {
		return err
	}
	return to.admit(ctx, file)
}

func bytesReader(b []byte) io.Reader { return bytes.NewReader(b) }
