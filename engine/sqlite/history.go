package sqlite

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"selvage/foundation/fault"
)

// history is what a database was: segments with the pages that each transaction wrote, and now and then a snapshot of all
// pages. Its order with the database keeps both in step through crashes:
//
//  1. SQLite appends a transaction to its WAL and syncs it: it is acknowledged. history notes where it ended.
//  2. archive copies noted transactions from the WAL to the segment and syncs that.
//  3. Only then the WAL is checkpointed into the database file, and may be written over.
//
// So a transaction is always in the WAL or in a segment. After a crash recover finds in the WAL what no segment has: a
// record carries the WAL's salt and the frame it ended at. A torn record at a segment's end is cut off; its transactions
// are still in the WAL.
//
// Whoever holds the database's turn may use it.
type history struct {
	dir, id string
	o       Options

	snapshots []place // in order
	segments  []place
	segment   *segment // that is written; nil if none is open
	last      position // of the last transaction that is archived

	pending []pending
	salt    [8]byte // of the WAL that archived counts in
	reached int     // frames of it that are archived
	since   int64   // bytes of segments since the last snapshot
}

// place is a file of history: a snapshot as of seq, or a segment whose first transaction is seq.
type place struct {
	seq   uint64
	bytes int64
	time  time.Time // of the snapshot, or of the segment's first transaction
}

// position is a transaction.
type position struct {
	seq  uint64
	time time.Time
	salt [8]byte // of the WAL it came from
	end  int     // the frame it ended at
}

// pending is a transaction that is in the WAL only.
type pending struct {
	end  int
	time time.Time
}

const (
	segmentSuffix  = ".segment"
	snapshotSuffix = ".snapshot"
	segmentBytes   = 16 << 20
)

func (h *history) path(seq uint64, suffix string) string {
	return filepath.Join(h.dir, fmt.Sprintf("%016x%s", seq, suffix))
}

// openHistory reads what there is. Files that a crash left half made are removed.
func openHistory(dir, id string, o Options) (*history, error) {
	h := &history{dir: dir, id: id, o: o}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		name, suffix, _ := strings.Cut(e.Name(), ".")
		seq, err := strconv.ParseUint(name, 16, 64)
		info, infoErr := e.Info()
		if err != nil || infoErr != nil {
			continue
		}
		switch "." + suffix {
		case snapshotSuffix:
			h.snapshots = append(h.snapshots, place{seq: seq, bytes: info.Size()})
		case segmentSuffix:
			h.segments = append(h.segments, place{seq: seq, bytes: info.Size()})
		default:
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
				return nil, err
			}
		}
	}
	for _, all := range [][]place{h.snapshots, h.segments} {
		slices.SortFunc(all, func(a, b place) int { return int(int64(a.seq) - int64(b.seq)) })
	}
	return h, h.findLast()
}

// findLast reads the newest files to know where history ends, and cuts a torn end off.
func (h *history) findLast() error {
	if n := len(h.snapshots); n > 0 {
		p, err := lastRecord(h.path(h.snapshots[n-1].seq, snapshotSuffix), h.id)
		if err != nil {
			return err
		}
		h.last = p
	}
	for n := len(h.segments); n > 0; n = len(h.segments) {
		path := h.path(h.segments[n-1].seq, segmentSuffix)
		p, whole, err := scanSegment(path, h.id)
		if err != nil {
			return err
		}
		if p.seq == 0 {
			// Not one transaction is whole in it: it was begun just before a crash.
			if err := os.Remove(path); err != nil {
				return err
			}
			h.segments = h.segments[:n-1]
			continue
		}
		if p.seq > h.last.seq {
			h.last = p
		}
		if whole < h.segments[n-1].bytes {
			if err := os.Truncate(path, whole); err != nil {
				return err
			}
			h.segments[n-1].bytes = whole
		}
		break
	}
	for _, s := range h.segments {
		if n := len(h.snapshots); n == 0 || s.seq > h.snapshots[n-1].seq {
			h.since += s.bytes
		}
	}
	h.salt, h.reached = h.last.salt, h.last.end
	return nil
}

// recover notes the transactions of the WAL of file that no segment has, and returns how many.
func (h *history) recover(file string) (int, error) {
	w, err := openWAL(file + "-wal")
	if err != nil || w == nil {
		return 0, err
	}
	defer w.close()
	ends, err := w.commits()
	if err != nil {
		return 0, fmt.Errorf("read the WAL: %w", err)
	}
	when, err := w.written()
	if err != nil {
		return 0, err
	}
	for _, end := range ends {
		if w.salt != h.salt || end > h.reached {
			h.note(end, when)
		}
	}
	return len(h.pending), nil
}

// note takes a transaction that the WAL holds.
func (h *history) note(end int, when time.Time) {
	before := h.last.time
	if n := len(h.pending); n > 0 {
		before = h.pending[n-1].time
	}
	if when.Before(before) {
		when = before // clocks go back, history does not
	}
	h.pending = append(h.pending, pending{end: end, time: when})
}

// seq is that of the last transaction.
func (h *history) seq() uint64 { return h.last.seq + uint64(len(h.pending)) }

// waiting returns the frames that are not archived.
func (h *history) waiting() int {
	n := len(h.pending)
	if n == 0 {
		return 0
	}
	if h.pending[n-1].end < h.reached {
		return h.pending[n-1].end
	}
	return h.pending[n-1].end - h.reached
}

