package sqlite

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	lib "modernc.org/sqlite/lib"

	"selvage/engine/sqlite/raw"
	"selvage/foundation/fault"
)

// importPatience is how much longer than elsewhere a statement of an import may take: it may index all that came in.
const importPatience = 10

// Import runs the statements of r as one transaction: all or none. They are read one by one, so that r may be of any size.
// A statement may be longer than elsewhere, by as much as Dump needs for one row. Nobody else writes meanwhile.
func (s *Store) Import(ctx context.Context, name string, r io.Reader) (Imported, error) {
	d, err := s.acquire(ctx, name)
	if err != nil {
		return Imported{}, err
	}
	defer s.release(d)
	if err := s.roomToWrite(); err != nil {
		return Imported{}, err
	}
	if err := d.takeTurn(ctx); err != nil {
		return Imported{}, err
	}
	defer d.giveTurn()
	c := d.writer
	limit := max(s.o.Limits.SQLBytes, 3*s.o.Limits.ValueBytes)
	c.raw.Limit(lib.SQLITE_LIMIT_SQL_LENGTH, int32(limit))
	defer c.raw.Limit(lib.SQLITE_LIMIT_SQL_LENGTH, int32(s.o.Limits.SQLBytes))
	var done Imported
	changes := c.raw.TotalChanges()
	err = c.watched(ctx, dumpTime, func() error { return c.importAll(newScanner(r, limit), &done) })
	c.restoreSettings()
	d.lastRowID.Store(c.raw.LastInsertRowID())
	if err == nil {
		done.Changes = c.raw.TotalChanges() - changes
		done.Bookmark = d.bookmark(d.seq.Load())
		done.SizeAfter, err = c.size()
		err = errors.Join(err, d.archive())
	}
	return done, d.explain(err)
}

func (c *conn) importAll(in *scanner, done *Imported) (err error) {
	if err := c.exec("BEGIN IMMEDIATE"); err != nil {
		return err
	}
	finish := func(sql string) error {
		if c.raw.Autocommit() {
			return nil
		}
		return c.exec(sql)
	}
	end, each := c.until, importPatience*c.d.s.o.Limits.Duration
	for {
		sql, over := in.next()
		if over != nil && !errors.Is(over, io.EOF) {
			return errors.Join(over, c.abandon(finish))
		}
		c.began = time.Now()
		if c.until = c.began.Add(each); c.until.After(end) {
			c.until = end
		}
		if sql != "" {
			done.Statements++
			if err := c.importOne(sql, done); err != nil {
				return errors.Join(blame(err, done.Statements, sql), c.abandon(finish))
			}
		}
		if over != nil {
			break
		}
	}
	if err := finish("COMMIT"); err != nil {
		return errors.Join(err, c.abandon(finish))
	}
	return nil
}

func (c *conn) importOne(sql string, done *Imported) error {
	p, err := c.compile(sql)
	if err != nil || p == nil {
		return err
	}
	defer p.stmt.Finalize()
	if p.params > 0 {
		return fault.New(fault.Invalid, "a statement of an import has no parameters")
	}
	changes := c.raw.TotalChanges()
	rows, err := c.rows(0, nil, p)
	if err != nil {
		return err
	}
	m := Meta{Changes: c.raw.TotalChanges() - changes}
	p.count(&m, rows, c.raw.Changes())
	done.RowsRead += m.RowsRead
	done.RowsWritten += m.RowsWritten
	if c.raw.Autocommit() {
		return fault.New(fault.Invalid, "the statement ended the transaction")
	}
	return nil
}

// blame says which statement failed.
func blame(err error, n int, sql string) error {
	var e *raw.Error
	if !errors.As(err, &e) {
		return err
	}
	return fmt.Errorf("statement %d (%.80q): %w", n, sql, err)
}
