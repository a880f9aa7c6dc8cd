package state

import (
	"crypto/rand"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"selvage/foundation/fault"
)

const defaultBallast = 16 << 20

// room watches the space on the disk. Pebble cannot go on after a failed write to its log, so a
// write is refused before the disk is full, and a ballast file is given up for those under way when
// somebody else fills it faster. All methods work on nil: then there is always room.
type room struct {
	dir     string
	path    string // of the ballast
	ballast int64  // bytes
	log     *slog.Logger
	trouble func(why error)
	space   func(dir string) (free, total int64, err error)
	full    atomic.Bool

	mu      sync.Mutex // guards the file at path, and the fields below
	present bool
}

func newRoom(d *DB, ballast int64) *room {
	dir := d.dir
	r := &room{dir: dir, path: filepath.Join(dir, "ballast"), ballast: ballast, log: d.log, trouble: d.trouble, space: diskSpace}
	if ballast == 0 {
		r.ballast = defaultBallast
		if _, total, err := r.space(dir); err == nil {
			r.ballast = min(r.ballast, total/16)
		}
	}
	if info, err := os.Stat(r.path); err == nil {
		r.present = info.Size() >= r.ballast
	}
	return r
}

// check refuses a batch that might not fit, with what compactions need besides.
func (r *room) check(batchBytes int64) error {
	if r == nil {
		return nil
	}
	free, _, err := r.space(r.dir)
	if err != nil {
		return nil // not known; the ballast still stands by
	}
	need := r.ballast/2 + 3*batchBytes
	if free >= need && (!r.full.Load() || r.restore()) {
		return nil
	}
	why := fault.New(fault.Unavailable, "The disk under %s is full: %d KiB are free, %d KiB are needed. Free some space there; writes go on by themselves then.", r.dir, free>>10, (need+r.ballast)>>10)
	r.setFull(why)
	return why
}

// Room refuses size bytes of a file on the store's disk that would leave it no room for its own writes:
// a fault.Unavailable. Products that keep files beside the store ask before they write one.
func (d *DB) Room(size int64) error {
	if d.room == nil {
		return nil
	}
	free, _, err := d.room.space(d.dir)
	if need := d.room.ballast + size; err == nil && free < need {
		return fault.New(fault.Unavailable, "The disk under %s is full: %d KiB are free, %d KiB are needed. Free some space there.", d.dir, free>>10, need>>10)
	}
	return nil
}

// release gives the ballast up. Pebble's filesystem calls it when a write found no space, before it
// tries once more.
func (r *room) release() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.setFull(fault.New(fault.Unavailable, "The disk under %s is full. Free some space there; writes go on by themselves then.", r.dir))
	if err := os.Remove(r.path); err != nil && !errors.Is(err, os.ErrNotExist) {
		r.log.Error("the ballast could not be given up", "path", r.path, "error", err)
	}
	r.present = false
}

// restore makes the ballast anew if it is gone and there is room, and tells whether it stands.
func (r *room) restore() bool {
	if r == nil {
		return true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	free, _, err := r.space(r.dir)
	if err != nil || r.full.Load() && free < r.ballast {
		return false
	}
	if !r.present {
		if free < 2*r.ballast {
			return false
		}
		if err := allocate(r.path, r.ballast); err != nil {
			os.Remove(r.path)
			return false
		}
		r.present = true
	}
	r.setFull(nil)
	return true
}

// setFull notes why the disk is full, or with nil that it is not.
func (r *room) setFull(why error) {
	full := why != nil
	if r.full.Swap(full) == full {
		return
	}
	r.trouble(why)
	if full {
		r.log.Error("disk full, writes to the store are refused until there is room", "dir", r.dir)
		return
	}
	r.log.Info("there is room on the disk again, writes to the store go on", "dir", r.dir)
}

func (r *room) isFull() bool { return r != nil && r.full.Load() }

// allocate makes a file whose blocks are taken from the disk: with random bytes where the
// filesystem cannot reserve, for it might compress zeros away.
func allocate(path string, size int64) error {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer file.Close()
	err = unix.Fallocate(int(file.Fd()), 0, 0, size)
	if !errors.Is(err, unix.EOPNOTSUPP) {
		return err
	}
	chunk := make([]byte, 64<<10)
	rand.Read(chunk)
	for left := size; left > 0; left -= int64(len(chunk)) {
		if _, err := file.Write(chunk[:min(left, int64(len(chunk)))]); err != nil {
			return err
		}
	}
	return file.Sync()
}

// diskSpace returns the bytes that may still be written below dir, and the filesystem's size.
func diskSpace(dir string) (free, total int64, err error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, 0, err
	}
	return int64(s.Bavail) * s.Bsize, int64(s.Blocks) * s.Bsize, nil
}
