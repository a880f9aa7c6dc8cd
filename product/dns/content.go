package dns

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"unicode/utf8"

	mdns "github.com/miekg/dns"
	"golang.org/x/net/idna"

	"selvage/foundation/fault"
	"selvage/spec"
)

var errOpenQuote = errors.New("it has a quote that is not closed")

// value is one field of a record's data, read and checked.
type value struct {
	number  uint16
	text    string   // as the content shows it: a host without its trailing dot, hex and base64 without spaces
	octets  string   // as it goes on the wire: a host in wire form, the octets of a string, an address
	strings []string // kindText: the octets of each quoted string
}

// contents is a record's data, read and checked: one value for each of its format's fields.
type contents struct {
	format *format
	values []value
}

// readContent reads the content of a record of type typ in a zone. A ranked type's priority comes
// from priority. The error is a fault that names the field.
func readContent(typ, content string, priority *uint16, zone string) (contents, error) {
	f := formats[typ]
	if f == nil {
		return contents{}, fault.New(fault.Invalid, "There are no records of type %.20q here; use one of %s.", typ, strings.Join(typeOrder, ", ")).At("type").WithCode(codeInvalid)
	}
	if len(content) > spec.MaxRecordContent {
		return contents{}, fault.New(fault.TooMuch, "Content for %s record has %d octets, the limit is %d.", typ, len(content), spec.MaxRecordContent).At("content").WithCode(codeInvalid)
	}
	if strings.ContainsAny(content, "\r\n\x00") {
		return contents{}, f.invalid(typ, f.fields[0], errors.New("it has a line break"))
	}
	c := contents{format: f}
	if f.ranked {
		if priority == nil {
			return c, fault.New(fault.Invalid, "priority is a required data field.").At("priority").WithCode(9101)
		}
		c.values = append(c.values, value{number: *priority})
	}
	r := reader{content: content, zone: zone}
	return c, r.fields(typ, f.contentFields(), &c)
}

// readPresentation reads a record's data as it stands in a zone file: with the priority, and with
// names relative to origin.
func readPresentation(typ, data, origin string) (contents, error) {
	f := formats[typ]
	if f == nil {
		return contents{}, fmt.Errorf("there are no records of type %.20q here", typ)
	}
	c := contents{format: f}
	r := reader{content: data, zone: origin, zoneFile: true}
	return c, r.fields(typ, f.fields, &c)
}

// fields reads all fields of a record into c.
func (r *reader) fields(typ string, fields []field, c *contents) error {
	for _, fd := range fields {
		v, err := r.field(fd)
		if err != nil {
			return c.format.invalid(typ, fd, err)
		}
		c.values = append(c.values, v)
	}
	if !r.atEnd() {
		return c.format.invalid(typ, fields[len(fields)-1], fmt.Errorf("%.40q follows it", strings.TrimSpace(r.content[r.at:])))
	}
	return nil
}

// invalid makes the fault for a field that cannot be read.
func (f *format) invalid(typ string, fd field, cause error) error {
	switch f.typ {
	case mdns.TypeA:
		return fault.New(fault.Invalid, "Content for A record must be a valid IPv4 address.").At("content").WithCode(f.code)
	case mdns.TypeAAAA:
		return fault.New(fault.Invalid, "Content for AAAA record must be a valid IPv6 address.").At("content").WithCode(f.code)
	}
	if f.structured && fd.kind != kindPlace {
		return fault.New(fault.Invalid, "Content for %s record is invalid: its %s: %s.", typ, fd.name, cause.Error()).At("data." + fd.name).WithCode(f.code)
	}
	return fault.New(fault.Invalid, "Content for %s record is invalid: %s.", typ, cause.Error()).At("content").WithCode(f.code)
}

// reader takes a content apart, field by field.
type reader struct {
	content string
	at      int
	zone    string // what "@" stands for
	// zoneFile is the other dialect: names without a trailing dot are below zone, and each word of
	// a TXT record is a string of its own (RFC 1035, 5.1).
	zoneFile bool
}

func (r *reader) skip() {
	for r.at < len(r.content) && (r.content[r.at] == ' ' || r.content[r.at] == '\t') {
		r.at++
	}
}

func (r *reader) atEnd() bool { r.skip(); return r.at >= len(r.content) }

// rest takes everything that is left.
func (r *reader) rest() string {
	r.skip()
	s := r.content[r.at:]
	r.at = len(r.content)
	return strings.TrimRight(s, " \t")
}

