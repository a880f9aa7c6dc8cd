package wire

import (
	"bytes"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"selvage/foundation/fault"
)

// appendHead appends the head of r to b.
func appendHead(b []byte, r *Request, cfHeader string) ([]byte, error) {
	if !token(r.Method) {
		return b, fault.New(fault.Invalid, "The method %.40q is not a token.", r.Method)
	}
	if r.Host == "" || !visible(r.Host) || strings.ContainsAny(r.Host, `/?#@\`) {
		return b, fault.New(fault.Invalid, "The host %.100q is not valid.", r.Host)
	}
	host := normalHost(r.Scheme, r.Host)
	b = append(b, r.Method...)
	b = append(b, ' ')
	b = append(b, r.Scheme...)
	b = append(b, "://"...)
	b = append(b, host...)
	if !strings.HasPrefix(r.Target, "/") {
		b = append(b, '/')
	}
	b = appendTarget(b, r.Target)
	b = append(b, " HTTP/1.1\r\nhost: "...)
	b = append(b, host...)
	b = append(b, "\r\n"...)
	b, err := appendFields(b, r, cfHeader)
	if err != nil {
		return b, err
	}
	if r.CF != nil {
		if bytes.ContainsAny(r.CF, "\r\n\x00") {
			return b, fault.New(fault.Invalid, "The cf object has line breaks.")
		}
		b = append(b, cfHeader...)
		b = append(b, ": "...)
		b = appendASCII(b, r.CF)
		b = append(b, "\r\n"...)
	}
	if r.Upgrade != "" {
		b = append(b, "connection: Upgrade\r\nupgrade: "...)
		b = append(b, r.Upgrade...)
		b = append(b, "\r\n"...)
	}
	return append(appendFraming(b, r), "\r\n"...), nil
}

func appendFraming(b []byte, r *Request) []byte {
	switch {
	case r.Body == nil || r.Length == 0:
		if r.Method == "POST" || r.Method == "PUT" || r.Method == "PATCH" || r.Body != nil {
			b = append(b, "content-length: 0\r\n"...)
		}
	case r.Length > 0:
		b = append(b, "content-length: "...)
		b = strconv.AppendInt(b, r.Length, 10)
		b = append(b, "\r\n"...)
	default:
		b = append(b, "transfer-encoding: chunked\r\n"...)
	}
	return b
}

func appendFields(b []byte, r *Request, cfHeader string) ([]byte, error) {
	if r.Header == nil {
		return b, nil
	}
	var cookies string // HTTP/2 clients may split them; the runtime would join them with a comma
	for name, value := range r.Header {
		if !token(name) {
			return b, fault.New(fault.Invalid, "The header name %.100q is not a token.", name)
		}
		if strings.ContainsAny(value, "\r\n\x00") {
			return b, fault.New(fault.Invalid, "The header field %.100s has line breaks in its value.", name)
		}
		if connectionField(name) || strings.EqualFold(name, cfHeader) {
			continue
		}
		if len(name) == 6 && strings.EqualFold(name, "cookie") {
			if cookies != "" {
				cookies += "; "
			}
			cookies += value
			continue
		}
		b = append(b, name...)
		b = append(b, ": "...)
		b = append(b, value...)
		b = append(b, "\r\n"...)
	}
	if cookies != "" {
		b = append(b, "cookie: "...)
		b = append(b, cookies...)
		b = append(b, "\r\n"...)
	}
	return b, nil
}

// connectionField tells whether a field belongs to one connection, or is written by appendHead.
func connectionField(name string) bool {
	switch len(name) {
	case 2:
		return strings.EqualFold(name, "te")
	case 4:
		return strings.EqualFold(name, "host")
	case 6:
		return strings.EqualFold(name, "expect")
	case 7:
		return strings.EqualFold(name, "upgrade") || strings.EqualFold(name, "trailer")
	case 10:
		return strings.EqualFold(name, "connection") || strings.EqualFold(name, "keep-alive")
	case 14:
		return strings.EqualFold(name, "content-length")
	case 16:
		return strings.EqualFold(name, "proxy-connection")
	case 17:
		return strings.EqualFold(name, "transfer-encoding")
	}
	return false
}

// normalHost returns host as URLs write it: lower case, without the scheme's own port.
func normalHost(scheme, host string) string {
	switch scheme {
	case "https":
		host = strings.TrimSuffix(host, ":443")
	case "http":
		host = strings.TrimSuffix(host, ":80")
	}
	return strings.ToLower(host)
}

// appendTarget appends path and query; bytes that the runtime's URI parser refuses are escaped.
func appendTarget(b []byte, target string) []byte {
	const digits = "0123456789ABCDEF"
	for i := range len(target) {
		c := target[i]
		if c <= ' ' || c >= 0x7f || strings.IndexByte("\"<>\\^`{|}#", c) >= 0 {
			b = append(b, '%', digits[c>>4], digits[c&15])
			continue
		}
		b = append(b, c)
	}
	return b
}

// appendASCII appends JSON with everything but ASCII escaped.
func appendASCII(b, doc []byte) []byte {
	for len(doc) > 0 {
		if doc[0] < utf8.RuneSelf {
			b = append(b, doc[0])
			doc = doc[1:]
			continue
		}
		r, n := utf8.DecodeRune(doc)
		doc = doc[n:]
		if hi, lo := utf16.EncodeRune(r); hi != utf8.RuneError {
			b = appendEscape(appendEscape(b, hi), lo)
			continue
		}
		b = appendEscape(b, r)
	}
	return b
}

func appendEscape(b []byte, r rune) []byte {
	const digits = "0123456789abcdef"
	return append(b, '\\', 'u', digits[r>>12&15], digits[r>>8&15], digits[r>>4&15], digits[r&15])
}

func visible(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f {
			return false
		}
	}
	return true
}

// token tells whether s is a token of RFC 9110 section 5.6.2.
func token(s string) bool {
	if s == "" {
		return false
	}
	for i := range len(s) {
		c := s[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0:
		default:
			return false
		}
	}
	return true
}
