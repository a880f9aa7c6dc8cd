package analytics

import (
	"context"
	"errors"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"selvage/foundation/fault"
)

const (
	maxQuery  = 64 << 10 // bytes of SQL
	maxRows   = 100_000  // of an answer
	maxResult = 32 << 20 // bytes of an answer, about
	maxValue  = 4 << 20  // bytes of one value on the way
)

// cell is one value of an answer.
type cell struct {
	kind sqlite.ColumnType
	i    int64
	f    float64
	s    string
}

// table is an answer.
type table struct {
	columns []string
	types   []string // as ClickHouse calls them
	rows    [][]cell
}

// query answers one statement about the datasets of an account.
func (a *Analytics) query(ctx context.Context, account string, s *statement) (*table, error) {
	if !a.slots.Take() {
		return nil, fault.New(fault.Unavailable, "Too many queries wait for each other. Try again in a moment.")
	}
	defer a.slots.Free()
	ctx, cancel := context.WithTimeout(ctx, a.o.Timeout)
	defer cancel()
	select {
	case a.turn <- struct{}{}:
		defer func() { <-a.turn }()
	case <-ctx.Done():
		return nil, a.refusal(ctx, ctx.Err())
	}
	began := time.Now()
	t, err := a.run(ctx, account, s)
	a.metrics.seconds.Observe(time.Since(began).Seconds())
	return t, a.refusal(ctx, err)
}

func (a *Analytics) run(ctx context.Context, account string, s *statement) (*table, error) {
	if strings.HasPrefix(s.show, "TIMEZONE") {
		return &table{columns: []string{"timezone"}, types: []string{"String"}, rows: [][]cell{{{kind: sqlite.TypeText, s: "Etc/UTC"}}}}, nil
	}
	conn, err := a.reader(account)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	conn.SetInterrupt(ctx.Done())
	if s.show == "TABLES" {
		return showTables(conn)
	}
	if err := conn.SetAuthorizer(sqlite.AuthorizeFunc(allow)); err != nil {
		return nil, err
	}
	return collect(conn, s.sql)
}

// reader opens an account's database for one query. An account without points has an empty one.
func (a *Analytics) reader(account string) (*sqlite.Conn, error) {
	path, err := a.path(account)
	if err != nil {
		return nil, err
	}
	flags := sqlite.OpenReadWrite | sqlite.OpenWAL // to write nothing: a read-only one cannot recover after a crash
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		path, flags = ":memory:", sqlite.OpenReadWrite|sqlite.OpenMemory
	}
	conn, err := sqlite.OpenConn(path, flags)
	if err != nil {
		return nil, fault.Wrap(err, fault.Unavailable, "The account's data points cannot be read now. Try again in a moment.")
	}
	if err := a.restrict(conn); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// restrict makes a connection one that reads, within limits.
func (a *Analytics) restrict(conn *sqlite.Conn) error {
	conn.SetBusyTimeout(5 * time.Second)
	for _, pragma := range []string{"PRAGMA query_only = 1", "PRAGMA case_sensitive_like = 1", "PRAGMA trusted_schema = 0"} {
		if err := sqlitex.ExecuteTransient(conn, pragma, nil); err != nil {
			return err
		}
	}
	conn.Limit(sqlite.LimitLength, maxValue)
	conn.Limit(sqlite.LimitSQLLength, 4*maxQuery)
	conn.Limit(sqlite.LimitExprDepth, 200)
	conn.Limit(sqlite.LimitCompoundSelect, 20)
	conn.Limit(sqlite.LimitAttached, 0)
	conn.Limit(sqlite.LimitLikePatternLength, 1000)
	return register(conn, a.o.Clock)
}

// allow lets queries read datasets and call functions, and nothing else.
func allow(action sqlite.Action) sqlite.AuthResult {
	switch action.Type() {
	case sqlite.OpSelect:
		return sqlite.AuthResultOK
	case sqlite.OpRead:
		if t := strings.ToLower(action.Table()); strings.HasPrefix(t, "sqlite_") || strings.HasPrefix(t, "pragma_") || t == "dbstat" {
			return sqlite.AuthResultDeny
		}
		return sqlite.AuthResultOK
	case sqlite.OpFunction:
		return sqlite.AuthResultOK // there are none that reach outside, and load_extension is off
	}
	return sqlite.AuthResultDeny
}

func showTables(conn *sqlite.Conn) (*table, error) {
	names, err := tablesOf(conn)
	if err != nil {
		return nil, err
	}
	t := &table{columns: []string{"dataset", "type"}, types: []string{"String", "String"}}
	for _, n := range names {
		t.rows = append(t.rows, []cell{{kind: sqlite.TypeText, s: n}, {kind: sqlite.TypeText, s: "regular"}})
	}
	return t, nil
}

