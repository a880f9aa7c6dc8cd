// Package blob keeps content in files that are named after their SHA-256: module code, source maps,
// static assets and their manifests. What Put acknowledged is on disk and stays there until Delete;
// the same content is kept once.
//
// It knows no tenant. A digest is not a right to read: whoever looks one up on behalf of a tenant
// keeps, per tenant, which digests are that tenant's.
package blob

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"selvage/foundation/fault"
)

// temporary is the folder of files that are being written.
const temporary = "new"

// Store is a folder of files. Safe for concurrent use, also by a second process that has the same
// folder open while it takes over.
type Store struct {
	dir string

	// mu keeps DeleteOlder from removing a file between the moment a Put found it there and the
	// moment it refreshed the file's time. It is held for a few system calls, never for a write.
	mu   sync.RWMutex
	pins int // guarded by mu
}

// Open opens the store in dir, which is made if it does not exist, and removes files that a process
// which is gone left half written.
func Open(dir string) (*Store, error) {
	s := &Store{dir: dir}
	if err := s.makeFolders(); err != nil {
		return nil, s.refuse("open blob store", err)
	}
	if err := s.sweep(); err != nil {
		return nil, s.refuse("open blob store", err)
	}
	return s, nil
}

// Dir returns the folder the store was opened with.
func (s *Store) Dir() string { return s.dir }

// Put stores what r holds and returns its hex SHA-256 and its size. More than limit bytes are
// refused with fault.TooMuch; a limit of 0 is none. When it returns nil the content is on disk.
// Content that is there already costs no second copy. ctx ends a slow reader between reads.
func (s *Store) Put(ctx context.Context, r io.Reader, limit int64) (digest string, size int64, err error) {
	f, err := s.create()
	if err != nil {
		return "", 0, s.refuse("store content", err)
	}
	defer discard(f)
	sum := sha256.New()
	size, err = copyLimited(ctx, f, sum, r, limit)
	if err != nil {
		return "", 0, s.refuse("store content", err)
	}
	digest = hexOf(sum)
	if there, err := s.refresh(digest, size); err != nil || there {
		return digest, size, s.refuse("store content", err)
	}
	return digest, size, s.refuse("store content", s.keep(f, digest))
}

// PutBytes stores content and returns its hex SHA-256. What is there already is not written again.
func (s *Store) PutBytes(ctx context.Context, content []byte) (digest string, err error) {
	sum := sha256.Sum256(content)
	digest = hex.EncodeToString(sum[:])
	if there, err := s.refresh(digest, int64(len(content))); err != nil || there {
		return digest, s.refuse("store content", err)
	}
	digest, _, err = s.Put(ctx, bytes.NewReader(content), 0)
	return digest, err
}

// Open returns the content of digest as a file opened for reading, which the caller closes, or
// fault.NotFound. It does not check the content; Verify does.
func (s *Store) Open(digest string) (*os.File, error) {
	if !IsDigest(digest) {
		return nil, notFound(digest)
	}
	f, err := os.Open(s.path(digest))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, notFound(digest)
	}
	return f, err
}

// Read returns the content of digest, at most limit bytes; a limit of 0 is none. Longer content is
// fault.TooMuch.
func (s *Store) Read(digest string, limit int64) ([]byte, error) {
	f, err := s.Open(digest)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if limit > 0 && info.Size() > limit {
		return nil, tooMuch(limit)
	}
	content := make([]byte, info.Size())
	if _, err := io.ReadFull(f, content); err != nil {
		return nil, fmt.Errorf("read blob %s: %w", digest, err)
	}
	return content, nil
}

// Has tells whether the content of digest is there.
func (s *Store) Has(digest string) bool {
	if !IsDigest(digest) {
		return false
	}
	_, err := os.Stat(s.path(digest))
	return err == nil
}

