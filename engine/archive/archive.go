// Package archive is the format of backups: a stream of files, compressed and checksummed, that can be
// written and read in one pass with little memory, and that tells when its end is missing.
//
// It is a tar file compressed with zstd, so that common tools can look into it. Its first entry is
// selvage-backup.json; after at most sumsEvery files comes an entry sums/N.json with their SHA-256; the
// last entry is end.json, which counts files and bytes. Only what a Reader has checked up to there is
// whole.
package archive

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"path/filepath"
	"strconv"
	"time"

	"github.com/klauspost/compress/zstd"

	"selvage/foundation/fault"
)

const (
	format    = 1
	sumsEvery = 256

	headName = "selvage-backup.json"
	sumsDir  = "sums/"
	endName  = "end.json"
	fileDir  = "data/"

	maxMeta = 1 << 20 // bytes of an entry of our own
)

// Head says what an archive is of.
type Head struct {
	Format  int       `json:"format"`
	Version string    `json:"selvage"` // of the program that wrote it
	Created time.Time `json:"created"`
}

// Totals says how much an archive has.
type Totals struct {
	Files int64 `json:"files"`
	Bytes int64 `json:"bytes"`
}

type sum struct {
	Name   string `json:"name"`
	SHA256 string `json:"sha256"`
}

// Writer writes an archive. Not safe for concurrent use. Close makes it whole.
type Writer struct {
	tar    *tar.Writer
	zstd   *zstd.Encoder
	sums   []sum
	parts  int
	totals Totals
	buf    []byte
	at     time.Time
}

// NewWriter begins an archive.
func NewWriter(w io.Writer, h Head) (*Writer, error) {
	z, err := zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return nil, err
	}
	h.Format = format
	a := &Writer{tar: tar.NewWriter(z), zstd: z, buf: make([]byte, 128<<10), at: h.Created}
	return a, a.meta(headName, h)
}

func (a *Writer) meta(name string, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if err := a.tar.WriteHeader(&tar.Header{Name: name, Size: int64(len(text)), Mode: 0o600, ModTime: a.at}); err != nil {
		return err
	}
	_, err = a.tar.Write(text)
	return err
}

// File is one file of an archive.
type File struct {
	Name string // slash-separated path
	Size int64  // bytes
	Mode fs.FileMode
}

// Add adds a file of which r has exactly f.Size bytes, or more that are left out.
func (a *Writer) Add(ctx context.Context, f File, r io.Reader) error {
	if !filepath.IsLocal(f.Name) || path.Clean(f.Name) != f.Name {
		return fmt.Errorf("archive: %q is no name for a file", f.Name)
	}
	if err := a.tar.WriteHeader(&tar.Header{Name: fileDir + f.Name, Size: f.Size, Mode: int64(f.Mode.Perm()), ModTime: a.at}); err != nil {
		return err
	}
	hash := sha256.New()
	n, err := io.CopyBuffer(io.MultiWriter(a.tar, hash), io.LimitReader(&contextReader{ctx, r}, f.Size), a.buf)
	if err != nil {
		return fmt.Errorf("archive %s: %w", f.Name, err)
	}
	if n < f.Size {
		return fmt.Errorf("archive %s: it has %d bytes, %d were announced", f.Name, n, f.Size)
	}
	a.sums = append(a.sums, sum{f.Name, hex.EncodeToString(hash.Sum(nil))})
	a.totals.Files++
	a.totals.Bytes += f.Size
	if len(a.sums) == sumsEvery {
		return a.putSums()
	}
	return nil
}

func (a *Writer) putSums() error {
	if len(a.sums) == 0 {
		return nil
	}
	a.parts++
	err := a.meta(sumsDir+strconv.Itoa(a.parts)+".json", a.sums)
	a.sums = a.sums[:0]
	return err
}

// Totals returns what was added so far.
func (a *Writer) Totals() Totals { return a.totals }

// Close ends the archive: without it, it counts as cut off.
func (a *Writer) Close() error {
	if err := a.putSums(); err != nil {
		return err
	}
	if err := a.meta(endName, a.totals); err != nil {
		return err
	}
	if err := a.tar.Close(); err != nil {
		return err
	}
	return a.zstd.Close()
}

// Drop gives up an archive that was not closed.
func (a *Writer) Drop() { a.zstd.Close() }

type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c *contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}

