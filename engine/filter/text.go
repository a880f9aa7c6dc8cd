package filter

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

func encodeBase64(s string) (string, bool) { return base64.StdEncoding.EncodeToString([]byte(s)), true }

// decodeBase64 takes input with or without padding.
func decodeBase64(s string) (string, bool) {
	b, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(s, "="))
	return string(b), err == nil
}

func buildRemoveBytes(_ *compiler, n *node, args []code) code {
	unwanted := n.args[1].text
	return buildText(func(s string) (string, bool) {
		var b strings.Builder
		for i := range len(s) {
			if strings.IndexByte(unwanted, s[i]) < 0 {
				b.WriteByte(s[i])
			}
		}
		if b.Len() == len(s) {
			return s, true
		}
		return b.String(), true
	})(nil, n, args)
}

// buildRemoveArgs keeps the order of what stays, and compares names as they are written.
func buildRemoveArgs(_ *compiler, n *node, args []code) code {
	unwanted := map[string]bool{}
	for _, a := range n.args[1:] {
		unwanted[a.text] = true
	}
	return buildText(func(query string) (string, bool) {
		var kept []string
		for pair := range strings.SplitSeq(query, "&") {
			name, _, _ := strings.Cut(pair, "=")
			if !unwanted[name] {
				kept = append(kept, pair)
			}
		}
		return strings.Join(kept, "&"), true
	})(nil, n, args)
}

// maxDecodings bounds url_decode's option "r": each pass may undo another layer.
const maxDecodings = 10

func checkURLDecode(p *parser, n *node) error {
	if len(n.args) > 1 && strings.Trim(n.args[1].text, "ru") != "" {
		return faultAt(p.src, n.args[1].from, n.args[1].to, `the options of url_decode are "r" (decode again and again) and "u" (also %%uXXXX)`)
	}
	return nil
}

func buildURLDecode(_ *compiler, n *node, args []code) code {
	options := ""
	if len(n.args) > 1 {
		options = n.args[1].text
	}
	unicode, passes := strings.Contains(options, "u"), 1
	if strings.Contains(options, "r") {
		passes = maxDecodings
	}
	return buildText(func(s string) (string, bool) {
		for range passes {
			decoded := urlDecode(s, unicode)
			if decoded == s {
				break
			}
			s = decoded
		}
		return s, true
	})(nil, n, args)
}

// urlDecode undoes percent encoding and turns "+" into a space. What is not a valid escape stays.
func urlDecode(s string, unicode bool) string {
	if strings.IndexByte(s, '%') < 0 && strings.IndexByte(s, '+') < 0 {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '+':
			b = append(b, ' ')
		case s[i] == '%' && i+2 < len(s) && isHex(s[i+1]) && isHex(s[i+2]):
			n, _ := strconv.ParseUint(s[i+1:i+3], 16, 8)
			b = append(b, byte(n))
			i += 2
		case s[i] == '%' && unicode && hexUnit(s[i:]) >= 0:
			r := rune(hexUnit(s[i:]))
			i += 5
			if low := hexUnit(s[i+1:]); utf16.IsSurrogate(r) && low >= 0 {
				r = utf16.DecodeRune(r, rune(low))
				i += 6
			}
			b = utf8.AppendRune(b, r)
		default:
			b = append(b, s[i])
		}
	}
	return string(b)
}

// hexUnit returns the number in a leading %uXXXX, -1 if there is none.
func hexUnit(s string) int {
	if len(s) < 6 || s[0] != '%' || s[1] != 'u' {
		return -1
	}
	n, err := strconv.ParseUint(s[2:6], 16, 16)
	if err != nil {
		return -1
	}
	return int(n)
}

// piece is a part of a replacement: text, then a captured group (0 for none).
type piece struct {
	text  string
	group int
}

