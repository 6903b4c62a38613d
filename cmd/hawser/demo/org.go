package demo

import (
	"context"
	"crypto/x509/pkix"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/hawser-project/hawser/cluster/member"
	"github.com/hawser-project/hawser/cmd/hawser/client"
	"github.com/hawser-project/hawser/internal/secret"
)

// api is the base path of the REST API that the demo uses.
const api = "/api/v5_3"

// Org is one organisation: its cluster, its certificate authority, its one virtual node.
type Org struct {
	Short string // "alice"
	Name  string // X.500 name of the virtual node
	Hash  string // its short hash, once it exists
	Rest  string // URL of the REST API
	Ops   string // URL of the operations port
	// Gateway is the URL that peers reach the organisation at.
	Gateway string

	cluster  Cluster
	password secret.Secret
	tls      *authority
	client   *client.Client
}

// Client is the administrator's client of the organisation's REST API.
func (o *Org) Client() *client.Client { return o.client }

// Start runs the organisation's cluster and returns when it is ready.
func (o *Org) Start(ctx context.Context) error {
	if err := o.cluster.Start(ctx); err != nil {
		return err
	}
	var err error
	o.client, err = client.New(o.Rest, "admin", o.password, o.cluster.RestCertificate())
	return err
}

// Kill ends the cluster as a crash would. Stop ends it in order.
func (o *Org) Kill() error { return o.cluster.Kill() }

// Stop ends the cluster in order.
func (o *Org) Stop() error { return o.cluster.Stop() }

// Process is the id of the process of a cluster that is one process.
func (o *Org) Process() int {
	n, one := o.cluster.(*node)
	if !one || n.cmd == nil {
		return 0
	}
	return n.cmd.Process.Pid
}

