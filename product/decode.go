package product

import (
	"bytes"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"selvage/foundation/fault"
)

// MaxDepth is how deep a request body's objects and lists may stand in each other.
const MaxDepth = 64

// maxFindings is how many faults of one body are reported; more help nobody.
const maxFindings = 20

// codeMalformed is the v4 API's "malformed JSON in request body".
const codeMalformed = 6007

// Decode reads the body as one JSON value into the struct, slice or map that v points to. It is
// strict: unknown and repeated fields, values of the wrong type, bytes after the value, text that
// is not UTF-8 and nesting beyond MaxDepth are refused, each with the path of the field at fault.
// Names are matched exactly, unlike in encoding/json.
//
// ignored lists fields that real clients send and that have no meaning here, by path with "[]" for
// any index: "jump_start", "rules[].logging". They are accepted whatever they hold.
func (c *Call) Decode(v any, ignored ...string) error {
	if c.Body == nil {
		return fault.New(fault.Invalid, "The request has no body; send a JSON value.").WithCode(codeMalformed)
	}
	body, err := io.ReadAll(c.Body)
	if err != nil {
		if fault.KindOf(err) != fault.Internal {
			return err
		}
		return fault.Wrap(err, fault.Invalid, "The request body ended too early.").WithCode(codeMalformed)
	}
	return DecodeJSON(body, v, ignored...)
}

