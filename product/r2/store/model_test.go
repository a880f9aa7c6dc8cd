package store_test

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"selvage/product/r2/store"
)

// strange are pieces of keys: every plane of Unicode, bytes that sort oddly, and what delimiters are made of.
var strange = []string{"a", "b", "/", "//", "", "\x00", "\x01", "\xc2\x80", "é", "\u0800", "\uffff", "\U00010000", "\U0001f600", "\U0010ffff", " ", "..", "a/", "\x7f", "%", "+", "\n"}

func strangeKey(r *rand.Rand) string {
	var b strings.Builder
	for range 1 + r.IntN(5) {
		b.WriteString(strange[r.IntN(len(strange))])
	}
	if b.Len() == 0 {
		return "/"
	}
	return b.String()
}

// TestListAgainstModel compares pages of listings with what a sorted list of all keys gives.
func TestListAgainstModel(t *testing.T) {
	s := open(t, t.TempDir())
	r := rand.New(rand.NewPCG(1, 2))
	keys := map[string]bool{}
	for len(keys) < 150 {
		keys[strangeKey(r)] = true
	}
	keys[strings.Repeat("\U0010ffff", 256)] = true // 1,024 bytes
	for k := range keys {
		put(t, s, k, []byte(k))
	}
	sorted := slices.Sorted(maps.Keys(keys))
	for range 300 {
		o := store.ListOptions{Limit: 1 + r.IntN(40)}
		if r.IntN(3) > 0 {
			o.Prefix = strange[r.IntN(len(strange))]
		}
		if r.IntN(3) > 0 {
			o.Delimiter = strange[r.IntN(len(strange))]
		}
		if r.IntN(4) == 0 {
			o.After = strangeKey(r)
		}
		wantKeys, wantPrefixes := modelList(sorted, o)
		var gotKeys, gotPrefixes []string
		for page := 0; ; page++ {
			l, err := s.List(t.Context(), bucket, o)
			if err != nil || page > 1000 {
				t.Fatalf("List(%+v): %v after %d pages", o, err, page)
			}
			if n := len(l.Objects) + len(l.Prefixes); n > o.Limit || n < o.Limit && l.Truncated {
				t.Fatalf("List(%+v): a page of %d, truncated %v", o, n, l.Truncated)
			}
			for _, obj := range l.Objects {
				gotKeys = append(gotKeys, obj.Key)
			}
			gotPrefixes = append(gotPrefixes, l.Prefixes...)
			if !l.Truncated {
				break
			}
			o.After = l.Next
		}
		if !slices.Equal(gotKeys, wantKeys) || !slices.Equal(gotPrefixes, wantPrefixes) {
			t.Fatalf("List(%+v) = %q and %q, want %q and %q", o, gotKeys, gotPrefixes, wantKeys, wantPrefixes)
		}
	}
}

func modelList(sorted []string, o store.ListOptions) (keys, prefixes []string) {
	for _, k := range sorted {
		if !strings.HasPrefix(k, o.Prefix) || k <= o.After {
			continue
		}
		if o.Delimiter != "" {
			if i := strings.Index(k[len(o.Prefix):], o.Delimiter); i >= 0 {
				common := k[:len(o.Prefix)+i+len(o.Delimiter)]
				if common != o.After && !slices.Contains(prefixes, common) {
					prefixes = append(prefixes, common)
				}
				continue
			}
		}
		keys = append(keys, k)
	}
	return keys, prefixes
}

