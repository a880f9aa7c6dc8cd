package edge

import (
	"sync"
	"time"
)

// watchdog calls bite if a wait takes longer than allowed. Arm before each wait and Disarm after:
// both are cheap, because the timer runs on by itself and looks at the deadline when it fires.
type watchdog struct {
	bite func()

	mu       sync.Mutex // guards the fields below
	deadline time.Time  // zero while nobody waits
	fires    time.Time  // when the timer goes off, if running
	timer    *time.Timer
	running  bool
}

// Arm allows the wait that begins now to take d.
func (w *watchdog) Arm(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.deadline = time.Now().Add(d)
	if w.running && !w.deadline.Before(w.fires) {
		return
	}
	w.running, w.fires = true, w.deadline
	if w.timer == nil {
		w.timer = time.AfterFunc(d, w.look)
		return
	}
	w.timer.Reset(d)
}

// Disarm ends the wait.
func (w *watchdog) Disarm() {
	w.mu.Lock()
	w.deadline = time.Time{}
	w.mu.Unlock()
}

// Stop ends the wait and the timer. Arm may follow.
func (w *watchdog) Stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.deadline = time.Time{}
	if w.running && w.timer.Stop() {
		w.running = false
	}
}

func (w *watchdog) look() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.deadline.IsZero() {
		w.running = false
		return
	}
	if left := time.Until(w.deadline); left > 0 {
		w.fires = w.deadline
		w.timer.Reset(left)
		return
	}
	w.running = false
	w.deadline = time.Time{}
	// Bites under the lock, so that a Disarm that has returned means: it did not bite.
	w.bite()
}
