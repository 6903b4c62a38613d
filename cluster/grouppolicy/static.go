package grouppolicy

import (
	"encoding/json"
	"fmt"
)

// StaticOptions are what a static policy is made of.
type StaticOptions struct {
	GroupID string
	// TLSTrustRoots are PEM certificates.
	TLSTrustRoots []string
	// SessionTrustRoots are PEM certificates; without any, sessions are without certificates (NoPKI).
	SessionTrustRoots []string
	TLSType           TLSType      // default OneWay
	ProtocolMode      ProtocolMode // default AuthenticatedEncryption
	Members           []StaticMember
	GroupParameters   map[string]string
	MinimumPlatform   int
}

// RenderStatic writes the policy of a static network, for the command line and the demo, and checks it as Parse does.
func RenderStatic(o StaticOptions) ([]byte, error) {
	type fields = map[string]any
	members := make([]fields, 0, len(o.Members))
	for _, m := range o.Members {
		f := fields{"name": m.Name.String(), "memberStatus": orDefault(m.Status, "ACTIVE"), "serial": max(m.Serial, 1)}
		if m.Modified != "" {
			f["modifiedTime"] = m.Modified
		}
		if m.Software != "" {
			f["softwareVersion"] = m.Software
		}
		for i, e := range m.Endpoints {
			f[fmt.Sprintf("endpointUrl-%d", i+1)] = e.URL
			f[fmt.Sprintf("endpointProtocol-%d", i+1)] = max(e.ProtocolVersion, 1)
		}
		members = append(members, f)
	}
	network := fields{"members": members}
	if len(o.GroupParameters) > 0 || o.MinimumPlatform > 0 {
		parameters := fields{}
		for k, v := range o.GroupParameters {
			parameters[k] = v
		}
		if o.MinimumPlatform > 0 {
			parameters["corda.minimum.platform.version"] = o.MinimumPlatform
		}
		network["groupParameters"] = parameters
	}
	p2p := fields{
		"sessionPki": NoPKI, "tlsTrustRoots": o.TLSTrustRoots, "tlsPki": "Standard", "tlsVersion": "1.3",
		"protocolMode": orDefault(o.ProtocolMode, AuthenticatedEncryption), "tlsType": orDefault(o.TLSType, OneWay),
	}
	if len(o.SessionTrustRoots) > 0 {
		p2p["sessionPki"], p2p["sessionTrustRoots"] = SessionStandard, o.SessionTrustRoots
	}
	text, err := json.MarshalIndent(fields{
		"fileFormatVersion": 1, "groupId": o.GroupID, "registrationProtocol": staticRegistration, "synchronisationProtocol": staticSync,
		"protocolParameters": fields{"sessionKeyPolicy": Distinct, "staticNetwork": network},
		"p2pParameters":      p2p, "cipherSuite": fields{},
	}, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write the group policy: %w", err)
	}
	_, err = Parse(text)
	return text, err
}

// RenderMGM writes the policy for the virtual node of an MGM (spec/networks.md 2.2).
func RenderMGM() []byte {
	return []byte(`{
  "fileFormatVersion": 1,
  "groupId": "` + NewGroup + `",
  "registrationProtocol": "` + mgmRegistration + `",
  "synchronisationProtocol": "` + mgmSync + `"
}
`)
}

func orDefault[T ~string](v, def T) T {
	if v == "" {
		return def
	}
	return v
}
