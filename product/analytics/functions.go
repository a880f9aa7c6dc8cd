package analytics

import (
	"fmt"
	"math"
	"math/bits"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"zombiezen.com/go/sqlite"

	"selvage/foundation/clock"
)

// scalar is a function of one row.
type scalar func(args []sqlite.Value) (sqlite.Value, error)

// null is what functions return where an argument makes no sense: a query over what scripts write
// should not fail for one row.
var null = sqlite.Value{}

// register gives a connection the functions that Cloudflare documents. Those that SQLite has under
// the same name and with the same meaning are not listed.
func register(c *sqlite.Conn, clk clock.Clock) error {
	now := clk.Now().UTC()
	times := map[string]scalar{
		"now":   func([]sqlite.Value) (sqlite.Value, error) { return timeValue(now) },
		"today": func([]sqlite.Value) (sqlite.Value, error) { return timeValue(now.Truncate(24 * time.Hour)) },
	}
	for _, set := range []map[string]scalar{times, timeFunctions(), textFunctions(), numberFunctions()} {
		for name, f := range set {
			err := c.CreateFunction(name, &sqlite.FunctionImpl{NArgs: -1, Deterministic: true, Scalar: func(_ sqlite.Context, args []sqlite.Value) (sqlite.Value, error) {
				return f(args)
			}})
			if err != nil {
				return err
			}
		}
	}
	return registerAggregates(c)
}

// need returns an error unless there are from least to most arguments.
func need(name string, args []sqlite.Value, least, most int) error {
	if len(args) < least || len(args) > most {
		return fmt.Errorf("%s takes %d to %d arguments, not %d", name, least, most, len(args))
	}
	return nil
}

func timeValue(t time.Time) (sqlite.Value, error) { return sqlite.TextValue(t.Format(dateTime)), nil }

// timeOf reads a time: text as it is kept, an ISO date, or seconds since 1970.
func timeOf(v sqlite.Value) (time.Time, bool) {
	if v.Type() != sqlite.TypeText {
		return time.Unix(v.Int64(), 0).UTC(), v.Type() != sqlite.TypeNull
	}
	s := v.Text()
	for _, layout := range [...]string{dateTime, "2006-01-02T15:04:05Z07:00", "2006-01-02T15:04:05", "2006-01-02"} {
		if t, err := time.Parse(layout, s); err == nil {
			return t.UTC(), true
		}
	}
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return time.Unix(n, 0).UTC(), true
	}
	return time.Time{}, false
}

// ofTime makes a function of a time of f; a time zone may follow, in which f sees the time.
func ofTime(name string, f func(t time.Time) (sqlite.Value, error)) scalar {
	return func(args []sqlite.Value) (sqlite.Value, error) {
		if err := need(name, args, 1, 2); err != nil {
			return null, err
		}
		t, ok := timeOf(args[0])
		if !ok {
			return null, nil
		}
		if len(args) == 2 {
			zone, err := time.LoadLocation(args[1].Text())
			if err != nil {
				return null, fmt.Errorf("%s: there is no time zone %q", name, args[1].Text())
			}
			t = t.In(zone)
		}
		return f(t)
	}
}

func part(name string, f func(t time.Time) int) scalar {
	return ofTime(name, func(t time.Time) (sqlite.Value, error) { return sqlite.IntegerValue(int64(f(t))), nil })
}

func start(name string, count int, unit string) scalar {
	return ofTime(name, func(t time.Time) (sqlite.Value, error) { return timeValue(startOf(t, count, unit)) })
}

