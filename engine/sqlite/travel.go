package sqlite

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"selvage/engine/sqlite/raw"
)

// Bookmark returns where the history of the database stands.
func (s *Store) Bookmark(ctx context.Context, name string) (Bookmark, error) {
	d, err := s.acquire(ctx, name)
	if err != nil {
		return "", err
	}
	defer s.release(d)
	return d.bookmark(d.seq.Load()), nil
}

// BookmarkAt returns the bookmark of the last transaction that was made by then.
func (s *Store) BookmarkAt(ctx context.Context, name string, when time.Time) (Bookmark, error) {
	d, err := s.acquire(ctx, name)
	if err != nil {
		return "", err
	}
	defer s.release(d)
	if err := d.takeTurn(ctx); err != nil {
		return "", err
	}
	defer d.giveTurn()
	seq, err := d.hist.at(when)
	if err != nil {
		return "", err
	}
	return d.bookmark(seq), nil
}

// WaitFor returns when the database has what b names, which on one node it always has: a bookmark of another database or
// of the future is refused.
func (s *Store) WaitFor(ctx context.Context, name string, b Bookmark) error {
	d, err := s.acquire(ctx, name)
	if err != nil {
		return err
	}
	defer s.release(d)
	_, err = d.place(b)
	return err
}

// Restore makes the database what it was at b. It is one transaction: nobody sees half of it, and a crash leaves the
// database as it was before or after. previous brings back what was replaced.
func (s *Store) Restore(ctx context.Context, name string, b Bookmark) (previous Bookmark, err error) {
	d, err := s.acquire(ctx, name)
	if err != nil {
		return "", err
	}
	defer s.release(d)
	if err := d.takeTurn(ctx); err != nil {
		return "", err
	}
	defer d.giveTurn()
	previous = d.bookmark(d.seq.Load())
	return previous, d.explain(d.restore(ctx, b))
}

func (d *database) restore(ctx context.Context, b Bookmark) error {
	seq, err := d.place(b)
	if err != nil {
		return err
	}
	if seq == d.seq.Load() {
		return nil
	}
	if err := d.archive(); err != nil {
		return err
	}
	file := filepath.Join(d.dir, "restore.new")
	defer removeDatabase(file)
	removeDatabase(file)
	if err := d.hist.build(seq, file); err != nil {
		return fmt.Errorf("restore %s to %s: %w", d.name, b, err)
	}
	return d.become(ctx, file)
}

// become makes the database what the one in file is, in one transaction. The turn is held.
func (d *database) become(ctx context.Context, file string) error {
	from, err := raw.Open(file, raw.OpenReadWrite|raw.OpenCreate)
	if err != nil {
		return err
	}
	defer from.Close()
	before := d.seq.Load()
	if err := d.writer.raw.CopyFrom(from, ctx.Err); err != nil {
		return err
	}
	// SQLite tells of a transaction when a statement ends: this one does nothing else.
	if _, err := d.writer.ask("SELECT count(*) FROM sqlite_schema"); err != nil {
		return err
	}
	if d.seq.Load() != before+1 {
		return errors.New("copying a database was not one transaction")
	}
	return d.archive()
}

func removeDatabase(file string) {
	for _, suffix := range []string{"", "-wal", "-shm", "-journal"} {
		os.Remove(file + suffix)
	}
}
