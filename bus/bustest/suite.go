// Package bustest is the suite that every bus driver must pass: one body, run on each driver by that driver's tests.
package bustest

import (
	"testing"

	"github.com/hawser-project/hawser/bus"
)

// A Harness opens drivers on one store, so that a test can close and open it again.
type Harness interface {
	Open(t testing.TB) bus.Driver
}

// Shared is a Harness of a driver for several processes. Each driver that it opens is a process of its own on the same
// store, and a bus.Placement; they may be open at the same time.
type Shared interface {
	Harness
	// Lose makes the others think, from now on, that the process is dead. It lives on and does not notice before its next
	// commit.
	Lose(t testing.TB, d bus.Driver)
	// HoldSends keeps what the process commits from its topics until release is called.
	HoldSends(d bus.Driver) (release func())
	// Kill ends a process without any order: nothing more of it reaches the store. The test closes its driver some time after
	// bury, which lets it find out.
	Kill(t testing.TB, d bus.Driver) (bury func())
	// Again appends all records of a topic to it once more, as a sender does that did not hear of its success.
	Again(t testing.TB, topic string)
	// Snapshot takes the database as it is now. restore, with all drivers closed, puts it back; topics stay.
	Snapshot(t testing.TB) (restore func())
}

// The roles, topics, commands, calls and state of the suite.
const (
	worker = bus.Role("worker")
	client = bus.Role("client")
)

// Roles are the ones that a driver must be told of for the suite.
func Roles() []bus.Role { return []bus.Role{worker, client} }

type item struct {
	N    int    `cbor:"1,keyasint"`
	Text string `cbor:"2,keyasint,omitempty"`
}

var (
	in      = bus.Topic[item]{Name: "in", Writers: []bus.Role{client}, Readers: []bus.Role{worker}}
	out     = bus.Topic[item]{Name: "out", Writers: []bus.Role{worker}, Readers: []bus.Role{client}}
	entries = bus.Topic[item]{Name: "entries", Writers: []bus.Role{worker, client}, Readers: []bus.Role{worker, client}, Compacted: true}
	add     = bus.Command[item, item]{Name: "add", Askers: []bus.Role{client}, Answers: worker}
	ask     = bus.Call[item, item]{Name: "ask", Askers: []bus.Role{client}, Answers: []bus.Role{worker}}
	sums    = bus.State[item]{Name: "sums", Owner: worker}
	follows = bus.State[item]{Name: "follows", Owner: client}

	// The same with octets as they are.
	rawIn   = bus.Topic[[]byte]{Name: in.Name, Writers: in.Writers, Readers: in.Readers}
	rawOut  = bus.Topic[[]byte]{Name: out.Name, Writers: out.Writers, Readers: out.Readers}
	rawAdd  = bus.Command[[]byte, []byte]{Name: add.Name, Askers: add.Askers, Answers: add.Answers}
	rawSums = bus.State[[]byte]{Name: "raw", Owner: worker}
)

// Definitions are what a driver must be told of for the suite.
func Definitions() []bus.Definition {
	return []bus.Definition{
		in.Definition(), out.Definition(), entries.Definition(), add.Definition(), ask.Definition(), sums.Definition(), follows.Definition(),
		rawSums.Definition(),
	}
}

// refusal is an error of a handler that is kept as a reply.
type refusal string

func (r refusal) Error() string { return string(r) }

type codec struct{}

func (codec) EncodeError(err error) []byte    { return []byte(err.Error()) }
func (codec) DecodeError(octets []byte) error { return refusal(octets) }

type test struct {
	name string
	run  func(t *testing.T, h Harness)
}

