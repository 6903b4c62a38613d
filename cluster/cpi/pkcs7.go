package cpi

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
)

// The signature block of a JAR is a PKCS#7 SignedData (RFC 2315) without its content, which is the .SF file. What is
// here is that and no more: definite-length DER, as jarsigner writes it; RSA (PKCS#1 v1.5) and ECDSA with SHA-2.

// Bounds of a block.
const (
	maxBlock        = 256 << 10
	maxBlockSigners = 8
	maxBlockCerts   = 32
)

var (
	oidData          = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}
	oidSignedData    = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2}
	oidContentType   = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 3}
	oidMessageDigest = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 4}
	oidSHA256        = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}
	oidSHA384        = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 2}
	oidSHA512        = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 3}
	oidRSA           = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}
	oidECDSASHA256   = asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}
)

// blockDigests are the digests a signature may use, with the algorithm each makes with either kind of key.
var blockDigests = []struct {
	oid        asn1.ObjectIdentifier
	hash       crypto.Hash
	rsa, ecdsa x509.SignatureAlgorithm
}{
	{oidSHA256, crypto.SHA256, x509.SHA256WithRSA, x509.ECDSAWithSHA256},
	{oidSHA384, crypto.SHA384, x509.SHA384WithRSA, x509.ECDSAWithSHA384},
	{oidSHA512, crypto.SHA512, x509.SHA512WithRSA, x509.ECDSAWithSHA512},
}

type contentInfo struct {
	ContentType asn1.ObjectIdentifier
	Content     asn1.RawValue `asn1:"explicit,optional,tag:0"`
}

type signedData struct {
	Version          int
	DigestAlgorithms []pkix.AlgorithmIdentifier `asn1:"set"`
	ContentInfo      contentInfo
	Certificates     asn1.RawValue `asn1:"optional,tag:0"`
	CRLs             asn1.RawValue `asn1:"optional,tag:1"`
	SignerInfos      []signerInfo  `asn1:"set"`
}

type signerInfo struct {
	Version         int
	IssuerAndSerial struct {
		Issuer asn1.RawValue
		Serial *big.Int
	}
	DigestAlgorithm    pkix.AlgorithmIdentifier
	SignedAttributes   asn1.RawValue `asn1:"optional,tag:0"`
	SignatureAlgorithm pkix.AlgorithmIdentifier
	Signature          []byte
	// A timestamp is among these. It is not looked at: a signer must be valid now.
	UnsignedAttributes asn1.RawValue `asn1:"optional,tag:1"`
}

type attribute struct {
	Type   asn1.ObjectIdentifier
	Values asn1.RawValue
}

// signBlock signs content detached, with the chain in the block, signer's certificate first.
func signBlock(content []byte, signer crypto.Signer, chain []*x509.Certificate) ([]byte, error) {
	algorithm := pkix.AlgorithmIdentifier{Algorithm: oidECDSASHA256}
	if _, isRSA := signer.Public().(*rsa.PublicKey); isRSA {
		algorithm = pkix.AlgorithmIdentifier{Algorithm: oidRSA, Parameters: asn1.NullRawValue}
	}
	digest := crypto.SHA256.New()
	digest.Write(content)
	signature, err := signer.Sign(rand.Reader, digest.Sum(nil), crypto.SHA256)
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	info := signerInfo{
		Version: 1, DigestAlgorithm: pkix.AlgorithmIdentifier{Algorithm: oidSHA256, Parameters: asn1.NullRawValue},
		SignatureAlgorithm: algorithm, Signature: signature,
	}
	info.IssuerAndSerial.Issuer = asn1.RawValue{FullBytes: chain[0].RawIssuer}
	info.IssuerAndSerial.Serial = chain[0].SerialNumber
	var certs []byte
	for _, c := range chain {
		certs = append(certs, c.Raw...)
	}
	inner, err := asn1.Marshal(signedData{
		Version: 1, DigestAlgorithms: []pkix.AlgorithmIdentifier{info.DigestAlgorithm},
		ContentInfo:  contentInfo{ContentType: oidData},
		Certificates: asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: certs},
		SignerInfos:  []signerInfo{info},
	})
	if err != nil {
		return nil, fmt.Errorf("encode the signature block: %w", err)
	}
	return asn1.Marshal(contentInfo{ContentType: oidSignedData,
		Content: asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: inner}})
}

