package sqlite

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	lib "modernc.org/sqlite/lib"

	"selvage/engine/sqlite/raw"
)

// frozen is the database as it was at one moment: others go on writing to the WAL, which is not moved into the file
// meanwhile.
type frozen struct {
	c     *conn    // holds a read transaction
	f     *os.File // with the pages
	count uint32
	copy  string // the file, if it is a copy to remove
}

// freeze returns the database as of now. While no old reader keeps the WAL in use, that is the file itself, else a copy.
func (d *database) freeze(ctx context.Context) (position, *frozen, error) {
	if err := d.takeTurn(ctx); err != nil {
		return position{}, nil, err
	}
	z, err := d.freezeFile()
	at := d.hist.last
	d.giveTurn()
	if err == nil && z.f == nil {
		err = z.copyOut(ctx)
	}
	if err != nil {
		if z != nil {
			z.end()
		}
		return at, nil, fmt.Errorf("freeze: %w", err)
	}
	return at, z, nil
}

func (d *database) freezeFile() (*frozen, error) {
	if err := d.archive(); err != nil {
		return nil, err
	}
	frames, moved, err := d.writer.raw.Checkpoint(lib.SQLITE_CHECKPOINT_PASSIVE)
	if err != nil {
		return nil, err
	}
	c, err := d.connect(false)
	if err != nil {
		return nil, err
	}
	z := &frozen{c: c}
	if err := c.exec("BEGIN"); err != nil {
		return z, err
	}
	if err := c.exec("SELECT count(*) FROM sqlite_schema"); err != nil { // begins the transaction for real
		return z, err
	}
	pages, err := c.ask("PRAGMA page_count")
	if err != nil {
		return z, err
	}
	z.count = uint32(pages)
	if frames == moved {
		z.f = d.pages
	}
	return z, nil
}

// copyOut copies the database through SQLite, which knows what of it is in the WAL.
func (z *frozen) copyOut(ctx context.Context) error {
	d := z.c.d
	z.copy = filepath.Join(d.dir, "copy.new")
	os.Remove(z.copy)
	to, err := raw.Open(z.copy, raw.OpenReadWrite|raw.OpenCreate)
	if err != nil {
		return err
	}
	err = errors.Join(to.CopyFrom(z.c.raw, ctx.Err), to.Close())
	if err != nil {
		return err
	}
	z.f, err = os.Open(z.copy)
	return err
}

// pages calls f with every page.
func (z *frozen) pages(f func(n, of uint32, content []byte) error) error {
	buf := make([]byte, 64*pageSize)
	for n := uint32(0); n < z.count; {
		if z.c.d.ending.Load() {
			return errGone
		}
		if z.c.d.s.life.Err() != nil {
			return errStopping
		}
		got := min(64, z.count-n)
		if _, err := z.f.ReadAt(buf[:got*pageSize], int64(n)*pageSize); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		for i := range got {
			if err := f(n+i+1, z.count, buf[i*pageSize:(i+1)*pageSize]); err != nil {
				return err
			}
		}
		n += got
	}
	return nil
}

// end lets the database go.
func (z *frozen) end() {
	z.c.exec("ROLLBACK")
	z.c.close()
	if z.copy != "" {
		if z.f != nil {
			z.f.Close()
		}
		os.Remove(z.copy)
	}
}
