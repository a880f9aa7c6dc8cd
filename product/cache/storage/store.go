package storage

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"selvage/edge"
	"selvage/foundation/fault"
)

// Options says where and how much to store.
type Options struct {
	Dir         string // of the disk tier; empty for none
	MemoryBytes int64  // of the memory tier, everything counted
	DiskBytes   int64  // of the disk tier
	MaxObject   int64  // a longer body is not stored
	Log         *slog.Logger
	Now         func() time.Time
}

// Store is both tiers and what was purged from them. Safe for concurrent use.
type Store struct {
	options Options
	memory  *memory
	disk    *disk     // nil without a disk tier
	log     *purgeLog // nil without a disk tier
	purges  purges

	writes  chan *Object  // small objects on their way to the disk tier
	filling atomic.Int64  // bytes that fills hold in memory
	skipped atomic.Uint64 // objects that did not reach it because it was too slow
	swept   atomic.Uint64 // the last purge that nothing stored is older than

	mu      sync.Mutex     // guards the field below
	pending map[uint64]int // number of fills and writes under way, by their Seq
}

// Stats is what the store holds and has done since it was opened.
type Stats struct {
	MemoryBytes, MemoryObjects, DiskBytes, DiskObjects int64

	MemoryEvicted, DiskEvicted, DiskFailed, DiskDamaged, DiskSkipped uint64

	Purges  int  // records of purges in effect
	Indexed bool // whether everything on disk is known
}

// Open opens the store in o.Dir, making it if need be. If the record of purges there cannot be
// trusted, everything stored is thrown away: rather fetched again than served after a purge.
func Open(o Options) (*Store, error) {
	s := &Store{options: o, memory: newMemory(o.MemoryBytes), pending: map[uint64]int{}, writes: make(chan *Object, 1024)}
	if o.Dir == "" {
		return s, nil
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, err
	}
	var fresh bool
	var err error
	s.log, fresh, err = openPurgeLog(o.Dir, &s.purges)
	if errors.Is(err, errLog) {
		o.Log.Error("purge log is damaged, the disk cache starts empty", "dir", o.Dir, "error", err)
		if err = os.Rename(filepath.Join(o.Dir, "purges.log"), filepath.Join(o.Dir, "purges.damaged")); err == nil {
			s.purges = purges{}
			s.log, fresh, err = openPurgeLog(o.Dir, &s.purges)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("open purge log: %w", err)
	}
	if fresh {
		if err := os.RemoveAll(filepath.Join(o.Dir, "objects")); err != nil {
			return nil, err
		}
	}
	s.disk, err = openDisk(o, &s.purges)
	return s, err
}

// Lookup returns the newest stored response of key that request selects, or nil.
func (s *Store) Lookup(key Key, request *edge.Header) *Object {
	if o := s.memory.lookup(&key, request); o != nil {
		if !s.purges.covers(o.Meta, &o.checked) {
			return o
		}
		s.memory.remove(o)
	}
	if s.disk == nil {
		return nil
	}
	o := s.disk.lookup(&key, request)
	if o == nil {
		return nil
	}
	if o.Length <= spillAt {
		if o = o.intoMemory(); o == nil {
			return nil
		}
	}
	s.memory.put(o)
	return o
}

// Held is Lookup in the memory tier alone: it never waits for the disk.
func (s *Store) Held(key Key, request *edge.Header) *Object {
	if o := s.memory.lookup(&key, request); o != nil && !s.purges.covers(o.Meta, &o.checked) {
		return o
	}
	return nil
}

// intoMemory returns the object with its body read, nil if that fails.
func (o *Object) intoMemory() *Object {
	f, err := os.Open(*o.path.Load())
	if err != nil {
		return nil
	}
	defer f.Close()
	body := make([]byte, o.Length)
	if _, err := f.ReadAt(body, 0); err != nil && o.Length > 0 {
		return nil
	}
	in := &Object{Meta: o.Meta, held: true, body: body, disk: o.disk}
	in.path.Store(o.path.Load())
	return in
}

// Begin starts a fill: call it before the origin is asked, so that a purge from then on wins.
func (s *Store) Begin() *Fill {
	return &Fill{store: s, seq: s.hold(), length: -1, changed: make(chan struct{}), readers: map[*Reader]struct{}{}}
}

// hold notes that something as old as the newest purge is under way; release ends it.
func (s *Store) hold() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	seq := s.purges.last.Load()
	s.pending[seq]++
	return seq
}

