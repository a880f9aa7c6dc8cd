// Package budget holds counted limits: bytes of a body, entries of a list, requests under way.
// Going over one is a fault.TooMuch that names the limit and the size found.
package budget

import (
	"io"
	"sync/atomic"

	"selvage/foundation/fault"
)

// Check returns a fault.TooMuch if size is over limit. what names the thing in the user's words.
func Check(what string, size, limit int64) error {
	if size <= limit {
		return nil
	}
	return fault.New(fault.TooMuch, "%s is %d, the limit is %d.", what, size, limit)
}

// Reader reads at most limit bytes from r; the read that would go over returns fault.TooMuch.
// Unlike io.LimitReader it never pretends that the input ended.
func Reader(what string, r io.Reader, limit int64) io.Reader {
	return &reader{what: what, r: r, left: limit, limit: limit}
}

type reader struct {
	what        string
	r           io.Reader
	left, limit int64
}

func (b *reader) Read(p []byte) (int, error) {
	if int64(len(p)) > b.left+1 {
		p = p[:b.left+1]
	}
	n, err := b.r.Read(p)
	if int64(n) > b.left {
		return int(b.left), fault.New(fault.TooMuch, "%s is larger than the limit of %d bytes.", b.what, b.limit)
	}
	b.left -= int64(n)
	return n, err
}

// Slots counts things under way, at most Limit at once. Safe for concurrent use.
type Slots struct {
	Limit int64 // at most this many at once
	used  atomic.Int64
}

// Take takes a slot, or returns false when all are taken. Give it back with Free.
func (s *Slots) Take() bool {
	if s.used.Add(1) > s.Limit {
		s.used.Add(-1)
		return false
	}
	return true
}

// Free gives a slot back that Take gave out.
func (s *Slots) Free() { s.used.Add(-1) }

// Used returns how many slots are taken now.
func (s *Slots) Used() int64 { return s.used.Load() }
