package isolate

import (
	"context"
	"os"
	"time"
)

// process returns a process for content: a spare if one waits, else a new one. Objects must be seen
// from its first moment, so such units get none of the spares.
func (h *Host) process(content *Unit, lock *os.File) (*process, error) {
	if content.Objects != "" {
		return h.launch(content.Tenant, content.Objects, lock)
	}
	h.mu.Lock()
	var p *process
	for p == nil && len(h.spares) > 0 {
		p = h.spares[0]
		h.spares = h.spares[1:]
		select {
		case <-p.done:
			h.work.Go(p.remove)
			p = nil
		default:
		}
	}
	h.mu.Unlock()
	if p != nil {
		h.metrics.spares.Inc()
		return p, nil
	}
	return h.launch(content.Tenant, "")
}

const spareCheck = 50 * time.Millisecond

// keepSpares keeps so many spares ready until ctx ends.
func (h *Host) keepSpares(ctx context.Context) {
	t := time.NewTicker(spareCheck)
	defer t.Stop()
	pause := time.Time{}
	for {
		h.mu.Lock()
		missing := !h.closed && len(h.spares) < h.o.Spares
		h.mu.Unlock()
		if missing && time.Now().After(pause) {
			if p, err := h.launch("", ""); err != nil {
				h.log.Error("no spare child", "error", err)
				pause = time.Now().Add(longestStop)
			} else {
				h.addSpare(p)
				continue
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

func (h *Host) addSpare(p *process) {
	h.mu.Lock()
	closed := h.closed
	if !closed {
		h.spares = append(h.spares, p)
	}
	h.mu.Unlock()
	if closed {
		p.kill()
		p.remove()
	}
}

// keepHouse ends idle children and wakes units for their alarms until ctx ends.
func (h *Host) keepHouse(ctx context.Context) {
	t := time.NewTicker(min(time.Second, h.o.IdleAfter/2))
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			for _, u := range h.all() {
				u.tidy()
			}
		}
	}
}

// tidy lets idle children fall asleep.
func (u *unit) tidy() {
	now := u.h.o.Clock.Now()
	for _, c := range u.living() {
		if !c.sleepy(now, u.h.o.IdleAfter) {
			continue
		}
		u.h.work.Go(func() { c.retire(u.h.o.HandOver) })
	}
}

// sleepy tells whether nothing has used the child for so long. If so, it takes nothing new.
func (c *child) sleepy(now time.Time, idle time.Duration) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.leaving || len(c.calls) > 0 || now.Sub(c.lastUsed) < idle {
		return false
	}
	for t := range c.tunnels {
		// Other children keep RPC sessions for ever, whether they use them or not.
		if !t.rpc || now.Sub(time.Unix(0, t.last.Load())) < idle {
			return false
		}
	}
	c.leaving = true
	return true
}
