package store_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"selvage/engine/state/powercut"
	"selvage/foundation/fault"
	"selvage/product/r2/store"
)

// durability is a plan in which four clients put small, large and multipart objects, overwrite, copy and
// delete, and name what was acknowledged.
func durability(rounds int) powercut.Plan {
	return powercut.Plan{
		Rounds: rounds,
		Writer: func(dir string, round int, ack func(string)) error {
			s, err := start(dir, small)
			if err != nil {
				return err
			}
			var wg sync.WaitGroup
			errs := make([]error, 4)
			for w := range errs {
				wg.Go(func() { errs[w] = writer(s.Store, round, w, ack) })
			}
			wg.Wait()
			return errors.Join(errs...)
		},
		Verify: func(dir string, acked []string) error {
			s, err := start(dir, small)
			if err != nil {
				return err
			}
			defer s.close()
			return verifyAcked(s, acked)
		},
	}
}

// contentOf depends on nothing but the key.
func contentOf(key string, n int) []byte {
	return bytes.Repeat([]byte(key+"|"), n/(len(key)+1)+1)[:n]
}

var writerSizes = []int{100, 65_537, 200_000, 0}

// writer acknowledges "KEY SIZE" of a put, and "KEY -" of a deletion. Each key has one writer.
func writer(s *store.Store, round, w int, ack func(string)) error {
	for i := 0; ; i++ {
		key := fmt.Sprintf("%d/%d/%d", round, w, i)
		n := writerSizes[i%len(writerSizes)]
		if _, err := s.Put(background, bucket, key, bytes.NewReader(contentOf(key, n)), store.PutOptions{Size: int64(n)}); err != nil {
			return err
		}
		ack(fmt.Sprintf("%s %d", key, n))
		multi := key + "/m"
		u, err := s.CreateUpload(background, bucket, multi, store.UploadOptions{})
		if err != nil {
			return err
		}
		whole, parts := contentOf(multi, 150_000), []store.CompletedPart(nil)
		for p := range 2 {
			part, err := s.PutPart(background, store.PartOf{Bucket: bucket, Key: multi, Upload: u.ID, Number: p + 1}, bytes.NewReader(whole[p*75_000:(p+1)*75_000]), store.PartOptions{Size: 75_000})
			if err != nil {
				return err
			}
			parts = append(parts, store.CompletedPart{Number: p + 1, ETag: part.ETag})
		}
		if _, err := s.Complete(background, bucket, multi, u.ID, store.CompleteOptions{Parts: parts}); err != nil {
			return err
		}
		ack(multi + " 150000")
		if i%3 == 2 {
			gone := fmt.Sprintf("%d/%d/%d", round, w, i-2)
			if err := s.Delete(background, bucket, gone); err != nil {
				return err
			}
			ack(gone + " -")
			if err := s.Collect(background); err != nil {
				return err
			}
		}
	}
}

func verifyAcked(s *started, acked []string) error {
	last := map[string]string{}
	for _, name := range acked {
		key, what, _ := strings.Cut(name, " ")
		last[key] = what
	}
	var total store.Usage
	err := s.Walk(background, bucket, "", func(o *store.Object) error {
		total.Objects++
		total.Bytes += o.Size
		got, err := get(s.Store, bucket, o.Key, store.GetOptions{})
		if err != nil || !bytes.Equal(got, contentOf(o.Key, int(o.Size))) {
			return fmt.Errorf("%s has %d bytes that are not what was put: %w", o.Key, len(got), err)
		}
		// What was deleted last may be gone without an acknowledgement; but not be there with one.
		if last[o.Key] == "-" {
			return fmt.Errorf("%s is there after its deletion", o.Key)
		}
		if want, ok := last[o.Key]; ok && want != fmt.Sprint(o.Size) {
			return fmt.Errorf("%s has %d bytes, want %s", o.Key, o.Size, want)
		}
		delete(last, o.Key)
		return nil
	})
	if err != nil {
		return err
	}
	for key, what := range last {
		// Every third put is deleted two rounds later; that may be done and not acknowledged.
		var round, w, i int
		n, _ := fmt.Sscanf(key, "%d/%d/%d", &round, &w, &i)
		if what != "-" && (n != 3 || i%3 != 0 || strings.HasSuffix(key, "/m")) {
			return fmt.Errorf("%s was acknowledged with %s bytes and is lost", key, what)
		}
	}
	u, err := s.Usage(bucket)
	if err != nil || u.Objects != total.Objects || u.Bytes != total.Bytes {
		return fmt.Errorf("the bucket uses %+v (%v), it holds %d objects with %d bytes", u, err, total.Objects, total.Bytes)
	}
	return noOrphans(s)
}