// verifyBlock checks that every signature in the block is one over content, and returns each signer's certificates, its
// own first. Whether they are to be trusted is not its business.
func verifyBlock(block, content []byte) ([][]*x509.Certificate, error) {
	data, err := parseBlock(block)
	if err != nil {
		return nil, err
	}
	certs, err := x509.ParseCertificates(data.Certificates.Bytes)
	if err != nil {
		return nil, fmt.Errorf("its certificates can't be read: %w", err)
	}
	if len(certs) > maxBlockCerts || len(data.SignerInfos) > maxBlockSigners {
		return nil, fmt.Errorf("it has %d certificates and %d signatures; at most %d and %d are read", len(certs), len(data.SignerInfos), maxBlockCerts, maxBlockSigners)
	}
	if len(data.SignerInfos) == 0 {
		return nil, errors.New("it has no signature")
	}
	var chains [][]*x509.Certificate
	for _, info := range data.SignerInfos {
		leaf := info.certificate(certs)
		if leaf == nil {
			return nil, errors.New("the certificate of its signer is not in it")
		}
		if err := info.verify(leaf, content); err != nil {
			return nil, fmt.Errorf("the signature of %s: %w", leaf.Subject, err)
		}
		chains = append(chains, chainOf(leaf, certs))
	}
	return chains, nil
}

func parseBlock(block []byte) (signedData, error) {
	var outer contentInfo
	var data signedData
	if len(block) > maxBlock {
		return data, fmt.Errorf("it is longer than %d octets", maxBlock)
	}
	rest, err := asn1.Unmarshal(block, &outer)
	if err != nil || len(rest) > 0 || !outer.ContentType.Equal(oidSignedData) {
		return data, errors.New("it is not a PKCS#7 SignedData in DER")
	}
	if rest, err = asn1.Unmarshal(outer.Content.Bytes, &data); err != nil || len(rest) > 0 {
		return data, errors.New("it is not a PKCS#7 SignedData in DER")
	}
	if len(data.ContentInfo.Content.FullBytes) > 0 {
		return data, errors.New("it carries content of its own, which a JAR's must not")
	}
	return data, nil
}

func (s signerInfo) certificate(certs []*x509.Certificate) *x509.Certificate {
	for _, c := range certs {
		if s.IssuerAndSerial.Serial != nil && c.SerialNumber.Cmp(s.IssuerAndSerial.Serial) == 0 && bytes.Equal(c.RawIssuer, s.IssuerAndSerial.Issuer.FullBytes) {
			return c
		}
	}
	return nil
}

func (s signerInfo) verify(leaf *x509.Certificate, content []byte) error {
	for _, d := range blockDigests {
		if !d.oid.Equal(s.DigestAlgorithm.Algorithm) {
			continue
		}
		algorithm := d.rsa
		if _, ok := leaf.PublicKey.(*ecdsa.PublicKey); ok {
			algorithm = d.ecdsa
		}
		signed, err := s.signedOctets(d.hash, content)
		if err != nil {
			return err
		}
		if err := leaf.CheckSignature(algorithm, signed, s.Signature); err != nil {
			return fmt.Errorf("does not match the signature file: %w", err)
		}
		return nil
	}
	return fmt.Errorf("digest algorithm %s is not one of SHA-256, SHA-384, SHA-512", s.DigestAlgorithm.Algorithm)
}

// signedOctets is the content itself or, where there are signed attributes, those, after the digest among them was
// compared with the content's (RFC 2315 9.3).
func (s signerInfo) signedOctets(hash crypto.Hash, content []byte) ([]byte, error) {
	if len(s.SignedAttributes.FullBytes) == 0 {
		return content, nil
	}
	digest := hash.New()
	digest.Write(content)
	foundDigest, foundType := false, false
	for rest := s.SignedAttributes.Bytes; len(rest) > 0; {
		var a attribute
		var err error
		if rest, err = asn1.Unmarshal(rest, &a); err != nil {
			return nil, errors.New("its attributes can't be read")
		}
		switch {
		case a.Type.Equal(oidMessageDigest):
			var want []byte
			if _, err := asn1.Unmarshal(a.Values.Bytes, &want); err != nil || foundDigest || !bytes.Equal(want, digest.Sum(nil)) {
				return nil, errors.New("does not match the signature file: it was changed after signing")
			}
			foundDigest = true
		case a.Type.Equal(oidContentType):
			var kind asn1.ObjectIdentifier
			if _, err := asn1.Unmarshal(a.Values.Bytes, &kind); err != nil || foundType || !kind.Equal(oidData) {
				return nil, errors.New("it is over another type of content")
			}
			foundType = true
		}
	}
	if !foundDigest || !foundType {
		return nil, errors.New("its attributes lack the digest or the type of the content")
	}
	signed := bytes.Clone(s.SignedAttributes.FullBytes)
	signed[0] = 0x31 // signed as SET OF, sent as [0] IMPLICIT
	return signed, nil
}
