package sqlite

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
)

// File is a part of a database as it lies below the store's directory.
type File struct {
	Name string // below the database's folder, with slashes
	Size int64  // bytes
	Data io.Reader
}

// Files calls f with all files of a database and its history, as they are at one moment. Put into a folder
// of the database's name they are that database. Others read and write meanwhile.
func (s *Store) Files(ctx context.Context, name string, f func(File) error) (err error) {
	d, err := s.acquire(ctx, name)
	if err != nil {
		return err
	}
	defer s.release(d)
	if err := d.takeTurn(ctx); err != nil {
		return err
	}
	z, err := d.freezeFile()
	var past []*os.File
	var sizes []int64
	if err == nil {
		past, sizes, err = d.hist.files()
	}
	d.giveTurn()
	defer func() {
		for _, file := range past {
			file.Close()
		}
		if z != nil {
			z.end()
		}
	}()
	if err == nil && z.f == nil {
		err = z.copyOut(ctx)
	}
	if err != nil {
		return d.explain(err)
	}
	about, err := os.Open(filepath.Join(d.dir, aboutFile))
	if err != nil {
		return err
	}
	defer about.Close()
	info, err := about.Stat()
	if err != nil {
		return err
	}
	table := int64(z.count) * pageSize
	if err := errors.Join(f(File{aboutFile, info.Size(), about}), f(File{tableFile, table, io.NewSectionReader(z.f, 0, table)})); err != nil {
		return err
	}
	for i, file := range past {
		if err := f(File{historyDir + "/" + filepath.Base(file.Name()), sizes[i], io.NewSectionReader(file, 0, sizes[i])}); err != nil {
			return err
		}
	}
	return nil
}

// files opens the files of history, up to where they are written now.
func (h *history) files() (open []*os.File, sizes []int64, err error) {
	for _, kind := range []struct {
		places []place
		suffix string
	}{{h.snapshots, snapshotSuffix}, {h.segments, segmentSuffix}} {
		for _, p := range kind.places {
			file, err := os.Open(h.path(p.seq, kind.suffix))
			if err != nil {
				return open, sizes, err
			}
			open, sizes = append(open, file), append(sizes, p.bytes)
		}
	}
	return open, sizes, nil
}
