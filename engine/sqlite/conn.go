package sqlite

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	lib "modernc.org/sqlite/lib"

	"golang.org/x/sys/unix"

	"selvage/engine/sqlite/raw"
	"selvage/foundation/fault"
)

const (
	cachedStatements = 64
	cachedBytes      = 8 << 10 // longer statements are not kept
	spillRoom        = 64 << 20
	checkEvery       = 10_000 // instructions between two looks at the clock: below a millisecond
)

// conn is a connection with its statements.
type conn struct {
	d      *database
	raw    *raw.Conn
	broken bool // close it instead of using it again

	cache map[string]*prepared
	clock uint64 // counts uses

	trusted  bool     // what is prepared is ours
	prepared prepared // what the authorizer saw of the statement that is being prepared

	ctx       context.Context // of the run: it is asked by look, which SQLite calls
	began     time.Time       // the run, or in an import the statement
	until     time.Time       // it may last
	unwatched bool            // what runs now has to end whatever happens
	cause     error           // why the run had to stop

	sized sized

	likeText string // of the INSERT that was planned last, up to its values
	likePlan plan
}

// prepared is a statement with what is known of it.
type prepared struct {
	stmt   *raw.Stmt
	used   uint64
	params int
	plan   plan

	readOnly bool
	session  bool // reads what the writing connection knows: last_insert_rowid() and the like
	settings bool // a PRAGMA
	ends     bool // BEGIN, COMMIT, SAVEPOINT, ...: refused
}

// guard sets what holds SQL of strangers, see https://www.sqlite.org/security.html, and how this database is kept.
func (c *conn) guard(writer bool) error {
	l := c.d.s.o.Limits
	for id, value := range map[int32]int{
		lib.SQLITE_LIMIT_LENGTH: l.ValueBytes, lib.SQLITE_LIMIT_SQL_LENGTH: l.SQLBytes, lib.SQLITE_LIMIT_COLUMN: l.Columns,
		lib.SQLITE_LIMIT_EXPR_DEPTH: l.ExprDepth, lib.SQLITE_LIMIT_COMPOUND_SELECT: l.CompoundTerms, lib.SQLITE_LIMIT_VDBE_OP: 25_000,
		lib.SQLITE_LIMIT_FUNCTION_ARG: l.FunctionArgs, lib.SQLITE_LIMIT_ATTACHED: 0, lib.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: l.LikeBytes,
		lib.SQLITE_LIMIT_VARIABLE_NUMBER: l.Params, lib.SQLITE_LIMIT_TRIGGER_DEPTH: l.TriggerDepth, lib.SQLITE_LIMIT_WORKER_THREADS: 0,
	} {
		c.raw.Limit(id, int32(value))
	}
	for option, on := range map[int32]bool{
		lib.SQLITE_DBCONFIG_DEFENSIVE: true, lib.SQLITE_DBCONFIG_TRUSTED_SCHEMA: false, lib.SQLITE_DBCONFIG_ENABLE_FKEY: true,
		lib.SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION: false, lib.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE: true,
	} {
		if err := c.raw.Configure(option, on); err != nil {
			return err
		}
	}
	c.raw.KeepConstantsLocal()
	if err := c.raw.Authorize(c.allow); err != nil {
		return err
	}
	c.raw.OnProgress(checkEvery, c.look)
	setup := []string{"PRAGMA synchronous=FULL", "PRAGMA cache_size=-1000", "PRAGMA busy_timeout=10000", "PRAGMA journal_size_limit=4194304"}
	if writer {
		pages := l.DatabaseBytes / pageSize
		setup = append([]string{fmt.Sprintf("PRAGMA page_size=%d", pageSize), "PRAGMA journal_mode=WAL", "PRAGMA wal_autocheckpoint=0",
			fmt.Sprintf("PRAGMA max_page_count=%d", pages)}, setup...)
	} else {
		setup = append(setup, "PRAGMA wal_autocheckpoint=0")
	}
	for _, sql := range setup {
		if err := c.exec(sql); err != nil {
			return fmt.Errorf("%s: %w", sql, err)
		}
	}
	return nil
}

// look decides, while a statement runs, whether it has to stop.
func (c *conn) look() bool {
	err := c.why()
	if err != nil && c.cause == nil {
		c.cause = err
	}
	return err != nil
}

// prepare returns a statement of strangers, from the cache if it is there, and what follows it. A nil one means there is
// none.
func (c *conn) prepare(sql string) (*prepared, string, error) {
	c.clock++
	if p := c.cache[sql]; p != nil {
		p.used = c.clock
		c.prepared = *p
		return p, "", nil
	}
	p, rest, err := c.translate(sql)
	// A PRAGMA may take effect when it is prepared: prepare it each time.
	if p != nil && rest == "" && len(sql) <= cachedBytes && !p.settings {
		c.remember(sql, p)
	}
	return p, rest, err
}

// compile returns a statement that is not kept; sql holds no second one.
func (c *conn) compile(sql string) (*prepared, error) {
	p, _, err := c.translate(sql)
	return p, err
}

