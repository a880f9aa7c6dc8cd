package cache_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"selvage/edge"
	"selvage/product/cache"
)

// sized makes the origin answer each path with as many octets as its number says, different for
// each path.
func (s *site) sized(fields ...string) {
	s.serve(func(_ context.Context, ex *edge.Exchange) error {
		h := edge.NewHeader("Cache-Control", "max-age=600", "Cache-Tag", "all", "ETag", `"e"`)
		for i := 0; i+1 < len(fields); i += 2 {
			h.Add(fields[i], fields[i+1])
		}
		b := bodyOf(ex.Request.Path)
		ex.Response = edge.Response{Status: 200, Header: h, Length: int64(len(b)), Body: io.NopCloser(bytes.NewReader(b))}
		return nil
	})
}

// bodyOf returns the body of a path such as /3-70000: 70,000 octets that depend on 3.
func bodyOf(path string) []byte {
	var id, size int
	fmt.Sscanf(path, "/%d-%d", &id, &size)
	b := make([]byte, size)
	r := rand.NewChaCha8([32]byte{byte(id), byte(id >> 8)})
	r.Read(b)
	return b
}

var sizes = []string{"/1-0", "/2-1", "/3-1000", "/4-70000", "/5-1048575", "/6-1048576", "/7-1048577", "/8-5000000"}

func (s *site) wantSized(path, status string) {
	s.t.Helper()
	r := s.get(path)
	if r.err != nil || r.status != status || r.body != string(bodyOf(path)) {
		s.t.Errorf("%s: got %s, %d octets (%v), want %s", path, r.status, len(r.body), r.err, status)
	}
}

