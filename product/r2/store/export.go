package store

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"selvage/foundation/fault"
)

// An export is a directory:
//
//	objects/KEY          each object whose key is a path
//	escaped/SHA-256      objects whose key is none: it would leave the directory, has an empty part, or is
//	                     both a file and a folder of others
//	manifest.jsonl       a line for each object, in the order of keys
//	manifest.partial     the lines so far, while an export is under way
//
// An export that was interrupted, or an old one, is gone on with: what is there in the same version is not
// written again.
const (
	exportObjects  = "objects"
	exportEscaped  = "escaped"
	exportManifest = "manifest.jsonl"
	exportPartial  = "manifest.partial"
	exportResumed  = "manifest.resumed"

	exportSyncEvery = 200 // lines
	maxPathPart     = 200 // bytes
)

// ExportLine is a line of an export's manifest.
type ExportLine struct {
	Key          string            `json:"key"`
	Path         string            `json:"path,omitempty"` // below the export's directory; empty if Problem
	Problem      string            `json:"problem,omitempty"`
	Size         int64             `json:"size"`
	ETag         string            `json:"etag"`
	Version      string            `json:"version"`
	Uploaded     time.Time         `json:"uploaded"`
	StorageClass string            `json:"storage_class"`
	HTTP         HTTPMetadata      `json:"http_metadata,omitzero"`
	Custom       map[string]string `json:"custom_metadata,omitempty"`
	Checksums    map[string]string `json:"checksums,omitempty"` // hex
}

// Export writes a bucket to a directory, which is made if it is not there. What it reports is on disk. It
// takes objects as it comes to them: what is put meanwhile may be in it or not. Objects that are encrypted
// with a client's key, or damaged, are in the manifest with the problem, and not among the files.
func (s *Store) Export(ctx context.Context, b Bucket, dir string) (r ExportReport, err error) {
	x, err := s.newExport(b, dir)
	if err != nil {
		return r, fmt.Errorf("export to %s: %w", dir, err)
	}
	defer x.close()
	err = s.Walk(ctx, b, "", func(o *Object) error { return x.object(ctx, o) })
	if err == nil {
		err = x.finish()
	} else {
		err = errors.Join(err, x.sync())
	}
	if errors.Is(err, syscall.ENOSPC) {
		err = fault.Wrap(err, fault.Unavailable, "The disk under %s is full. Free some space there and export again: it goes on where it was.", dir)
	}
	return x.report, err
}

// export is one under way.
type export struct {
	s       *Store
	b       Bucket
	dir     string
	known   []*manifest // of earlier exports
	out     *os.File
	lines   *bufio.Writer
	folders map[string]bool // to be synced
	since   int             // lines since the last sync
	report  ExportReport
}

func (s *Store) newExport(b Bucket, dir string) (*export, error) {
	x := &export{s: s, b: b, dir: dir, folders: map[string]bool{}}
	for _, d := range []string{exportObjects, exportEscaped} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
			return nil, err
		}
	}
	x.folders[dir] = true
	left, _ := filepath.Glob(filepath.Join(dir, "export-*")) // by a crash
	for _, path := range left {
		os.Remove(path)
	}
	if err := x.keepPartial(); err != nil {
		return nil, err
	}
	for _, name := range []string{exportResumed, exportManifest} {
		m, err := openManifest(filepath.Join(dir, name))
		if err != nil {
			return nil, err
		}
		x.known = append(x.known, m)
	}
	out, err := os.Create(filepath.Join(dir, exportPartial))
	if err != nil {
		return nil, err
	}
	x.out, x.lines = out, bufio.NewWriter(out)
	return x, nil
}

// keepPartial keeps what an interrupted export knew, unless the one before it, which was interrupted as
// well, knew more.
func (x *export) keepPartial() error {
	partial, resumed := filepath.Join(x.dir, exportPartial), filepath.Join(x.dir, exportResumed)
	p, err := os.Stat(partial)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if r, err := os.Stat(resumed); err == nil && r.Size() > p.Size() {
		return nil
	}
	return os.Rename(partial, resumed)
}

// object writes one object, or finds it there.
func (x *export) object(ctx context.Context, o *Object) error {
	line := exportLine(o)
	var was *ExportLine
	for _, m := range x.known {
		if l := m.find(o.Key); was == nil {
			was = l
		}
	}
	if was != nil && was.Path != "" && was.Version == o.Version && x.there(was) {
		line.Path = was.Path
		x.report.Skipped++
		return x.add(line)
	}
	if o.content.ssec.on() {
		line.Problem = "it is encrypted with a key of the client's"
		x.report.Damaged++
		return x.add(line)
	}
	path, err := x.write(ctx, o)
	switch {
	case CodeOf(err) == CodeNoSuchKey, errors.Is(err, errReplaced):
		return nil // it was deleted or replaced meanwhile
	case CodeOf(err) == CodeInternal:
		line.Problem = err.Error()
		x.report.Damaged++
		return x.add(line)
	case err != nil:
		return err
	}
	line.Path = path
	x.report.Objects++
	x.report.Bytes += o.Size
	return x.add(line)
}

func (x *export) there(l *ExportLine) bool {
	info, err := os.Lstat(filepath.Join(x.dir, l.Path))
	return err == nil && info.Mode().IsRegular() && info.Size() == l.Size && filepath.IsLocal(l.Path)
}

