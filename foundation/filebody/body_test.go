package filebody_test

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"

	"selvage/foundation/filebody"
)

func TestBody(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, []byte("0123456789"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		from, n int64
		want    string
		err     error
	}{
		{0, 10, "0123456789", nil}, {3, 4, "3456", nil}, {10, 0, "", nil}, {8, 4, "89", io.ErrUnexpectedEOF},
	} {
		for name, read := range map[string]func(*filebody.Body) ([]byte, error){
			"read": func(b *filebody.Body) ([]byte, error) { return io.ReadAll(struct{ io.Reader }{b}) },
			"write": func(b *filebody.Body) ([]byte, error) {
				var out bytes.Buffer
				_, err := b.WriteTo(&out)
				return out.Bytes(), err
			},
		} {
			f, err := os.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.Seek(c.from, io.SeekStart); err != nil {
				t.Fatal(err)
			}
			b := filebody.New(f, c.n)
			if got, err := read(b); string(got) != c.want || err != c.err {
				t.Errorf("%s of %d from %d: %q, %v, want %q, %v", name, c.n, c.from, got, err, c.want, c.err)
			}
			if err := b.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}
