package pki

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"time"
)

// Shown is what a certificate says, for people and programs.
type Shown struct {
	Kind        string    `json:"kind"` // "authority", "worker" or "operator"
	Cluster     string    `json:"cluster"`
	Instance    string    `json:"instance,omitempty"`
	Roles       []string  `json:"roles,omitempty"`
	Hosts       []string  `json:"hosts,omitempty"`
	NotBefore   time.Time `json:"notBefore"`
	NotAfter    time.Time `json:"notAfter"`
	Serial      string    `json:"serial"`
	Fingerprint string    `json:"fingerprint"` // SHA-256 of the certificate
}

// Show reads the first certificate of a PEM file.
func Show(path string) (Shown, error) {
	certs, err := readCertificates(path)
	if err != nil {
		return Shown{}, err
	}
	c := certs[0]
	s := Shown{Kind: "worker", NotBefore: c.NotBefore, NotAfter: c.NotAfter, Serial: c.SerialNumber.Text(16), Fingerprint: fmt.Sprintf("%x", sha256.Sum256(c.Raw)), Hosts: c.DNSNames}
	for _, ip := range c.IPAddresses {
		s.Hosts = append(s.Hosts, ip.String())
	}
	if s.Cluster, err = authorityCluster(c); err == nil {
		s.Kind = "authority"
		return s, nil
	}
	id, err := FromCertificate(c)
	if err != nil {
		return Shown{}, fmt.Errorf("%s: %w", path, err)
	}
	s.Cluster, s.Instance, s.Roles = id.Cluster, id.Instance, id.Roles
	if !id.IsWorker() {
		s.Kind = Operator
	}
	return s, nil
}

// Ends says in words when the certificate ends.
func (s Shown) Ends(now time.Time) string {
	date := s.NotAfter.UTC().Format(time.RFC3339)
	switch left := s.NotAfter.Sub(now); {
	case left <= 0:
		return date + " (it has ended)"
	case left < warnBefore:
		return fmt.Sprintf("%s (in %d days: issue a new one)", date, int(left.Hours()/24))
	default:
		return fmt.Sprintf("%s (in %d days)", date, int(left.Hours()/24))
	}
}

func (s Shown) String() string {
	var b strings.Builder
	line := func(name, value string) {
		if value != "" {
			_, _ = fmt.Fprintf(&b, "%-12s %s\n", name, value)
		}
	}
	line("kind", s.Kind)
	line("cluster", s.Cluster)
	line("instance", s.Instance)
	line("roles", strings.Join(s.Roles, ", "))
	line("hosts", strings.Join(s.Hosts, ", "))
	line("from", s.NotBefore.UTC().Format(time.RFC3339))
	line("until", s.Ends(time.Now()))
	line("serial", s.Serial)
	line("fingerprint", s.Fingerprint)
	return b.String()
}