func newOrg(dir, short, name string, s orgState, password secret.Secret, run func(Plan) Cluster) (*Org, error) {
	home := filepath.Join(dir, short)
	log, err := os.OpenFile(home+".log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	authority, err := openAuthority(dir, short+"-ca", pkix.Name{CommonName: short + " TLS authority", Organization: []string{short}, Country: []string{"GB"}})
	if err != nil {
		return nil, err
	}
	return &Org{
		Short: short, Name: name, Rest: "https://" + s.Rest, Ops: "http://" + s.Ops, Gateway: "https://" + s.Gateway, tls: authority,
		password: password,
		cluster:  run(Plan{Short: short, Dir: home, Rest: s.Rest, Gateway: s.Gateway, Ops: s.Ops, Password: password, Log: log}),
	}, nil
}

// taken says whether something that is to be made is there already, from an earlier run.
func taken(err error) bool { return client.StatusOf(err) == 409 }

// trustSigner makes the cluster take packages of the signer.
func (o *Org) trustSigner(ctx context.Context, certificate string) error {
	return o.client.Upload(ctx, "PUT", api+"/certificate/cluster/code-signer", nil,
		client.Part{Name: "alias", Value: "demo-signer"}, client.Part{Name: "certificate", FileName: "signer.pem", Value: certificate})
}

// tlsCertificate makes the key of the cluster's endpoint and has it certified.
func (o *Org) tlsCertificate(ctx context.Context) error {
	keyID, err := o.key(ctx, "p2p", "p2p-tls-key", "TLS")
	if err != nil {
		return err
	}
	var request json.RawMessage
	body, err := json.Marshal(map[string]any{"x500Name": o.Name, "subjectAlternativeNames": []string{"127.0.0.1"}})
	if err != nil {
		return err
	}
	request, err = o.client.Raw(ctx, "POST", api+"/certificate/p2p/"+keyID, "application/json", bytesReader(body))
	if err != nil {
		return err
	}
	certificate, err := o.tls.issue(request)
	if err != nil {
		return err
	}
	return o.client.Upload(ctx, "PUT", api+"/certificate/cluster/p2p-tls", nil,
		client.Part{Name: "alias", Value: "p2p-tls-cert"}, client.Part{Name: "certificate", FileName: "tls.pem", Value: certificate})
}

// key makes a key pair, or finds the one that was made under the alias before.
func (o *Org) key(ctx context.Context, tenant, alias, category string) (string, error) {
	var made struct{ ID string }
	err := o.client.JSON(ctx, "POST", fmt.Sprintf("%s/key/%s/alias/%s/category/%s/scheme/CORDA.ECDSA.SECP256R1", api, tenant, alias, category), nil, &made)
	if err == nil || !taken(err) {
		return made.ID, err
	}
	var found map[string]json.RawMessage
	if err := o.client.JSON(ctx, "GET", api+"/key/"+tenant+"?alias="+url.QueryEscape(alias), nil, &found); err != nil {
		return "", err
	}
	for id := range found {
		return id, nil
	}
	return "", fmt.Errorf("key %s of %s is taken and not there", alias, tenant)
}

// upload uploads the package, or finds the one that was uploaded before, and returns its checksum.
func (o *Org) upload(ctx context.Context, name, version string, build func() ([]byte, error)) (string, error) {
	var list struct {
		CPIs []struct {
			ID              struct{ CPIName, CPIVersion string }
			CPIFileChecksum string
		}
	}
	if err := o.client.JSON(ctx, "GET", api+"/cpi", nil, &list); err != nil {
		return "", err
	}
	for _, c := range list.CPIs {
		if c.ID.CPIName == name && c.ID.CPIVersion == version {
			return c.CPIFileChecksum, nil
		}
	}
	octets, err := build()
	if err != nil {
		return "", err
	}
	var made struct{ ID string }
	if err := o.client.Upload(ctx, "POST", api+"/cpi", &made, client.Part{Name: "upload", FileName: name + ".cpi", Value: string(octets)}); err != nil {
		return "", err
	}
	var status struct{ Status, CPIFileChecksum string }
	err = poll(ctx, func() (bool, error) {
		err := o.client.JSON(ctx, "GET", api+"/cpi/status/"+made.ID, nil, &status)
		return status.Status == "OK", err
	})
	return status.CPIFileChecksum, err
}

// virtualNode makes the organisation's virtual node.
func (o *Org) virtualNode(ctx context.Context, checksum string) error {
	var made struct{ RequestID string }
	err := o.client.JSON(ctx, "POST", api+"/virtualnode", map[string]string{"x500Name": o.Name, "cpiFileChecksum": checksum}, &made)
	if taken(err) {
		return o.findVirtualNode(ctx)
	}
	if err != nil {
		return err
	}
	o.Hash = made.RequestID
	return poll(ctx, func() (bool, error) {
		var status struct{ Status, ErrorReason string }
		err := o.client.JSON(ctx, "GET", api+"/virtualnode/status/"+o.Hash, nil, &status)
		if err == nil && status.Status == "FAILED" {
			err = fmt.Errorf("virtual node %s: %s", o.Name, status.ErrorReason)
		}
		return status.Status == "SUCCEEDED", err
	})
}

func (o *Org) findVirtualNode(ctx context.Context) error {
	var list struct {
		VirtualNodes []struct {
			HoldingIdentity struct{ X500Name, ShortHash string }
		}
	}
	if err := o.client.JSON(ctx, "GET", api+"/virtualnode", nil, &list); err != nil {
		return err
	}
	for _, v := range list.VirtualNodes {
		if v.HoldingIdentity.X500Name == o.Name {
			o.Hash = v.HoldingIdentity.ShortHash
			return nil
		}
	}
	return fmt.Errorf("virtual node %s exists and is not listed", o.Name)
}

// register makes the session key, sets the network up and registers with it.
func (o *Org) register(ctx context.Context) error {
	var registered []struct{ RegistrationStatus string }
	if err := o.client.JSON(ctx, "GET", api+"/membership/"+o.Hash, nil, &registered); err != nil {
		return err
	}
	if len(registered) > 0 {
		return nil // by an earlier run
	}
	if err := o.client.JSON(ctx, "POST", api+"/hsm/soft/"+o.Hash+"/SESSION_INIT", nil, nil); err != nil {
		return err
	}
	keyID, err := o.key(ctx, o.Hash, "session", "SESSION_INIT")
	if err != nil {
		return err
	}
	if err := o.client.JSON(ctx, "PUT", api+"/network/setup/"+o.Hash, map[string]any{
		"p2pTlsCertificateChainAlias": "p2p-tls-cert", "useClusterLevelTlsCertificateAndKey": true,
		"sessionKeysAndCertificates": []map[string]any{{"sessionKeyId": keyID, "preferred": true}},
	}, nil); err != nil {
		return err
	}
	return o.client.JSON(ctx, "POST", api+"/membership/"+o.Hash, map[string]any{"context": map[string]string{"corda.key.scheme": "CORDA.ECDSA.SECP256R1"}}, nil)
}

// export fetches the organisation's member file.
func (o *Org) export(ctx context.Context) ([]byte, error) {
	return o.client.Raw(ctx, "GET", "/api/hawser/v1/members/"+o.Hash, "", nil)
}

// admit takes another organisation's member file. In the demo one program sees both sides, so the fingerprint that it
// repeats comes from the file itself; between real organisations it comes by another way.
func (o *Org) admit(ctx context.Context, octets []byte) error {
	file, err := member.ParseFile(octets)
	if err != nil {
		return err
	}
	_, err = o.client.Raw(ctx, "POST", "/api/hawser/v1/members/"+o.Hash+"?fingerprint="+url.QueryEscape(file.Fingerprint()), "application/octet-stream", bytesReader(octets))
	return err
}

// Flow is what the API says of a flow.
type Flow struct {
	ClientRequestID string
	FlowID          string
	FlowStatus      string
	FlowResult      string // JSON
	FlowError       *struct{ Type, Message string }
}

// Ended says whether the flow has ended.
func (f Flow) Ended() bool {
	return f.FlowStatus == "COMPLETED" || f.FlowStatus == "FAILED" || f.FlowStatus == "KILLED"
}

// StartFlow starts a flow. The same id again is no error: it is the same flow.
func (o *Org) StartFlow(ctx context.Context, id, class string, arguments any) error {
	err := o.client.JSON(ctx, "POST", api+"/flow/"+o.Hash, map[string]any{"clientRequestId": id, "flowClassName": class, "requestBody": arguments}, nil)
	if taken(err) {
		return nil
	}
	return err
}

// Flow returns a flow as it is now.
func (o *Org) Flow(ctx context.Context, id string) (f Flow, err error) {
	err = o.client.JSON(ctx, "GET", api+"/flow/"+o.Hash+"/"+id, nil, &f)
	return f, err
}

// Run starts a flow, waits for its end and decodes its result.
func (o *Org) Run(ctx context.Context, id, class string, arguments, result any) error {
	if err := o.StartFlow(ctx, id, class, arguments); err != nil {
		return err
	}
	var f Flow
	if err := poll(ctx, func() (ended bool, err error) { f, err = o.Flow(ctx, id); return f.Ended(), err }); err != nil {
		return err
	}
	if f.FlowStatus != "COMPLETED" {
		return fmt.Errorf("flow %s of %s is %s: %+v", class, o.Short, f.FlowStatus, f.FlowError)
	}
	return json.Unmarshal([]byte(f.FlowResult), result)
}

// poll asks until the answer is yes, an error, or a minute is over.
func poll(ctx context.Context, ask func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for wait := 5 * time.Millisecond; ; wait = min(2*wait, 200*time.Millisecond) {
		if done, err := ask(); done || err != nil {
			return err
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return fmt.Errorf("waited in vain: %w", ctx.Err())
		}
	}
}
