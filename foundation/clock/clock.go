// Package clock names the one thing code asks of time, so that tests can hand in their own.
package clock

import "time"

// Clock tells the time. The zero value is the system's clock.
type Clock struct {
	now func() time.Time
}

// Fixed returns a clock that asks now; for tests outside testing/synctest.
func Fixed(now func() time.Time) Clock { return Clock{now: now} }

// Now returns the current time.
func (c Clock) Now() time.Time {
	if c.now != nil {
		return c.now()
	}
	return time.Now()
}
