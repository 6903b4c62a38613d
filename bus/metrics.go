package bus

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	step      *prometheus.HistogramVec
	conflicts *prometheus.CounterVec
	held      *prometheus.GaugeVec
	window    *prometheus.GaugeVec
}

func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		step: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "hawser_bus_step_seconds", Help: "Time of a step, from the handler's begin to the synced commit.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 2.5, 12),
		}, []string{"role"}),
		conflicts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hawser_bus_conflicts_total", Help: "Steps run again because shared state had changed.",
		}, []string{"role"}),
		held: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "hawser_bus_held", Help: "Inputs set aside by this process and not handed in again.",
		}, []string{"role"}),
		window: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "hawser_bus_window", Help: "Records handed out and not finished.",
		}, []string{"role", "topic"}),
	}
	if r != nil {
		r.MustRegister(m.step, m.conflicts, m.held, m.window)
	}
	return m
}