// checkReplace reads pattern and replacement of regex_replace and wildcard_replace.
func checkReplace(p *parser, n *node) error {
	if p.replacing {
		return p.fail(n.from, "regex_replace() and wildcard_replace() may be used once in an expression, and not together")
	}
	p.replacing = true
	pattern := n.args[1]
	groups := 0
	var err error
	if n.fn.name == "regex_replace" {
		if n.re, err = p.regex(pattern.from, pattern.text); err != nil {
			return err
		}
		groups = n.re.NumSubexp()
	} else {
		fold := true
		if len(n.args) > 3 {
			if n.args[3].text != "s" && n.args[3].text != "" {
				return faultAt(p.src, n.args[3].from, n.args[3].to, `the only flag of wildcard_replace is "s", for case-sensitive`)
			}
			fold = n.args[3].text == ""
		}
		if n.wild, err = p.wildcard(pattern.from, pattern.text, fold); err != nil {
			return err
		}
		groups = len(n.wild.parts) - 1
	}
	with := n.args[2]
	pieces, problem := replacement(with.text)
	for _, q := range pieces {
		if q.group > groups {
			problem = "the pattern has no group " + strconv.Itoa(q.group)
		}
	}
	if len(pieces) > 9 {
		problem = "a replacement may refer to at most 8 groups"
	}
	if problem != "" {
		return faultAt(p.src, with.from, with.to, "%s", problem)
	}
	return nil
}

// replacement takes "a${1}b$$" apart; problem says what is wrong with it.
func replacement(s string) (pieces []piece, problem string) {
	var text strings.Builder
	for s != "" {
		before, after, found := strings.Cut(s, "$")
		text.WriteString(before)
		if !found {
			break
		}
		if rest, ok := strings.CutPrefix(after, "$"); ok {
			text.WriteByte('$')
			s = rest
			continue
		}
		number, rest, closed := strings.Cut(strings.TrimPrefix(after, "{"), "}")
		group, err := strconv.ParseUint(number, 10, 8)
		if !strings.HasPrefix(after, "{") || !closed || err != nil || group == 0 {
			return nil, "a $ in a replacement begins a group such as ${1}; write $$ for the character itself"
		}
		pieces = append(pieces, piece{text.String(), int(group)})
		text.Reset()
		s = rest
	}
	return append(pieces, piece{text: text.String()}), ""
}

func buildReplace(_ *compiler, n *node, args []code) code {
	pieces, _ := replacement(n.args[2].text)
	return buildText(func(s string) (string, bool) {
		if n.re == nil {
			return n.wild.replace(s, pieces), true
		}
		at := n.re.FindStringSubmatchIndex(s)
		if at == nil {
			return s, true
		}
		var b strings.Builder
		b.WriteString(s[:at[0]])
		for _, q := range pieces {
			b.WriteString(q.text)
			if q.group > 0 && at[2*q.group] >= 0 {
				b.WriteString(s[at[2*q.group]:at[2*q.group+1]])
			}
		}
		b.WriteString(s[at[1]:])
		return b.String(), true
	})(nil, n, args)
}

func (w *wildcard) replace(s string, pieces []piece) string {
	var found []string
	if !w.capture(s, &found) {
		return s
	}
	var b strings.Builder
	for _, q := range pieces {
		b.WriteString(q.text)
		if q.group > 0 {
			b.WriteString(found[q.group-1])
		}
	}
	return b.String()
}

func buildLookupText(_ *compiler, n *node, args []code) code {
	return buildText(func(doc string) (string, bool) {
		s, ok := lookup(doc, n.args[1:]).(string)
		return s, ok
	})(nil, n, args)
}

func buildLookupInt(_ *compiler, n *node, args []code) code {
	get := args[0].s
	return code{i: func(v Values) (int64, bool) {
		doc, ok := get(v)
		if !ok {
			return 0, false
		}
		number, _ := lookup(doc, n.args[1:]).(json.Number)
		i, err := strconv.ParseInt(string(number), 10, 64)
		return i, err == nil
	}}
}

