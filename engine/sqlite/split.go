package sqlite

import (
	"bufio"
	"errors"
	"io"
	"strings"

	"selvage/foundation/fault"
)

// Split cuts SQL into its statements as sqlite3_complete does: a ; inside a string, a name, a comment or the body of a
// trigger ends nothing. What holds only white space and comments is left out.
func Split(sql string) []string {
	var all []string
	s := newScannerOver(sql)
	for {
		text, err := s.next()
		if text != "" {
			all = append(all, text)
		}
		if err != nil {
			return all
		}
	}
}

// The states between tokens and what a token makes of them, after sqlite3_complete.
const (
	atStart = iota
	inStatement
	inExplain
	inCreate
	inTrigger
	afterSemicolon // in a trigger
	afterEnd       // in a trigger, after "; END"
)

type token int

const (
	semicolon token = iota
	space
	other
	explainWord
	createWord
	tempWord
	triggerWord
	endWord
)

var completes = [7][8]int{
	atStart:        {atStart, atStart, inStatement, inExplain, inCreate, inStatement, inStatement, inStatement},
	inStatement:    {atStart, inStatement, inStatement, inStatement, inStatement, inStatement, inStatement, inStatement},
	inExplain:      {atStart, inExplain, inExplain, inStatement, inCreate, inStatement, inStatement, inStatement},
	inCreate:       {atStart, inCreate, inStatement, inStatement, inStatement, inCreate, inTrigger, inStatement},
	inTrigger:      {afterSemicolon, inTrigger, inTrigger, inTrigger, inTrigger, inTrigger, inTrigger, inTrigger},
	afterSemicolon: {afterSemicolon, afterSemicolon, inTrigger, inTrigger, inTrigger, inTrigger, inTrigger, afterEnd},
	afterEnd:       {atStart, afterEnd, inTrigger, inTrigger, inTrigger, inTrigger, inTrigger, inTrigger},
}

// scanner reads statements from a stream. A statement longer than limit is an error.
type scanner struct {
	r     *bufio.Reader
	limit int
	text  []byte
	state int
	solid bool // the statement has more than white space and comments
}

func newScanner(r io.Reader, limit int) *scanner {
	return &scanner{r: bufio.NewReaderSize(r, 64<<10), limit: limit}
}

// next returns the next statement without its white space around; "" and io.EOF at the end. The last statement needs no ;
// and comes with io.EOF.
func (s *scanner) next() (string, error) {
	s.text, s.state, s.solid = s.text[:0], atStart, false
	for {
		t, err := s.token()
		if err != nil {
			if errors.Is(err, io.EOF) && s.solid {
				return strings.TrimSpace(string(s.text)), io.EOF
			}
			return "", err
		}
		s.solid = s.solid || (t != space && t != semicolon)
		if s.state = completes[s.state][t]; s.state == atStart && t == semicolon {
			if s.solid {
				return strings.TrimSpace(string(s.text)), nil
			}
			s.text = s.text[:0]
		}
	}
}

// token reads one token into s.text.
func (s *scanner) token() (token, error) {
	c, err := s.take()
	if err != nil {
		return 0, err
	}
	switch {
	case c == ';':
		return semicolon, nil
	case c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f':
		return space, nil
	case c == '/' && s.peek() == '*':
		return space, s.until(func(last, c byte) bool { return last == '*' && c == '/' }, true)
	case c == '-' && s.peek() == '-':
		return space, s.until(func(_, c byte) bool { return c == '\n' }, false)
	case c == '[':
		return other, s.until(func(_, c byte) bool { return c == ']' }, false)
	case c == '`' || c == '"' || c == '\'':
		return other, s.until(func(_, q byte) bool { return q == c }, false)
	case wordByte(c):
		return s.word()
	}
	return other, nil
}

// until takes bytes to the one that ends the token, or to the end of the stream. With skip the first byte ends nothing.
func (s *scanner) until(end func(last, c byte) bool, skip bool) error {
	var last byte
	if skip {
		if _, err := s.take(); err != nil {
			return ignoreEOF(err)
		}
	}
	for {
		c, err := s.take()
		if err != nil {
			return ignoreEOF(err)
		}
		if end(last, c) {
			return nil
		}
		last = c
	}
}

func ignoreEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

func (s *scanner) word() (token, error) {
	start := len(s.text) - 1
	for wordByte(s.peek()) {
		if _, err := s.take(); err != nil {
			return 0, err
		}
	}
	word := s.text[start:]
	if len(word) > 9 {
		return other, nil
	}
	switch strings.ToLower(string(word)) {
	case "create":
		return createWord, nil
	case "trigger":
		return triggerWord, nil
	case "temp", "temporary":
		return tempWord, nil
	case "end":
		return endWord, nil
	case "explain":
		return explainWord, nil
	}
	return other, nil
}

func wordByte(c byte) bool {
	return c == '_' || c == '$' || c >= 0x80 || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')
}

func (s *scanner) take() (byte, error) {
	c, err := s.r.ReadByte()
	if err != nil {
		return 0, err
	}
	if len(s.text) >= s.limit && s.solid {
		return 0, fault.New(fault.TooMuch, "Statement too long: a statement has more than %d bytes: SQLITE_TOOBIG.", s.limit)
	}
	if len(s.text) >= s.limit {
		s.text = s.text[:0] // comments and white space before a statement may go on
	}
	s.text = append(s.text, c)
	return c, nil
}

func (s *scanner) peek() byte {
	b, err := s.r.Peek(1)
	if err != nil {
		return 0
	}
	return b[0]
}

// blank reports that sql holds no statement.
func blank(sql string) bool { return len(Split(sql)) == 0 }

// firstWord returns the word that sql begins with, after white space, comments and parentheses.
func firstWord(sql string) string {
	plain := strings.TrimLeft(sql, " \t\r\n(")
	for i := range len(plain) {
		if wordByte(plain[i]) {
			continue
		}
		if i > 0 {
			return plain[:i]
		}
		break
	}
	s := newScannerOver(sql)
	for {
		before := len(s.text)
		t, err := s.token()
		if err != nil {
			return ""
		}
		if t != space && t != semicolon && s.text[before] != '(' {
			return string(s.text[before:])
		}
	}
}

func newScannerOver(sql string) *scanner {
	return &scanner{r: bufio.NewReaderSize(strings.NewReader(sql), 64), limit: len(sql) + 1}
}