// TestAgainstModel does random things to a store and a map, and compares all of it now and then.
func TestAgainstModel(t *testing.T) {
	dir := t.TempDir()
	now := time.Now()
	st, err := start(dir, small)
	if err != nil {
		t.Fatal(err)
	}
	s := st.Store
	t.Cleanup(func() { st.close() })
	other := store.Bucket{Account: bucket.Account, ID: "00000000000000000000000000000001"}
	model := map[store.Bucket]map[string][]byte{bucket: {}, other: {}}
	r := rand.New(rand.NewPCG(3, uint64(now.Day())))
	keys := []string{"a", "a/b", "b", "é/\U0001f600", "z", "\x00"}
	anyBucket := func() store.Bucket { return []store.Bucket{bucket, other}[r.IntN(2)] }
	for i := range 250 {
		b, k := anyBucket(), keys[r.IntN(len(keys))]
		switch r.IntN(8) {
		case 0, 1, 2:
			content := noise(uint64(i), []int{0, 1, 1000, 65_536, 65_537, 200_000}[r.IntN(6)])
			if _, err := s.Put(t.Context(), b, k, bytes.NewReader(content), store.PutOptions{Size: int64(len(content))}); err != nil {
				t.Fatal(err)
			}
			model[b][k] = content
		case 3:
			if err := s.Delete(t.Context(), b, k, "none"); err != nil {
				t.Fatal(err)
			}
			delete(model[b], k)
		case 4:
			to := store.Target{Bucket: anyBucket(), Key: keys[r.IntN(len(keys))]}
			_, err := s.Copy(t.Context(), b, k, to, store.CopyOptions{})
			if content, ok := model[b][k]; ok && err == nil {
				model[to.Bucket][to.Key] = content
			} else if ok || store.CodeOf(err) != store.CodeNoSuchKey {
				t.Fatalf("Copy: %v", err)
			}
		case 5:
			model[b][k] = upload(t, s, b, k, r)
		case 6:
			if err := s.Collect(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := s.Sweep(t.Context(), 0); err != nil {
				t.Fatal(err)
			}
		case 7:
			if r.IntN(8) == 0 { // a new process
				st.close()
				if st, err = start(dir, small); err != nil {
					t.Fatal(err)
				}
				s = st.Store
			}
		}
		if i%50 == 49 {
			compare(t, s, model)
		}
	}
	compare(t, s, model)
	files := 0
	for b := range model {
		for k := range model[b] {
			if err := s.Delete(t.Context(), b, k); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := s.Collect(t.Context()); err != nil {
		t.Fatal(err)
	}
	if files = countFiles(t, st); files != 0 {
		t.Errorf("%d files are left when all is deleted", files)
	}
	if u, err := s.UsageOf(bucket.Account); err != nil || u != (store.Usage{}) {
		t.Errorf("UsageOf() = %+v, %v when all is deleted", u, err)
	}
}

// upload makes an object of some parts, overwrites one, leaves one out, and returns what it should hold.
func upload(t *testing.T, s *store.Store, b store.Bucket, key string, r *rand.Rand) (whole []byte) {
	t.Helper()
	u, err := s.CreateUpload(t.Context(), b, key, store.UploadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	size := []int{10, 70_000}[r.IntN(2)]
	var parts []store.CompletedPart
	for n := range 1 + r.IntN(4) {
		p := store.PartOf{Bucket: b, Key: key, Upload: u.ID, Number: n + 1}
		content := noise(r.Uint64(), size)
		if r.IntN(3) == 0 {
			putPart(t, s, p, noise(r.Uint64(), 100), nil)
		}
		done := putPart(t, s, p, content, nil)
		if n > 0 && r.IntN(3) == 0 {
			continue
		}
		whole = append(whole, content...)
		parts = append(parts, done)
	}
	if _, err := s.Complete(t.Context(), b, key, u.ID, store.CompleteOptions{Parts: parts}); err != nil {
		t.Fatal(err)
	}
	return whole
}

func compare(t *testing.T, s *store.Store, model map[store.Bucket]map[string][]byte) {
	t.Helper()
	for b, objects := range model {
		var want store.Usage
		for k, content := range objects {
			got, err := get(s, b, k, store.GetOptions{})
			if err != nil || !bytes.Equal(got, content) {
				t.Fatalf("Get(%q) = %d bytes, %v; want %d", k, len(got), err, len(content))
			}
			want.Objects++
			want.Bytes += int64(len(content))
			want.MetadataBytes += int64(len(k))
		}
		l, err := s.List(t.Context(), b, store.ListOptions{})
		if err != nil || len(l.Objects) != len(objects) {
			t.Fatalf("List() = %d objects, %v; want %d", len(l.Objects), err, len(objects))
		}
		if u, err := s.Usage(b); err != nil || u != want {
			t.Fatalf("Usage() = %+v, %v; want %+v", u, err, want)
		}
	}
}

func countFiles(t *testing.T, s *started) (n int) {
	t.Helper()
	if err := s.volume.List(t.Context(), func(e volumeEntry) error { n++; return nil }); err != nil {
		t.Fatal(err)
	}
	return n
}

// TestOneKeyTogether has many clients put, read, copy and delete one key: a reader gets all of one of the
// puts, and conditional puts that expect the same object succeed once.
func TestOneKeyTogether(t *testing.T) {
	st, err := start(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(st.close)
	s := st.Store
	sizes := []int{10, 65_536, 100_000, 300_000}
	contents := map[string]bool{}
	for i, n := range sizes {
		contents[string(noise(uint64(i), n))] = true
	}
	put(t, s, "k", noise(0, sizes[0]))
	work := make(chan error, 16)
	for w := range 4 {
		go func() { work <- putOften(s, w, sizes) }()
		go func() { work <- readOften(s, contents) }()
	}
	go func() {
		for range 30 {
			if err := s.Delete(t.Context(), bucket, "k"); err != nil {
				work <- err
				return
			}
			if err := s.Collect(t.Context()); err != nil {
				work <- err
				return
			}
			if err := s.Sweep(t.Context(), 0); err != nil {
				work <- err
				return
			}
		}
		work <- nil
	}()
	for range 9 {
		if err := <-work; err != nil {
			t.Error(err)
		}
	}
	one := put(t, s, "k", noise(1, 70_000))
	type result struct {
		o   *store.Object
		err error
	}
	results := make(chan result)
	for i := range 8 {
		go func() {
			o, err := s.Put(t.Context(), bucket, "k", bytes.NewReader(noise(uint64(i), 80_000)), store.PutOptions{Size: 80_000, If: store.Condition{ETagMatches: []string{one.ETag}}})
			results <- result{o, err}
		}()
	}
	won := 0
	for range 8 {
		r := <-results
		if r.err == nil {
			won++
		} else {
			wantCode(t, "a conditional put that lost", r.err, store.CodePreconditionFailed)
		}
	}
	if won != 1 {
		t.Errorf("%d of 8 puts that expected the same object succeeded, want 1", won)
	}
	if err := s.Collect(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := countFiles(t, st); n != 1 {
		t.Errorf("%d files are there, want 1", n)
	}
}

func putOften(s *store.Store, w int, sizes []int) error {
	for i := range 15 {
		n := (w + i) % len(sizes)
		content := noise(uint64(n), sizes[n])
		if _, err := s.Put(background, bucket, "k", bytes.NewReader(content), store.PutOptions{Size: -1}); err != nil {
			return fmt.Errorf("put: %w", err)
		}
		if _, err := s.Copy(background, bucket, "k", store.Target{Bucket: bucket, Key: "copy"}, store.CopyOptions{}); err != nil && store.CodeOf(err) != store.CodeNoSuchKey {
			return fmt.Errorf("copy: %w", err)
		}
		if err := s.Delete(background, bucket, "copy"); err != nil {
			return err
		}
	}
	return nil
}

func readOften(s *store.Store, contents map[string]bool) error {
	for range 60 {
		for _, key := range []string{"k", "copy"} {
			got, err := get(s, bucket, key, store.GetOptions{})
			if store.CodeOf(err) == store.CodeNoSuchKey {
				continue
			}
			if err != nil {
				return fmt.Errorf("get %q: %w", key, err)
			}
			if !contents[string(got)] {
				return fmt.Errorf("get %q: %d bytes that nobody put", key, len(got))
			}
		}
	}
	return nil
}
