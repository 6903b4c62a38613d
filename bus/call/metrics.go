package call

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// What became of a request, as the metrics count it.
const (
	outcomeOK        = "ok"
	outcomeNotHere   = "not_here"
	outcomeRefused   = "refused"  // by who or how it was asked, or how big it was
	outcomeNotSent   = "not_sent" // nobody took it up
	outcomeCancelled = "cancelled"
	outcomeFailed    = "failed"
)

// Metrics are shared by everything of this package in a process.
type Metrics struct {
	requests    *prometheus.CounterVec
	seconds     *prometheus.HistogramVec
	connections *prometheus.GaugeVec
}

// NewMetrics makes the metrics, and registers them where r is not nil.
func NewMetrics(r prometheus.Registerer) *Metrics {
	m := &Metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hawser_call_requests_total", Help: "Requests to other processes (side client) and from them (server), by outcome.",
		}, []string{"side", "outcome"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "hawser_call_seconds", Help: "Time of a request between processes, to the whole answer.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 2.5, 12),
		}, []string{"side"}),
		connections: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "hawser_call_connections", Help: "Open connections between processes, by the side that this process has in the requests.",
		}, []string{"side"}),
	}
	if r != nil {
		r.MustRegister(m.requests, m.seconds, m.connections)
	}
	return m
}

// side is the metrics of one side, with their labels looked up once.
type side struct {
	metrics     *Metrics
	name        string
	seconds     prometheus.Observer
	connections prometheus.Gauge
}

const (
	sideClient = "client"
	sideServer = "server"
)

func (m *Metrics) side(name string) *side {
	if m == nil {
		m = NewMetrics(nil)
	}
	return &side{m, name, m.seconds.WithLabelValues(name), m.connections.WithLabelValues(name)}
}

func (s *side) count(outcome string, began time.Time) {
	s.metrics.requests.WithLabelValues(s.name, outcome).Inc()
	s.seconds.Observe(time.Since(began).Seconds())
}
