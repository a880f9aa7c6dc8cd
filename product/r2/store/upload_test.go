package store_test

import (
	"bytes"
	"crypto/md5"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"hash/crc64"
	"testing"

	"selvage/product/r2/store"
)

// small lets parts be tiny.
func small(o *store.Options) { o.MinPart = 1 }

func begin(t testing.TB, s *store.Store, key string, o store.UploadOptions) string {
	t.Helper()
	u, err := s.CreateUpload(t.Context(), bucket, key, o)
	if err != nil {
		t.Fatalf("CreateUpload(%q): %v", key, err)
	}
	return u.ID
}

func putPart(t testing.TB, s *store.Store, p store.PartOf, content []byte, key []byte) store.CompletedPart {
	t.Helper()
	part, err := s.PutPart(t.Context(), p, bytes.NewReader(content), store.PartOptions{Size: int64(len(content)), SSECKey: key})
	if err != nil {
		t.Fatalf("PutPart(%+v): %v", p, err)
	}
	return store.CompletedPart{Number: p.Number, ETag: part.ETag}
}

func TestMultipart(t *testing.T) {
	s := open(t, t.TempDir(), small)
	for _, sizes := range [][]int{{}, {10}, {10, 3}, {100_000, 100_000, 7}, {70_000, 70_000, 70_000, 70_000}, {5, 5, 5}} {
		for _, ssec := range [][]byte{nil, bytes.Repeat([]byte{7}, 32)} {
			key := fmt.Sprint("multi/", sizes, ssec != nil)
			id := begin(t, s, key, store.UploadOptions{SSECKey: ssec, HTTP: store.HTTPMetadata{ContentType: "text/x"}})
			var whole []byte
			var parts []store.CompletedPart
			tags := md5.New()
			for i, n := range sizes {
				content := noise(uint64(i), n)
				sum := md5.Sum(content)
				tags.Write(sum[:])
				whole = append(whole, content...)
				parts = append(parts, putPart(t, s, store.PartOf{Bucket: bucket, Key: key, Upload: id, Number: 3*i + 1}, content, ssec))
			}
			o, err := s.Complete(t.Context(), bucket, key, id, store.CompleteOptions{Parts: parts})
			if err != nil {
				t.Fatalf("Complete(%v): %v", sizes, err)
			}
			if want := fmt.Sprintf("%x-%d", tags.Sum(nil), len(sizes)); o.ETag != want || o.Size != int64(len(whole)) || o.HTTP.ContentType != "text/x" {
				t.Errorf("Complete(%v) = %+v, want ETag %s", sizes, o, want)
			}
			got, err := get(s, bucket, key, store.GetOptions{SSECKey: ssec})
			if err != nil || !bytes.Equal(got, whole) {
				t.Errorf("Get(%q) = %d bytes, %v; want %d", key, len(got), err, len(whole))
			}
			for from := 0; from < len(whole); from += max(1, len(whole)/13) {
				for _, n := range []int{1, 9, len(whole) - from} {
					r := &store.Range{Offset: int64(from), Length: int64(n)}
					want := whole[from:min(from+n, len(whole))]
					if got, err := get(s, bucket, key, store.GetOptions{SSECKey: ssec, Range: r}); err != nil || !bytes.Equal(got, want) {
						t.Fatalf("Get(%q, %+v) = %d bytes, %v; want %d", key, r, len(got), err, len(want))
					}
				}
			}
			_, err = s.Complete(t.Context(), bucket, key, id, store.CompleteOptions{Parts: parts})
			wantCode(t, "completing twice", err, store.CodeNoSuchUpload)
			if err := s.Abort(t.Context(), bucket, key, id); err != nil {
				t.Errorf("Abort of a completed upload: %v", err)
			}
		}
	}
	if u, err := s.Usage(bucket); err != nil || u.Uploads != 0 || u.UploadBytes != 0 || u.Objects != 12 {
		t.Errorf("Usage() = %+v, %v", u, err)
	}
}

