package bus

import (
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"
)

// Options are what a Bus needs beside its driver. Where all workers are in one process the last three are left out.
type Options struct {
	Log     *slog.Logger
	Errors  ErrorCodec
	Metrics prometheus.Registerer

	Self      Instance
	Placement Placement
	Remote    Remote
	// Behind are the roles of processes that have no bus, whose calls are handed on from here to the role that Answerer
	// names.
	Behind   []Role
	Answerer func(call string) (Role, bool)
	// MaxLag is how many records of a partition may be unfinished before its topic counts as busy. Default 50,000.
	MaxLag uint64
}

// Limits of the bus (DESIGN.md 2).
const (
	// MaxValue is the size of the largest record or state value, in octets.
	MaxValue = 1 << 20

	maxWindowRecords = 10_000
	maxWindowBytes   = 64 << 20
)
