package bus

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"
)

const (
	expireEvery = 10 * time.Minute
	expireBatch = 10_000 // rows in a step
)

// expire drops replies whose time is over, and old entries of the journal.
func (p *partition) expire(ctx context.Context) error {
	ticker := time.NewTicker(expireEvery)
	defer ticker.Stop()
	for {
		for _, drop := range []func(context.Context, time.Time) error{p.expireReplies, p.trimJournal} {
			if err := drop(ctx, time.Now()); err != nil && ctx.Err() == nil {
				p.client.bus.Log.WarnContext(ctx, "drop what is old", "role", p.Role, "error", err)
			}
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
	}
}

func (p *partition) expireReplies(ctx context.Context, now time.Time) error {
	for {
		step := &Step{}
		err := p.client.bus.driver.Scan(ctx, Range{Role: p.Role, Kind: p.kind("expiry"), AllKeys: true}, func(row Row) bool {
			if len(row.Key) != 8 || int64(binary.BigEndian.Uint64([]byte(row.Key)))*3600 > now.Unix() {
				return false
			}
			step.Writes = append(step.Writes, Write{RowKey: row.RowKey})
			var length int
			if n, err := fmt.Sscanf(row.Row, "%08x", &length); n == 1 && err == nil && length >= 0 && 8+length <= len(row.Row) {
				reply := RowKey{p.Role, "_reply:" + string(p.Role), row.Row[8 : 8+length], row.Row[8+length:]}
				step.Writes = append(step.Writes, Write{RowKey: reply})
			}
			return len(step.Writes) < expireBatch
		})
		if err != nil || len(step.Writes) == 0 {
			return err
		}
		if _, err := p.client.bus.commit(ctx, step); err != nil {
			return err
		}
	}
}
