package grouppolicy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/hawser-project/hawser/cluster/fault"
	"github.com/hawser-project/hawser/corda/x500"
)

// Bounds of a policy.
const (
	maxPolicy     = 4 << 20
	maxFaults     = 50
	maxCerts      = 100
	maxMembers    = 10_000
	maxEndpoints  = 10
	maxExtension  = 800 // characters of an ext.* group parameter (spec/networks.md 2.1)
	minPlatformLo = 50_000
	minPlatformHi = 99_999
)

var uuidForm = regexp.MustCompile(`\A[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[1-5][0-9a-fA-F]{3}-[89abAB][0-9a-fA-F]{3}-[0-9a-fA-F]{12}\z`)

// Parse reads and checks a policy: the table of spec/networks.md 2.1. All faults are reported in one error, whose
// details have the JSON path of each. Unknown properties are tolerated, as Corda's schema does.
func Parse(text []byte) (*Policy, error) {
	root, err := decode(text)
	if err != nil {
		return nil, err
	}
	c := &checker{}
	o := object{c, "$", root}
	p := &Policy{
		RegistrationProtocol: o.text("registrationProtocol"), SynchronisationProtocol: o.text("synchronisationProtocol"),
	}
	if v, ok := o.number("fileFormatVersion", true); ok && v != 1 {
		o.fault("fileFormatVersion", "is %d; only 1 is supported", v)
	}
	p.Shape = shapeOf(root, p.RegistrationProtocol)
	p.readGroupID(o)
	if p.Shape == MGM {
		for _, name := range []string{"p2pParameters", "mgmInfo", "cipherSuite"} {
			if _, there := root[name]; there {
				o.fault(name, "must not be in the policy of an MGM")
			}
		}
		return p, c.err()
	}
	p.readProtocol(o)
	p.P2P = readP2P(o.object("p2pParameters", true))
	o.textMap("cipherSuite", true)
	if p.Shape == Member {
		p.readMGMInfo(o)
	} else if _, there := root["mgmInfo"]; there {
		o.fault("mgmInfo", "must not be in a static policy")
	}
	return p, c.err()
}

