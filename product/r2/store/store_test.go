package store_test

import (
	"bytes"
	"context"
	"crypto/md5"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"selvage/engine/state"
	"selvage/engine/volume"
	"selvage/product/r2/store"
)

var bucket = store.Bucket{Account: "0123456789abcdef0123456789abcdef", ID: "fedcba9876543210fedcba9876543210"}

// open returns a store below dir, with changed options.
func open(t testing.TB, dir string, edit ...func(*store.Options)) *store.Store {
	t.Helper()
	s, err := start(dir, edit...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.close)
	return s.Store
}

// started is a store with what it stands on.
type started struct {
	*store.Store
	db     *state.Shared
	volume volume.Volume
}

func (s *started) close() { s.db.Close("The test is over.") }

func start(dir string, edit ...func(*store.Options)) (*started, error) {
	db := state.NewShared(filepath.Join(dir, "data"), state.Options{Name: "data", BallastBytes: 1 << 20})
	if err := db.Open(); err != nil {
		return nil, err
	}
	place := filepath.Join(dir, "volume")
	if service := os.Getenv("SELVAGE_TEST_VOLUME"); service != "" { // clients/volume_test.go
		bucket, query, _ := strings.Cut(service, "?")
		place = bucket + "/" + fmt.Sprintf("%x", md5.Sum([]byte(dir))) + "?" + query
	}
	v, err := volume.Open(context.Background(), place, volume.OpenOptions{})
	if err != nil {
		return nil, err
	}
	o := store.Options{DB: db, Prefix: "r/", Volume: v}
	for _, e := range edit {
		e(&o)
	}
	return &started{store.New(o), db, v}, nil
}

// noise returns n bytes that depend on seed.
func noise(seed uint64, n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16)})
	r.Read(b)
	return b
}

func put(t testing.TB, s *store.Store, key string, content []byte) *store.Object {
	t.Helper()
	o, err := s.Put(t.Context(), bucket, key, bytes.NewReader(content), store.PutOptions{Size: int64(len(content))})
	if err != nil {
		t.Fatalf("Put(%q): %v", key, err)
	}
	return o
}

func get(s *store.Store, b store.Bucket, key string, o store.GetOptions) ([]byte, error) {
	r, err := s.Get(context.Background(), b, key, o)
	if err != nil {
		return nil, err
	}
	if r.Body == nil {
		return nil, fmt.Errorf("the condition did not hold: %v", r.Failed)
	}
	content, err := io.ReadAll(r.Body)
	return content, errors.Join(err, r.Body.Close())
}

func wantContent(t testing.TB, s *store.Store, key string, want []byte) {
	t.Helper()
	got, err := get(s, bucket, key, store.GetOptions{})
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("Get(%q) = %d bytes, %v; want %d bytes as they were put", key, len(got), err, len(want))
	}
}

func wantCode(t testing.TB, what string, err error, code int) {
	t.Helper()
	if store.CodeOf(err) != code {
		t.Errorf("%s: error %v with code %d, want code %d", what, err, store.CodeOf(err), code)
	}
}

func TestPutAndGet(t *testing.T) {
	s := open(t, t.TempDir())
	for _, size := range []int{0, 1, 100, 64<<10 - 1, 64 << 10, 64<<10 + 1, 256 << 10, 1 << 20, 3<<20 + 17} {
		content := noise(uint64(size), size)
		key := fmt.Sprint("size/", size)
		o := put(t, s, key, content)
		if want := fmt.Sprintf("%x", md5.Sum(content)); o.ETag != want || o.Size != int64(size) {
			t.Errorf("Put(%q) = ETag %s, size %d; want %s, %d", key, o.ETag, o.Size, want, size)
		}
		wantContent(t, s, key, content)
		for _, r := range []store.Range{{Offset: 0, Length: 1}, {Offset: int64(size / 2), Length: -1}, {Suffix: 3}, {Offset: int64(size / 3), Length: 70_000}} {
			full, err := r.Resolve(int64(size))
			if err != nil {
				continue
			}
			got, err := get(s, bucket, key, store.GetOptions{Range: &r})
			if want := content[full.Offset : full.Offset+full.Length]; err != nil || !bytes.Equal(got, want) {
				t.Errorf("Get(%q, %+v) = %d bytes, %v; want %d", key, r, len(got), err, len(want))
			}
		}
		unknown, err := s.Put(t.Context(), bucket, key, bytes.NewReader(content), store.PutOptions{Size: -1})
		if err != nil || unknown.ETag != o.ETag {
			t.Errorf("Put(%q) of unknown size = %v, %v", key, unknown, err)
		}
		wantContent(t, s, key, content)
	}
	u, err := s.Usage(bucket)
	if err != nil || u.Objects != 9 {
		t.Errorf("Usage() = %+v, %v; want 9 objects", u, err)
	}
	if err := s.Delete(t.Context(), bucket, "size/0", "size/1", "size/1048576", "none"); err != nil {
		t.Error(err)
	}
	_, err = s.Head(t.Context(), bucket, "size/1")
	wantCode(t, "Head of a deleted object", err, store.CodeNoSuchKey)
	l, err := s.List(t.Context(), bucket, store.ListOptions{Prefix: "size/", Limit: 5})
	if err != nil || len(l.Objects) != 5 || !l.Truncated {
		t.Errorf("List() = %+v, %v; want 5 of 6 objects", l, err)
	}
}

type volumeEntry = volume.Entry

var background = context.Background()
