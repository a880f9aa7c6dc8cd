package rollout

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"selvage/spec"
)

const (
	saveDelay    = time.Second      // changes of at least this long are written at once
	maxSaveDelay = 30 * time.Second // and of at most this long, however slow the disk is
	saveShare    = 20               // writing may take one part in so many of the time
	retrySave    = 10 * time.Second // pause after a failed write
	keepOrphan   = time.Hour        // a file of another process is kept, an index may be about to name it

	maxWriters    = 8
	maxIndexBytes = 256 << 20
	indexMagic    = "selvage last good 1 "
)

// disk holds the last good snapshot: a file per zone, named by its checksum, so that a change writes
// the changed zones only; and an index that names them, of which the one before is kept too.
type disk struct {
	dir   string
	log   *slog.Logger
	dirty chan struct{} // has its slot taken while there is something to write

	mu   sync.Mutex // guards next
	next *spec.Snapshot

	writing sync.Mutex          // held by flush; guards the fields below
	files   map[string]zoneFile // where each zone lies, by zone ID
	written map[string]bool     // files that this process made or found as they should be
}

// zoneFile is where a zone lies on disk.
type zoneFile struct {
	config *spec.ZoneConfig
	name   string
}

// index is the file that names all others.
type index struct {
	Snapshot *spec.Snapshot    // without its zones
	Files    map[string]string // zone ID to name of the zone's file
}

func newDisk(dir string, log *slog.Logger) *disk {
	return &disk{dir: dir, log: log, dirty: make(chan struct{}, 1), files: map[string]zoneFile{}, written: map[string]bool{}}
}

func (d *disk) newest() string   { return filepath.Join(d.dir, "good") }
func (d *disk) previous() string { return filepath.Join(d.dir, "good.previous") }

// save has s written by the next flush.
func (d *disk) save(s *spec.Snapshot) {
	d.mu.Lock()
	d.next = s
	d.mu.Unlock()
	d.mark()
}

func (d *disk) mark() {
	select {
	case d.dirty <- struct{}{}:
	default:
	}
}

// again has the next flush come after a pause.
func (d *disk) again(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(retrySave):
	}
	d.mark()
}

func (d *disk) pending() *spec.Snapshot {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.next
}

// delay returns how long changes are gathered if the last write took so long.
func delay(took time.Duration) time.Duration {
	return min(max(saveShare*took, saveDelay), maxSaveDelay)
}

// flush writes what save was given last. When it returns nil, that survives a power cut.
func (d *disk) flush() error {
	d.writing.Lock()
	defer d.writing.Unlock()
	s := d.pending()
	if s == nil {
		return nil
	}
	if err := d.write(s); err != nil {
		return fmt.Errorf("write the last good snapshot below %s: %w", d.dir, err)
	}
	d.mu.Lock()
	if d.next == s {
		d.next = nil
	}
	d.mu.Unlock()
	return nil
}

func (d *disk) write(s *spec.Snapshot) error {
	head := *s
	head.Zones = nil
	ix := index{Snapshot: &head, Files: make(map[string]string, len(s.Zones))}
	files := make(map[string]zoneFile, len(s.Zones))
	var writers errgroup.Group // filesystems make many syncs at once into few
	writers.SetLimit(maxWriters)
	for id, z := range s.Zones {
		f := d.files[id]
		if f.config != z {
			body, err := json.Marshal(z)
			if err != nil {
				return errors.Join(fmt.Errorf("encode zone %s: %w", id, err), writers.Wait())
			}
			f = zoneFile{z, nameOf(body)}
			d.written[f.name] = true
			writers.Go(func() error { return d.writeZone(f.name, body) })
		}
		files[id] = f
		ix.Files[id] = f.name
	}
	if err := writers.Wait(); err != nil {
		return err
	}
	body, err := json.Marshal(ix)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(body)
	header := indexMagic + hex.EncodeToString(sum[:]) + "\n"
	tmp, err := writeSynced(d.dir, append([]byte(header), body...))
	if err != nil {
		return err
	}
	if err := d.keepPrevious(); err != nil {
		return err
	}
	if err := os.Rename(tmp, d.newest()); err != nil {
		return err
	}
	if err := syncDir(d.dir); err != nil {
		return err
	}
	d.files = files
	d.sweep(ix)
	return nil
}

// writeZone writes a zone's file unless there is one with the same content. The directory is synced
// with the index, which is the first to name this file.
func (d *disk) writeZone(name string, body []byte) error {
	if _, err := d.readFile(name); err == nil {
		return nil
	}
	tmp, err := writeSynced(d.dir, body)
	if err != nil {
		return err
	}
	return os.Rename(tmp, filepath.Join(d.dir, name))
}

