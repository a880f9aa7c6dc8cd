package sqlite

import (
	"errors"
	"os"
	"path/filepath"

	lib "modernc.org/sqlite/lib"

	"golang.org/x/sys/unix"

	"selvage/engine/sqlite/raw"
	"selvage/foundation/fault"
)

// The reserve is room on the disk that is given up when a database cannot be opened on a full one: SQLite needs 32 KiB
// beside a database even to read it.
const (
	reserveFile  = ".reserve"
	reserveBytes = 4 << 20
)

// reserve takes room on the disk, at most a 16th of it, if there is plenty.
func (s *Store) reserve() {
	path := filepath.Join(s.o.Dir, reserveFile)
	if _, err := os.Stat(path); err == nil {
		return
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(s.o.Dir, &fs); err != nil {
		return
	}
	size := min(reserveBytes, int64(fs.Blocks)*fs.Bsize/16)
	if int64(fs.Bavail)*fs.Bsize < 4*size {
		return
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return
	}
	defer f.Close()
	if unix.Fallocate(int(f.Fd()), 0, 0, size) != nil {
		os.Remove(path)
	}
}

// giveUpReserve makes room if err says that there is none; whether it did.
func (s *Store) giveUpReserve(err error) bool {
	var e *raw.Error
	full := errors.Is(err, unix.ENOSPC) || (errors.As(err, &e) && (e.Primary() == lib.SQLITE_FULL || e.Primary() == lib.SQLITE_IOERR || e.Primary() == lib.SQLITE_CANTOPEN))
	if !full || os.Remove(filepath.Join(s.o.Dir, reserveFile)) != nil {
		return false
	}
	s.low.Store(true)
	return true
}

// roomToWrite refuses writes while the reserve is given up and nothing replaced it: it is for those who read.
func (s *Store) roomToWrite() error {
	if !s.low.Load() {
		return nil
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(s.o.Dir, &fs); err == nil && int64(fs.Bavail)*fs.Bsize < reserveBytes {
		return fault.New(fault.Unavailable, "The node's disk is full: nothing can be written until there is room.")
	}
	s.low.Store(false)
	s.reserve()
	return nil
}
