package blob_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/iotest"
	"time"

	"selvage/engine/blob"
	"selvage/engine/state/powercut"
	"selvage/foundation/fault"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv("BLOB_TEST_WRITE_FOREVER"); dir != "" {
		writeForever(dir)
	}
	os.Exit(m.Run())
}

func open(t *testing.T, dir string) *blob.Store {
	t.Helper()
	s, err := blob.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func digestOf(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}

// temporaries lists the files that are being written.
func temporaries(t *testing.T, dir string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "new", "*"))
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func TestPutAndRead(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	for _, content := range [][]byte{nil, []byte("a"), bytes.Repeat([]byte("selvage "), 100_000)} {
		digest, size, err := s.Put(t.Context(), iotest.HalfReader(bytes.NewReader(content)), 0)
		if err != nil || digest != digestOf(content) || size != int64(len(content)) {
			t.Fatalf("Put = %s, %d, %v; want %s, %d", digest, size, err, digestOf(content), len(content))
		}
		if again, err := s.PutBytes(t.Context(), content); again != digest || err != nil {
			t.Errorf("PutBytes = %s, %v", again, err)
		}
		got, err := open(t, dir).Read(digest, int64(len(content)))
		if err != nil || !bytes.Equal(got, content) {
			t.Errorf("Read after opening again = %d bytes, %v; want %d", len(got), err, len(content))
		}
		if !s.Has(digest) || s.Verify(t.Context(), digest) != nil {
			t.Errorf("Has = %v, Verify = %v", s.Has(digest), s.Verify(t.Context(), digest))
		}
	}
	if left := temporaries(t, dir); len(left) > 0 {
		t.Errorf("left over: %v", left)
	}
}

func TestLimits(t *testing.T) {
	s := open(t, t.TempDir())
	if _, _, err := s.Put(t.Context(), strings.NewReader("12345"), 5); err != nil {
		t.Errorf("Put of as much as the limit = %v", err)
	}
	_, _, err := s.Put(t.Context(), strings.NewReader("123456"), 5)
	if fault.KindOf(err) != fault.TooMuch || !strings.Contains(err.Error(), "more than 5 bytes") {
		t.Errorf("Put of more than the limit = %v", err)
	}
	if s.Has(digestOf([]byte("123456"))) {
		t.Error("refused content was kept")
	}
	if _, err := s.Read(digestOf([]byte("12345")), 4); fault.KindOf(err) != fault.TooMuch {
		t.Errorf("Read over the limit = %v", err)
	}
	if left := temporaries(t, s.Dir()); len(left) > 0 {
		t.Errorf("left over: %v", left)
	}
}

func TestFailedReaderLeavesNothing(t *testing.T) {
	s := open(t, t.TempDir())
	broken := io.MultiReader(strings.NewReader("half"), iotest.ErrReader(errors.New("gone")))
	if _, _, err := s.Put(t.Context(), broken, 0); err == nil || !strings.Contains(err.Error(), "gone") {
		t.Errorf("Put = %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := s.Put(ctx, strings.NewReader("late"), 0); !errors.Is(err, context.Canceled) {
		t.Errorf("Put after the context ended = %v", err)
	}
	if left := temporaries(t, s.Dir()); len(left) > 0 || s.Has(digestOf([]byte("half"))) {
		t.Errorf("left over: %v", left)
	}
}

func TestDigestsThatAreNone(t *testing.T) {
	s := open(t, t.TempDir())
	for _, digest := range []string{"", "../../etc/passwd", strings.Repeat("A", 64), strings.Repeat("/", 64), strings.Repeat("a", 63), strings.Repeat("a", 64)} {
		if _, err := s.Open(digest); fault.KindOf(err) != fault.NotFound {
			t.Errorf("Open(%q) = %v", digest, err)
		}
		if _, err := s.Read(digest, 0); fault.KindOf(err) != fault.NotFound {
			t.Errorf("Read(%q) = %v", digest, err)
		}
		if s.Has(digest) || s.Delete(digest) != nil {
			t.Errorf("Has(%q) = %v, Delete = %v", digest, s.Has(digest), s.Delete(digest))
		}
	}
}

func TestDeleteAndWalk(t *testing.T) {
	s := open(t, t.TempDir())
	var want []string
	for i := range 50 {
		digest, err := s.PutBytes(t.Context(), fmt.Append(nil, i))
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, digest)
	}
	held, err := s.Open(want[0])
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	if err := s.Delete(want[0]); err != nil || s.Has(want[0]) {
		t.Errorf("Delete = %v, Has = %v", err, s.Has(want[0]))
	}
	if content, err := io.ReadAll(held); string(content) != "0" || err != nil {
		t.Errorf("a file that was open reads %q, %v", content, err)
	}
	want = want[1:]
	slices.Sort(want)
	var got []string
	err = s.Walk(func(digest string, size int64, modTime time.Time) error {
		if size < 1 || size > 2 || time.Since(modTime) > time.Hour {
			t.Errorf("Walk: %s has %d bytes, time %v", digest, size, modTime)
		}
		got = append(got, digest)
		return nil
	})
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("Walk = %d, %v; want %d in order", len(got), err, len(want))
	}
	stop := errors.New("stop")
	if err := s.Walk(func(string, int64, time.Time) error { return stop }); err != stop {
		t.Errorf("Walk = %v, want the function's error", err)
	}
}

