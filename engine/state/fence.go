package state

import (
	"errors"
	"os"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// fullPause is between two tries to write on a full disk.
const fullPause = time.Second

// fence stands between Pebble and a disk that fails. Pebble ends the process when its log or manifest
// cannot be written; here the store breaks instead: from the first failure on nothing changes on the
// disk any more and Pebble is told that all went well, but no write is acknowledged again, for
// whoever waits for one finds the store broken. A disk that is merely full, even without the ballast,
// is waited for.
type fence struct {
	vfs.FS
	d *DB
}

// down tells whether the disk may no longer be changed.
func (f fence) down() bool { return f.d.broken.Load() != nil }

// failed takes an error that changing path met. It returns it if Pebble can live with it, which it
// can for tables: it makes them anew. Otherwise the store is broken, and Pebble must not know.
func (f fence) failed(path string, err error) error {
	switch {
	case err == nil, errors.Is(err, os.ErrNotExist), errors.Is(err, os.ErrExist), f.d.opening.Load():
		return err
	case isTable(path) && vfs.IsNoSpaceError(err):
		time.Sleep(fullPause)
		return err
	}
	f.d.fail(err)
	return f.park(path)
}

// park keeps a flush or compaction from going on with a table that is not there, until the store is
// closed: what it would have written is still in memory and in the log. It holds no lock then.
func (f fence) park(path string) error {
	if !isTable(path) {
		return nil
	}
	for !f.d.stopping() {
		time.Sleep(fullPause)
	}
	return f.d.broken.Load()
}

func isTable(path string) bool {
	return strings.HasSuffix(path, ".sst") || strings.HasSuffix(path, ".blob")
}

// change runs something that changes the disk at path, again and again while the disk is full.
func (f fence) change(path string, do func() error) error {
	for {
		if f.down() {
			return f.park(path)
		}
		err := do()
		if !vfs.IsNoSpaceError(err) || isTable(path) || f.d.opening.Load() || f.d.stopping() {
			return f.failed(path, err)
		}
		time.Sleep(fullPause)
	}
}

// sync runs a sync of path. One that failed is not tried again: the kernel may have dropped what it
// could not write, and report success the second time.
func (f fence) sync(path string, do func() error) error {
	if f.down() {
		return f.park(path)
	}
	return f.failed(path, do())
}

// open runs something that opens path for writing; a fenced disk gives a file that takes all.
func (f fence) open(path string, do func() (vfs.File, error)) (vfs.File, error) {
	var file vfs.File
	err := f.change(path, func() (err error) { file, err = do(); return err })
	if err != nil {
		return nil, err
	}
	if file == nil {
		if file, err = f.FS.OpenDir(f.FS.PathDir(path)); err != nil { // something to ask for its Stat
			return nil, err
		}
	}
	return &fencedFile{file, f, path}, nil
}

// Create makes a file.
func (f fence) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	return f.open(name, func() (vfs.File, error) { return f.FS.Create(name, category) })
}

// ReuseForWrite makes a file out of an old one.
func (f fence) ReuseForWrite(old, name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	return f.open(name, func() (vfs.File, error) { return f.FS.ReuseForWrite(old, name, category) })
}

// OpenReadWrite opens or makes a file.
func (f fence) OpenReadWrite(name string, category vfs.DiskWriteCategory, o ...vfs.OpenOption) (vfs.File, error) {
	return f.open(name, func() (vfs.File, error) { return f.FS.OpenReadWrite(name, category, o...) })
}

// OpenDir opens a directory for syncing.
func (f fence) OpenDir(name string) (vfs.File, error) {
	return f.open(name, func() (vfs.File, error) { return f.FS.OpenDir(name) })
}

// Link makes a hard link.
func (f fence) Link(old, name string) error {
	return f.change(name, func() error { return f.FS.Link(old, name) })
}

// Remove removes a file.
func (f fence) Remove(name string) error {
	return f.change(name, func() error { return f.FS.Remove(name) })
}

// RemoveAll removes a directory.
func (f fence) RemoveAll(name string) error {
	return f.change(name, func() error { return f.FS.RemoveAll(name) })
}

// Rename renames a file.
func (f fence) Rename(old, name string) error {
	return f.change(name, func() error { return f.FS.Rename(old, name) })
}

// MkdirAll makes a directory.
func (f fence) MkdirAll(name string, perm os.FileMode) error {
	return f.change(name, func() error { return f.FS.MkdirAll(name, perm) })
}

// fencedFile is a file open for writing behind the fence.
type fencedFile struct {
	vfs.File
	f    fence
	path string
}

func (f *fencedFile) Write(p []byte) (int, error) {
	done := 0
	err := f.f.change(f.path, func() error {
		n, err := f.File.Write(p[done:])
		done += n
		return err
	})
	if err == nil {
		done = len(p)
	}
	return done, err
}

func (f *fencedFile) WriteAt(p []byte, at int64) (int, error) {
	err := f.f.change(f.path, func() error { _, err := f.File.WriteAt(p, at); return err })
	if err != nil {
		return 0, err
	}
	return len(p), nil
}

func (f *fencedFile) Sync() error { return f.f.sync(f.path, f.File.Sync) }

func (f *fencedFile) SyncData() error { return f.f.sync(f.path, f.File.SyncData) }

func (f *fencedFile) SyncTo(length int64) (full bool, err error) {
	err = f.f.sync(f.path, func() (err error) { full, err = f.File.SyncTo(length); return err })
	return full, err
}

func (f *fencedFile) Close() error { return f.f.failed(f.path, f.File.Close()) }
