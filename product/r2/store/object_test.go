package store_test

import (
	"bytes"
	"crypto/md5"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"selvage/product/r2/store"
)

func TestEncryption(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	key, wrong := noise(1, 32), noise(2, 32)
	sum := md5.Sum(key)
	for _, size := range []int{0, 1, 65_535, 65_536, 65_537, 131_072, 300_001} {
		content := bytes.Repeat([]byte("plaintext!"), size/10+1)[:size]
		name := fmt.Sprint("secret", size)
		o, err := s.Put(t.Context(), bucket, name, bytes.NewReader(content), store.PutOptions{Size: int64(size), SSECKey: key})
		if err != nil || o.SSECKeyMD5 != base64.StdEncoding.EncodeToString(sum[:]) || o.Size != int64(size) {
			t.Fatalf("Put(%q) = %+v, %v", name, o, err)
		}
		if got, err := get(s, bucket, name, store.GetOptions{SSECKey: key}); err != nil || !bytes.Equal(got, content) {
			t.Errorf("Get(%q) = %d bytes, %v", name, len(got), err)
		}
		for from := 0; from < size; from += max(1, size/17) {
			for _, n := range []int{1, 65_536, size} {
				r := &store.Range{Offset: int64(from), Length: int64(n)}
				if got, err := get(s, bucket, name, store.GetOptions{SSECKey: key, Range: r}); err != nil || !bytes.Equal(got, content[from:min(size, from+n)]) {
					t.Fatalf("Get(%q, %+v) = %d bytes, %v", name, r, len(got), err)
				}
			}
		}
		for _, k := range [][]byte{nil, wrong, key[:31]} {
			_, err := get(s, bucket, name, store.GetOptions{SSECKey: k})
			wantCode(t, "Get with another key", err, store.CodeSSEC)
		}
		copied, err := s.Copy(t.Context(), bucket, name, store.Target{Bucket: bucket, Key: name + "/open"}, store.CopyOptions{SourceSSECKey: key})
		if err != nil || copied.ETag != o.ETag || copied.SSECKeyMD5 != "" {
			t.Errorf("Copy(%q) without encryption = %+v, %v", name, copied, err)
		}
		wantContent(t, s, name+"/open", content)
		if _, err := s.Copy(t.Context(), bucket, name+"/open", store.Target{Bucket: bucket, Key: name}, store.CopyOptions{SSECKey: wrong}); err != nil {
			t.Error(err)
		}
		if got, err := get(s, bucket, name, store.GetOptions{SSECKey: wrong}); err != nil || !bytes.Equal(got, content) {
			t.Errorf("Get(%q) with its new key = %d bytes, %v", name, len(got), err)
		}
		if err := s.Delete(t.Context(), bucket, name+"/open"); err != nil {
			t.Error(err)
		}
	}
	put(t, s, "open", []byte("x"))
	_, err := get(s, bucket, "open", store.GetOptions{SSECKey: key})
	wantCode(t, "a key for what is not encrypted", err, store.CodeSSEC)
	if err := s.Collect(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, path := range files(t, dir) {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(b, []byte("plaintext!")) || bytes.Contains(b, key) || bytes.Contains(b, wrong) {
			t.Errorf("%s holds content or a key as it is", path)
		}
	}
}

func TestConditions(t *testing.T) {
	s := open(t, t.TempDir())
	o := put(t, s, "k", []byte("one"))
	before, after := o.Uploaded.Add(-time.Hour), o.Uploaded.Add(time.Hour)
	for _, c := range []struct {
		what string
		c    store.Condition
		want store.Failed
		none bool // whether it holds of no object
	}{
		{"nothing asked", store.Condition{}, store.Held, true},
		{"its ETag", store.Condition{ETagMatches: []string{"x", o.ETag}}, store.Held, false},
		{"any", store.Condition{ETagMatches: []string{"*"}}, store.Held, false},
		{"another ETag", store.Condition{ETagMatches: []string{"x"}}, store.Precondition, false},
		{"not its ETag", store.Condition{ETagDoesNotMatch: []string{o.ETag}}, store.NotModified, true},
		{"none", store.Condition{ETagDoesNotMatch: []string{"*"}}, store.NotModified, true},
		{"not another ETag", store.Condition{ETagDoesNotMatch: []string{"x"}}, store.Held, true},
		{"uploaded before", store.Condition{UploadedBefore: after}, store.Held, true},
		{"not uploaded before", store.Condition{UploadedBefore: before}, store.Precondition, true},
		{"uploaded after", store.Condition{UploadedAfter: before}, store.Held, false},
		{"not uploaded after", store.Condition{UploadedAfter: after}, store.NotModified, false},
		{"ETag goes before time", store.Condition{ETagMatches: []string{o.ETag}, UploadedBefore: before}, store.Held, false},
		{"whole seconds", store.Condition{UploadedAfter: o.Uploaded.Add(-time.Nanosecond), WholeSeconds: true}, store.NotModified, false},
	} {
		if c.what == "whole seconds" && o.Uploaded.Nanosecond() == 0 {
			continue
		}
		r, err := s.Get(t.Context(), bucket, "k", store.GetOptions{If: c.c})
		if err != nil || r.Failed != c.want || (r.Body == nil) != (c.want != store.Held) {
			t.Errorf("%s: Get() = %+v, %v; want %v", c.what, r, err, c.want)
		}
		_, err = s.Put(t.Context(), bucket, "none", bytes.NewReader(nil), store.PutOptions{If: c.c})
		if c.none && err != nil || !c.none && store.CodeOf(err) != store.CodePreconditionFailed {
			t.Errorf("%s: Put() of what is not there: %v, want success %v", c.what, err, c.none)
		}
		if err := s.Delete(t.Context(), bucket, "none"); err != nil {
			t.Error(err)
		}
	}
}

func TestMetadataIsKept(t *testing.T) {
	dir := t.TempDir()
	st, err := start(dir)
	if err != nil {
		t.Fatal(err)
	}
	content := noise(1, 70_000)
	sha := sha256.Sum256(content)
	o, err := st.Put(t.Context(), bucket, "k", bytes.NewReader(content), store.PutOptions{
		Size: -1, StorageClass: store.InfrequentAccess, Compute: []string{store.CRC32, store.CRC64NVME, store.SHA1, store.SHA384}, Expect: store.Checksums{SHA256: sha[:]},
		HTTP:   store.HTTPMetadata{ContentType: "a", ContentLanguage: "b", ContentDisposition: "c", ContentEncoding: "d", CacheControl: "e", CacheExpiry: time.UnixMilli(1_700_000_000_123).UTC()},
		Custom: map[string]string{"": "empty", "ключ": "\x00 value", "z": ""},
	})
	if err != nil {
		t.Fatal(err)
	}
	st.close()
	s := open(t, dir)
	again, err := s.Head(t.Context(), bucket, "k")
	if err != nil || !reflect.DeepEqual(o, again) {
		t.Errorf("Head() = %+v, %v\nwant %+v", again, err, o)
	}
	if o.Checksums.SHA512 != nil || o.Checksums.CRC32C != nil || len(o.Checksums.SHA384) != 48 || !bytes.Equal(o.Checksums.SHA256, sha[:]) {
		t.Errorf("Checksums = %+v", o.Checksums)
	}
	c, err := s.Copy(t.Context(), bucket, "k", store.Target{Bucket: bucket, Key: "c"}, store.CopyOptions{Replace: true, HTTP: store.HTTPMetadata{ContentType: "new"}, StorageClass: store.Standard})
	if err != nil || c.HTTP.ContentType != "new" || c.HTTP.CacheControl != "" || c.Custom != nil || c.StorageClass != store.Standard || c.ETag != o.ETag || !reflect.DeepEqual(c.Checksums, o.Checksums) {
		t.Errorf("Copy() = %+v, %v", c, err)
	}
	if c, err = s.Copy(t.Context(), bucket, "k", store.Target{Bucket: bucket, Key: "k"}, store.CopyOptions{Compute: []string{store.CRC32C}}); err != nil || len(c.Checksums.CRC32C) != 4 || !maps.Equal(c.Custom, o.Custom) {
		t.Errorf("Copy() onto itself with a new checksum = %+v, %v", c, err)
	}
	wantContent(t, s, "k", content)
	_, err = s.Put(t.Context(), bucket, "k", bytes.NewReader(nil), store.PutOptions{Custom: map[string]string{"k": strings.Repeat("x", store.MaxMetadata)}})
	wantCode(t, "too much metadata", err, store.CodeMetadataTooLarge)
	for _, key := range []string{"", strings.Repeat("k", 1025), "\xff"} {
		_, err = s.Put(t.Context(), bucket, key, bytes.NewReader(nil), store.PutOptions{})
		wantCode(t, "a bad key", err, store.CodeInvalidObjectName)
	}
}

func TestCopyConditions(t *testing.T) {
	s := open(t, t.TempDir())
	a := put(t, s, "a", noise(1, 100_000))
	to := store.Target{Bucket: bucket, Key: "b"}
	_, err := s.Copy(t.Context(), bucket, "none", to, store.CopyOptions{})
	wantCode(t, "copy of nothing", err, store.CodeNoSuchKey)
	_, err = s.Copy(t.Context(), bucket, "a", to, store.CopyOptions{IfSource: store.Condition{ETagDoesNotMatch: []string{a.ETag}}})
	wantCode(t, "condition of the source", err, store.CodePreconditionFailed)
	_, err = s.Copy(t.Context(), bucket, "a", to, store.CopyOptions{If: store.Condition{ETagMatches: []string{"*"}}})
	wantCode(t, "condition of the target", err, store.CodePreconditionFailed)
	id := begin(t, s, "m", store.UploadOptions{})
	p, err := s.CopyPart(t.Context(), store.PartOf{Bucket: bucket, Key: "m", Upload: id, Number: 1}, bucket, "a", store.CopyPartOptions{Range: &store.Range{Offset: 10, Length: 80_000}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Complete(t.Context(), bucket, "m", id, store.CompleteOptions{Parts: []store.CompletedPart{{Number: 1, ETag: `"` + p.ETag + `"`}}}); err != nil {
		t.Fatal(err)
	}
	wantContent(t, s, "m", noise(1, 100_000)[10:80_010])
}

func TestListUploadsAgainstModel(t *testing.T) {
	s := open(t, t.TempDir())
	r := rand.New(rand.NewPCG(5, 6))
	var all [][2]string // key and upload, in order
	for range 60 {
		key := strangeKey(r)
		all = append(all, [2]string{key, begin(t, s, key, store.UploadOptions{})})
	}
	slices.SortStableFunc(all, func(a, b [2]string) int { return strings.Compare(a[0], b[0]) })
	for range 200 {
		o := store.UploadListOptions{Limit: 1 + r.IntN(20)}
		if r.IntN(2) == 0 {
			o.Prefix = strange[r.IntN(len(strange))]
		}
		if r.IntN(2) == 0 {
			o.Delimiter = strange[r.IntN(len(strange))]
		}
		var want, got []string
		for _, u := range all {
			if !strings.HasPrefix(u[0], o.Prefix) {
				continue
			}
			name := u[0] + " " + u[1]
			if o.Delimiter != "" {
				if i := strings.Index(u[0][len(o.Prefix):], o.Delimiter); i >= 0 {
					name = u[0][:len(o.Prefix)+i+len(o.Delimiter)]
				}
			}
			if len(want) == 0 || want[len(want)-1] != name {
				want = append(want, name)
			}
		}
		for range 100 {
			l, err := s.ListUploads(t.Context(), bucket, o)
			if err != nil {
				t.Fatal(err)
			}
			var page []string
			for _, u := range l.Uploads {
				page = append(page, u.Key+" "+u.ID)
			}
			got = append(got, append(page, l.Prefixes...)...)
			if !l.Truncated {
				break
			}
			o.AfterKey, o.AfterUpload = l.NextKey, l.NextUpload
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Fatalf("ListUploads(%+v) = %q, want %q", o, got, want)
		}
	}
}

func FuzzRange(f *testing.F) {
	f.Add(int64(0), int64(-1), int64(0), int64(10))
	f.Add(int64(5), int64(1<<62), int64(0), int64(10))
	f.Add(int64(0), int64(0), int64(1<<63-1), int64(0))
	f.Fuzz(func(t *testing.T, offset, length, suffix, size int64) {
		if size < 0 {
			return
		}
		r, err := (&store.Range{Offset: offset, Length: length, Suffix: suffix}).Resolve(size)
		if err != nil {
			if store.CodeOf(err) != store.CodeInvalidRange {
				t.Errorf("error %v", err)
			}
			return
		}
		if r.Offset < 0 || r.Length < 1 || r.Suffix != 0 || r.Length > size || r.Offset > size-r.Length {
			t.Errorf("Resolve(%d+%d, suffix %d, size %d) = %+v", offset, length, suffix, size, r)
		}
	})
}