func decode(text []byte) (map[string]any, error) {
	if len(text) > maxPolicy {
		return nil, fault.New(fault.TooLarge, "the group policy has %d octets, at most %d are taken", len(text), maxPolicy)
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var root map[string]any
	if err := d.Decode(&root); err != nil {
		return nil, fault.New(fault.Invalid, "the group policy is not a JSON object: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) || root == nil {
		return nil, fault.New(fault.Invalid, "the group policy must be one JSON object and nothing after it")
	}
	return root, nil
}

func shapeOf(root map[string]any, registration string) Shape {
	if protocol, ok := root["protocolParameters"].(map[string]any); ok {
		if _, static := protocol["staticNetwork"]; static {
			return Static
		}
	}
	if registration == mgmRegistration || root["groupId"] == NewGroup {
		return MGM
	}
	return Member
}

func (p *Policy) readGroupID(o object) {
	p.GroupID = o.text("groupId")
	switch isUUID := uuidForm.MatchString(p.GroupID); {
	case p.GroupID == "" || p.Shape == MGM && (isUUID || p.GroupID == NewGroup):
	case p.Shape != MGM && p.GroupID == NewGroup:
		o.fault("groupId", "must be the UUID of the network; %s is for an MGM only", NewGroup)
	case !isUUID:
		o.fault("groupId", "is %q, not a UUID (or %s for an MGM)", clip(p.GroupID), NewGroup)
	}
}

func (p *Policy) readProtocol(o object) {
	protocol := o.object("protocolParameters", true)
	p.SessionKeyPolicy = SessionKeyPolicy(protocol.choice("sessionKeyPolicy", nil, string(Combined), string(Distinct)))
	if p.Shape != Static {
		return
	}
	n := protocol.object("staticNetwork", true)
	p.Network = &StaticNetwork{}
	seen := map[x500.Name]bool{}
	for i, m := range n.objects("members", maxMembers) {
		member := readStaticMember(m)
		if seen[member.Name] && !member.Name.IsZero() {
			m.fault("name", "%s is listed twice (second time as number %d)", member.Name, i+1)
		}
		seen[member.Name] = true
		p.Network.Members = append(p.Network.Members, member)
	}
	readGroupParameters(n.object("groupParameters", false), p.Network)
}

func readGroupParameters(o object, n *StaticNetwork) {
	n.GroupParameters = map[string]string{}
	for _, name := range o.names() {
		switch {
		case name == "corda.minimum.platform.version":
			if v, ok := o.number(name, true); ok && (v < minPlatformLo || v > minPlatformHi) {
				o.fault(name, "is %d, must be %d to %d", v, minPlatformLo, minPlatformHi)
			} else {
				n.MinimumPlatform = int(v)
			}
		case strings.HasPrefix(name, "ext."):
			value := o.text(name)
			if utf8.RuneCountInString(value) > maxExtension {
				o.fault(name, "has more than %d characters", maxExtension)
			}
			n.GroupParameters[name] = value
		default:
			o.fault(name, "is not a group parameter; use ext.* or corda.minimum.platform.version")
		}
	}
}

func readStaticMember(o object) StaticMember {
	m := StaticMember{Name: o.member("name", true), Status: "ACTIVE", Serial: 1}
	if _, there := o.fields["memberStatus"]; there {
		m.Status = o.choice("memberStatus", nil, "ACTIVE", "SUSPENDED", "PENDING")
	}
	if v, ok := o.number("serial", false); ok {
		if v < 1 {
			o.fault("serial", "is %d, must be 1 or more", v)
		}
		m.Serial = v
	}
	if _, there := o.fields["modifiedTime"]; there {
		m.Modified = o.text("modifiedTime")
		if _, err := time.Parse(time.RFC3339Nano, m.Modified); err != nil {
			o.fault("modifiedTime", "is %q, not an instant such as 2024-01-31T12:00:00Z", clip(m.Modified))
		}
	}
	if _, there := o.fields["softwareVersion"]; there {
		m.Software = o.text("softwareVersion")
	}
	for i := 1; ; i++ {
		urlName, versionName := fmt.Sprintf("endpointUrl-%d", i), fmt.Sprintf("endpointProtocol-%d", i)
		if _, there := o.fields[urlName]; !there && i > 1 {
			return m
		}
		if i > maxEndpoints {
			o.fault(urlName, "a member has at most %d endpoints", maxEndpoints)
			return m
		}
		e := Endpoint{URL: o.text(urlName)}
		if err := checkEndpoint(e.URL); e.URL != "" && err != nil {
			o.fault(urlName, "%v", err)
		}
		if v, ok := o.number(versionName, true); ok {
			e.ProtocolVersion = int(v)
			if v < 1 || v > 1000 {
				o.fault(versionName, "is %d, must be 1", v)
			}
		}
		m.Endpoints = append(m.Endpoints, e)
	}
}

func checkEndpoint(text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil {
		return fmt.Errorf("is %q, must be a URL such as https://gateway.example.org:8080", clip(text))
	}
	if port := u.Port(); port != "" {
		if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
			return fmt.Errorf("has port %q, must be 1 to 65535", clip(port))
		}
	}
	return nil
}

func readP2P(o object) *P2P {
	p := &P2P{
		SessionPKI:    SessionPKI(o.choice("sessionPki", []string{"StandardEV3", "Corda4"}, string(SessionStandard), string(NoPKI))),
		TLSTrustRoots: o.certificates("tlsTrustRoots", true),
		TLSVersion:    o.choice("tlsVersion", nil, "1.2", "1.3"),
		ProtocolMode:  ProtocolMode(o.choice("protocolMode", nil, string(Authentication), string(AuthenticatedEncryption))),
		TLSType:       TLSType(o.choice("tlsType", nil, string(OneWay), string(Mutual))),
	}
	o.choice("tlsPki", []string{"StandardEV3", "Corda4"}, "Standard")
	p.SessionTrustRoots = o.certificates("sessionTrustRoots", p.SessionPKI == SessionStandard)
	if _, there := o.fields["mtlsMgmClientCertificateSubject"]; there {
		p.MGMClientSubject = o.member("mtlsMgmClientCertificateSubject", true)
		if p.TLSType == OneWay {
			o.fault("mtlsMgmClientCertificateSubject", "is for tlsType %s only", Mutual)
		}
	}
	return p
}

// readMGMInfo checks what a member needs to reach its MGM (spec/networks.md 2.3).
func (p *Policy) readMGMInfo(o object) {
	p.MGMInfo = o.textMap("mgmInfo", true)
	if p.MGMInfo == nil {
		return
	}
	info := o.object("mgmInfo", true)
	info.member("corda.name", true)
	if id := info.text("corda.groupId"); id != "" && id != p.GroupID {
		info.fault("corda.groupId", "is %q, but the policy is for group %q", clip(id), clip(p.GroupID))
	}
	if u := info.text("corda.endpoints.0.connectionURL"); u != "" {
		if err := checkEndpoint(u); err != nil {
			info.fault("corda.endpoints.0.connectionURL", "%v", err)
		}
	}
	if s, there := p.MGMInfo["corda.serial"]; there {
		if n, err := strconv.ParseInt(s, 10, 64); err != nil || n < 0 {
			info.fault("corda.serial", "is %q, not a number", clip(s))
		}
	}
}
