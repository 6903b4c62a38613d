package linkmanager

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/hawser-project/hawser/bus"
	"github.com/hawser-project/hawser/cluster/topic"
)

const (
	feedEvery  = 10 * time.Second
	feedRetry  = 500 * time.Millisecond
	feedSettle = 10 * time.Millisecond // between two: changes come in groups
)

// feedGateway keeps the gateway's certificates what the tables say, also when the gateway was restarted.
func (w *Worker) feedGateway(ctx context.Context) {
	reported := ""
	for {
		pause := feedEvery
		config, err := w.gatewayConfig()
		if err == nil {
			var statuses map[uint16]topic.GatewayStatus
			statuses, err = w.configureGateways(ctx, config)
			for _, status := range statuses {
				if len(status.Faults) > 0 && reported != config.Version {
					reported = config.Version
					w.Log.WarnContext(ctx, "the gateway can't use some certificates", "faults", status.Faults)
				}
			}
		}
		if err != nil {
			pause = feedRetry
			if ctx.Err() == nil {
				w.Log.WarnContext(ctx, "the gateway has not got its certificates", "error", err)
			}
		}
		if !sleep(ctx, feedSettle) || !w.awaitFeed(ctx, pause) {
			return
		}
	}
}

// awaitFeed returns when the gateways are to be told again: after a time, when something has changed, or when there are
// others.
func (w *Worker) awaitFeed(ctx context.Context, pause time.Duration) bool {
	before := topic.GatewayConfigure.Who(w.Bus)
	end, look := time.NewTimer(pause), time.NewTicker(feedRetry)
	defer end.Stop()
	defer look.Stop()
	for {
		select {
		case <-w.changed:
			return true
		case <-end.C:
			return true
		case <-look.C:
			if !slices.Equal(before, topic.GatewayConfigure.Who(w.Bus)) {
				return true
			}
		case <-ctx.Done():
			return false
		}
	}
}

// configureGateways tells every gateway. One that is there and does not take it is an error, and so is having none.
func (w *Worker) configureGateways(ctx context.Context, config topic.GatewayConfig) (map[uint16]topic.GatewayStatus, error) {
	statuses, errs := topic.GatewayConfigure.Everywhere(ctx, w.Bus, config)
	if len(statuses) == 0 && len(errs) == 0 {
		return nil, errors.New("there is no gateway")
	}
	return statuses, errors.Join(slices.Collect(maps.Values(errs))...)
}

// sleep returns after a time, and reports false when ctx ends.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		return false
	}
	return true
}

// gatewayConfig makes what the gateway is told.
func (w *Worker) gatewayConfig() (c topic.GatewayConfig, err error) {
	c.From = w.instance
	hosted := w.directory.hosted.All()
	for _, short := range slices.Sorted(maps.Keys(hosted)) {
		h := hosted[short]
		identity := topic.TLSIdentity{Tenant: h.TLSTenant, KeyID: h.TLSKeyID}
		for _, text := range h.TLSCertificates {
			for rest := []byte(text); ; {
				var block *pem.Block
				if block, rest = pem.Decode(rest); block == nil {
					break
				}
				identity.Chain = append(identity.Chain, block.Bytes)
			}
		}
		if len(identity.Chain) > 0 {
			c.Certificates = append(c.Certificates, identity)
		}
	}
	trust := make(map[string]bool)
	w.mu.Lock()
	for _, r := range w.runners {
		if v := r.current.Load(); v != nil && v.standing == open {
			trust[v.trust.ID] = true
		}
	}
	w.mu.Unlock()
	c.Trust = slices.Sorted(maps.Keys(trust))
	octets, err := bus.Encode(c)
	sum := sha256.Sum256(octets)
	c.Version = hex.EncodeToString(sum[:16])
	return c, err
}

// notifyFeed says that something the gateway is told may have changed.
func (w *Worker) notifyFeed() {
	select {
	case w.changed <- struct{}{}:
	default:
	}
}
