package store

import (
	"bytes"
	"testing"
)

// FuzzRecord reads records that may be anything: nothing panics, and what can be read is written the same.
func FuzzRecord(f *testing.F) {
	o := &Object{Key: "k", ETag: "e", Size: 5, Custom: map[string]string{"a": "b"}, Parts: []int64{5, 5, 3}, content: content{parts: true, version: newID()}}
	f.Add(o.encode())
	o = &Object{Key: "k", Checksums: Checksums{MD5: make([]byte, 16)}, content: content{segments: []segment{{id: newID(), size: 9, stored: 25, sum: 4, owner: newID()}}}}
	f.Add(o.encode())
	f.Fuzz(func(t *testing.T, raw []byte) {
		o, err := decodeObject("k", raw)
		if err != nil {
			return
		}
		again, err := decodeObject("k", o.encode())
		if err != nil || !bytes.Equal(o.encode(), again.encode()) {
			t.Errorf("decodeObject(encode(%+v)) = %+v, %v", o, again, err)
		}
	})
}

func FuzzKeys(f *testing.F) {
	f.Add("a", "a\x00b")
	f.Add("", "\x00\x01")
	f.Fuzz(func(t *testing.T, a, b string) {
		x, y := appendEnded(nil, a), appendEnded(nil, b)
		if got, rest, ok := splitEnded(append(x, 7)); got != a || len(rest) != 1 || !ok {
			t.Errorf("splitEnded(appendEnded(%q)) = %q, %v, %v", a, got, rest, ok)
		}
		if got, want := bytes.Compare(x, y), bytes.Compare([]byte(a), []byte(b)); got != want {
			t.Errorf("%q and %q compare %d, with ends %d", a, b, want, got)
		}
		splitEnded([]byte(a))
		splitBucket([]byte(a))
	})
}
