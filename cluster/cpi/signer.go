package cpi

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"slices"
	"strings"
)

// SignerSummaryHash is the identity of signers: spec/networks.md 12.2. A certificate that is there twice counts once.
func SignerSummaryHash(certificates []*x509.Certificate) (string, error) {
	var sums [][]byte
	seen := map[string]bool{}
	for _, c := range certificates {
		if seen[string(c.Raw)] {
			continue
		}
		seen[string(c.Raw)] = true
		text, err := subject(c.RawSubject)
		if err != nil {
			return "", err
		}
		sum := sha256.Sum256([]byte(text))
		sums = append(sums, sum[:])
	}
	slices.SortFunc(sums, compareSigned)
	all := sha256.New()
	for _, sum := range sums {
		_, _ = fmt.Fprintf(all, "SHA-256:%s", upperHex(sum))
	}
	return "SHA-256:" + upperHex(all.Sum(nil)), nil
}

// compareSigned orders octets as Java does, whose bytes have a sign (spec/networks.md 15 no. 15).
func compareSigned(a, b []byte) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] { //nolint:gosec // i is below both lengths
			return int(int8(a[i])) - int(int8(b[i])) //nolint:gosec // the same
		}
	}
	return len(a) - len(b)
}

// subjectOrder is the order in which Corda prints a signer's subject, last first (see subject).
var subjectOrder = []struct {
	keyword string
	oid     asn1.ObjectIdentifier
}{
	{"CN", asn1.ObjectIdentifier{2, 5, 4, 3}}, {"OU", asn1.ObjectIdentifier{2, 5, 4, 11}}, {"O", asn1.ObjectIdentifier{2, 5, 4, 10}},
	{"L", asn1.ObjectIdentifier{2, 5, 4, 7}}, {"ST", asn1.ObjectIdentifier{2, 5, 4, 8}}, {"C", asn1.ObjectIdentifier{2, 5, 4, 6}},
}

// subject prints a subject as javax.naming.ldap.LdapName does after Corda has dropped all but six attributes and sorted
// them: CN first in its list, which is printed from its end. Several of one attribute keep the order of the certificate
// in that list, so they print reversed.
func subject(der []byte) (string, error) {
	var rdns pkix.RDNSequence
	if rest, err := asn1.Unmarshal(der, &rdns); err != nil || len(rest) > 0 {
		return "", fmt.Errorf("the subject of a signer can't be read: %w", err)
	}
	var parts []string
	for _, a := range subjectOrder {
		for _, rdn := range rdns {
			for _, v := range rdn {
				if text, ok := v.Value.(string); ok && v.Type.Equal(a.oid) {
					parts = append(parts, a.keyword+"="+escapeLdap(text))
				}
			}
		}
	}
	slices.Reverse(parts)
	return strings.Join(parts, ","), nil
}

// escapeLdap is javax.naming.ldap.Rdn.escapeValue: it escapes more than RFC 2253 asks for.
func escapeLdap(s string) string {
	first := len(s) - len(strings.TrimLeft(s, " \r"))
	last := len(strings.TrimRight(s, " \r"))
	var b strings.Builder
	for i := range len(s) {
		if i < first || i >= last || strings.IndexByte(",=+<>#;\"\\", s[i]) >= 0 {
			b.WriteByte('\\')
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// chainOf orders certificates from a signer's own upwards, as far as they are there: the path that the JDK shows.
func chainOf(leaf *x509.Certificate, pool []*x509.Certificate) []*x509.Certificate {
	chain := []*x509.Certificate{leaf}
	for c := leaf; !bytes.Equal(c.RawSubject, c.RawIssuer); {
		i := slices.IndexFunc(pool, func(p *x509.Certificate) bool {
			return bytes.Equal(p.RawSubject, c.RawIssuer) && !slices.ContainsFunc(chain, p.Equal)
		})
		if i < 0 {
			break
		}
		c = pool[i]
		chain = append(chain, c)
	}
	return chain
}
