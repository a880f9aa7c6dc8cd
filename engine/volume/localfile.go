package volume

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"selvage/foundation/filebody"
)

// localWriter writes a file.
type localWriter struct {
	v      *Local
	ctx    context.Context //nolint:containedctx // a writer lives as long as the call that it was made in
	f      *os.File        // nil when ended
	named  bool            // it has a temporary name
	name   string
	sums   summer
	pushed int64 // bytes that the kernel was told to write
}

// Write appends p.
func (w *localWriter) Write(p []byte) (int, error) {
	if err := w.ctx.Err(); err != nil {
		return 0, err
	}
	if w.f == nil {
		return 0, fs.ErrClosed
	}
	w.sums.add(p)
	n, err := w.f.Write(p)
	if err != nil {
		return n, w.v.explain("write content", err)
	}
	if behind := w.sums.size - w.pushed; behind >= writeBehind {
		// Only for speed: Commit is what syncs.
		_ = unix.SyncFileRange(int(w.f.Fd()), w.pushed, behind, unix.SYNC_FILE_RANGE_WRITE)
		w.pushed = w.sums.size
	}
	return n, nil
}

// Commit gives the file its name and waits until both are on disk. The name comes first: filesystems with
// a journal then write both at once, and nobody knows a name that Commit has not returned.
func (w *localWriter) Commit() (Content, error) {
	if w.f == nil {
		return Content{}, fs.ErrClosed
	}
	defer w.Abort()
	size := w.sums.size
	tail, sum := w.sums.finish()
	if _, err := w.f.Write(tail); err != nil {
		return Content{}, w.v.explain("write content", err)
	}
	path := w.v.path(w.name)
	if err := w.link(path); err != nil {
		return Content{}, w.v.explain("name content", err)
	}
	id, err := w.sync(path)
	if err != nil {
		os.Remove(path)
		return Content{}, w.v.explain("sync content", err)
	}
	w.v.trust(w.name, id)
	return Content{Name: w.name, Size: size, Sum: sum}, nil
}

func (w *localWriter) link(path string) error {
	if w.named {
		// A hard link and not a rename: that would replace.
		if err := os.Link(w.f.Name(), path); err != nil {
			return err
		}
		return os.Remove(w.f.Name())
	}
	return unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", w.f.Fd()), unix.AT_FDCWD, path, unix.AT_SYMLINK_FOLLOW)
}

func (w *localWriter) sync(path string) (identity, error) {
	if err := w.f.Sync(); err != nil {
		return identity{}, err
	}
	if err := syncFolder(filepath.Dir(path)); err != nil {
		return identity{}, err
	}
	return identify(w.f)
}

// Abort closes the file; without a name nothing is left of it.
func (w *localWriter) Abort() {
	if w.f == nil {
		return
	}
	if w.named {
		os.Remove(w.f.Name())
	}
	w.f.Close()
	w.f = nil
}

// Open opens a part of a file: a *filebody.Body if this process verified it lately.
func (v *Local) Open(_ context.Context, c Content, offset, length int64) (io.ReadCloser, error) {
	if err := checkRange(c, offset, length); err != nil {
		return nil, err
	}
	f, id, err := v.open(c)
	if err != nil {
		return nil, err
	}
	if v.trusts(c.Name, id) {
		if _, err := f.Seek(offset, io.SeekStart); err != nil {
			f.Close()
			return nil, err
		}
		return filebody.New(f, length), nil
	}
	r, err := v.check(f, c, offset, length)
	if err != nil {
		f.Close()
		return nil, err
	}
	if offset == 0 && length == c.Size {
		r.whole = func() { v.trust(c.Name, id) }
	}
	return r, nil
}

// open opens a file whose length is right.
func (v *Local) open(c Content) (*os.File, identity, error) {
	if err := checkName(c.Name); err != nil {
		return nil, identity{}, err
	}
	f, err := os.Open(v.path(c.Name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, identity{}, damaged(c.Name, -1, reasonMissing)
	}
	if err != nil {
		return nil, identity{}, fmt.Errorf("open content: %w", err)
	}
	id, err := identify(f)
	if err == nil && id.size != storedSize(c.Size) {
		err = damaged(c.Name, -1, reasonLength)
	}
	if err != nil {
		f.Close()
		return nil, identity{}, err
	}
	return f, id, nil
}

// check returns a reader that compares.
func (v *Local) check(f *os.File, c Content, offset, length int64) (*checked, error) {
	var trailer [trailerSize]byte
	if _, err := f.ReadAt(trailer[:], storedSize(c.Size)-trailerSize); err != nil {
		return nil, fmt.Errorf("read content: %w", err)
	}
	if err := checkTrailer(c, trailer[:]); err != nil {
		return nil, err
	}
	first := offset / blockSize
	table := make([]byte, (blocksOf(offset+length)-first)*sumSize)
	if length == 0 {
		table = nil
	}
	if _, err := f.ReadAt(table, c.Size+first*sumSize); err != nil {
		return nil, fmt.Errorf("read content: %w", err)
	}
	if _, err := f.Seek(first*blockSize, io.SeekStart); err != nil {
		return nil, err
	}
	buf := v.blocks.Get().(*[]byte)
	return &checked{c: c, src: f, table: table, at: first * blockSize, skip: offset - first*blockSize, left: length, buf: buf, closer: &pooled{f, v, buf}}, nil
}

// pooled gives a reader's block back when it is closed.
type pooled struct {
	f   *os.File
	v   *Local
	buf *[]byte
}

func (p *pooled) Close() error {
	if p.buf != nil {
		p.v.blocks.Put(p.buf)
		p.buf = nil
	}
	return p.f.Close()
}

// Verify reads a file from the disk, not from the kernel's memory where that can be helped.
func (v *Local) Verify(ctx context.Context, c Content, pace func(context.Context, int) error) error {
	f, id, err := v.open(c)
	if err != nil {
		return err
	}
	// Pages that are clean are dropped, so that what is read is what the disk has.
	_ = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
	r, err := v.check(f, c, 0, c.Size)
	if err != nil {
		f.Close()
		return err
	}
	defer r.Close()
	if err := verify(ctx, r, pace); err != nil {
		v.mu.Lock()
		delete(v.trusted, c.Name)
		v.mu.Unlock()
		return err
	}
	v.trust(c.Name, id)
	return nil
}

// verify reads all of r.
func verify(ctx context.Context, r *checked, pace func(context.Context, int) error) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		if pace != nil {
			if err := pace(ctx, int(min(blockSize, r.left))); err != nil {
				return err
			}
		}
		if err := r.next(); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		r.ready = nil
	}
}
