// Package sourcemap finds out where generated JavaScript came from. It reads source maps of version 3
// (ECMA-426), those made of sections too, and takes them for what they are: input of strangers.
package sourcemap

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"path"
	"slices"
	"strings"
)

// Limits of one map. Over them, Parse refuses.
const (
	MaxBytes    = 32 << 20
	maxSegments = 4 << 20
	maxSources  = 100_000
	maxSections = 10_000
	maxName     = 1024 // bytes of a source's name; longer ones are cut
)

// Map tells for each place of a generated file which place it came from. It does not change and is
// safe for concurrent use.
type Map struct {
	sources  []string
	segments []segment // by line, then column
}

// segment says where the generated code from its place on came from. source is -1 if from nowhere.
type segment struct {
	line, column                 int32
	source, fromLine, fromColumn int32
}

// Position is a place in a source. Line and Column count from 0.
type Position struct {
	Source       string
	Line, Column int
}

// document is a source map as it is written. What is not needed to find places is left out.
type document struct {
	Version    int             `json:"version"`
	SourceRoot string          `json:"sourceRoot"`
	Sources    json.RawMessage `json:"sources"`
	Mappings   string          `json:"mappings"`
	Sections   json.RawMessage `json:"sections"`
}

type section struct {
	Offset struct {
		Line   int `json:"line"`
		Column int `json:"column"`
	} `json:"offset"`
	Map json.RawMessage `json:"map"`
}

// Parse reads a source map.
func Parse(data []byte) (*Map, error) {
	if len(data) > MaxBytes {
		return nil, fmt.Errorf("the source map has %d bytes, the limit is %d", len(data), MaxBytes)
	}
	var d document
	if err := json.Unmarshal(withoutGuard(data), &d); err != nil {
		return nil, fmt.Errorf("the source map is not JSON of its form: %w", err)
	}
	m := &Map{}
	if len(d.Sections) == 0 || string(d.Sections) == "null" {
		if err := m.add(&d, 0, 0); err != nil {
			return nil, err
		}
	} else if err := m.addSections(&d); err != nil {
		return nil, err
	}
	m.segments, m.sources = slices.Clip(m.segments), slices.Clip(m.sources)
	return m, nil
}

// withoutGuard cuts the line that servers put before JSON so that it is no script.
func withoutGuard(data []byte) []byte {
	if !bytes.HasPrefix(data, []byte(")]}'")) {
		return data
	}
	_, rest, _ := bytes.Cut(data, []byte("\n"))
	return rest
}

func (m *Map) addSections(d *document) error {
	if err := checkVersion(d); err != nil {
		return err
	}
	sections, err := decodeList[section]("sections", d.Sections, maxSections)
	if err != nil {
		return err
	}
	line, column := 0, 0
	for i, s := range sections {
		o := s.Offset
		if o.Line < line || o.Line == line && o.Column < column || o.Line > math.MaxInt32 || o.Column > math.MaxInt32 {
			return fmt.Errorf("sections[%d] begins at %d:%d, which is not behind the one before", i, o.Line, o.Column)
		}
		line, column = o.Line, o.Column
		var part document
		if err := json.Unmarshal(s.Map, &part); err != nil {
			return fmt.Errorf("sections[%d].map: %w", i, err)
		}
		if len(part.Sections) > 0 {
			return fmt.Errorf("sections[%d].map has sections itself, which is not allowed", i)
		}
		if err := m.add(&part, line, column); err != nil {
			return fmt.Errorf("sections[%d].map: %w", i, err)
		}
	}
	return nil
}

func checkVersion(d *document) error {
	if d.Version != 3 {
		return fmt.Errorf("the source map has version %d; only 3 is known", d.Version)
	}
	return nil
}

// add appends a map whose first character stands at line and column.
func (m *Map) add(d *document, line, column int) error {
	if err := checkVersion(d); err != nil {
		return err
	}
	sources, err := decodeList[*string]("sources", d.Sources, maxSources-len(m.sources))
	if err != nil {
		return err
	}
	first := len(m.sources)
	for _, s := range sources {
		m.sources = append(m.sources, resolve(d.SourceRoot, s))
	}
	return m.decode(d.Mappings, start{line: line, column: column, first: first, count: len(sources)})
}

