package raw

import (
	"fmt"
	"unsafe"

	"modernc.org/libc"
	"modernc.org/libc/sys/types"
	lib "modernc.org/sqlite/lib"
)

// Stmt is a prepared statement. It belongs to its connection's goroutine.
type Stmt struct {
	c       *Conn
	p       uintptr
	columns []string
}

// Prepare compiles the first statement of sql and returns what follows it. A nil statement means that sql has none:
// white space and comments only.
func (c *Conn) Prepare(sql string) (s *Stmt, rest string, err error) {
	text, err := libc.CString(sql)
	if err != nil {
		return nil, "", &Error{Code: lib.SQLITE_NOMEM, Message: "out of memory", Offset: -1}
	}
	defer libc.Xfree(c.tls, text)
	out := c.tls.Alloc(16)
	defer c.tls.Free(16)
	code := lib.Xsqlite3_prepare_v3(c.tls, c.db, text, int32(len(sql)+1), lib.SQLITE_PREPARE_PERSISTENT, out, out+8)
	if p := c.Panicked(); p != nil {
		return nil, "", fmt.Errorf("prepare: a callback panicked: %v", p)
	}
	if code != lib.SQLITE_OK {
		return nil, "", c.errorOf(code)
	}
	rest = sql[min(int(*at[uintptr](out + 8)-text), len(sql)):]
	p := *at[uintptr](out)
	if p == 0 {
		return nil, rest, nil
	}
	return &Stmt{c: c, p: p}, rest, nil
}

// Finalize ends the statement.
func (s *Stmt) Finalize() {
	lib.Xsqlite3_finalize(s.c.tls, s.p)
	s.p = 0
}

// Reset ends the run of the statement and forgets what was bound.
func (s *Stmt) Reset() {
	lib.Xsqlite3_reset(s.c.tls, s.p)
	lib.Xsqlite3_clear_bindings(s.c.tls, s.p)
}

// Step runs to the next row; false at the end.
func (s *Stmt) Step() (row bool, err error) {
	switch code := lib.Xsqlite3_step(s.c.tls, s.p); code {
	case lib.SQLITE_ROW:
		return true, nil
	case lib.SQLITE_DONE:
		return false, nil
	default:
		return false, s.c.errorOf(code)
	}
}

// ReadOnly reports that the statement cannot write to the database file.
func (s *Stmt) ReadOnly() bool { return lib.Xsqlite3_stmt_readonly(s.c.tls, s.p) != 0 }

// Params returns the number of parameters.
func (s *Stmt) Params() int { return int(lib.Xsqlite3_bind_parameter_count(s.c.tls, s.p)) }

// Columns returns the names of the result's columns, which may change when the schema does: call it after the first Step.
func (s *Stmt) Columns() []string {
	n := int(lib.Xsqlite3_column_count(s.c.tls, s.p))
	if len(s.columns) != n {
		s.columns = make([]string, n)
	}
	for i := range s.columns {
		name := lib.Xsqlite3_column_name(s.c.tls, s.p, int32(i))
		if s.columns[i] != string(bytesAt(name, int(libc.Xstrlen(s.c.tls, name)))) {
			s.columns[i] = text(name)
		}
	}
	return s.columns
}

// Bind sets parameter i, from 1: nil, bool, int64, float64, string or []byte.
func (s *Stmt) Bind(i int, value any) error {
	n := int32(i)
	switch v := value.(type) {
	case nil:
		return s.c.check(lib.Xsqlite3_bind_null(s.c.tls, s.p, n))
	case bool:
		b := int64(0)
		if v {
			b = 1
		}
		return s.c.check(lib.Xsqlite3_bind_int64(s.c.tls, s.p, n, b))
	case int64:
		return s.c.check(lib.Xsqlite3_bind_int64(s.c.tls, s.p, n, v))
	case int:
		return s.c.check(lib.Xsqlite3_bind_int64(s.c.tls, s.p, n, int64(v)))
	case float64:
		return s.c.check(lib.Xsqlite3_bind_double(s.c.tls, s.p, n, v))
	case string:
		p, err := s.c.keep(unsafe.Slice(unsafe.StringData(v), len(v)))
		if err != nil {
			return err
		}
		return s.c.check(lib.Xsqlite3_bind_text(s.c.tls, s.p, n, p, int32(len(v)), function(libc.Xfree)))
	case []byte:
		p, err := s.c.keep(v)
		if err != nil {
			return err
		}
		return s.c.check(lib.Xsqlite3_bind_blob(s.c.tls, s.p, n, p, int32(len(v)), function(libc.Xfree)))
	}
	return fmt.Errorf("bind parameter %d: %T is no SQLite value", i, value)
}

// keep copies b to SQLite's side, who frees it.
func (c *Conn) keep(b []byte) (uintptr, error) {
	p := libc.Xmalloc(c.tls, types.Size_t(max(len(b), 1)))
	if p == 0 {
		return 0, &Error{Code: lib.SQLITE_NOMEM, Message: "out of memory", Offset: -1}
	}
	copy(bytesAt(p, len(b)), b)
	return p, nil
}

func bytesAt(p uintptr, n int) []byte {
	if p == 0 || n == 0 {
		return nil
	}
	return unsafe.Slice(at[byte](p), n)
}

// What a value can be.
const (
	Integer = lib.SQLITE_INTEGER
	Float   = lib.SQLITE_FLOAT
	Text    = lib.SQLITE_TEXT
	Blob    = lib.SQLITE_BLOB
	Null    = lib.SQLITE_NULL
)

// Type returns what column i, from 0, holds in this row.
func (s *Stmt) Type(i int) int { return int(lib.Xsqlite3_column_type(s.c.tls, s.p, int32(i))) }

// Int returns column i as an integer.
func (s *Stmt) Int(i int) int64 { return lib.Xsqlite3_column_int64(s.c.tls, s.p, int32(i)) }

// Float returns column i as a float.
func (s *Stmt) Float(i int) float64 { return lib.Xsqlite3_column_double(s.c.tls, s.p, int32(i)) }

// Bytes returns a text or blob without copying it: it is valid until the next Step or Reset.
func (s *Stmt) Bytes(i int) []byte {
	var p uintptr
	if s.Type(i) == Text {
		p = lib.Xsqlite3_column_text(s.c.tls, s.p, int32(i))
	} else {
		p = lib.Xsqlite3_column_blob(s.c.tls, s.p, int32(i))
	}
	return bytesAt(p, int(lib.Xsqlite3_column_bytes(s.c.tls, s.p, int32(i))))
}

// Len returns the number of columns in this row.
func (s *Stmt) Len() int { return int(lib.Xsqlite3_data_count(s.c.tls, s.p)) }
