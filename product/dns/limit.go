package dns

import (
	"hash/maphash"
	"net/netip"
	"sync/atomic"
	"time"
)

// Response-rate limiting: who forges a victim's address gets few answers sent there. What is
// counted are answers of the same name to the same network; over the limit every second one is
// truncated, so that a real client can still come back over TCP, and the others are dropped.

// limitBuckets bounds the memory: 512 KiB. Two networks that share a bucket share their rate.
const limitBuckets = 1 << 16

type limitVerdict uint8

const (
	limitPass limitVerdict = iota
	limitSlip
	limitDrop
)

type limiter struct {
	interval int64 // nanoseconds that one answer costs; 0 switches the limit off
	seed     maphash.Seed
	slips    atomic.Uint64
	// buckets hold the time at which the answers given so far are paid for (the generic cell rate
	// algorithm): one word each, changed without a lock.
	buckets []atomic.Int64
}

// newLimiter allows perSecond answers a second, as many at once; below 0 there is no limit.
func newLimiter(perSecond int) *limiter {
	l := &limiter{seed: maphash.MakeSeed()}
	if perSecond > 0 {
		l.interval = int64(time.Second) / int64(perSecond)
		l.buckets = make([]atomic.Int64, limitBuckets)
	}
	return l
}

// check counts one answer about key to addr.
func (l *limiter) check(addr netip.Addr, key []byte, now time.Time) limitVerdict {
	if l.interval == 0 {
		return limitPass
	}
	bucket := &l.buckets[l.hash(addr, key)%limitBuckets]
	t := now.UnixNano()
	for {
		paid := bucket.Load()
		next := max(paid, t) + l.interval
		if next-t > int64(time.Second) {
			break
		}
		if bucket.CompareAndSwap(paid, next) {
			return limitPass
		}
	}
	if l.slips.Add(1)%2 == 0 {
		return limitSlip
	}
	return limitDrop
}

// hash takes the client's network, /24 or /56, and the key together.
func (l *limiter) hash(addr netip.Addr, key []byte) uint64 {
	var in [8 + maxName]byte
	if addr = addr.Unmap(); addr.Is4() {
		a := addr.As4()
		copy(in[:], a[:3])
	} else {
		a := addr.As16()
		copy(in[1:8], a[:7])
	}
	n := copy(in[8:], key)
	return maphash.Bytes(l.seed, in[:8+n])
}
