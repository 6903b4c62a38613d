package bus

import "context"

// Placement says which process does what. Where all workers are in one process there is none.
type Placement interface {
	// Owner returns who owns a partition of a role's keys. It may be out of date: who is asked and does not own it says so.
	Owner(role Role, partition int32) (Instance, bool)
	// Instances lists the processes in which the role's worker runs, the one to be asked first first.
	Instances(role Role) []Instance
	// Changed is closed at the next change of any of it.
	Changed() <-chan struct{}
}

// Instance is a process.
type Instance struct {
	// Number is the process's own among those that are alive, and not used again soon.
	Number uint16
	// Name is for people: the host's, or what the configuration says.
	Name string
	// Address is where it takes calls: HOST:PORT.
	Address string
}

// Remote carries requests to other processes.
type Remote interface {
	// Send returns the answer of the process. An error of it is one of carrying: errors.Is(err, ErrNotSent) where the request
	// has certainly not been taken up.
	Send(ctx context.Context, to Instance, r Request) (Answer, error)
}

// Request is a command or call between processes, or one of an operator.
type Request struct {
	What  string // "call", "command" or "operator"
	Name  string
	Asker Role // in whose name it is asked; the carrier proves that the asking process has the role
	// Role is who is to answer; Partition and Key for which key, where there is one.
	Role      Role
	Partition int32
	Key       string
	ID        string // of a command
	// Instance, where it is not 0, is the only one to answer.
	Instance uint16
	Body     []byte
}

// Answer is what came of a request.
type Answer struct {
	Body   []byte
	Commit Commit
	// Err is the error of the handler, as the ErrorCodec writes it.
	Err []byte
	// NotHere says that the process does not own the key, or does not answer the call: somebody else is to be asked.
	NotHere bool
	// Elsewhere are processes that may have the answer. An operator asks them himself: no worker asks in a person's name.
	Elsewhere []Instance
}
