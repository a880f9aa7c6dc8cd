package store

import (
	"context"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"selvage/engine/state"
)

// Condemn notes that a space is about to be deleted: once its namespace is gone, its data will be, too,
// whatever happens in between.
func (s *Store) Condemn(sp Space) error {
	ss, err := s.session()
	if err != nil {
		return err
	}
	b := ss.db.NewBatch()
	if err := b.Put(s.layout.of(nil, kindDropped, &sp), nil); err != nil {
		b.Drop()
		return err
	}
	return ss.db.Commit(b)
}

// Drop says that a condemned space's namespace is gone. Its data is removed by Run.
func (s *Store) Drop(sp Space) error {
	ss, err := s.session()
	if err != nil {
		return err
	}
	one, err := ss.space(sp)
	if err != nil {
		return err
	}
	one.mu.Lock()
	one.gone = true
	one.mu.Unlock()
	s.hurry()
	return nil
}

// dropAll removes the data of spaces that were condemned and have no namespace. One that was condemned
// without being deleted keeps it.
func (s *Store) dropAll(ctx context.Context, ss *session) error {
	var all []Space
	r := state.Prefix(s.layout.kind(nil, kindDropped))
	for p, err := range ss.db.Scan(r) {
		if err != nil {
			return err
		}
		if rest := p.Key[len(r.Lower):]; len(rest) == len(Space{}) {
			all = append(all, Space(rest))
		}
	}
	for _, sp := range all {
		if s.o.Exists != nil && s.o.Exists(sp) {
			continue
		}
		if err := s.drop(ctx, ss, sp); err != nil {
			return err
		}
	}
	return nil
}

// drop removes a space's data. The mark goes last: until then it begins again after a crash.
func (s *Store) drop(ctx context.Context, ss *session, id Space) error {
	sp, err := ss.space(id)
	if err != nil {
		return err
	}
	sp.mu.Lock()
	sp.gone = true // nobody writes here any more
	sp.mu.Unlock()
	if err := s.dropDue(ctx, ss, id); err != nil {
		return err
	}
	b := ss.db.NewBatch()
	var errs []error
	for _, kind := range []byte{kindRecord, kindValue, kindFile} {
		errs = append(errs, b.DeleteRange(s.layout.all(kind, &id)))
	}
	errs = append(errs, b.Delete(s.layout.of(nil, kindCount, &id)))
	if err := errors.Join(errs...); err != nil {
		b.Drop()
		return err
	}
	if err := ss.db.Commit(b); err != nil {
		return err
	}
	sp.mu.Lock()
	sp.account.give(sp.used)
	sp.used = Usage{}
	sp.mu.Unlock()
	if s.files.pins.Load() > 0 {
		return nil
	}
	if err := os.RemoveAll(s.files.spaceDir(id)); err != nil {
		return err
	}
	b = ss.db.NewBatch()
	if err := b.Delete(s.layout.of(nil, kindDropped, &id)); err != nil {
		b.Drop()
		return err
	}
	return ss.db.Commit(b)
}

// dropDue takes a space's keys out of the index of what expires.
func (s *Store) dropDue(ctx context.Context, ss *session, id Space) error {
	r := s.layout.all(kindRecord, &id)
	head := len(r.Lower)
	for {
		b := ss.db.NewBatch()
		looked, last := 0, []byte(nil)
		for p, err := range ss.db.Scan(r) {
			if err != nil {
				b.Drop()
				return err
			}
			if rec, err := decodeRecord(p.Value); err == nil && rec.expires != 0 {
				if err := b.Delete(s.layout.due(rec.expires, &id, string(p.Key[head:]))); err != nil {
					b.Drop()
					return err
				}
			}
			if looked++; looked == 10*expireOnce {
				last = append(append(last, p.Key...), 0)
				break
			}
		}
		if err := ss.db.Commit(b); err != nil {
			return err
		}
		if last == nil {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		r.Lower = last
	}
}

// sweep removes files that no record names: of puts that were cut short, and those that were replaced
// right before a crash.
func (s *Store) sweep(ctx context.Context, ss *session) error {
	accounts, err := os.ReadDir(s.o.Dir)
	if err != nil {
		return err
	}
	for _, account := range accounts {
		if !account.IsDir() {
			continue
		}
		if account.Name() == tempDir {
			s.sweepTemp()
			continue
		}
		spaces, err := os.ReadDir(filepath.Join(s.o.Dir, account.Name()))
		if err != nil {
			return err
		}
		for _, space := range spaces {
			id, err := SpaceOf(account.Name(), space.Name())
			if err != nil {
				continue
			}
			if err := s.sweepSpace(ctx, ss, id); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *Store) sweepTemp() {
	dir := filepath.Join(s.o.Dir, tempDir)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		if !s.files.busy(e.Name()) {
			os.Remove(filepath.Join(dir, e.Name()))
		}
	}
}

func (s *Store) sweepSpace(ctx context.Context, ss *session, id Space) error {
	dir := s.files.spaceDir(id)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	prefix := s.layout.of(nil, kindFile, &id)
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		file, err := hex.DecodeString(e.Name())
		// The order matters: what is not being written is named by now, or never will be.
		if err != nil || s.files.busy(e.Name()) {
			continue
		}
		named, err := ss.db.View(append(prefix[:len(prefix):len(prefix)], file...), func([]byte) error { return nil })
		if err != nil {
			return err
		}
		if !named && s.files.pins.Load() == 0 {
			os.Remove(filepath.Join(dir, e.Name()))
		}
	}
	return nil
}
