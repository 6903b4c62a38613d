package bus

import (
	"context"
	"sync"
	"time"
)

// lagTime is how old a lag may be by which something is decided.
const lagTime = 500 * time.Millisecond

// lagCache remembers lags for a moment: they are asked for with every message.
type lagCache struct {
	mu     sync.Mutex
	topics map[string]lagEntry
}

type lagEntry struct {
	at   time.Time
	lags []Lag
}

// Busy returns an error of the kind "unavailable" while a reader of the topic has so much to do in the key's partition that
// nothing should be added: whoever would add to it, and can say no, says it.
func (t Topic[V]) Busy(ctx context.Context, c *Client, key string) error {
	lags, err := c.bus.lagsOf(ctx, t.Name)
	if err != nil {
		return err
	}
	for _, l := range lags {
		if l.Records > c.bus.MaxLag && PartitionOf(key, c.bus.driver.Partitions(l.Reader)) == l.Partition {
			return failure(kindUnavailable, "the %s workers are %d records behind; try again later", l.Reader, l.Records)
		}
	}
	return nil
}

func (b *Bus) lagsOf(ctx context.Context, topic string) ([]Lag, error) {
	b.lags.mu.Lock()
	e, known := b.lags.topics[topic]
	if known && time.Since(e.at) < lagTime {
		b.lags.mu.Unlock()
		return e.lags, nil
	}
	if known { // who asks while one looks gets what was known
		b.lags.topics[topic] = lagEntry{time.Now(), e.lags}
	}
	b.lags.mu.Unlock()
	lags, err := b.driver.Lags(ctx, topic)
	if err != nil {
		return nil, err
	}
	b.lags.mu.Lock()
	defer b.lags.mu.Unlock()
	if b.lags.topics == nil {
		b.lags.topics = make(map[string]lagEntry)
	}
	b.lags.topics[topic] = lagEntry{time.Now(), lags}
	return lags, nil
}
