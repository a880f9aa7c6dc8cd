package dns

import (
	"errors"
	"fmt"
	"iter"
	"strconv"
	"strings"

	"selvage/foundation/fault"
	"selvage/spec"
)

// Zone files (RFC 1035, 5.1), with the comments in which the v4 API keeps what the format has no
// room for: "; a comment cf_tags=team:web,cf-proxied:true,cf-flatten-cname:false".

const (
	tagsMark   = "cf_tags="
	proxiedTag = "cf-proxied:"
	flattenTag = "cf-flatten-cname:"
)

// entry is one logical line of a zone file: parentheses are gone, and so are the breaks in them.
type entry struct {
	line     int    // where it begins, from 1
	text     string // without its comment
	comment  string
	indented bool // it begins with white space: the owner is that of the entry before
}

// entries splits a zone file. An error belongs to its entry; the next one begins on the next line.
func entries(file string) iter.Seq2[entry, error] {
	return func(yield func(entry, error) bool) {
		line := 1
		for file != "" {
			e, used, lines, err := nextEntry(file)
			e.line = line
			line += lines
			file = file[used:]
			if (strings.TrimSpace(e.text) != "" || err != nil) && !yield(e, err) {
				return
			}
		}
	}
}

// nextEntry reads one entry from the beginning of s and tells how many octets and lines it has.
func nextEntry(s string) (e entry, used, lines int, err error) {
	e.indented = s[0] == ' ' || s[0] == '\t'
	var text strings.Builder
	depth, quoted := 0, false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\n' && quoted:
			return e, i + 1, lines + 1, errOpenQuote
		case c == '\n' && depth == 0:
			e.text = text.String()
			return e, i + 1, lines + 1, nil
		case c == '\n':
			lines++
			text.WriteByte(' ')
		case c == '\\' && i+1 < len(s) && s[i+1] != '\n':
			text.WriteString(s[i : i+2])
			i++
		case c == '"':
			quoted = !quoted
			text.WriteByte(c)
		case quoted:
			text.WriteByte(c)
		case c == ';':
			end := len(s)
			if n := strings.IndexByte(s[i:], '\n'); n >= 0 {
				end = i + n
			}
			e.comment = strings.TrimSpace(s[i+1 : end])
			i = end - 1
		case c == '(':
			depth++
			text.WriteByte(' ')
		case c == ')' && depth == 0:
			end := strings.IndexByte(s[i:], '\n')
			if end < 0 {
				end = len(s) - i - 1
			}
			return e, i + end + 1, lines + 1, errors.New("it closes a parenthesis that is not open")
		case c == ')':
			depth--
			text.WriteByte(' ')
		case c == '\r':
		default:
			text.WriteByte(c)
		}
	}
	e.text = text.String()
	switch {
	case quoted:
		err = errOpenQuote
	case depth > 0:
		err = errors.New("it has a parenthesis that is not closed")
	}
	return e, len(s), lines + 1, err
}

// fileReader reads the records of a zone file.
type fileReader struct {
	zone    string
	origin  string // what relative names are below, without trailing dot
	ttl     int    // of $TTL; 1, automatic, before there is one
	owner   string // of the entry before
	proxied bool   // whether records that can be are proxied where the file does not say
}

func newFileReader(zone string) *fileReader { return &fileReader{zone: zone, origin: zone, ttl: 1} }

// read returns the record of an entry, or nil for directives and for what the zone makes itself:
// SOA, and NS at the apex, which in most files are those of the provider before.
func (f *fileReader) read(e entry) (*spec.Record, error) {
	words := strings.Fields(e.text)
	if strings.HasPrefix(words[0], "$") {
		return nil, f.directive(words)
	}
	if !e.indented {
		owner, err := f.name(words[0])
		if err != nil {
			return nil, fmt.Errorf("name %.80q: %w", words[0], err)
		}
		f.owner, words = owner, words[1:]
	}
	if f.owner == "" {
		return nil, errors.New("it has no name, and no record stands before it")
	}
	ttl, typ, err := f.preamble(words)
	if err != nil {
		return nil, err
	}
	if typ == "SOA" || typ == "NS" && f.owner == f.zone {
		return nil, nil
	}
	c, err := readPresentation(typ, afterType(e, typ), f.origin)
	if err != nil {
		return nil, plain(err)
	}
	if !spec.InZone(f.owner, f.zone) {
		return nil, fmt.Errorf("name %s is outside of zone %s", f.owner, f.zone)
	}
	r := &spec.Record{Name: f.owner, Type: typ, TTL: ttl, Content: c.content()}
	if c.format.ranked {
		r.Priority = &c.values[0].number
	}
	r.Proxied = f.proxied && r.Proxiable()
	return r, plain(readTags(r, e.comment))
}

func (f *fileReader) directive(words []string) error {
	name := strings.ToUpper(words[0])
	switch {
	case name == "$INCLUDE":
		return errors.New("$INCLUDE is not allowed: put the records into this file")
	case name == "$GENERATE":
		return errors.New("$GENERATE is not supported: write the records out")
	case len(words) != 2:
		return fmt.Errorf("directive %.20s takes one value", words[0])
	case name == "$ORIGIN":
		origin, err := f.name(words[1])
		if err != nil {
			return fmt.Errorf("$ORIGIN %.80q: %w", words[1], err)
		}
		f.origin = origin
		return nil
	case name == "$TTL":
		ttl, ok := readTTL(words[1])
		if !ok {
			return fmt.Errorf("$TTL %.20q is not a time", words[1])
		}
		f.ttl = clampTTL(ttl)
		return nil
	}
	return fmt.Errorf("there is no directive %.20s", words[0])
}

