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
	ck := &check{dec: dec, ignored: ignored}
	if err := ck.value(reflect.TypeOf(v).Elem(), "", "", 0); err != nil {
		return malformed(err, dec)
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
	faults  []error
}

// value checks the next value against t, nil for anything. path is as shown to users, pattern the
// same with "[]" for indexes.
func (ck *check) value(t reflect.Type, path, pattern string, depth int) error {
	if depth > MaxDepth {
		return fault.New(fault.TooMuch, "The request body is nested deeper than the limit of %d levels.", MaxDepth).At(path)
	}
	tok, err := ck.dec.Token()
	if err != nil {
		return err
	}
	t = target(t)
	if found, fits := fit(tok, t); !fits {
		ck.find("%s must be %s, not %s.", path, orValue(path), wanted(t), found)
		t = nil
	}
	switch tok {
	case json.Delim('{'):
		return ck.object(t, path, pattern, depth)
	case json.Delim('['):
		return ck.list(t, path, pattern, depth)
	}
	return nil
}

func (ck *check) object(t reflect.Type, path, pattern string, depth int) error {
	seen := map[string]bool{}
	for ck.dec.More() {
		tok, err := ck.dec.Token()
		if err != nil {
			return err
		}
		name, _ := tok.(string)
		at, as := join(path, name), join(pattern, name)
		if seen[name] {
			ck.find("The field %s stands there twice.", at, at)
		}
		seen[name] = true
		next, known := member(t, name)
		if slices.Contains(ck.ignored, as) {
			next, known = nil, true
		}
		if !known {
			ck.find("There is no field %s here; known are %s.", at, at, strings.Join(names(t), ", "))
		}
		if err := ck.value(next, at, as, depth+1); err != nil {
			return err
		}
	}
	_, err := ck.dec.Token()
	return err
}

func (ck *check) list(t reflect.Type, path, pattern string, depth int) error {
	var elem reflect.Type
	if t != nil && (t.Kind() == reflect.Slice || t.Kind() == reflect.Array) {
		elem = t.Elem()
	}
	for i := 0; ck.dec.More(); i++ {
		if err := ck.value(elem, path+"["+strconv.Itoa(i)+"]", pattern+"[]", depth+1); err != nil {
			return err
		}
	}
	_, err := ck.dec.Token()
	return err
}

// find notes a fault at path.
func (ck *check) find(format, path string, args ...any) {
	if len(ck.faults) < maxFindings {
		ck.faults = append(ck.faults, fault.New(fault.Invalid, format, args...).At(path))
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
func member(t reflect.Type, name string) (typ reflect.Type, known bool) {
	if t == nil {
		return nil, true
	}
	if t.Kind() == reflect.Map {
		return t.Elem(), true
	}
	for f := range fields(t) {
		if f.name == name {
			return f.typ, true
		}
	}
	return nil, false
}

func names(t reflect.Type) []string {
	var all []string
	for f := range fields(t) {
		all = append(all, f.name)
	}
	return all
}

type field struct {
	name string
	typ  reflect.Type
}

// fields yields a struct's fields by their JSON names, those of embedded structs among them.
func fields(t reflect.Type) func(yield func(field) bool) {
	return func(yield func(field) bool) {
		for _, f := range reflect.VisibleFields(t) {
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if !f.IsExported() || name == "-" || f.Anonymous && name == "" {
				continue
			}
			if name == "" {
				name = f.Name
			}
			if !yield(field{name, f.Type}) {
				return
			}
		}
	}
}

func join(path, name string) string {
	if len(name) > 80 {
		name = fmt.Sprintf("%s... (%d characters)", strings.ToValidUTF8(name[:80], ""), len(name))
	}
	if path == "" {
		return name
	}
	return path + "." + name
}

func orValue(path string) string {
	if path == "" {
		return "The request body"
	}
	return path
}
