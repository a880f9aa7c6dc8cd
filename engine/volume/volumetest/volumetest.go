// Package volumetest is the suite that every volume passes.
package volumetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"selvage/engine/volume"
)

// Place is where a volume keeps content, reached round the volume.
type Place struct {
	Volume volume.Volume

	// Reopen returns the volume as a new process would.
	Reopen func(t *testing.T) volume.Volume

	// Change replaces what is stored under a name by what edit makes of it; nil removes it.
	Change func(t *testing.T, name string, edit func(stored []byte) []byte)
}

// Run runs the suite. open makes a new empty place.
func Run(t *testing.T, open func(t *testing.T) Place) {
	for _, c := range []struct {
		name string
		test func(t *testing.T, p Place)
	}{
		{"Sizes", testSizes},
		{"Ranges", testRanges},
		{"NothingBeforeCommit", testNothingBeforeCommit},
		{"FailedBody", testFailedBody},
		{"DeleteAndList", testDeleteAndList},
		{"Names", testNames},
		{"Damage", testDamage},
		{"Together", testTogether},
		{"Cancelled", testCancelled},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, open(t)) })
	}
}

// Noise returns n bytes that depend on seed.
func Noise(seed uint64, n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), 1}).Read(b)
	return b
}

func put(t *testing.T, v volume.Volume, name string, content []byte) volume.Content {
	t.Helper()
	w, err := v.Create(t.Context(), name, int64(len(content)))
	if err != nil {
		t.Fatalf("Create(%q): %v", name, err)
	}
	defer w.Abort()
	for left := content; len(left) > 0; {
		n := min(len(left), 100_001)
		if _, err := w.Write(left[:n]); err != nil {
			t.Fatalf("Write to %q: %v", name, err)
		}
		left = left[n:]
	}
	c, err := w.Commit()
	if err != nil {
		t.Fatalf("Commit of %q: %v", name, err)
	}
	if c.Name != name || c.Size != int64(len(content)) {
		t.Errorf("Commit() = %+v, want %q with %d bytes", c, name, len(content))
	}
	return c
}

func get(ctx context.Context, v volume.Volume, c volume.Content, offset, length int64) ([]byte, error) {
	r, err := v.Open(ctx, c, offset, length)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(r)
	return b, errors.Join(err, r.Close())
}

func want(t *testing.T, v volume.Volume, c volume.Content, content []byte) {
	t.Helper()
	got, err := get(t.Context(), v, c, 0, c.Size)
	if err != nil || !bytes.Equal(got, content) {
		t.Errorf("content %q = %d bytes, %v; want the %d that were put", c.Name, len(got), err, len(content))
	}
}

func testSizes(t *testing.T, p Place) {
	var all []volume.Content
	noise := Noise(1, 9<<20)
	sizes := []int{0, 1, 65_535, 65_536, 65_537, 1 << 20, 8<<20 - 536, 8<<20 + 5}
	for i, n := range sizes {
		c := put(t, p.Volume, fmt.Sprintf("size-%d", n), noise[i:i+n])
		all = append(all, c)
		want(t, p.Volume, c, noise[i:i+n])
	}
	again := p.Reopen(t)
	for i, c := range all {
		want(t, again, c, noise[i:i+sizes[i]])
		paced := 0
		if err := again.Verify(t.Context(), c, func(_ context.Context, n int) error { paced += n; return nil }); err != nil {
			t.Errorf("Verify(%q): %v", c.Name, err)
		}
		if paced < sizes[i] {
			t.Errorf("Verify(%q) paced %d bytes of %d", c.Name, paced, sizes[i])
		}
	}
}

