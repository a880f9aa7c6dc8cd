package sqlite

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"selvage/engine/sqlite/raw"
	"selvage/foundation/fault"
)

// Store is the databases below one directory. Safe for concurrent use. Another process may hold the same directory while
// it takes over: a database belongs to whoever opened it until that one closes it.
type Store struct {
	o Options

	mu      sync.Mutex // guards the fields below
	open    map[string]*database
	changed chan struct{} // closed when a database was let go; nil while nobody waits
	closed  bool

	low  atomic.Bool    // the reserve is given up
	work sync.WaitGroup // archiving in the background
	gone context.CancelFunc
	life context.Context
}

const (
	trash      = ".trash"
	tableFile  = "database.sqlite"
	aboutFile  = "about.json"
	historyDir = "history"
	lockFile   = "lock"
)

// Open opens the store, whose directory is made if it does not exist. It opens no database.
func Open(o Options) (*Store, error) {
	o.MaxOpen = or(o.MaxOpen, 256)
	o.Readers = or(o.Readers, 4)
	o.Idle = or(o.Idle, time.Minute)
	o.Retention = or(o.Retention, 30*24*time.Hour)
	o.History = or(o.History, 1<<30)
	o.WAL = or(o.WAL, 4<<20)
	o.Snapshot = or(o.Snapshot, 16<<20)
	o.Memory = or(o.Memory, 1<<30)
	raw.LimitMemory(o.Memory)
	o.Limits = o.Limits.withDefaults()
	if err := os.MkdirAll(filepath.Join(o.Dir, trash), 0o700); err != nil {
		return nil, fmt.Errorf("open databases: %w", err)
	}
	s := &Store{o: o, open: map[string]*database{}}
	s.reserve()
	s.life, s.gone = context.WithCancel(context.Background())
	return s, nil
}

func or[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}

func (l Limits) withDefaults() Limits {
	l.Duration = or(l.Duration, 30*time.Second)
	l.DatabaseBytes = or(l.DatabaseBytes, 10_000_000_000)
	l.ResultBytes = or(l.ResultBytes, 64<<20)
	l.ValueBytes = or(l.ValueBytes, 2_000_000)
	l.SQLBytes = or(l.SQLBytes, 100_000)
	l.Params = or(l.Params, 100)
	l.Columns = or(l.Columns, 100)
	l.FunctionArgs = or(l.FunctionArgs, 32)
	l.LikeBytes = or(l.LikeBytes, 50)
	l.CompoundTerms = or(l.CompoundTerms, 5)
	l.ExprDepth = or(l.ExprDepth, 100)
	l.TriggerDepth = or(l.TriggerDepth, 10)
	return l
}

// about is what a database is beside its tables.
type about struct {
	ID      string    `json:"id"` // 16 random bytes; bookmarks carry a sum over it
	Created time.Time `json:"created"`
}

// Create makes an empty database. The name is one to three parts of letters, digits, - and _, with / between them.
func (s *Store) Create(_ context.Context, name string) error {
	dir, err := s.dir(name)
	if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(dir, aboutFile)); err == nil {
		return fault.New(fault.Conflict, "The database %s exists already.", name)
	}
	return s.place(name, func(_, _ string) error { return nil })
}

// place makes a database whose files fill writes, visible in one step.
func (s *Store) place(name string, fill func(dir, id string) error) error {
	dir, err := s.dir(name)
	if err != nil {
		return err
	}
	id := make([]byte, 16)
	rand.Read(id)
	making := filepath.Join(s.o.Dir, trash, hex.EncodeToString(id))
	if err := os.MkdirAll(filepath.Join(making, historyDir), 0o700); err != nil {
		return fmt.Errorf("create database: %w", err)
	}
	defer os.RemoveAll(making)
	text, err := json.Marshal(about{ID: hex.EncodeToString(id), Created: s.o.Clock.Now().UTC()})
	if err != nil {
		return fmt.Errorf("create database: %w", err)
	}
	if err := writeSynced(filepath.Join(making, aboutFile), text); err != nil {
		return fmt.Errorf("create database: %w", err)
	}
	if err := fill(making, hex.EncodeToString(id)); err != nil {
		return err
	}
	if err := makeDirs(s.o.Dir, filepath.Dir(dir)); err != nil {
		return fmt.Errorf("create database: %w", err)
	}
	if err := errors.Join(syncDir(filepath.Join(making, historyDir)), syncDir(making)); err != nil {
		return fmt.Errorf("create database: %w", err)
	}
	if err := os.Rename(making, dir); err != nil {
		if errors.Is(err, fs.ErrExist) || strings.Contains(err.Error(), "not empty") {
			return fault.New(fault.Conflict, "The database %s exists already.", name)
		}
		return fmt.Errorf("create database: %w", err)
	}
	return syncDir(filepath.Dir(dir))
}

// Exists reports whether there is a database of that name.
func (s *Store) Exists(name string) bool {
	dir, err := s.dir(name)
	if err != nil {
		return false
	}
	_, err = os.Stat(filepath.Join(dir, aboutFile))
	return err == nil
}

// Delete removes a database and its history; none of that name is no error. What runs on it ends first or is stopped
// when ctx ends.
func (s *Store) Delete(ctx context.Context, name string) error {
	dir, err := s.dir(name)
	if err != nil {
		return err
	}
	if !s.Exists(name) {
		return nil
	}
	release, err := s.alone(ctx, name)
	if err != nil && fault.KindOf(err) != fault.Internal {
		return err
	}
	if release != nil {
		defer release()
	}
	id := make([]byte, 16)
	rand.Read(id)
	old := filepath.Join(s.o.Dir, trash, hex.EncodeToString(id))
	if err := os.Rename(dir, old); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return fmt.Errorf("delete database %s: %w", name, err)
	}
	if err := syncDir(filepath.Dir(dir)); err != nil {
		return fmt.Errorf("delete database %s: %w", name, err)
	}
	return os.RemoveAll(old)
}

