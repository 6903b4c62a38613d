package member

import (
	"fmt"
	"maps"
	"strconv"

	"github.com/hawser-project/hawser/corda/x500"
)

// Description is what a member says of itself.
type Description struct {
	Name        x500.Name
	GroupID     string
	Endpoints   []Endpoint
	SessionKeys []Key
	LedgerKeys  []Key
	CPIName     string
	CPIVersion  string
	CPISigner   string // signer summary hash, "SHA-256:..."
	Software    string
	TLSSubject  string            // for mutual TLS: canonical subject of the client certificate
	Extensions  map[string]string // ext.* entries
}

// Key is a public key as a context states it.
type Key struct {
	PEM  string
	Hash string // "SHA-256:..."
	Spec string
}

// Context makes the member context (spec/networks.md 6.4), sorted. Empty parts are left out.
func (d Description) Context() Context {
	m := maps.Clone(d.Extensions)
	if m == nil {
		m = map[string]string{}
	}
	set := func(value, format string, args ...any) {
		if value != "" {
			m[fmt.Sprintf(format, args...)] = value
		}
	}
	set(d.Name.String(), KeyName)
	set(d.GroupID, KeyGroupID)
	set(strconv.Itoa(PlatformVersion), KeyPlatform)
	set(d.Software, KeySoftware)
	set(d.CPIName, KeyCPIName)
	set(d.CPIVersion, KeyCPIVersion)
	set(d.CPISigner, KeyCPISigner)
	set(d.TLSSubject, KeyTLSSubject)
	for i, e := range d.Endpoints {
		set(e.URL, KeyEndpointURL, i)
		set(strconv.Itoa(max(e.ProtocolVersion, 1)), KeyEndpointVersion, i)
	}
	for i, k := range d.SessionKeys {
		set(k.PEM, KeySessionPEM, i)
		set(k.Hash, KeySessionHash, i)
		set(k.Spec, KeySessionSpec, i)
	}
	for i, k := range d.LedgerKeys {
		set(k.PEM, KeyLedgerPEM, i)
		set(k.Hash, KeyLedgerHash, i)
		set(k.Spec, KeyLedgerSpec, i)
	}
	return NewContext(m)
}