func timeFunctions() map[string]scalar {
	set := map[string]scalar{
		"toDateTime":      ofTime("toDateTime", timeValue),
		"toUnixTimestamp": ofTime("toUnixTimestamp", func(t time.Time) (sqlite.Value, error) { return sqlite.IntegerValue(t.Unix()), nil }),
		"shift":           shift, "toStartOfInterval": startOfInterval, "formatDateTime": formatDateTime,
		"toYear":       part("toYear", time.Time.Year),
		"toMonth":      part("toMonth", func(t time.Time) int { return int(t.Month()) }),
		"toDayOfMonth": part("toDayOfMonth", time.Time.Day),
		"toDayOfWeek":  part("toDayOfWeek", func(t time.Time) int { return (int(t.Weekday())+6)%7 + 1 }),
		"toHour":       part("toHour", time.Time.Hour),
		"toMinute":     part("toMinute", time.Time.Minute),
		"toSecond":     part("toSecond", time.Time.Second),
		"toYYYYMM":     part("toYYYYMM", func(t time.Time) int { return 100*t.Year() + int(t.Month()) }),
	}
	for _, s := range []struct {
		name, unit string
		count      int
	}{
		{"toStartOfYear", "YEAR", 1}, {"toStartOfMonth", "MONTH", 1}, {"toStartOfWeek", "WEEK", 1}, {"toStartOfDay", "DAY", 1}, {"toStartOfHour", "HOUR", 1},
		{"toStartOfFifteenMinutes", "MINUTE", 15}, {"toStartOfTenMinutes", "MINUTE", 10}, {"toStartOfFiveMinutes", "MINUTE", 5}, {"toStartOfMinute", "MINUTE", 1},
	} {
		set[s.name] = start(s.name, s.count, s.unit)
	}
	return set
}

var seconds = map[string]int{"SECOND": 1, "MINUTE": 60, "HOUR": 3600, "DAY": 86400, "WEEK": 7 * 86400}

// startOf returns the beginning of the interval that t is in.
func startOf(t time.Time, count int, unit string) time.Time {
	year, month, day := t.Date()
	switch unit {
	case "YEAR":
		return time.Date(year-year%count, 1, 1, 0, 0, 0, 0, t.Location())
	case "QUARTER", "MONTH":
		if unit == "QUARTER" {
			count *= 3
		}
		months := 12*year + int(month) - 1
		months -= months % count
		return time.Date(months/12, time.Month(months%12+1), 1, 0, 0, 0, 0, t.Location())
	case "WEEK": // from Monday, as ISO weeks; 1970 began on a Thursday
		monday := time.Date(year, month, day-(int(t.Weekday())+6)%7, 0, 0, 0, 0, t.Location())
		weeks := int(monday.Unix()/86400+3) / 7
		return monday.AddDate(0, 0, -7*(weeks%count))
	case "DAY":
		midnight := time.Date(year, month, day, 0, 0, 0, 0, t.Location())
		return midnight.AddDate(0, 0, -int(midnight.Unix()/86400)%count)
	}
	_, offset := t.Zone()
	width := int64(count * seconds[unit])
	local := t.Unix() + int64(offset)
	return time.Unix(local-local%width-int64(offset), 0).In(t.Location())
}

// startOfInterval is toStartOfInterval(t, '5 MINUTE'[, zone]), as rewrite leaves it.
func startOfInterval(args []sqlite.Value) (sqlite.Value, error) {
	if err := need("toStartOfInterval", args, 2, 3); err != nil {
		return null, err
	}
	n, unit, _ := strings.Cut(args[1].Text(), " ")
	count, err := strconv.Atoi(n)
	if err != nil || count < 1 || count > 1e6 || !units[unit] {
		return null, fmt.Errorf("toStartOfInterval needs an INTERVAL such as INTERVAL '5' MINUTE")
	}
	rest := append([]sqlite.Value{args[0]}, args[2:]...)
	return start("toStartOfInterval", count, unit)(rest)
}

// shift is t plus or minus an INTERVAL.
func shift(args []sqlite.Value) (sqlite.Value, error) {
	if err := need("INTERVAL", args, 3, 3); err != nil {
		return null, err
	}
	t, ok := timeOf(args[0])
	n, err := strconv.Atoi(strings.TrimSpace(args[1].Text()))
	if err != nil || n > 1e9 || n < -1e9 {
		return null, fmt.Errorf("INTERVAL needs a whole number, not %q", args[1].Text())
	}
	if !ok {
		return null, nil
	}
	switch unit := args[2].Text(); unit {
	case "MONTH":
		return timeValue(t.AddDate(0, n, 0))
	case "QUARTER":
		return timeValue(t.AddDate(0, 3*n, 0))
	case "YEAR":
		return timeValue(t.AddDate(n, 0, 0))
	default:
		return timeValue(t.Add(time.Duration(n) * time.Duration(seconds[unit]) * time.Second))
	}
}