// tests are for every driver.
var tests = []test{
	{"records of a key are handled in order and once, over a restart", orderAndRestart},
	{"a slow key holds back nothing but itself", slowKey},
	{"a step is all or nothing", atomic_},
	{"an unavailable dependency is waited for", unavailable},
	{"a worker is ready after what it does first", runAfter},
	{"a field of a later release survives a rewrite", unknownFields},
	{"a role can do only what is declared", roles},
	{"a topic that is not declared is refused", unknownTopic},

	{"a repeated command gets its first reply", repeatedCommand},
	{"an id used again with another body is refused", reusedID},
	{"a refused command changes nothing and is refused again", refusedCommand},
	{"a command whose owner dies before the commit takes effect once when it is repeated", diedBeforeCommit},
	{"a command whose owner dies before the answer gets the first reply when it is repeated", diedBeforeAnswer},
	{"a call is answered", calls},

	{"a timer fires once, over a restart, and can be moved and stopped", timers},
	{"timers of many keys fire once each, in time", manyTimers},
	{"a timer fires once after its owner was killed", killedTimer},

	{"steps that meet on shared state run again", conflicts},
	{"of many keys that make a shared row one wins", firstWins},
	{"a row that is deleted and made again has a new version", newVersions},
	{"two keys that read each other's row do not both go through", writeSkew},
	{"a scan is a snapshot and holds up nobody", scans},

	{"a table shows a command's effect at its place", tablePlace},
	{"a table made later shows the same, over a restart", tableLater},

	{"open records finish in any order", openRecords},
	{"a full window stops the reading until its first records are finished", fullWindow},
	{"an open record that is moved to a row moves the window on", parked},

	{"poison sets aside its key only, and can be replayed", poison},
	{"an operator drops an input, and what waits behind it goes on", dropped},
	{"a held input waits for its table entry", held},
	{"what waits behind a held input is no poison when its release is broken off", brokenRelease},
	{"the journal has the notes of steps that were committed, in order", journal},
	{"a topic is busy while its reader is behind", busy},

	{"values at the limit pass and larger ones are refused", limits},
	{"rows and commands at the limit pass and larger ones are refused", rowLimits},
	{"poison of the largest size is set aside", largePoison},
	{"a step of many octets commits as a whole", largeStep},
	{"blobs are stored by content, read by range and swept", blobs},
	{"the same blob twice is stored once", sameBlob},

	{"the driver's steps without an owner are there or refused", ownerless},
	{"the driver's checks hold or the step is refused as a whole", checks},
	{"the driver's scans see one moment, and end where they are told", driverScans},
	{"the driver's cursor says when it has reached what was there", cursors},
	{"the driver's lags count what is not finished", driverLags},
	{"a closed driver refuses everything", closedDriver},
}

// sharedTests are for drivers with several processes.
var sharedTests = []struct {
	name string
	run  func(t *testing.T, h Shared)
}{
	{"what an owner sends after it was replaced is dropped", lateSends},
	{"an owner that was replaced while it handled an input changes nothing", lateCommit},
	{"partitions move while steps run, and each record takes effect once", moves},
	{"a process is killed while steps run, and each record takes effect once", killed},
	{"records that are sent twice take effect once", sentTwice},
	{"a table is not set back by records that are sent twice", tableSentTwice},
	{"a database that is set back repeats its steps, and nothing is skipped or doubled", setBack},
	{"a command is answered by the process that owns its key", remoteCommand},
	{"a command outlives the process that began it", commandOutlives},
	{"an answer that is lost is given again", lostAnswer},
	{"a call goes to the owner of its key, to one process, or to all", remoteCalls},
	{"a call is made again where the process is gone, unless it may be made only once", callsAgain},
	{"an operator reaches a key in another process", remoteOperator},
	{"a process whose store is gone can be stopped", storeGone},
}

// Run runs the suite. What measures memory comes first, while nothing else runs.
func Run(t *testing.T, harness func(t testing.TB) Harness) {
	t.Run("a large blob takes little memory", func(t *testing.T) {
		if testing.Short() {
			t.Skip("writes 200 MB")
		}
		largeBlob(t, harness(t))
	})
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			test.run(t, harness(t))
		})
	}
}

// RunShared runs what Run does, and the tests that need several processes.
func RunShared(t *testing.T, harness func(t testing.TB) Shared) {
	Run(t, func(t testing.TB) Harness { return harness(t) })
	for _, test := range sharedTests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			test.run(t, harness(t))
		})
	}
}
