package outbound

import (
	"strconv"
	"time"

	"selvage/foundation/clock"
)

// FloodCounters counts n keys and returns how many counters are held in the end.
func FloodCounters(n int) int {
	c := newCounters(clock.Clock{})
	for i := range n {
		c.take(nameOf("account/1", strconv.Itoa(i), time.Minute), 1, time.Minute)
	}
	held := 0
	for i := range c.shards {
		held += len(c.shards[i].windows)
	}
	return held
}