// strftime maps the letters of formatDateTime to Go's layouts.
var strftime = map[byte]string{
	'Y': "2006", 'y': "06", 'm': "01", 'd': "02", 'e': "_2", 'H': "15", 'I': "03", 'M': "04", 'i': "04", 'S': "05", 's': "05", 'p': "PM",
	'F': "2006-01-02", 'T': "15:04:05", 'R': "15:04", 'D': "01/02/06", 'b': "Jan", 'a': "Mon", 'W': "Monday", 'z': "-0700", 'j': "002",
}

func formatDateTime(args []sqlite.Value) (sqlite.Value, error) {
	if err := need("formatDateTime", args, 2, 3); err != nil {
		return null, err
	}
	layout := args[1].Text()
	rest := append([]sqlite.Value{args[0]}, args[2:]...)
	return ofTime("formatDateTime", func(t time.Time) (sqlite.Value, error) {
		var b strings.Builder
		for i := 0; i < len(layout); i++ {
			if layout[i] != '%' || i+1 == len(layout) {
				b.WriteByte(layout[i])
				continue
			}
			i++
			switch goLayout, ok := strftime[layout[i]]; {
			case layout[i] == '%':
				b.WriteByte('%')
			case ok:
				b.WriteString(t.Format(goLayout))
			default:
				return null, fmt.Errorf("formatDateTime does not know %%%c", layout[i])
			}
		}
		return sqlite.TextValue(b.String()), nil
	})(rest)
}

// ofText makes a function of one text of f.
func ofText(name string, f func(s string) sqlite.Value) scalar {
	return func(args []sqlite.Value) (sqlite.Value, error) {
		if err := need(name, args, 1, 1); err != nil || args[0].Type() == sqlite.TypeNull {
			return null, err
		}
		return f(args[0].Text()), nil
	}
}

func truth(b bool) sqlite.Value {
	if b {
		return sqlite.IntegerValue(1)
	}
	return sqlite.IntegerValue(0)
}

func ofTexts(name string, f func(a, b string) bool) scalar {
	return func(args []sqlite.Value) (sqlite.Value, error) {
		if err := need(name, args, 2, 2); err != nil {
			return null, err
		}
		return truth(f(args[0].Text(), args[1].Text())), nil
	}
}

func textFunctions() map[string]scalar {
	upper := func(s string) sqlite.Value { return sqlite.TextValue(strings.ToUpper(s)) }
	lower := func(s string) sqlite.Value { return sqlite.TextValue(strings.ToLower(s)) }
	return map[string]scalar{
		"length":    ofText("length", func(s string) sqlite.Value { return sqlite.IntegerValue(int64(len(s))) }),
		"empty":     ofText("empty", func(s string) sqlite.Value { return truth(s == "") }),
		"notEmpty":  ofText("notEmpty", func(s string) sqlite.Value { return truth(s != "") }),
		"toString":  ofText("toString", sqlite.TextValue),
		"toUpper":   ofText("toUpper", upper),
		"toLower":   ofText("toLower", lower),
		"upperUTF8": ofText("upperUTF8", upper), "upper": ofText("upper", upper), "ucase": ofText("ucase", upper),
		"lowerUTF8": ofText("lowerUTF8", lower), "lower": ofText("lower", lower), "lcase": ofText("lcase", lower),
		"startsWith": ofTexts("startsWith", strings.HasPrefix),
		"endsWith":   ofTexts("endsWith", strings.HasSuffix),
		"regexp":     ofTexts("ILIKE", func(pattern, s string) bool { return ilike(strings.ToLower(pattern), strings.ToLower(s)) }),
		"position":   position, "substring": substring, "substr": substring, "mid": substring, "format": format, "concat": concat,
	}
}