func nameOf(body []byte) string {
	sum := sha256.Sum256(body)
	return "zone-" + hex.EncodeToString(sum[:])
}

// keepPrevious keeps the newest index under its other name, without a moment at which there is none.
func (d *disk) keepPrevious() error {
	link := d.previous() + ".tmp"
	if err := os.Remove(link); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	err := os.Link(d.newest(), link)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return os.Rename(link, d.previous())
}

// sweep removes files that neither index names; what stays behind harms nobody.
func (d *disk) sweep(newest index) {
	named := map[string]bool{}
	previous, err := readIndex(d.previous())
	if err != nil {
		return
	}
	for _, ix := range []index{newest, previous} {
		for _, name := range ix.Files {
			named[name] = true
		}
	}
	entries, _ := os.ReadDir(d.dir)
	for _, e := range entries {
		name := e.Name()
		if named[name] || !bytes.HasPrefix([]byte(name), []byte("zone-")) && !bytes.HasPrefix([]byte(name), []byte("tmp-")) {
			continue
		}
		info, err := e.Info()
		if d.written[name] || err == nil && time.Since(info.ModTime()) > keepOrphan {
			os.Remove(filepath.Join(d.dir, name))
			delete(d.written, name)
		}
	}
}

// load reads the newest snapshot that is whole; if neither is, the newest without its broken zones.
func (d *disk) load() (*spec.Snapshot, error) {
	var faults []error
	for _, strict := range []bool{true, false} {
		for _, path := range []string{d.newest(), d.previous()} {
			s, err := d.read(path, strict)
			if err == nil {
				return s, nil
			}
			if strict && !errors.Is(err, os.ErrNotExist) {
				d.log.Error("last good snapshot is damaged, trying an older one", "path", path, "error", err)
			}
			faults = append(faults, err)
		}
	}
	for _, err := range faults {
		if !errors.Is(err, os.ErrNotExist) {
			return nil, errors.Join(faults[:2]...)
		}
	}
	return nil, nil
}

// read reads the snapshot that an index names; unless strict, without the zones that are damaged.
func (d *disk) read(path string, strict bool) (*spec.Snapshot, error) {
	ix, err := readIndex(path)
	if err != nil {
		return nil, err
	}
	s := ix.Snapshot
	s.Zones = make(map[string]*spec.ZoneConfig, len(ix.Files))
	for id, name := range ix.Files {
		z, err := d.readZone(id, name)
		if err == nil {
			s.Zones[id] = z
			continue
		}
		if strict {
			return nil, fmt.Errorf("zone %s: %v", id, err) // not %w: a missing zone is damage
		}
		d.log.Error("zone is damaged in the last good snapshot and left out", "zone", id, "error", err)
	}
	return s, nil
}

func readIndex(path string) (index, error) {
	var ix index
	text, err := readBounded(path)
	if err != nil {
		return ix, err
	}
	header, body, _ := bytes.Cut(text, []byte("\n"))
	sum := sha256.Sum256(body)
	if string(header) != indexMagic+hex.EncodeToString(sum[:]) {
		return ix, fmt.Errorf("%s is damaged: its checksum is wrong", path)
	}
	if err := json.Unmarshal(body, &ix); err != nil {
		return ix, err
	}
	if ix.Snapshot == nil {
		return ix, fmt.Errorf("%s holds no snapshot", path)
	}
	return ix, nil
}

// readFile reads a zone's file and holds its content against its name.
func (d *disk) readFile(name string) ([]byte, error) {
	if filepath.Base(name) != name {
		return nil, fmt.Errorf("%q is not the name of a zone's file", name)
	}
	body, err := readBounded(filepath.Join(d.dir, name))
	if err != nil {
		return nil, err
	}
	if name != nameOf(body) {
		return nil, fmt.Errorf("%s is damaged: its checksum is wrong", name)
	}
	return body, nil
}

func (d *disk) readZone(id, name string) (*spec.ZoneConfig, error) {
	body, err := d.readFile(name)
	if err != nil {
		return nil, err
	}
	z := &spec.ZoneConfig{}
	if err := json.Unmarshal(body, z); err != nil {
		return nil, err
	}
	if z.Zone == nil || z.Settings == nil || z.Zone.ID != id {
		return nil, fmt.Errorf("%s does not hold zone %s", name, id)
	}
	return z, nil
}

func readBounded(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxIndexBytes {
		return nil, fmt.Errorf("%s has %d bytes, the limit is %d", path, info.Size(), maxIndexBytes)
	}
	return os.ReadFile(path)
}

// writeSynced writes a temporary file whose content is on disk when it returns.
func writeSynced(dir string, data []byte) (path string, err error) {
	f, err := os.CreateTemp(dir, "tmp-*")
	if err != nil {
		return "", err
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		os.Remove(f.Name())
	}
	return f.Name(), err
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
