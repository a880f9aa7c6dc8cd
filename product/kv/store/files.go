package store

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"selvage/foundation/fault"
)

// tempDir holds files that are being written. A file's place is <account>/<namespace>/<id>, its content
// the value and nothing else; the checksums are in the record.
const tempDir = "tmp"

// roomEvery is how much of a file is written between two looks at the disk's space.
const roomEvery = 16 * blockBytes

// maxOver bounds how much of a value that is too large is read to tell how large it is.
const maxOver = 256 << 20

// files keeps large values.
type files struct {
	dir string

	pins atomic.Int32 // while there are any, nothing is removed that a record named
	left atomic.Bool  // something was not removed for that reason

	mu      sync.Mutex      // guards writing
	writing map[string]bool // files that no record names yet
}

var blocks = sync.Pool{New: func() any { return new([blockBytes]byte) }}

func (f *files) spaceDir(sp Space) string { return filepath.Join(f.dir, sp.Account(), sp.Namespace()) }

func (f *files) path(sp Space, id [16]byte) string {
	return filepath.Join(f.spaceDir(sp), hex.EncodeToString(id[:]))
}

// write stores what body yields as a file that is on disk when it returns, and notes size, name and
// checksums in r. Call done when a record names the file, or never will.
func (f *files) write(sp Space, r *record, body io.Reader, room func(int64) error) (err error) {
	rand.Read(r.version[:])
	id := hex.EncodeToString(r.version[:])
	f.mark(id, true)
	temp := filepath.Join(f.dir, tempDir, id)
	defer func() {
		if err != nil {
			os.Remove(temp)
			f.mark(id, false)
			err = AsFull(err, f.dir)
		}
	}()
	file, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer file.Close()
	if err := copyBlocks(file, r, body, room); err != nil {
		return err
	}
	if err := file.Sync(); err != nil {
		return fmt.Errorf("sync a value: %w", err)
	}
	if err := f.makeDirs(sp); err != nil {
		return err
	}
	if err := os.Rename(temp, f.path(sp, r.version)); err != nil {
		return err
	}
	return syncDir(f.spaceDir(sp))
}

// copyBlocks writes a body of unknown length block by block.
func copyBlocks(file *os.File, r *record, body io.Reader, room func(int64) error) error {
	buf := blocks.Get().(*[blockBytes]byte)
	defer blocks.Put(buf)
	for {
		n, last, err := fill(body, buf[:])
		if err != nil {
			return err
		}
		if r.size+int64(n) > MaxValue {
			over, err := io.Copy(io.Discard, io.LimitReader(body, maxOver))
			if err != nil {
				return err
			}
			return &TooLarge{r.size + int64(n) + over}
		}
		if r.size%roomEvery == 0 {
			if err := room(roomEvery); err != nil {
				return err
			}
		}
		if n > 0 {
			if _, err := file.Write(buf[:n]); err != nil {
				return err
			}
			r.size += int64(n)
			r.sums = binary.BigEndian.AppendUint32(r.sums, crc32.Checksum(buf[:n], castagnoli))
		}
		if last {
			return nil
		}
	}
}

// makeDirs makes the directory of a space, lastingly.
func (f *files) makeDirs(sp Space) error {
	for _, dir := range []string{filepath.Dir(f.spaceDir(sp)), f.spaceDir(sp)} {
		err := os.Mkdir(dir, 0o700)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return err
		}
		if err := syncDir(filepath.Dir(dir)); err != nil {
			return err
		}
	}
	return nil
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// AsFull says in words that the disk is full, if that is what err means.
func AsFull(err error, dir string) error {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return fault.Wrap(err, fault.Unavailable, "The disk under %s is full. Free some space there.", dir)
	}
	return err
}

func (f *files) mark(id string, writing bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if writing {
		f.writing[id] = true
		return
	}
	delete(f.writing, id)
}

// done ends what write began.
func (f *files) done(r *record) { f.mark(hex.EncodeToString(r.version[:]), false) }

func (f *files) busy(id string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.writing[id]
}

// remove removes a file that no record names any more. If it stays, sweep finds it.
func (f *files) remove(sp Space, id [16]byte) {
	if f.pins.Load() > 0 {
		f.left.Store(true)
		return
	}
	os.Remove(f.path(sp, id))
}

// open opens the file of an entry, which is there as a whole even if it is replaced meanwhile. The first
// block has been checked; damaged is told what is wrong with another.
func (f *files) open(sp Space, e *Entry, damaged func(error) error) (*reader, error) {
	file, err := os.Open(f.path(sp, e.version))
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err == nil && info.Size() != e.Size {
		err = fmt.Errorf("%s has %d bytes instead of %d", file.Name(), info.Size(), e.Size)
	}
	r := &reader{file: file, entry: e, damaged: func(err error) error { return err }}
	if err == nil {
		err = r.next()
	}
	if err != nil {
		r.Close()
		return nil, err
	}
	r.damaged = damaged
	return r, nil
}

// reader reads a file and yields only what has its checksum. Not safe for concurrent use.
type reader struct {
	file    *os.File
	entry   *Entry
	damaged func(error) error
	buf     *[blockBytes]byte
	rest    []byte // of buf
	block   int64
	err     error
}

// Read yields the next octets.
func (r *reader) Read(p []byte) (int, error) {
	if len(r.rest) == 0 && r.err == nil {
		r.err = r.next()
	}
	if len(r.rest) == 0 {
		return 0, r.err
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

func (r *reader) next() error {
	if r.buf == nil {
		r.buf = blocks.Get().(*[blockBytes]byte)
	}
	at := r.block * blockBytes
	if at >= r.entry.Size {
		return io.EOF
	}
	part := r.buf[:min(blockBytes, r.entry.Size-at)]
	if _, err := io.ReadFull(r.file, part); err != nil {
		return r.damaged(fmt.Errorf("read %s at %d: %w", r.file.Name(), at, err))
	}
	if got := crc32.Checksum(part, castagnoli); got != binary.BigEndian.Uint32(r.entry.sums[4*r.block:]) {
		return r.damaged(fmt.Errorf("%s differs from its checksum in the %d bytes at %d", r.file.Name(), len(part), at))
	}
	r.block++
	r.rest = part
	return nil
}

// Close closes the file.
func (r *reader) Close() error {
	if r.buf != nil {
		blocks.Put(r.buf)
		r.buf, r.rest, r.err = nil, nil, fs.ErrClosed
	}
	return r.file.Close()
}
