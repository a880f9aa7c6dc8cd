package storage

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"selvage/edge"
	"selvage/product/cache/semantics"
)

// disk is the second tier: a file for each response, named by key and variant, found through an
// index in memory that is rebuilt from the names at start. Nothing is synced; what a crash tears
// is recognised by its checksums and dropped.
type disk struct {
	dir     string
	limit   int64 // bytes, where the disk has room for them
	space   func(dir string) (free, total int64, err error)
	purges  *purges
	evicted atomic.Uint64
	damaged atomic.Uint64 // files dropped because a checksum did not fit
	failed  atomic.Uint64 // writes that failed
	counter atomic.Uint64 // of temporary files
	spilled atomic.Int64  // bytes of fills that are under way

	now func() time.Time

	pausedUntil atomic.Int64 // Unix nanoseconds: no writes before, the disk is full or broken
	released    atomic.Bool  // another process owns the folder now: no more writes or removals
	indexed     atomic.Bool  // whether the index is complete

	mu     sync.Mutex // guards the fields below
	keys   map[Key][]*file
	policy policy[*file]
	gone   []*file // evicted, to be unlinked once mu is free
}

// file is what the index knows of one response.
type file struct {
	entry    entry[*file]
	name     name
	verified atomic.Bool
	purges   atomic.Uint64 // purges up to here do not concern it
}

// name is what a file is called by. The stamp, nanoseconds of when it was finished, gives every
// file a name of its own: who holds the head of an older one can never read the body of a newer.
type name struct {
	key     Key
	variant uint64
	stamp   uint64
}

func (n *name) String() string {
	return fmt.Sprintf("%s-%016x-%016x", hex.EncodeToString(n.key[:]), n.variant, n.stamp)
}

func parseName(s string) (n name, ok bool) {
	parts := strings.Split(s, "-")
	if len(parts) != 3 || len(parts[0]) != 2*len(n.key) {
		return n, false
	}
	_, err1 := hex.Decode(n.key[:], []byte(parts[0]))
	var err2, err3 error
	n.variant, err2 = strconv.ParseUint(parts[1], 16, 64)
	n.stamp, err3 = strconv.ParseUint(parts[2], 16, 64)
	return n, err1 == nil && err2 == nil && err3 == nil
}

const (
	// pause is how long nothing is written after a write failed.
	pause = 5 * time.Second
	// block is what a file system allocates by: files are counted in whole ones.
	block = 4096
)

// errPaused says that nothing is written now because a write failed lately or the disk is too full.
var errPaused = errors.New("disk tier is paused after a failed write, or its disk too full")

func openDisk(o Options, p *purges) (*disk, error) {
	d := &disk{dir: o.Dir, limit: o.DiskBytes, space: diskSpace, purges: p, keys: map[Key][]*file{}, now: o.Now}
	d.policy.limit = o.DiskBytes
	d.policy.evict = func(e *entry[*file]) {
		d.evicted.Add(1)
		d.unlist(e.value)
		d.gone = append(d.gone, e.value)
	}
	return d, errors.Join(os.MkdirAll(filepath.Join(o.Dir, "objects"), 0o700), os.MkdirAll(d.temporary(), 0o700))
}

func (d *disk) temporary() string { return filepath.Join(d.dir, "filling") }

func (d *disk) path(n *name) string {
	s := n.String()
	return filepath.Join(d.dir, "objects", s[:2], s)
}

// create opens a new temporary file for n bytes or more.
func (d *disk) create(n int64) (*os.File, error) {
	if !d.writable() || !d.makeRoom(n) {
		return nil, errPaused
	}
	name := strconv.Itoa(os.Getpid()) + "-" + strconv.FormatUint(d.counter.Add(1), 10)
	f, err := os.OpenFile(filepath.Join(d.temporary(), name), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		d.fail()
	}
	return f, err
}

// reserve makes room for n more octets of fills under way: together they may take a quarter of the
// tier beside what it holds.
func (d *disk) reserve(n int64) bool {
	if !d.makeRoom(n) {
		return false
	}
	if d.spilled.Add(n) > d.limit/4 {
		d.spilled.Add(-n)
		return false
	}
	return true
}

// fail counts a failed write and stops writing for a while: a full disk must not cost every
// request an attempt.
func (d *disk) fail() {
	d.failed.Add(1)
	d.pausedUntil.Store(d.now().Add(pause).UnixNano())
}

func (d *disk) writable() bool {
	return !d.released.Load() && d.now().UnixNano() >= d.pausedUntil.Load()
}

// finish makes a temporary file that holds the body of m an object of the tier: head and trailer
// are appended, then it is renamed into place. On failure the file is removed.
func (d *disk) finish(f *os.File, m *Meta) (*Object, error) {
	tail := trailer(m)
	_, err := f.Write(tail)
	if err == nil && d.released.Load() {
		err = errPaused
	}
	n := name{m.Key, m.variant(), uint64(d.now().UnixNano())}
	path := d.path(&n)
	if err == nil {
		err = d.rename(f.Name(), path)
	}
	if err != nil {
		d.discard(f)
		if !errors.Is(err, errPaused) {
			d.fail()
		}
		return nil, err
	}
	size := m.Length + int64(len(tail))
	d.fit(size)
	indexed := d.insert(n, size)
	indexed.verified.Store(true)
	o := &Object{Meta: m, disk: d, verified: &indexed.verified}
	o.path.Store(&path)
	return o, nil
}