func TestPuttingAgainKeepsFromCollection(t *testing.T) {
	s := open(t, t.TempDir())
	digest, err := s.PutBytes(t.Context(), []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(s.Dir(), digest[:2], digest)
	old := time.Now().Add(-time.Hour)
	before := time.Now().Add(-time.Minute)
	for _, put := range []func() error{
		func() error { _, err := s.PutBytes(t.Context(), []byte("x")); return err },
		func() error { _, _, err := s.Put(t.Context(), strings.NewReader("x"), 0); return err },
		func() error { _, err := s.Touch(digest); return err },
	} {
		if err := os.Chtimes(path, old, old); err != nil {
			t.Fatal(err)
		}
		if err := put(); err != nil {
			t.Fatal(err)
		}
		if removed, err := s.DeleteOlder(digest, before); removed || err != nil {
			t.Errorf("DeleteOlder of what was just put again = %v, %v", removed, err)
		}
	}
	if err := os.Chtimes(path, old, old); err != nil {
		t.Fatal(err)
	}
	if removed, err := s.DeleteOlder(digest, before); !removed || err != nil {
		t.Errorf("DeleteOlder of old content = %v, %v", removed, err)
	}
	if removed, err := s.DeleteOlder(digest, before); removed || err != nil {
		t.Errorf("DeleteOlder of nothing = %v, %v", removed, err)
	}
	if there, err := s.Touch(digest); there || err != nil {
		t.Errorf("Touch of nothing = %v, %v", there, err)
	}
}

func TestVerifyFindsDamageAndPutRepairsIt(t *testing.T) {
	s := open(t, t.TempDir())
	digest, err := s.PutBytes(t.Context(), []byte("content"))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(s.Dir(), digest[:2], digest)
	if err := os.Truncate(path, 3); err != nil {
		t.Fatal(err)
	}
	if err := s.Verify(t.Context(), digest); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("Verify of a cut file = %v", err)
	}
	if _, err := s.PutBytes(t.Context(), []byte("content")); err != nil {
		t.Fatal(err)
	}
	if err := s.Verify(t.Context(), digest); err != nil {
		t.Errorf("Verify after putting it again = %v", err)
	}
}

func TestConcurrentPutsOfTheSame(t *testing.T) {
	dir := t.TempDir()
	stores := []*blob.Store{open(t, dir), open(t, dir)} // as during a takeover
	content := make([]byte, 300_000)
	rand.Read(content)
	var group sync.WaitGroup
	for i := range 16 {
		group.Go(func() {
			for range 5 {
				digest, _, err := stores[i%2].Put(t.Context(), bytes.NewReader(content), 0)
				if err != nil || digest != digestOf(content) {
					t.Errorf("Put = %s, %v", digest, err)
				}
				if err := stores[i%2].Verify(t.Context(), digest); err != nil {
					t.Error(err)
				}
				open(t, dir) // sweeps, and must spare what is being written
			}
		})
	}
	group.Wait()
	if left := temporaries(t, dir); len(left) > 0 {
		t.Errorf("left over: %v", left)
	}
}

