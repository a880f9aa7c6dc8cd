package store_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"selvage/foundation/clock"
	"selvage/product/r2/store"
)

// ears collects events.
type ears struct {
	mu    sync.Mutex // guards heard
	heard []string
	came  chan struct{}
}

func newEars() *ears { return &ears{came: make(chan struct{}, 1000)} }

func (e *ears) hear(_ context.Context, ev store.Event) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.heard = append(e.heard, ev.Action+" "+ev.Key)
	e.came <- struct{}{}
	return nil
}

// run runs the background work of a store until the test or the returned function ends it.
func run(t *testing.T, s *store.Store) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				t.Errorf("Run(): %v", err)
			}
		})
	}
	t.Cleanup(stop)
	return stop
}

func TestEventsAreToldInOrderAndAgain(t *testing.T) {
	dir := t.TempDir()
	refusing := 2
	st, err := start(dir, func(o *store.Options) {
		o.Event = func(context.Context, store.Event) error { return errors.New("nobody is there") }
		o.Notify = func(b store.Bucket) bool { return b == bucket }
	})
	if err != nil {
		t.Fatal(err)
	}
	put(t, st.Store, "a", nil)
	other := bucket
	other.ID = "other"
	if _, err := st.Put(t.Context(), other, "unheard", bytes.NewReader(nil), store.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	put(t, st.Store, "b", noise(1, 100_000))
	if _, err := st.Copy(t.Context(), bucket, "b", store.Target{Bucket: bucket, Key: "c"}, store.CopyOptions{}); err != nil {
		t.Fatal(err)
	}
	id := begin(t, st.Store, "d", store.UploadOptions{})
	p := putPart(t, st.Store, store.PartOf{Bucket: bucket, Key: "d", Upload: id, Number: 1}, []byte("x"), nil)
	if _, err := st.Complete(t.Context(), bucket, "d", id, store.CompleteOptions{Parts: []store.CompletedPart{p}}); err != nil {
		t.Fatal(err)
	}
	if err := st.Delete(t.Context(), bucket, "a", "none"); err != nil {
		t.Fatal(err)
	}
	st.close() // as a crash does: nothing was told
	e := newEars()
	s := open(t, dir, func(o *store.Options) {
		o.Event = func(ctx context.Context, ev store.Event) error {
			if refusing--; refusing >= 0 && ev.Key == "b" {
				return errors.New("not now")
			}
			return e.hear(ctx, ev)
		}
	})
	run(t, s)
	put(t, s, "e", nil)
	want := []string{"PutObject a", "PutObject b", "CopyObject c", "CompleteMultipartUpload d", "DeleteObject a", "PutObject e"}
	for range want {
		<-e.came
	}
	if !slices.Equal(e.heard, want) {
		t.Errorf("told %q, want %q", e.heard, want)
	}
}

// settable is a clock that a test moves.
type settable struct {
	mu  sync.Mutex // guards now
	now time.Time
}

func (s *settable) get() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now
}

func (s *settable) add(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = s.now.Add(d)
}

