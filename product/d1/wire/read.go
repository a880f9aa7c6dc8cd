package wire

import (
	"encoding/json"
	"strconv"
	"unicode/utf8"
)

// Bounds of a request.
const (
	MaxStatements = 10_000
	MaxParams     = 1000 // of a statement; SQLite's own limit is below it
	maxDepth      = 16   // of what is read over
)

// Read reads what the runtime's client sends: one {"sql", "params"} or a list of them. Other fields
// are passed over. The statements' bytes are those of body, which must not be changed while they
// are in use. An error is an *Error.
func Read(body []byte) ([]Statement, error) {
	r := reader{b: body}
	r.space()
	var all []Statement
	if r.peek() != '[' {
		all = append(all, r.statement())
	} else {
		r.list(func(i int) {
			if i >= MaxStatements {
				r.fail("", "The batch has more than "+strconv.Itoa(MaxStatements)+" statements; send it in parts.")
				return
			}
			all = append(all, r.statement())
		})
	}
	r.space()
	if r.err == nil && r.i < len(r.b) {
		r.bad()
	}
	if r.err != nil {
		return nil, r.err
	}
	return all, nil
}

// ReadParams reads a list of parameters, such as is a field of a body that is read already.
func ReadParams(body []byte) ([]Value, error) {
	r := reader{b: body}
	r.space()
	params := r.params()
	r.space()
	if r.err == nil && r.i < len(r.b) {
		r.bad()
	}
	if r.err != nil {
		return nil, r.err
	}
	return params, nil
}

// reader goes over JSON once. After the first error nothing more is read.
type reader struct {
	b   []byte
	i   int
	err error
}

func (r *reader) statement() (s Statement) {
	found := false
	r.object(func(name []byte) {
		switch string(name) {
		case "sql":
			if r.peek() != '"' {
				r.fail("sql", "The field sql must be a string.")
				return
			}
			s.SQL, found = string(r.text()), true
		case "params":
			s.Params = r.params()
		default:
			r.pass(0)
		}
	})
	if !found {
		r.fail("sql", "A query needs the field sql, a string.")
	}
	return s
}

// params reads a list of values, or null for none.
func (r *reader) params() (params []Value) {
	if r.peek() == 'n' {
		r.word("null")
		return nil
	}
	if r.peek() != '[' {
		r.fail("params", "The field params must be a list of values.")
		return nil
	}
	r.list(func(i int) {
		if i >= MaxParams {
			r.fail("params", "too many SQL variables: "+strconv.Itoa(MaxParams)+" parameters and more")
			return
		}
		params = append(params, r.value(i))
	})
	return params
}

func (r *reader) value(index int) (v Value) {
	switch c := r.peek(); c {
	case '"':
		return Value{Kind: Text, Bytes: r.text()}
	case 'n':
		r.word("null")
	case 't':
		r.word("true")
		return Value{Kind: Number, Number: 1}
	case 'f':
		r.word("false")
		return Value{Kind: Number}
	case '[':
		return Value{Kind: Blob, Bytes: r.octets(index)}
	case '{':
		r.fail(at(index), "The parameter "+strconv.Itoa(index+1)+" is an object; parameters are null, numbers, strings, booleans and lists of bytes.")
	default:
		return Value{Kind: Number, Number: r.number()}
	}
	return v
}

// octets reads a list of numbers from 0 to 255.
func (r *reader) octets(index int) []byte {
	size := 0
	for j := r.i; j < len(r.b) && r.b[j] != ']'; j++ {
		if r.b[j] == ',' {
			size++
		}
	}
	out := make([]byte, 0, size+1)
	r.list(func(int) {
		n, digits := 0, 0
		for r.i < len(r.b) && r.b[r.i] >= '0' && r.b[r.i] <= '9' && digits < 4 {
			n, digits = n*10+int(r.b[r.i]-'0'), digits+1
			r.i++
		}
		if c := r.peek(); digits == 0 || digits > 3 || n > 255 || c != 0 && numeric(c) {
			r.fail(at(index), "The parameter "+strconv.Itoa(index+1)+" is a list; only lists of whole numbers from 0 to 255 can be bound, as bytes.")
			return
		}
		out = append(out, byte(n))
	})
	return out
}

// number reads a number as JavaScript does: what is too large is infinite.
func (r *reader) number() float64 {
	from := r.i
	for r.i < len(r.b) && numeric(r.b[r.i]) {
		r.i++
	}
	text := r.b[from:r.i]
	if n, ok := small(text); ok {
		return n
	}
	if !json.Valid(text) {
		r.bad()
		return 0
	}
	n, _ := strconv.ParseFloat(string(text), 64) // the error is that of the range
	return n
}

