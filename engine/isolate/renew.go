package isolate

import (
	"slices"
	"time"
)

// outlive is how long a child that was renewed may go on with what it had begun.
const outlive = 5 * time.Minute

// renew has a new child take the place of one that has grown: V8 does not hurry to collect the buffers
// that a script is done with, as it does not count all of them. What is under way goes on in the old
// one. Objects cannot live in two children, so those of exclusive units are left alone.
func (u *unit) renew(grown *child) {
	u.mu.Lock()
	ready := !u.gone && !u.replacing && !u.renewing && u.held == nil && slices.Contains(u.children, grown)
	if ready {
		u.renewing = true
		content, print, events := u.content, u.print, u.events
		u.h.work.Go(func() { u.renewBy(grown, content, print, events) })
	}
	u.mu.Unlock()
}

func (u *unit) renewBy(grown *child, content *Unit, print string, events bool) {
	defer func() {
		u.mu.Lock()
		u.renewing = false
		u.mu.Unlock()
	}()
	c, err := u.bear(u.h.life, content, events)
	u.h.metrics.starts.WithLabelValues(result(err)).Inc()
	if err != nil {
		return // the old one goes on, as long as it may
	}
	u.mu.Lock()
	i := slices.Index(u.children, grown)
	wanted := !u.gone && u.print == print // the pointer to the content may be another by now
	switch {
	case wanted && i >= 0:
		u.children[i] = c
	case wanted && len(u.children) == 0 && u.starting == nil: // the old one was ended meanwhile
		u.children = append(u.children, c)
	default:
		u.mu.Unlock()
		c.retire(0)
		return
	}
	u.mu.Unlock()
	if i >= 0 {
		grown.retire(outlive)
	}
}
