package bus

import (
	"fmt"

	"github.com/fxamacker/cbor/v2"
)

// Records, commands and state values are CBOR with integer keys (DESIGN.md 2, Encoding): core deterministic, so that
// equal values are equal octets, and bounded on the way in.
var (
	encoder = must(func() (cbor.EncMode, error) {
		o := cbor.CoreDetEncOptions()
		o.Time = cbor.TimeUnixMicro
		o.TimeTag = cbor.EncTagRequired
		return o.EncMode()
	}())
	decoder = must(cbor.DecOptions{
		DupMapKey: cbor.DupMapKeyEnforcedAPF, MaxNestedLevels: 32, MaxArrayElements: 1 << 20, MaxMapPairs: 1 << 20,
		IndefLength: cbor.IndefLengthForbidden,
	}.DecMode())
)

func must[T any](v T, err error) T {
	if err != nil {
		panic("bus: CBOR options: " + err.Error())
	}
	return v
}

// Encode returns the octets of an internal record, command or state value.
func Encode(v any) ([]byte, error) {
	if raw, ok := v.([]byte); ok {
		return raw, nil
	}
	octets, err := encoder.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("bus: encode %T: %w", v, err)
	}
	return octets, nil
}

// Decode reads what Encode wrote. Fields it does not know are passed over.
func Decode(octets []byte, v any) error {
	if raw, ok := v.(*[]byte); ok {
		*raw = octets
		return nil
	}
	if err := decoder.Unmarshal(octets, v); err != nil {
		return fmt.Errorf("bus: decode %T: %w", v, err)
	}
	return nil
}

// keepUnknown copies into a newly encoded value the top-level fields of the stored one that this release's struct does
// not have, so that a value written by release N survives a rewrite by N-1. It works on maps with integer keys; any
// other value is returned as it is.
func keepUnknown(stored, fresh []byte, known map[int64]bool) []byte {
	if len(stored) == 0 || known == nil {
		return fresh
	}
	var old, now map[int64]cbor.RawMessage
	if decoder.Unmarshal(stored, &old) != nil || decoder.Unmarshal(fresh, &now) != nil {
		return fresh
	}
	grew := false
	for number, value := range old {
		if !known[number] {
			now[number] = value
			grew = true
		}
	}
	if !grew {
		return fresh
	}
	if merged, err := encoder.Marshal(now); err == nil {
		return merged
	}
	return fresh
}
