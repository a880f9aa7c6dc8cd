package isolate

import (
	"context"
	"os"
	"time"
)

// process returns a process for content: a spare if one waits, else a new one. Objects must be seen
// from its first moment, so such units get none of the spares.
func (h *Host) process(u *unit, content *Unit, lock *os.File) (*process, error) {
	if content.Objects != "" || u.probing {
		return h.launch(start{tenant: content.Tenant, objects: content.Objects, lock: lock, public: u.probing})
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
	return h.launch(start{tenant: content.Tenant})
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
			if p, err := h.launch(start{}); err != nil {
				h.log.Error("no spare child", "error", err)
				pause = time.Now().Add(longestStop)
			} else {
				h.addSpare(p)
				h.work.Go(func() { p.prefault(h.life) })
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
