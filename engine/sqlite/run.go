package sqlite

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	lib "modernc.org/sqlite/lib"

	"selvage/engine/sqlite/raw"
	"selvage/foundation/fault"
)

// What a value of a row can be.
const (
	Integer = raw.Integer
	Float   = raw.Float
	Text    = raw.Text
	Blob    = raw.Blob
	Null    = raw.Null
)

// Run runs the statements as one transaction. What it acknowledges is on disk. Statements that only read run beside
// whoever writes. Errors of SQL are fault.Invalid in the words of workerd; a database that is busy for too long is
// fault.Unavailable, a full disk fault.Unavailable too, damage fault.Internal with ErrCorrupt in it.
func (s *Store) Run(ctx context.Context, name string, r Request) (Answer, error) {
	if err := s.checkRequest(r); err != nil {
		return Answer{}, err
	}
	d, err := s.acquire(ctx, name)
	if err != nil {
		return Answer{}, err
	}
	defer s.release(d)
	a, err := d.run(ctx, r)
	return a, d.explain(err)
}

func (s *Store) checkRequest(r Request) error {
	for i := range r.Statements {
		if n := len(r.Statements[i].SQL); n > s.o.Limits.SQLBytes {
			return fault.New(fault.TooMuch, "statement too long: SQLITE_TOOBIG: the SQL has %d bytes, limit %d", n, s.o.Limits.SQLBytes)
		}
	}
	return nil
}

func (d *database) run(ctx context.Context, r Request) (Answer, error) {
	if mayRead(r.Statements) {
		c, err := d.reader(ctx)
		if err != nil {
			return Answer{}, err
		}
		seq := d.seq.Load()
		a, err := c.transact(ctx, r, true)
		d.giveReader(c)
		if !errors.Is(err, errWrites) {
			a.Bookmark = d.bookmarkNow(seq)
			return a, err
		}
	}
	if r.ReadOnly {
		return Answer{}, fault.New(fault.Invalid, "attempt to write a readonly database: SQLITE_READONLY")
	}
	if err := d.s.roomToWrite(); err != nil {
		return Answer{}, err
	}
	if err := d.takeTurn(ctx); err != nil {
		return Answer{}, err
	}
	a, err := d.writer.transact(ctx, r, false)
	d.lastRowID.Store(d.writer.raw.LastInsertRowID())
	a.Bookmark = d.bookmarkNow(d.seq.Load())
	if d.writer.broken {
		d.mend()
	}
	full := int64(d.hist.waiting())*frameBytes > d.s.o.WAL
	d.giveTurn()
	if full {
		d.settleSoon()
	}
	return a, err
}

// mayRead reports that no statement begins with what surely writes.
func mayRead(statements []Statement) bool {
	for i := range statements {
		word := firstWord(statements[i].SQL)
		if !strings.EqualFold(word, "select") && !strings.EqualFold(word, "with") && !strings.EqualFold(word, "values") &&
			!strings.EqualFold(word, "explain") && !strings.EqualFold(word, "pragma") {
			return false
		}
	}
	return true
}

var (
	errWrites   = errors.New("the statement needs the writer")
	errStopping = fault.New(fault.Unavailable, "The node is stopping or handing over its databases: try again.")
	errGone     = fault.New(fault.Unavailable, "The database is being deleted, renamed or closed: try again.")
	errSpills   = fault.New(fault.Unavailable, "The statement needs more room for temporary results than the node's disk has: ask for less at once.")
	errCrowded  = fault.New(fault.Unavailable, "The databases of this node have nearly all of the memory that they may have, and the statement ran for long: ask for less at once.")

	errTransaction = fault.New(fault.Invalid, "To execute a transaction, please use the state.storage.transaction() or "+
		"state.storage.transactionSync() APIs instead of the SQL BEGIN TRANSACTION or SAVEPOINT statements. The JavaScript API is safer "+
		"because it will automatically roll back on exceptions, and because it interacts correctly with Durable Objects' automatic "+
		"atomic write coalescing.")
)