func TestLifecycle(t *testing.T) {
	const day = 24 * time.Hour
	at := &settable{now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	s := open(t, t.TempDir(), small, func(o *store.Options) {
		o.Clock = clock.Fixed(at.get)
		o.Protect = func(_ store.Bucket, o *store.Object) error {
			if o.Key == "logs/locked" {
				return errors.New("locked")
			}
			return nil
		}
	})
	for i := range 600 {
		put(t, s, fmt.Sprintf("logs/%03d", i), noise(uint64(i), 10))
	}
	put(t, s, "logs/locked", nil)
	put(t, s, "cold/a", noise(1, 100_000))
	old := begin(t, s, "logs/upload", store.UploadOptions{})
	at.add(5 * day)
	put(t, s, "logs/000", noise(1, 11)) // young again
	put(t, s, "cold/b", nil)
	begin(t, s, "logs/upload", store.UploadOptions{})
	at.add(5 * day)
	rules := []store.Rule{
		{Prefix: "logs/", ExpireAfter: 8 * day, AbortAfter: 8 * day},
		{Prefix: "cold/", TransitionAfter: 8 * day},
		{Prefix: "none/", ExpireAt: at.get()},
	}
	r, err := s.ApplyLifecycle(t.Context(), bucket, rules, at.get())
	if err != nil || r != (store.LifecycleReport{Looked: 603, Expired: 599, Aborted: 1, Transitioned: 1}) {
		t.Errorf("ApplyLifecycle() = %+v, %v", r, err)
	}
	u, err := s.Usage(bucket)
	if err != nil || u.Objects != 4 || u.Uploads != 1 || u.InfrequentObjects != 1 || u.InfrequentBytes != 100_000 {
		t.Errorf("Usage() = %+v, %v", u, err)
	}
	if o, err := s.Head(t.Context(), bucket, "cold/a"); err != nil || o.StorageClass != store.InfrequentAccess {
		t.Errorf("Head(cold/a) = %+v, %v", o, err)
	}
	wantContent(t, s, "cold/a", noise(1, 100_000))
	_, err = s.Upload(t.Context(), bucket, "logs/upload", old)
	wantCode(t, "the old upload", err, store.CodeNoSuchUpload)
	at.add(3 * day)
	if err := s.Expire(t.Context()); err != nil {
		t.Error(err)
	}
	if u, err := s.Usage(bucket); err != nil || u.Uploads != 0 {
		t.Errorf("Usage() = %+v, %v after the last upload expired", u, err)
	}
}

func TestDrop(t *testing.T) {
	dir := t.TempDir()
	st, err := start(dir, small)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 300 {
		put(t, st.Store, fmt.Sprint("small", i), noise(1, 10))
	}
	put(t, st.Store, "large", noise(2, 200_000))
	id := begin(t, st.Store, "upload", store.UploadOptions{})
	putPart(t, st.Store, store.PartOf{Bucket: bucket, Key: "upload", Upload: id, Number: 1}, noise(3, 100_000), nil)
	kept := bucket
	kept.ID = "kept"
	if _, err := st.Copy(t.Context(), bucket, "large", store.Target{Bucket: kept, Key: "copy"}, store.CopyOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := st.DropEmpty(t.Context(), bucket); store.CodeOf(err) != 10008 {
		t.Errorf("DropEmpty of a bucket with objects: %v", err)
	}
	if err := st.Drop(t.Context(), bucket); err != nil {
		t.Fatal(err)
	}
	if u, err := st.Usage(bucket); err != nil || u != (store.Usage{}) {
		t.Errorf("Usage() of a dropped bucket = %+v, %v", u, err)
	}
	st.close() // as a crash does
	if st, err = start(dir, small); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(st.close)
	_, err = st.Put(t.Context(), bucket, "late", bytes.NewReader(noise(1, 100_000)), store.PutOptions{Size: -1})
	wantCode(t, "a put into a dropped bucket", err, store.CodeNoSuchBucket)
	if err := errors.Join(st.EmptyDropped(t.Context()), st.Collect(t.Context())); err != nil {
		t.Fatal(err)
	}
	if l, err := st.List(t.Context(), bucket, store.ListOptions{}); err != nil || len(l.Objects) != 0 {
		t.Errorf("List() of a dropped bucket = %d objects, %v", len(l.Objects), err)
	}
	if n := countFiles(t, st); n != 1 {
		t.Errorf("%d files are left, want that of the copy", n)
	}
	if got, err := get(st.Store, kept, "copy", store.GetOptions{}); err != nil || !bytes.Equal(got, noise(2, 200_000)) {
		t.Errorf("the copy in another bucket = %d bytes, %v", len(got), err)
	}
}

func TestExport(t *testing.T) {
	dir, out := t.TempDir(), filepath.Join(t.TempDir(), "export")
	s := open(t, dir)
	plain := map[string][]byte{"a": noise(1, 10), "b/c/d.txt": noise(2, 100_000), "ü/\U0001f600": noise(3, 0), "a.txt": nil}
	escaped := map[string][]byte{"a/b": noise(4, 20), "../../escape": noise(5, 30), "/etc/passwd": noise(6, 10), "x//y": noise(7, 3), "folder/": nil, "nul\x00": noise(8, 5), strings.Repeat("l", 300): noise(9, 6)}
	for k, v := range plain {
		put(t, s, k, v)
	}
	for k, v := range escaped {
		put(t, s, k, v)
	}
	if _, err := s.Put(t.Context(), bucket, "secret", bytes.NewReader([]byte("x")), store.PutOptions{Size: -1, SSECKey: make([]byte, 32)}); err != nil {
		t.Fatal(err)
	}
	total := int64(len(plain) + len(escaped))
	r, err := s.Export(t.Context(), bucket, out)
	if err != nil || r.Objects != total || r.Damaged != 1 || r.Skipped != 0 {
		t.Fatalf("Export() = %+v, %v; want %d objects and one that cannot be read", r, err, total)
	}
	check := func() {
		t.Helper()
		for k, v := range plain {
			if got, err := os.ReadFile(filepath.Join(out, "objects", k)); err != nil || !bytes.Equal(got, v) {
				t.Errorf("file of %q = %d bytes, %v", k, len(got), err)
			}
		}
		seen := 0
		raw, err := os.ReadFile(filepath.Join(out, "manifest.jsonl"))
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(raw)) {
			var l store.ExportLine
			if err := json.Unmarshal([]byte(line), &l); err != nil {
				t.Fatal(err)
			}
			seen++
			if want, ok := escaped[l.Key]; ok {
				if got, err := os.ReadFile(filepath.Join(out, l.Path)); err != nil || !bytes.Equal(got, want) || !strings.HasPrefix(l.Path, "escaped/") {
					t.Errorf("%q at %q = %d bytes, %v", l.Key, l.Path, len(got), err)
				}
			}
		}
		if want := len(plain) + len(escaped) + 1; seen != want {
			t.Errorf("the manifest has %d lines, want %d", seen, want)
		}
	}
	check()
	if r, err = s.Export(t.Context(), bucket, out); err != nil || r.Objects != 0 || r.Skipped != total {
		t.Errorf("Export() again = %+v, %v; want all skipped", r, err)
	}
	check()
	// Interrupted: some is new, and the context ends in the middle.
	plain["b/c/d.txt"] = noise(10, 70_000)
	put(t, s, "b/c/d.txt", plain["b/c/d.txt"])
	os.Remove(filepath.Join(out, "objects", "a"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Export(ctx, bucket, out); !errors.Is(err, context.Canceled) {
		t.Errorf("Export() with a context that ended: %v", err)
	}
	if r, err = s.Export(t.Context(), bucket, out); err != nil || r.Objects != 2 || r.Skipped != total-2 {
		t.Errorf("Export() after an interruption = %+v, %v; want 2 written", r, err)
	}
	check()
	if left, _ := filepath.Glob(filepath.Join(out, "export-*")); len(left) != 0 {
		t.Errorf("temporary files are left: %v", left)
	}
}

func TestManyParts(t *testing.T) {
	s := open(t, t.TempDir(), small)
	id := begin(t, s, "many", store.UploadOptions{Checksum: store.CRC64NVME})
	work := make(chan int)
	parts := make([]store.CompletedPart, manyParts)
	var wg sync.WaitGroup
	for range 64 { // their syncs are shared
		wg.Go(func() {
			for i := range work {
				p, err := s.PutPart(background, store.PartOf{Bucket: bucket, Key: "many", Upload: id, Number: i + 1}, strings.NewReader(fmt.Sprintf("%05d", i)), store.PartOptions{Size: 5})
				if err != nil {
					t.Error(err)
					continue
				}
				parts[i] = store.CompletedPart{Number: i + 1, ETag: p.ETag}
			}
		})
	}
	for i := range manyParts {
		work <- i
	}
	close(work)
	wg.Wait()
	o, err := s.Complete(t.Context(), bucket, "many", id, store.CompleteOptions{Parts: parts, Size: 5 * manyParts})
	if err != nil || !strings.HasSuffix(o.ETag, fmt.Sprintf("-%d", manyParts)) || len(o.Parts) != manyParts {
		t.Fatalf("Complete() = %v, %v", o, err)
	}
	r, err := s.Get(t.Context(), bucket, "many", store.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	if err := s.Delete(t.Context(), bucket, "many"); err != nil { // while it is being read
		t.Fatal(err)
	}
	if err := s.Collect(t.Context()); err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	if _, err := got.ReadFrom(r.Body); err != nil || got.Len() != 5*manyParts || !strings.HasSuffix(got.String(), fmt.Sprintf("%05d", manyParts-1)) {
		t.Errorf("reading all parts = %d bytes, %v", got.Len(), err)
	}
}
