package bus

import (
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"
)

// Options are what a Bus needs beside its driver.
type Options struct {
	Log     *slog.Logger
	Errors  ErrorCodec
	Metrics prometheus.Registerer
}

// Limits of the bus (DESIGN.md 2).
const (
	// MaxValue is the size of the largest record or state value, in octets.
	MaxValue = 1 << 20

	maxWindowRecords = 10_000
	maxWindowBytes   = 64 << 20
)
