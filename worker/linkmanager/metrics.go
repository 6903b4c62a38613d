package linkmanager

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	dropped   *prometheus.CounterVec
	delivered *prometheus.CounterVec
	received  *prometheus.CounterVec
	attempts  prometheus.Counter
	sessions  *prometheus.CounterVec
	waiting   prometheus.Gauge
	parked    prometheus.Gauge
	delay     prometheus.Histogram
}

func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		dropped: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hawser_link_dropped_total", Help: "Link messages from peers that were of no use, by reason.",
		}, []string{"reason"}),
		delivered: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hawser_link_outbound_total", Help: "Messages from here that have ended, by how: acknowledged, here, or the code of the failure.",
		}, []string{"end"}),
		received: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hawser_link_inbound_total", Help: "Messages from peers that were acknowledged: new ones, and ones that had come before.",
		}, []string{"kind"}),
		attempts: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "hawser_link_attempts_total", Help: "Messages sealed and posted, repetitions included.",
		}),
		sessions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hawser_link_sessions_total", Help: "Link sessions made, by side: initiator or responder.",
		}, []string{"side"}),
		waiting: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "hawser_link_waiting", Help: "Messages on their way to a peer that are in memory. Parked ones may be out of it.",
		}),
		parked: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "hawser_link_parked_pages", Help: "Pages, of up to 64 messages each, of messages that are parked: moved out of the way of others.",
		}),
		delay: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "hawser_link_acknowledge_seconds", Help: "Time from taking up a message to its acknowledgement.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2.5, 14),
		}),
	}
	if r != nil {
		r.MustRegister(m.dropped, m.delivered, m.received, m.attempts, m.sessions, m.waiting, m.parked, m.delay)
	}
	return m
}
