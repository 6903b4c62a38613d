package p2p

import (
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/hawser-project/hawser/corda/x500"
)

// How a gateway names the endpoint that it wants, how the other finds its certificate by that name, and how the first
// recognises the second (spec/p2p-wire.md 6.4).

const (
	ipSuffix     = ".cluster.corda.net"
	corda4Suffix = ".p2p.corda.net"
	corda4Digits = 32
)

// ErrServerName is wrapped when a certificate is not the expected server's.
var ErrServerName = errors.New("certificate is not for this server")

// SNI returns the server name to ask for at an endpoint URL: its host, or, since an address is no server name, the
// address followed by ".cluster.corda.net". (Corda fails on IPv6 addresses; the rule is the same.)
func SNI(endpoint string) (string, error) {
	u, err := url.Parse(endpoint)
	if err != nil {
		return "", fmt.Errorf("endpoint: %w", err)
	}
	host := u.Hostname()
	if host == "" {
		return "", fmt.Errorf("endpoint %q has no host", endpoint)
	}
	if address, err := netip.ParseAddr(host); err == nil {
		if address.Zone() != "" {
			return "", fmt.Errorf("endpoint %q has an address with a zone", endpoint)
		}
		return host + ipSuffix, nil
	}
	return host, nil
}

// Corda4SNI returns the server name that stands for a member in groups whose tlsPki is Corda4: a hash of its name,
// attributes sorted by the text of their object identifier.
func Corda4SNI(name x500.Name) string {
	var parts []string
	for _, a := range name.Attributes() {
		parts = append(parts, a.OID+"="+a.Value)
	}
	// No identifier is the beginning of another, so the order of "oid=value" is that of the identifiers.
	slices.Sort(parts)
	sum := sha256.Sum256([]byte(strings.Join(parts, ", ")))
	return hex.EncodeToString(sum[:])[:corda4Digits] + corda4Suffix
}

// MatchesSNI reports whether a server certificate is to be used when a client asks for a server name. The caller takes
// the first of its certificates that matches, and refuses the connection if none does or no name is asked for.
func MatchesSNI(leaf *x509.Certificate, sni string) bool {
	switch {
	case isCorda4SNI(sni):
		name, err := x500.ParseDER(leaf.RawSubject)
		return err == nil && Corda4SNI(name) == sni
	case strings.HasSuffix(sni, ipSuffix):
		return hasAddress(leaf, strings.TrimSuffix(sni, ipSuffix))
	}
	if !hasAlternativeNames(leaf) {
		return false
	}
	return matchesAny(leaf.DNSNames, sni) || matchesHost(leaf.Subject.CommonName, sni)
}

func isCorda4SNI(sni string) bool {
	digits, found := strings.CutSuffix(sni, corda4Suffix)
	if !found || len(digits) != corda4Digits {
		return false
	}
	_, err := hex.DecodeString(digits)
	return err == nil
}

// VerifyServer checks that a server certificate is that of the endpoint: of the name asked for or, if that is not the
// endpoint's host, of the host. The chain is the caller's to verify.
func VerifyServer(leaf *x509.Certificate, sni, host string) error {
	if isServer(leaf, sni) || (host != sni && isServer(leaf, host)) {
		return nil
	}
	return fmt.Errorf("%w: neither %q nor %q", ErrServerName, sni, host)
}

// VerifyCorda4Server checks that a server certificate is that of a member, in groups whose tlsPki is Corda4.
func VerifyCorda4Server(leaf *x509.Certificate, member x500.Name) error {
	subject, err := x500.ParseDER(leaf.RawSubject)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrServerName, err)
	}
	if subject != member {
		return fmt.Errorf("%w: it is of %v, want %v", ErrServerName, subject, member)
	}
	return nil
}

// isServer follows RFC 2818: an address needs its own entry; a host is matched with the DNS entries, and with the
// common name only if there are none.
func isServer(leaf *x509.Certificate, host string) bool {
	if _, err := netip.ParseAddr(host); err == nil {
		return hasAddress(leaf, host)
	}
	if len(leaf.DNSNames) > 0 {
		return matchesAny(leaf.DNSNames, host)
	}
	return matchesHost(leaf.Subject.CommonName, host)
}

func hasAddress(leaf *x509.Certificate, text string) bool {
	want, err := netip.ParseAddr(text)
	if err != nil {
		return false
	}
	for _, octets := range leaf.IPAddresses {
		if address, ok := netip.AddrFromSlice(octets); ok && address.Unmap() == want.Unmap() {
			return true
		}
	}
	return false
}

// hasAlternativeNames reports whether the certificate has the extension subjectAltName, with entries of any kind.
func hasAlternativeNames(leaf *x509.Certificate) bool {
	return slices.ContainsFunc(leaf.Extensions, func(e pkix.Extension) bool { return e.Id.String() == "2.5.29.17" })
}

func matchesAny(patterns []string, host string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool { return matchesHost(pattern, host) })
}

// matchesHost compares a host with a name in a certificate, case aside. A pattern has one asterisk at the end of its
// first label, and stands for hosts of as many labels.
func matchesHost(pattern, host string) bool {
	pattern, host = strings.ToLower(pattern), strings.ToLower(host)
	if !strings.Contains(pattern, "*") {
		return pattern != "" && pattern == host
	}
	prefix, domain, found := strings.Cut(pattern, "*.")
	if !found || strings.Contains(prefix, ".") || !isDomain(domain) {
		return false
	}
	label, rest, found := strings.Cut(host, ".")
	return found && rest == domain && label != "" && strings.HasPrefix(label, prefix)
}

// isDomain reports whether a pattern's domain is at least second-level, so that no certificate stands for a whole
// top-level domain, and has no asterisk left. Corda looks the top-level domain up in a list as well; we have none.
func isDomain(domain string) bool {
	labels := strings.Split(domain, ".")
	for _, label := range labels {
		if label == "" || len(label) > 63 || strings.ContainsFunc(label, isNotHostCharacter) ||
			label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
	}
	last := labels[len(labels)-1]
	return len(labels) >= 2 && len(domain) <= 253 && strings.Trim(last, "0123456789") != ""
}

func isNotHostCharacter(r rune) bool {
	return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-'
}
