package edge

import (
	"slices"
	"strings"
)

// Field is one header field line, name and value as they came.
type Field struct{ Name, Value string }

// Header is a list of field lines in the order they came, names in the sender's case. Look-ups
// ignore case. The zero value is empty and ready to use. Not safe for concurrent use.
//
// It is a list and not a map because requests have some twenty fields: a scan costs less than
// hashing, keeps order and case for origins that care, and allocates nothing.
type Header struct{ fields []Field }

// NewHeader returns a header made of name, value pairs.
func NewHeader(pairs ...string) Header {
	var h Header
	for i := 0; i+1 < len(pairs); i += 2 {
		h.Add(pairs[i], pairs[i+1])
	}
	return h
}

// Len returns the number of field lines.
func (h *Header) Len() int { return len(h.fields) }

// Fields returns the field lines in order. The slice belongs to h: do not change it.
func (h *Header) Fields() []Field { return h.fields }

// Get returns the first value of name, or "".
func (h *Header) Get(name string) string {
	for i := range h.fields {
		if strings.EqualFold(h.fields[i].Name, name) {
			return h.fields[i].Value
		}
	}
	return ""
}

// Has tells whether there is a field line called name.
func (h *Header) Has(name string) bool {
	for i := range h.fields {
		if strings.EqualFold(h.fields[i].Name, name) {
			return true
		}
	}
	return false
}

// Values returns every value of name in order, nil if there is none.
func (h *Header) Values(name string) []string {
	var vs []string
	for i := range h.fields {
		if strings.EqualFold(h.fields[i].Name, name) {
			vs = append(vs, h.fields[i].Value)
		}
	}
	return vs
}

// Joined returns all values of name joined by ", " (RFC 9110, 5.3), "" if there is none. Not for
// Set-Cookie.
func (h *Header) Joined(name string) string {
	first, n := "", 0
	for i := range h.fields {
		if strings.EqualFold(h.fields[i].Name, name) {
			if n == 0 {
				first = h.fields[i].Value
			}
			n++
		}
	}
	if n < 2 {
		return first
	}
	return strings.Join(h.Values(name), ", ")
}

// Add appends a field line.
func (h *Header) Add(name, value string) { h.fields = append(h.fields, Field{name, value}) }

// Grow makes room for n more field lines, so that adding them allocates once.
func (h *Header) Grow(n int) { h.fields = slices.Grow(h.fields, n) }

// Set replaces every field line called name by one.
func (h *Header) Set(name, value string) {
	kept := h.fields[:0]
	set := false
	for _, f := range h.fields {
		if !strings.EqualFold(f.Name, name) {
			kept = append(kept, f)
			continue
		}
		if !set {
			set = true
			kept = append(kept, Field{f.Name, value})
		}
	}
	h.fields = kept
	if !set {
		h.Add(name, value)
	}
}

// Del removes every field line called name.
func (h *Header) Del(name string) {
	kept := h.fields[:0]
	for _, f := range h.fields {
		if !strings.EqualFold(f.Name, name) {
			kept = append(kept, f)
		}
	}
	clear(h.fields[len(kept):])
	h.fields = kept
}

// Clone returns a copy that shares nothing with h.
func (h *Header) Clone() Header {
	return Header{fields: append(make([]Field, 0, len(h.fields)+4), h.fields...)}
}

// Reset empties h and keeps its memory.
func (h *Header) Reset() {
	clear(h.fields)
	h.fields = h.fields[:0]
}
