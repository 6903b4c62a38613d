package gateway

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	requests   *prometheus.CounterVec
	posts      *prometheus.CounterVec
	refused    *prometheus.CounterVec
	signatures prometheus.Counter
	seconds    *prometheus.HistogramVec
}

func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hawser_gateway_requests_total", Help: "Requests of other clusters, by the status of the answer.",
		}, []string{"status"}),
		posts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hawser_gateway_posts_total", Help: "Requests to other clusters, by the status of the answer; none if there was none.",
		}, []string{"status"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hawser_gateway_refused_total", Help: "Connections of other clusters that were refused, by reason.",
		}, []string{"reason"}),
		signatures: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "hawser_gateway_signatures_total", Help: "Signatures asked of crypto, one for each TLS handshake.",
		}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "hawser_gateway_request_seconds", Help: "Time of a request, by side: server or client.",
			Buckets: prometheus.ExponentialBuckets(0.0002, 2.5, 12),
		}, []string{"side"}),
	}
	if r != nil {
		r.MustRegister(m.requests, m.posts, m.refused, m.signatures, m.seconds)
	}
	return m
}
