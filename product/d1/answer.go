package d1

import (
	"io"
	"strconv"
	"sync"
	"sync/atomic"

	"selvage/engine/sqlite"
	"selvage/foundation/fault"
	"selvage/product/d1/wire"
)

// Bounds of answers, as JSON.
const (
	maxAnswer   = 64 << 20  // bytes of one
	freeAnswer  = 256 << 10 // bytes of each that are not counted
	allAnswers  = 256 << 20 // bytes of all together that are
	keptBuffers = 64 << 10  // bytes of a buffer that is used again
)

// format is how rows are written.
type format uint8

const (
	objects format = iota // [{"column": value}]
	arrays                // {"columns": [], "rows": [[]]}
)

// answer takes the rows of a Run as JSON, and becomes the body of the response. It belongs to one
// goroutine.
type answer struct {
	format format
	room   *room
	taken  int64 // of room

	buf    []byte
	ends   []int    // of the statements' parts of buf
	keys   [][]byte // with objects: what stands before each column's value; nil for one that is hidden by a later one
	begun  bool     // a statement's result is open
	rows   []int    // of each statement
	pieces [][]byte // what is still to be read
}

// room is the memory that large answers share.
type room struct{ used atomic.Int64 }

var answerPool = sync.Pool{New: func() any { return &answer{buf: make([]byte, 0, 4<<10)} }}

func newAnswer(f format, r *room) *answer {
	a := answerPool.Get().(*answer)
	*a = answer{format: f, room: r, buf: a.buf[:0], ends: a.ends[:0], keys: a.keys[:0], rows: a.rows[:0], pieces: a.pieces[:0]}
	return a
}

// release gives the answer back: nothing may use it any more.
func (a *answer) release() {
	a.room.used.Add(-a.taken)
	a.taken = 0
	if cap(a.buf) <= keptBuffers {
		clear(a.pieces)
		answerPool.Put(a)
	}
}

// Begin starts the result of a statement.
func (a *answer) Begin(i int, columns []string) error {
	if i == 0 { // also when all is run once more
		a.buf, a.ends, a.rows, a.begun = append(a.buf[:0], "["+opening...), a.ends[:0], a.rows[:0], false
	}
	a.end()
	a.begun, a.rows = true, append(a.rows, 0)
	if a.format == arrays {
		a.buf = append(a.buf, `{"columns":[`...)
		for i, name := range columns {
			if i > 0 {
				a.buf = append(a.buf, ',')
			}
			a.buf = wire.AppendText(a.buf, []byte(name))
		}
		a.buf = append(a.buf, `],"rows":[`...)
		return nil
	}
	a.buf = append(a.buf, '[')
	a.name(columns)
	return nil
}

// name makes the keys of objects. Of columns with the same name the last one counts, in the place of
// the first.
func (a *answer) name(columns []string) {
	a.keys = a.keys[:0]
	for i, name := range columns {
		a.keys = append(a.keys, nil)
		if hidden(columns[i+1:], name) {
			continue
		}
		a.keys[i] = append(wire.AppendText(nil, []byte(name)), ':')
	}
}

func hidden(later []string, name string) bool {
	for _, l := range later {
		if l == name {
			return true
		}
	}
	return false
}

// end closes the result of the statement before, if there was one.
func (a *answer) end() {
	if !a.begun {
		return
	}
	if a.format == arrays {
		a.buf = append(a.buf, `]}`...)
	} else {
		a.buf = append(a.buf, ']')
	}
	a.ends = append(a.ends, len(a.buf))
}

// Row takes a row.
func (a *answer) Row(_ int, row sqlite.Row) error {
	if n := &a.rows[len(a.rows)-1]; *n > 0 {
		a.buf = append(a.buf, ',')
	}
	a.rows[len(a.rows)-1]++
	if a.format == arrays {
		a.buf = append(a.buf, '[')
		for i := range row.Len() {
			if i > 0 {
				a.buf = append(a.buf, ',')
			}
			a.value(row, i)
		}
		a.buf = append(a.buf, ']')
		return a.bound()
	}
	a.buf = append(a.buf, '{')
	first := true
	for i := range row.Len() {
		if i >= len(a.keys) || a.keys[i] == nil {
			continue
		}
		if !first {
			a.buf = append(a.buf, ',')
		}
		first = false
		a.buf = append(a.buf, a.keys[i]...)
		a.value(row, i)
	}
	a.buf = append(a.buf, '}')
	return a.bound()
}

func (a *answer) value(row sqlite.Row, i int) {
	switch row.Type(i) {
	case sqlite.Integer:
		a.buf = wire.AppendInt(a.buf, row.Int(i))
	case sqlite.Float:
		a.buf = wire.AppendFloat(a.buf, row.Float(i))
	case sqlite.Text:
		a.buf = wire.AppendText(a.buf, row.Bytes(i))
	case sqlite.Blob:
		a.buf = wire.AppendBlob(a.buf, row.Bytes(i))
	default:
		a.buf = append(a.buf, "null"...)
	}
}

