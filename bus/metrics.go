package bus

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	step      *prometheus.HistogramVec
	conflicts *prometheus.CounterVec
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
		window: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "hawser_bus_window", Help: "Records handed out and not finished.",
		}, []string{"role", "topic"}),
	}
	if r != nil {
		r.MustRegister(m.step, m.conflicts, m.window)
	}
	return m
}

// collector counts, when metrics are asked for, what nobody counts all the time.
type collector struct {
	bus                        *Bus
	records, age, aside, owned *prometheus.Desc
}

func newCollector(b *Bus) *collector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("hawser_bus_"+name, help, labels, nil)
	}
	return &collector{
		bus:     b,
		records: desc("lag_records", "Records that are not finished, of the partitions that this process owns.", "role", "topic"),
		age:     desc("lag_seconds", "Age of the oldest of them.", "role", "topic"),
		aside:   desc("set_aside", "Inputs set aside, of the partitions that this process owns: held ones wait for a table entry, poison for a person.", "role", "kind"),
		owned:   desc("partitions", "Partitions of the role's keys that this process owns.", "role"),
	}
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.records, c.age, c.aside, c.owned} {
		to <- d
	}
}

// scrapeTime bounds how long the driver may take to say how far behind it is.
const scrapeTime = 2 * time.Second

// Collect implements prometheus.Collector.
func (c *collector) Collect(to chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTime)
	defer cancel()
	c.bus.mu.Lock()
	consumers := make([]*Consumer, 0, len(c.bus.consumers))
	for _, consumer := range c.bus.consumers {
		consumers = append(consumers, consumer)
	}
	c.bus.mu.Unlock()
	for _, consumer := range consumers {
		c.collect(ctx, consumer, to)
	}
}

func (c *collector) collect(ctx context.Context, consumer *Consumer, to chan<- prometheus.Metric) {
	role := string(consumer.client.role)
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, append([]string{role}, labels...)...)
	}
	owned := make(map[int32]bool)
	var held, poison int
	for _, p := range consumer.partitions() {
		owned[p.Partition] = true
		h, x := p.asides()
		held, poison = held+h, poison+x
	}
	gauge(c.owned, float64(len(owned)))
	gauge(c.aside, float64(held), "held")
	gauge(c.aside, float64(poison), "poison")
	for _, s := range consumer.topics {
		lags, err := c.bus.lagsOf(ctx, s.topic)
		if err != nil {
			c.bus.Log.WarnContext(ctx, "lag for the metrics", "topic", s.topic, "error", err)
			continue
		}
		var records uint64
		var age time.Duration
		for _, l := range lags {
			if l.Reader == consumer.client.role && owned[l.Partition] {
				records += l.Records
				age = max(age, l.Age)
			}
		}
		gauge(c.records, float64(records), s.topic)
		gauge(c.age, age.Seconds(), s.topic)
	}
}

// asides counts the inputs that are set aside.
func (p *partition) asides() (held, poison int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, b := range p.blocked {
		if b.poison {
			poison += b.inputs
		} else {
			held += b.inputs
		}
	}
	return held, poison
}