// Read reads an archive from its begin to its end and calls each for every file, whose content it may
// read from r or not. What each got is not known to be what was written before Read returned nil. A
// damaged, cut off or foreign file is a fault.Invalid that says which.
func Read(ctx context.Context, r io.Reader, each func(f File, r io.Reader) error) (Head, Totals, error) {
	source := &source{contextReader: contextReader{ctx, r}}
	z, err := zstd.NewReader(source, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(256<<20))
	if err != nil {
		return Head{}, Totals{}, err
	}
	defer z.Close()
	a := &reader{tar: tar.NewReader(z), each: each}
	err = a.run()
	switch {
	case err == nil, a.refused != nil, len(fault.All(err)) > 0:
	case source.err != nil:
		err = source.err
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		err = fault.New(fault.Invalid, "The backup is cut off after %d files: its end is missing.", a.totals.Files)
	case a.head.Format == 0:
		err = fault.Wrap(err, fault.Invalid, "This is no backup of Selvage.")
	default:
		err = fault.Wrap(err, fault.Invalid, "The backup is damaged after %d files.", a.totals.Files)
	}
	return a.head, a.totals, err
}

// source remembers its error, so that those who read it can be told from it.
type source struct {
	contextReader
	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.contextReader.Read(p)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

// reader is one Read.
type reader struct {
	tar    *tar.Reader
	each   func(f File, r io.Reader) error
	head   Head
	sums   []sum // of files whose sums have not come yet
	totals Totals

	refused error // what each returned by itself
}

func (a *reader) run() error {
	for first := true; ; first = false {
		h, err := a.tar.Next()
		if err != nil {
			return err
		}
		if first != (h.Name == headName) {
			return fault.New(fault.Invalid, "This is no backup of Selvage: it begins with %.80q.", h.Name)
		}
		done, err := a.entry(h)
		if err != nil || done {
			return err
		}
	}
}

func (a *reader) entry(h *tar.Header) (done bool, err error) {
	name, isFile := cutPrefix(h.Name, fileDir)
	switch {
	case h.Typeflag != tar.TypeReg:
		return false, fault.New(fault.Invalid, "The backup has an entry %.80q that is no file.", h.Name)
	case isFile:
		return false, a.file(File{Name: name, Size: h.Size, Mode: fs.FileMode(h.Mode).Perm()})
	case h.Size > maxMeta:
		return false, fault.New(fault.Invalid, "The backup has an entry %.80q of %d bytes, the limit is %d.", h.Name, h.Size, maxMeta)
	case h.Name == headName:
		if err := a.meta(h, &a.head); err != nil {
			return false, err
		}
		if a.head.Format != format {
			return false, fault.New(fault.Invalid, "The backup has the format %d, this program reads %d: use Selvage %s.", a.head.Format, format, a.head.Version)
		}
		return false, nil
	case h.Name == endName:
		return true, a.end(h)
	}
	return false, a.checkSums(h)
}

func cutPrefix(s, prefix string) (string, bool) {
	if len(s) <= len(prefix) || s[:len(prefix)] != prefix {
		return s, false
	}
	return s[len(prefix):], true
}

func (a *reader) meta(h *tar.Header, v any) error {
	text, err := io.ReadAll(a.tar)
	if err != nil {
		return err
	}
	if err := json.NewDecoder(bytes.NewReader(text)).Decode(v); err != nil {
		return fault.Wrap(err, fault.Invalid, "The backup is damaged: its entry %.80q cannot be read.", h.Name)
	}
	return nil
}

func (a *reader) file(f File) error {
	if !filepath.IsLocal(f.Name) || path.Clean(f.Name) != f.Name {
		return fault.New(fault.Invalid, "The backup has a file %.80q whose name leads out of it.", f.Name)
	}
	if len(a.sums) >= sumsEvery {
		return fault.New(fault.Invalid, "The backup is damaged: checksums are missing before %.80q.", f.Name)
	}
	hash := sha256.New()
	content := &source{contextReader: contextReader{context.Background(), a.tar}}
	r := io.TeeReader(content, hash)
	if err := a.each(f, r); err != nil {
		if content.err == nil {
			a.refused = err
		}
		return err
	}
	if _, err := io.Copy(io.Discard, r); err != nil {
		return err
	}
	a.sums = append(a.sums, sum{f.Name, hex.EncodeToString(hash.Sum(nil))})
	a.totals.Files++
	a.totals.Bytes += f.Size
	return nil
}

// checkSums compares the checksums of the files before with those that were written.
func (a *reader) checkSums(h *tar.Header) error {
	var want []sum
	if err := a.meta(h, &want); err != nil {
		return err
	}
	if len(want) != len(a.sums) {
		return fault.New(fault.Invalid, "The backup is damaged: %d files stand before %.80q, which has the checksums of %d.", len(a.sums), h.Name, len(want))
	}
	for i, w := range want {
		if a.sums[i] != w {
			return fault.New(fault.Invalid, "The backup is damaged: the file %.120q has another content than was written.", w.Name)
		}
	}
	a.sums = a.sums[:0]
	return nil
}

func (a *reader) end(h *tar.Header) error {
	var want Totals
	if err := a.meta(h, &want); err != nil {
		return err
	}
	if want != a.totals || len(a.sums) > 0 {
		return fault.New(fault.Invalid, "The backup is damaged: it has %d files, %d were written.", a.totals.Files, want.Files)
	}
	return nil
}
