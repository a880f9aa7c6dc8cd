package isolate

import (
	"sync"

	"selvage/foundation/fault"
)

var errYielded = fault.New(fault.Unavailable, "The objects moved to the process that took this node over; try again.")

// Yield lets another node process have the objects: children of exclusive units end as for new
// content, and none starts any more.
func (h *Host) Yield() {
	h.yielded.Store(true)
	var work sync.WaitGroup
	for _, u := range h.all() {
		u.mu.Lock()
		mine, s := exclusive(u.content), u.starting
		u.mu.Unlock()
		if !mine {
			continue
		}
		work.Go(func() {
			if s != nil {
				<-s.done
			}
			retireAll(u.living(), h.o.HandOver)
		})
	}
	work.Wait()
}
