package session_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/hex"
	"math/big"
	"strings"
	"testing"

	"github.com/hawser-project/hawser/corda/session"
)

// The public vectors of spec/p2p-wire.md 9.1, on the primitives as this package uses them: they would show a library that
// was exchanged for another, or configured otherwise.

func octets(t *testing.T, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func same(t *testing.T, what string, got []byte, want string) {
	t.Helper()
	if !bytes.Equal(got, octets(t, want)) {
		t.Errorf("%s: got %x, want %s", what, got, want)
	}
}

func TestX25519GivesTheResultsOfRFC7748(t *testing.T) {
	t.Parallel()
	for name, v := range map[string][3]string{
		"5.2": {"a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4", "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c", "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552"},
		"6.1": {"77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a", "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f", "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742"},
	} {
		private, err := ecdh.X25519().NewPrivateKey(octets(t, v[0]))
		if err != nil {
			t.Fatal(err)
		}
		public, err := ecdh.X25519().NewPublicKey(octets(t, v[1]))
		if err != nil {
			t.Fatal(err)
		}
		secret, err := private.ECDH(public)
		if err != nil {
			t.Fatal(err)
		}
		same(t, name, secret, v[2])
	}
}

func TestHKDFGivesTheResultsOfRFC5869(t *testing.T) {
	t.Parallel()
	key := bytes.Repeat([]byte{0x0b}, 22)
	for name, v := range map[string]struct {
		salt, info []byte
		want       string
	}{
		"A.1": {octets(t, "000102030405060708090a0b0c"), octets(t, "f0f1f2f3f4f5f6f7f8f9"), "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"},
		"A.3": {nil, nil, "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8"},
	} {
		got, err := hkdf.Key(sha256.New, key, v.salt, string(v.info), 42)
		if err != nil {
			t.Fatal(err)
		}
		same(t, name, got, v.want)
	}
}

func TestHMACGivesTheResultsOfRFC4231(t *testing.T) {
	t.Parallel()
	for name, v := range map[string]struct{ key, data, want string }{
		"4.2": {strings.Repeat("\x0b", 20), "Hi There", "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"},
		"4.3": {"Jefe", "what do ya want for nothing?", "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"},
	} {
		mac := hmac.New(sha256.New, []byte(v.key))
		mac.Write([]byte(v.data))
		same(t, name, mac.Sum(nil), v.want)
	}
}

// McGrew and Viega's test case 16: AES-256, a nonce of 96 bits, additional data.
func TestGCMGivesTheResultOfTestCase16(t *testing.T) {
	t.Parallel()
	block, err := aes.NewCipher(octets(t, "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308"))
	if err != nil {
		t.Fatal(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	plain := octets(t, "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39")
	additional := octets(t, "feedfacedeadbeeffeedfacedeadbeefabaddad2")
	sealed := aead.Seal(nil, octets(t, "cafebabefacedbaddecaf888"), plain, additional)
	same(t, "sealed", sealed, "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662"+
		"76fc6ece0f4e1768cddf8853bb2d551b")
}

// RFC 6979, A.2.5: P-256 with SHA-256, message "sample".
func TestASignatureOfRFC6979Verifies(t *testing.T) {
	t.Parallel()
	spki := octets(t, "3059301306072a8648ce3d020106082a8648ce3d03010703420004"+
		"60fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb6"+"7903fe1008b8bc99a41ae9e95628bc64f2f1b20c2d7e9f5177a3c294d4462299")
	key, err := session.ParsePublicKey(spki)
	if err != nil {
		t.Fatal(err)
	}
	r := new(big.Int).SetBytes(octets(t, "efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716"))
	s := new(big.Int).SetBytes(octets(t, "f7cb1c942d657c41d436c7a1b6e29f65f3e900dbb9aff4064dc4ab2f843acda8"))
	signature, err := asn1.Marshal(struct{ R, S *big.Int }{r, s})
	if err != nil {
		t.Fatal(err)
	}
	if err := key.Verify([]byte("sample"), signature); err != nil {
		t.Errorf("sample: %v", err)
	}
	if key.Verify([]byte("simple"), signature) == nil {
		t.Error("the signature verifies for another message")
	}
}
