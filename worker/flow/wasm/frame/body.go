package frame

import "encoding/binary"

// Op names what a command asks for. Numbers are never reused.
type Op uint64

const (
	// OpenSession asks for a session with a peer; answered at once. Body: Open.
	OpenSession Op = 1
	// SendData sends a payload; never answered. Body: Send.
	SendData Op = 2
	// ReceiveData is answered with the next payload. Body: SessionRef; completion: the payload.
	ReceiveData Op = 3
	// CloseSession is answered when the session is closed. Body: SessionRef.
	CloseSession Op = 4
	// StorePut sets an entry; never answered. Body: Entry.
	StorePut Op = 5
	// StoreGet is answered at once. Body: Entry without a value; completion: Found.
	StoreGet Op = 6
	// StoreList is answered at once. Body: List; completion: Page.
	StoreList Op = 7
	// Complete ends the flow. Body: the result, JSON.
	Complete Op = 8
	// Fail ends the flow. Body: Failure.
	Fail Op = 9
)

// Open is the body of OpenSession.
//
//	1 session   uvarint  // chosen by the flow; left out for 0
//	2 peer      text     // X.500 name
//	3 protocol  text
//	4 version   uvarint, list
type Open struct {
	Session  uint64
	Peer     string
	Protocol string
	Versions []uint64
}

// Append encodes o.
func (o *Open) Append(b []byte) []byte {
	b = appendUint(b, 1, o.Session)
	b = appendField(b, 2, o.Peer)
	b = appendField(b, 3, o.Protocol)
	for _, v := range o.Versions {
		var field [binary.MaxVarintLen64]byte
		b = appendOctets(b, 4, binary.AppendUvarint(field[:0], v))
	}
	return b
}

// DecodeOpen reads the body of OpenSession.
func DecodeOpen(p []byte) (*Open, error) {
	r, o := newReader(p), &Open{}
	for tag := r.next(4); tag != 0; tag = r.next(4) {
		switch tag {
		case 1:
			o.Session = r.uint()
		case 2:
			o.Peer = r.text(MaxName)
		case 3:
			o.Protocol = r.text(MaxName)
		case 4:
			r.room(len(o.Versions))
			o.Versions = append(o.Versions, r.item())
		}
	}
	return o, r.err
}

// Send is the body of SendData, and of ReceiveData and CloseSession with no payload.
//
//	1 session  uvarint
//	2 payload  octets
type Send struct {
	Session uint64
	Payload []byte
}

// Append encodes s.
func (s *Send) Append(b []byte) []byte {
	b = appendUint(b, 1, s.Session)
	return appendField(b, 2, s.Payload)
}

// DecodeSend reads the body of SendData, ReceiveData or CloseSession. Payload aliases p.
func DecodeSend(p []byte) (*Send, error) {
	r, s := newReader(p), &Send{}
	for tag := r.next(); tag != 0; tag = r.next() {
		switch tag {
		case 1:
			s.Session = r.uint()
		case 2:
			s.Payload = r.octets(MaxPayload)
		}
	}
	return s, r.err
}

// Entry is one entry of a virtual node's store.
//
//	1 key    text
//	2 value  octets  // JSON
type Entry struct {
	Key   string
	Value []byte
}

// Append encodes e.
func (e *Entry) Append(b []byte) []byte {
	b = appendField(b, 1, e.Key)
	return appendField(b, 2, e.Value)
}

// DecodeEntry reads an entry. Value aliases p.
func DecodeEntry(p []byte) (*Entry, error) {
	r, e := newReader(p), &Entry{}
	for tag := r.next(); tag != 0; tag = r.next() {
		switch tag {
		case 1:
			e.Key = r.text(MaxName)
		case 2:
			e.Value = r.octets(MaxValue)
		}
	}
	return e, r.err
}

// Found answers StoreGet.
//
//	1 found  uvarint  // 1 when there is an entry
//	2 value  octets
type Found struct {
	Found bool
	Value []byte
}

// Append encodes f.
func (f *Found) Append(b []byte) []byte {
	if f.Found {
		b = appendUint(b, 1, 1)
	}
	return appendField(b, 2, f.Value)
}