func exportLine(o *Object) *ExportLine {
	l := &ExportLine{Key: o.Key, Size: o.Size, ETag: o.ETag, Version: o.Version, Uploaded: o.Uploaded, StorageClass: o.StorageClass, HTTP: o.HTTP, Custom: o.Custom, Checksums: map[string]string{}}
	for _, k := range kinds() {
		if sum := o.Checksums.Of(k); sum != nil {
			l.Checksums[k] = fmt.Sprintf("%x", sum)
		}
	}
	return l
}

// plain tells whether a key can be a path below a directory.
func plain(key string) bool {
	for part := range strings.SplitSeq(key, "/") {
		if part == "" || part == "." || part == ".." || len(part) > maxPathPart {
			return false
		}
		if strings.ContainsFunc(part, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\\' }) {
			return false
		}
	}
	return true
}

// write copies an object to its file and returns the file's path below the directory.
func (x *export) write(ctx context.Context, o *Object) (path string, err error) {
	r, err := x.s.Get(ctx, x.b, o.Key, GetOptions{})
	if err != nil {
		return "", err
	}
	defer r.Body.Close()
	if r.Object.Version != o.Version {
		return "", errReplaced
	}
	if plain(o.Key) {
		path = filepath.Join(exportObjects, filepath.FromSlash(o.Key))
		err = x.writeFile(path, r.Body)
		if err == nil || !errors.Is(err, syscall.ENOTDIR) && !errors.Is(err, syscall.EISDIR) && !errors.Is(err, syscall.EEXIST) && !errors.Is(err, syscall.ENAMETOOLONG) {
			return path, err
		}
	}
	path = filepath.Join(exportEscaped, fmt.Sprintf("%x", sha256.Sum256([]byte(o.Key))))
	return path, x.writeFile(path, r.Body)
}

// writeFile makes a file as a whole.
func (x *export) writeFile(path string, body io.Reader) error {
	full := filepath.Join(x.dir, path)
	folder := filepath.Dir(full)
	if err := x.makeFolder(folder); err != nil {
		return err
	}
	if info, err := os.Lstat(full); err == nil && info.IsDir() {
		return syscall.EISDIR
	}
	f, err := os.CreateTemp(x.dir, "export-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if _, err := io.Copy(f, body); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), full); err != nil {
		return err
	}
	x.folders[folder] = true
	return nil
}

// makeFolder makes a folder and those above it, which then have to be synced.
func (x *export) makeFolder(folder string) error {
	err := os.Mkdir(folder, 0o700)
	if errors.Is(err, fs.ErrExist) {
		if info, err := os.Lstat(folder); err == nil && !info.IsDir() {
			return syscall.ENOTDIR
		}
		return nil
	}
	if errors.Is(err, fs.ErrNotExist) {
		if err := x.makeFolder(filepath.Dir(folder)); err != nil {
			return err
		}
		err = os.Mkdir(folder, 0o700)
	}
	x.folders[filepath.Dir(folder)] = true
	return err
}

func (x *export) add(l *ExportLine) error {
	b, err := json.Marshal(l)
	if err != nil {
		return err
	}
	if _, err := x.lines.Write(append(b, '\n')); err != nil {
		return err
	}
	if x.since++; x.since < exportSyncEvery {
		return nil
	}
	return x.sync()
}

// sync makes what was written durable: files have been synced, then their folders, then the manifest.
func (x *export) sync() error {
	x.since = 0
	for folder := range x.folders {
		f, err := os.Open(folder)
		if err != nil {
			return err
		}
		err = f.Sync()
		f.Close()
		if err != nil {
			return err
		}
	}
	clear(x.folders)
	if err := x.lines.Flush(); err != nil {
		return err
	}
	return x.out.Sync()
}

func (x *export) finish() error {
	if err := x.sync(); err != nil {
		return err
	}
	if err := os.Rename(x.out.Name(), filepath.Join(x.dir, exportManifest)); err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(x.dir, exportResumed)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	x.folders[x.dir] = true
	return x.sync()
}

func (x *export) close() {
	for _, m := range x.known {
		m.close()
	}
	x.out.Close()
}

// manifest is read in the order of its keys, beside the bucket.
type manifest struct {
	f    *os.File // nil: there is none
	r    *json.Decoder
	line *ExportLine // not looked for yet; nil at the end
}

func openManifest(path string) (*manifest, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return &manifest{}, nil
	}
	if err != nil {
		return nil, err
	}
	m := &manifest{f: f, r: json.NewDecoder(bufio.NewReader(f))}
	m.next()
	return m, nil
}

// next goes on; a line that a crash tore ends the manifest.
func (m *manifest) next() {
	m.line = &ExportLine{}
	if m.r.Decode(m.line) != nil {
		m.line = nil
	}
}

// find returns the line of a key, which is beyond those that were looked for before.
func (m *manifest) find(key string) *ExportLine {
	for m.line != nil && m.line.Key < key {
		m.next()
	}
	if m.line == nil || m.line.Key != key {
		return nil
	}
	return m.line
}

func (m *manifest) close() {
	if m.f != nil {
		m.f.Close()
	}
}
