package rest

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	refused  *prometheus.CounterVec
	busy     prometheus.Gauge
}

// Reasons of refused log-ons and requests.
const (
	reasonNoCredentials = "no credentials"
	reasonWrong         = "wrong"
	reasonDisabled      = "disabled"
	reasonExpired       = "expired"
	reasonTooMany       = "too many"
	reasonNotPermitted  = "not permitted"
)

func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hawser_rest_requests_total", Help: "Requests answered, by operation (METHOD and path template) and status.",
		}, []string{"operation", "status"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "hawser_rest_request_seconds", Help: "Time from a request's header to its answer.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 3, 10),
		}, []string{"operation"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hawser_rest_refused_total", Help: "Log-ons and requests refused, by reason.",
		}, []string{"reason"}),
		busy: prometheus.NewGauge(prometheus.GaugeOpts{Name: "hawser_rest_busy", Help: "Requests under way."}),
	}
	if r != nil {
		r.MustRegister(m.requests, m.seconds, m.refused, m.busy)
	}
	return m
}

func (m *metrics) answered(e *event, seconds float64) {
	m.requests.WithLabelValues(e.operation, strconv.Itoa(e.status)).Inc()
	m.seconds.WithLabelValues(e.operation).Observe(seconds)
}
