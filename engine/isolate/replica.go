package isolate

import (
	"context"
	"time"
)

const (
	loadTick   = 100 * time.Millisecond
	fullFrom   = 0.85            // of a core: a child that uses this much has no time to spare
	fullTicks  = 2               // in a row, until another child helps
	spareTicks = 100             // in a row with too little to do, until one leaves
	lessThan   = 0.6             // of what the others could carry
	settling   = 2 * time.Second // of a new child, in which nothing is concluded
)

// load is what the replicas of a unit do.
type load struct {
	at    time.Time
	used  map[*child]time.Duration
	full  int // ticks in a row in which every child was full and had requests waiting
	spare int // ticks in a row in which one child less would do
}

// keepReplicas starts further children of stateless units whose children are busy, up to
// Options.Replicas, and ends them when there is less to do, until ctx ends.
func (h *Host) keepReplicas(ctx context.Context) {
	t := time.NewTicker(loadTick)
	defer t.Stop()
	loads := map[*unit]*load{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		present := map[*unit]bool{}
		for _, u := range h.all() {
			children := u.living()
			if len(children) == 0 || exclusive(children[0].content) || (len(children) == 1 && children[0].running() < 2) {
				continue
			}
			present[u] = true
			l := loads[u]
			if l == nil {
				l = &load{}
				loads[u] = l
			}
			l.judge(u, children)
		}
		for u := range loads {
			if !present[u] {
				delete(loads, u)
			}
		}
	}
}

// judge looks at one unit once per tick.
func (l *load) judge(u *unit, children []*child) {
	now := time.Now()
	wall := now.Sub(l.at)
	first := l.at.IsZero()
	l.at = now
	used := make(map[*child]time.Duration, len(children))
	cores, full := 0.0, true
	for _, c := range children {
		cpu, err := processCPU(c.p.pid())
		if err != nil {
			return
		}
		used[c] = cpu
		before, known := l.used[c]
		rate := float64(cpu-before) / float64(wall)
		cores += rate
		full = full && known && rate >= fullFrom && c.running() >= 2
	}
	l.used = used
	if first || now.Sub(children[len(children)-1].born) < settling {
		l.full, l.spare = 0, 0
		return
	}
	l.full = count(l.full, full)
	l.spare = count(l.spare, len(children) > 1 && cores < lessThan*float64(len(children)-1))
	switch {
	case l.full > fullTicks && len(children) < u.h.o.Replicas:
		l.full = 0
		u.help()
	case l.spare > spareTicks:
		l.spare = 0
		c := children[len(children)-1]
		u.h.work.Go(func() { c.retire(u.h.grace(c.content)) })
	}
}

func count(n int, more bool) int {
	if more {
		return n + 1
	}
	return 0
}

// help starts one more child.
func (u *unit) help() {
	u.mu.Lock()
	defer u.mu.Unlock()
	if !u.gone && !u.replacing && u.held == nil {
		u.startLocked(false)
	}
}