func files(t testing.TB, dir string) (paths []string) {
	t.Helper()
	err := filepath.WalkDir(filepath.Join(dir, "objects"), func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			paths = append(paths, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

func TestRestart(t *testing.T) {
	dir := t.TempDir()
	s := newSite(t, cache.Options{Dir: dir}, everything)
	id := s.zone.Zone.ID
	s.sized()
	for _, p := range sizes {
		s.wantSized(p, "MISS")
	}
	s.settle(int64(len(sizes)))
	s.stop()

	s = reopen(t, dir, id)
	s.fails()
	s.settle(int64(len(sizes)))
	for range 2 {
		for _, p := range sizes {
			s.wantSized(p, "HIT")
		}
	}
	r := s.get("/8-5000000", "Range", "bytes=1048570-1048580, 4999990-")
	if r.Status != 206 || r.err != nil || r.Length != int64(len(r.body)) || !strings.Contains(r.body, string(bodyOf("/8-5000000")[4999990:])) {
		t.Errorf("ranges of a file: got %d, %d octets (%v)", r.Status, len(r.body), r.err)
	}
}

// reopen returns a site of the same zone over the same folder.
func reopen(t *testing.T, dir, zoneID string) *site {
	t.Helper()
	s := newSite(t, cache.Options{Dir: dir}, everything)
	z := *s.zone.Zone
	z.ID = zoneID
	s.update(changeOf(&z), changeOf(ruleset(zoneID, everything)))
	s.zone = s.snap.Zones[zoneID]
	return s
}

// TestPurgeSurvivesRestart: what was purged is still on disk, and must not come back.
func TestPurgeSurvivesRestart(t *testing.T) {
	for _, purge := range []string{
		`{"purge_everything": true}`, `{"files": ["https://site.test/4-70000"]}`, `{"files": [{"url": "https://site.test/4-70000"}]}`,
		`{"tags": ["all"]}`, `{"hosts": ["site.test"]}`, `{"prefixes": ["site.test/4-70000"]}`,
	} {
		t.Run(purge, func(t *testing.T) {
			dir := t.TempDir()
			s := newSite(t, cache.Options{Dir: dir}, everything)
			id := s.zone.Zone.ID
			s.sized()
			s.wantSized("/4-70000", "MISS")
			s.settle(1)
			if err := s.purge(purge); err != nil {
				t.Fatal(err)
			}
			s.stop()
			s = reopen(t, dir, id)
			s.sized()
			s.settle(1)
			s.wantSized("/4-70000", "MISS")
			s.wantSized("/4-70000", "HIT")
		})
	}
}

// TestDamagedPurgeLog: if it cannot be known what was purged, nothing old is served.
func TestDamagedPurgeLog(t *testing.T) {
	for name, damage := range map[string]func(b []byte) []byte{
		"flipped": func(b []byte) []byte { b[len(b)/2] ^= 1; return b },
		"empty":   func([]byte) []byte { return nil },
		"missing": nil,
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := newSite(t, cache.Options{Dir: dir}, everything)
			id := s.zone.Zone.ID
			s.sized()
			s.wantSized("/4-70000", "MISS")
			s.settle(1)
			s.purge(`{"purge_everything": true}`)
			s.stop()
			path := filepath.Join(dir, "purges.log")
			if damage == nil {
				os.Remove(path)
			} else {
				b, _ := os.ReadFile(path)
				os.WriteFile(path, damage(b), 0o600)
			}
			s = reopenQuietly(t, dir, id)
			s.sized()
			s.settle(0)
			s.wantSized("/4-70000", "MISS")
		})
	}
	t.Run("torn end", func(t *testing.T) {
		dir := t.TempDir()
		s := newSite(t, cache.Options{Dir: dir}, everything)
		id := s.zone.Zone.ID
		s.sized()
		s.wantSized("/3-1000", "MISS")
		s.settle(1)
		s.stop()
		f, err := os.OpenFile(filepath.Join(dir, "purges.log"), os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		f.WriteString(`7 zone "` + id)
		f.Close()
		s = reopen(t, dir, id)
		s.sized()
		s.settle(1)
		s.wantSized("/3-1000", "HIT")
	})
}

// reopenQuietly is reopen where an error in the log is expected.
func reopenQuietly(t *testing.T, dir, id string) *site { return reopen(t, dir, id) }

// TestTornFiles: whatever happens to a file, what is served from it is right or is not served.
func TestTornFiles(t *testing.T) {
	dir := t.TempDir()
	s := newSite(t, cache.Options{Dir: dir}, everything)
	id := s.zone.Zone.ID
	s.sized()
	for _, p := range sizes {
		s.wantSized(p, "MISS")
	}
	s.settle(int64(len(sizes)))
	s.stop()
	whole := map[string][]byte{}
	for _, path := range files(t, dir) {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		whole[path] = b
	}
	r := rand.New(rand.NewPCG(1, 2))
	for name, damage := range map[string]func(b []byte) []byte{
		"truncated by one": func(b []byte) []byte { return b[:len(b)-1] },
		"cut in half":      func(b []byte) []byte { return b[:len(b)/2] },
		"empty":            func([]byte) []byte { return nil },
		"flipped anywhere": func(b []byte) []byte { b[r.IntN(len(b))] ^= 1 << r.IntN(8); return b },
		"flipped in front": func(b []byte) []byte { b[0] ^= 0x80; return b },
		"flipped at end":   func(b []byte) []byte { b[len(b)-1] ^= 1; return b },
		"zeroed":           func(b []byte) []byte { clear(b[len(b)/2:]); return b },
		"longer":           func(b []byte) []byte { return append(b, "garbage"...) },
	} {
		t.Run(name, func(t *testing.T) {
			for path, b := range whole {
				os.MkdirAll(filepath.Dir(path), 0o700)
				if err := os.WriteFile(path, damage(bytes.Clone(b)), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			s := reopen(t, dir, id)
			s.sized()
			s.settle(int64(len(sizes)))
			for _, p := range sizes {
				s.wantSized(p, "MISS")
				s.wantSized(p, "HIT")
			}
			if n := s.cache.Stats().DiskDamaged; n != uint64(len(sizes)) {
				t.Errorf("%d damaged files counted, want %d", n, len(sizes))
			}
			s.stop()
			os.RemoveAll(filepath.Join(dir, "objects"))
			os.Mkdir(filepath.Join(dir, "objects"), 0o700)
		})
	}
}

func TestRevalidationReachesTheDisk(t *testing.T) {
	dir := t.TempDir()
	s := newSite(t, cache.Options{Dir: dir}, everything)
	id := s.zone.Zone.ID
	s.sized()
	for _, p := range []string{"/4-70000", "/8-5000000"} {
		s.wantSized(p, "MISS")
	}
	s.settle(2)
	s.later(700 * time.Second)
	s.serve(func(_ context.Context, ex *edge.Exchange) error {
		ex.Respond(304, edge.NewHeader("Cache-Control", "max-age=6000", "X-Long", strings.Repeat("x", 5000)), nil)
		return nil
	})
	for _, p := range []string{"/4-70000", "/8-5000000"} {
		s.wantSized(p, "REVALIDATED")
	}
	s.stop()
	s = reopen(t, dir, id)
	s.later(1400 * time.Second)
	s.fails()
	s.settle(2)
	for _, p := range []string{"/4-70000", "/8-5000000"} {
		s.wantSized(p, "HIT")
		if r := s.get(p); !r.Header.Has("X-Long") {
			t.Errorf("%s lacks the field that the validation brought", p)
		}
	}
}

// TestBounds: whatever is stored, neither tier holds more than it may, nor the folder more than
// the index says.
func TestBounds(t *testing.T) {
	dir := t.TempDir()
	const memory, disk = 2 << 20, 8 << 20
	s := newSite(t, cache.Options{Dir: dir, MemoryBytes: memory, DiskBytes: disk}, everything)
	s.sized()
	r := rand.New(rand.NewPCG(3, 4))
	for i := range 1500 {
		size := r.IntN(40000)
		if i%50 == 0 {
			size = r.IntN(3 << 20)
		}
		path := fmt.Sprintf("/%d-%d", r.IntN(400), size)
		if got := s.get(path); got.err != nil || got.body != string(bodyOf(path)) {
			t.Fatalf("%s: got %s, %d octets (%v)", path, got.status, len(got.body), got.err)
		}
		if st := s.cache.Stats(); st.MemoryBytes > memory || st.DiskBytes > disk {
			t.Fatalf("after %d requests: %+v, limits %d and %d", i+1, st, memory, disk)
		}
	}
	s.stop()
	st := s.cache.Stats()
	if st.MemoryEvicted == 0 || st.DiskEvicted == 0 {
		t.Errorf("nothing was evicted: %+v", st)
	}
	var total int64
	found := files(t, dir)
	for _, path := range found {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		total += info.Size()
	}
	if int64(len(found)) != st.DiskObjects || total > disk {
		t.Errorf("the folder holds %d files of %d octets, the index %d", len(found), total, st.DiskObjects)
	}
	if left, _ := os.ReadDir(filepath.Join(dir, "filling")); len(left) > 0 {
		t.Errorf("%d half-filled files are left", len(left))
	}
}

// TestScanResistance: a walk over many things wanted once does not push out what is wanted often.
func TestScanResistance(t *testing.T) {
	s := newSite(t, cache.Options{MemoryBytes: 4 << 20}, everything)
	s.sized()
	hot := func() (hits int) {
		for i := range 100 {
			if s.get(fmt.Sprintf("/%d-10000", i)).status == "HIT" {
				hits++
			}
		}
		return hits
	}
	for range 4 {
		hot()
	}
	for i := range 2000 {
		s.get(fmt.Sprintf("/%d-10000?%d", i%200, i))
	}
	if got := hot(); got < 90 {
		t.Errorf("%d of 100 hot pages are still stored after a scan, want at least 90", got)
	}
}

func TestRelease(t *testing.T) {
	dir := t.TempDir()
	old := newSite(t, cache.Options{Dir: dir}, everything)
	id := old.zone.Zone.ID
	old.sized()
	old.wantSized("/3-1000", "MISS")
	old.settle(1)
	old.cache.Release()
	young := reopen(t, dir, id)
	young.sized()
	young.settle(1)
	old.wantSized("/4-70000", "MISS")
	old.wantSized("/8-5000000", "MISS")
	old.wantSized("/3-1000", "HIT")
	young.wantSized("/3-1000", "HIT")
	if n := len(files(t, dir)); n != 1 {
		t.Errorf("%d files after the old process has released the folder, want 1", n)
	}
	if err := old.purge(`{"purge_everything": true}`); err == nil {
		t.Error("a purge at the process that hands over is acknowledged")
	}
}

// TestFullDisk serves on, unstored, when the disk is full, and stores again when it is not. It runs
// itself again in a mount namespace of its own, with a small file system.
func TestFullDisk(t *testing.T) {
	if os.Getenv("CACHE_TEST_SMALL_DISK") == "" {
		dir := t.TempDir()
		cmd := exec.Command(os.Args[0], "-test.run=^TestFullDisk$", "-test.v")
		cmd.Env = append(os.Environ(), "CACHE_TEST_SMALL_DISK="+dir)
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
		if os.Getuid() != 0 {
			cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
			cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
			cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
		}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("in a mount namespace: %v\n%s", err, out)
		}
		return
	}
	dir := os.Getenv("CACHE_TEST_SMALL_DISK")
	if err := syscall.Mount("none", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=4m"); err != nil {
		t.Fatal(err)
	}
	s := newSite(t, cache.Options{Dir: dir, DiskBytes: 1 << 30, MemoryBytes: 1 << 20}, everything)
	s.sized()
	for i := range 40 {
		s.wantSized(fmt.Sprintf("/%d-300000", i), "MISS")
		s.wantSized(fmt.Sprintf("/%d-3000000", i), "MISS")
	}
	// The cache leaves room for the store beside it, and what is new pushes out what is old.
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err != nil || fs.Bavail*20 < fs.Blocks {
		t.Errorf("the cache left %d of %d blocks free (%v), want a twentieth at least", fs.Bavail, fs.Blocks, err)
	}
	if st := s.cache.Stats(); st.DiskBytes < 1<<20 || st.DiskEvicted == 0 || st.DiskFailed > 0 {
		t.Errorf("%+v, want a tier full of what was last asked for, without failed writes", st)
	}
	// Somebody else fills the disk: what is cached makes way, and nothing is stored.
	ballast(t, dir, 8<<20)
	s.wantSized("/50-2000000", "MISS")
	s.wantSized("/50-2000000", "MISS")
	if st := s.cache.Stats(); st.DiskFailed > 20 {
		t.Errorf("%d failed writes: each request tries", st.DiskFailed)
	}
	for _, path := range files(t, dir) {
		os.Remove(path)
	}
	s.later(time.Minute)
	s.wantSized("/100-2000000", "MISS")
	s.wantSized("/100-2000000", "HIT")
	// A purge that cannot be recorded is not acknowledged.
	ballast(t, dir, 8<<20)
	if err := s.purge(`{"tags": ["` + strings.Repeat("x", 1000) + `","` + strings.Repeat("y", 1000) + `","` + strings.Repeat("z", 1000) + `","` + strings.Repeat("w", 1020) + `"]}`); err == nil {
		if err := s.purge(`{"tags": ["` + strings.Repeat("a", 1000) + `","` + strings.Repeat("b", 1000) + `","` + strings.Repeat("c", 1000) + `","` + strings.Repeat("d", 1020) + `"]}`); err == nil {
			t.Error("a purge is acknowledged although the disk is full")
		}
	}
}

// ballast fills up the disk.
func ballast(t *testing.T, dir string, size int64) {
	t.Helper()
	f, err := os.Create(filepath.Join(dir, "ballast"))
	if err != nil {
		t.Fatal(err)
	}
	io.Copy(f, io.LimitReader(zeros{}, size))
	f.Close()
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

// TestKill kills a process in the middle of filling, again and again: what it leaves is served
// right or not at all, and what it purged stays purged.
func TestKill(t *testing.T) {
	if dir := os.Getenv("CACHE_TEST_KILL"); dir != "" {
		fillForEver(t, dir, os.Getenv("CACHE_TEST_ZONE"))
		return
	}
	dir := t.TempDir()
	id := strings.Repeat("e", 32)
	for round := range 6 {
		cmd := exec.Command(os.Args[0], "-test.run=^TestKill$")
		cmd.Env = append(os.Environ(), "CACHE_TEST_KILL="+dir, "CACHE_TEST_ZONE="+id)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		line := make([]byte, 1)
		purged := 0
		for deadline := time.Now().Add(time.Duration(150+50*round) * time.Millisecond); time.Now().Before(deadline); {
			if _, err := out.Read(line); err != nil {
				break
			}
			if line[0] == '!' {
				purged++
			}
		}
		cmd.Process.Kill()
		cmd.Wait()
		if purged == 0 {
			t.Fatal("the process did not get far enough to purge anything")
		}
		s := reopen(t, dir, id)
		s.serve(func(_ context.Context, ex *edge.Exchange) error {
			ex.Respond(200, edge.NewHeader("Cache-Control", "max-age=600"), []byte("new"))
			return nil
		})
		eventually(t, func() bool { return s.cache.Stats().Indexed })
		for i := range 200 {
			for _, path := range []string{fmt.Sprintf("/%d-20000", i), fmt.Sprintf("/%d-1500000", i)} {
				r := s.get(path)
				if r.err != nil || r.body != "new" && r.body != string(bodyOf(path)) {
					t.Fatalf("%s: got %s, %d octets (%v)", path, r.status, len(r.body), r.err)
				}
			}
		}
		for i := range purged {
			if r := s.get(fmt.Sprintf("/%d-500?purged", i)); r.body != "new" {
				t.Errorf("round %d: what was purged came back", round)
			}
		}
		s.stop()
		os.RemoveAll(filepath.Join(dir, "objects"))
		os.Mkdir(filepath.Join(dir, "objects"), 0o700)
	}
}

// fillForEver stores pages and purges some, saying "!" for each purge that was acknowledged.
func fillForEver(t *testing.T, dir, zoneID string) {
	s := reopen(t, dir, zoneID)
	s.sized()
	for i := 0; ; i++ {
		purged := fmt.Sprintf("/%d-500?purged", i)
		s.get(purged)
		s.get(fmt.Sprintf("/%d-20000", i%200))
		go s.get(fmt.Sprintf("/%d-1500000", i%200))
		if err := s.purge(`{"files": ["https://site.test` + purged + `"]}`); err != nil {
			t.Fatal(err)
		}
		fmt.Print("!")
	}
}
