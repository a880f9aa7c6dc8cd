package sqlite

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	lib "modernc.org/sqlite/lib"

	"golang.org/x/sys/unix"

	"selvage/engine/sqlite/raw"
	"selvage/foundation/fault"
)

const pageSize = 4096

// database is an open database: one connection that writes, some that read, and its history.
type database struct {
	s         *Store
	name, dir string

	tenancy // guarded by Store.mu

	ready   chan struct{} // closed when start is over
	failure error         // of start
	ending  atomic.Bool   // somebody wants it closed: stop what runs
	dirty   atomic.Bool   // there are commits that history does not hold

	about  about
	lock   *os.File
	pages  *os.File      // the database file, held open to the end: closing it would drop SQLite's locks
	turn   chan struct{} // holds one token: whoever took it may use writer and history
	writer *conn
	hist   *history

	lastRowID atomic.Int64 // of the writer
	seq       atomic.Uint64
	mark      atomic.Pointer[marked] // the bookmark of seq

	reading chan struct{} // a token for each reader in use
	idle    idle
	settles atomic.Bool // settle runs in the background
}

// idle is the readers that wait for work.
type idle struct {
	mu    sync.Mutex // guards the field below
	conns []*conn
}

// tenancy is what a Store knows of the use of a database.
type tenancy struct {
	users           int
	used            time.Time // when it was asked last
	opened, closing bool
}

// start opens the files. It waits for a process that still holds them, at most ten seconds.
func (d *database) start(ctx context.Context) error {
	text, err := os.ReadFile(filepath.Join(d.dir, aboutFile))
	if err != nil {
		return fmt.Errorf("open database %s: %w", d.name, err)
	}
	if err := json.Unmarshal(text, &d.about); err != nil {
		return fmt.Errorf("open database %s: %s: %w", d.name, aboutFile, err)
	}
	if d.lock, err = lockDir(ctx, d.dir); err != nil {
		return fmt.Errorf("open database %s: %w", d.name, err)
	}
	d.turn = make(chan struct{}, 1)
	d.reading = make(chan struct{}, d.s.o.Readers)
	err = d.openFiles()
	if err != nil && d.s.giveUpReserve(err) {
		err = d.openFiles()
	}
	if err != nil {
		d.lock.Close()
		return fmt.Errorf("open database %s: %w", d.name, err)
	}
	d.turn <- struct{}{}
	return nil
}

func (d *database) openFiles() error {
	_, err := os.Stat(d.file())
	fresh := errors.Is(err, os.ErrNotExist)
	if d.hist, err = openHistory(filepath.Join(d.dir, historyDir), d.about.ID, d.s.o); err != nil {
		return err
	}
	commits, err := d.hist.recover(d.file())
	if err != nil {
		d.hist.close()
		return err
	}
	d.dirty.Store(commits > 0)
	d.seq.Store(d.hist.seq())
	if d.writer, err = d.connect(true); err != nil {
		d.hist.close()
		return err
	}
	d.writer.raw.OnCommit(d.committed)
	if d.pages, err = os.Open(d.file()); err == nil && fresh {
		err = syncDir(d.dir)
	}
	if err != nil {
		d.writer.close()
		d.hist.close()
	}
	return err
}

// mend opens the writing connection anew after it failed to roll back. The turn is held.
func (d *database) mend() {
	c, err := d.connect(true)
	if err != nil {
		d.s.o.Observe.Logger().Error("open the writer anew", "name", d.name, "error", err)
		return
	}
	d.writer.close()
	d.writer = c
	c.raw.OnCommit(d.committed)
}

// atLimit reports that a write failed for the owner's limit: the disk has room.
func (d *database) atLimit() bool {
	var fs unix.Statfs_t
	return unix.Statfs(d.dir, &fs) == nil && int64(fs.Bavail)*fs.Bsize > 4<<20
}

func (d *database) file() string { return filepath.Join(d.dir, tableFile) }

// committed notes a transaction that is in the WAL, up to that frame. The writer's turn is held.
func (d *database) committed(frames int) {
	d.hist.note(frames, d.s.o.Clock.Now())
	d.seq.Store(d.hist.seq())
	d.dirty.Store(true)
}

// connect opens a connection with everything that guards it.
func (d *database) connect(writer bool) (*conn, error) {
	flags := raw.OpenReadWrite
	if writer {
		flags |= raw.OpenCreate
	}
	r, err := raw.Open(d.file(), flags)
	if err != nil {
		return nil, err
	}
	c := &conn{d: d, raw: r, cache: map[string]*prepared{}}
	if err := c.guard(writer); err != nil {
		r.Close()
		return nil, err
	}
	return c, nil
}

// stop closes the connections after history holds everything.
func (d *database) stop() error {
	if d.failure != nil {
		return nil
	}
	<-d.turn
	err := d.archive()
	clean := err == nil && !d.dirty.Load()
	d.idle.mu.Lock()
	for _, c := range d.idle.conns {
		err = errors.Join(err, c.close())
	}
	d.idle.conns = nil
	d.idle.mu.Unlock()
	if clean {
		// The last connection may tidy the WAL away: history holds what it held.
		err = errors.Join(err, d.writer.raw.Configure(lib.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false))
	}
	return errors.Join(err, d.writer.close(), d.pages.Close(), d.hist.close(), d.lock.Close())
}

// takeTurn waits for the right to write.
func (d *database) takeTurn(ctx context.Context) error {
	select {
	case <-d.turn:
		return nil
	default:
	}
	late := time.NewTimer(d.s.o.Limits.Duration)
	defer late.Stop()
	select {
	case <-d.turn:
		return nil
	case <-late.C:
		return ErrOverloaded
	case <-ctx.Done():
		return overloaded(ctx)
	}
}

func (d *database) giveTurn() { d.turn <- struct{}{} }

func (d *database) readerTurn(ctx context.Context) error {
	select {
	case d.reading <- struct{}{}:
		return nil
	default:
	}
	late := time.NewTimer(d.s.o.Limits.Duration)
	defer late.Stop()
	select {
	case d.reading <- struct{}{}:
		return nil
	case <-late.C:
		return ErrOverloaded
	case <-ctx.Done():
		return overloaded(ctx)
	}
}

// reader returns a connection for reading. Give it back with giveReader.
func (d *database) reader(ctx context.Context) (*conn, error) {
	if err := d.readerTurn(ctx); err != nil {
		return nil, err
	}
	d.idle.mu.Lock()
	if n := len(d.idle.conns); n > 0 {
		c := d.idle.conns[n-1]
		d.idle.conns = d.idle.conns[:n-1]
		d.idle.mu.Unlock()
		return c, nil
	}
	d.idle.mu.Unlock()
	c, err := d.connect(false)
	if err != nil {
		<-d.reading
		return nil, err
	}
	return c, nil
}

func (d *database) giveReader(c *conn) {
	if c.broken {
		c.close()
	} else {
		d.idle.mu.Lock()
		d.idle.conns = append(d.idle.conns, c)
		d.idle.mu.Unlock()
	}
	<-d.reading
}

// lockDir takes the lock that tells processes apart, which goes with the process.
func lockDir(ctx context.Context, dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			f.Close()
			return nil, err
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, fault.New(fault.Unavailable, "The database is held by another process of this node: try again.")
		case <-time.After(10 * time.Millisecond):
		}
	}
}
