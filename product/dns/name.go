package dns

import (
	"errors"
	"strings"
)

// A name in wire form is the labels with their length octets and the root's zero octet
// (RFC 1035, 3.1), lower case, uncompressed. Names are kept as strings: they are map keys.

// maxName is the most octets of a name in wire form.
const maxName = 255

// wireName converts a name in presentation form, with or without trailing dot, to wire form. It
// knows the escapes \X and \DDD.
func wireName(s string) (string, error) {
	if s == "." {
		return "\x00", nil
	}
	out := make([]byte, 1, len(s)+2)
	label := 0 // where the length octet of the label in the making stands
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c == '.' {
			if len(out)-label == 1 {
				return "", errors.New("it has an empty label")
			}
			if i == len(s)-1 {
				break
			}
			label = len(out)
			out = append(out, 0)
			continue
		}
		if c == '\\' {
			b, used, err := unescape(s[i:])
			if err != nil {
				return "", err
			}
			c, i = b, i+used-1
		}
		if out[label] == 63 {
			return "", errors.New("it has a label longer than 63 octets")
		}
		out[label]++
		out = append(out, lower(c))
	}
	if out[label] == 0 {
		return "", errors.New("it is empty")
	}
	if len(out)+1 > maxName {
		return "", errors.New("it is longer than 255 octets")
	}
	return string(append(out, 0)), nil
}

// textName converts a name in wire form to presentation form without trailing dot; the root is ".".
func textName(wire string) string {
	if len(wire) <= 1 {
		return "."
	}
	var b strings.Builder
	for i := 0; i < len(wire) && wire[i] != 0; {
		n := int(wire[i])
		if i > 0 {
			b.WriteByte('.')
		}
		for _, c := range []byte(wire[i+1 : i+1+n]) {
			switch {
			case c == '.' || c == '\\' || c == '"':
				b.WriteByte('\\')
				b.WriteByte(c)
			case c <= ' ' || c >= 0x7f:
				b.WriteByte('\\')
				b.WriteByte('0' + c/100)
				b.WriteByte('0' + c/10%10)
				b.WriteByte('0' + c%10)
			default:
				b.WriteByte(c)
			}
		}
		i += n + 1
	}
	return b.String()
}

// unescape reads one escape at the beginning of s, which starts with a backslash (RFC 1035, 5.1).
func unescape(s string) (b byte, used int, err error) {
	if len(s) < 2 {
		return 0, 0, errors.New("it ends in a backslash")
	}
	if s[1] < '0' || s[1] > '9' {
		return s[1], 2, nil
	}
	n := 0
	for i := 1; i < 4; i++ {
		if i >= len(s) || s[i] < '0' || s[i] > '9' {
			return 0, 0, errors.New("it has an escape that is not \\DDD")
		}
		n = 10*n + int(s[i]-'0')
	}
	if n > 255 {
		return 0, 0, errors.New("it has an escape above \\255")
	}
	return byte(n), 4, nil
}

// inWireZone tells whether name is zone or below it, both in wire form. The zone has to begin at a
// label of the name, not within one.
func inWireZone(name, zone string) bool {
	if len(name) < len(zone) || name[len(name)-len(zone):] != zone {
		return false
	}
	for i := 0; i <= len(name)-len(zone); i += int(name[i]) + 1 {
		if i == len(name)-len(zone) {
			return true
		}
	}
	return false
}

// lower returns c in lower case if it is an ASCII letter.
func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

// labels writes where each label of a wire name begins into offs and returns how many there are.
func labels(name []byte, offs *[128]uint8) int {
	n := 0
	for i := 0; i < len(name) && name[i] != 0 && n < len(offs); i += int(name[i]) + 1 {
		offs[n] = uint8(i)
		n++
	}
	return n
}
