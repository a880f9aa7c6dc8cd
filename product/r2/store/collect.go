package store

import (
	"bytes"
	"context"
	"time"

	"selvage/engine/state"
	"selvage/engine/volume"
)

const (
	collectAtOnce = 1000
	collectPause  = 500 * time.Millisecond // between rounds: deletions come in crowds
	collectRetry  = 5 * time.Second        // for what was being read, or could not be removed
	sweepEvery    = 6 * time.Hour
	sweepAge      = 10 * time.Minute // content that belongs to nothing is left alone so long
)

// collect removes content that belongs to nobody any more, when nobody reads it.
func (s *Store) collect(ctx context.Context) error {
	for {
		left, err := s.collectSome(ctx)
		if err != nil && ctx.Err() == nil {
			s.o.Observe.Logger().Warn("content of R2 that is not needed any more could not be removed; it is tried again", "error", err)
		}
		var again <-chan time.Time
		if left || err != nil {
			again = time.After(collectRetry)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-s.wake.collect:
		case <-again:
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(collectPause):
		}
	}
}

// Collect removes what is not needed any more now. Run does so by itself.
func (s *Store) Collect(ctx context.Context) error {
	_, err := s.collectSome(ctx)
	return err
}

// collectSome goes through all garbage once; it tells whether some had to be left.
func (s *Store) collectSome(ctx context.Context) (left bool, err error) {
	next := s.table(tableGarbage)
	end := beyond(next)
	for next != nil {
		n, err := s.session()
		if err != nil {
			return true, err
		}
		var some []garbage
		some, next, err = s.garbage(n, state.Range{Lower: next, Upper: end})
		if err != nil || len(some) == 0 {
			return left, err
		}
		kept, err := s.removeGarbage(ctx, n, some)
		left = left || kept
		if err != nil {
			return true, err
		}
	}
	return left, nil
}

// garbage is content that may belong to nobody.
type garbage struct {
	id     id
	bucket Bucket // of content in the index; empty for the volume's
}

func (s *Store) garbage(n *session, r state.Range) (some []garbage, next []byte, err error) {
	for p, err := range n.db.Scan(r) {
		if err != nil {
			return nil, nil, err
		}
		if len(some) == collectAtOnce {
			return some, bytes.Clone(p.Key), nil
		}
		var g garbage
		copy(g.id[:], p.Key[len(p.Key)-len(g.id):])
		if len(p.Value) > 0 {
			w, err := decodeOwned(p.Value)
			if err != nil {
				return nil, nil, err
			}
			g.bucket = w.bucket
		}
		some = append(some, g)
	}
	return some, nil, nil
}

// removeGarbage removes content and then forgets that it was garbage.
func (s *Store) removeGarbage(ctx context.Context, n *session, some []garbage) (left bool, err error) {
	// What says that it is garbage may not be on disk yet. Batches get there in order: after this one, it is.
	if err := barrier(n.db, s.garbageKey(id{})); err != nil {
		return true, err
	}
	batch := n.db.NewBatch()
	for _, g := range some {
		gone, err := s.removeContent(ctx, n, batch, g)
		if err != nil {
			batch.Drop()
			return true, err
		}
		if !gone {
			left = true
			continue
		}
		if err := batch.Delete(s.garbageKey(g.id)); err != nil {
			batch.Drop()
			return true, err
		}
	}
	if batch.Len() == 0 {
		batch.Drop()
		return left, nil
	}
	return left, n.db.Commit(batch)
}

// removeContent removes content unless somebody owns or reads it; gone is false if it is being read.
func (s *Store) removeContent(ctx context.Context, n *session, batch *state.Batch, g garbage) (gone bool, err error) {
	has, err := s.hasOwner(n, g.id)
	if err != nil || has {
		return has, err
	}
	if s.using.has(g.id) {
		return false, nil
	}
	if g.bucket != (Bucket{}) {
		return true, batch.Delete(s.dataKey(g.bucket, g.id))
	}
	if err := s.o.Volume.Delete(ctx, g.id.String()); err != nil {
		return false, err
	}
	s.metrics.collected.Inc()
	return true, s.forgetDamage(n, g.id)
}

func (s *Store) hasOwner(n *session, d id) (bool, error) {
	for _, err := range n.db.Scan(state.Prefix(append(s.table(tableContent), d[:]...))) {
		return err == nil, err
	}
	return false, nil
}

// barrier returns when everything that was applied before is on disk.
func barrier(db *state.DB, unused []byte) error {
	batch := db.NewBatch()
	if err := batch.Delete(unused); err != nil {
		batch.Drop()
		return err
	}
	return db.Commit(batch)
}

// sweepOften sweeps at the start, when a crash may just have been, and then now and again.
func (s *Store) sweepOften(ctx context.Context) error {
	for {
		if err := s.Sweep(ctx, sweepAge); err != nil && ctx.Err() == nil {
			s.o.Observe.Logger().Warn("the volume of R2 could not be swept; it is tried again", "error", err, "again", sweepEvery)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(sweepEvery):
		}
	}
}

// Sweep removes content that the index does not know of and that is older than age: it belongs to puts that
// a crash ended. Run does so by itself.
func (s *Store) Sweep(ctx context.Context, age time.Duration) error {
	if err := s.o.Volume.Tidy(ctx); err != nil {
		return err
	}
	before := s.o.Clock.Now().Add(-age)
	return s.o.Volume.List(ctx, func(e volume.Entry) error {
		d, ok := parseID(e.Name)
		if !ok || e.Modified.After(before) {
			return nil
		}
		// A put is under way until the index knows of it: who looks in this order misses none.
		if s.using.has(d) {
			return nil
		}
		n, err := s.session()
		if err != nil {
			return err
		}
		has, err := s.hasOwner(n, d)
		if err != nil || has {
			return err
		}
		raw, err := n.db.Get(s.garbageKey(d))
		if err != nil || raw != nil {
			return err // the collector's
		}
		s.metrics.orphans.Inc()
		return s.o.Volume.Delete(ctx, e.Name)
	})
}
