package storage

import (
	"errors"
	"io"
	"os"
	"sync"
	"time"

	"github.com/cespare/xxhash/v2"
)

const (
	chunkSize = 64 << 10

	// spillAt is how much of a fill is kept in memory before it goes to the disk tier, as long as all
	// fills together hold less than half of the memory tier's bytes; then it is chunkSize. It is also
	// how far a fill's readers may lie apart when it cannot go to disk.
	spillAt = 1 << 20

	// wholeAt is up to which length a body is given its memory in one piece at once.
	wholeAt = 128 << 10

	// stall is how long a fill that cannot be kept waits for its slowest reader.
	stall = 30 * time.Second
)

var (
	// ErrAbandoned is what filling ends with when nobody reads it any more and it is not worth
	// finishing.
	ErrAbandoned = errors.New("nobody reads the response any more")

	// ErrSlow is what a reader gets that held up all the others for too long.
	ErrSlow = errors.New("the client reads too slowly for a shared response that cannot be stored")

	errTooLate = errors.New("the beginning of the response is gone")
)

// Fill is one origin response on its way in: one writer, any number of readers that each see the
// whole body as it arrives. It holds at most about spillAt bytes in memory; the rest goes to a file
// of the disk tier, or, where there is none or it fails, the writer waits for the readers.
//
// The writer calls Expect, ReadFrom, perhaps Store, and End in the end.
type Fill struct {
	store *Store
	seq   uint64 // what was purged before it began
	ended sync.Once

	mu      sync.Mutex // guards the fields below
	changed chan struct{}
	length  int64 // expected, -1 unknown
	chunks  [][]byte
	base    int64 // offset of chunks[0]
	total   int64
	file    *os.File // holds the octets before base, nil until spilled
	kept    bool     // whether the file has become an object
	window  bool     // nothing is kept but what a reader still needs
	lost    bool     // whether the beginning has been let go
	done    bool
	err     error
	readers map[*Reader]struct{}

	// The writer's own.
	sum     *xxhash.Digest
	sums    []uint64
	spilled int64 // octets reserved in the disk tier
}

// Seq returns the number of the last purge before the fill began.
func (f *Fill) Seq() uint64 { return f.seq }

// Expect says how long the body will be, -1 if that is unknown.
func (f *Fill) Expect(length int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.length = length
}

// ReadFrom takes the body from r until it ends. An error of r is returned as it is.
func (f *Fill) ReadFrom(r io.Reader) (int64, error) {
	var n int64
	for {
		buf := f.room()
		got, err := r.Read(buf)
		n += int64(got)
		if got > 0 {
			if err := f.advance(got); err != nil {
				return n, err
			}
		}
		if err == io.EOF {
			return n, f.complete()
		}
		if err != nil {
			return n, err
		}
	}
}

// room returns free memory at the end of the last chunk; only the writer uses it.
func (f *Fill) room() []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	if n := len(f.chunks); n > 0 {
		if last := f.chunks[n-1]; len(last) < cap(last) {
			return last[len(last):cap(last)]
		}
	}
	size := int64(chunkSize)
	if f.length >= 0 && f.length <= wholeAt && f.total == 0 {
		// One piece that can become the stored body as it is; one more octet shows the end.
		size = f.length + 1
	}
	c := make([]byte, 0, size)
	f.chunks = append(f.chunks, c)
	return c[:cap(c)]
}

// advance publishes n octets that were written into room.
func (f *Fill) advance(n int) error {
	f.mu.Lock()
	i := len(f.chunks) - 1
	old := len(f.chunks[i])
	f.chunks[i] = f.chunks[i][:old+n]
	fresh := f.chunks[i][old:]
	f.total += int64(n)
	if f.total > f.store.options.MaxObject {
		f.window = true
	}
	held, window := f.total-f.base, f.window
	f.wake()
	f.mu.Unlock()
	f.store.filling.Add(int64(n))
	f.checksum(fresh)
	if held < f.most() {
		return nil
	}
	if !window && f.spill() == nil {
		return nil
	}
	return f.waitForReaders()
}

// most returns how much the fill may hold in memory now.
func (f *Fill) most() int64 {
	if f.store.filling.Load() > f.store.options.MemoryBytes/2 {
		return chunkSize
	}
	return spillAt
}

// wake tells every reader that something changed; f.mu is held.
func (f *Fill) wake() {
	close(f.changed)
	f.changed = make(chan struct{})
}

func (f *Fill) checksum(p []byte) {
	if f.store.disk == nil {
		return
	}
	for len(p) > 0 {
		if f.sum == nil {
			f.sum = xxhash.New()
		}
		written := f.total - int64(len(p))
		n := min(int64(len(p)), sumChunk-written%sumChunk)
		f.sum.Write(p[:n])
		p = p[n:]
		if (written+n)%sumChunk == 0 {
			f.sums = append(f.sums, f.sum.Sum64())
			f.sum.Reset()
		}
	}
}