// small reads whole numbers of few digits, which most are.
func small(text []byte) (float64, bool) {
	negative := len(text) > 1 && text[0] == '-'
	if negative {
		text = text[1:]
	}
	if len(text) == 0 || len(text) > 15 || text[0] == '0' && (len(text) > 1 || negative) {
		return 0, false
	}
	n := int64(0)
	for _, c := range text {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	if negative {
		n = -n
	}
	return float64(n), true
}

func numeric(c byte) bool {
	return c >= '0' && c <= '9' || c == '-' || c == '+' || c == '.' || c == 'e' || c == 'E'
}

// text reads a string. One without escapes is a part of the body.
func (r *reader) text() []byte {
	from := r.i + 1
	for j := from; j < len(r.b); j++ {
		switch c := r.b[j]; {
		case c == '"':
			r.i = j + 1
			if s := r.b[from:j]; utf8.Valid(s) {
				return s
			}
			return []byte(string([]rune(string(r.b[from:j]))))
		case c == '\\':
			return r.escaped()
		case c < ' ':
			r.bad()
			return nil
		}
	}
	r.i = len(r.b)
	r.bad()
	return nil
}

// escaped reads a string by the library: escapes are rare.
func (r *reader) escaped() []byte {
	from := r.i
	for j := from + 1; j < len(r.b); j++ {
		if r.b[j] == '\\' {
			j++
			continue
		}
		if r.b[j] != '"' {
			continue
		}
		var s string
		if json.Unmarshal(r.b[from:j+1], &s) != nil {
			break
		}
		r.i = j + 1
		return []byte(s)
	}
	r.bad()
	return nil
}

func (r *reader) list(each func(i int)) {
	r.i++
	r.space()
	if r.peek() == ']' {
		r.i++
		return
	}
	for i := 0; r.err == nil; i++ {
		each(i)
		r.space()
		switch r.peek() {
		case ',':
			r.i++
			r.space()
		case ']':
			r.i++
			return
		default:
			r.bad()
		}
	}
}

func (r *reader) object(each func(name []byte)) {
	if r.peek() != '{' {
		r.fail("", "The request must be an object with the field sql, or a list of such objects.")
		return
	}
	r.i++
	r.space()
	if r.peek() == '}' {
		r.i++
		return
	}
	for r.err == nil {
		if r.peek() != '"' {
			r.bad()
			return
		}
		name := r.text()
		r.space()
		if r.peek() != ':' {
			r.bad()
			return
		}
		r.i++
		r.space()
		if r.err != nil {
			return
		}
		each(name)
		r.space()
		switch r.peek() {
		case ',':
			r.i++
			r.space()
		case '}':
			r.i++
			return
		default:
			r.bad()
		}
	}
}

// pass reads over a value.
func (r *reader) pass(depth int) {
	if depth > maxDepth {
		r.fail("", "The request is nested too deep.")
		return
	}
	switch r.peek() {
	case '"':
		r.text()
	case '{':
		r.object(func([]byte) { r.pass(depth + 1) })
	case '[':
		r.list(func(int) { r.pass(depth + 1) })
	case 'n':
		r.word("null")
	case 't':
		r.word("true")
	case 'f':
		r.word("false")
	default:
		r.number()
	}
}

func (r *reader) word(w string) {
	if len(r.b)-r.i < len(w) || string(r.b[r.i:r.i+len(w)]) != w {
		r.bad()
		return
	}
	r.i += len(w)
}

func (r *reader) space() {
	for r.i < len(r.b) && (r.b[r.i] == ' ' || r.b[r.i] == '\n' || r.b[r.i] == '\r' || r.b[r.i] == '\t') {
		r.i++
	}
}

// peek returns the next byte, 0 at the end and after an error.
func (r *reader) peek() byte {
	if r.err != nil || r.i >= len(r.b) {
		return 0
	}
	return r.b[r.i]
}

func (r *reader) bad() {
	if r.i >= len(r.b) {
		r.fail("", "Malformed JSON in request body: it ends in the middle of a value.")
		return
	}
	r.fail("", "Malformed JSON in request body at byte "+strconv.Itoa(r.i+1)+".")
}

func (r *reader) fail(path, message string) {
	if r.err == nil {
		r.err = &Error{Path: path, Message: message}
	}
}
