package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"unicode"
)

// A value of a Cap'n Proto text file is a string, a list ([]any), a record (map[string]any), or what
// is neither quoted nor bracketed (word); embed is resolved to the file's content (file).
type word string

type file struct {
	path string
	body []byte
}

// readConfig reads a .wd-test file and returns the first constant that is a Workerd.Config, with
// references to other constants resolved.
func readConfig(path string) (map[string]any, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	r := &reader{rest: string(text), dir: filepath.Dir(path)}
	consts := map[string]any{}
	main := ""
	for {
		tok := r.next()
		switch {
		case tok == "":
			if r.err != nil || main == "" {
				return nil, fmt.Errorf("no Workerd.Config in it: %v", r.err)
			}
			c, ok := resolve(consts[main], consts, 0).(map[string]any)
			if !ok {
				return nil, fmt.Errorf("the constant %s is no record", main)
			}
			return c, nil
		case tok == "const":
			name := r.next()
			r.expect(":")
			kind := r.until("=")
			consts[name] = r.value()
			r.expect(";")
			if main == "" && strings.TrimSpace(kind) == "Workerd.Config" {
				main = name
			}
		default: // using, file ID
			r.until(";")
		}
	}
}

// resolve puts constants where they are named.
func resolve(v any, consts map[string]any, depth int) any {
	if depth > 50 {
		return v
	}
	switch v := v.(type) {
	case word:
		if c, ok := consts[strings.TrimPrefix(string(v), ".")]; ok {
			return resolve(c, consts, depth+1)
		}
	case []any:
		for i := range v {
			v[i] = resolve(v[i], consts, depth+1)
		}
	case map[string]any:
		for k := range v {
			v[k] = resolve(v[k], consts, depth+1)
		}
	}
	return v
}

// reader reads tokens: one of ()[]=,;: or a quoted string (with its quotes) or a line after ` or a word.
type reader struct {
	rest string
	dir  string
	err  error
}

func (r *reader) skip() {
	for {
		r.rest = strings.TrimLeftFunc(r.rest, unicode.IsSpace)
		if !strings.HasPrefix(r.rest, "#") {
			return
		}
		_, r.rest, _ = strings.Cut(r.rest, "\n")
	}
}

func (r *reader) next() string {
	r.skip()
	if r.rest == "" || r.err != nil {
		return ""
	}
	n := 1
	switch c := r.rest[0]; {
	case c == '`':
		if n = strings.IndexByte(r.rest, '\n'); n < 0 {
			n = len(r.rest)
		}
	case c == '"':
		for n < len(r.rest) && r.rest[n] != '"' {
			if r.rest[n] == '\\' {
				n++
			}
			n++
		}
		n++
	case !strings.ContainsRune("()[]=,;:", rune(c)):
		if n = strings.IndexFunc(r.rest, func(c rune) bool { return unicode.IsSpace(c) || strings.ContainsRune("()[]=,;:\"#", c) }); n < 0 {
			n = len(r.rest)
		}
	}
	tok := r.rest[:min(n, len(r.rest))]
	r.rest = r.rest[len(tok):]
	return tok
}

func (r *reader) peek() string {
	rest := r.rest
	tok := r.next()
	r.rest = rest
	return tok
}

func (r *reader) expect(tok string) {
	if got := r.next(); got != tok && r.err == nil {
		r.err = fmt.Errorf("%q where %q was expected, before %.40q", got, tok, r.rest)
	}
}

func (r *reader) until(end string) string {
	var all strings.Builder
	for tok := r.next(); tok != end && tok != ""; tok = r.next() {
		all.WriteString(tok)
	}
	return all.String()
}

func (r *reader) value() any {
	switch tok := r.next(); {
	case tok == "(":
		return r.record()
	case tok == "[":
		return r.list()
	case strings.HasPrefix(tok, `"`):
		return r.quoted(tok)
	case strings.HasPrefix(tok, "`"): // a block of lines
		text := tok[1:] + "\n"
		for strings.HasPrefix(r.peek(), "`") {
			text += r.next()[1:] + "\n"
		}
		return text
	case tok == "embed":
		path, _ := r.quoted(r.next()).(string)
		path = filepath.Join(r.dir, path)
		body, err := os.ReadFile(path)
		if err != nil && r.err == nil {
			r.err = err
		}
		return file{path, body}
	default:
		return word(tok)
	}
}

func (r *reader) quoted(tok string) any {
	s, err := strconv.Unquote(strings.ReplaceAll(tok, "\n", `\n`))
	if err != nil && r.err == nil {
		r.err = fmt.Errorf("string %.40q: %w", tok, err)
	}
	for strings.HasPrefix(r.peek(), `"`) {
		more, _ := r.value().(string)
		s += more
	}
	return s
}

func (r *reader) record() any {
	out := map[string]any{}
	for r.err == nil && r.peek() != ")" {
		name := r.next()
		r.expect("=")
		out[name] = r.value()
		if r.peek() != ")" {
			r.expect(",")
		}
	}
	r.expect(")")
	return out
}

func (r *reader) list() any {
	out := []any{}
	for r.err == nil && r.peek() != "]" {
		out = append(out, r.value())
		if r.peek() != "]" {
			r.expect(",")
		}
	}
	r.expect("]")
	return out
}
