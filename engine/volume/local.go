package volume

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"selvage/foundation/clock"
	"selvage/foundation/fault"
)

const (
	// temporary is the folder of files that are being written, where the filesystem knows no files
	// without a name.
	temporary = "new"

	// reserve is what stays free of the disk, for the store that knows of the content; or a 16th of the
	// filesystem if that is less.
	reserve = 64 << 20

	// writeBehind is after how many bytes the kernel is told to begin writing: else it would have all to
	// do at the end, while a client waits.
	writeBehind = 8 << 20

	// trust is how long a file that this process wrote or verified is sent without another look at its
	// content, if its time of change is what it was.
	trust    = 10 * time.Minute
	trustMax = 16 << 10 // files
)

// Local is a volume in a folder. Safe for concurrent use, also by a second process that has the same
// folder open while it takes over.
type Local struct {
	dir    string
	clock  clock.Clock
	blocks *sync.Pool

	mu      sync.Mutex // guards the fields below
	trusted map[string]identity
	named   bool // no O_TMPFILE here
}

// identity is what tells whether a file was changed.
type identity struct {
	ino   uint64
	size  int64
	ctime syscall.Timespec
	until time.Time
}

// LocalOptions tune a Local. The zero value is right.
type LocalOptions struct {
	Clock clock.Clock
}

var _ Volume = (*Local)(nil)

// OpenLocal opens the volume in dir, which is made if it does not exist.
func OpenLocal(dir string, o LocalOptions) (*Local, error) {
	v := &Local{dir: dir, clock: o.Clock, blocks: blockPool(), trusted: map[string]identity{}}
	if err := v.makeFolders(); err != nil {
		return nil, v.explain("open the volume", err)
	}
	return v, nil
}

// Dir returns the folder.
func (v *Local) Dir() string { return v.dir }

// makeFolders makes all folders at once: none has to be made, and made durable, on the way of a Commit.
func (v *Local) makeFolders() error {
	if err := os.MkdirAll(filepath.Join(v.dir, temporary), 0o700); err != nil {
		return err
	}
	for i := range 256 {
		if err := os.Mkdir(filepath.Join(v.dir, fmt.Sprintf("%02x", i)), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	if err := syncFolder(v.dir); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(v.dir))
}

// path spreads names by a hash: those of a user may have anything in common.
func (v *Local) path(name string) string {
	h := uint32(2166136261)
	for i := range len(name) {
		h = (h ^ uint32(name[i])) * 16777619
	}
	return filepath.Join(v.dir, fmt.Sprintf("%02x", byte(h>>24^h>>16^h>>8^h)), name)
}

// Create begins content.
func (v *Local) Create(ctx context.Context, name string, size int64) (Writer, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	if err := v.room(max(size, 0)); err != nil {
		return nil, err
	}
	f, named, err := v.create(name)
	if err != nil {
		return nil, v.explain("begin content", err)
	}
	return &localWriter{v: v, ctx: ctx, f: f, named: named, name: name}, nil
}

// room refuses what would fill the disk.
func (v *Local) room(size int64) error {
	var s unix.Statfs_t
	if err := unix.Statfs(v.dir, &s); err != nil {
		return nil // not known; writing will tell
	}
	free, total := int64(s.Bavail)*s.Bsize, int64(s.Blocks)*s.Bsize
	keep := min(reserve, total/16)
	if free-keep >= storedSize(size) {
		return nil
	}
	return fault.New(fault.Unavailable, "The disk under %s is full: %d KiB are free, of which %d KiB are kept back, and %d KiB are needed. Free some space there, then try again.",
		v.dir, free>>10, keep>>10, storedSize(size)>>10)
}

// create makes a file without a name, or where there are none such a temporary one, which is locked: that
// says to a process that tidies up that it is being written.
func (v *Local) create(name string) (f *os.File, named bool, err error) {
	v.mu.Lock()
	named = v.named
	v.mu.Unlock()
	if !named {
		f, err := os.OpenFile(filepath.Dir(v.path(name)), unix.O_TMPFILE|os.O_RDWR, 0o600)
		if err == nil || !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.EISDIR) && !errors.Is(err, unix.EINVAL) {
			return f, false, err
		}
		v.mu.Lock()
		v.named = true
		v.mu.Unlock()
	}
	for {
		f, err := os.CreateTemp(filepath.Join(v.dir, temporary), "*")
		if err != nil {
			return nil, true, err
		}
		var info syscall.Stat_t
		if lock(f) == nil && syscall.Fstat(int(f.Fd()), &info) == nil && info.Nlink > 0 {
			return f, true, nil
		}
		os.Remove(f.Name())
		f.Close()
	}
}

// Delete removes a file. Readers go on.
func (v *Local) Delete(_ context.Context, name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	v.mu.Lock()
	delete(v.trusted, name)
	v.mu.Unlock()
	err := os.Remove(v.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// List goes through the folders.
func (v *Local) List(ctx context.Context, f func(Entry) error) error {
	for i := range 256 {
		if err := v.listFolder(ctx, filepath.Join(v.dir, fmt.Sprintf("%02x", i)), f); err != nil {
			return err
		}
	}
	return nil
}

func (v *Local) listFolder(ctx context.Context, path string, f func(Entry) error) error {
	dir, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("list the volume: %w", err)
	}
	defer dir.Close()
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		entries, err := dir.ReadDir(1000)
		for _, e := range entries {
			info, err := e.Info()
			if errors.Is(err, fs.ErrNotExist) || err == nil && !info.Mode().IsRegular() {
				continue
			}
			if err != nil {
				return fmt.Errorf("list the volume: %w", err)
			}
			if err := f(Entry{Name: e.Name(), Size: max(contentSize(info.Size()), 0), Modified: info.ModTime()}); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("list the volume: %w", err)
		}
	}
}

// Tidy removes temporaries that nobody holds locked.
func (v *Local) Tidy(context.Context) error {
	entries, err := os.ReadDir(filepath.Join(v.dir, temporary))
	if err != nil {
		return fmt.Errorf("tidy the volume: %w", err)
	}
	for _, e := range entries {
		path := filepath.Join(v.dir, temporary, e.Name())
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("tidy the volume: %w", err)
		}
		if lock(f) == nil {
			err = os.Remove(path)
		}
		f.Close()
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("tidy the volume: %w", err)
		}
	}
	return nil
}

// explain says what a user can do about err, where that is known.
func (v *Local) explain(doing string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fault.Wrap(err, fault.Unavailable, "The disk under %s is full. Free some space there, then try again.", v.dir)
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// trusts tells whether a file may be sent without a look at it.
func (v *Local) trusts(name string, now identity) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	was, ok := v.trusted[name]
	if !ok {
		return false
	}
	if !v.clock.Now().Before(was.until) || was.ino != now.ino || was.size != now.size || was.ctime != now.ctime {
		delete(v.trusted, name)
		return false
	}
	return true
}

// trust remembers that a file is what it should be.
func (v *Local) trust(name string, id identity) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for other := range v.trusted {
		if len(v.trusted) < trustMax {
			break
		}
		delete(v.trusted, other)
	}
	id.until = v.clock.Now().Add(trust)
	v.trusted[name] = id
}

func identify(f *os.File) (identity, error) {
	var s syscall.Stat_t
	if err := syscall.Fstat(int(f.Fd()), &s); err != nil {
		return identity{}, fmt.Errorf("look at %s: %w", f.Name(), err)
	}
	return identity{ino: s.Ino, size: s.Size, ctime: s.Ctim}, nil
}

func lock(f *os.File) error { return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) }

func syncFolder(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}
