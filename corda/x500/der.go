package x500

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
)

// ParseDER reads a name from the DER of a certificate's subject or issuer (x509.Certificate.RawSubject). It refuses
// what Parse refuses: other attributes, repeated ones, several in one relative name.
func ParseDER(der []byte) (Name, error) {
	var sequence pkix.RDNSequence
	rest, err := asn1.Unmarshal(der, &sequence)
	if err != nil {
		return Name{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if len(rest) > 0 {
		return Name{}, fmt.Errorf("%w: %d octets after the name", ErrInvalid, len(rest))
	}
	var n Name
	for _, relative := range sequence {
		if len(relative) != 1 {
			return Name{}, fmt.Errorf("%w: relative name with %d attributes", ErrInvalid, len(relative))
		}
		if err := n.setDER(relative[0]); err != nil {
			return Name{}, err
		}
	}
	return n, n.complete()
}

func (n *Name) setDER(typed pkix.AttributeTypeAndValue) error {
	value, ok := typed.Value.(string)
	if !ok {
		return fmt.Errorf("%w: attribute %s is not a string", ErrInvalid, typed.Type)
	}
	oid := typed.Type.String()
	for i, a := range attributes {
		if oid == a.oid {
			return n.set(i, value)
		}
	}
	return fmt.Errorf("%w: attribute %s is not one of CN, OU, O, L, ST, C", ErrInvalid, oid)
}

// RDNSequence returns the name for a certificate or a signing request. Java encodes the last attribute of the text
// first, so the sequence begins with C and ends with CN.
func (n Name) RDNSequence() pkix.RDNSequence {
	var sequence pkix.RDNSequence
	for i := attributeCount - 1; i >= 0; i-- {
		if n.values[i] == "" {
			continue
		}
		sequence = append(sequence, pkix.RelativeDistinguishedNameSET{{Type: objectIdentifiers[i], Value: n.values[i]}})
	}
	return sequence
}

// objectIdentifiers are those of attributes, decoded.
var objectIdentifiers = [attributeCount]asn1.ObjectIdentifier{
	commonName:       {2, 5, 4, 3},
	organizationUnit: {2, 5, 4, 11},
	organization:     {2, 5, 4, 10},
	locality:         {2, 5, 4, 7},
	state:            {2, 5, 4, 8},
	country:          {2, 5, 4, 6},
}

// DER returns the RDNSequence encoded, as it stands in a certificate's subject.
func (n Name) DER() ([]byte, error) {
	der, err := asn1.Marshal(n.RDNSequence())
	if err != nil {
		return nil, fmt.Errorf("encode name: %w", err)
	}
	return der, nil
}
