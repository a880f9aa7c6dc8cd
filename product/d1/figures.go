package d1

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"selvage/engine/sqlite"
	"selvage/engine/state"
	"selvage/spec"
)

// Prefix is how keys of D1 in the node's store begin.
const Prefix = "d1/"

// Bounds of figures.
const (
	keepFigures  = 31 * 24 * time.Hour
	maxTexts     = 100    // different queries of a database that are told apart in an hour
	maxTallies   = 20_000 // of all databases between two saves; beyond them queries are not told apart
	maxQueryText = 1000   // bytes that are kept of a query
)

// figures counts what databases are asked, by the hour. A crash loses what came since the last save,
// which is a minute.
type figures struct {
	db  *state.Shared // nil: nothing is kept
	log *slog.Logger

	mu    sync.Mutex // guards the fields below
	since map[tallyKey]*tally
	texts int
}

type tallyKey struct {
	account, id string
	hour        int64 // since 1970
}

// tally is what was asked of a database in an hour.
type tally struct {
	Reads       int64 `json:"r"` // queries
	Writes      int64 `json:"w"`
	RowsRead    int64 `json:"rr"`
	RowsWritten int64 `json:"rw"`

	Queries map[string]*queryTally `json:"q,omitempty"` // by their SQL
}

type queryTally struct {
	Count       int64 `json:"n"`
	Micros      int64 `json:"us"`
	RowsRead    int64 `json:"rr"`
	RowsWritten int64 `json:"rw"`
	Returned    int64 `json:"out"`
}

func newFigures(db *state.Shared, log *slog.Logger) *figures {
	return &figures{db: db, log: log, since: map[tallyKey]*tally{}}
}

func hourOf(t time.Time) int64 { return t.Unix() / 3600 }

// of returns the tally of an hour. f.mu is held.
func (f *figures) of(d *spec.Database, now time.Time) *tally {
	k := tallyKey{d.AccountID, d.ID, hourOf(now)}
	t := f.since[k]
	if t == nil {
		t = &tally{}
		f.since[k] = t
	}
	return t
}

// asked counts what a Run did; rows has how many each statement gave.
func (f *figures) asked(d *spec.Database, now time.Time, statements []sqlite.Statement, done sqlite.Answer, rows []int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	t := f.of(d, now)
	for i := range min(len(done.Metas), len(statements)) {
		m := &done.Metas[i]
		if m.ChangedDB || m.RowsWritten > 0 {
			t.Writes++
		} else {
			t.Reads++
		}
		t.RowsRead += m.RowsRead
		t.RowsWritten += m.RowsWritten
		q := f.query(t, statements[i].SQL)
		if q == nil {
			continue
		}
		q.Count++
		q.Micros += m.Duration.Microseconds()
		q.RowsRead += m.RowsRead
		q.RowsWritten += m.RowsWritten
		if i < len(rows) {
			q.Returned += int64(rows[i])
		}
	}
}

// query returns the tally of a query, nil if there are too many. f.mu is held.
func (f *figures) query(t *tally, sql string) *queryTally {
	if len(sql) > maxQueryText {
		sql = strings.ToValidUTF8(sql[:maxQueryText], "")
	}
	if q := t.Queries[sql]; q != nil {
		return q
	}
	if len(t.Queries) >= maxTexts || f.texts >= maxTallies {
		return nil
	}
	if t.Queries == nil {
		t.Queries = map[string]*queryTally{}
	}
	q := &queryTally{}
	t.Queries[strings.Clone(sql)] = q
	f.texts++
	return q
}

// note counts what an import did, as one query that writes.
func (f *figures) note(d *spec.Database, now time.Time, read, written int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	t := f.of(d, now)
	t.Writes++
	t.RowsRead += read
	t.RowsWritten += written
}

// drop forgets a database.
func (f *figures) drop(d *spec.Database) {
	f.mu.Lock()
	for k := range f.since {
		if k.account == d.AccountID && k.id == d.ID {
			delete(f.since, k)
		}
	}
	f.mu.Unlock()
	err := f.change(func(b *state.Batch, _ *state.DB) error {
		return b.DeleteRange(state.Prefix(figuresOf(d.AccountID, d.ID)))
	})
	if err != nil {
		f.log.Warn("figures of a deleted database stay", "database", d.ID, "error", err)
	}
}

// figuresOf is how the keys of a database's figures begin.
func figuresOf(account, id string) []byte {
	return []byte(Prefix + "f/" + account + "/" + id + "/")
}