// ErrTooLong says that a request ran for too long and was interrupted.
var ErrTooLong = fault.New(fault.TooMuch, "D1 DB storage operation exceeded timeout which caused object to be reset.")

// ErrCorrupt is in the errors of databases whose file is damaged.
var ErrCorrupt = errors.New("the database file is damaged")

// transact runs the request on this connection. On a reader it gives errWrites if it is not for readers.
func (c *conn) transact(ctx context.Context, r Request, reading bool) (a Answer, err error) {
	x := transaction{c: c, r: r, reading: reading, metas: make([]Meta, 0, len(r.Statements))}
	err = c.watched(ctx, c.d.s.o.Limits.Duration, x.run)
	if x.settings {
		c.restoreSettings()
	}
	return Answer{Metas: x.metas}, err
}

// transaction is a request that runs.
type transaction struct {
	c        *conn
	r        Request
	reading  bool
	metas    []Meta
	begun    bool
	settings bool // a PRAGMA may have changed the connection
}

func (x *transaction) run() error {
	err := x.begin(len(x.r.Statements) > 1)
	for i := 0; err == nil && i < len(x.r.Statements); i++ {
		err = x.statement(i)
	}
	if err == nil {
		err = x.finish("COMMIT")
	}
	if err != nil {
		x.c.unwatched = true // it has to end, though the time may be up
		if failure := x.finish("ROLLBACK"); failure != nil {
			x.c.broken = true
			err = errors.Join(err, fmt.Errorf("roll back: %w", failure))
		}
	}
	return err
}

// begin opens a transaction if it is needed and not open.
func (x *transaction) begin(needed bool) error {
	if !needed || x.begun {
		return nil
	}
	sql := "BEGIN IMMEDIATE"
	if x.reading {
		sql = "BEGIN"
	}
	if err := x.c.exec(sql); err != nil {
		return err
	}
	x.begun = true
	return nil
}

func (x *transaction) finish(sql string) error {
	if !x.begun || x.c.raw.Autocommit() {
		return nil
	}
	return x.c.exec(sql)
}

func (x *transaction) statement(i int) error {
	sql := x.r.Statements[i].SQL
	p, err := x.c.only(sql)
	x.settings = x.settings || x.c.prepared.settings
	if err != nil {
		return err
	}
	defer x.c.done(sql, p)
	if x.reading && (!p.readOnly || p.session || p.settings) {
		return errWrites
	}
	if err := x.begin(p.settings); err != nil {
		return err
	}
	m, err := x.c.step(i, x.r, p)
	if err != nil {
		return err
	}
	x.metas = append(x.metas, m)
	if x.begun && x.c.raw.Autocommit() {
		return fault.New(fault.Invalid, "Statement %d ended the transaction: nothing of the batch was kept.", i)
	}
	return nil
}

// abandon rolls back, though the time is up.
func (c *conn) abandon(finish func(string) error) error {
	c.unwatched = true
	if err := finish("ROLLBACK"); err != nil {
		c.broken = true
		return fmt.Errorf("roll back: %w", err)
	}
	return nil
}

func (c *conn) restoreSettings() {
	for _, sql := range connectionSettings {
		if c.exec(sql) != nil {
			c.broken = true
		}
	}
}

// only prepares sql, which must be exactly one statement.
func (c *conn) only(sql string) (*prepared, error) {
	p, rest, err := c.prepare(sql)
	if err != nil {
		return nil, err
	}
	if p == nil {
		return nil, fault.New(fault.Invalid, "No SQL statements detected.")
	}
	if rest != "" && !blank(rest) {
		p.stmt.Finalize()
		return nil, fault.New(fault.Invalid, "A prepared SQL statement must contain only one statement. See https://developers.cloudflare.com/d1/worker-api/ for more.")
	}
	return p, nil
}

