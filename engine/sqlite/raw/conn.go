// Package raw is a thin door to SQLite in pure Go (modernc.org/sqlite/lib, which zombiezen.com/go/sqlite stands on too):
// what the engine needs of SQLite's C interface and no more. It is made for one writer of wrappers, engine/sqlite;
// nothing here decides anything.
package raw

import (
	"fmt"
	"runtime"
	"sync"
	"unsafe"

	"modernc.org/libc"
	lib "modernc.org/sqlite/lib"
)

// Version is SQLite's.
const Version = lib.SQLITE_VERSION

// Conn is a connection. Only one goroutine may use it at a time, but for Interrupt.
type Conn struct {
	tls  *libc.TLS
	db   uintptr
	pins runtime.Pinner // SQLite's callbacks carry this Conn's address

	authorize func(Action) bool
	progress  func() bool
	committed func(frames int)
	recovered any // a panic of a callback, which must not unwind SQLite
}

// Open opens the file at path. flags is SQLITE_OPEN_...: OpenReadWrite, OpenCreate, OpenReadOnly.
func Open(path string, flags int32) (*Conn, error) {
	c := &Conn{tls: libc.NewTLS()}
	start(c.tls)
	name, err := libc.CString(path)
	if err != nil {
		c.tls.Close()
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	defer libc.Xfree(c.tls, name)
	out := c.tls.Alloc(8)
	defer c.tls.Free(8)
	code := lib.Xsqlite3_open_v2(c.tls, name, out, flags|lib.SQLITE_OPEN_NOMUTEX|lib.SQLITE_OPEN_EXRESCODE, 0)
	c.db = *at[uintptr](out)
	if code != lib.SQLITE_OK {
		err := c.errorOf(code)
		lib.Xsqlite3_close_v2(c.tls, c.db)
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	c.pins.Pin(c)
	return c, nil
}

// start readies SQLite, once in a process. It keeps account of its memory, which LimitMemory needs.
var start = func() func(*libc.TLS) {
	var once sync.Once
	return func(tls *libc.TLS) {
		once.Do(func() {
			args := libc.NewVaList(int32(1))
			lib.Xsqlite3_config(tls, lib.SQLITE_CONFIG_MEMSTATUS, args)
			libc.Xfree(tls, args)
			lib.Xsqlite3_initialize(tls)
		})
	}
}()

// LimitMemory bounds what SQLite allocates in this process, for all connections together. Whoever asks for more is told
// that there is no memory.
func LimitMemory(bytes int64) {
	tls := libc.NewTLS()
	defer tls.Close()
	start(tls)
	lib.Xsqlite3_hard_heap_limit64(tls, bytes)
}

// MemoryUsed returns how many bytes SQLite has allocated in this process, for all connections together.
func (c *Conn) MemoryUsed() int64 { return lib.Xsqlite3_memory_used(c.tls) }

// KeepConstantsLocal has programs compute a constant where it is used, not once for all before: there a statement could
// hold thousands of large ones at once.
func (c *Conn) KeepConstantsLocal() {
	at[lib.Tsqlite3](c.db).FdbOptFlags |= lib.SQLITE_FactorOutConst
}

// What Open does with the file.
const (
	OpenReadOnly  int32 = lib.SQLITE_OPEN_READONLY
	OpenReadWrite int32 = lib.SQLITE_OPEN_READWRITE
	OpenCreate    int32 = lib.SQLITE_OPEN_CREATE
)

// Close closes the connection, whose statements must be finalized.
func (c *Conn) Close() error {
	code := lib.Xsqlite3_close(c.tls, c.db)
	if code != lib.SQLITE_OK {
		return c.errorOf(code)
	}
	c.tls.Close()
	c.db = 0
	c.pins.Unpin()
	return nil
}

// Interrupt stops the statements that are running. Any goroutine may call it while the connection is open.
func (c *Conn) Interrupt() { lib.Xsqlite3_interrupt(c.tls, c.db) }

// Autocommit reports that no transaction is open.
func (c *Conn) Autocommit() bool { return lib.Xsqlite3_get_autocommit(c.tls, c.db) != 0 }

// TotalChanges returns the rows changed since the connection was opened, by triggers as well.
func (c *Conn) TotalChanges() int64 { return lib.Xsqlite3_total_changes64(c.tls, c.db) }

// Changes returns the rows that the statement that ended last changed itself, without its triggers.
func (c *Conn) Changes() int64 { return lib.Xsqlite3_changes64(c.tls, c.db) }

// LastInsertRowID returns the rowid that was inserted last.
func (c *Conn) LastInsertRowID() int64 { return lib.Xsqlite3_last_insert_rowid(c.tls, c.db) }

// Limit sets a SQLITE_LIMIT_... and returns what it was; a negative value only asks.
func (c *Conn) Limit(id, value int32) int32 { return lib.Xsqlite3_limit(c.tls, c.db, id, value) }

// Configure sets a SQLITE_DBCONFIG_... that takes a boolean.
func (c *Conn) Configure(option int32, on bool) error {
	value := int32(0)
	if on {
		value = 1
	}
	args := libc.NewVaList(value, uintptr(0))
	if args == 0 {
		return &Error{Code: lib.SQLITE_NOMEM, Message: "out of memory", Offset: -1}
	}
	defer libc.Xfree(c.tls, args)
	return c.check(lib.Xsqlite3_db_config(c.tls, c.db, option, args))
}

// Checkpoint moves the WAL into the database file; mode is SQLITE_CHECKPOINT_.... It returns the frames in the WAL and
// those moved.
func (c *Conn) Checkpoint(mode int32) (frames, moved int, err error) {
	out := c.tls.Alloc(16)
	defer c.tls.Free(16)
	code := lib.Xsqlite3_wal_checkpoint_v2(c.tls, c.db, 0, mode, out, out+8)
	return int(*at[int32](out)), int(*at[int32](out + 8)), c.check(code)
}

// CopyFrom makes the main database what src's is, in one transaction. Both must be idle.
func (c *Conn) CopyFrom(src *Conn, stop func() error) error {
	main, err := libc.CString("main")
	if err != nil {
		return err
	}
	defer libc.Xfree(c.tls, main)
	b := lib.Xsqlite3_backup_init(c.tls, c.db, main, src.db, main)
	if b == 0 {
		return c.errorOf(lib.Xsqlite3_extended_errcode(c.tls, c.db))
	}
	for {
		code := lib.Xsqlite3_backup_step(c.tls, b, 256)
		if code == lib.SQLITE_OK {
			if err = stop(); err == nil {
				continue
			}
		} else if code != lib.SQLITE_DONE {
			err = c.errorOf(code)
		}
		if code := lib.Xsqlite3_backup_finish(c.tls, b); err == nil && code != lib.SQLITE_OK {
			err = c.errorOf(code)
		}
		return err
	}
}

// check returns the error of a result code, if it is one.
func (c *Conn) check(code int32) error {
	if code == lib.SQLITE_OK {
		return nil
	}
	return c.errorOf(code)
}

// at reads SQLite's memory at p as a T.
func at[T any](p uintptr) *T { return *(**T)(unsafe.Pointer(&p)) }

// function returns the address of a declared function, as SQLite's translation calls it.
func function[F any](f F) uintptr { return *(*uintptr)(unsafe.Pointer(&struct{ f F }{f})) }

// address returns c for a callback's argument.
func (c *Conn) address() uintptr { return uintptr(unsafe.Pointer(c)) }

// The callbacks below run inside SQLite: a panic there would leave its mutexes locked.
func (c *Conn) contain() {
	if p := recover(); p != nil {
		c.recovered = p
	}
}

// OnProgress calls f about every ops instructions of a statement that runs; true interrupts it.
func (c *Conn) OnProgress(ops int32, f func() bool) {
	c.progress = f
	lib.Xsqlite3_progress_handler(c.tls, c.db, ops, function(onProgress), c.address())
}

func onProgress(_ *libc.TLS, arg uintptr) (stop int32) {
	c := at[Conn](arg)
	stop = 1
	defer c.contain()
	if !c.progress() {
		stop = 0
	}
	return stop
}

// OnCommit calls f after each transaction that was written to the WAL, with the frames the WAL has then.
func (c *Conn) OnCommit(f func(frames int)) {
	c.committed = f
	lib.Xsqlite3_wal_hook(c.tls, c.db, function(onCommit), c.address())
}

func onCommit(_ *libc.TLS, arg, _, _ uintptr, frames int32) int32 {
	c := at[Conn](arg)
	defer c.contain()
	c.committed(int(frames))
	return 0
}

// Action is what a statement that is being prepared would do: SQLITE_... of the authorizer and its arguments.
type Action struct {
	Op                        int32
	First, Second, DB, Within string // Within is the innermost trigger or view
	HasFirst, HasSecond       bool
}

// Authorize asks f about every action of a statement that is prepared.
func (c *Conn) Authorize(f func(Action) bool) error {
	c.authorize = f
	return c.check(lib.Xsqlite3_set_authorizer(c.tls, c.db, function(onAuthorize), c.address()))
}

func onAuthorize(_ *libc.TLS, arg uintptr, op int32, first, second, db, within uintptr) (verdict int32) {
	c := at[Conn](arg)
	verdict = lib.SQLITE_DENY
	defer c.contain()
	a := Action{Op: op, HasFirst: first != 0, HasSecond: second != 0}
	a.First, a.Second, a.DB, a.Within = text(first), text(second), text(db), text(within)
	if c.authorize(a) {
		verdict = lib.SQLITE_OK
	}
	return verdict
}

func text(p uintptr) string {
	if p == 0 {
		return ""
	}
	return libc.GoString(p)
}

// Panicked returns and forgets what a callback panicked with.
func (c *Conn) Panicked() any {
	p := c.recovered
	c.recovered = nil
	return p
}

// HeapUsed returns the bytes SQLite holds in the page cache of this connection.
func (c *Conn) HeapUsed() int64 {
	out := c.tls.Alloc(16)
	defer c.tls.Free(16)
	lib.Xsqlite3_db_status(c.tls, c.db, lib.SQLITE_DBSTATUS_CACHE_USED, out, out+8, 0)
	return int64(*at[int32](out))
}