func (r *reader) token() (token, error) {
	if r.atEnd() {
		return token{}, errors.New("it is missing")
	}
	t, used, err := nextToken(r.content[r.at:])
	r.at += used
	return t, err
}

func (r *reader) field(fd field) (value, error) {
	switch fd.kind {
	case kindText:
		return r.texts()
	case kindHex, kindBase64:
		return opaque(fd.kind, strings.Join(strings.Fields(r.rest()), ""))
	case kindParams:
		return params(r.rest())
	case kindPlace:
		return place(r.rest())
	}
	t, err := r.token()
	if err != nil {
		return value{}, err
	}
	switch fd.kind {
	case kindUint8:
		return number(t.text, 255)
	case kindUint16:
		return number(t.text, 65535)
	case kindIPv4, kindIPv6:
		return address(t.text, fd.kind == kindIPv6)
	case kindHost:
		return r.host(t.raw, fd.root)
	case kindWord:
		return word(t.text)
	default: // kindString, kindRest
		if fd.kind == kindString && len(t.text) > 255 {
			return value{}, errors.New("it is longer than 255 octets")
		}
		if !utf8.ValidString(t.text) { // its data object could not say it
			return value{}, errors.New("it is not UTF-8 text")
		}
		return value{text: t.text, octets: t.text}, nil
	}
}

func number(s string, most int) (value, error) {
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 || n > most {
		return value{}, fmt.Errorf("%.20q is not a whole number from 0 to %d", s, most)
	}
	return value{number: uint16(n)}, nil
}

func address(s string, v6 bool) (value, error) {
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" || a.Is4() == v6 {
		return value{}, errors.New("it is not an address")
	}
	return value{text: a.String(), octets: string(a.AsSlice())}, nil
}

func (r *reader) host(s string, root bool) (value, error) {
	if s == "." {
		if !root {
			return value{}, errors.New("it cannot be the root")
		}
		return value{text: ".", octets: "\x00"}, nil
	}
	absolute := strings.HasSuffix(s, ".")
	if s == "@" {
		s, absolute = r.zone, true
	}
	s, err := asciiName(s)
	if err != nil {
		return value{}, err
	}
	if r.zoneFile && !absolute {
		s += "." + r.zone
	}
	if err := spec.CheckHostname(s); err != nil {
		return value{}, fmt.Errorf("%.80q is not a host name: %w", s, err)
	}
	wire, err := wireName(s)
	return value{text: s, octets: wire}, err
}

// asciiName brings a name to lower case A-labels (RFC 5891) without trailing dot. It goes label by
// label, for "_dmarc" and "*" are no internationalized labels.
func asciiName(s string) (string, error) {
	s = strings.TrimSuffix(s, ".")
	if isASCII(s) {
		return strings.ToLower(s), nil
	}
	parts := strings.Split(s, ".")
	for i, label := range parts {
		if isASCII(label) {
			parts[i] = strings.ToLower(label)
			continue
		}
		a, err := idna.Lookup.ToASCII(label)
		if err != nil {
			return "", fmt.Errorf("%.80q is not an internationalized domain name", s)
		}
		parts[i] = a
	}
	return strings.Join(parts, "."), nil
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

func word(s string) (value, error) {
	if len(s) > 255 {
		return value{}, errors.New("it is longer than 255 octets")
	}
	for i := range len(s) {
		if c := lower(s[i]); (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return value{}, fmt.Errorf("%.20q has a character other than letters and digits", s)
		}
	}
	if s == "" {
		return value{}, errors.New("it is empty")
	}
	return value{text: s, octets: s}, nil
}

func opaque(kind fieldKind, s string) (value, error) {
	if s == "" {
		return value{}, errors.New("it is missing")
	}
	if kind == kindHex {
		b, err := hex.DecodeString(s)
		if err != nil {
			return value{}, errors.New("it is not hexadecimal")
		}
		return value{text: s, octets: string(b)}, nil
	}
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		return value{}, errors.New("it is not base64")
	}
	return value{text: s, octets: string(b)}, nil
}