// ilike matches % and _ in a pattern, as LIKE does; going back costs at most the product of the
// lengths.
func ilike(pattern, s string) bool {
	p, i, star, mark := 0, 0, -1, 0
	for i < len(s) {
		_, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case p < len(pattern) && pattern[p] == '%':
			star, mark = p, i
			p++
			continue
		case p < len(pattern) && pattern[p] == '_':
			p++
			i += size
			continue
		case p < len(pattern) && pattern[p] == s[i]:
			p++
			i++
			continue
		case star < 0:
			return false
		}
		mark++
		p, i = star+1, mark
	}
	return strings.Trim(pattern[p:], "%") == ""
}

func position(args []sqlite.Value) (sqlite.Value, error) {
	if err := need("position", args, 2, 3); err != nil {
		return null, err
	}
	s, from := args[0].Text(), 0
	if len(args) == 3 {
		from = min(max(args[2].Int()-1, 0), len(s))
	}
	i := strings.Index(s[from:], args[1].Text())
	if i < 0 {
		return sqlite.IntegerValue(0), nil
	}
	return sqlite.IntegerValue(int64(from + i + 1)), nil
}

// substring counts octets from 1, from the end if offset is negative.
func substring(args []sqlite.Value) (sqlite.Value, error) {
	if err := need("substring", args, 2, 3); err != nil {
		return null, err
	}
	s, offset := args[0].Text(), args[1].Int()
	switch {
	case offset > 0:
		offset--
	case offset < 0:
		offset = max(len(s)+offset, 0)
	default:
		return sqlite.TextValue(""), nil
	}
	offset = min(offset, len(s))
	end := len(s)
	if len(args) == 3 {
		end = offset + min(max(args[2].Int(), 0), len(s)-offset)
	}
	return sqlite.TextValue(strings.ToValidUTF8(s[offset:end], "")), nil
}

// format is format('{} of {1}', a, b).
func format(args []sqlite.Value) (sqlite.Value, error) {
	if len(args) == 0 {
		return null, fmt.Errorf("format needs a pattern")
	}
	pattern, next := args[0].Text(), 0
	var b strings.Builder
	for {
		before, rest, found := strings.Cut(pattern, "{")
		b.WriteString(before)
		if !found {
			return sqlite.TextValue(b.String()), nil
		}
		which, after, closed := strings.Cut(rest, "}")
		if !closed {
			return null, fmt.Errorf("format has a { without a }")
		}
		n, err := strconv.Atoi(which)
		if which == "" {
			n, err = next, nil
			next++
		}
		if err != nil || n < 0 || n+1 >= len(args) {
			return null, fmt.Errorf("format has no argument for {%s}", which)
		}
		b.WriteString(args[n+1].Text())
		pattern = after
	}
}

func concat(args []sqlite.Value) (sqlite.Value, error) {
	var b strings.Builder
	for _, a := range args {
		b.WriteString(a.Text())
	}
	return sqlite.TextValue(b.String()), nil
}

// toInteger makes a conversion to integers of a number of bits; a time becomes its seconds.
func toInteger(name string, mask uint64) scalar {
	return func(args []sqlite.Value) (sqlite.Value, error) {
		if err := need(name, args, 1, 1); err != nil || args[0].Type() == sqlite.TypeNull {
			return null, err
		}
		n := args[0].Int64()
		if args[0].Type() == sqlite.TypeText {
			if t, ok := timeOf(args[0]); ok {
				n = t.Unix()
			}
		}
		return sqlite.IntegerValue(int64(uint64(n) & mask)), nil
	}
}

func ofFloat(name string, f func(x float64) float64) scalar {
	return func(args []sqlite.Value) (sqlite.Value, error) {
		if err := need(name, args, 1, 1); err != nil || args[0].Type() == sqlite.TypeNull {
			return null, err
		}
		v := f(args[0].Float())
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return null, nil
		}
		return sqlite.FloatValue(v), nil
	}
}

