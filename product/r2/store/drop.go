package store

import (
	"bytes"
	"context"
	"encoding/binary"
	"time"

	"selvage/engine/state"
	"selvage/foundation/fault"
)

const (
	dropAtOnce = 250 // objects whose keys are locked together
	dropRetry  = 30 * time.Second
)

// Drop removes a bucket with all that is in it. When it returns, that is durable: the bucket uses nothing,
// and what is put into it from now on is CodeNoSuchBucket. Its content is removed in the background, also
// after a crash. A bucket's ID must not be used again.
func (s *Store) Drop(_ context.Context, b Bucket) error { return s.dropIf(b, false) }

// DropEmpty is Drop for a bucket without objects; of one that has some it is a fault.Conflict.
func (s *Store) DropEmpty(_ context.Context, b Bucket) error { return s.dropIf(b, true) }

func (s *Store) dropIf(b Bucket, empty bool) error {
	n, err := s.session()
	if err != nil {
		return err
	}
	commit, err := s.markDropped(n, b, empty)
	if err != nil {
		return err
	}
	if err := commit.Wait(); err != nil {
		return err
	}
	ring(s.wake.drop)
	return nil
}

// Values of the table of dropped buckets: the state, and when it was dropped.
const (
	dropping = 0
	emptied  = 1
)

// codeNotEmpty is Cloudflare's for a bucket that cannot be deleted.
const codeNotEmpty = 10008

func (s *Store) markDropped(n *session, b Bucket, empty bool) (*state.Commit, error) {
	m := n.meter(b)
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := s.load(n, m, b); err != nil {
		return nil, err
	}
	if empty && m.usage.Objects > 0 {
		return nil, fault.New(fault.Conflict, "The bucket you tried to delete is not empty.").WithCode(codeNotEmpty)
	}
	c := s.begin(n, b)
	c.put(s.bucketKey(tableDropped, b), binary.BigEndian.AppendUint64([]byte{dropping}, uint64(s.now().UnixMilli())))
	c.delete(s.bucketKey(tableUsage, b))
	if c.err != nil {
		c.batch.Drop()
		return nil, c.err
	}
	commit, err := n.db.Apply(c.batch)
	if err == nil {
		m.dropped, m.usage = true, Usage{}
	}
	return commit, err
}

// dropAll empties buckets that were dropped.
func (s *Store) dropAll(ctx context.Context) error {
	for {
		err := s.EmptyDropped(ctx)
		var again <-chan time.Time
		if err != nil && ctx.Err() == nil {
			s.o.Observe.Logger().Warn("a bucket that was deleted could not be emptied; it is tried again", "error", err)
			again = time.After(dropRetry)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-s.wake.drop:
		case <-again:
		}
	}
}

// EmptyDropped removes what is in buckets that were dropped. Run does so by itself.
func (s *Store) EmptyDropped(ctx context.Context) error {
	head := len(s.table(tableDropped))
	oldest := s.now().Add(-UploadExpiry)
	return s.scan(ctx, state.Prefix(s.table(tableDropped)), func(p state.Pair) error {
		b, _, ok := splitBucket(p.Key[head:])
		if !ok || len(p.Value) != 9 {
			return errRecord
		}
		if p.Value[0] == dropping {
			return s.empty(ctx, b)
		}
		if time.UnixMilli(int64(binary.BigEndian.Uint64(p.Value[1:]))).Before(oldest) {
			return s.drop(bytes.Clone(p.Key)) // no put is under way for so long
		}
		return nil
	})
}

// empty removes the objects and uploads of a bucket that takes no more.
func (s *Store) empty(ctx context.Context, b Bucket) error {
	for {
		n, err := s.session()
		if err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		some, err := s.someOf(n, b)
		if err != nil {
			return err
		}
		if len(some) == 0 {
			return s.emptyRest(n, b)
		}
		if err := s.emptySome(n, b, some); err != nil {
			return err
		}
	}
}

func (s *Store) someOf(n *session, b Bucket) (keys []string, err error) {
	base := s.bucketKey(tableObject, b)
	for p, err := range n.db.Scan(state.Prefix(base)) {
		if err != nil {
			return nil, err
		}
		if keys = append(keys, string(p.Key[len(base):])); len(keys) == dropAtOnce {
			break
		}
	}
	return keys, nil
}

// emptySome removes some objects; locked, for one may just be copied to another bucket.
func (s *Store) emptySome(n *session, b Bucket, keys []string) error {
	locks := make([]lockName, len(keys))
	for i, k := range keys {
		locks[i] = lockName{b, k}
	}
	defer s.lock(locks...)()
	c := s.begin(n, b)
	for _, k := range keys {
		o, err := s.lookup(n, b, k)
		if err != nil {
			c.batch.Drop()
			return err
		}
		if o != nil {
			c.forget(o)
			c.delete(s.objectKey(b, k))
		}
	}
	return c.commitDropped()
}

// commitDropped commits a change to a bucket that has no use to count any more.
func (c *change) commitDropped() error {
	if c.err != nil {
		c.batch.Drop()
		return c.err
	}
	if err := c.n.db.Commit(c.batch); err != nil {
		return err
	}
	if c.garbage {
		ring(c.s.wake.collect)
	}
	return nil
}

// emptyRest removes the parts of uploads, then all that is left.
func (s *Store) emptyRest(n *session, b Bucket) error {
	c := s.begin(n, b)
	for p, err := range n.db.Scan(state.Prefix(s.bucketKey(tablePart, b))) {
		if err != nil {
			c.batch.Drop()
			return err
		}
		part, err := decodeObject("", p.Value)
		if err != nil {
			c.batch.Drop()
			return err
		}
		c.discard(part.content.segments, false)
		c.delete(bytes.Clone(p.Key))
		if c.batch.Len() > 4<<20 {
			if err := c.commitDropped(); err != nil {
				return err
			}
			c = s.begin(n, b)
		}
	}
	for _, t := range []byte{tableUpload, tablePart, tableEnded, tableSegments} {
		if c.err == nil {
			c.err = c.batch.DeleteRange(state.Prefix(s.bucketKey(t, b)))
		}
	}
	c.put(s.bucketKey(tableDropped, b), binary.BigEndian.AppendUint64([]byte{emptied}, uint64(s.now().UnixMilli())))
	return c.commitDropped()
}
