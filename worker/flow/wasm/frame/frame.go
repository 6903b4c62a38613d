// Package frame is the host's side of the codec of what crosses the border to a flow's module: the start of a flow,
// the completions that resume it and the commands it answers with. What a module writes is not trusted: every list
// and length is bounded, and nothing of it is kept beyond the frame without a copy.
//
// A message is a run of fields, each
//
//	tag     uvarint   // never smaller than the one before; equal only in lists
//	length  uvarint
//	value   length octets
//
// Numbers are uvarints in their shortest form. Zero and empty values are left out, so a value has one encoding.
// Unknown tags are skipped. The SDK has its own copy of this codec, so that neither side depends on the other's
// release; both are tested against the golden frames in sdk/testdata/frames.
package frame

import (
	"encoding/binary"
	"math"
)

// Kind says who began a flow.
type Kind uint64

const (
	// Client flows are begun over the REST API.
	Client Kind = 1
	// Responder flows are begun by a peer's first message; session 0 is the session with that peer.
	Responder Kind = 2
)

// Start begins a flow.
//
//	1 kind          uvarint  // 1 client, 2 responder
//	2 class         text
//	3 flow id       text
//	4 me            text     // X.500 name
//	5 counterparty  text     // responder only
//	6 args          octets   // JSON; client only
//	7 now           uvarint  // nanoseconds since 1970
//	8 seed          32 octets
//	9 protocol      text     // responder only: the protocol agreed on
//	10 version      uvarint
type Start struct {
	Kind         Kind
	Class        string
	FlowID       string
	Me           string
	Counterparty string
	Args         []byte
	Now          int64
	Seed         [32]byte
	Protocol     string
	Version      uint64
}

// Append encodes s.
func (s *Start) Append(b []byte) []byte {
	b = appendUint(b, 1, uint64(s.Kind))
	b = appendField(b, 2, s.Class)
	b = appendField(b, 3, s.FlowID)
	b = appendField(b, 4, s.Me)
	b = appendField(b, 5, s.Counterparty)
	b = appendField(b, 6, s.Args)
	b = appendUint(b, 7, uint64(max(s.Now, 0)))
	b = appendField(b, 8, s.Seed[:])
	b = appendField(b, 9, s.Protocol)
	return appendUint(b, 10, s.Version)
}

// DecodeStart reads a start frame. Args aliases p.
func DecodeStart(p []byte) (*Start, error) {
	r, s := newReader(p), &Start{}
	seeded := false
	for tag := r.next(); tag != 0; tag = r.next() {
		switch tag {
		case 1:
			s.Kind = Kind(r.uint())
		case 2:
			s.Class = r.text(MaxName)
		case 3:
			s.FlowID = r.text(MaxName)
		case 4:
			s.Me = r.text(MaxName)
		case 5:
			s.Counterparty = r.text(MaxName)
		case 6:
			s.Args = r.octets(MaxPayload)
		case 7:
			s.Now = r.time()
		case 8:
			seeded = copy(s.Seed[:], r.octets(len(s.Seed))) == len(s.Seed)
		case 9:
			s.Protocol = r.text(MaxName)
		case 10:
			s.Version = r.uint()
		}
	}
	switch {
	case r.err != nil:
		return nil, r.err
	case s.Kind != Client && s.Kind != Responder:
		return nil, malformed("start: kind %d", s.Kind)
	case !seeded:
		return nil, malformed("start: no seed")
	}
	return s, nil
}

// Resume carries the answers to a flow that waits, and moves its clock.
//
//	1 now         uvarint
//	2 completion  Completion, list
type Resume struct {
	Now         int64
	Completions []Completion
}

// Completion answers one command.
//
//	1 id       uvarint
//	2 code     text    // an error's code; absent when the command succeeded
//	3 message  text
//	4 body     octets
type Completion struct {
	ID      uint64
	Code    string
	Message string
	Body    []byte
}

// Append encodes s.
func (s *Resume) Append(b []byte) []byte {
	b = appendUint(b, 1, uint64(max(s.Now, 0)))
	for i := range s.Completions {
		b = appendOctets(b, 2, s.Completions[i].append(nil))
	}
	return b
}