// decodeList reads a list that may have at most limit entries: a short text can ask for much memory.
func decodeList[T any](what string, data []byte, limit int) ([]T, error) {
	if len(data) == 0 || string(data) == "null" {
		return nil, nil
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	if t, err := dec.Token(); err != nil || t != json.Delim('[') {
		return nil, fmt.Errorf("%s is not a list", what)
	}
	var list []T
	for dec.More() {
		if len(list) >= limit {
			return nil, fmt.Errorf("%s has more entries than the limit of %d", what, limit)
		}
		var v T
		if err := dec.Decode(&v); err != nil {
			return nil, fmt.Errorf("%s[%d]: %w", what, len(list), err)
		}
		list = append(list, v)
	}
	return list, nil
}

// resolve names a source: below its root, without the way up that leads out of the project.
func resolve(root string, source *string) string {
	if source == nil {
		return ""
	}
	name := *source
	if root != "" && !strings.Contains(name, "://") && !strings.HasPrefix(name, "/") {
		name = strings.TrimSuffix(root, "/") + "/" + name
	}
	if !strings.Contains(name, "://") {
		name = path.Clean(name)
		for strings.HasPrefix(name, "../") {
			name = name[3:]
		}
	}
	return strings.ToValidUTF8(name[:min(len(name), maxName)], "")
}

// start is where a map begins and which sources are its.
type start struct {
	line, column int // of the generated file
	first, count int // in Map.sources
}

// decode reads the mappings: lines apart by ';', segments by ','.
func (m *Map) decode(mappings string, at start) error {
	r := reader{text: mappings}
	line, column := at.line, at.column
	lineBegin, sorted := len(m.segments), true
	var source, fromLine, fromColumn int64
	endLine := func() {
		if own := m.segments[lineBegin:]; !sorted {
			slices.SortStableFunc(own, func(a, b segment) int { return cmp.Compare(a.column, b.column) })
		}
		line, column, lineBegin, sorted = line+1, 0, len(m.segments), true
	}
	generated := int64(0)
	for !r.done() {
		switch r.text[r.at] {
		case ';':
			r.at++
			endLine()
			generated = 0
			continue
		case ',':
			r.at++
			continue
		}
		var fields [5]int64
		n, err := r.segment(&fields)
		if err != nil {
			return err
		}
		generated += fields[0]
		s := segment{source: -1}
		if n >= 4 {
			source, fromLine, fromColumn = source+fields[1], fromLine+fields[2], fromColumn+fields[3]
			if source < 0 || source >= int64(at.count) || !fits(fromLine) || !fits(fromColumn) {
				return fmt.Errorf("the mappings lead out of the sources before character %d", r.at)
			}
			s.source, s.fromLine, s.fromColumn = int32(source)+int32(at.first), int32(fromLine), int32(fromColumn)
		}
		if !fits(generated) || !fits(int64(column)+generated) || !fits(int64(line)) {
			return fmt.Errorf("the mappings lead out of the file before character %d", r.at)
		}
		s.line, s.column = int32(line), int32(int64(column)+generated)
		if k := len(m.segments); k > lineBegin && m.segments[k-1].column > s.column {
			sorted = false
		}
		if len(m.segments) >= maxSegments {
			return fmt.Errorf("the mappings have more than %d segments", maxSegments)
		}
		m.segments = append(m.segments, s)
	}
	endLine()
	return nil
}

func fits(n int64) bool { return n >= 0 && n <= math.MaxInt32 }

// reader reads numbers in base 64, five bits a digit, the sign in the lowest bit (VLQ).
type reader struct {
	text string
	at   int
}

func (r *reader) done() bool { return r.at >= len(r.text) }

// segment reads 1, 4 or 5 numbers.
func (r *reader) segment(fields *[5]int64) (n int, err error) {
	for ; !r.done() && r.text[r.at] != ',' && r.text[r.at] != ';'; n++ {
		if n == len(fields) {
			return 0, fmt.Errorf("the mappings have a segment of more than 5 numbers before character %d", r.at)
		}
		if fields[n], err = r.number(); err != nil {
			return 0, err
		}
	}
	if n != 1 && n != 4 && n != 5 {
		return 0, fmt.Errorf("the mappings have a segment of %d numbers before character %d", n, r.at)
	}
	return n, nil
}

func (r *reader) number() (int64, error) {
	var v int64
	for shift := 0; ; shift += 5 {
		if r.done() || shift > 30 {
			return 0, fmt.Errorf("the mappings have a broken number before character %d", r.at)
		}
		d := digit(r.text[r.at])
		if d < 0 {
			return 0, fmt.Errorf("the mappings have %q at character %d, which is no digit", r.text[r.at], r.at)
		}
		r.at++
		v |= int64(d&31) << shift
		if d&32 == 0 {
			break
		}
	}
	if v&1 != 0 {
		return -(v >> 1), nil
	}
	return v >> 1, nil
}

func digit(c byte) int {
	switch {
	case c >= 'A' && c <= 'Z':
		return int(c - 'A')
	case c >= 'a' && c <= 'z':
		return int(c-'a') + 26
	case c >= '0' && c <= '9':
		return int(c-'0') + 52
	case c == '+':
		return 62
	case c == '/':
		return 63
	}
	return -1
}

// Find returns where the generated code at a place came from. line and column count from 0.
func (m *Map) Find(line, column int) (Position, bool) {
	i, exact := slices.BinarySearchFunc(m.segments, [2]int{line, column}, func(s segment, at [2]int) int {
		return cmp.Or(cmp.Compare(int(s.line), at[0]), cmp.Compare(int(s.column), at[1]))
	})
	if !exact {
		i--
	}
	if i < 0 || int(m.segments[i].line) != line || m.segments[i].source < 0 {
		return Position{}, false
	}
	s := m.segments[i]
	name := m.sources[s.source]
	return Position{Source: name, Line: int(s.fromLine), Column: int(s.fromColumn)}, name != ""
}

// Size returns about how many bytes of memory the map takes.
func (m *Map) Size() int {
	n := 64 + len(m.segments)*20
	for _, s := range m.sources {
		n += 16 + len(s)
	}
	return n
}
