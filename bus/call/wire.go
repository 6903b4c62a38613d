package call

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/hawser-project/hawser/bus"
)

// wireRequest is a bus.Request on its way, the body of POST /v1/request. Numbers are never used again; a field that a
// release does not know is passed over, and its absence means as before.
//
//	1   what       text   "call", "command" or "operator"
//	2   name       text
//	3   asker      text   role
//	4   role       text   of a command
//	5   partition  int    of a command
//	6   key        bytes  of a command: keys need not be text
//	7   id         bytes  of a command
//	8   instance   uint   the only one to answer, or 0
//	9   timeout    uint   in ms: how long the asker waits; 0: no limit. Relative, since clocks differ
//	10  body       bytes or null
type wireRequest struct {
	What      string   `cbor:"1,keyasint"`
	Name      string   `cbor:"2,keyasint"`
	Asker     bus.Role `cbor:"3,keyasint"`
	Role      bus.Role `cbor:"4,keyasint,omitempty"`
	Partition int32    `cbor:"5,keyasint,omitempty"`
	Key       []byte   `cbor:"6,keyasint,omitempty"`
	ID        []byte   `cbor:"7,keyasint,omitempty"`
	Instance  uint16   `cbor:"8,keyasint,omitempty"`
	Timeout   uint64   `cbor:"9,keyasint,omitempty"`
	Body      []byte   `cbor:"10,keyasint"`
}

// wireAnswer is a bus.Answer on its way, the body of a 200. An error that is null is none; one without octets is one.
//
//	1  body     bytes or null
//	2  stamps   array of stamp
//	3  error    bytes or null  as the bus.ErrorCodec writes it
//	4  nothere  bool
//	5  elsewhere array of hello: processes that may have the answer
type wireAnswer struct {
	Body      []byte      `cbor:"1,keyasint"`
	Stamps    []wireStamp `cbor:"2,keyasint,omitempty"`
	Err       []byte      `cbor:"3,keyasint"`
	NotHere   bool        `cbor:"4,keyasint,omitempty"`
	Elsewhere []wireHello `cbor:"5,keyasint,omitempty"`
}

// wireStamp is one bus.Sent of an answer's commit.
//
//	1  topic     text
//	2  source    text
//	3  epoch     uint
//	4  sequence  uint
type wireStamp struct {
	Topic    string `cbor:"1,keyasint"`
	Source   string `cbor:"2,keyasint,omitempty"`
	Epoch    uint64 `cbor:"3,keyasint,omitempty"`
	Sequence uint64 `cbor:"4,keyasint,omitempty"`
}

// wireHello is what each side of a reverse connection says of itself: the body of POST /v1/hello and of its 200.
//
//	1  number   uint
//	2  name     text
//	3  address  text  where it takes ordinary connections; empty where it takes none
type wireHello struct {
	Number  uint16 `cbor:"1,keyasint"`
	Name    string `cbor:"2,keyasint"`
	Address string `cbor:"3,keyasint,omitempty"`
}

// maxHello bounds a hello, in octets.
const maxHello = 4 << 10

var (
	wireEncoder = must(cbor.CoreDetEncOptions().EncMode())
	wireDecoder = must(cbor.DecOptions{
		DupMapKey: cbor.DupMapKeyEnforcedAPF, IndefLength: cbor.IndefLengthForbidden, TagsMd: cbor.TagsForbidden,
		MaxNestedLevels: 8, MaxArrayElements: 1 << 16, MaxMapPairs: 1 << 10,
	}.DecMode())
)

func must[T any](v T, err error) T {
	if err != nil {
		panic("call: CBOR options: " + err.Error())
	}
	return v
}

// encodeRequest writes a request with the time that ctx leaves for it.
func encodeRequest(ctx context.Context, r bus.Request) ([]byte, error) {
	w := wireRequest{
		What: r.What, Name: r.Name, Asker: r.Asker, Role: r.Role, Partition: r.Partition, Key: []byte(r.Key), ID: []byte(r.ID),
		Instance: r.Instance, Body: r.Body,
	}
	if deadline, ok := ctx.Deadline(); ok {
		w.Timeout = uint64(max(1, time.Until(deadline).Milliseconds()))
	}
	return wireEncoder.Marshal(w)
}

// decodeRequest reads a request, and how long the asker waits; 0 is for ever.
func decodeRequest(octets []byte) (bus.Request, time.Duration, error) {
	var w wireRequest
	if err := wireDecoder.Unmarshal(octets, &w); err != nil {
		return bus.Request{}, 0, fmt.Errorf("decode the request: %w", err)
	}
	const most = uint64(math.MaxInt64 / time.Millisecond)
	return bus.Request{
		What: w.What, Name: w.Name, Asker: w.Asker, Role: w.Role, Partition: w.Partition, Key: string(w.Key), ID: string(w.ID),
		Instance: w.Instance, Body: w.Body,
	}, time.Duration(min(w.Timeout, most)) * time.Millisecond, nil
}

func encodeAnswer(a bus.Answer) ([]byte, error) {
	w := wireAnswer{Body: a.Body, Err: a.Err, NotHere: a.NotHere}
	for _, s := range a.Commit.Stamps {
		w.Stamps = append(w.Stamps, wireStamp{s.Topic, s.Stamp.Source, s.Stamp.Epoch, s.Stamp.Sequence})
	}
	for _, i := range a.Elsewhere {
		w.Elsewhere = append(w.Elsewhere, wireHello{i.Number, i.Name, i.Address})
	}
	return wireEncoder.Marshal(w)
}

func decodeAnswer(octets []byte) (bus.Answer, error) {
	var w wireAnswer
	if err := wireDecoder.Unmarshal(octets, &w); err != nil {
		return bus.Answer{}, fmt.Errorf("decode the answer: %w", err)
	}
	a := bus.Answer{Body: w.Body, Err: w.Err, NotHere: w.NotHere}
	for _, s := range w.Stamps {
		a.Commit.Stamps = append(a.Commit.Stamps, bus.Sent{Topic: s.Topic, Stamp: bus.Stamp{Source: s.Source, Epoch: s.Epoch, Sequence: s.Sequence}})
	}
	for _, i := range w.Elsewhere {
		a.Elsewhere = append(a.Elsewhere, bus.Instance{Number: i.Number, Name: i.Name, Address: i.Address})
	}
	return a, nil
}

func encodeHello(i bus.Instance) ([]byte, error) {
	return wireEncoder.Marshal(wireHello{i.Number, i.Name, i.Address})
}

func decodeHello(octets []byte) (bus.Instance, error) {
	var w wireHello
	if err := wireDecoder.Unmarshal(octets, &w); err != nil {
		return bus.Instance{}, fmt.Errorf("decode the hello: %w", err)
	}
	return bus.Instance{Number: w.Number, Name: w.Name, Address: w.Address}, nil
}
