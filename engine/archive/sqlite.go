package archive

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"zombiezen.com/go/sqlite"
)

// AddSQLite adds a database that may be in use by others, also in other processes, as it is at one
// moment, with all that was committed before. The copy is made next to scratch first.
func (a *Writer) AddSQLite(ctx context.Context, name, path, scratch string) error {
	defer os.Remove(scratch)
	if err := copySQLite(ctx, path, scratch); err != nil {
		if _, gone := os.Stat(path); errors.Is(gone, fs.ErrNotExist) {
			return nil // deleted meanwhile
		}
		return fmt.Errorf("copy the database %s: %w", name, err)
	}
	return a.AddFile(ctx, name, scratch)
}

// AddFile adds a file from the disk.
func (a *Writer) AddFile(ctx context.Context, name, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	return a.Add(ctx, File{Name: name, Size: info.Size(), Mode: info.Mode()}, f)
}

// copySQLite copies what a read transaction sees. One step: with several, a database that is written
// all the time would never be done.
func copySQLite(ctx context.Context, from, to string) (err error) {
	source, err := sqlite.OpenConn(from, sqlite.OpenReadOnly)
	if err != nil {
		return err
	}
	defer source.Close()
	source.SetInterrupt(ctx.Done())
	target, err := sqlite.OpenConn(to, sqlite.OpenReadWrite, sqlite.OpenCreate)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, target.Close()) }()
	b, err := sqlite.NewBackup(target, "main", source, "main")
	if err != nil {
		return err
	}
	_, err = b.Step(-1)
	return errors.Join(err, b.Close())
}
