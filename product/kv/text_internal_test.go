package kv

import "testing"

// The outputs are those of new TextDecoder().decode() in Node.js 22.
func TestDecoded(t *testing.T) {
	for in, want := range map[string]string{
		"plain é": "plain é", "\ufeffa\ufeff": "a\ufeff", "a\x80b": "a\ufffdb", "\xf0\x9f\x98": "\ufffd", "\xf0\x9f\x41": "\ufffdA",
		"\xe2\x28\xa1": "\ufffd(\ufffd", "\xed\xa0\x80": "\ufffd\ufffd\ufffd", "\xc0\xaf": "\ufffd\ufffd", "\xf4\x90\x80\x80": "\ufffd\ufffd\ufffd\ufffd", "\xff\xfe": "\ufffd\ufffd", "\xe0\x80": "\ufffd\ufffd",
	} {
		if got := decoded([]byte(in)); got != want {
			t.Errorf("decoded(%q) = %q, want %q", in, got, want)
		}
	}
}