// collect runs a statement to its end.
func collect(conn *sqlite.Conn, query string) (*table, error) {
	s, rest, err := conn.PrepareTransient(query)
	if err != nil {
		return nil, err
	}
	defer s.Finalize()
	if rest > 0 {
		return nil, fault.New(fault.Invalid, "Send one statement at a time.").At("query")
	}
	t := &table{}
	for i := range s.ColumnCount() {
		t.columns = append(t.columns, s.ColumnName(i))
	}
	size := 0
	for {
		more, err := s.Step()
		if err != nil {
			return nil, err
		}
		if !more {
			break
		}
		row := make([]cell, len(t.columns))
		for i := range row {
			row[i] = cellOf(s, i)
			size += 32 + len(row[i].s)
		}
		if t.rows = append(t.rows, row); len(t.rows) > maxRows || size > maxResult {
			return nil, fault.New(fault.TooMuch, "The answer has more than %d rows or %d MiB. Narrow it down by WHERE, GROUP BY or LIMIT.", maxRows, maxResult>>20).At("query")
		}
	}
	t.inferTypes()
	return t, nil
}

func cellOf(s *sqlite.Stmt, i int) cell {
	c := cell{kind: s.ColumnType(i)}
	switch c.kind {
	case sqlite.TypeInteger:
		c.i = s.ColumnInt64(i)
	case sqlite.TypeFloat:
		c.f = s.ColumnFloat(i)
	case sqlite.TypeText, sqlite.TypeBlob:
		c.kind, c.s = sqlite.TypeText, strings.ToValidUTF8(s.ColumnText(i), "\uFFFD")
	}
	return c
}

var dateTimePattern = regexp.MustCompile(`^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d$`)

// inferTypes says what ClickHouse would call the columns' types, by what is in them: SQLite's
// expressions have none.
func (t *table) inferTypes() {
	t.types = make([]string, len(t.columns))
	for i, column := range t.columns {
		seen := map[string]bool{}
		for _, row := range t.rows {
			if kind := row[i].typeName(); kind != "" {
				seen[kind] = true
			}
		}
		t.types[i] = typeOf(column, seen)
	}
}

func (c *cell) typeName() string {
	switch {
	case c.kind == sqlite.TypeInteger && c.i < 0:
		return "Int64"
	case c.kind == sqlite.TypeInteger:
		return "UInt64"
	case c.kind == sqlite.TypeFloat:
		return "Float64"
	case c.kind == sqlite.TypeNull:
		return ""
	case strings.HasPrefix(c.s, arrayMark):
		return "Array(String)"
	case dateTimePattern.MatchString(c.s):
		return "DateTime"
	}
	return "String"
}

func typeOf(column string, seen map[string]bool) string {
	switch {
	case column == "_sample_interval":
		return "UInt32"
	case slices.Contains(doubleNames[:], column):
		return "Float64"
	case slices.Contains(blobNames[:], column):
		return "String"
	case column == "timestamp" && len(seen) == 0:
		return "DateTime"
	case seen["String"] || len(seen) == 0:
		return "String"
	case seen["Float64"]:
		return "Float64"
	case seen["Int64"]:
		return "Int64"
	}
	for kind := range seen {
		return kind
	}
	return "String"
}

var noTable = regexp.MustCompile(`no such table: (\S+)`)

// refusal makes of SQLite's errors what the caller can act on.
func (a *Analytics) refusal(ctx context.Context, err error) error {
	var known *fault.Error
	switch {
	case err == nil:
		a.metrics.queries.WithLabelValues("ok").Inc()
		return nil
	case ctx.Err() != nil:
		a.metrics.queries.WithLabelValues("timeout").Inc()
		return fault.Wrap(err, fault.TooMuch, "The query took longer than the limit of %s. Narrow it down by WHERE.", a.o.Timeout).At("query")
	}
	a.metrics.queries.WithLabelValues("refused").Inc()
	if errors.As(err, &known) {
		return err
	}
	message := err.Error()
	if m := noTable.FindStringSubmatch(message); m != nil {
		return fault.New(fault.Invalid, "There is no dataset %s: SHOW TABLES lists them, and one begins with its first data point.", m[1]).At("query")
	}
	switch sqlite.ErrCode(err).ToPrimary() {
	case sqlite.ResultError, sqlite.ResultAuth, sqlite.ResultTooBig, sqlite.ResultMismatch:
		return fault.New(fault.Invalid, "The query cannot be run: %.300s.", strings.TrimPrefix(message, "sqlite: ")).At("query")
	}
	return err
}
