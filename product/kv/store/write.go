package store

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"sync"

	"selvage/engine/state"
)

// Write is a key to be put. The key, metadata and expiry were checked by who calls.
type Write struct {
	Key      string
	Metadata []byte // JSON; nil for none
	Expires  int64  // Unix seconds; 0 never
	Value    []byte

	// Late, if not nil, is called by Put when the value was read, and may set Metadata: forms have it
	// behind the value.
	Late func(w *Write) error
}

// maxAtOnce bounds what one change of many keys holds; more become several.
const (
	maxAtOnce      = 1000
	maxAtOnceBytes = 4 << 20
)

// TooLarge is a value over MaxValue.
type TooLarge struct{ Size int64 }

// Error says so.
func (e *TooLarge) Error() string { return "the value is too large" }

var buffers = sync.Pool{New: func() any { return new([inlineBytes + 1]byte) }}

// Put stores w with the value that body yields. When it returns nil that is on disk; otherwise nothing
// has changed, except if the disk itself failed.
func (s *Store) Put(ctx context.Context, sp Space, w Write, body io.Reader) error {
	buf := buffers.Get().(*[inlineBytes + 1]byte)
	defer buffers.Put(buf)
	n, _, err := fill(body, buf[:])
	if err != nil {
		return err
	}
	if n <= inlineBytes {
		w.Value = buf[:n]
		if w.Late != nil {
			if err := w.Late(&w); err != nil {
				return err
			}
		}
		return s.PutMany(ctx, sp, []Write{w})
	}
	return s.putFile(ctx, sp, w, io.MultiReader(bytes.NewReader(buf[:n]), body))
}

// fill reads until buf is full or the body ends. Unlike io.ReadFull it knows a body's end from one that
// broke off, which is an io.ErrUnexpectedEOF of its own.
func fill(body io.Reader, buf []byte) (n int, end bool, err error) {
	for n < len(buf) {
		m, err := body.Read(buf[n:])
		n += m
		if err == io.EOF {
			return n, true, nil
		}
		if err != nil {
			return n, false, err
		}
	}
	return n, false, nil
}

// PutMany stores many keys: the last counts of those that are there twice. If it fails some may be
// stored and others not.
func (s *Store) PutMany(ctx context.Context, sp Space, writes []Write) error {
	changes := make([]change, 0, min(len(writes), maxAtOnce))
	size, seen := 0, map[string]bool{}
	flush := func() error {
		err := s.change(ctx, sp, changes)
		changes, size = changes[:0], 0
		clear(seen)
		return err
	}
	for i := range writes {
		w := &writes[i]
		if len(w.Value) > inlineBytes {
			if err := s.putLarge(ctx, sp, *w, flush); err != nil {
				return err
			}
			continue
		}
		if len(changes) == maxAtOnce || size > maxAtOnceBytes || seen[w.Key] {
			if err := flush(); err != nil {
				return err
			}
		}
		if len(writes) > 1 {
			seen[w.Key] = true
		}
		changes = append(changes, change{key: w.Key, put: newRecord(w), value: w.Value})
		size += len(w.Value)
	}
	return flush()
}

// putLarge stores a large value in its turn among others.
func (s *Store) putLarge(ctx context.Context, sp Space, w Write, flush func() error) error {
	if err := flush(); err != nil {
		return err
	}
	body := bytes.NewReader(w.Value)
	w.Value = nil
	return s.putFile(ctx, sp, w, body)
}

func newRecord(w *Write) *record {
	r := &record{expires: w.Expires, size: int64(len(w.Value)), metadata: w.Metadata}
	if len(w.Value) > besideBytes {
		r.place = placeApart
		rand.Read(r.version[:])
	} else {
		r.value = w.Value
	}
	return r
}

// putFile stores a value as a file, and then the key.
func (s *Store) putFile(ctx context.Context, sp Space, w Write, body io.Reader) error {
	ss, err := s.session()
	if err != nil {
		return err
	}
	r := &record{place: placeFile, expires: w.Expires, metadata: w.Metadata}
	if err := s.files.write(sp, r, body, ss.db.Room); err != nil {
		return err
	}
	defer s.files.done(r)
	if w.Late != nil {
		err = w.Late(&w)
		r.metadata = w.Metadata
	}
	if err != nil {
		s.files.remove(sp, r.version)
		return err
	}
	err = s.change(ctx, sp, []change{{key: w.Key, put: r}})
	if err != nil && ss.db.Err() == nil { // else nobody knows: sweep finds out
		s.files.remove(sp, r.version)
	}
	return err
}

// Delete removes keys; those that do not exist are none.
func (s *Store) Delete(ctx context.Context, sp Space, keys ...string) error {
	for len(keys) > 0 {
		n := min(len(keys), maxAtOnce)
		changes, seen := make([]change, 0, n), make(map[string]bool, n)
		for _, k := range keys[:n] {
			if !seen[k] {
				seen[k] = true
				changes = append(changes, change{key: k})
			}
		}
		if err := s.change(ctx, sp, changes); err != nil {
			return err
		}
		keys = keys[n:]
	}
	return nil
}

