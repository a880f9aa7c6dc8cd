package sqlite

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	lib "modernc.org/sqlite/lib"
)

// archive moves what was committed to history and then from the WAL to the database file. The turn is held. Readers may
// keep some of the WAL; it is tried again after the next writes.
func (d *database) archive() error {
	if err := d.hist.archive(d.file()); err != nil {
		return err
	}
	frames, moved, err := d.writer.raw.Checkpoint(lib.SQLITE_CHECKPOINT_PASSIVE)
	if err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	d.dirty.Store(moved < frames)
	return nil
}

// settleSoon archives in the background, once at a time.
func (d *database) settleSoon() {
	if !d.settles.CompareAndSwap(false, true) {
		return
	}
	s := d.s
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		d.settles.Store(false)
		return
	}
	d.users++
	s.work.Add(1)
	s.mu.Unlock()
	go func() {
		defer s.work.Done()
		defer s.release(d)
		defer d.settles.Store(false)
		if err := d.settle(s.life); err != nil && s.life.Err() == nil {
			s.o.Observe.Logger().Error("archive database", "name", d.name, "error", err)
		}
	}()
}

// settle archives, takes a snapshot if it is time and prunes history.
func (d *database) settle(ctx context.Context) error {
	if err := d.takeTurn(ctx); err != nil {
		return err
	}
	err := d.archive()
	due := err == nil && d.hist.snapshotDue(d.bytes())
	d.giveTurn()
	if err != nil {
		return err
	}
	if due {
		if err := d.snapshot(ctx); err != nil {
			return fmt.Errorf("snapshot: %w", err)
		}
	}
	if err := d.takeTurn(ctx); err != nil {
		return err
	}
	defer d.giveTurn()
	return d.hist.prune(d.bytes())
}

// bytes returns the size of the database file.
func (d *database) bytes() int64 {
	info, err := os.Stat(d.file())
	if err != nil {
		return 0
	}
	return info.Size()
}

// snapshot writes all pages of the database to history while others read and write it.
func (d *database) snapshot(ctx context.Context) error {
	at, read, err := d.freeze(ctx)
	if err != nil {
		return err
	}
	defer read.end()
	temporary := filepath.Join(d.dir, historyDir, "snapshot.new")
	s, err := newSegment(temporary, d.about.ID)
	if err != nil {
		return err
	}
	defer os.Remove(temporary)
	err = read.pages(func(n, of uint32, content []byte) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		return s.page(n, content, at, n == of, of)
	})
	if err == nil {
		err = s.sync()
	}
	if err = errors.Join(err, s.close()); err != nil {
		return err
	}
	if err := d.takeTurn(ctx); err != nil {
		return err
	}
	defer d.giveTurn()
	return d.hist.addSnapshot(temporary, at, s.size)
}

// snapshotDue reports that so much was written since the last snapshot, or so long ago, that a new one is worth its bytes.
func (h *history) snapshotDue(dbBytes int64) bool {
	if len(h.segments) == 0 || h.since == 0 {
		return false
	}
	if h.since > max(h.o.Snapshot, dbBytes) {
		return true
	}
	last := h.began()
	return !last.IsZero() && h.o.Clock.Now().Sub(last) > h.o.Retention/10
}

// began returns when the last snapshot was made, or the first transaction if there is none.
func (h *history) began() time.Time {
	path := h.path(h.segments[0].seq, segmentSuffix)
	if n := len(h.snapshots); n > 0 {
		path = h.path(h.snapshots[n-1].seq, snapshotSuffix)
	}
	p, err := lastRecord(path, h.id)
	if err != nil {
		return time.Time{}
	}
	return p.time
}

// addSnapshot makes a file the snapshot as of p. Transactions go to a new segment from now on.
func (h *history) addSnapshot(file string, p position, bytes int64) error {
	if err := h.closeSegment(); err != nil {
		return err
	}
	if err := os.Rename(file, h.path(p.seq, snapshotSuffix)); err != nil {
		return err
	}
	h.snapshots = append(h.snapshots, place{seq: p.seq, bytes: bytes, time: p.time})
	h.since = 0
	return syncDir(h.dir)
}

// prune removes what is older than the newest snapshot from before the retention, and more if history is too large.
func (h *history) prune(dbBytes int64) error {
	limit := h.o.Clock.Now().Add(-h.o.Retention)
	keep := -1
	for i := range h.snapshots {
		if h.snapshots[i].time.IsZero() {
			p, err := lastRecord(h.path(h.snapshots[i].seq, snapshotSuffix), h.id)
			if err != nil {
				return err
			}
			h.snapshots[i].time = p.time
		}
		if !h.snapshots[i].time.After(limit) {
			keep = i
		}
	}
	if err := h.forgetBefore(keep); err != nil {
		return err
	}
	for h.bytes() > h.o.History+4*dbBytes {
		next := 0
		if h.oldest() != 0 {
			next = 1
		}
		if next >= len(h.snapshots) {
			return nil
		}
		h.o.Observe.Logger().Warn("history is over its limit: the oldest is forgotten before its time", "dir", h.dir,
			"bytes", h.bytes(), "limit", h.o.History+4*dbBytes)
		if err := h.forgetBefore(next); err != nil {
			return err
		}
	}
	return nil
}

// forgetBefore removes the snapshots before snapshot i and the segments it makes needless.
func (h *history) forgetBefore(i int) error {
	if i < 0 {
		return nil
	}
	base := h.snapshots[i].seq
	for len(h.segments) > 0 {
		end := h.last.seq
		if len(h.segments) > 1 {
			end = h.segments[1].seq - 1
		}
		if end > base || (len(h.segments) == 1 && h.segment != nil) {
			break
		}
		if err := os.Remove(h.path(h.segments[0].seq, segmentSuffix)); err != nil {
			return err
		}
		h.segments = h.segments[1:]
	}
	for ; i > 0; i-- {
		if err := os.Remove(h.path(h.snapshots[0].seq, snapshotSuffix)); err != nil {
			return err
		}
		h.snapshots = h.snapshots[1:]
	}
	return nil
}