// step runs statement i and gives its rows to the sink.
func (c *conn) step(i int, r Request, p *prepared) (m Meta, err error) {
	started := time.Now()
	if err := c.bind(p, r.Statements[i].Args); err != nil {
		return m, err
	}
	changes, last, seq := c.raw.TotalChanges(), c.raw.LastInsertRowID(), c.d.seq.Load()
	before := int64(0)
	if !p.readOnly {
		if before, err = c.size(); err != nil {
			return m, err
		}
	}
	rows, err := c.rows(i, r.Sink, p)
	if err != nil {
		return m, err
	}
	m.Changes = c.raw.TotalChanges() - changes
	m.LastRowID = c.raw.LastInsertRowID()
	if m.SizeAfter, err = c.size(); err != nil {
		return m, err
	}
	if p.readOnly {
		m.LastRowID = c.d.lastRowID.Load()
	} else {
		m.ChangedDB = m.Changes != 0 || m.LastRowID != last || m.SizeAfter != before || c.d.seq.Load() != seq
	}
	p.count(&m, rows, c.raw.Changes())
	m.Duration = time.Since(started)
	return m, nil
}

func (c *conn) bind(p *prepared, args []any) error {
	if len(args) != p.params {
		return fault.New(fault.Invalid, "Wrong number of parameter bindings for SQL query.")
	}
	for i, v := range args {
		if err := p.stmt.Bind(i+1, v); err != nil {
			return err
		}
	}
	return nil
}

// rows steps through p and returns how many rows it gave.
func (c *conn) rows(i int, sink Sink, p *prepared) (n int64, err error) {
	more, err := p.stmt.Step()
	if err != nil {
		return 0, err
	}
	if sink != nil {
		if err := sink.Begin(i, p.stmt.Columns()); err != nil {
			return 0, err
		}
	}
	left := c.d.s.o.Limits.ResultBytes
	for more {
		n++
		if sink != nil {
			if left -= rowBytes(p.stmt); left < 0 {
				return n, fault.New(fault.TooMuch, "The result is larger than %d bytes: SQLITE_TOOBIG: ask for fewer rows with LIMIT.", c.d.s.o.Limits.ResultBytes)
			}
			if err := sink.Row(i, p.stmt); err != nil {
				return n, err
			}
		}
		if n%1024 == 0 && c.look() {
			return n, c.cause
		}
		if more, err = p.stmt.Step(); err != nil {
			return n, err
		}
	}
	return n, nil
}

// rowBytes is what a row weighs: its text and blobs, and a little for each column.
func rowBytes(s *raw.Stmt) int64 {
	n := s.Len()
	bytes := int64(8 * n)
	for i := range n {
		if t := s.Type(i); t == raw.Text || t == raw.Blob {
			bytes += int64(len(s.Bytes(i)))
		}
	}
	return bytes
}

// explain gives errors of SQLite the kind that callers decide on.
func (d *database) explain(err error) error {
	if err == nil {
		return nil
	}
	var e *raw.Error
	if !errors.As(err, &e) {
		return err
	}
	switch e.Primary() {
	case lib.SQLITE_CORRUPT, lib.SQLITE_NOTADB:
		return fmt.Errorf("%s: %w: %w", d.name, ErrCorrupt, err)
	case lib.SQLITE_FULL:
		if e.Code == lib.SQLITE_FULL && d.atLimit() {
			return fault.Wrap(err, fault.TooMuch, "Exceeded maximum DB size: %s", e.Error())
		}
		return fault.Wrap(err, fault.Unavailable, "%s: the node's disk is full", e.Error())
	case lib.SQLITE_IOERR, lib.SQLITE_CANTOPEN, lib.SQLITE_NOMEM, lib.SQLITE_BUSY, lib.SQLITE_PROTOCOL:
		return fault.Wrap(err, fault.Unavailable, "%s", e.Error())
	case lib.SQLITE_TOOBIG:
		return fault.Wrap(err, fault.TooMuch, "%s", e.Error())
	}
	return fault.Wrap(err, fault.Invalid, "%s", e.Error())
}