func figuresKey(account, id string, hour int64) []byte {
	return fmt.Appendf(figuresOf(account, id), "%08x", hour)
}

// change commits a change of the store, if there is one.
func (f *figures) change(do func(b *state.Batch, db *state.DB) error) error {
	if f.db == nil {
		return nil
	}
	db, err := f.db.DB()
	if err != nil {
		return err
	}
	b := db.NewBatch()
	if err := do(b, db); err != nil {
		b.Drop()
		return err
	}
	if b.Len() == 0 {
		b.Drop()
		return nil
	}
	return db.Commit(b)
}

// save adds what was counted since to what is kept, and removes what is old.
func (f *figures) save(now time.Time) {
	if f.db == nil {
		return
	}
	f.mu.Lock()
	since := f.since
	f.since, f.texts = map[tallyKey]*tally{}, 0
	f.mu.Unlock()
	if len(since) == 0 {
		return
	}
	err := f.change(func(b *state.Batch, db *state.DB) error {
		for k, t := range since {
			at := figuresKey(k.account, k.id, k.hour)
			all, err := kept(db, at)
			if err != nil {
				return err
			}
			all.add(t)
			text, err := json.Marshal(all)
			if err != nil {
				return err
			}
			old := state.Range{Lower: figuresOf(k.account, k.id), Upper: figuresKey(k.account, k.id, hourOf(now.Add(-keepFigures)))}
			if err := errors.Join(b.Put(at, text), b.DeleteRange(old)); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		return
	}
	f.log.Warn("figures of databases cannot be kept now", "error", err)
	f.mu.Lock()
	defer f.mu.Unlock()
	for k, t := range since { // until the next try
		if f.since[k] == nil {
			f.since[k] = &tally{}
		}
		f.since[k].add(t)
		f.texts += len(t.Queries)
	}
}

// kept reads the tally at a key; an empty one if there is none or it cannot be read.
func kept(db *state.DB, at []byte) (*tally, error) {
	t := &tally{}
	_, err := db.View(at, func(value []byte) error {
		if json.Unmarshal(value, t) != nil {
			*t = tally{}
		}
		return nil
	})
	return t, err
}

// add adds another tally; of the queries those that took longest stay.
func (t *tally) add(o *tally) {
	t.Reads += o.Reads
	t.Writes += o.Writes
	t.RowsRead += o.RowsRead
	t.RowsWritten += o.RowsWritten
	for sql, q := range o.Queries {
		if t.Queries == nil {
			t.Queries = map[string]*queryTally{}
		}
		if t.Queries[sql] == nil {
			t.Queries[sql] = &queryTally{}
		}
		t.Queries[sql].add(q)
	}
	if len(t.Queries) <= maxTexts {
		return
	}
	order := slices.SortedFunc(maps.Keys(t.Queries), func(a, b string) int { return cmp.Compare(t.Queries[b].Micros, t.Queries[a].Micros) })
	for _, sql := range order[maxTexts:] {
		delete(t.Queries, sql)
	}
}

func (q *queryTally) add(o *queryTally) {
	q.Count += o.Count
	q.Micros += o.Micros
	q.RowsRead += o.RowsRead
	q.RowsWritten += o.RowsWritten
	q.Returned += o.Returned
}

// each calls visit with the tallies of a database between two hours, both included, oldest first.
func (f *figures) each(account, id string, from, to int64, visit func(hour int64, t *tally)) error {
	f.mu.Lock()
	recent := map[int64]*tally{}
	for k, t := range f.since {
		if k.account == account && k.id == id && k.hour >= from && k.hour <= to {
			recent[k.hour] = &tally{}
			recent[k.hour].add(t)
		}
	}
	f.mu.Unlock()
	if f.db != nil {
		db, err := f.db.DB()
		if err != nil {
			return err
		}
		prefix := figuresOf(account, id)
		for pair, err := range db.Scan(state.Range{Lower: figuresKey(account, id, from), Upper: figuresKey(account, id, to+1)}) {
			if err != nil {
				return err
			}
			hour, bad := strconv.ParseInt(string(pair.Key[len(prefix):]), 16, 64)
			t := &tally{}
			if bad != nil || json.Unmarshal(pair.Value, t) != nil {
				continue
			}
			if now := recent[hour]; now != nil {
				t.add(now)
				delete(recent, hour)
			}
			visit(hour, t)
		}
	}
	for _, hour := range slices.Sorted(maps.Keys(recent)) {
		visit(hour, recent[hour])
	}
	return nil
}
