package tail

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"testing"
)

func FuzzFrames(f *testing.F) {
	f.Add([]byte("\x81\x0f{\"debug\":false}\x89\x81\x01\x02\x03\x04p"))
	f.Add([]byte("\x01\x02ab\x89\x01p\x80\x01c\x88\x02\x03\xe8"))
	f.Add([]byte("\x81\x7f\xff\xff\xff\xff\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, data []byte) {
		w := wire{r: bufio.NewReader(bytes.NewReader(data))}
		for {
			op, payload, err := w.read()
			var end *closeError
			if errors.As(err, &end) && len(closePayload(end.code, end.reason)) > maxControl {
				t.Errorf("close payload of %q is too long", end.reason)
			}
			if err != nil {
				return
			}
			if len(payload) > maxClientBytes || op >= opClose && len(payload) > maxControl {
				t.Fatalf("message %d of %d bytes", op, len(payload))
			}
		}
	})
}

func FuzzStack(f *testing.F) {
	f.Add("    at Object.fetch (w.js:3:9)\n    at async w.js:1:1")
	f.Add("at (:1:1)\nat :1:1\nat  (")
	c := &maps{limit: 1 << 20, turns: make(chan struct{}, 1), entries: map[mapKey]*mapEntry{},
		load: func(context.Context, string, string, string) ([]byte, error) {
			return []byte(`{"version":3,"sources":["a"],"mappings":"AAAA"}`), nil
		}}
	f.Fuzz(func(t *testing.T, stack string) {
		got := c.rewrite(context.Background(), "a", "v", stack)
		if bytes.Count([]byte(got), []byte("\n")) != bytes.Count([]byte(stack), []byte("\n")) {
			t.Errorf("%q became %q", stack, got)
		}
		if c.bytes > c.limit {
			t.Errorf("%d bytes of maps are kept, the limit is %d", c.bytes, c.limit)
		}
	})
}
