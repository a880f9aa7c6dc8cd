package node

import (
	"encoding/json"
	"log/slog"
	"strconv"
	"time"

	"selvage/foundation/observe"
)

// appendEvent appends an event as one line of JSON: time, account, zone, then its attributes in
// their order. Durations become seconds.
func appendEvent(b []byte, ev observe.Event) []byte {
	b = append(b, `{"time":"`...)
	b = ev.Time.UTC().AppendFormat(b, time.RFC3339Nano)
	b = append(b, '"')
	b = appendField(b, slog.String("account", ev.Account))
	b = appendField(b, slog.String("zone", ev.Zone))
	for _, a := range ev.Attrs {
		b = appendField(b, a)
	}
	return append(b, '}', '\n')
}

func appendField(b []byte, a slog.Attr) []byte {
	b = append(b, ',')
	b = appendText(b, a.Key)
	b = append(b, ':')
	switch v := a.Value; v.Kind() {
	case slog.KindString:
		return appendText(b, v.String())
	case slog.KindInt64:
		return strconv.AppendInt(b, v.Int64(), 10)
	case slog.KindUint64:
		return strconv.AppendUint(b, v.Uint64(), 10)
	case slog.KindBool:
		return strconv.AppendBool(b, v.Bool())
	case slog.KindDuration:
		return strconv.AppendFloat(b, v.Duration().Seconds(), 'f', -1, 64)
	default:
		return appendAny(b, v.Any())
	}
}

// appendText appends a JSON string. Nearly all of them need no escape.
func appendText(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			return appendAny(b, s)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}

func appendAny(b []byte, v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		return append(b, "null"...)
	}
	return append(b, data...)
}