func testRanges(t *testing.T, p Place) {
	const size = 3<<20 + 777
	content := Noise(7, size)
	c := put(t, p.Volume, "ranges", content)
	v := p.Reopen(t) // nothing is trusted yet
	for i, r := range [][2]int64{{0, 0}, {0, 1}, {0, 65_536}, {1, 65_536}, {65_535, 2}, {65_536, 65_536}, {size - 1, 1}, {size, 0}, {size - 70_000, 70_000}, {123_456, 1 << 20}, {0, size}, {5, 10}} {
		got, err := get(t.Context(), v, c, r[0], r[1])
		if err != nil || !bytes.Equal(got, content[r[0]:r[0]+r[1]]) {
			t.Errorf("%d: range %d+%d = %d bytes, %v", i, r[0], r[1], len(got), err)
		}
	}
	for _, r := range [][2]int64{{-1, 1}, {0, size + 1}, {size, 1}, {size + 1, 0}, {1, -1}, {1, 1<<63 - 1}} {
		if _, err := get(t.Context(), v, c, r[0], r[1]); err == nil {
			t.Errorf("range %d+%d of %d bytes is no error", r[0], r[1], size)
		}
	}
}

func names(t *testing.T, v volume.Volume) (all []string) {
	t.Helper()
	if err := v.List(t.Context(), func(e volume.Entry) error { all = append(all, e.Name); return nil }); err != nil {
		t.Fatalf("List: %v", err)
	}
	slices.Sort(all)
	return all
}

func testNothingBeforeCommit(t *testing.T, p Place) {
	for _, n := range []int{10, 9 << 20} {
		w, err := p.Volume.Create(t.Context(), "unseen", -1)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(Noise(1, n)); err != nil {
			t.Fatal(err)
		}
		if all := names(t, p.Volume); len(all) != 0 {
			t.Errorf("List() before Commit = %v", all)
		}
		w.Abort()
		w.Abort()
		if _, err := w.Write([]byte("x")); err == nil {
			t.Error("Write after Abort is no error")
		}
		if _, err := w.Commit(); err == nil {
			t.Error("Commit after Abort is no error")
		}
		if all := names(t, p.Volume); len(all) != 0 {
			t.Errorf("List() after Abort = %v", all)
		}
	}
	if err := p.Volume.Tidy(t.Context()); err != nil {
		t.Errorf("Tidy(): %v", err)
	}
	c := put(t, p.Volume, "unseen", Noise(2, 10))
	want(t, p.Volume, c, Noise(2, 10))
}

func testFailedBody(t *testing.T, p Place) {
	_, err := get(t.Context(), p.Volume, volume.Content{Name: "never-was", Size: 5}, 0, 5)
	var d *volume.Damage
	if !errors.As(err, &d) || !d.Missing() {
		t.Errorf("Open of what never was: %v, want a Damage that says that it is missing", err)
	}
	if err := p.Volume.Verify(t.Context(), volume.Content{Name: "never-was", Size: 5}, nil); !volume.IsDamage(err) {
		t.Errorf("Verify of what never was: %v, want a Damage", err)
	}
}