// noOrphans sweeps, and then finds exactly the files that objects and uploads consist of.
func noOrphans(s *started) error {
	if err := errors.Join(s.Collect(background), s.Sweep(background, 0)); err != nil {
		return err
	}
	if r, err := s.Scrub(background, -1); err != nil || r.Damaged > 0 {
		return fmt.Errorf("scrub: %+v, %w", r, err)
	}
	want := 0
	err := s.Walk(background, bucket, "", func(o *store.Object) error {
		if o.Parts != nil {
			want += len(o.Parts)
		} else if o.Size > 64<<10 {
			want++
		}
		return nil
	})
	if err != nil {
		return err
	}
	l, err := s.ListUploads(background, bucket, store.UploadListOptions{})
	if err != nil {
		return err
	}
	for _, u := range l.Uploads {
		parts, err := s.ListParts(background, store.PartOf{Bucket: bucket, Key: u.Key, Upload: u.ID}, 0)
		if err != nil {
			return err
		}
		want += len(parts.Parts)
	}
	got := 0
	err = s.volume.List(background, func(volumeEntry) error { got++; return nil })
	if err == nil && got != want {
		err = fmt.Errorf("there are %d files, objects and uploads consist of %d", got, want)
	}
	return err
}

func TestKill(t *testing.T) { powercut.Kill(t, durability(3)) }

func TestPowerCut(t *testing.T) { powercut.Cut(t, durability(2)) }

