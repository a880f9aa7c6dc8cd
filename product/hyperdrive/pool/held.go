package pool

import "sync/atomic"

// Bounds of what clients have us hold, in bytes.
const (
	MaxShare = 16 << 20  // of one client
	maxHeld  = 256 << 20 // of all clients of a database
)

// Held counts bytes that the clients of one database have us hold: texts of prepared statements. The zero value is
// ready. Safe for concurrent use.
type Held struct{ bytes atomic.Int64 }

// Share is one client's part of a Held. Not safe for concurrent use.
type Share struct {
	Of    *Held // nil: nothing is counted
	bytes int64
}

// Grow adds bytes, or tells that they are too many. What is negative always goes.
func (s *Share) Grow(bytes int64) bool {
	if s.Of == nil {
		return true
	}
	if all := s.Of.bytes.Add(bytes); bytes > 0 && (s.bytes+bytes > MaxShare || all > maxHeld) {
		s.Of.bytes.Add(-bytes)
		return false
	}
	s.bytes += bytes
	return true
}

// Free gives all of it back.
func (s *Share) Free() { s.Grow(-s.bytes) }
