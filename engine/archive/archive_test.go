package archive_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"selvage/engine/archive"
	"selvage/foundation/fault"
)

// write returns an archive of n files and what is in them.
func write(t testing.TB, n int) ([]byte, map[string]string) {
	t.Helper()
	var out bytes.Buffer
	w, err := archive.NewWriter(&out, archive.Head{Version: "test", Created: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(1, 2))
	files := map[string]string{}
	for i := range n {
		content := make([]byte, random.IntN(5000))
		for j := range content {
			content[j] = byte(random.UintN(256))
		}
		f := archive.File{Name: fmt.Sprintf("some/folder/%d \u00fc", i), Size: int64(len(content)), Mode: 0o600}
		files[f.Name] = string(content)
		if err := w.Add(t.Context(), f, io.MultiReader(bytes.NewReader(content), strings.NewReader("and what was written since"))); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes(), files
}

func read(data []byte) (map[string]string, error) {
	files := map[string]string{}
	_, _, err := archive.Read(context.Background(), bytes.NewReader(data), func(f archive.File, r io.Reader) error {
		content, err := io.ReadAll(r)
		files[f.Name] = string(content)
		return err
	})
	return files, err
}

func TestRoundTrip(t *testing.T) {
	for _, n := range []int{0, 1, 255, 256, 257, 1000} {
		data, want := write(t, n)
		got, err := read(data)
		if err != nil {
			t.Fatalf("%d files: %v", n, err)
		}
		if len(got) != len(want) {
			t.Errorf("%d files came back, want %d", len(got), len(want))
		}
		for name, content := range want {
			if got[name] != content {
				t.Errorf("file %q came back with another content", name)
			}
		}
		// Who does not read a file gets its checksum checked all the same.
		if _, totals, err := archive.Read(t.Context(), bytes.NewReader(data), func(archive.File, io.Reader) error { return nil }); err != nil || totals.Files != int64(n) {
			t.Errorf("without reading: %d files, %v", totals.Files, err)
		}
	}
}

func TestDamageIsFound(t *testing.T) {
	data, _ := write(t, 300)
	random := rand.New(rand.NewPCG(3, 4))
	for range 60 {
		bad := bytes.Clone(data)
		bad[random.IntN(len(bad))] ^= 1 << random.IntN(8)
		if got, err := read(bad); err == nil {
			// A bit that no decoder looks at, such as a reserved one of a frame's head, may flip.
			for name, content := range got {
				if _, want := write(t, 300); want[name] != content {
					t.Fatalf("a flipped bit changed %q and nobody noticed", name)
				}
			}
		} else if fault.KindOf(err) != fault.Invalid {
			t.Fatalf("a flipped bit is %v, want a fault", err)
		}
	}
	for range 50 {
		if _, err := read(data[:random.IntN(len(data))]); fault.KindOf(err) != fault.Invalid {
			t.Fatalf("a cut off archive is %v, want a fault", err)
		}
	}
	for _, foreign := range []string{"", "hello", strings.Repeat("x", 10_000)} {
		if _, err := read([]byte(foreign)); fault.KindOf(err) != fault.Invalid {
			t.Errorf("%.10q is %v, want a fault", foreign, err)
		}
	}
}

func TestErrorsOfOthersPass(t *testing.T) {
	data, _ := write(t, 3)
	full := errors.New("disk full")
	if _, _, err := archive.Read(t.Context(), bytes.NewReader(data), func(archive.File, io.Reader) error { return full }); !errors.Is(err, full) {
		t.Errorf("an error of the reader of files became %v", err)
	}
	gone := errors.New("connection reset")
	if _, _, err := archive.Read(t.Context(), io.MultiReader(bytes.NewReader(data[:100]), broken{gone}), func(archive.File, io.Reader) error { return nil }); !errors.Is(err, gone) {
		t.Errorf("an error of the source became %v", err)
	}
	w, err := archive.NewWriter(io.Discard, archive.Head{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Drop()
	for _, name := range []string{"", "/etc/passwd", "../x", "a//b", "a/../b"} {
		if err := w.Add(t.Context(), archive.File{Name: name}, strings.NewReader("")); err == nil {
			t.Errorf("the name %q was taken", name)
		}
	}
	if err := w.Add(t.Context(), archive.File{Name: "short", Size: 10}, strings.NewReader("five!")); err == nil {
		t.Error("a file shorter than announced was taken")
	}
}

type broken struct{ err error }

func (b broken) Read([]byte) (int, error) { return 0, b.err }