// DecodeFound reads the answer to StoreGet. Value aliases p.
func DecodeFound(p []byte) (*Found, error) {
	r, f := newReader(p), &Found{}
	for tag := r.next(); tag != 0; tag = r.next() {
		switch tag {
		case 1:
			f.Found = r.bool()
		case 2:
			f.Value = r.octets(MaxValue)
		}
	}
	return f, r.err
}

// List is the body of StoreList: entries in order of key.
//
//	1 prefix  text
//	2 after   text     // only keys greater than this one
//	3 limit   uvarint  // at most so many entries; the host may answer with fewer
type List struct {
	Prefix string
	After  string
	Limit  uint64
}

// Append encodes l.
func (l *List) Append(b []byte) []byte {
	b = appendField(b, 1, l.Prefix)
	b = appendField(b, 2, l.After)
	return appendUint(b, 3, l.Limit)
}

// DecodeList reads the body of StoreList.
func DecodeList(p []byte) (*List, error) {
	r, l := newReader(p), &List{}
	for tag := r.next(); tag != 0; tag = r.next() {
		switch tag {
		case 1:
			l.Prefix = r.text(MaxName)
		case 2:
			l.After = r.text(MaxName)
		case 3:
			l.Limit = r.uint()
		}
	}
	return l, r.err
}

// Page answers StoreList.
//
//	1 entry  Entry, list
//	2 more   uvarint  // 1 when entries follow the last one here
type Page struct {
	Entries []Entry
	More    bool
}

// Append encodes p.
func (p *Page) Append(b []byte) []byte {
	for i := range p.Entries {
		b = appendOctets(b, 1, p.Entries[i].Append(nil))
	}
	if p.More {
		b = appendUint(b, 2, 1)
	}
	return b
}

// DecodePage reads the answer to StoreList. Values alias b.
func DecodePage(b []byte) (*Page, error) {
	r, p := newReader(b), &Page{}
	for tag := r.next(1); tag != 0; tag = r.next(1) {
		switch tag {
		case 1:
			r.room(len(p.Entries))
			e, err := DecodeEntry(r.val)
			r.fail(err)
			p.Entries = append(p.Entries, *e)
		case 2:
			p.More = r.bool()
		}
	}
	return p, r.err
}

// Failure is the body of Fail.
//
//	1 type     text
//	2 message  text
type Failure struct {
	Type    string
	Message string
}

// Append encodes f.
func (f *Failure) Append(b []byte) []byte {
	b = appendField(b, 1, f.Type)
	return appendField(b, 2, f.Message)
}

// DecodeFailure reads the body of Fail.
func DecodeFailure(p []byte) (*Failure, error) {
	r, f := newReader(p), &Failure{}
	for tag := r.next(); tag != 0; tag = r.next() {
		switch tag {
		case 1:
			f.Type = r.text(MaxName)
		case 2:
			f.Message = r.text(MaxText)
		}
	}
	return f, r.err
}

// Log is one log record of a flow.
//
//	1 message  text
//	2 attr     Attr, list
type Log struct {
	Message string
	Attrs   []Attr
}

// Attr is one key and value of a log record.
//
//	1 key    text
//	2 value  text
type Attr struct{ Key, Value string }

// Append encodes l.
func (l *Log) Append(b []byte) []byte {
	b = appendField(b, 1, l.Message)
	for _, a := range l.Attrs {
		b = appendOctets(b, 2, appendField(appendField(nil, 1, a.Key), 2, a.Value))
	}
	return b
}

// DecodeLog reads a log record.
func DecodeLog(p []byte) (*Log, error) {
	r, l := newReader(p), &Log{}
	for tag := r.next(2); tag != 0; tag = r.next(2) {
		switch tag {
		case 1:
			l.Message = r.text(MaxText)
		case 2:
			r.room(len(l.Attrs))
			l.Attrs = append(l.Attrs, r.attr())
		}
	}
	return l, r.err
}

func (r *reader) attr() Attr {
	var a Attr
	in := reader{rest: r.val}
	for tag := in.next(); tag != 0; tag = in.next() {
		switch tag {
		case 1:
			a.Key = in.text(MaxName)
		case 2:
			a.Value = in.text(MaxText)
		}
	}
	r.fail(in.err)
	return a
}
