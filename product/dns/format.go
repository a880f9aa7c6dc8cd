package dns

import (
	"strings"

	mdns "github.com/miekg/dns"
)

// fieldKind says how one field of a record's data is written in text, in JSON and on the wire.
type fieldKind uint8

const (
	kindUint8  fieldKind = iota
	kindUint16           // a whole number up to 65535
	kindIPv4             //
	kindIPv6             //
	kindHost             // a host name; "." only where the field allows it
	kindWord             // a character string that is written without quotes (CAA's tag)
	kindString           // a quoted character string (NAPTR's flags)
	kindRest             // a quoted string that fills the rest of the data without a length (CAA's value)
	kindText             // TXT: quoted character strings, or one long unquoted one
	kindHex              // the rest of the data, in hexadecimal
	kindBase64           // the rest of the data, in base64
	kindParams           // SvcParams (RFC 9460, 2.1)
	kindPlace            // LOC (RFC 1876)
)

// field is one field of a type's data, by the name it has in the v4 API's data object.
type field struct {
	name string
	kind fieldKind
	root bool // kindHost: "." is allowed and means that there is none
}

// format says how the data of one record type is written.
type format struct {
	typ    uint16
	fields []field // in the order of presentation and wire form
	// ranked types have a priority that the v4 API keeps outside of the content; it is fields[0].
	ranked bool
	// structured types have a data object in the v4 API.
	structured bool
	// code is the v4 error code for contents that do not fit the type.
	code int
}

// codeInvalid is the v4 API's general "DNS Validation Error".
const codeInvalid = 1004

// typeOrder lists the types one can have records of, in the order of an exported zone.
var typeOrder = []string{"NS", "A", "AAAA", "CNAME", "MX", "TXT", "SRV", "CAA", "PTR", "HTTPS", "SVCB", "TLSA",
	"SSHFP", "NAPTR", "DS", "CERT", "DNSKEY", "LOC", "SMIMEA", "URI", "OPENPGPKEY"}

var formats = map[string]*format{
	"A":          {typ: mdns.TypeA, fields: []field{{name: "content", kind: kindIPv4}}, code: 9005},
	"AAAA":       {typ: mdns.TypeAAAA, fields: []field{{name: "content", kind: kindIPv6}}, code: 9006},
	"CNAME":      {typ: mdns.TypeCNAME, fields: []field{{name: "content", kind: kindHost}}, code: 9007},
	"NS":         {typ: mdns.TypeNS, fields: []field{{name: "content", kind: kindHost}}, code: codeInvalid},
	"PTR":        {typ: mdns.TypePTR, fields: []field{{name: "content", kind: kindHost}}, code: codeInvalid},
	"TXT":        {typ: mdns.TypeTXT, fields: []field{{name: "content", kind: kindText}}, code: codeInvalid},
	"OPENPGPKEY": {typ: mdns.TypeOPENPGPKEY, fields: []field{{name: "content", kind: kindBase64}}, code: codeInvalid},
	"MX":         {typ: mdns.TypeMX, ranked: true, fields: []field{{name: "priority", kind: kindUint16}, {name: "content", kind: kindHost, root: true}}, code: codeInvalid},
	"SRV": structured(mdns.TypeSRV, field{name: "priority", kind: kindUint16}, field{name: "weight", kind: kindUint16},
		field{name: "port", kind: kindUint16}, field{name: "target", kind: kindHost, root: true}).withRank(),
	"URI": structured(mdns.TypeURI, field{name: "priority", kind: kindUint16}, field{name: "weight", kind: kindUint16},
		field{name: "target", kind: kindRest}).withRank(),
	"CAA":    structured(mdns.TypeCAA, field{name: "flags", kind: kindUint8}, field{name: "tag", kind: kindWord}, field{name: "value", kind: kindRest}),
	"TLSA":   structured(mdns.TypeTLSA, association...),
	"SMIMEA": structured(mdns.TypeSMIMEA, association...),
	"SSHFP":  structured(mdns.TypeSSHFP, field{name: "algorithm", kind: kindUint8}, field{name: "type", kind: kindUint8}, field{name: "fingerprint", kind: kindHex}),
	"NAPTR": structured(mdns.TypeNAPTR, field{name: "order", kind: kindUint16}, field{name: "preference", kind: kindUint16}, field{name: "flags", kind: kindString},
		field{name: "service", kind: kindString}, field{name: "regex", kind: kindString}, field{name: "replacement", kind: kindHost, root: true}),
	"DS": structured(mdns.TypeDS, field{name: "key_tag", kind: kindUint16}, field{name: "algorithm", kind: kindUint8},
		field{name: "digest_type", kind: kindUint8}, field{name: "digest", kind: kindHex}),
	"CERT": structured(mdns.TypeCERT, field{name: "type", kind: kindUint16}, field{name: "key_tag", kind: kindUint16},
		field{name: "algorithm", kind: kindUint8}, field{name: "certificate", kind: kindBase64}),
	"DNSKEY": structured(mdns.TypeDNSKEY, field{name: "flags", kind: kindUint16}, field{name: "protocol", kind: kindUint8},
		field{name: "algorithm", kind: kindUint8}, field{name: "public_key", kind: kindBase64}),
	"HTTPS": structured(mdns.TypeHTTPS, binding...),
	"SVCB":  structured(mdns.TypeSVCB, binding...),
	"LOC":   structured(mdns.TypeLOC, field{name: "location", kind: kindPlace}),
}

