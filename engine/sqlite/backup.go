package sqlite

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"selvage/engine/sqlite/raw"
	"selvage/foundation/fault"
)

// Stat returns the sizes of the database.
func (s *Store) Stat(ctx context.Context, name string) (Stat, error) {
	d, err := s.acquire(ctx, name)
	if err != nil {
		return Stat{}, err
	}
	defer s.release(d)
	st := Stat{Created: d.about.Created}
	if st.HistoryBytes, err = dirBytes(filepath.Join(d.dir, historyDir)); err != nil {
		return st, err
	}
	c, err := d.reader(ctx)
	if err != nil {
		return st, d.explain(err)
	}
	defer d.giveReader(c)
	if st.Bytes, err = c.size(); err != nil {
		return st, d.explain(err)
	}
	tables, err := c.ask(`SELECT count(*) FROM sqlite_schema WHERE type='table' AND name NOT LIKE 'sqlite\_%' ESCAPE '\' AND name NOT LIKE '\_cf\_%' ESCAPE '\'`)
	st.Tables = int(tables)
	return st, d.explain(err)
}

func dirBytes(dir string) (n int64, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0, err
	}
	for _, e := range entries {
		if info, err := e.Info(); err == nil {
			n += info.Size()
		}
	}
	return n, nil
}

// Check reads all pages of the database and returns what SQLite finds wrong with them; none is nil.
func (s *Store) Check(ctx context.Context, name string) (wrong []string, err error) {
	d, err := s.acquire(ctx, name)
	if err != nil {
		return nil, err
	}
	defer s.release(d)
	c, err := d.connect(false)
	if err != nil {
		return nil, d.explain(err)
	}
	defer c.close()
	err = c.watched(ctx, dumpTime, func() error {
		return c.each("PRAGMA quick_check", func(st *raw.Stmt) error {
			if text := string(st.Bytes(0)); text != "ok" {
				wrong = append(wrong, text)
			}
			return nil
		})
	})
	return wrong, d.explain(err)
}

// Backup writes the database as a SQLite file, as it is at one moment. Others read and write meanwhile. History is not in
// it.
func (s *Store) Backup(ctx context.Context, name string, w io.Writer) error {
	d, err := s.acquire(ctx, name)
	if err != nil {
		return err
	}
	defer s.release(d)
	_, z, err := d.freeze(ctx)
	if err != nil {
		return d.explain(err)
	}
	defer z.end()
	return z.pages(func(_, _ uint32, content []byte) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		_, err := w.Write(content)
		return err
	})
}

// Load makes a database of what Backup wrote. Its history begins there.
func (s *Store) Load(ctx context.Context, name string, r io.Reader) error {
	return s.place(name, func(dir, id string) error {
		f, err := os.OpenFile(filepath.Join(dir, tableFile), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return fmt.Errorf("load database %s: %w", name, err)
		}
		n, err := io.Copy(f, contextReader{ctx, r})
		if err == nil && (n == 0 || n%pageSize != 0) {
			err = fault.New(fault.Invalid, "The backup of database %s has %d bytes, which is not a number of pages: it is not whole.", name, n)
		}
		if err == nil {
			err = errors.Join(f.Sync(), s.firstSnapshot(f, dir, id, uint32(n/pageSize)))
		}
		return errors.Join(err, f.Close())
	})
}

// firstSnapshot begins history with the pages of f.
func (s *Store) firstSnapshot(f *os.File, dir, id string, pages uint32) error {
	first := position{seq: 1, time: s.o.Clock.Now()}
	g, err := newSegment(filepath.Join(dir, historyDir, fmt.Sprintf("%016x%s", first.seq, snapshotSuffix)), id)
	if err != nil {
		return err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return errors.Join(err, g.close())
	}
	in, page := bufio.NewReaderSize(f, 64*pageSize), make([]byte, pageSize)
	for n := uint32(1); n <= pages; n++ {
		if _, err := io.ReadFull(in, page); err != nil {
			return errors.Join(err, g.close())
		}
		if err := g.page(n, page, first, n == pages, pages); err != nil {
			return errors.Join(err, g.close())
		}
	}
	return errors.Join(g.sync(), g.close())
}

// Copy makes a database of what another one is now. Its history begins there.
func (s *Store) Copy(ctx context.Context, from, to string) error {
	r, w := io.Pipe()
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		w.CloseWithError(s.Backup(ctx, from, w))
	}()
	err := s.Load(ctx, to, r)
	r.CloseWithError(errors.New("copy is over"))
	<-sent
	return err
}

// contextReader reads until ctx ends.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

// Read reads.
func (r contextReader) Read(b []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(b)
}
