package flow

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	started *prometheus.CounterVec
	ended   *prometheus.CounterVec
	step    prometheus.Histogram
	replays prometheus.Counter
	fuel    prometheus.Counter
	dropped *prometheus.CounterVec
	held    prometheus.Counter

	steps atomic.Uint64 // of guests, for those who ask whether anything goes on
}

func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		started: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hawser_flow_started_total", Help: "Flows that were begun, by who began them.",
		}, []string{"by"}),
		ended: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hawser_flow_ended_total", Help: "Flows that have ended, by state.",
		}, []string{"state"}),
		step: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "hawser_flow_guest_seconds", Help: "Time of one entry into a flow's module, waiting for a turn included.",
			Buckets: prometheus.ExponentialBuckets(0.00002, 3, 14),
		}),
		replays: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "hawser_flow_replays_total", Help: "Flows brought back into memory from their events.",
		}),
		fuel: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "hawser_flow_fuel_total", Help: "Fuel that flows have used.",
		}),
		dropped: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hawser_flow_dropped_total", Help: "Session messages that were dropped, by reason.",
		}, []string{"reason"}),
		held: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "hawser_flow_diverged_total", Help: "Flows held because their events gave other commands than before.",
		}),
	}
	if r != nil {
		r.MustRegister(m.started, m.ended, m.step, m.replays, m.fuel, m.dropped, m.held)
	}
	return m
}

// watch adds the gauge of flows in memory.
func (m *metrics) watch(r prometheus.Registerer, hot func() int) {
	if r == nil {
		return
	}
	r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "hawser_flow_hot", Help: "Waiting flows that are in memory.",
	}, func() float64 { return float64(hot()) }))
}