var (
	association = []field{{name: "usage", kind: kindUint8}, {name: "selector", kind: kindUint8},
		{name: "matching_type", kind: kindUint8}, {name: "certificate", kind: kindHex}}
	binding = []field{{name: "priority", kind: kindUint16}, {name: "target", kind: kindHost, root: true}, {name: "value", kind: kindParams}}
)

func structured(typ uint16, fields ...field) *format {
	return &format{typ: typ, fields: fields, structured: true, code: codeInvalid}
}

// withRank marks a structured type whose priority stands outside of the content.
func (f *format) withRank() *format { f.ranked = true; return f }

// contentFields are the fields that stand in the v4 API's content.
func (f *format) contentFields() []field {
	if f.ranked {
		return f.fields[1:]
	}
	return f.fields
}

// token is one word or quoted string of a record's presentation form.
type token struct {
	text   string // with escapes resolved
	raw    string // as written, without the quotes
	quoted bool
	at     int // where it begins
}

// tokenize splits presentation form at white space outside of quotes (RFC 1035, 5.1).
func tokenize(s string) ([]token, error) {
	var out []token
	for i := 0; i < len(s); {
		if s[i] == ' ' || s[i] == '\t' {
			i++
			continue
		}
		t, used, err := nextToken(s[i:])
		if err != nil {
			return nil, err
		}
		t.at = i
		out = append(out, t)
		i += used
	}
	return out, nil
}

func nextToken(s string) (token, int, error) {
	quoted := s[0] == '"'
	begin := 0
	if quoted {
		begin = 1
	}
	var text strings.Builder
	i := begin
	for i < len(s) {
		c := s[i]
		if c == '"' || !quoted && (c == ' ' || c == '\t') {
			break
		}
		if c == '\\' {
			b, used, err := unescape(s[i:])
			if err != nil {
				return token{}, 0, err
			}
			text.WriteByte(b)
			i += used
			continue
		}
		text.WriteByte(c)
		i++
	}
	t := token{text: text.String(), raw: s[begin:i], quoted: quoted}
	if !quoted {
		return t, i, nil
	}
	if i >= len(s) {
		return token{}, 0, errOpenQuote
	}
	return t, i + 1, nil
}

// quote writes a string in quotes with the escapes of presentation form.
func quote(s string) string {
	b := make([]byte, 0, len(s)+2)
	b = append(b, '"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c < ' ' || c >= 0x7f:
			b = append(b, '\\', '0'+c/100, '0'+c/10%10, '0'+c%10)
		default:
			b = append(b, c)
		}
	}
	return string(append(b, '"'))
}