// Rename gives a database another name, with its history.
func (s *Store) Rename(ctx context.Context, from, to string) error {
	fromDir, err := s.dir(from)
	if err != nil {
		return err
	}
	toDir, err := s.dir(to)
	if err != nil {
		return err
	}
	if s.Exists(to) {
		return fault.New(fault.Conflict, "The database %s exists already.", to)
	}
	if !s.Exists(from) {
		return notFound(from)
	}
	release, err := s.alone(ctx, from)
	if err != nil {
		return err
	}
	defer release()
	if err := makeDirs(s.o.Dir, filepath.Dir(toDir)); err != nil {
		return fmt.Errorf("rename database %s: %w", from, err)
	}
	if err := os.Rename(fromDir, toDir); err != nil {
		return fmt.Errorf("rename database %s: %w", from, err)
	}
	return errors.Join(syncDir(filepath.Dir(toDir)), syncDir(filepath.Dir(fromDir)))
}

// Close ends what runs and closes every database. The store is not usable afterwards.
func (s *Store) Close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.gone()
	s.work.Wait()
	var all error
	for {
		d, wait := s.anyOpen()
		if d == nil && wait == nil {
			return all
		}
		if d == nil {
			<-wait
			continue
		}
		all = errors.Join(all, s.shut(d))
	}
}

// anyOpen takes an idle database to close, or tells when to look again; neither when none is open.
func (s *Store) anyOpen() (*database, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range s.open {
		if d.users == 0 && !d.closing {
			d.closing = true
			return d, nil
		}
	}
	if len(s.open) == 0 {
		return nil, nil
	}
	return nil, s.change()
}

// Maintain closes idle databases, archives what was written and prunes history, until ctx ends.
func (s *Store) Maintain(ctx context.Context) error {
	tick := time.NewTicker(max(s.o.Idle/4, 50*time.Millisecond))
	defer tick.Stop()
	daily := time.NewTicker(24 * time.Hour)
	defer daily.Stop()
	s.emptyTrash()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			s.tidy(ctx)
		case <-daily.C:
			s.emptyTrash()
			s.Prune(ctx)
		}
	}
}

// emptyTrash removes what a crash left of databases that were being made or deleted.
func (s *Store) emptyTrash() {
	dir := filepath.Join(s.o.Dir, trash)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		// Another process may be at work in there while it hands over.
		if info, err := e.Info(); err == nil && time.Since(info.ModTime()) > 24*time.Hour {
			os.RemoveAll(filepath.Join(dir, e.Name()))
		}
	}
}

// Prune removes history that is older than the retention, of databases that nobody writes as well. Maintain calls it every
// day.
func (s *Store) Prune(ctx context.Context) {
	old := s.o.Clock.Now().Add(-s.o.Retention)
	var due []string
	filepath.WalkDir(s.o.Dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || ctx.Err() != nil || e.Name() == trash {
			return filepath.SkipDir
		}
		if e.IsDir() || filepath.Ext(path) != segmentSuffix {
			return nil
		}
		if info, err := e.Info(); err == nil && info.ModTime().Before(old) {
			if name, err := filepath.Rel(s.o.Dir, filepath.Dir(filepath.Dir(path))); err == nil && !slices.Contains(due, name) {
				due = append(due, name)
			}
		}
		return nil
	})
	for _, name := range due {
		d, err := s.acquire(ctx, filepath.ToSlash(name))
		if err != nil {
			continue
		}
		if err := d.settle(ctx); err != nil && ctx.Err() == nil {
			s.o.Observe.Logger().Error("prune history", "name", name, "error", err)
		}
		s.release(d)
	}
}

func (s *Store) tidy(ctx context.Context) {
	s.reserve()
	now := time.Now()
	var idle, dirty []*database
	s.mu.Lock()
	for _, d := range s.open {
		switch {
		case d.closing || !d.opened:
		case d.users == 0 && now.Sub(d.used) > s.o.Idle:
			d.closing = true
			idle = append(idle, d)
		case d.dirty.Load():
			d.users++
			dirty = append(dirty, d)
		}
	}
	s.mu.Unlock()
	for _, d := range idle {
		if err := s.shut(d); err != nil {
			s.o.Observe.Logger().Error("close database", "name", d.name, "error", err)
		}
	}
	for _, d := range dirty {
		if err := d.settle(ctx); err != nil && ctx.Err() == nil {
			s.o.Observe.Logger().Error("archive database", "name", d.name, "error", err)
		}
		s.release(d)
	}
}

var part = regexp.MustCompile(`^[A-Za-z0-9_-]{1,100}$`)

// dir returns where the database of that name lies.
func (s *Store) dir(name string) (string, error) {
	parts := strings.Split(name, "/")
	if len(parts) > 3 {
		return "", fault.New(fault.Invalid, "The name of a database has one to three parts.")
	}
	for _, p := range parts {
		if !part.MatchString(p) {
			return "", fault.New(fault.Invalid, "The name of a database is made of letters, digits, - and _ with / between its parts; %.60q is not.", name)
		}
	}
	return filepath.Join(append([]string{s.o.Dir}, parts...)...), nil
}

func notFound(name string) error {
	return fault.New(fault.NotFound, "There is no database %s.", name)
}

func writeSynced(path string, text []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Sync(), f.Close())
}

// makeDirs makes dir and what is missing between root and it, durably.
func makeDirs(root, dir string) error {
	if _, err := os.Stat(dir); err == nil || dir == root {
		return nil
	}
	if err := makeDirs(root, filepath.Dir(dir)); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncDir(filepath.Dir(dir))
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