func ofIntegers(name string, f func(a, b uint64) uint64) scalar {
	return func(args []sqlite.Value) (sqlite.Value, error) {
		if err := need(name, args, 2, 2); err != nil {
			return null, err
		}
		return sqlite.IntegerValue(int64(f(uint64(args[0].Int64()), uint64(args[1].Int64())))), nil
	}
}

func numberFunctions() map[string]scalar {
	return map[string]scalar{
		"intDiv": intDiv, "pow": power, "power": power,
		"toUInt8": toInteger("toUInt8", 0xff), "toUInt16": toInteger("toUInt16", 0xffff), "toUInt32": toInteger("toUInt32", 0xffffffff),
		"toUInt64": toInteger("toUInt64", math.MaxUint64), "toInt64": toInteger("toInt64", math.MaxUint64), "toInt32": toInteger("toInt32", math.MaxUint64),
		"toFloat64": ofFloat("toFloat64", func(x float64) float64 { return x }),
		"floor":     ofFloat("floor", math.Floor), "ceil": ofFloat("ceil", math.Ceil), "sqrt": ofFloat("sqrt", math.Sqrt), "exp": ofFloat("exp", math.Exp),
		"log": ofFloat("log", math.Log), "ln": ofFloat("ln", math.Log), "log2": ofFloat("log2", math.Log2), "log10": ofFloat("log10", math.Log10),
		"least": extreme("least", -1), "greatest": extreme("greatest", 1),
		"bitAnd":        ofIntegers("bitAnd", func(a, b uint64) uint64 { return a & b }),
		"bitOr":         ofIntegers("bitOr", func(a, b uint64) uint64 { return a | b }),
		"bitXor":        ofIntegers("bitXor", func(a, b uint64) uint64 { return a ^ b }),
		"bitShiftLeft":  ofIntegers("bitShiftLeft", func(a, b uint64) uint64 { return a << b }),
		"bitShiftRight": ofIntegers("bitShiftRight", func(a, b uint64) uint64 { return a >> b }),
		"bitTest":       ofIntegers("bitTest", func(a, b uint64) uint64 { return a >> b & 1 }),
		"bitHammingDistance": ofIntegers("bitHammingDistance", func(a, b uint64) uint64 {
			return uint64(bits.OnesCount64(a ^ b))
		}),
		"bitCount": func(args []sqlite.Value) (sqlite.Value, error) {
			if err := need("bitCount", args, 1, 1); err != nil {
				return null, err
			}
			return sqlite.IntegerValue(int64(bits.OnesCount64(uint64(args[0].Int64())))), nil
		},
		"bitNot": func(args []sqlite.Value) (sqlite.Value, error) {
			if err := need("bitNot", args, 1, 1); err != nil {
				return null, err
			}
			return sqlite.IntegerValue(^args[0].Int64()), nil
		},
	}
}

func intDiv(args []sqlite.Value) (sqlite.Value, error) {
	if err := need("intDiv", args, 2, 2); err != nil {
		return null, err
	}
	b := args[1].Float()
	if b == 0 {
		return null, nil
	}
	if args[0].Type() == sqlite.TypeInteger && args[1].Type() == sqlite.TypeInteger {
		return sqlite.IntegerValue(args[0].Int64() / args[1].Int64()), nil
	}
	return sqlite.IntegerValue(int64(args[0].Float() / b)), nil
}

func power(args []sqlite.Value) (sqlite.Value, error) {
	if err := need("pow", args, 2, 2); err != nil {
		return null, err
	}
	return sqlite.FloatValue(math.Pow(args[0].Float(), args[1].Float())), nil
}

func extreme(name string, sign int) scalar {
	return func(args []sqlite.Value) (sqlite.Value, error) {
		if err := need(name, args, 2, 2); err != nil {
			return null, err
		}
		if compare(args[0], args[1])*sign >= 0 {
			return copyOf(args[0]), nil
		}
		return copyOf(args[1]), nil
	}
}
