package store

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"

	"selvage/engine/state"
)

// Entry is a key's value and what belongs to it. Immutable.
type Entry struct {
	Metadata []byte // JSON; nil if there is none
	Expires  int64  // Unix seconds; 0 never
	Size     int64  // bytes of the value
	Data     []byte // the value, unless it is in a file; see Store.Open

	missing bool // there is no such key: known, too
	large   bool
	version [16]byte
	sums    []byte
}

// expired tells whether the entry is over at a time.
func (e *Entry) expired(now int64) bool { return e.Expires != 0 && e.Expires <= now }

// Get returns a key's entry, or nil if there is none.
func (s *Store) Get(ctx context.Context, sp Space, key string) (*Entry, error) {
	ss, err := s.session()
	if err != nil {
		return nil, err
	}
	e, err := ss.get(ctx, name{sp, key})
	if err != nil || e.missing || e.expired(s.now()) {
		return nil, err
	}
	return e, nil
}

// Open is Get that also opens the value if it is large; the caller closes that. Otherwise it is in Data.
func (s *Store) Open(ctx context.Context, sp Space, key string) (*Entry, io.ReadCloser, error) {
	var before *Entry
	for {
		e, err := s.Get(ctx, sp, key)
		if e == nil || err != nil {
			return nil, nil, err
		}
		if !e.large {
			return e, nil, nil
		}
		f, err := s.files.open(sp, e, func(cause error) error { return s.damage(sp, key, cause) })
		if err == nil {
			return e, f, nil
		}
		// A file that is gone was replaced a moment ago, unless it still is the one.
		if !errors.Is(err, fs.ErrNotExist) || before != nil && before.version == e.version {
			return nil, nil, s.damage(sp, key, err)
		}
		before = e
	}
}

// get returns what is known of a key, from memory or the disk.
func (ss *session) get(ctx context.Context, n name) (*Entry, error) {
	if e, ok := ss.hot.get(n); ok {
		ss.s.metrics.hits.Inc()
		return e, nil
	}
	ss.s.metrics.misses.Inc()
	for {
		changes, f := ss.hot.look(n)
		if f == nil {
			e, err := ss.read(n)
			if errors.Is(err, errReplaced) {
				continue
			}
			if err != nil {
				return nil, err
			}
			if f = ss.hot.found(n, changes, e); f == nil {
				return e, nil
			}
		}
		if err := f.wait(ctx); err != nil {
			return nil, err
		}
	}
}

// wait waits until a change is on disk.
func (f *flight) wait(ctx context.Context) error {
	select {
	case <-f.done:
		return f.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// errReplaced tells that a key changed while it was read.
var errReplaced = errors.New("replaced while it was read")

var missing = &Entry{missing: true}

// read reads a key from the disk.
func (ss *session) read(n name) (*Entry, error) {
	var buf [640]byte
	var e *Entry
	apart := false
	found, err := ss.db.View(ss.s.layout.key(buf[:0], kindRecord, &n.space, n.key), func(value []byte) error {
		value = bytes.Clone(value)
		r, err := decodeRecord(value)
		if err != nil {
			return err
		}
		e = &Entry{Metadata: r.metadata, Expires: r.expires, Size: r.size, Data: r.value, large: r.place == placeFile, version: r.version, sums: r.sums}
		apart = r.place == placeApart
		return nil
	})
	if err != nil {
		return nil, err
	}
	if !found {
		return missing, nil
	}
	if !apart {
		return e, nil
	}
	found, err = ss.db.View(ss.s.layout.key(buf[:0], kindValue, &n.space, n.key), func(value []byte) error {
		if len(value) < len(e.version) || [16]byte(value) != e.version {
			return errReplaced
		}
		e.Data = bytes.Clone(value[len(e.version):])
		return nil
	})
	if err == nil && !found {
		err = errReplaced
	}
	if err == nil && int64(len(e.Data)) != e.Size {
		err = errDamaged
	}
	return e, err
}

// Query asks for keys.
type Query struct {
	Prefix string
	After  string // keys behind this one only
	Limit  int    // at most so many
}

// Page is an answer to a Query, in the order of the keys' octets.
type Page struct {
	Keys []Key
	More bool   // there may be more
	Next string // where the next query goes on: its After
}

// Key is a line of a listing.
type Key struct {
	Name     string
	Expires  int64  // Unix seconds; 0 never
	Metadata []byte // JSON; nil if there is none
}

// maxSkipped bounds how many expired keys one listing looks over.
const maxSkipped = 10_000

// List returns keys that have not expired. A page may have fewer than Limit and be followed by more.
func (s *Store) List(ctx context.Context, sp Space, q Query) (Page, error) {
	ss, err := s.session()
	if err != nil {
		return Page{}, err
	}
	one, err := ss.space(sp)
	if err != nil {
		return Page{}, err
	}
	page, err := ss.list(one, q)
	if err != nil {
		return Page{}, err
	}
	// What was seen may be on its way to the disk still.
	if f := one.last.Load(); f != nil {
		if err := f.wait(ctx); err != nil {
			return Page{}, err
		}
	}
	return page, nil
}

func (ss *session) list(sp *space, q Query) (page Page, err error) {
	head := ss.s.layout.of(nil, kindRecord, &sp.id)
	r := state.Prefix(append(head[:len(head):len(head)], q.Prefix...))
	if q.After >= q.Prefix && q.After != "" {
		r.Lower = append(append(head[:len(head):len(head)], q.After...), 0)
	}
	if r.Upper != nil && bytes.Compare(r.Lower, r.Upper) >= 0 {
		return page, nil
	}
	now, skipped := ss.s.now(), 0
	for p, err := range ss.db.Scan(r) {
		if err != nil {
			return page, err
		}
		rec, err := decodeRecord(p.Value)
		if err != nil {
			return page, err
		}
		if rec.expires != 0 && rec.expires <= now {
			if skipped++; skipped >= maxSkipped {
				page.More, page.Next = true, string(p.Key[len(head):])
				return page, nil
			}
			continue
		}
		if len(page.Keys) == q.Limit {
			page.More, page.Next = true, page.Keys[len(page.Keys)-1].Name
			return page, nil
		}
		page.Keys = append(page.Keys, Key{string(p.Key[len(head):]), rec.expires, bytes.Clone(rec.metadata)})
	}
	return page, nil
}