// texts reads TXT data. In quotes it is character strings, those over 255 octets being split;
// anything else is one text, taken as it is, for people leave the quotes out.
func (r *reader) texts() (value, error) {
	s := r.rest()
	if s == "" {
		return value{}, errors.New("it is empty")
	}
	if s[0] != '"' && !r.zoneFile {
		return value{text: s, strings: []string{s}}, nil
	}
	tokens, err := tokenize(s)
	if err != nil {
		return value{}, err
	}
	v := value{text: s}
	for _, t := range tokens {
		if !t.quoted && !r.zoneFile {
			return value{}, errors.New("it has text outside of its quotes; write a quote within as \\\"")
		}
		v.strings = append(v.strings, t.text)
	}
	if r.zoneFile {
		v.text = quoteAll(v.strings)
	}
	return v, nil
}

// params reads SvcParams through miekg/dns, which knows their value formats.
func params(s string) (value, error) {
	inQuotes := false
	for i := range len(s) {
		if s[i] == '"' {
			inQuotes = !inQuotes
		}
		if !inQuotes && strings.IndexByte(";()", s[i]) >= 0 {
			return value{}, fmt.Errorf("%q cannot stand in it without quotes", s[i])
		}
	}
	rr, err := mdns.NewRR(". 0 IN SVCB 1 . " + s)
	if err != nil {
		return value{}, errors.New("it is not a list of service parameters such as alpn=\"h2\"")
	}
	data, err := rdata(rr)
	if err != nil || len(data) < 3 {
		return value{}, errors.New("it is not a list of service parameters such as alpn=\"h2\"")
	}
	return value{text: s, octets: string(data[3:])}, nil // after priority and the root
}

// place reads a location through miekg/dns.
func place(s string) (value, error) {
	if strings.ContainsAny(s, ";()\"\\") {
		return value{}, errors.New("it is not a location such as 51 30 12 N 0 7 39 W 10m")
	}
	rr, err := mdns.NewRR(". 0 IN LOC " + s)
	if err != nil || rr == nil {
		return value{}, errors.New("it is not a location such as 51 30 12 N 0 7 39 W 10m")
	}
	data, err := rdata(rr)
	return value{text: s, octets: string(data)}, err
}

// rdata returns a record's data in wire form.
func rdata(rr mdns.RR) ([]byte, error) {
	buf := make([]byte, mdns.Len(rr)+64)
	n, err := mdns.PackRR(rr, buf, 0, nil, false)
	if err != nil {
		return nil, err
	}
	const header = 1 + 10 // the root, then type, class, TTL, length
	if n < header {
		return nil, errors.New("it is empty")
	}
	return buf[header:n], nil
}

// encode appends the record to the encoder's set.
func (c contents) encode(e *encoder) error {
	at := e.begin()
	for i, fd := range c.format.fields {
		v := c.values[i]
		switch fd.kind {
		case kindUint8:
			e.raw(byte(v.number))
		case kindUint16:
			e.raw(byte(v.number>>8), byte(v.number))
		case kindHost:
			e.name(v.octets)
		case kindString, kindWord:
			e.strings(v.octets)
		case kindText:
			for _, s := range v.strings {
				e.strings(s)
			}
		default:
			e.raw([]byte(v.octets)...)
		}
	}
	return e.end(at)
}

// content writes the data in the v4 API's form: without the priority of ranked types.
func (c contents) content() string {
	fields := c.format.contentFields()
	return write(fields, c.values[len(c.values)-len(fields):], false)
}

// presentation writes the data as a zone file has it: with priority, dots after host names, and
// texts as quoted strings.
func (c contents) presentation() string { return write(c.format.fields, c.values, true) }

func write(fields []field, values []value, zoneFile bool) string {
	words := make([]string, 0, len(fields))
	for i, fd := range fields {
		v := values[i]
		switch {
		case fd.kind == kindUint8 || fd.kind == kindUint16:
			words = append(words, strconv.Itoa(int(v.number)))
		case fd.kind == kindHost && zoneFile:
			words = append(words, strings.TrimSuffix(v.text, ".")+".")
		case fd.kind == kindString || fd.kind == kindRest:
			words = append(words, quote(v.text))
		case fd.kind == kindText && zoneFile:
			words = append(words, quoteAll(v.strings))
		default:
			words = append(words, v.text)
		}
	}
	return strings.TrimRight(strings.Join(words, " "), " ")
}

// quoteAll writes texts as quoted strings of at most 255 octets each.
func quoteAll(texts []string) string {
	var words []string
	for _, s := range texts {
		for {
			n := min(len(s), 255)
			words = append(words, quote(s[:n]))
			s = s[n:]
			if s == "" {
				break
			}
		}
	}
	return strings.Join(words, " ")
}