func (s *Store) holdAt(seq uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pending[seq]++
}

func (s *Store) release(seq uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pending[seq]--; s.pending[seq] == 0 {
		delete(s.pending, seq)
	}
}

// oldest returns the lowest Seq under way, or the newest purge if nothing is.
func (s *Store) oldest() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	low := s.purges.last.Load()
	for seq := range s.pending {
		low = min(low, seq)
	}
	return low
}

// Freshen stores o's body under a new head: what a validation brought. It returns the object with
// that head.
func (s *Store) Freshen(o *Object, m *Meta, seq uint64) *Object {
	m.Length, m.Seq, m.sums = o.Length, seq, o.sums
	fresh := &Object{Meta: m, held: o.held, body: o.body, disk: o.disk, verified: o.verified}
	fresh.path.Store(o.path.Load())
	if m.variant() != o.variant() {
		// Another Vary came with the validation: it is another object, which only a fill can store.
		s.Remove(o)
		return fresh
	}
	s.memory.put(fresh)
	if path := fresh.path.Load(); path != nil {
		// What fails here is validated again after a restart, nothing else.
		s.disk.update(*path, m)
	}
	return fresh
}

// Remove forgets one object.
func (s *Store) Remove(o *Object) {
	s.memory.remove(o)
	if s.disk != nil {
		s.disk.removeVariant(&o.Key, o.variant())
	}
}

// RemoveKey forgets everything stored under key: what an unsafe request invalidates. Fills under
// way are not affected.
func (s *Store) RemoveKey(key Key) {
	s.memory.removeKey(&key)
	if s.disk != nil {
		s.disk.removeKey(&key)
	}
}

// Purge forgets what list names. When it returns nil, that is in effect and survives a crash. On an
// error it is in effect, but may come back after a restart.
func (s *Store) Purge(list []Purge) error {
	first, _ := s.purges.record(list)
	if s.log == nil {
		return nil
	}
	if s.disk.released.Load() {
		return fault.New(fault.Unavailable, "This process is handing over to a newer one; send the purge again.")
	}
	if err := s.log.append(first, list); err != nil {
		return fault.Wrap(err, fault.Unavailable, "The purge is in effect but could not be made durable; free space on the cache's disk and send it again.")
	}
	return nil
}

// Since tells whether anything of a zone was purged after seq.
func (s *Store) Since(zone string, seq uint64) bool { return s.purges.since(zone, seq) }

// Release ends all writing to the folder, which another process is taking over. Serving goes on.
func (s *Store) Release() {
	if s.disk != nil {
		s.disk.released.Store(true)
	}
}

// Reclaim undoes Release, if the other process never came to Run.
func (s *Store) Reclaim() {
	if s.disk != nil {
		s.disk.released.Store(false)
	}
}

// Stats returns what the store holds.
func (s *Store) Stats() Stats {
	st := Stats{MemoryEvicted: s.memory.evicted.Load(), Purges: s.purges.size(), DiskSkipped: s.skipped.Load(), Indexed: true}
	st.MemoryBytes, st.MemoryObjects = s.memory.size()
	if d := s.disk; d != nil {
		st.DiskBytes, st.DiskObjects = d.size()
		st.DiskEvicted, st.DiskFailed, st.DiskDamaged = d.evicted.Load(), d.failed.Load(), d.damaged.Load()
		st.Indexed = d.indexed.Load()
	}
	return st
}