// bound refuses what grows too large.
func (a *answer) bound() error {
	if len(a.buf) > maxAnswer {
		return fault.New(fault.TooMuch, "The result is larger than the limit of %d MiB as JSON: narrow it down by WHERE, or read it in parts by LIMIT.", maxAnswer>>20)
	}
	size := int64(cap(a.buf))
	if size <= freeAnswer || size == a.taken {
		return nil
	}
	now := a.room.used.Add(size - a.taken)
	a.taken = size
	if now > allAnswers {
		return fault.New(fault.Unavailable, "Too many large results are on their way at once: try again in a moment, or read in parts by LIMIT.")
	}
	return nil
}

// place is what meta says of where the database is.
type place struct{ region, colo string }

// finish puts the results in a list with what was done. groups says how many statements make one
// result, which is the last one's; nil means one each.
func (a *answer) finish(done sqlite.Answer, groups []int, at place) {
	a.end()
	for i := 1; i < len(done.Metas); i++ {
		if !done.Metas[i].ChangedDB { // one that only reads shows the row of those before it
			done.Metas[i].LastRowID = done.Metas[i-1].LastRowID
		}
	}
	if len(done.Metas) == 1 { // as most are: one piece
		a.buf = append(appendMeta(a.buf, done.Metas[0], at), ']')
		a.pieces = append(a.pieces, a.buf)
		return
	}
	from, next := 0, 0
	for n := 0; next < len(done.Metas); n++ {
		count := 1
		if groups != nil {
			count = groups[n]
		}
		next += count
		if count > 1 {
			from = a.ends[next-2]
		}
		switch {
		case n > 0:
			a.pieces = append(a.pieces, []byte(","+opening))
		case from > 0:
			a.pieces = append(a.pieces, []byte("["+opening))
		}
		a.pieces = append(a.pieces, a.buf[from:a.ends[next-1]], appendMeta(make([]byte, 0, 384), sum(done.Metas[next-count:next]), at))
		from = a.ends[next-1]
	}
	a.pieces = append(a.pieces, []byte("]"))
}

// opening stands before the rows of each result.
const opening = `{"success":true,"results":`

// sum is what several statements did together.
func sum(metas []sqlite.Meta) sqlite.Meta {
	all := metas[len(metas)-1]
	for _, m := range metas[:len(metas)-1] {
		all.Duration += m.Duration
		all.RowsRead += m.RowsRead
		all.RowsWritten += m.RowsWritten
		all.Changes += m.Changes
		all.ChangedDB = all.ChangedDB || m.ChangedDB
	}
	return all
}

func appendMeta(b []byte, m sqlite.Meta, at place) []byte {
	ms := float64(m.Duration.Microseconds()) / 1000
	b = append(b, `,"meta":{"served_by":"`+servedBy+`","served_by_region":`...)
	b = wire.AppendText(b, []byte(at.region))
	b = append(b, `,"served_by_colo":`...)
	b = wire.AppendText(b, []byte(at.colo))
	b = append(b, `,"served_by_primary":true,"total_attempts":1,"timings":{"sql_duration_ms":`...)
	b = wire.AppendFloat(b, ms)
	b = append(b, `},"duration":`...)
	b = wire.AppendFloat(b, ms)
	b = append(b, `,"changes":`...)
	b = strconv.AppendInt(b, m.Changes, 10)
	b = append(b, `,"last_row_id":`...)
	b = wire.AppendInt(b, m.LastRowID)
	b = append(b, `,"changed_db":`...)
	b = strconv.AppendBool(b, m.ChangedDB)
	b = append(b, `,"size_after":`...)
	b = strconv.AppendInt(b, m.SizeAfter, 10)
	b = append(b, `,"rows_read":`...)
	b = strconv.AppendInt(b, m.RowsRead, 10)
	b = append(b, `,"rows_written":`...)
	b = strconv.AppendInt(b, m.RowsWritten, 10)
	return append(b, `}}`...)
}

// servedBy is what meta calls the node.
const servedBy = "selvage"

// size returns how many bytes are to be read.
func (a *answer) size() int64 {
	n := 0
	for _, p := range a.pieces {
		n += len(p)
	}
	return int64(n)
}

// Read reads what finish put together.
func (a *answer) Read(p []byte) (n int, err error) {
	for n < len(p) && len(a.pieces) > 0 {
		m := copy(p[n:], a.pieces[0])
		n += m
		if a.pieces[0] = a.pieces[0][m:]; len(a.pieces[0]) == 0 {
			a.pieces = a.pieces[1:]
		}
	}
	if n == 0 && len(p) > 0 {
		return 0, io.EOF
	}
	return n, nil
}

// WriteTo writes what finish put together.
func (a *answer) WriteTo(w io.Writer) (n int64, err error) {
	for len(a.pieces) > 0 {
		m, err := w.Write(a.pieces[0])
		if n += int64(m); err != nil {
			return n, err
		}
		a.pieces = a.pieces[1:]
	}
	return n, nil
}

// Close releases the answer.
func (a *answer) Close() error {
	a.release()
	return nil
}
