// Package wire reads and writes the JSON that D1's clients speak: statements with parameters come,
// results with columns and rows go. Both are hand-written, for a query is over sooner than
// encoding/json has read it.
package wire

import "strconv"

// Kind is the type of a value, as SQLite has them.
type Kind uint8

// Kinds of values.
const (
	Null Kind = iota
	Number
	Text
	Blob
)

// Value is a parameter. Numbers are floating-point: JavaScript has no others, and so D1 binds them.
type Value struct {
	Kind   Kind
	Number float64
	Bytes  []byte // Text, in UTF-8, and Blob
}

// Statement is SQL with its parameters.
type Statement struct {
	SQL    string
	Params []Value
}

// Error is what is wrong with a request. Path is empty, or such as params[2].
type Error struct {
	Path    string
	Message string
}

// Error returns the message.
func (e *Error) Error() string { return e.Message }

func at(index int) string { return "params[" + strconv.Itoa(index) + "]" }