func TestFullDisk(t *testing.T) {
	err := powercut.OnSmallDisk(t, 64, func(t *testing.T, dir string) {
		s, err := start(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer s.close()
		first := put(t, s.Store, "first", noise(1, 5<<20))
		small := put(t, s.Store, "small", noise(2, 1000))
		n := 0
		for ; err == nil && n < 100; n++ {
			_, err = s.Put(t.Context(), bucket, fmt.Sprint("fill", n), bytes.NewReader(noise(3, 4<<20)), store.PutOptions{Size: -1})
		}
		if fault.KindOf(err) != fault.Unavailable {
			t.Fatalf("filling the disk: %v after %d, want fault.Unavailable", err, n)
		}
		wantContent(t, s.Store, "first", noise(1, int(first.Size)))
		wantContent(t, s.Store, "small", noise(2, int(small.Size)))
		if files := countFiles(t, s); files != n {
			t.Errorf("%d files, want the %d that were acknowledged: what failed leaves nothing", files, n)
		}
		if err := s.Delete(t.Context(), bucket, "fill0", "fill1"); err != nil {
			t.Fatalf("deleting on a full disk: %v", err)
		}
		if err := s.Collect(t.Context()); err != nil {
			t.Fatal(err)
		}
		put(t, s.Store, "again", noise(4, 4<<20))
		wantContent(t, s.Store, "again", noise(4, 4<<20))
	})
	if err != nil {
		t.Logf("there is no small disk here: %v", err)
	}
}

// files returns the paths of the volume's files.
func files(t *testing.T, dir string) (all []string) {
	t.Helper()
	if err := filepath.WalkDir(filepath.Join(dir, "volume"), func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			all = append(all, path)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return all
}

func TestDamageIsFoundAndReported(t *testing.T) {
	for _, c := range []struct {
		what  string
		spoil func(path string) error
	}{
		{"a flipped bit", func(path string) error {
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			b[150_000] ^= 4
			return os.WriteFile(path, b, 0o600)
		}},
		{"a truncated file", func(path string) error { return os.Truncate(path, 100_000) }},
		{"a file that is gone", os.Remove},
	} {
		t.Run(c.what, func(t *testing.T) {
			dir := t.TempDir()
			st, err := start(dir)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { st.close() })
			put(t, st.Store, "broken", noise(1, 200_000))
			path := files(t, dir)[0]
			put(t, st.Store, "whole", noise(2, 200_000))
			put(t, st.Store, "small", noise(3, 200))
			if err := c.spoil(path); err != nil {
				t.Fatal(err)
			}
			r, err := st.Scrub(t.Context(), -1)
			if err != nil || r.Damaged != 1 || r.Contents != 3 {
				t.Errorf("Scrub() = %+v, %v; want 1 damaged of 3", r, err)
			}
			if last := st.LastScrub(); last != r || last.Ended.IsZero() {
				t.Errorf("LastScrub() = %+v, want %+v", last, r)
			}
			_, err = get(st.Store, bucket, "broken", store.GetOptions{})
			wantCode(t, "reading it", err, store.CodeInternal)
			wantContent(t, st.Store, "whole", noise(2, 200_000))
			wantContent(t, st.Store, "small", noise(3, 200))
			list, err := st.Damages(bucket.Account)
			if err != nil || len(list) != 1 || list[0].Key != "broken" || list[0].Bucket != bucket {
				t.Errorf("Damages() = %+v, %v", list, err)
			}
			if list, err := st.Damages("another"); err != nil || len(list) != 0 {
				t.Errorf("Damages() of another account = %+v, %v", list, err)
			}
			put(t, st.Store, "broken", noise(4, 200_000))
			wantContent(t, st.Store, "broken", noise(4, 200_000))
			if list, err := st.Damages(""); err != nil || len(list) != 0 {
				t.Errorf("Damages() after it was put again = %+v, %v", list, err)
			}
			if err := st.Collect(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestDamageIsReportedByReaders(t *testing.T) {
	dir := t.TempDir()
	st, err := start(dir)
	if err != nil {
		t.Fatal(err)
	}
	put(t, st.Store, "broken", noise(1, 200_000))
	st.close()
	b, err := os.ReadFile(files(t, dir)[0])
	if err != nil {
		t.Fatal(err)
	}
	b[190_000] ^= 1
	if err := os.WriteFile(files(t, dir)[0], b, 0o600); err != nil {
		t.Fatal(err)
	}
	s := open(t, dir)
	if got, err := get(s, bucket, "broken", store.GetOptions{Range: &store.Range{Length: 100}}); err != nil || !bytes.Equal(got, noise(1, 200_000)[:100]) {
		t.Errorf("reading what is whole of it = %d bytes, %v", len(got), err)
	}
	got, err := get(s, bucket, "broken", store.GetOptions{})
	wantCode(t, "reading all of it", err, store.CodeInternal)
	if !bytes.HasPrefix(noise(1, 200_000), got) {
		t.Error("bytes were read that were not put")
	}
	if list, err := s.Damages(""); err != nil || len(list) != 1 {
		t.Errorf("Damages() = %+v, %v", list, err)
	}
}

func TestPutsThatBreakOffLeaveNothing(t *testing.T) {
	st, err := start(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(st.close)
	gone := errors.New("client is gone")
	for _, n := range []int{10, 64 << 10, 300_000} {
		for _, size := range []int64{-1, int64(n + 1)} {
			body := io.MultiReader(bytes.NewReader(noise(1, n)), iotest.ErrReader(gone))
			if _, err := st.Put(t.Context(), bucket, "k", body, store.PutOptions{Size: size}); !errors.Is(err, gone) {
				t.Errorf("Put of %d bytes that breaks off: %v, want %v", n, err, gone)
			}
		}
		for _, size := range []int64{int64(n - 1), int64(n + 1)} {
			_, err := st.Put(t.Context(), bucket, "k", bytes.NewReader(noise(1, n)), store.PutOptions{Size: size})
			wantCode(t, "a body of another length", err, store.CodeIncompleteBody)
		}
		_, err := st.Put(t.Context(), bucket, "k", bytes.NewReader(noise(1, n)), store.PutOptions{Size: -1, Expect: store.Checksums{SHA256: make([]byte, 32)}})
		wantCode(t, "another checksum", err, store.CodeBadDigest)
		trailer := func() (store.Checksums, error) { return store.Checksums{CRC32: make([]byte, 4)}, nil }
		_, err = st.Put(t.Context(), bucket, "k", bytes.NewReader(noise(1, n)), store.PutOptions{Size: -1, Compute: []string{store.CRC32}, Trailer: trailer})
		wantCode(t, "another checksum in the trailer", err, store.CodeBadDigest)
	}
	if n := countFiles(t, st); n != 0 {
		t.Errorf("%d files are left", n)
	}
	if u, err := st.Usage(bucket); err != nil || u != (store.Usage{}) {
		t.Errorf("Usage() = %+v, %v", u, err)
	}
}