// spill writes what is held to the file. A failure puts the fill into window mode: it goes on,
// unstored.
func (f *Fill) spill() error {
	err := f.flush()
	if err == nil {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.window = true
	return err
}

func (f *Fill) flush() error {
	d := f.store.disk
	if d == nil {
		return errPaused
	}
	f.mu.Lock()
	chunks, file := f.chunks, f.file
	f.mu.Unlock()
	if file == nil {
		var err error
		if file, err = d.create(0); err != nil {
			return err
		}
		f.mu.Lock()
		f.file = file
		f.mu.Unlock()
	}
	var n int64
	for _, c := range chunks {
		n += int64(len(c))
	}
	if !d.reserve(n) {
		return errPaused
	}
	f.spilled += n
	for _, c := range chunks {
		// Only the writer changes chunks, and it is here: they can be written unlocked.
		if _, err := file.Write(c); err != nil {
			d.fail()
			return err
		}
	}
	f.store.filling.Add(-n)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.chunks, f.base = nil, f.base+n
	return nil
}

// waitForReaders lets go of what every reader has read, and waits until that is enough to go on.
func (f *Fill) waitForReaders() error {
	deadline := time.NewTimer(stall)
	defer deadline.Stop()
	for {
		f.mu.Lock()
		slowest, at := f.slowest()
		if slowest == nil {
			f.mu.Unlock()
			return ErrAbandoned
		}
		for len(f.chunks) > 1 && f.base+int64(len(f.chunks[0])) <= at {
			f.store.filling.Add(-int64(len(f.chunks[0])))
			f.base += int64(len(f.chunks[0]))
			f.chunks = f.chunks[1:]
			f.lost = true
		}
		if f.total-f.base < f.most()+chunkSize {
			f.mu.Unlock()
			return nil
		}
		changed := f.changed
		f.mu.Unlock()
		select {
		case <-changed:
		case <-deadline.C:
			slowest.fail(ErrSlow)
			deadline.Reset(stall)
		}
	}
}

// slowest returns the reader that is furthest behind, nil if there is none; f.mu is held.
func (f *Fill) slowest() (*Reader, int64) {
	var last *Reader
	for r := range f.readers {
		if r.err == nil && (last == nil || r.at < last.at) {
			last = r
		}
	}
	if last == nil {
		return nil, 0
	}
	return last, last.at
}

// complete checks the length at the end of the body.
func (f *Fill) complete() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.length >= 0 && f.total != f.length {
		return io.ErrUnexpectedEOF
	}
	f.length = f.total
	return nil
}

// Store stores a complete body under m, unless it could not be kept or was purged meanwhile.
// m.Length and m.Seq are set here. Call End after it.
func (f *Fill) Store(m *Meta) {
	if f.sum != nil && f.total%sumChunk != 0 {
		f.sums = append(f.sums, f.sum.Sum64())
	}
	f.mu.Lock()
	window, spilled := f.window, f.file != nil
	f.mu.Unlock()
	if window || f.store.purges.covers(&Meta{Key: m.Key, Place: m.Place, Seq: f.seq}, nil) {
		return
	}
	m.Length, m.Seq, m.sums = f.total, f.seq, f.sums
	if !spilled {
		o := &Object{Meta: m, held: true, body: f.whole(), disk: f.store.disk}
		f.store.memory.put(o)
		f.store.persist(o)
		return
	}
	if f.spill() != nil {
		return
	}
	o, err := f.store.disk.finish(f.file, m)
	if err != nil {
		return
	}
	f.mu.Lock()
	f.kept = true
	f.mu.Unlock()
	f.store.memory.put(o)
}

// whole returns the body in one piece that is no larger than it has to be.
func (f *Fill) whole() []byte {
	if len(f.chunks) == 1 && int64(cap(f.chunks[0])) <= f.total+f.total/8+64 {
		return f.chunks[0]
	}
	b := make([]byte, 0, f.total)
	for _, c := range f.chunks {
		b = append(b, c...)
	}
	return b
}

// End ends the fill: readers that have read everything get err, or EOF if it is nil. Calling it again
// does nothing.
func (f *Fill) End(err error) {
	f.ended.Do(func() {
		f.mu.Lock()
		f.done, f.err = true, err
		f.wake()
		unused := len(f.readers) == 0
		f.store.filling.Add(f.base - f.total)
		f.mu.Unlock()
		if f.spilled > 0 {
			f.store.disk.spilled.Add(-f.spilled)
		}
		f.store.release(f.seq)
		if unused {
			f.close()
		}
	})
}

// close lets the file go once nobody reads or writes any more.
func (f *Fill) close() {
	f.mu.Lock()
	if len(f.readers) > 0 {
		f.mu.Unlock()
		return
	}
	file, kept := f.file, f.kept
	f.file = nil
	f.mu.Unlock()
	if file == nil {
		return
	}
	if !kept {
		f.store.disk.discard(file)
	}
	file.Close()
}

// Wanted tells whether finishing is worth it: somebody reads, or no more than rest octets are
// missing.
func (f *Fill) Wanted(rest int64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.readers) > 0 || !f.window && f.length >= 0 && f.length-f.total <= rest
}
