package store

import (
	"bytes"
	"context"
	"strings"

	"selvage/engine/state"
)

// List returns a page of a bucket. A common prefix is passed over as a whole, so a page costs as much as it
// has entries, however many keys are behind them. An After that is itself a common prefix of this listing
// stands for all that begins with it.
func (s *Store) List(_ context.Context, b Bucket, o ListOptions) (*Listing, error) {
	limit, err := limitOf(o.Limit)
	if err != nil {
		return nil, err
	}
	n, err := s.session()
	if err != nil {
		return nil, err
	}
	base := s.bucketKey(tableObject, b)
	w := &listing{base: base, prefix: o.Prefix, delimiter: o.Delimiter, limit: limit, out: &Listing{}}
	from := append(bytes.Clone(base), o.Prefix...)
	if o.After != "" && o.After >= o.Prefix {
		from = after(append(bytes.Clone(base), o.After...))
		if common, ok := w.common(o.After); ok && common == o.After {
			from = beyond(append(bytes.Clone(base), common...))
		}
	}
	upper := beyond(append(bytes.Clone(base), o.Prefix...))
	for from != nil && bytes.Compare(from, upper) < 0 {
		if from, err = w.run(n.db, state.Range{Lower: from, Upper: upper}); err != nil {
			return nil, err
		}
	}
	return w.out, nil
}

func limitOf(limit int) (int, error) {
	if limit < 0 || limit > MaxList {
		return 0, errMaxKeys()
	}
	if limit == 0 {
		limit = MaxList
	}
	return limit, nil
}

// listing is a page in the making.
type listing struct {
	base      []byte
	prefix    string
	delimiter string
	limit     int
	out       *Listing
}

// common returns the prefix under which a key is listed, if it is not listed itself.
func (w *listing) common(key string) (string, bool) {
	if w.delimiter == "" || !strings.HasPrefix(key, w.prefix) {
		return "", false
	}
	i := strings.Index(key[len(w.prefix):], w.delimiter)
	if i < 0 {
		return "", false
	}
	return key[:len(w.prefix)+i+len(w.delimiter)], true
}

// run lists up to the first key under a common prefix, and returns where to go on; nil: nowhere.
func (w *listing) run(db *state.DB, r state.Range) (next []byte, err error) {
	for p, err := range db.Scan(r) {
		if err != nil {
			return nil, err
		}
		if len(w.out.Objects)+len(w.out.Prefixes) == w.limit {
			w.out.Truncated = true
			return nil, nil
		}
		key := string(p.Key[len(w.base):])
		if common, ok := w.common(key); ok {
			w.out.Prefixes = append(w.out.Prefixes, common)
			w.out.Next = common
			return beyond(append(bytes.Clone(w.base), common...)), nil
		}
		o, err := decodeObject(key, p.Value)
		if err != nil {
			return nil, err
		}
		w.out.Objects = append(w.out.Objects, o)
		w.out.Next = key
	}
	return nil, nil
}

// walkPage is how many records one scan reads: it keeps what it reads from being compacted away.
const walkPage = 10_000

// Walk calls f for the objects of a bucket whose keys begin with prefix, in order, until f returns an error.
// What is put or deleted meanwhile may be seen or not.
func (s *Store) Walk(ctx context.Context, b Bucket, prefix string, f func(o *Object) error) error {
	base := s.bucketKey(tableObject, b)
	return s.scan(ctx, state.Prefix(append(bytes.Clone(base), prefix...)), func(p state.Pair) error {
		o, err := decodeObject(string(p.Key[len(base):]), p.Value)
		if err != nil {
			return err
		}
		return f(o)
	})
}

// scan goes through a range of the index in pages.
func (s *Store) scan(ctx context.Context, r state.Range, f func(p state.Pair) error) error {
	for r.Lower != nil {
		n, err := s.session()
		if err != nil {
			return err
		}
		if r.Lower, err = scanPage(ctx, n.db, r, f); err != nil {
			return err
		}
	}
	return nil
}

// scanPage returns where the next page begins; nil: there is none.
func scanPage(ctx context.Context, db *state.DB, r state.Range, f func(p state.Pair) error) (next []byte, err error) {
	count := 0
	for p, err := range db.Scan(r) {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return nil, err
		}
		if count++; count > walkPage {
			return bytes.Clone(p.Key), nil
		}
		if err := f(p); err != nil {
			return nil, err
		}
	}
	return nil, nil
}
