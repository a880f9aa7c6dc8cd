package analytics

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"
)

const (
	maxQueued      = 64 << 10 // points
	maxQueuedBytes = 32 << 20
	maxBatch       = 4096
	patience       = 200 * time.Millisecond // a point may wait for others
	maxOpen        = 32                     // databases
	house          = time.Hour              // between two removals of old points
)

// queue holds points until they are written.
type queue struct {
	c     chan *point
	bytes atomic.Int64
}

func newQueue() *queue { return &queue{c: make(chan *point, maxQueued)} }

// put adds a point; false if there is no room for it.
func (q *queue) put(p *point) bool {
	n := p.size()
	if q.bytes.Add(n) > maxQueuedBytes {
		q.bytes.Add(-n)
		return false
	}
	select {
	case q.c <- p:
		return true
	default:
		q.bytes.Add(-n)
		return false
	}
}

// writer is the one that writes. Not safe for concurrent use.
type writer struct {
	a    *Analytics
	open map[string]*database // by account
	uses uint64
}

// database is an account's, open for writing.
type database struct {
	conn   *sqlite.Conn
	tables map[string]bool
	used   uint64
}

func newWriter(a *Analytics) *writer { return &writer{a: a, open: map[string]*database{}} }

func (w *writer) run(ctx context.Context) error {
	clean := time.NewTicker(house)
	defer clean.Stop()
	w.clean(ctx)
	for {
		select {
		case <-ctx.Done():
			for len(w.a.queue.c) > 0 {
				w.write(w.gather(<-w.a.queue.c, 0))
			}
			return nil
		case p := <-w.a.queue.c:
			w.write(w.gather(p, patience))
		case <-clean.C:
			w.clean(ctx)
		}
	}
}

// gather returns first and what comes within patience, by account.
func (w *writer) gather(first *point, patience time.Duration) map[string][]*point {
	batch := map[string][]*point{}
	late := time.NewTimer(patience)
	defer late.Stop()
	for n, p := 0, first; ; n++ {
		w.a.queue.bytes.Add(-p.size())
		batch[p.account] = append(batch[p.account], p)
		if n == maxBatch {
			return batch
		}
		select {
		case p = <-w.a.queue.c:
			continue
		default:
		}
		select {
		case p = <-w.a.queue.c:
		case <-late.C:
			return batch
		}
	}
}

// write writes a batch, each account's in one transaction.
func (w *writer) write(batch map[string][]*point) {
	for account, points := range batch {
		err := w.writeAccount(account, points)
		outcome := "kept"
		if err != nil {
			outcome = "dropped"
			if sqlite.ErrCode(err) != sqlite.ResultFull {
				w.a.o.Observe.Logger().Error("data points could not be written", "account", account, "points", len(points), "error", err)
			}
			w.forget(account)
		}
		w.a.metrics.points.WithLabelValues(outcome).Add(float64(len(points)))
	}
}

func (w *writer) writeAccount(account string, points []*point) (err error) {
	d, err := w.database(account)
	if err != nil {
		return err
	}
	end, err := sqlitex.ImmediateTransaction(d.conn)
	if err != nil {
		return err
	}
	defer end(&err)
	for _, p := range points {
		if err := d.insert(p); err != nil {
			return err
		}
	}
	return nil
}

// path returns the file of an account's database. IDs are hex digits; another could be a path.
func (a *Analytics) path(account string) (string, error) {
	if account == "" || strings.ContainsFunc(account, func(r rune) bool { return (r < '0' || r > '9') && (r < 'a' || r > 'z') }) {
		return "", errors.New("not the ID of an account")
	}
	return filepath.Join(a.o.Dir, account+".db"), nil
}

