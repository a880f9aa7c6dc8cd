package state

import (
	"bytes"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"selvage/foundation/budget"
	"selvage/foundation/fault"
)

// MaxBatch is the most bytes that one batch may hold.
const MaxBatch = 256 << 20

// Batch is a set of changes that takes effect as a whole or not at all. Not safe for concurrent
// use. Apply ends it; Drop one that is not applied.
type Batch struct {
	b *pebble.Batch
}

// NewBatch returns an empty batch.
func (d *DB) NewBatch() *Batch { return &Batch{b: d.pebble.NewBatch()} }

// Put sets key to value. Both are copied. Over MaxBatch it is a fault.TooMuch.
func (b *Batch) Put(key, value []byte) error {
	if err := budget.Check("The change in bytes", int64(b.b.Len()+len(key)+len(value)), MaxBatch); err != nil {
		return err
	}
	return b.b.Set(key, value, nil)
}

// Delete removes key; nothing happens if it does not exist.
func (b *Batch) Delete(key []byte) error { return b.b.Delete(key, nil) }

// DeleteRange removes every key of r, but not what the batch puts there afterwards.
func (b *Batch) DeleteRange(r Range) error { return b.b.DeleteRange(r.Lower, r.Upper, nil) }

// Len returns the size of the batch in bytes.
func (b *Batch) Len() int { return b.b.Len() }

// Drop gives up a batch that was not applied.
func (b *Batch) Drop() { b.b.Close() }

// Commit is a batch on its way to the disk. Call Wait exactly once.
type Commit struct {
	d     *DB
	b     *pebble.Batch
	began time.Time
}

// Apply appends the batch to the log; batches reach the disk in the order of the calls, so when a
// later one is durable, the earlier are too. Reads of this DB see it at once, before it is durable.
// On a full disk it is a fault.Unavailable and nothing has changed.
func (d *DB) Apply(b *Batch) (*Commit, error) {
	if err := d.enter(); err != nil {
		return nil, err
	}
	defer d.leave()
	if err := d.broken.Load(); err != nil {
		return nil, err
	}
	if err := d.room.check(int64(b.Len())); err != nil {
		b.Drop()
		return nil, err
	}
	c := &Commit{d: d, b: b.b, began: time.Now()}
	d.metrics.bytes.Add(float64(b.Len()))
	if err := d.apply(b.b); err != nil {
		return nil, err
	}
	return c, nil
}

// apply turns what Pebble panics about (it cannot make the next log file, say) into a broken store.
func (d *DB) apply(b *pebble.Batch) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = d.fail(fmt.Errorf("%v", p))
		}
	}()
	if err := d.pebble.ApplyNoSyncWait(b, pebble.Sync); err != nil {
		return d.fail(err)
	}
	return nil
}

// Wait blocks until the batch is on disk. After an error nobody knows whether it is, until the
// node was restarted; the store takes no more writes.
func (c *Commit) Wait() error {
	if err := c.b.SyncWait(); err != nil {
		return c.d.fail(err)
	}
	if err := c.d.broken.Load(); err != nil {
		return err
	}
	c.d.metrics.sync.Observe(time.Since(c.began).Seconds())
	if err := c.b.Close(); err != nil {
		return fmt.Errorf("end a batch: %w", err)
	}
	return nil
}

// Commit applies the batch and waits until it is on disk.
func (d *DB) Commit(b *Batch) error {
	c, err := d.Apply(b)
	if err != nil {
		return err
	}
	return c.Wait()
}

// Get returns a copy of the value of key, or nil if there is none.
func (d *DB) Get(key []byte) ([]byte, error) {
	if err := d.enter(); err != nil {
		return nil, err
	}
	defer d.leave()
	value, closer, err := d.pebble.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, d.readError(err)
	}
	defer closer.Close()
	return append([]byte{}, value...), nil
}

// View calls look with the value of key, without a copy; found is false if there is none. The value is
// valid until look returns, which must not call the store to close it.
func (d *DB) View(key []byte, look func(value []byte) error) (found bool, err error) {
	if err := d.enter(); err != nil {
		return false, err
	}
	defer d.leave()
	value, closer, err := d.pebble.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, d.readError(err)
	}
	defer closer.Close()
	return true, look(value)
}

func (d *DB) readError(err error) error {
	return fault.Wrap(err, fault.Internal, "The store in %s cannot be read.", d.dir)
}

// Range is the keys from Lower up to but without Upper. Reverse scans it from its end.
type Range struct {
	Lower, Upper []byte
	Reverse      bool
}

// Prefix returns the range of all keys that begin with p.
func Prefix(p []byte) Range {
	upper := bytes.Clone(p)
	for i := len(upper) - 1; i >= 0; i-- {
		if upper[i]++; upper[i] != 0 {
			return Range{Lower: p, Upper: upper[:i+1]}
		}
	}
	return Range{Lower: p}
}

// Pair is a key and its value, valid until the scan goes on; copy what you keep.
type Pair struct {
	Key, Value []byte
}

// Scan yields the pairs of r in order, as they were when the scan began. An error ends it.
func (d *DB) Scan(r Range) iter.Seq2[Pair, error] {
	return func(yield func(Pair, error) bool) {
		if err := d.enter(); err != nil {
			yield(Pair{}, err)
			return
		}
		defer d.leave()
		it, err := d.pebble.NewIter(&pebble.IterOptions{LowerBound: r.Lower, UpperBound: r.Upper})
		if err != nil {
			yield(Pair{}, d.readError(err))
			return
		}
		defer it.Close()
		start, next := it.First, it.Next
		if r.Reverse {
			start, next = it.Last, it.Prev
		}
		for ok := start(); ok; ok = next() {
			if !yield(Pair{it.Key(), it.Value()}, nil) {
				return
			}
		}
		if err := it.Error(); err != nil {
			yield(Pair{}, d.readError(err))
		}
	}
}