func testDeleteAndList(t *testing.T, p Place) {
	a, b := put(t, p.Volume, "aaa", Noise(1, 100)), put(t, p.Volume, "bbb", Noise(2, 100_000))
	sizes := map[string]int64{}
	if err := p.Volume.List(t.Context(), func(e volume.Entry) error {
		sizes[e.Name] = e.Size
		if e.Modified.IsZero() {
			t.Errorf("List(): %q has no time", e.Name)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if len(sizes) != 2 || sizes["aaa"] != a.Size || sizes["bbb"] != b.Size {
		t.Errorf("List() = %v", sizes)
	}
	stop := errors.New("enough")
	if err := p.Volume.List(t.Context(), func(volume.Entry) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("List() = %v, want the error of its function", err)
	}
	for range 2 {
		if err := p.Volume.Delete(t.Context(), "aaa"); err != nil {
			t.Errorf("Delete: %v", err)
		}
	}
	if all := names(t, p.Volume); len(all) != 1 {
		t.Errorf("List() after Delete = %v", all)
	}
	if _, err := get(t.Context(), p.Volume, a, 0, a.Size); !volume.IsDamage(err) {
		t.Errorf("Open after Delete: %v, want a Damage", err)
	}
	want(t, p.Volume, b, Noise(2, 100_000))
}

func testNames(t *testing.T, p Place) {
	for _, name := range []string{"", "..", "../x", "a/b", ".abc", "ABC", "a\x00b", "ü", string(bytes.Repeat([]byte{'a'}, 65))} {
		if w, err := p.Volume.Create(t.Context(), name, -1); err == nil {
			w.Abort()
			t.Errorf("Create(%q) is no error", name)
		}
		if _, err := p.Volume.Open(t.Context(), volume.Content{Name: name}, 0, 0); err == nil {
			t.Errorf("Open(%q) is no error", name)
		}
		if err := p.Volume.Delete(t.Context(), name); err == nil {
			t.Errorf("Delete(%q) is no error", name)
		}
	}
}

func testDamage(t *testing.T, p Place) {
	for _, size := range []int{10, 65_536, 1_200_000} {
		content := Noise(3, size)
		for i, c := range []struct {
			what string
			edit func(b []byte) []byte
		}{
			{"first bit", func(b []byte) []byte { b[0] ^= 1; return b }},
			{"a bit in the middle", func(b []byte) []byte { b[size/2] ^= 0x80; return b }},
			{"last bit of the content", func(b []byte) []byte { b[size-1] ^= 1; return b }},
			{"a bit of the table", func(b []byte) []byte { b[size] ^= 1; return b }},
			{"a bit of the trailer", func(b []byte) []byte { b[len(b)-10] ^= 1; return b }},
			{"cut by one", func(b []byte) []byte { return b[:len(b)-1] }},
			{"cut in half", func(b []byte) []byte { return b[:len(b)/2] }},
			{"one more", func(b []byte) []byte { return append(b, 0) }},
			{"empty", func([]byte) []byte { return []byte{} }},
			{"gone", func([]byte) []byte { return nil }},
		} {
			name := fmt.Sprintf("damage-%d-%d", size, i)
			kept := put(t, p.Volume, name, content)
			p.Change(t, name, c.edit)
			v := p.Reopen(t)
			if got, err := get(t.Context(), v, kept, 0, kept.Size); !volume.IsDamage(err) {
				t.Errorf("%s of %d: reading gives %d bytes, %v; want a Damage", c.what, size, len(got), err)
			} else if !bytes.HasPrefix(content, got) {
				t.Errorf("%s of %d: bytes were read that were not put", c.what, size)
			}
			if err := v.Verify(t.Context(), kept, nil); !volume.IsDamage(err) {
				t.Errorf("%s of %d: Verify() = %v, want a Damage", c.what, size, err)
			}
		}
	}
}

func testTogether(t *testing.T, p Place) {
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 2 {
				content := Noise(uint64(i*10+j), 1000+i*150_000)
				c := put(t, p.Volume, fmt.Sprintf("together-%d-%d", i, j), content)
				want(t, p.Volume, c, content)
				if j%2 == 0 {
					if err := p.Volume.Delete(t.Context(), c.Name); err != nil {
						t.Errorf("Delete: %v", err)
					}
				}
			}
		})
	}
	wg.Wait()
	if all := names(t, p.Volume); len(all) != 8 {
		t.Errorf("List() = %d names, want 8", len(all))
	}
}

func testCancelled(t *testing.T, p Place) {
	ctx, cancel := context.WithCancel(t.Context())
	w, err := p.Volume.Create(ctx, "cancelled", -1)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	for range 100 { // a volume may notice late
		if _, err = w.Write(Noise(1, 1<<20)); err != nil {
			break
		}
	}
	if err == nil {
		_, err = w.Commit()
	}
	w.Abort()
	if !errors.Is(err, context.Canceled) {
		t.Errorf("writing with a context that ended: %v, want %v", err, context.Canceled)
	}
	if all := names(t, p.Volume); len(all) != 0 {
		t.Errorf("List() = %v after a writer that was cancelled", all)
	}
}