// database opens an account's database, and closes the one that was not used for longest.
func (w *writer) database(account string) (*database, error) {
	w.uses++
	if d := w.open[account]; d != nil {
		d.used = w.uses
		return d, nil
	}
	for len(w.open) >= maxOpen {
		oldest, least := "", w.uses
		for id, d := range w.open {
			if d.used < least {
				oldest, least = id, d.used
			}
		}
		w.forget(oldest)
	}
	path, err := w.a.path(account)
	if err != nil {
		return nil, err
	}
	conn, err := sqlite.OpenConn(path, sqlite.OpenReadWrite|sqlite.OpenCreate|sqlite.OpenWAL)
	if err != nil {
		return nil, err
	}
	d := &database{conn: conn, tables: map[string]bool{}, used: w.uses}
	if err := d.prepare(w.a.o.MaxBytes); err != nil {
		conn.Close()
		return nil, err
	}
	w.open[account] = d
	return d, nil
}

func (d *database) prepare(maxBytes int64) error {
	d.conn.SetBusyTimeout(5 * time.Second)
	for _, pragma := range []string{"PRAGMA synchronous = NORMAL", "PRAGMA auto_vacuum = INCREMENTAL"} {
		if err := sqlitex.ExecuteTransient(d.conn, pragma, nil); err != nil {
			return err
		}
	}
	pageSize := int64(4096)
	if err := sqlitex.ExecuteTransient(d.conn, "PRAGMA page_size", &sqlitex.ExecOptions{ResultFunc: func(s *sqlite.Stmt) error {
		pageSize = s.ColumnInt64(0)
		return nil
	}}); err != nil {
		return err
	}
	if err := sqlitex.ExecuteTransient(d.conn, "PRAGMA max_page_count = "+itoa(maxBytes/pageSize), nil); err != nil {
		return err
	}
	tables, err := tablesOf(d.conn)
	for _, t := range tables {
		d.tables[strings.ToLower(t)] = true
	}
	return err
}

// insert writes a point; its dataset becomes a table with the first one.
func (d *database) insert(p *point) error {
	if name := strings.ToLower(p.dataset); !d.tables[name] {
		if err := sqlitex.ExecuteScript(d.conn, createTable(p.dataset), nil); err != nil {
			return err
		}
		d.tables[name] = true
	}
	s, err := d.conn.Prepare(insertInto(p.dataset))
	if err != nil {
		return err
	}
	s.BindText(1, p.dataset)
	s.BindText(2, p.at.Format(dateTime))
	s.BindText(3, p.index)
	for i := range columns {
		s.BindText(4+i, p.blobs[i])
		s.BindFloat(4+columns+i, p.doubles[i])
	}
	if _, err := s.Step(); err != nil {
		s.Reset()
		return err
	}
	return s.Reset()
}

func (w *writer) forget(account string) {
	if d := w.open[account]; d != nil {
		d.conn.Close()
		delete(w.open, account)
	}
}

func (w *writer) close() {
	for account := range w.open {
		w.forget(account)
	}
}

// clean removes points that are too old, and databases of accounts that are gone.
func (w *writer) clean(ctx context.Context) {
	files, err := filepath.Glob(filepath.Join(w.a.o.Dir, "*.db"))
	if err != nil {
		return
	}
	accounts := w.a.accounts.Load()
	for _, file := range files {
		if ctx.Err() != nil {
			return
		}
		account := strings.TrimSuffix(filepath.Base(file), ".db")
		if accounts != nil && !(*accounts)[account] {
			w.forget(account)
			for _, suffix := range []string{"", "-wal", "-shm"} {
				os.Remove(file + suffix)
			}
			continue
		}
		if err := w.expire(account); err != nil {
			w.a.o.Observe.Logger().Error("old data points could not be removed", "account", account, "error", err)
			w.forget(account)
		}
	}
}

func (w *writer) expire(account string) error {
	d, err := w.database(account)
	if err != nil {
		return err
	}
	tables, err := tablesOf(d.conn)
	if err != nil {
		return err
	}
	before := w.a.o.Clock.Now().UTC().Add(-w.a.o.Retention).Format(dateTime)
	for _, t := range tables {
		if err := sqlitex.ExecuteTransient(d.conn, "DELETE FROM "+quote(t)+" WHERE timestamp < ?", &sqlitex.ExecOptions{Args: []any{before}}); err != nil {
			return err
		}
	}
	return sqlitex.ExecuteTransient(d.conn, "PRAGMA incremental_vacuum", nil)
}