func TestMultipartRefusals(t *testing.T) {
	s := open(t, t.TempDir(), func(o *store.Options) { o.MinPart = 10 })
	id := begin(t, s, "k", store.UploadOptions{})
	at := func(n int) store.PartOf { return store.PartOf{Bucket: bucket, Key: "k", Upload: id, Number: n} }
	one, two, three := putPart(t, s, at(1), noise(1, 10), nil), putPart(t, s, at(2), noise(2, 5), nil), putPart(t, s, at(3), noise(3, 12), nil)
	wrong := one
	wrong.ETag = two.ETag
	for _, c := range []struct {
		what  string
		parts []store.CompletedPart
		code  int
	}{
		{"too small", []store.CompletedPart{two, three}, store.CodeEntityTooSmall},
		{"last is longer", []store.CompletedPart{one, three}, store.CodeBadUpload},
		{"another ETag", []store.CompletedPart{wrong}, store.CodeInvalidPart},
		{"no such part", []store.CompletedPart{{Number: 9, ETag: one.ETag}}, store.CodeInvalidPart},
		{"order", []store.CompletedPart{two, one}, store.CodeInvalidPartOrder},
		{"twice", []store.CompletedPart{one, one}, store.CodeInvalidPartOrder},
	} {
		_, err := s.Complete(t.Context(), bucket, "k", id, store.CompleteOptions{Parts: c.parts})
		wantCode(t, c.what, err, c.code)
	}
	_, err := s.PutPart(t.Context(), at(0), bytes.NewReader(nil), store.PartOptions{})
	wantCode(t, "part 0", err, store.CodeInvalidArgument)
	_, err = s.PutPart(t.Context(), at(10_001), bytes.NewReader(nil), store.PartOptions{})
	wantCode(t, "part 10001", err, store.CodeInvalidArgument)
	_, err = s.Complete(t.Context(), bucket, "other", id, store.CompleteOptions{})
	wantCode(t, "another key", err, store.CodeNoSuchUpload)
	wantCode(t, "aborting what never was", s.Abort(t.Context(), bucket, "other", id), store.CodeNoSuchUpload)
	l, err := s.ListParts(t.Context(), store.PartOf{Bucket: bucket, Key: "k", Upload: id, Number: 1}, 1)
	if err != nil || len(l.Parts) != 1 || l.Parts[0].Number != 2 || !l.Truncated || l.Next != 2 {
		t.Errorf("ListParts() = %+v, %v", l, err)
	}
	if err := s.Abort(t.Context(), bucket, "k", id); err != nil {
		t.Error(err)
	}
	if err := s.Abort(t.Context(), bucket, "k", id); err != nil {
		t.Errorf("aborting twice: %v", err)
	}
	_, err = s.PutPart(t.Context(), at(1), bytes.NewReader(nil), store.PartOptions{})
	wantCode(t, "part of an aborted upload", err, store.CodeNoSuchUpload)
	if u, err := s.Usage(bucket); err != nil || u != (store.Usage{}) {
		t.Errorf("Usage() = %+v, %v; want nothing", u, err)
	}
}

func TestChecksumsOfTheWhole(t *testing.T) {
	s := open(t, t.TempDir(), small)
	parts := [][]byte{noise(1, 90_000), noise(2, 90_000), noise(3, 77)}
	whole := bytes.Join(parts, nil)
	sum32 := func(t *crc32.Table, b []byte) []byte { return binary.BigEndian.AppendUint32(nil, crc32.Checksum(b, t)) }
	sum := func(kind string, b []byte) []byte {
		switch kind {
		case store.CRC32:
			return sum32(crc32.IEEETable, b)
		case store.CRC32C:
			return sum32(crc32.MakeTable(crc32.Castagnoli), b)
		case store.CRC64NVME:
			return binary.BigEndian.AppendUint64(nil, crc64.Checksum(b, crc64.MakeTable(0x9a6c9329ac4bc9b5)))
		}
		h := sha256.Sum256(b)
		return h[:]
	}
	for _, c := range []struct {
		kind      string
		composite bool
	}{{store.CRC32, false}, {store.CRC32C, false}, {store.CRC64NVME, false}, {store.CRC32, true}, {store.SHA256, true}} {
		want := sum(c.kind, whole)
		if c.composite {
			var sums []byte
			for _, p := range parts {
				sums = append(sums, sum(c.kind, p)...)
			}
			want = sum(c.kind, sums)
		}
		key := fmt.Sprint(c.kind, c.composite)
		id := begin(t, s, key, store.UploadOptions{Checksum: c.kind, Composite: c.composite})
		var done []store.CompletedPart
		for i, p := range parts {
			done = append(done, putPart(t, s, store.PartOf{Bucket: bucket, Key: key, Upload: id, Number: i + 1}, p, nil))
		}
		o, err := s.Complete(t.Context(), bucket, key, id, store.CompleteOptions{Parts: done})
		if err != nil || !bytes.Equal(o.Checksums.Of(c.kind), want) || o.Checksums.Composite != c.composite {
			t.Errorf("%+v: Complete() = %x, %v; want %x", c, o.Checksums.Of(c.kind), err, want)
		}
	}
	if got := crc64.Checksum([]byte("123456789"), crc64.MakeTable(0x9a6c9329ac4bc9b5)); got != 0xae8b14860a799888 {
		t.Errorf("CRC-64/NVME of the check string = %x, want ae8b14860a799888", got)
	}
}
