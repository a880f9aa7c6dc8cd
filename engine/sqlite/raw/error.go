package raw

import (
	"strconv"

	"modernc.org/libc"
	lib "modernc.org/sqlite/lib"
)

// Error is SQLite's.
type Error struct {
	Code    int32  // extended
	Message string // sqlite3_errmsg
	Offset  int    // of the token in the SQL, -1 if there is none
}

// Error returns the message, where in the SQL, and the names of the codes, in workerd's form:
// near "x": syntax error at offset 0: SQLITE_ERROR.
func (e *Error) Error() string {
	text := e.Message
	if e.Offset >= 0 {
		text += " at offset " + strconv.Itoa(e.Offset)
	}
	text += ": " + primaryNames[e.Code&0xff]
	if name := extendedNames[e.Code]; name != "" {
		text += " (extended: " + name + ")"
	}
	return text
}

// Primary returns the code without its extension.
func (e *Error) Primary() int32 { return e.Code & 0xff }

func (c *Conn) errorOf(code int32) error {
	e := &Error{Code: code, Offset: -1}
	if c.db == 0 || code&0xff == lib.SQLITE_MISUSE {
		e.Message = libc.GoString(lib.Xsqlite3_errstr(c.tls, code))
		return e
	}
	e.Message = libc.GoString(lib.Xsqlite3_errmsg(c.tls, c.db))
	e.Offset = int(lib.Xsqlite3_error_offset(c.tls, c.db))
	return e
}
