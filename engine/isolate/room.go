package isolate

import (
	"context"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"selvage/foundation/fault"
)

// A machine has room for so many children and no more. When there are as many as Options.Children,
// or the machine's memory runs short, the one that was unused for longest falls asleep for the new
// one; if each has something to do, a start waits for a while and is then refused.

const (
	childSize   = 24 << 20        // bytes a child takes by itself, as a rule, beside what it shares with others
	scarce      = 16              // one part of so many of the memory: less available means that it is short
	roomWithin  = 5 * time.Second // a start waits for room
	roomChecked = 20 * time.Millisecond
)

// roomFor returns how many children fit into the machine's memory: three quarters of it.
func roomFor(total int64) int { return max(8, int(total/4*3/childSize)) }

// memory returns how much memory the machine has and how much of that is available, in bytes; zeros
// if it does not tell.
func memory() (total, available int64) {
	data, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, 0
	}
	for line := range strings.Lines(string(data)) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		kib, err := strconv.ParseInt(f[1], 10, 64)
		if err != nil {
			continue
		}
		switch f[0] {
		case "MemTotal:":
			total = kib << 10
		case "MemAvailable:":
			available = kib << 10
		}
	}
	return total, available
}

// room makes room for one more child and takes it. Whoever got it gives it back when the child has
// ended.
func (h *Host) room(ctx context.Context) error {
	deadline := time.Now().Add(roomWithin)
	for {
		if h.children.Add(1) <= int64(h.o.Children) {
			return nil
		}
		h.children.Add(-1)
		if !h.sleepOldest() && time.Now().After(deadline) {
			return fault.New(fault.Unavailable, "This node runs %d children for Workers, which is its limit, and all of them are busy; try again.", h.o.Children)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(roomChecked):
		}
	}
}

// sleepOldest ends the child that was unused for longest. It returns false if none is unused.
func (h *Host) sleepOldest() bool {
	type idle struct {
		c     *child
		since time.Time
	}
	var all []idle
	for _, u := range h.all() {
		for _, c := range u.living() {
			all = append(all, idle{c, c.lastUse()})
		}
	}
	slices.SortFunc(all, func(a, b idle) int { return a.since.Compare(b.since) })
	for _, i := range all {
		if i.c.sleepy(h.o.Clock.Now(), 0) {
			h.work.Go(func() { i.c.retire(h.o.HandOver) })
			return true
		}
	}
	return false
}

func (c *child) lastUse() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lastUsed
}

// relieve lets a child fall asleep if the machine's memory runs short.
func (h *Host) relieve() {
	if total, available := memory(); available < total/scarce {
		h.sleepOldest()
	}
}
