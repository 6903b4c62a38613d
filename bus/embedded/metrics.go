package embedded

import "github.com/prometheus/client_golang/prometheus"

// metrics are those of batches, which have steps of all roles.
type metrics struct {
	steps   prometheus.Histogram
	seconds prometheus.Histogram
}

func newMetrics(r prometheus.Registerer) *metrics {
	all := prometheus.Labels{"role": "all"}
	m := &metrics{
		steps: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "hawser_bus_commit_steps", Help: "Steps in one batch.", ConstLabels: all, Buckets: prometheus.ExponentialBuckets(1, 2, 11),
		}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "hawser_bus_commit_seconds", Help: "Time from the begin of a batch to the end of its sync.", ConstLabels: all,
			Buckets: prometheus.ExponentialBuckets(0.0001, 2.5, 12),
		}),
	}
	if r != nil {
		r.MustRegister(m.steps, m.seconds)
	}
	return m
}