// archive copies what is pending from the WAL of file and syncs it.
func (h *history) archive(file string) error {
	if len(h.pending) == 0 {
		return nil
	}
	w, err := openWAL(file + "-wal")
	if err != nil {
		return err
	}
	if w == nil {
		return fmt.Errorf("%w: the WAL is gone with %d transactions that were not archived", ErrCorrupt, len(h.pending))
	}
	defer w.close()
	from := h.reached
	if w.salt != h.salt {
		from = 0
	}
	if err := h.append(w, from); err != nil {
		h.abandonSegment()
		return fmt.Errorf("archive: %w", err)
	}
	return nil
}

func (h *history) append(w *walFile, from int) error {
	if err := h.openSegment(); err != nil {
		return err
	}
	last := h.last
	for _, p := range h.pending {
		last = position{seq: last.seq + 1, time: p.time, salt: w.salt, end: p.end}
		if err := h.segment.transaction(w, from, last); err != nil {
			return err
		}
		from = p.end
	}
	if err := h.segment.sync(); err != nil {
		return err
	}
	s := &h.segments[len(h.segments)-1]
	h.since += h.segment.size - s.bytes
	s.bytes = h.segment.size
	h.last, h.salt, h.reached, h.pending = last, w.salt, last.end, h.pending[:0]
	if h.segment.size > segmentBytes {
		return h.closeSegment()
	}
	return nil
}

// openSegment has a segment to append to: the newest, unless it is full or older than the newest snapshot.
func (h *history) openSegment() error {
	if h.segment != nil {
		return nil
	}
	next := h.last.seq + 1
	if n := len(h.segments); n > 0 && h.segments[n-1].bytes < segmentBytes {
		if m := len(h.snapshots); m == 0 || h.segments[n-1].seq > h.snapshots[m-1].seq {
			s, err := continueSegment(h.path(h.segments[n-1].seq, segmentSuffix), h.id, h.segments[n-1].bytes)
			h.segment = s
			return err
		}
	}
	s, err := newSegment(h.path(next, segmentSuffix), h.id)
	if err != nil {
		return err
	}
	if err := syncDir(h.dir); err != nil {
		s.close()
		return err
	}
	h.segment = s
	h.segments = append(h.segments, place{seq: next, bytes: 0, time: h.pending[0].time})
	return nil
}

// abandonSegment cuts off what an append that failed may have left.
func (h *history) abandonSegment() {
	if h.segment == nil {
		return
	}
	n := len(h.segments) - 1
	if h.segments[n].bytes == 0 {
		os.Remove(h.segment.f.Name())
		h.segments = h.segments[:n]
	} else {
		h.segment.f.Truncate(h.segments[n].bytes)
	}
	h.segment.close()
	h.segment = nil
}

func (h *history) closeSegment() error {
	if h.segment == nil {
		return nil
	}
	err := h.segment.close()
	h.segment = nil
	return err
}

func (h *history) close() error { return h.closeSegment() }

// bytes returns the size of history on disk.
func (h *history) bytes() int64 {
	n := int64(0)
	for _, all := range [][]place{h.snapshots, h.segments} {
		for _, p := range all {
			n += p.bytes
		}
	}
	return n
}

// oldest returns the first transaction that can be restored: 0, the empty database, until history was pruned.
func (h *history) oldest() uint64 {
	if len(h.segments) > 0 && h.segments[0].seq == 1 || len(h.snapshots) == 0 {
		return 0
	}
	return h.snapshots[0].seq
}

// at returns the last transaction that was made by then.
func (h *history) at(when time.Time) (uint64, error) {
	if when.After(h.o.Clock.Now().Add(time.Minute)) {
		return 0, fault.New(fault.Invalid, "%s is in the future.", when.UTC().Format(time.RFC3339)).At("timestamp")
	}
	for n := len(h.pending); n > 0; n-- {
		if !h.pending[n-1].time.After(when) {
			return h.last.seq + uint64(n), nil
		}
	}
	for i := len(h.segments) - 1; i >= 0; i-- {
		seq, err := segmentAt(h.path(h.segments[i].seq, segmentSuffix), h.id, when)
		if err != nil {
			return 0, err
		}
		if seq > 0 {
			return seq, nil
		}
	}
	oldest := h.oldest()
	if oldest == 0 {
		return 0, nil
	}
	p, err := lastRecord(h.path(oldest, snapshotSuffix), h.id)
	if err != nil {
		return 0, err
	}
	if p.time.After(when) {
		return 0, fault.New(fault.Invalid, "History goes back to %s, which is later than %s.", p.time.UTC().Format(time.RFC3339), when.UTC().Format(time.RFC3339)).At("timestamp")
	}
	return oldest, nil
}

// build writes the database as it was after transaction seq to file.
func (h *history) build(seq uint64, file string) error {
	if seq < h.oldest() {
		return fault.New(fault.Invalid, "The bookmark is older than what history holds.").At("bookmark")
	}
	f, err := os.OpenFile(file, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	base := uint64(0)
	for i := len(h.snapshots) - 1; i >= 0; i-- {
		if h.snapshots[i].seq <= seq {
			base = h.snapshots[i].seq
			err = replay(h.path(base, snapshotSuffix), h.id, 0, base, f)
			break
		}
	}
	reached := base
	for i, s := range h.segments {
		if err != nil || s.seq > seq {
			break
		}
		end := h.last.seq
		if i+1 < len(h.segments) {
			end = h.segments[i+1].seq - 1
		}
		if end <= base {
			continue
		}
		if s.seq > reached+1 {
			err = fmt.Errorf("%w: history has a gap after transaction %d", ErrCorrupt, reached)
			break
		}
		reached = min(end, seq)
		err = replay(h.path(s.seq, segmentSuffix), h.id, base+1, reached, f)
	}
	if err == nil && reached < seq {
		err = fmt.Errorf("%w: history ends at transaction %d", ErrCorrupt, reached)
	}
	return errors.Join(err, f.Close())
}