// Touch tells whether the content of digest is there, and if so makes it as young as if it had just
// been put: a collector that uses DeleteOlder leaves it alone.
func (s *Store) Touch(digest string) (bool, error) {
	if !IsDigest(digest) {
		return false, nil
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	now := time.Now()
	err := os.Chtimes(s.path(digest), now, now)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// Verify reads the content of digest and returns an error if it is not what the digest says.
func (s *Store) Verify(ctx context.Context, digest string) error {
	f, err := s.Open(digest)
	if err != nil {
		return err
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := copyLimited(ctx, sum, io.Discard, f, 0); err != nil {
		return fmt.Errorf("verify blob %s: %w", digest, err)
	}
	if got := hexOf(sum); got != digest {
		return fmt.Errorf("blob %s is damaged: its content has the digest %s", digest, got)
	}
	return nil
}

// Delete removes the content of digest; nothing happens if there is none. Files that are open stay
// readable until closed.
func (s *Store) Delete(digest string) error {
	_, err := s.DeleteOlder(digest, time.Time{})
	return err
}

// DeleteOlder removes the content of digest unless it was put, or put again, at or after before;
// the zero time removes it in any case. It tells whether it removed something. A collector of
// garbage uses it, so that content which an upload has just found in place is not taken away; while
// anybody pins, it removes nothing before its time.
func (s *Store) DeleteOlder(digest string, before time.Time) (bool, error) {
	if !IsDigest(digest) {
		return false, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !before.IsZero() {
		if s.pins > 0 {
			return false, nil
		}
		info, err := os.Stat(s.path(digest))
		if errors.Is(err, fs.ErrNotExist) || err == nil && !info.ModTime().Before(before) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
	}
	err := os.Remove(s.path(digest))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// Pin keeps DeleteOlder from removing garbage until unpin is called, once.
func (s *Store) Pin() (unpin func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pins++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.pins--
	}
}

// Walk calls f for everything stored, in the order of digests; modTime is when it was last put. It
// ends at f's first error and returns it. What is put or deleted meanwhile may be seen or not.
func (s *Store) Walk(f func(digest string, size int64, modTime time.Time) error) error {
	for i := range 256 {
		entries, err := os.ReadDir(filepath.Join(s.dir, fmt.Sprintf("%02x", i)))
		if err != nil {
			return fmt.Errorf("list blobs: %w", err)
		}
		for _, e := range entries {
			if !IsDigest(e.Name()) {
				continue
			}
			info, err := e.Info()
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return fmt.Errorf("list blobs: %w", err)
			}
			if err := f(e.Name(), info.Size(), info.ModTime()); err != nil {
				return err
			}
		}
	}
	return nil
}

// IsDigest tells whether s has the form of a digest, 64 lower-case hex digits.
func IsDigest(s string) bool {
	if len(s) != 2*sha256.Size {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

func (s *Store) path(digest string) string { return filepath.Join(s.dir, digest[:2], digest) }

// makeFolders makes all folders at once: none has to be made, and made durable, on the way of a Put.
func (s *Store) makeFolders() error {
	if err := os.MkdirAll(filepath.Join(s.dir, temporary), 0o700); err != nil {
		return err
	}
	for i := range 256 {
		if err := os.Mkdir(filepath.Join(s.dir, fmt.Sprintf("%02x", i)), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	if err := syncFolder(s.dir); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(s.dir))
}

// sweep removes temporaries that nobody holds locked.
func (s *Store) sweep() error {
	entries, err := os.ReadDir(filepath.Join(s.dir, temporary))
	if err != nil {
		return err
	}
	for _, e := range entries {
		path := filepath.Join(s.dir, temporary, e.Name())
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if lock(f) == nil {
			err = os.Remove(path)
		}
		f.Close()
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// create makes a temporary and locks it, which says to a process that opens the store that it is
// being written. Between the two steps such a process may have removed it: then it has no name.
func (s *Store) create() (*os.File, error) {
	for {
		f, err := os.CreateTemp(filepath.Join(s.dir, temporary), "*")
		if err != nil {
			return nil, err
		}
		var info syscall.Stat_t
		if lock(f) == nil && syscall.Fstat(int(f.Fd()), &info) == nil && info.Nlink > 0 {
			return f, nil
		}
		discard(f)
	}
}

// refresh tells whether the content is there already, and if so makes it as new: durable, and too
// young for a collector. A file of another size is a damaged one and gets replaced.
func (s *Store) refresh(digest string, size int64) (there bool, err error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	info, err := os.Stat(s.path(digest))
	if errors.Is(err, fs.ErrNotExist) || err == nil && info.Size() != size {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	now := time.Now()
	if err := os.Chtimes(s.path(digest), now, now); err != nil {
		return false, err
	}
	// Whoever renamed it there may not have come to this step yet.
	return true, syncFolder(filepath.Dir(s.path(digest)))
}

// keep gives a temporary its name for good.
func (s *Store) keep(f *os.File, digest string) error {
	if err := f.Sync(); err != nil {
		return err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if err := os.Rename(f.Name(), s.path(digest)); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(s.path(digest)))
}

// refuse says what a user can do about err, where that is known; nil stays nil.
func (s *Store) refuse(doing string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fault.Wrap(err, fault.Unavailable, "The disk under %s is full. Free some space there, then try again.", s.dir)
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// copyLimited copies r to both writers, at most limit bytes if limit is not 0.
func copyLimited(ctx context.Context, w, sum io.Writer, r io.Reader, limit int64) (int64, error) {
	buf := make([]byte, 64<<10)
	for size := int64(0); ; {
		if err := ctx.Err(); err != nil {
			return size, err
		}
		n, err := r.Read(buf)
		size += int64(n)
		if limit > 0 && size > limit {
			return size, tooMuch(limit)
		}
		if _, err := w.Write(buf[:n]); err != nil {
			return size, err
		}
		if _, err := sum.Write(buf[:n]); err != nil {
			return size, err
		}
		if err == io.EOF {
			return size, nil
		}
		if err != nil {
			return size, err
		}
	}
}

// discard removes a temporary; nothing is left of its name if it was kept.
func discard(f *os.File) {
	os.Remove(f.Name())
	f.Close()
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

func hexOf(sum hash.Hash) string { return hex.EncodeToString(sum.Sum(nil)) }

func notFound(digest string) error {
	return fault.New(fault.NotFound, "There is no content with the digest %.80q on this node.", digest)
}

func tooMuch(limit int64) error {
	return fault.New(fault.TooMuch, "The content has more than %d bytes, the limit.", limit)
}
