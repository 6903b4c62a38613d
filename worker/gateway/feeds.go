package gateway

import (
	"slices"
	"sync"
	"time"

	"github.com/hawser-project/hawser/cluster/topic"
)

// feedTime is how long what a link manager has said holds. Each says it again every few seconds.
const feedTime = time.Minute

// feeds is what each link manager has said last. They read the same tables, and so have the same certificates; but each
// talks to peers of its own, so that the trust in use is what any of them uses.
type feeds struct {
	mu   sync.Mutex
	from map[uint16]fed
}

type fed struct {
	version string
	trust   []string
	at      time.Time
}

// take notes what a link manager says, and returns whether it has said so before, and the trust of all.
func (f *feeds) take(c topic.GatewayConfig, now time.Time) (known bool, trust []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.from == nil {
		f.from = make(map[uint16]fed)
	}
	known = f.from[c.From].version == c.Version
	f.from[c.From] = fed{c.Version, c.Trust, now}
	for from, said := range f.from {
		if now.Sub(said.at) > feedTime {
			delete(f.from, from)
			continue
		}
		trust = append(trust, said.trust...)
	}
	slices.Sort(trust)
	return known, slices.Compact(trust)
}
