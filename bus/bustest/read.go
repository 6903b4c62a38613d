package bustest

import (
	"context"
	"errors"
	"sync"

	"github.com/hawser-project/hawser/bus"
)

// partitionsOf returns how many partitions a topic has.
func partitionsOf(driver bus.Driver, d bus.Definition) int32 {
	if d.Compacted || len(d.To) == 0 {
		return 1
	}
	return driver.Partitions(d.To[0])
}

// ReadAll returns the records that a topic has, those of one partition after those of another.
func ReadAll(ctx context.Context, driver bus.Driver, d bus.Definition) (all []bus.Record, err error) {
	for p := range partitionsOf(driver, d) {
		cursor, err := driver.Read(ctx, bus.ReadFrom{Topic: d.Name, Partition: p})
		if err != nil {
			return nil, err
		}
		for !cursor.Reached() {
			records, err := cursor.Next(ctx)
			if err != nil {
				cursor.Close()
				return nil, err
			}
			for _, r := range records {
				if !r.Void {
					all = append(all, r)
				}
			}
		}
		cursor.Close()
	}
	return all, nil
}

// Watch calls seen for each record of a topic as it becomes readable, one at a time, until ctx ends.
func Watch(ctx context.Context, driver bus.Driver, d bus.Definition, seen func(bus.Record)) error {
	var mu sync.Mutex
	var reading sync.WaitGroup
	count := partitionsOf(driver, d)
	failed := make(chan error, count)
	for p := range count {
		reading.Go(func() {
			cursor, err := driver.Read(ctx, bus.ReadFrom{Topic: d.Name, Partition: p})
			if err != nil {
				failed <- err
				return
			}
			defer cursor.Close()
			for {
				records, err := cursor.Next(ctx)
				if err != nil {
					failed <- err
					return
				}
				mu.Lock()
				for _, r := range records {
					if !r.Void {
						seen(r)
					}
				}
				mu.Unlock()
			}
		})
	}
	reading.Wait()
	close(failed)
	var errs []error
	for err := range failed {
		if ctx.Err() == nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// Unfinished returns how many records of a topic its readers have not finished.
func Unfinished(ctx context.Context, driver bus.Driver, topic string) (n uint64, err error) {
	lags, err := driver.Lags(ctx, topic)
	for _, l := range lags {
		n += l.Records
	}
	return n, err
}