func (c *Completion) append(b []byte) []byte {
	b = appendUint(b, 1, c.ID)
	b = appendField(b, 2, c.Code)
	b = appendField(b, 3, c.Message)
	return appendField(b, 4, c.Body)
}

// DecodeResume reads a completion frame. Bodies alias p.
func DecodeResume(p []byte) (*Resume, error) {
	r, s := newReader(p), &Resume{}
	for tag := r.next(2); tag != 0; tag = r.next(2) {
		switch tag {
		case 1:
			s.Now = r.time()
		case 2:
			r.room(len(s.Completions))
			s.Completions = append(s.Completions, r.completion())
		}
	}
	if r.err != nil {
		return nil, r.err
	}
	return s, nil
}

func (r *reader) completion() Completion {
	var c Completion
	in := reader{rest: r.val}
	for tag := in.next(); tag != 0; tag = in.next() {
		switch tag {
		case 1:
			c.ID = in.uint()
		case 2:
			c.Code = in.text(MaxName)
		case 3:
			c.Message = in.text(MaxText)
		case 4:
			c.Body = in.octets(Max)
		}
	}
	r.fail(in.err)
	return c
}

// Mode says which of the awaited commands must be answered before a flow goes on.
type Mode uint64

const (
	// Ended means that the flow waits for nothing: its last command completes or fails it.
	Ended Mode = 0
	// All waits for every awaited command; with none, the flow goes on at once.
	All Mode = 1
	// Any waits for one of them.
	Any Mode = 2
)

// Commands is what a flow asks for at the end of a step, in order, and what it waits for.
//
//	1 command  Command, list
//	2 mode     uvarint
//	3 await    uvarint, list
type Commands struct {
	List  []Command
	Mode  Mode
	Await []uint64
}

// Command asks the host for one thing. Ids are unique within a flow.
//
//	1 id    uvarint
//	2 op    uvarint
//	3 body  octets
type Command struct {
	ID   uint64
	Op   Op
	Body []byte
}

// Append encodes c.
func (c *Commands) Append(b []byte) []byte {
	for i := range c.List {
		b = appendOctets(b, 1, c.List[i].append(nil))
	}
	b = appendUint(b, 2, uint64(c.Mode))
	for _, id := range c.Await {
		var field [binary.MaxVarintLen64]byte
		b = appendOctets(b, 3, binary.AppendUvarint(field[:0], id))
	}
	return b
}

func (c *Command) append(b []byte) []byte {
	b = appendUint(b, 1, c.ID)
	b = appendUint(b, 2, uint64(c.Op))
	return appendField(b, 3, c.Body)
}

// DecodeCommands reads a command frame. Bodies alias p.
func DecodeCommands(p []byte) (*Commands, error) {
	r, c := newReader(p), &Commands{}
	for tag := r.next(1, 3); tag != 0; tag = r.next(1, 3) {
		switch tag {
		case 1:
			r.room(len(c.List))
			c.List = append(c.List, r.command())
		case 2:
			c.Mode = Mode(r.uint())
		case 3:
			r.room(len(c.Await))
			c.Await = append(c.Await, r.item())
		}
	}
	if r.err == nil && c.Mode > Any {
		r.err = malformed("await mode %d", c.Mode)
	}
	if r.err != nil {
		return nil, r.err
	}
	return c, nil
}

func (r *reader) command() Command {
	var c Command
	in := reader{rest: r.val}
	for tag := in.next(); tag != 0; tag = in.next() {
		switch tag {
		case 1:
			c.ID = in.uint()
		case 2:
			c.Op = Op(in.uint())
		case 3:
			c.Body = in.octets(Max)
		}
	}
	if in.err == nil && (c.ID == 0 || c.Op == 0) {
		in.err = malformed("command without id or op")
	}
	r.fail(in.err)
	return c
}

func newReader(p []byte) *reader {
	r := &reader{rest: p}
	if len(p) > Max {
		r.err = malformed("%d octets, at most %d", len(p), Max)
	}
	return r
}

func (r *reader) time() int64 {
	v := r.uint()
	if v > math.MaxInt64 {
		r.fail(malformed("field %d: time out of range", r.last))
		return 0
	}
	return int64(v)
}