// Run indexes the disk tier, writes to it, and sweeps up what was purged, until ctx ends and what
// is on its way has been written. Without it everything is served, but only memory is filled.
func (s *Store) Run(ctx context.Context) error {
	if s.disk == nil {
		return s.sweepLoop(ctx)
	}
	var wg sync.WaitGroup
	defer s.log.close()
	defer wg.Wait()
	var err error
	wg.Go(func() { err = s.disk.rebuild(ctx.Done()) })
	wg.Go(func() { s.sweepLoop(ctx) })
	for {
		select {
		case o := <-s.writes:
			s.write(o)
		case <-ctx.Done():
			wg.Wait()
			s.drain()
			return err
		}
	}
}

func (s *Store) drain() {
	for {
		select {
		case o := <-s.writes:
			s.write(o)
		default:
			return
		}
	}
}

// persist queues a small object for the disk tier; when the queue is full it stays in memory only.
func (s *Store) persist(o *Object) {
	if s.disk == nil || !s.disk.writable() {
		return
	}
	s.holdAt(o.Seq)
	select {
	case s.writes <- o:
	default:
		s.release(o.Seq)
		s.skipped.Add(1)
	}
}

func (s *Store) write(o *Object) {
	defer s.release(o.Seq)
	f, err := s.disk.create(int64(len(o.body)))
	if err != nil {
		return
	}
	defer f.Close()
	if _, err := f.Write(o.body); err != nil {
		s.disk.discard(f)
		s.disk.fail()
		return
	}
	if stored, err := s.disk.finish(f, o.Meta); err == nil {
		o.path.Store(stored.path.Load())
	}
}

const (
	// sweepEvery is how often what was purged is looked for: a sweep reads the head of every file.
	sweepEvery = 10 * time.Minute

	// manyPurges is how many records of purges make it worth a sweep sooner.
	manyPurges = 50_000
)

func (s *Store) sweepLoop(ctx context.Context) error {
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	swept := time.Now()
	for {
		select {
		case now := <-tick.C:
			if now.Sub(swept) >= sweepEvery || s.purges.size() >= manyPurges {
				s.sweep(ctx)
				swept = now
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// sweep removes everything stored that was purged, then forgets the purges: nothing is left for
// them to cover.
func (s *Store) sweep(ctx context.Context) {
	upTo := s.oldest()
	if upTo <= s.swept.Load() || s.purges.size() == 0 || s.disk != nil && (!s.disk.indexed.Load() || s.disk.released.Load()) {
		return
	}
	s.memory.each(func(o *Object) {
		if s.purges.covers(o.Meta, &o.checked) {
			s.memory.remove(o)
		}
	})
	if s.disk != nil && !s.sweepDisk(ctx) {
		return
	}
	s.purges.forget(upTo)
	s.swept.Store(upTo)
	if s.log != nil {
		if err := s.log.rewrite(&s.purges); err != nil {
			s.options.Log.Warn("purge log not shortened", "error", err)
		}
	}
}

// sweepDisk returns true when every purged file is gone for good: the removals are synced, or a
// power cut could bring a file back whose purge has been forgotten.
func (s *Store) sweepDisk(ctx context.Context) bool {
	for i, n := range s.disk.files() {
		if i%64 == 0 {
			select {
			case <-ctx.Done():
				return false
			case <-time.After(5 * time.Millisecond):
			}
		}
		if n.purges.Load() >= s.purges.last.Load() {
			continue
		}
		f, err := os.Open(s.disk.path(&n.name))
		if err != nil {
			continue
		}
		m, err := readMeta(f)
		f.Close()
		if err != nil {
			s.disk.drop(n)
		} else if s.purges.covers(m, &n.purges) {
			s.disk.remove([]*file{n})
		}
	}
	d, err := os.Open(s.disk.dir)
	if err != nil {
		return false
	}
	defer d.Close()
	return unix.Syncfs(int(d.Fd())) == nil
}