// writeForever is the process that gets killed: it names what was acknowledged, one a line.
func writeForever(dir string) {
	s, err := blob.Open(dir)
	if err != nil {
		panic(err)
	}
	for i := 0; ; i++ {
		digest, err := s.PutBytes(context.Background(), bytes.Repeat(fmt.Append(nil, i, " "), 50_000))
		if err != nil {
			panic(err)
		}
		fmt.Println(digest)
	}
}

func TestKilledWriterLosesNothingAndLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "BLOB_TEST_WRITE_FOREVER="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var acknowledged bytes.Buffer
	if _, err := io.CopyN(&acknowledged, out, 65*20); err != nil {
		t.Error(err)
	}
	cmd.Process.Kill()
	if _, err := io.Copy(&acknowledged, out); err != nil {
		t.Error(err)
	}
	cmd.Wait()
	// One more half-written file, in case the kill came between two.
	if err := os.WriteFile(filepath.Join(dir, "new", "123"), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := open(t, dir)
	if left := temporaries(t, dir); len(left) > 0 {
		t.Errorf("left over: %v", left)
	}
	digests := strings.Fields(acknowledged.String())
	for _, digest := range digests {
		if err := s.Verify(t.Context(), digest); len(digest) == 64 && err != nil {
			t.Error(err)
		}
	}
	if len(digests) < 20 {
		t.Errorf("%d acknowledged, want 20", len(digests))
	}
}

func TestFullDisk(t *testing.T) {
	if err := powercut.OnSmallDisk(t, 16, fullDisk); err != nil {
		t.Logf("no small disk here (%v): the full disk is not tested", err)
	}
}

func fullDisk(t *testing.T, dir string) {
	s := open(t, filepath.Join(dir, "blobs"))
	kept, err := s.PutBytes(t.Context(), []byte("before"))
	if err != nil {
		t.Fatal(err)
	}
	filler := filepath.Join(dir, "filler")
	if err := os.WriteFile(filler, make([]byte, 64<<20), 0o600); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("filling the disk = %v", err)
	}
	content := make([]byte, 4<<20)
	digest, err := s.PutBytes(t.Context(), content)
	if fault.KindOf(err) != fault.Unavailable || !strings.Contains(err.Error(), s.Dir()+" is full") || s.Has(digestOf(content)) {
		t.Errorf("PutBytes on a full disk = %s, %v", digest, err)
	}
	if left := temporaries(t, s.Dir()); len(left) > 0 {
		t.Errorf("left over: %v", left)
	}
	if got, err := s.Read(kept, 0); string(got) != "before" || err != nil {
		t.Errorf("Read on a full disk = %q, %v", got, err)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	if _, err := s.PutBytes(t.Context(), content); err != nil {
		t.Errorf("PutBytes when there is room again = %v", err)
	}
}

func BenchmarkPutBytes(b *testing.B) {
	s, err := blob.Open(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	content := make([]byte, 100<<10)
	b.Run("again", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := s.PutBytes(b.Context(), content); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func TestPin(t *testing.T) {
	s, err := blob.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	digest, err := s.PutBytes(t.Context(), []byte("kept"))
	if err != nil {
		t.Fatal(err)
	}
	later := time.Now().Add(time.Hour)
	unpin, again := s.Pin(), s.Pin()
	unpin()
	if gone, err := s.DeleteOlder(digest, later); gone || err != nil {
		t.Errorf("while pinned: %v, %v, want it kept", gone, err)
	}
	again()
	if gone, err := s.DeleteOlder(digest, later); !gone || err != nil {
		t.Errorf("after unpin: %v, %v, want it gone", gone, err)
	}
}
