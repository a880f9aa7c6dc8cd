package dns

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	mdns "github.com/miekg/dns"

	"selvage/foundation/fault"
)

// dataObject is the v4 API's data object of a structured record.
type dataObject map[string]json.RawMessage

// namingFields are fields of SRV data that older clients send: together they are the record's name.
var namingFields = []string{"service", "proto", "name"}

// readData turns a data object into content and, for types that keep it outside, priority. The
// values themselves are checked when the content is read.
func readData(typ string, data dataObject) (content string, priority *uint16, err error) {
	f := formats[typ]
	if !f.structured {
		return "", nil, fault.New(fault.Invalid, "Records of type %s have no data object; send content.", typ).At("data").WithCode(codeInvalid)
	}
	if err := data.onlyKnown(typ, f); err != nil {
		return "", nil, err
	}
	if f.typ == mdns.TypeLOC {
		content, err = data.place()
		return content, nil, err
	}
	var words []string
	for i, fd := range f.fields {
		raw, given := data[fd.name]
		if f.ranked && i == 0 {
			if given {
				priority, err = readRank(raw)
			}
		} else if !given && fd.kind != kindParams {
			err = fault.New(fault.Invalid, "%s is a required data field.", fd.name).At("data." + fd.name).WithCode(9101)
		} else if given {
			words, err = appendWord(words, fd, raw)
		}
		if err != nil {
			return "", nil, err
		}
	}
	return strings.Join(words, " "), priority, nil
}

func (d dataObject) onlyKnown(typ string, f *format) error {
	known := make([]string, 0, len(f.fields))
	for _, fd := range f.fields {
		known = append(known, fd.name)
	}
	if f.typ == mdns.TypeLOC {
		known = placeFields
	}
	for name := range d {
		if slices.Contains(known, name) || f.typ == mdns.TypeSRV && slices.Contains(namingFields, name) {
			continue
		}
		return fault.New(fault.Invalid, "%.40q is not a data field of %s records; they have %s.", name, typ, strings.Join(known, ", ")).At("data." + name).WithCode(codeInvalid)
	}
	return nil
}

func readRank(raw json.RawMessage) (*uint16, error) {
	var n uint16
	if err := json.Unmarshal(raw, &n); err != nil {
		return nil, notAField("priority", raw, "a whole number from 0 to 65535")
	}
	return &n, nil
}

// appendWord writes one field of a data object as presentation form.
func appendWord(words []string, fd field, raw json.RawMessage) ([]string, error) {
	if fd.kind == kindUint8 || fd.kind == kindUint16 {
		var n json.Number
		if err := json.Unmarshal(raw, &n); err != nil {
			return nil, notAField(fd.name, raw, "a number")
		}
		return append(words, n.String()), nil
	}
	var s string
	if err := json.Unmarshal(raw, &s); err != nil {
		return nil, notAField(fd.name, raw, "a string")
	}
	switch {
	case fd.kind == kindString || fd.kind == kindRest:
		return append(words, quote(s)), nil
	case fd.kind == kindParams && s == "":
		return words, nil
	case fd.kind == kindHost && s == "":
		return append(words, "."), nil
	}
	return append(words, s), nil
}

func notAField(name string, raw json.RawMessage, want string) error {
	return fault.New(fault.Invalid, "%s cannot be %.40s; it is %s.", name, raw, want).At("data." + name).WithCode(codeInvalid)
}

// text returns a string field, empty if there is none.
func (d dataObject) text(name string) string {
	var s string
	if raw, ok := d[name]; ok && json.Unmarshal(raw, &s) != nil {
		return ""
	}
	return s
}

// data returns the data object of a structured type, nil for the others.
func (c contents) data() json.RawMessage {
	if !c.format.structured {
		return nil
	}
	if c.format.typ == mdns.TypeLOC {
		return placeData([]byte(c.values[0].octets))
	}
	var b bytes.Buffer
	b.WriteByte('{')
	for i, fd := range c.format.fields {
		if c.format.typ == mdns.TypeURI && i == 0 {
			continue
		}
		if b.Len() > 1 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.Quote(fd.name))
		b.WriteByte(':')
		if fd.kind == kindUint8 || fd.kind == kindUint16 {
			b.WriteString(strconv.Itoa(int(c.values[i].number)))
			continue
		}
		// Marshalling a string cannot fail.
		s, _ := json.Marshal(c.values[i].text)
		b.Write(s)
	}
	b.WriteByte('}')
	return b.Bytes()
}

var placeFields = []string{"lat_degrees", "lat_minutes", "lat_seconds", "lat_direction", "long_degrees", "long_minutes",
	"long_seconds", "long_direction", "altitude", "size", "precision_horz", "precision_vert"}

// place writes LOC data in presentation form (RFC 1876, section 3).
func (d dataObject) place() (string, error) {
	var words []string
	for _, name := range placeFields {
		raw, given := d[name]
		if strings.HasSuffix(name, "_direction") {
			dir := d.text(name)
			if dir == "" {
				return "", fault.New(fault.Invalid, "%s is a required data field.", name).At("data." + name).WithCode(9101)
			}
			words = append(words, dir)
			continue
		}
		n := map[string]float64{"size": 1, "precision_horz": 10000, "precision_vert": 10}[name]
		if given {
			if err := json.Unmarshal(raw, &n); err != nil {
				return "", notAField(name, raw, "a number")
			}
		}
		unit := ""
		if len(words) >= 8 {
			unit = "m"
		}
		words = append(words, strconv.FormatFloat(n, 'f', -1, 64)+unit)
	}
	return strings.Join(words, " "), nil
}

// placeData reads a LOC record's sixteen octets into a data object.
func placeData(b []byte) json.RawMessage {
	if len(b) != 16 {
		return nil
	}
	lat := angle(b[4:8])
	long := angle(b[8:12])
	latDir, longDir := "N", "E"
	if lat < 0 {
		latDir = "S"
	}
	if long < 0 {
		longDir = "W"
	}
	latDeg, latMin, latSec := sexagesimal(lat)
	longDeg, longMin, longSec := sexagesimal(long)
	return fmt.Appendf(nil, `{"lat_degrees":%d,"lat_minutes":%d,"lat_seconds":%s,"lat_direction":%q,"long_degrees":%d,"long_minutes":%d,"long_seconds":%s,"long_direction":%q,"altitude":%s,"size":%s,"precision_horz":%s,"precision_vert":%s}`,
		latDeg, latMin, decimal(latSec), latDir, longDeg, longMin, decimal(longSec), longDir,
		decimal(float64(uint32(b[12])<<24|uint32(b[13])<<16|uint32(b[14])<<8|uint32(b[15]))/100-100000), metres(b[1]), metres(b[2]), metres(b[3]))
}

// angle returns thousandths of an arc second, positive to north and east; 2^31 is the zero.
func angle(b []byte) int64 {
	return int64(uint32(b[0])<<24|uint32(b[1])<<16|uint32(b[2])<<8|uint32(b[3])) - 1<<31
}

func sexagesimal(a int64) (degrees, minutes int64, seconds float64) {
	if a < 0 {
		a = -a
	}
	return a / 3600000, a / 60000 % 60, float64(a%60000) / 1000
}

// metres reads a size: the high four bits times ten to the power of the low four, in centimetres.
func metres(b byte) string { return decimal(float64(b>>4) * math.Pow10(int(b&15)) / 100) }

func decimal(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }
