package filter

import (
	"net/netip"
	"slices"
)

// Type is the type of a field, a function's result or an expression. Bool, Int, String and IP are
// scalars; ArrayOf and MapOf make the others.
type Type uint8

// The scalar types.
const (
	Bool Type = iota + 1
	Int
	String
	IP

	arrayBit Type = 1 << 4
	mapBit   Type = 1 << 5
)

// ArrayOf returns the type of arrays of the scalar t.
func ArrayOf(t Type) Type { return t | arrayBit }

// MapOf returns the type of maps from strings to t, a scalar or an array.
func MapOf(t Type) Type { return t | mapBit }

func (t Type) isMap() bool   { return t&mapBit != 0 }
func (t Type) isArray() bool { return t&arrayBit != 0 && !t.isMap() }

// elem is what indexing t gives: the outermost layer taken off.
func (t Type) elem() Type {
	if t.isMap() {
		return t &^ mapBit
	}
	return t &^ arrayBit
}

var scalarNames = [...]string{Bool: "Boolean", Int: "Integer", String: "String", IP: "IP address"}

// String names the type as Cloudflare's field reference does: "Map<Array<String>>".
func (t Type) String() string {
	switch {
	case t.isMap():
		return "Map<" + t.elem().String() + ">"
	case t.isArray():
		return "Array<" + t.elem().String() + ">"
	case t >= Bool && t <= IP:
		return scalarNames[t]
	}
	return "nothing"
}

// Field is the number by which Values are asked for a field; FieldDef gives it name and type.
type Field uint16

// FieldDef is a field as expressions know it.
type FieldDef struct {
	Name string // "http.request.uri.path"
	ID   Field
	Type Type
}

// Schema is what expressions may speak of: its fields. Immutable, safe for concurrent use.
type Schema struct {
	fields map[string]FieldDef
	names  []string // sorted, for suggestions
}

// NewSchema returns a schema of fields. A later field replaces an earlier one of the same name.
func NewSchema(fields ...FieldDef) *Schema {
	s := &Schema{fields: make(map[string]FieldDef, len(fields))}
	for _, f := range fields {
		if _, known := s.fields[f.Name]; !known {
			s.names = append(s.names, f.Name)
		}
		s.fields[f.Name] = f
	}
	slices.Sort(s.names)
	return s
}

// Values is what an expression is matched against: one request, or whatever the schema describes.
// A method is called only with fields of the type it is for. Strings must not change while the
// match runs; they are not kept.
type Values interface {
	Bool(f Field) bool
	Int(f Field) int64
	String(f Field) string
	// IP returns an address, the zero one if it is missing.
	IP(f Field) netip.Addr
	// At returns element i of the array f, or of the array under key in the map f; false if there
	// is none. key is "" for arrays.
	At(f Field, key string, i int) (string, bool)
	// Append appends all elements of the array f, or of the array under key in the map f.
	Append(dst []string, f Field, key string) []string
}
