package rbac

import (
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"

	"github.com/hawser-project/hawser/internal/secret"
	"golang.org/x/crypto/argon2"
)

// Parameters of new hashes: argon2id with OWASP's minimum, 19 MiB, two passes. The memory is per check, and admin bounds
// the checks under way (DESIGN.md 6).
const (
	argonMemory  = 19 * 1024 // KiB
	argonTime    = 2
	argonThreads = 1
	saltLength   = 16
	hashLength   = 32
)

// Bounds of stored parameters, so that a damaged record cannot take the worker down.
const (
	maxArgonMemory = 256 * 1024
	maxArgonTime   = 16
	maxIterations  = 10_000_000
	maxStoredHash  = 1024
)

var b64 = base64.RawStdEncoding

// HashPassword makes the stored form of a password. The parameters are in it ("$argon2id$v=19$m=..."), so they can be
// raised later without invalidating anyone.
func HashPassword(password secret.Secret) secret.Secret {
	salt := make([]byte, saltLength)
	_, _ = rand.Read(salt) // never fails: it crashes the process instead
	sum := argon2.IDKey(password.Reveal(), salt, argonTime, argonMemory, argonThreads, hashLength)
	return secret.FromString(fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, argonMemory, argonTime,
		argonThreads, b64.EncodeToString(salt), b64.EncodeToString(sum)))
}

// ImportCordaHash makes the stored form from the two columns that Corda keeps (spec 3.5): PBKDF2-HMAC-SHA256 with
// 65,536 iterations, the salt used as text, the hash in padded base64.
func ImportCordaHash(saltValue, hashedPassword string) (secret.Secret, error) {
	sum, err := base64.StdEncoding.DecodeString(hashedPassword)
	if err != nil || len(sum) != sha256.Size {
		return secret.Secret{}, fmt.Errorf("import a Corda password: the hash is not the base64 of %d octets", sha256.Size)
	}
	stored := fmt.Sprintf("$pbkdf2-sha256$i=65536$%s$%s", b64.EncodeToString([]byte(saltValue)), b64.EncodeToString(sum))
	if len(stored) > maxStoredHash {
		return secret.Secret{}, fmt.Errorf("import a Corda password: the salt is longer than Corda's")
	}
	return secret.FromString(stored), nil
}

// CheckPassword says whether the password is the one of the stored form, in a time that does not depend on where they
// differ, and whether it should be hashed anew because the stored parameters are not today's.
func CheckPassword(password, stored secret.Secret) (right, stale bool, err error) {
	h, err := parseStored(stored.RevealString())
	if err != nil {
		return false, false, err
	}
	sum := h.of(password.Reveal())
	right = subtle.ConstantTimeCompare(sum, h.sum) == 1
	return right, right && !h.current(), nil
}

// decoy is the stored form of nobody's password: a hash that no password is known to have.
var decoy = fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, argonMemory, argonTime, argonThreads,
	b64.EncodeToString(make([]byte, saltLength)), b64.EncodeToString(make([]byte, hashLength)))

// Decoy is to be checked when there is no such user, so that the time taken does not tell which users exist (spec 3.5).
func Decoy() secret.Secret { return secret.FromString(decoy) }

type storedHash struct {
	argon          bool
	memory, passes uint32
	threads        uint8
	iterations     int
	salt, sum      []byte
}

func (h *storedHash) current() bool {
	return h.argon && h.memory == argonMemory && h.passes == argonTime && h.threads == argonThreads
}

func (h *storedHash) of(password []byte) []byte {
	if h.argon {
		return argon2.IDKey(password, h.salt, h.passes, h.memory, h.threads, uint32(len(h.sum)))
	}
	sum, err := pbkdf2.Key(sha256.New, string(password), h.salt, h.iterations, len(h.sum))
	if err != nil {
		return nil // only in FIPS mode with a short salt; nothing compares equal to it
	}
	return sum
}

func parseStored(s string) (*storedHash, error) {
	bad := func(what string) (*storedHash, error) { // the text itself must not reach an error
		return nil, fmt.Errorf("stored password hash: %s", what)
	}
	parts := strings.Split(s, "$")
	if len(s) > maxStoredHash || len(parts) < 5 || parts[0] != "" {
		return bad("not in a known form")
	}
	h := &storedHash{}
	switch {
	case parts[1] == "argon2id" && len(parts) == 6 && parts[2] == "v=19":
		h.argon = true
		m, e1 := parameter(parts[3], "m", maxArgonMemory)
		t, e2 := parameter(parts[3], "t", maxArgonTime)
		p, e3 := parameter(parts[3], "p", 16)
		if e1 != nil || e2 != nil || e3 != nil {
			return bad("parameters out of bounds")
		}
		h.memory, h.passes, h.threads = uint32(m), uint32(t), uint8(p)
	case parts[1] == "pbkdf2-sha256" && len(parts) == 5:
		i, err := parameter(parts[2], "i", maxIterations)
		if err != nil {
			return bad("parameters out of bounds")
		}
		h.iterations = i
	default:
		return bad("not in a known form")
	}
	var e1, e2 error
	h.salt, e1 = b64.DecodeString(parts[len(parts)-2])
	h.sum, e2 = b64.DecodeString(parts[len(parts)-1])
	if e1 != nil || e2 != nil || len(h.salt) < 8 || len(h.sum) < 16 || len(h.sum) > 64 {
		return bad("salt or hash is damaged")
	}
	return h, nil
}

// parameter reads "name=value" out of a comma list; a value is 1 to limit.
func parameter(list, name string, limit int) (int, error) {
	for field := range strings.SplitSeq(list, ",") {
		key, text, _ := strings.Cut(field, "=")
		if key != name {
			continue
		}
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > limit {
			return 0, fmt.Errorf("parameter %s is %q", name, text)
		}
		return n, nil
	}
	return 0, fmt.Errorf("parameter %s is missing", name)
}
