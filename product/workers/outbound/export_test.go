package outbound

import (
	"time"

	"selvage/foundation/clock"
)

// PerShard is how many counters one shard may hold.
const PerShard = perShard

// FloodShard counts n keys of one shard and returns how many counters it holds in the end.
func FloodShard(n int) int {
	c := newCounters(clock.Clock{})
	for i := range n {
		c.take(counterName{uint64(i) * counterShards, 1}, 1, time.Minute)
	}
	return len(c.shards[0].windows)
}