// change is what becomes of one key.
type change struct {
	key   string
	put   *record // nil removes it
	value []byte  // if it lies apart
	due   int64   // not 0: remove the key only if it expires at that time, and that from the index anyway

	entry *Entry // to be kept in memory afterwards
	file  *[16]byte
}

// change makes changes of different keys, all or none, and waits until they are on disk.
func (s *Store) change(ctx context.Context, id Space, changes []change) error {
	if len(changes) == 0 {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	ss, err := s.session()
	if err != nil {
		return err
	}
	sp, err := ss.space(id)
	if err != nil {
		return err
	}
	f := &flight{done: make(chan struct{})}
	commit, err := ss.apply(sp, changes, f)
	if err == nil {
		f.err = commit.Wait()
		err = f.err
	}
	if commit == nil {
		return err
	}
	for i := range changes {
		c := &changes[i]
		if err != nil {
			c.entry = nil
		}
		ss.hot.end(name{id, c.key}, f, c.entry)
	}
	close(f.done)
	if err != nil {
		return err
	}
	for i := range changes {
		if old := changes[i].file; old != nil {
			s.files.remove(id, *old)
		}
	}
	return nil
}

// apply puts changes in order: it reads what they replace, counts, and hands them to the log. Without an
// error f has to be ended.
func (ss *session) apply(sp *space, changes []change, f *flight) (*state.Commit, error) {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	if sp.gone && changes[0].due == 0 {
		return nil, errGone
	}
	b := ss.db.NewBatch()
	var more Usage
	for i := range changes {
		delta, err := ss.stage(b, &sp.id, &changes[i])
		if err != nil {
			b.Drop()
			return nil, err
		}
		more = more.Plus(delta)
	}
	if err := sp.account.take(more, ss.s.o.Allow); err != nil {
		b.Drop()
		return nil, err
	}
	used := sp.used.Plus(more)
	if more != (Usage{}) {
		if err := b.Put(ss.s.layout.of(nil, kindCount, &sp.id), used.encode()); err != nil {
			b.Drop()
			sp.account.give(more)
			return nil, err
		}
	}
	for i := range changes {
		c := &changes[i]
		if kept := ss.hot.begin(name{sp.id, c.key}, f); kept {
			c.entry = c.keep()
		}
	}
	commit, err := ss.db.Apply(b)
	if err != nil {
		sp.account.give(more)
		for i := range changes {
			ss.hot.end(name{sp.id, changes[i].key}, f, nil)
		}
		close(f.done) // without an error: readers find what was there before
		return nil, err
	}
	sp.used = used
	sp.last.Store(f)
	return commit, nil
}

// keep returns what memory keeps of a key that was read often.
func (c *change) keep() *Entry {
	if c.put == nil {
		return missing
	}
	r := c.put
	e := &Entry{Metadata: bytes.Clone(r.metadata), Expires: r.expires, Size: r.size, large: r.place == placeFile, version: r.version, sums: r.sums}
	switch r.place {
	case placeApart:
		e.Data = bytes.Clone(c.value)
	case placeBeside:
		e.Data = bytes.Clone(r.value)
	}
	return e
}

// stage puts one change into the batch and returns what it adds.
func (ss *session) stage(b *state.Batch, sp *Space, c *change) (delta Usage, err error) {
	l := ss.s.layout
	var buf [640]byte
	recordKey := l.key(buf[:0], kindRecord, sp, c.key)
	var old record // without value
	found, err := ss.db.View(recordKey, func(value []byte) (err error) {
		if old, err = decodeRecord(value); err == nil {
			delta = Usage{}.Minus(old.usage(c.key))
		}
		old.value, old.metadata, old.sums = nil, nil, nil
		return err
	})
	if err != nil {
		return delta, err
	}
	if c.due != 0 {
		if err := b.Delete(l.due(c.due, sp, c.key)); err != nil || !found || old.expires != c.due {
			return Usage{}, err
		}
	}
	var errs []error
	do := func(err error) { errs = append(errs, err) }
	if found && old.expires != 0 && (c.put == nil || c.put.expires != old.expires) {
		do(b.Delete(l.due(old.expires, sp, c.key)))
	}
	if found && old.place == placeFile {
		c.file = &old.version
		do(b.Delete(append(l.of(nil, kindFile, sp), old.version[:]...)))
	}
	if found && old.place == placeApart && (c.put == nil || c.put.place != placeApart) {
		do(b.Delete(l.key(nil, kindValue, sp, c.key)))
	}
	if c.put == nil {
		if found {
			do(b.Delete(recordKey))
		}
		return delta, errors.Join(errs...)
	}
	do(b.Put(recordKey, c.put.encode()))
	switch c.put.place {
	case placeApart:
		do(b.Put(l.key(nil, kindValue, sp, c.key), append(c.put.version[:len(c.put.version):len(c.put.version)], c.value...)))
	case placeFile:
		do(b.Put(append(l.of(nil, kindFile, sp), c.put.version[:]...), []byte(c.key)))
	}
	if c.put.expires != 0 && (!found || c.put.expires != old.expires) {
		do(b.Put(l.due(c.put.expires, sp, c.key), nil))
	}
	return delta.Plus(c.put.usage(c.key)), errors.Join(errs...)
}