func (c *conn) translate(sql string) (*prepared, string, error) {
	c.prepared = prepared{used: c.clock}
	s, rest, err := c.raw.Prepare(sql)
	if err != nil {
		if meant, ok := unlimited(sql); ok {
			c.prepared = prepared{used: c.clock}
			if other, left, fails := c.raw.Prepare(meant); fails == nil {
				sql, s, rest, err = meant, other, left, nil
			}
		}
	}
	p := c.prepared
	if p.ends {
		if s != nil {
			s.Finalize()
		}
		return nil, "", errTransaction
	}
	if err != nil || s == nil {
		return nil, rest, c.tooLong(err)
	}
	p.stmt, p.params, p.readOnly = s, s.Params(), s.ReadOnly()
	p.plan = c.planLike(sql, s)
	return &p, rest, nil
}

// tooLong tells a statement with a program of too many steps, which SQLite calls a lack of memory, from the lack of it.
func (c *conn) tooLong(err error) error {
	var e *raw.Error
	if !errors.As(err, &e) || e.Primary() != lib.SQLITE_NOMEM || c.raw.MemoryUsed() > c.d.s.o.Memory/2 {
		return err
	}
	return fault.New(fault.TooMuch, "%s: the statement is too long or too complex: send its values in several, or ask for less at once", e.Error())
}

// remember keeps p in the cache instead of what was used least lately.
func (c *conn) remember(sql string, p *prepared) {
	if len(c.cache) >= cachedStatements {
		oldest := ""
		for s, o := range c.cache {
			if oldest == "" || o.used < c.cache[oldest].used {
				oldest = s
			}
		}
		c.cache[oldest].stmt.Finalize()
		delete(c.cache, oldest)
	}
	c.cache[sql] = p
}

// done ends a run of p and frees it if it is not kept.
func (c *conn) done(sql string, p *prepared) {
	p.stmt.Reset()
	if c.cache[sql] != p {
		p.stmt.Finalize()
	}
}

// exec runs a statement of ours without rows.
func (c *conn) exec(sql string) error {
	_, err := c.ask(sql)
	return err
}

// ask runs a statement of ours and returns the first column of its last row, if that is an integer.
func (c *conn) ask(sql string) (int64, error) {
	c.trusted = true
	defer func() { c.trusted = false }()
	own := "\x00" + sql
	p := c.cache[own]
	if p == nil {
		s, _, err := c.raw.Prepare(sql)
		if err != nil {
			return 0, err
		}
		p = &prepared{stmt: s}
		c.remember(own, p)
	}
	c.clock++
	p.used = c.clock
	defer p.stmt.Reset()
	value := int64(0)
	for {
		row, err := p.stmt.Step()
		if err != nil || !row {
			return value, err
		}
		if p.stmt.Type(0) == raw.Integer {
			value = p.stmt.Int(0)
		}
	}
}

// sized is a size and the transaction it is of.
type sized struct {
	seq   uint64
	bytes int64
}

// size returns the bytes of the pages that are in use.
func (c *conn) size() (int64, error) {
	seq := c.d.seq.Load()
	if c.sized.bytes > 0 && c.sized.seq == seq && c.raw.Autocommit() {
		return c.sized.bytes, nil
	}
	bytes, err := c.measure()
	if err == nil && c.raw.Autocommit() {
		c.sized = sized{seq, bytes} // what a reader sees is at least as new as seq
	}
	return bytes, err
}

func (c *conn) measure() (int64, error) {
	pages, err := c.ask("PRAGMA page_count")
	if err != nil {
		return 0, err
	}
	free, err := c.ask("PRAGMA freelist_count")
	return (pages - free) * pageSize, err
}

func (c *conn) close() error {
	for sql, p := range c.cache {
		p.stmt.Finalize()
		delete(c.cache, sql)
	}
	return c.raw.Close()
}

// watched runs f, whose statements stop when ctx ends or the time is up: SQLite asks look every few hundred microseconds.
func (c *conn) watched(ctx context.Context, limit time.Duration, f func() error) error {
	c.ctx, c.began, c.cause, c.unwatched = ctx, time.Now(), nil, false
	c.until = c.began.Add(limit)
	err := f()
	c.ctx, c.unwatched = nil, false
	if err == nil || c.cause == nil {
		return err
	}
	var e *raw.Error
	if errors.As(err, &e) && e.Primary() == lib.SQLITE_INTERRUPT {
		return c.cause
	}
	return err
}

// why returns why what runs has to stop, nil if it has not.
func (c *conn) why() error {
	switch {
	case c.ctx == nil || c.unwatched:
		return nil
	case c.d.ending.Load():
		return errGone
	case c.d.s.life.Err() != nil:
		return errStopping
	case c.ctx.Err() != nil:
		return c.ctx.Err()
	}
	now := time.Now()
	if now.After(c.until) {
		return ErrTooLong
	}
	if now.Sub(c.began) < time.Second {
		return nil
	}
	// What runs for more than a second may have filled the disk, or the memory that all share.
	if spillsFull() {
		return errSpills
	}
	if c.raw.MemoryUsed() > c.d.s.o.Memory/4*3 {
		return errCrowded
	}
	return nil
}

// spillsFull reports that the disk on which SQLite keeps temporary results is nearly full.
func spillsFull() bool {
	var fs unix.Statfs_t
	for _, dir := range []string{os.Getenv("SQLITE_TMPDIR"), os.Getenv("TMPDIR"), "/var/tmp", "/usr/tmp", "/tmp"} {
		if dir != "" && unix.Statfs(dir, &fs) == nil {
			return int64(fs.Bavail)*fs.Bsize < spillRoom
		}
	}
	return false
}
