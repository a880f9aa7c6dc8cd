package sqlite

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"selvage/engine/sqlite/raw"
	"selvage/foundation/fault"
)

// dumpTime bounds a dump, an import, a backup or a check.
const dumpTime = 12 * time.Hour

// Dump writes the database as SQL that Import and the sqlite3 shell read, one statement a line where its text has no line
// breaks of its own, as wrangler's d1 export gives it. It is one moment of the database; others read and write meanwhile.
func (s *Store) Dump(ctx context.Context, name string, w io.Writer, o DumpOptions) error {
	d, err := s.acquire(ctx, name)
	if err != nil {
		return err
	}
	defer s.release(d)
	c, err := d.connect(false)
	if err != nil {
		return d.explain(err)
	}
	defer c.close()
	out := &dump{c: c, w: bufio.NewWriterSize(w, 64<<10), o: o}
	err = c.watched(ctx, dumpTime, out.all)
	if err == nil {
		err = out.w.Flush()
	}
	return d.explain(err)
}

type dump struct {
	c *conn
	w *bufio.Writer
	o DumpOptions
}

// entry is a line of the schema.
type entry struct{ name, sql string }

var quotedName = regexp.MustCompile(`^CREATE TABLE ['"]`)

func (d *dump) all() error {
	if err := d.c.exec("BEGIN"); err != nil {
		return err
	}
	defer d.c.exec("ROLLBACK")
	d.line("PRAGMA defer_foreign_keys=TRUE;")
	tables, err := d.objects("type='table' AND sql NOT NULL ORDER BY tbl_name='sqlite_sequence', rowid")
	if err != nil {
		return err
	}
	for _, t := range tables {
		if d.chosen(t.name) {
			if err := d.table(t); err != nil {
				return err
			}
		}
	}
	if d.o.NoSchema {
		return nil
	}
	rest, err := d.objects("sql NOT NULL AND type IN ('index','trigger','view') ORDER BY type COLLATE NOCASE, rowid")
	if err != nil {
		return err
	}
	for _, o := range rest {
		if d.chosen(o.name) && permitted(o.name) {
			d.line(o.sql + ";")
		}
	}
	return nil
}

func (d *dump) chosen(name string) bool {
	return len(d.o.Tables) == 0 || slices.Contains(d.o.Tables, name)
}

func (d *dump) line(text string) {
	d.w.WriteString(text)
	d.w.WriteByte('\n')
}

func (d *dump) objects(where string) (all []entry, err error) {
	err = d.c.each("SELECT name, sql FROM sqlite_schema WHERE "+where, func(s *raw.Stmt) error {
		all = append(all, entry{string(s.Bytes(0)), string(s.Bytes(1))})
		return nil
	})
	return all, err
}

// table writes a table and its rows.
func (d *dump) table(t entry) error {
	head := t.sql + ";"
	switch {
	case t.name == "sqlite_sequence":
		head = "DELETE FROM sqlite_sequence;"
	case strings.HasPrefix(t.name, "sqlite_stat"):
		head = "ANALYZE sqlite_schema;"
	case strings.HasPrefix(t.sql, "CREATE VIRTUAL TABLE"):
		return fault.New(fault.Invalid, "D1 Export error: cannot export databases with Virtual Tables (fts5)")
	case !permitted(t.name) || strings.HasPrefix(t.name, "sqlite_"):
		return nil
	case quotedName.MatchString(t.sql):
		head = "CREATE TABLE IF NOT EXISTS " + t.sql[len("CREATE TABLE "):] + ";"
	}
	if !d.o.NoSchema {
		d.line(head)
	}
	if d.o.NoData {
		return nil
	}
	var columns []string
	err := d.c.each("PRAGMA table_info="+identifier(t.name), func(s *raw.Stmt) error {
		columns = append(columns, identifier(string(s.Bytes(1))))
		return nil
	})
	if err != nil {
		return err
	}
	insert := fmt.Sprintf("INSERT INTO %s (%s) VALUES(", identifier(t.name), strings.Join(columns, ","))
	return d.c.each("SELECT "+strings.Join(columns, ",")+" FROM "+identifier(t.name), func(s *raw.Stmt) error {
		d.w.WriteString(insert)
		for i := range columns {
			if i > 0 {
				d.w.WriteByte(',')
			}
			d.value(s, i)
		}
		_, err := d.w.WriteString(");\n")
		return err
	})
}

func (d *dump) value(s *raw.Stmt, i int) {
	switch s.Type(i) {
	case raw.Null:
		d.w.WriteString("NULL")
	case raw.Integer:
		d.w.WriteString(strconv.FormatInt(s.Int(i), 10))
	case raw.Float:
		d.w.WriteString(realText(s.Float(i)))
	case raw.Text:
		d.text(s.Bytes(i))
	case raw.Blob:
		d.w.WriteString("X'")
		hex.NewEncoder(d.w).Write(s.Bytes(i))
		d.w.WriteByte('\'')
	}
}

// realText writes a number that stays a real when it is read again.
func realText(f float64) string {
	if math.IsInf(f, 1) {
		return "1e999"
	}
	if math.IsInf(f, -1) {
		return "-1e999"
	}
	text := strconv.FormatFloat(f, 'g', -1, 64)
	if !strings.ContainsAny(text, ".e") {
		text += ".0"
	}
	return text
}

// text writes a string. Line breaks stand as \n and \r, which replace() turns back, so that each statement is one line;
// what SQL text cannot hold goes as a blob.
func (d *dump) text(b []byte) {
	if bytes.IndexByte(b, 0) >= 0 || !utf8.Valid(b) {
		d.w.WriteString("CAST(X'")
		hex.NewEncoder(d.w).Write(b)
		d.w.WriteString("' AS TEXT)")
		return
	}
	b = bytes.ReplaceAll(b, []byte("'"), []byte("''"))
	before, after := "", ""
	for _, breaks := range []struct{ char, mark, code string }{{"\n", `\n`, "10"}, {"\r", `\r`, "13"}} {
		if !bytes.Contains(b, []byte(breaks.char)) {
			continue
		}
		mark := breaks.mark
		for n := 0; bytes.Contains(b, []byte(mark)); n++ {
			mark = fmt.Sprintf(`(\%s%d)`, breaks.mark[1:], n)
		}
		b = bytes.ReplaceAll(b, []byte(breaks.char), []byte(mark))
		before = "replace(" + before
		after += ",'" + mark + "',char(" + breaks.code + "))"
	}
	d.w.WriteString(before)
	d.w.WriteByte('\'')
	d.w.Write(b)
	d.w.WriteByte('\'')
	d.w.WriteString(after)
}

// identifier quotes a name.
func identifier(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

// each runs a statement of ours and calls f with its rows.
func (c *conn) each(sql string, f func(*raw.Stmt) error) error {
	c.trusted = true
	s, _, err := c.raw.Prepare(sql)
	c.trusted = false
	if err != nil {
		return err
	}
	defer s.Finalize()
	for {
		row, err := s.Step()
		if err != nil || !row {
			return err
		}
		if err := f(s); err != nil {
			return err
		}
	}
}
