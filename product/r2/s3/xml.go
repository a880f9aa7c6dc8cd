package s3

import (
	"bytes"
	"encoding/xml"
	"io"
	"strconv"
	"time"
	"unicode/utf8"
)

const (
	xmlHead  = `<?xml version="1.0" encoding="UTF-8"?>`
	xmlSpace = "http://s3.amazonaws.com/doc/2006-03-01/"

	maxDepth = 32 // of elements in a client's XML
)

// document is XML being written.
type document struct {
	b    []byte
	open []string
}

// newDocument begins a document with its root in S3's namespace.
func newDocument(root string) *document {
	d := &document{b: make([]byte, 0, 1024)}
	d.b = append(append(append(append(d.b, xmlHead...), '<'), root...), ` xmlns="`+xmlSpace+`">`...)
	d.open = append(d.open, root)
	return d
}

// start opens an element.
func (d *document) start(name string) {
	d.b = append(append(append(d.b, '<'), name...), '>')
	d.open = append(d.open, name)
}

// end closes the element that was opened last.
func (d *document) end() {
	name := d.open[len(d.open)-1]
	d.open = d.open[:len(d.open)-1]
	d.b = append(append(append(d.b, "</"...), name...), '>')
}

// text writes an element that holds text.
func (d *document) text(name, value string) {
	d.b = append(append(append(d.b, '<'), name...), '>')
	d.b = appendEscaped(d.b, value)
	d.b = append(append(append(d.b, "</"...), name...), '>')
}

// optional writes an element unless it would be empty.
func (d *document) optional(name, value string) {
	if value != "" {
		d.text(name, value)
	}
}

func (d *document) number(name string, n int64)    { d.text(name, strconv.FormatInt(n, 10)) }
func (d *document) truth(name string, v bool)      { d.text(name, strconv.FormatBool(v)) }
func (d *document) time(name string, at time.Time) { d.text(name, isoTime(at)) }
func (d *document) tag(name string, etag string)   { d.text(name, `"`+etag+`"`) }
func isoTime(at time.Time) string                  { return at.UTC().Format("2006-01-02T15:04:05.000Z") }

// finish closes everything and returns the document.
func (d *document) finish() []byte {
	for len(d.open) > 0 {
		d.end()
	}
	return d.b
}

// appendEscaped appends text. Control characters, which keys may hold, become references as at AWS,
// though XML 1.0 has no place for them; what is not UTF-8 cannot be said at all.
func appendEscaped(b []byte, s string) []byte {
	for i := 0; i < len(s); {
		c := s[i]
		if c >= utf8.RuneSelf {
			r, size := utf8.DecodeRuneInString(s[i:])
			if r == utf8.RuneError && size == 1 || r == 0xfffe || r == 0xffff {
				b = append(b, "\uFFFD"...)
			} else {
				b = append(b, s[i:i+size]...)
			}
			i += size
			continue
		}
		switch {
		case c == '&':
			b = append(b, "&amp;"...)
		case c == '<':
			b = append(b, "&lt;"...)
		case c == '>':
			b = append(b, "&gt;"...)
		case c == '"':
			b = append(b, "&quot;"...)
		case c == '\'':
			b = append(b, "&apos;"...)
		case c < ' ' && c != '\n' && c != '\t':
			b = append(append(append(b, "&#x"...), strconv.FormatInt(int64(c), 16)...), ';')
		default:
			b = append(b, c)
		}
		i++
	}
	return b
}

// errorDocument is the body of a refusal. Like R2's it has no namespace.
func errorDocument(e *Error, resource, requestID string) []byte {
	d := &document{b: append(make([]byte, 0, 512), xmlHead...)}
	d.start("Error")
	d.text("Code", e.Code)
	d.text("Message", e.Message)
	for _, detail := range e.Details {
		d.text(detail[0], detail[1])
	}
	d.optional("Resource", resource)
	d.optional("RequestId", requestID)
	return d.finish()
}

// parseXML reads a document whose root is named root into v. It refuses directives (there are no
// entities to bomb with) and deep nesting; data is bounded by whoever read it.
func parseXML(data []byte, root string, v any) *Error {
	dec := xml.NewDecoder(bytes.NewReader(data))
	depth, first := 0, true
	for {
		t, err := dec.RawToken()
		if err == io.EOF {
			break
		}
		if err != nil {
			return malformedXML()
		}
		switch t := t.(type) {
		case xml.Directive:
			return malformedXML()
		case xml.StartElement:
			if first && t.Name.Local != root {
				return malformedXML()
			}
			first = false
			if depth++; depth > maxDepth {
				return malformedXML()
			}
		case xml.EndElement:
			depth--
		}
	}
	if first || depth != 0 || xml.Unmarshal(data, v) != nil {
		return malformedXML()
	}
	return nil
}
