package bus_test

import (
	"testing"

	"github.com/hawser-project/hawser/bus"
)

// TestKeysGoWhereKafkaPutsThem compares with hashes that Kafka publishes for its murmur2 (UtilsTest of its clients).
func TestKeysGoWhereKafkaPutsThem(t *testing.T) {
	t.Parallel()
	for key, hash := range map[string]int32{
		"21": -973932308, "foobar": -790332482, "a-little-bit-long-string": -985981536, "a-little-bit-longer-string": -1486304829,
		"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971, "abc": 479470107,
	} {
		for _, n := range []int32{1, 3, 8, 1000} {
			if got, want := bus.PartitionOf(key, n), (hash&0x7fffffff)%n; got != want {
				t.Errorf("partition of %q among %d: got %d, want %d", key, n, got, want)
			}
		}
	}
}
