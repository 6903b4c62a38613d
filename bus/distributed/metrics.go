package distributed

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	batch      *prometheus.HistogramVec
	commit     *prometheus.HistogramVec
	outbox     *prometheus.GaugeVec
	outboxAge  *prometheus.GaugeVec
	lost       *prometheus.CounterVec
	moves      *prometheus.CounterVec
	produce    prometheus.Histogram
	duplicates *prometheus.CounterVec
	voided     *prometheus.CounterVec
	missed     *prometheus.CounterVec
}

func newMetrics(r prometheus.Registerer) *metrics {
	role := []string{"role"}
	counter := func(name, help string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "hawser_bus_" + name, Help: help}, role)
	}
	gauge := func(name, help string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "hawser_bus_" + name, Help: help}, role)
	}
	times := prometheus.ExponentialBuckets(0.0005, 2, 14)
	m := &metrics{
		batch: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "hawser_bus_commit_steps", Help: "Steps in one transaction.", Buckets: prometheus.ExponentialBuckets(1, 2, 11),
		}, role),
		commit: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "hawser_bus_commit_seconds", Help: "Time from the first try of a transaction to its end.", Buckets: times,
		}, role),
		produce: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "hawser_bus_produce_seconds", Help: "Time of a request that brings records to Kafka.", Buckets: times,
		}),
		outbox:     gauge("outbox_records", "Records that are committed and that Kafka has not acknowledged."),
		outboxAge:  gauge("outbox_age_seconds", "How long the oldest of them waits."),
		lost:       counter("lost_partitions_total", "Partitions that another process had taken, or whose state was not as this process had left it."),
		moves:      counter("taken_partitions_total", "Partitions that this process has taken over."),
		duplicates: counter("duplicates_total", "Records dropped because they had been read before."),
		voided:     counter("undone_records_total", "Records dropped because the restored database does not know of their commit."),
		missed:     counter("missed_records_total", "Records that Kafka had dropped before they were finished."),
	}
	if r != nil {
		r.MustRegister(m.batch, m.commit, m.produce, m.outbox, m.outboxAge, m.lost, m.moves, m.duplicates, m.voided, m.missed)
	}
	return m
}