// name makes a name full and checks it.
func (f *fileReader) name(s string) (string, error) {
	if s == "@" {
		return f.origin, nil
	}
	name, err := asciiName(s)
	if err != nil {
		return "", err
	}
	if !strings.HasSuffix(s, ".") {
		name += "." + f.origin
	}
	return name, spec.CheckHostname(name)
}

// preamble reads TTL, class and type, the first two in any order and optional.
func (f *fileReader) preamble(words []string) (ttl int, typ string, err error) {
	ttl = f.ttl
	for _, w := range words {
		upper := strings.ToUpper(w)
		if upper == "IN" {
			continue
		}
		if formats[upper] != nil || upper == "SOA" {
			return ttl, upper, nil
		}
		seconds, ok := readTTL(w)
		if !ok {
			return 0, "", fmt.Errorf("%.20q is neither TTL, class IN nor a type that exists here", w)
		}
		ttl = clampTTL(seconds)
	}
	return 0, "", errors.New("it has no type")
}

// afterType returns an entry's text after the first word that is its type; the owner may be called
// the same.
func afterType(e entry, typ string) string {
	s := strings.TrimLeft(e.text, " \t")
	if !e.indented {
		s = cutWord(s)
	}
	for {
		s = strings.TrimLeft(s, " \t")
		rest := cutWord(s)
		if strings.EqualFold(s[:len(s)-len(rest)], typ) {
			return strings.TrimSpace(rest)
		}
		s = rest
	}
}

// cutWord returns s without its first word.
func cutWord(s string) string {
	if i := strings.IndexAny(s, " \t"); i >= 0 {
		return s[i:]
	}
	return ""
}

// readTTL reads seconds, or BIND's form with units: 1h30m.
func readTTL(s string) (int, bool) {
	if s == "" || s[0] < '0' || s[0] > '9' || len(s) > 20 {
		return 0, false
	}
	total, n := 0, 0
	digits := false
	for i := range len(s) {
		c := lower(s[i])
		if c >= '0' && c <= '9' {
			n, digits = 10*n+int(c-'0'), true
			if n > 1<<31 {
				return 0, false
			}
			continue
		}
		unit := map[byte]int{'s': 1, 'm': 60, 'h': 3600, 'd': 86400, 'w': 604800}[c]
		if unit == 0 || !digits {
			return 0, false
		}
		total, n, digits = total+n*unit, 0, false
	}
	return total + n, true
}

// clampTTL brings a file's TTL into the range that records have.
func clampTTL(seconds int) int {
	if seconds == 1 {
		return 1
	}
	return min(max(seconds, 30), 86400)
}

// readTags reads a record's comment and the tags in it.
func readTags(r *spec.Record, comment string) error {
	text, tags, _ := strings.Cut(comment, tagsMark)
	r.Comment = strings.TrimSpace(text)
	if len(r.Comment) > 500 {
		r.Comment = strings.ToValidUTF8(r.Comment[:500], "")
	}
	for tag := range strings.SplitSeq(tags, ",") {
		tag = strings.TrimSpace(tag)
		switch {
		case tag == "":
		case strings.HasPrefix(tag, proxiedTag):
			r.Proxied = r.Proxiable() && tag == proxiedTag+"true"
		case strings.HasPrefix(tag, flattenTag):
			r.Settings.FlattenCNAME = r.Type == "CNAME" && tag == flattenTag+"true"
		default:
			r.Tags = append(r.Tags, tag)
		}
	}
	return errors.Join(checkTags(r.Tags)...)
}

// plain takes the sentence out of a fault: field names of the API mean nothing in a file.
func plain(err error) error {
	if all := fault.All(err); len(all) > 0 {
		return errors.New(all[0].Message)
	}
	return err
}

// exportLine writes a record as one line of a zone file.
func exportLine(r *spec.Record) (string, error) {
	c, err := readContent(r.Type, r.Content, r.Priority, "")
	if err != nil {
		return "", err
	}
	var b strings.Builder
	b.WriteString(r.Name + ".\t" + strconv.Itoa(r.TTL) + "\tIN\t" + r.Type + "\t" + c.presentation())
	tags := append([]string(nil), r.Tags...)
	if r.Proxiable() {
		tags = append(tags, proxiedTag+strconv.FormatBool(r.Proxied))
	}
	if r.Type == "CNAME" {
		tags = append(tags, flattenTag+strconv.FormatBool(r.Settings.FlattenCNAME))
	}
	comment := strings.Join(strings.FieldsFunc(r.Comment, func(c rune) bool { return c == '\n' || c == '\r' }), " ")
	if comment != "" {
		b.WriteString(" ; " + comment)
	} else if len(tags) > 0 {
		b.WriteString(" ;")
	}
	if len(tags) > 0 {
		b.WriteString(" " + tagsMark + strings.Join(tags, ","))
	}
	return b.String(), nil
}