// lookup returns the string or number at path in a JSON document, nil if there is none. It reads
// only as far as it has to.
func lookup(doc string, path []*node) json.Token {
	d := json.NewDecoder(strings.NewReader(doc))
	d.UseNumber()
	for _, key := range path {
		if !descend(d, key) {
			return nil
		}
	}
	t, _ := d.Token()
	return t
}

// descend moves into the array or object that comes next, up to the value under key.
func descend(d *json.Decoder, key *node) bool {
	open, err := d.Token()
	if err != nil || key.op == opText && open != json.Delim('{') || key.op == opNumber && open != json.Delim('[') {
		return false
	}
	for i := int64(0); d.More(); i++ {
		if key.op == opNumber {
			if i == key.num {
				return true
			}
		} else if name, err := d.Token(); err != nil {
			return false
		} else if name == key.text {
			return true
		}
		if !skip(d) {
			return false
		}
	}
	return false
}

// skip moves over one value.
func skip(d *json.Decoder) bool {
	for depth := 0; ; {
		t, err := d.Token()
		if err != nil {
			return false
		}
		switch t {
		case json.Delim('{'), json.Delim('['):
			depth++
		case json.Delim('}'), json.Delim(']'):
			depth--
		}
		if depth == 0 {
			return true
		}
	}
}

func checkHMAC(p *parser, n *node) error {
	if a := n.args[0]; a.text == "" {
		return faultAt(p.src, a.from, a.to, "the key must not be empty")
	}
	for i, a := range n.args {
		if i != 1 && i != 3 && a.typ == Int && a.num < 0 {
			return faultAt(p.src, a.from, a.to, "%s must not be negative", n.fn.params[i].name)
		}
	}
	if len(n.args) > 5 && n.args[5].text != "" && n.args[5].text != "s" {
		return faultAt(p.src, n.args[5].from, n.args[5].to, `the only flag is "s", for a MAC in the URL-safe alphabet`)
	}
	return nil
}

func buildHMAC(_ *compiler, n *node, args []code) code {
	h := timedHMAC{key: []byte(n.args[0].text), ttl: n.args[2].num}
	if len(n.args) > 4 {
		h.separator = int(min(n.args[4].num, MaxLength))
	}
	h.urlSafe = len(n.args) > 5 && n.args[5].text == "s"
	get, now := args[1].s, args[3].i
	return code{b: func(v Values) bool {
		s, ok := get(v)
		t, okNow := now(v)
		return ok && okNow && h.valid(s, t)
	}}
}

// timedHMAC checks tokens of the form message, separator, ten digits of time, "-", MAC; the MAC is
// HMAC-SHA256 of message and time.
type timedHMAC struct {
	key       []byte
	ttl       int64
	separator int
	urlSafe   bool
}

func (h *timedHMAC) valid(token string, now int64) bool {
	const macSize, timeSize = 43, 10
	dash := strings.LastIndexByte(token, '-')
	if h.urlSafe {
		dash = len(token) - macSize - 1 // the MAC itself may have dashes
	}
	if dash < timeSize+h.separator+1 || token[dash] != '-' {
		return false
	}
	stamp := token[dash-timeSize : dash]
	message := token[:dash-timeSize-h.separator]
	issued, err := strconv.ParseUint(stamp, 10, 63)
	if err != nil || now-int64(issued) > h.ttl {
		return false
	}
	mac, err := h.decode(token[dash+1:])
	if err != nil {
		return false
	}
	sum := hmac.New(sha256.New, h.key)
	sum.Write([]byte(message))
	sum.Write([]byte(stamp))
	return hmac.Equal(mac, sum.Sum(nil))
}

func (h *timedHMAC) decode(mac string) ([]byte, error) {
	if h.urlSafe {
		return base64.RawURLEncoding.DecodeString(mac)
	}
	plain, err := url.PathUnescape(mac)
	if err != nil {
		return nil, err
	}
	return base64.StdEncoding.DecodeString(plain)
}