// DecodeJSON is Decode for a body already read, or for a part of one such as a rule's action
// parameters.
func DecodeJSON(body []byte, v any, ignored ...string) error {
	if len(bytes.TrimSpace(body)) == 0 {
		return fault.New(fault.Invalid, "The request has no body; send a JSON value.").WithCode(codeMalformed)
	}
	if !utf8.Valid(body) {
		return fault.New(fault.Invalid, "The request body is not valid UTF-8.").WithCode(codeMalformed)
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber()
	ck := &check{dec: dec, ignored: ignored, known: map[reflect.Type][]field{}}
	if err := ck.value(reflect.TypeOf(v).Elem()); err != nil {
		return malformed(err, dec)
	}
	if len(ck.faults) >= maxFindings {
		return errors.Join(ck.faults...)
	}
	if _, err := dec.Token(); err != io.EOF {
		return fault.New(fault.Invalid, "The request body goes on after its JSON value, at byte %d; send one value only.", dec.InputOffset()).WithCode(codeMalformed)
	}
	if len(ck.faults) > 0 {
		return errors.Join(ck.faults...)
	}
	if err := json.Unmarshal(body, v); err != nil {
		return mismatch(err)
	}
	return nil
}

// malformed turns an error of the token walk into a fault; faults pass through.
func malformed(err error, dec *json.Decoder) error {
	if fault.KindOf(err) != fault.Internal {
		return err
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fault.New(fault.Invalid, "Malformed JSON in request body: it ends in the middle of a value.").WithCode(codeMalformed)
	}
	return fault.New(fault.Invalid, "Malformed JSON in request body at byte %d: %s.", dec.InputOffset(), err.Error()).WithCode(codeMalformed)
}

// mismatch turns what only json.Unmarshal notices, such as a number that does not fit, into a fault.
func mismatch(err error) error {
	var te *json.UnmarshalTypeError
	if errors.As(err, &te) {
		return fault.New(fault.Invalid, "%s cannot hold this %s.", orValue(te.Field), te.Value).At(te.Field)
	}
	if kept := fault.All(err); len(kept) > 0 {
		return kept[0]
	}
	return fault.New(fault.Invalid, "The request body has a value that cannot be read: %s.", err.Error())
}

// check walks a JSON text along a Go type and gathers what does not fit.
type check struct {
	dec     *json.Decoder
	ignored []string
	known   map[reflect.Type][]field // of structs met so far
	way     []step                   // from the whole value to the one being read
	faults  []error
}

// step is one part of a path: a field's name, or an index if that is not negative.
type step struct {
	name  string
	index int
}

// value checks the next value against t, nil for anything.
func (ck *check) value(t reflect.Type) error {
	if len(ck.way) > MaxDepth {
		return fault.New(fault.TooMuch, "The request body is nested deeper than the limit of %d levels.", MaxDepth).At(ck.path(false))
	}
	tok, err := ck.dec.Token()
	if err != nil {
		return err
	}
	t = target(t)
	if found, fits := fit(tok, t); !fits {
		at := ck.path(false)
		ck.find(at, "%s must be %s, not %s.", orValue(at), wanted(t), found)
		t = nil
	}
	switch tok {
	case json.Delim('{'):
		return ck.object(t)
	case json.Delim('['):
		return ck.list(t)
	}
	return nil
}

func (ck *check) object(t reflect.Type) error {
	var seen nameSet
	for ck.more() {
		tok, err := ck.dec.Token()
		if err != nil {
			return err
		}
		name, _ := tok.(string)
		ck.way = append(ck.way, step{name, -1})
		if !seen.add(name) {
			at := ck.path(false)
			ck.find(at, "The field %s stands there twice.", at)
		}
		next, known := ck.member(t, name)
		if ck.ignores(name) {
			next, known = nil, true
		}
		if !known {
			at := ck.path(false)
			ck.find(at, "There is no field %s here; known are %s.", at, strings.Join(ck.names(t), ", "))
		}
		if err := ck.value(next); err != nil {
			return err
		}
		ck.way = ck.way[:len(ck.way)-1]
	}
	return ck.end()
}

func (ck *check) list(t reflect.Type) error {
	var elem reflect.Type
	if t != nil && (t.Kind() == reflect.Slice || t.Kind() == reflect.Array) {
		elem = t.Elem()
	}
	for i := 0; ck.more(); i++ {
		ck.way = append(ck.way, step{index: i})
		if err := ck.value(elem); err != nil {
			return err
		}
		ck.way = ck.way[:len(ck.way)-1]
	}
	return ck.end()
}

// ignores tells whether the field being read, called name, is one to accept as it is. The path is
// put together only where the last part fits.
func (ck *check) ignores(name string) bool {
	return slices.ContainsFunc(ck.ignored, func(pattern string) bool {
		return strings.HasSuffix(pattern, name) && pattern == ck.path(true)
	})
}

// path returns where the value being read stands; as a pattern it has no numbers in its brackets.
func (ck *check) path(pattern bool) string {
	var b strings.Builder
	for _, s := range ck.way {
		switch {
		case s.index >= 0 && pattern:
			b.WriteString("[]")
		case s.index >= 0:
			b.WriteString("[" + strconv.Itoa(s.index) + "]")
		default:
			if b.Len() > 0 {
				b.WriteByte('.')
			}
			b.WriteString(shortened(s.name))
		}
	}
	return b.String()
}

// shortened keeps a name that nobody would have typed from filling the answer.
func shortened(name string) string {
	if len(name) <= 80 {
		return name
	}
	return fmt.Sprintf("%s... (%d characters)", strings.ToValidUTF8(name[:80], ""), len(name))
}

// nameSet remembers an object's names; few, as there mostly are, without a map.
type nameSet struct {
	few  []string
	many map[string]bool
}

// add returns false if name was there.
func (s *nameSet) add(name string) bool {
	if s.many == nil && len(s.few) < 16 {
		if slices.Contains(s.few, name) {
			return false
		}
		s.few = append(s.few, name)
		return true
	}
	if s.many == nil {
		s.many = map[string]bool{}
		for _, n := range s.few {
			s.many[n] = true
		}
	}
	if s.many[name] {
		return false
	}
	s.many[name] = true
	return true
}

// more tells whether to look at another entry of an object or list: a body with many faults is
// read no further than the last one that is reported.
func (ck *check) more() bool { return len(ck.faults) < maxFindings && ck.dec.More() }

// end reads the end of an object or list, if its entries were read to the end.
func (ck *check) end() error {
	if len(ck.faults) >= maxFindings {
		return nil
	}
	_, err := ck.dec.Token()
	return err
}

// find notes a fault at a path.
func (ck *check) find(at, format string, args ...any) {
	if len(ck.faults) < maxFindings {
		ck.faults = append(ck.faults, fault.New(fault.Invalid, format, args...).At(at))
	}
}

var (
	jsonUnmarshaler = reflect.TypeFor[json.Unmarshaler]()
	textUnmarshaler = reflect.TypeFor[encoding.TextUnmarshaler]()
)

// target follows pointers; it returns nil for types that read themselves, which take anything here.
func target(t reflect.Type) reflect.Type {
	for t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t == nil || t.Kind() == reflect.Interface {
		return nil
	}
	if p := reflect.PointerTo(t); p.Implements(jsonUnmarshaler) || p.Implements(textUnmarshaler) {
		return nil
	}
	return t
}

// fit tells whether a value that begins with tok can be a t, and what tok is in words.
func fit(tok json.Token, t reflect.Type) (found string, fits bool) {
	if t == nil || tok == nil {
		return "null", true
	}
	k := t.Kind()
	switch tok := tok.(type) {
	case string:
		return "a string", k == reflect.String || k == reflect.Slice && t.Elem().Kind() == reflect.Uint8
	case bool:
		return "a boolean", k == reflect.Bool
	case json.Number:
		return "a number", k >= reflect.Int && k <= reflect.Float64 || t == reflect.TypeFor[json.Number]()
	case json.Delim:
		if tok == '{' {
			return "an object", k == reflect.Struct || k == reflect.Map
		}
		return "a list", k == reflect.Slice || k == reflect.Array
	}
	return "something else", false
}

func wanted(t reflect.Type) string {
	switch t.Kind() {
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "a boolean"
	case reflect.Struct, reflect.Map:
		return "an object"
	case reflect.Slice, reflect.Array:
		return "a list"
	}
	return "a number"
}

// member returns the type of an object's field, nil for anything; known is false if t has none of
// that name.
func (ck *check) member(t reflect.Type, name string) (typ reflect.Type, known bool) {
	if t == nil {
		return nil, true
	}
	if t.Kind() == reflect.Map {
		return t.Elem(), true
	}
	for _, f := range ck.fields(t) {
		if f.name == name {
			return f.typ, true
		}
	}
	return nil, false
}

func (ck *check) names(t reflect.Type) []string {
	var all []string
	for _, f := range ck.fields(t) {
		all = append(all, f.name)
	}
	return all
}

type field struct {
	name string
	typ  reflect.Type
}

// fields returns a struct's fields by their JSON names, those of embedded structs among them. Lists
// of thousands ask for the same ones again and again.
func (ck *check) fields(t reflect.Type) []field {
	all, met := ck.known[t]
	if met {
		return all
	}
	for _, f := range reflect.VisibleFields(t) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if !f.IsExported() || name == "-" || f.Anonymous && name == "" {
			continue
		}
		if name == "" {
			name = f.Name
		}
		all = append(all, field{name, f.Type})
	}
	ck.known[t] = all
	return all
}

func orValue(path string) string {
	if path == "" {
		return "The request body"
	}
	return path
}
