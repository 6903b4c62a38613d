package fault

import (
	"errors"

	"github.com/fxamacker/cbor/v2"
)

// FaultKind names the kind. The bus branches on it without knowing this package, and this package reads the kinds of the
// bus's own errors by the same method.
func (e *Error) FaultKind() string { return e.Kind.String() }

// travelling is an error as it goes from worker to worker.
type travelling struct {
	Kind    Kind              `cbor:"1,keyasint"`
	Message string            `cbor:"2,keyasint"`
	Details map[string]string `cbor:"3,keyasint,omitempty"`
}

// Codec carries errors between workers: it is the bus's ErrorCodec.
type Codec struct{}

// EncodeError keeps kind, text and details. Causes do not travel.
func (Codec) EncodeError(err error) []byte {
	octets, encodeErr := cbor.Marshal(travelling{KindOf(err), err.Error(), DetailsOf(err)})
	if encodeErr != nil { // a struct of scalars: it always encodes
		return nil
	}
	return octets
}

// DecodeError reads what EncodeError wrote.
func (Codec) DecodeError(octets []byte) error {
	var t travelling
	if err := cbor.Unmarshal(octets, &t); err != nil {
		return New(Internal, "an error that does not decode: %w", err)
	}
	return &Error{Kind: t.Kind, Message: t.Message, Details: t.Details, cause: errors.New(t.Message)}
}

// kindNamed returns the kind with a name, or Internal.
func kindNamed(name string) Kind {
	for k := range kinds {
		if kinds[k].name == name {
			return Kind(k)
		}
	}
	return Internal
}
