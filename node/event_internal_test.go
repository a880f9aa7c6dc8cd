package node

import (
	"encoding/json"
	"log/slog"
	"testing"
	"time"

	"selvage/foundation/observe"
)

func sampleEvent() observe.Event {
	return observe.Event{Kind: "request", Time: time.Unix(1e9, 5e8), Account: "a1", Zone: "site.test", Attrs: []slog.Attr{
		slog.String("uri", "/a\"b\\c\x01é\xff"), slog.Int("status", 200), slog.Uint64("big", 1<<63), slog.Bool("origin_reused", true),
		slog.Duration("duration", 1500*time.Microsecond), slog.Any("broken", []string{"cache"}), slog.Any("odd", func() {}),
	}}
}

func TestEventIsOneLineOfJSON(t *testing.T) {
	line := appendEvent(nil, sampleEvent())
	want := `{"time":"2001-09-09T01:46:40.5Z","account":"a1","zone":"site.test","uri":"/a\"b\\c\u0001é\ufffd","status":200,` +
		`"big":9223372036854775808,"origin_reused":true,"duration":0.0015,"broken":["cache"],"odd":null}` + "\n"
	if string(line) != want {
		t.Errorf("got  %swant %s", line, want)
	}
	if !json.Valid(line) {
		t.Error("it is no JSON")
	}
}

func BenchmarkEvent(b *testing.B) {
	ev := sampleEvent()
	ev.Attrs = ev.Attrs[1:5]
	var line []byte
	b.ReportAllocs()
	for range b.N {
		line = appendEvent(line[:0], ev)
	}
}