// rename puts a file into its folder, which is made when it is first needed.
func (d *disk) rename(from, to string) error {
	err := os.Rename(from, to)
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Mkdir(filepath.Dir(to), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return os.Rename(from, to)
}

// discard removes a temporary file; whoever reads from f may go on.
func (d *disk) discard(f *os.File) { os.Remove(f.Name()) }

// insert notes a file in the index, in the place of an older one of the same variant, and evicts
// what has to go for it.
func (d *disk) insert(called name, size int64) *file {
	n := &file{name: called}
	n.entry.value = n
	n.entry.id = called.variant ^ binary.LittleEndian.Uint64(called.key[8:])
	n.entry.cost = (size + block - 1) / block * block
	d.mu.Lock()
	list := d.keys[called.key]
	for i, old := range list {
		if same := old.name.variant == called.variant; same || len(list) >= maxVariants && i == 0 {
			d.policy.remove(&old.entry)
			d.unlist(old)
			d.gone = append(d.gone, old)
			break
		}
	}
	d.keys[called.key] = append(d.keys[called.key], n)
	d.policy.add(&n.entry)
	gone := d.gone
	d.gone = nil
	d.mu.Unlock()
	d.unlink(gone)
	return n
}

// unlist takes a file off its key's list; d.mu is held.
func (d *disk) unlist(n *file) {
	list := d.keys[n.name.key]
	for i, other := range list {
		if other == n {
			list = append(list[:i:i], list[i+1:]...)
			break
		}
	}
	if len(list) == 0 {
		delete(d.keys, n.name.key)
		return
	}
	d.keys[n.name.key] = list
}

// unlink removes files, unless another process owns them by now.
func (d *disk) unlink(files []*file) {
	if d.released.Load() {
		return
	}
	for _, n := range files {
		os.Remove(d.path(&n.name))
	}
}

// lookup finds the newest response of a key that request selects, or nil.
func (d *disk) lookup(key *Key, request *edge.Header) *Object {
	d.mu.Lock()
	list := append([]*file(nil), d.keys[*key]...)
	d.mu.Unlock()
	for i := len(list) - 1; i >= 0; i-- {
		n := list[i]
		o, err := d.load(n)
		if err != nil {
			d.drop(n)
			continue
		}
		if d.purges.covers(o.Meta, &n.purges) {
			d.remove([]*file{n})
			continue
		}
		if semantics.Selects(o.Vary, o.Selected, request) {
			n.entry.touch()
			return o
		}
	}
	return nil
}

// drop forgets a file that cannot be read or whose checksums do not fit.
func (d *disk) drop(n *file) {
	d.damaged.Add(1)
	d.remove([]*file{n})
}

// remove takes files out of index and folder.
func (d *disk) remove(files []*file) {
	d.mu.Lock()
	for _, n := range files {
		d.policy.remove(&n.entry)
		d.unlist(n)
	}
	d.mu.Unlock()
	d.unlink(files)
}

// removeVariant takes one variant of a key out.
func (d *disk) removeVariant(key *Key, variant uint64) {
	d.mu.Lock()
	var found []*file
	for _, n := range d.keys[*key] {
		if n.name.variant == variant {
			found = append(found, n)
		}
	}
	d.mu.Unlock()
	d.remove(found)
}

// removeKey takes every variant of a key out.
func (d *disk) removeKey(key *Key) {
	d.mu.Lock()
	list := append([]*file(nil), d.keys[*key]...)
	d.mu.Unlock()
	d.remove(list)
}

// rebuild fills the index from the folder's names and sizes. What is served meanwhile and not yet
// listed is fetched again. It also clears away what earlier processes left half-filled.
func (d *disk) rebuild(stop <-chan struct{}) error {
	defer d.indexed.Store(true)
	own := strconv.Itoa(os.Getpid()) + "-"
	left, _ := os.ReadDir(d.temporary())
	for _, e := range left {
		if !strings.HasPrefix(e.Name(), own) {
			os.Remove(filepath.Join(d.temporary(), e.Name()))
		}
	}
	return filepath.WalkDir(filepath.Join(d.dir, "objects"), func(path string, e fs.DirEntry, err error) error {
		select {
		case <-stop:
			return filepath.SkipAll
		default:
		}
		if err != nil || e.IsDir() {
			return nil
		}
		info, err := e.Info()
		if err != nil {
			return nil
		}
		if n, ok := parseName(e.Name()); !ok || !d.adopt(n, info.Size()) {
			os.Remove(path)
		}
		return nil
	})
}

// adopt indexes a file found in the folder; false means that there is a newer one of its variant.
func (d *disk) adopt(n name, size int64) bool {
	d.mu.Lock()
	for _, other := range d.keys[n.key] {
		if other.name.variant == n.variant && other.name.stamp >= n.stamp {
			d.mu.Unlock()
			return other.name.stamp == n.stamp
		}
	}
	d.mu.Unlock()
	d.insert(n, size)
	return true
}

// files returns every file of the index.
func (d *disk) files() []*file {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := make([]*file, 0, len(d.keys))
	for _, list := range d.keys {
		out = append(out, list...)
	}
	return out
}

// size returns bytes and objects held.
func (d *disk) size() (bytes, objects int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.policy.used, int64(d.policy.small.n + d.policy.main.n)
}
