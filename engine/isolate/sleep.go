package isolate

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"
)

// keepHouse ends idle children and wakes units for their alarms until ctx ends.
func (h *Host) keepHouse(ctx context.Context) {
	every := min(time.Second, h.o.IdleAfter/2)
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			for _, u := range h.all() {
				u.tidy(every)
			}
			h.relieve()
		}
	}
}

// tidy lets idle children fall asleep, and wakes the unit if an alarm is due before the next call.
func (u *unit) tidy(every time.Duration) {
	now := u.h.o.Clock.Now()
	for _, c := range u.living() {
		if c.sleepy(now, u.h.o.IdleAfter) {
			u.h.work.Go(func() { c.retire(u.h.grace(c.content)) })
		}
	}
	u.lookForAlarms()
	u.mu.Lock()
	defer u.mu.Unlock()
	if !u.wake.IsZero() && u.wake.Sub(now) <= every && !u.gone && u.held == nil && len(u.children) == 0 {
		u.startLocked(true)
	}
}

// sleepy tells whether nothing has used the child for so long. If so, it takes nothing new.
func (c *child) sleepy(now time.Time, idle time.Duration) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.leaving || len(c.calls) > 0 || c.asking.open.Load() > 0 || now.Sub(c.lastUsed) < idle {
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

// noteAlarm notes when a unit whose child has ended has to wake. The child's lock is still held.
func (u *unit) noteAlarm(content *Unit) {
	if !exclusive(content) {
		return
	}
	wake, err := earliestAlarm(content)
	if err != nil {
		u.h.log.Error("alarms cannot be read", "unit", u.key, "error", err)
	}
	u.mu.Lock()
	u.wake, u.unread = wake, false
	u.mu.Unlock()
}

// lookForAlarms reads what an earlier node left, once, unless another one is at it. Requests wait.
func (u *unit) lookForAlarms() {
	u.mu.Lock()
	look := u.unread && !u.gone && !u.replacing && u.held == nil && u.starting == nil && len(u.children) == 0
	content := u.content
	held := make(chan struct{})
	if look {
		u.unread, u.held = false, held
	}
	u.mu.Unlock()
	if !look {
		return
	}
	wake, busy := time.Time{}, false
	if _, err := os.Stat(content.Objects); err == nil {
		lock, err := flock(lockPath(content.Objects))
		if busy = err != nil; !busy {
			if wake, err = earliestAlarm(content); err != nil {
				u.h.log.Error("alarms cannot be read", "unit", u.key, "error", err)
			}
			lock.Close()
		}
	}
	u.mu.Lock()
	u.wake, u.unread, u.held = wake, busy, nil
	u.mu.Unlock()
	close(held)
}

// earliestAlarm returns when the first alarm of the unit's objects is due, zero if there is none. It
// reads the runtime's own tables, so nothing of the unit may live meanwhile.
func earliestAlarm(u *Unit) (time.Time, error) {
	var first time.Time
	var faults []error
	for i := range u.Programs {
		for _, class := range u.Programs[i].Classes {
			due, err := alarmIn(filepath.Join(u.Objects, class.Namespace, "metadata.sqlite"))
			if err != nil {
				faults = append(faults, fmt.Errorf("class %s: %w", class.Name, err))
			}
			if !due.IsZero() && (first.IsZero() || due.Before(first)) {
				first = due
			}
		}
	}
	return first, errors.Join(faults...)
}

func alarmIn(path string) (due time.Time, err error) {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return time.Time{}, nil
	}
	conn, err := sqlite.OpenConn(path, sqlite.OpenReadWrite)
	if err != nil {
		return time.Time{}, err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	const exists = `SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = '_cf_ALARM'`
	found := false
	note := func(*sqlite.Stmt) error { found = true; return nil }
	if err := sqlitex.ExecuteTransient(conn, exists, &sqlitex.ExecOptions{ResultFunc: note}); err != nil || !found {
		return time.Time{}, err
	}
	err = sqlitex.ExecuteTransient(conn, `SELECT min(scheduled_time) FROM _cf_ALARM`, &sqlitex.ExecOptions{ResultFunc: func(s *sqlite.Stmt) error {
		if !s.ColumnIsNull(0) {
			due = time.Unix(0, s.ColumnInt64(0)) // nanoseconds
		}
		return nil
	}})
	return due, err
}
