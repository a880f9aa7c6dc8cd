package rollout_test

import (
	"context"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"selvage/control/rollout"
	"selvage/product/producttest"
	"selvage/spec"
)

// written applies snapshots one after the other, each by a process of its own that writes it.
func written(t *testing.T, dir string, snapshots ...*spec.Snapshot) {
	t.Helper()
	for _, s := range snapshots {
		r, err := rollout.New(rollout.Options{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Apply(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if err := r.Run(ended); err != nil {
			t.Fatal(err)
		}
	}
}

func lastGood(t *testing.T, dir string) *spec.Snapshot {
	t.Helper()
	r, err := rollout.New(rollout.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	s, err := r.LastGood()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestLastGoodIsWhatWasInEffect(t *testing.T) {
	dir := t.TempDir()
	if s := lastGood(t, dir); s != nil {
		t.Errorf("LastGood of an empty directory = %v", s)
	}
	s := producttest.Snapshot(7, "a.test", "b.test")
	z := s.ZoneByName("a.test").Zone
	cert := &spec.Certificate{ID: spec.NewID(), ZoneID: z.ID, Chain: "chain", PrivateKey: "key", ExpiresOn: spec.Timestamp(time.Now())}
	s = s.With(8, []spec.Change{{Key: cert.Key(), Noun: cert}})
	written(t, dir, s)
	want := &spec.Snapshot{Version: s.Version, Accounts: s.Accounts, Zones: s.Zones, Origins: s.Origins} // without how it came about
	if got := lastGood(t, dir); !reflect.DeepEqual(got, want) {
		t.Errorf("LastGood = %+v, want %+v", got, want)
	}
	files, _ := filepath.Glob(filepath.Join(dir, "*"))
	for _, f := range files {
		if info, err := os.Stat(f); err != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s can be read by others: %v %v", f, info.Mode(), err)
		}
	}
}

func TestTornLastGoodFallsBack(t *testing.T) {
	one := producttest.Snapshot(1, "a.test", "b.test")
	two := edit(one, "b.test")
	for name, tc := range map[string]struct {
		damage func(t *testing.T, dir string)
		want   string
	}{
		"nothing":      {func(*testing.T, string) {}, "a.test@1 b.test@2"},
		"torn index":   {func(t *testing.T, dir string) { tear(t, filepath.Join(dir, "good")) }, "a.test@1 b.test@1"},
		"empty index":  {func(t *testing.T, dir string) { os.Truncate(filepath.Join(dir, "good"), 0) }, "a.test@1 b.test@1"},
		"no index":     {func(t *testing.T, dir string) { os.Remove(filepath.Join(dir, "good")) }, "a.test@1 b.test@1"},
		"torn zone":    {func(t *testing.T, dir string) { tear(t, holding(t, dir, "new.b.test")) }, "a.test@1 b.test@1"},
		"zone gone":    {func(t *testing.T, dir string) { os.Remove(holding(t, dir, "new.b.test")) }, "a.test@1 b.test@1"},
		"torn in both": {func(t *testing.T, dir string) { tear(t, holding(t, dir, `"a.test"`)) }, "b.test@2"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			written(t, dir, one, two)
			tc.damage(t, dir)
			if got := zones(lastGood(t, dir)); got != tc.want {
				t.Errorf("LastGood = %s, want %s", got, tc.want)
			}
		})
	}
}

// tear cuts the second half of a file off.
func tear(t *testing.T, path string) {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, info.Size()/2); err != nil {
		t.Fatal(err)
	}
}

// holding returns the zone's file that holds text.
func holding(t *testing.T, dir, text string) string {
	t.Helper()
	files, _ := filepath.Glob(filepath.Join(dir, "zone-*"))
	for _, f := range files {
		if b, err := os.ReadFile(f); err == nil && strings.Contains(string(b), text) {
			return f
		}
	}
	t.Fatalf("no file below %s holds %s", dir, text)
	return ""
}

func TestDamageInBothIsAnError(t *testing.T) {
	dir := t.TempDir()
	written(t, dir, producttest.Snapshot(1, "a.test"))
	tear(t, filepath.Join(dir, "good"))
	r, err := rollout.New(rollout.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if s, err := r.LastGood(); err == nil || !strings.Contains(err.Error(), "checksum") {
		t.Errorf("LastGood = %v, %v", s, err)
	}
}

func TestOnlyChangedZonesAreWritten(t *testing.T) {
	dir := t.TempDir()
	one := producttest.Snapshot(1, "a.test", "b.test")
	written(t, dir, one)
	before := holding(t, dir, `"a.test"`)
	info, _ := os.Stat(before)
	written(t, dir, edit(one, "b.test"))
	after, err := os.Stat(before)
	if err != nil || !os.SameFile(info, after) || !info.ModTime().Equal(after.ModTime()) {
		t.Errorf("the unchanged zone's file was written again: %v", err)
	}
}

// A zone under constant change leaves no more files than the two indexes name.
func TestOldFilesAreSwept(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		r, err := rollout.New(rollout.Options{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- r.Run(ctx) }()
		s := producttest.Snapshot(1, "a.test", "b.test")
		for range 10 {
			s = edit(s, "b.test")
			if err := r.Apply(ctx, s); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
		}
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	if files, _ := filepath.Glob(filepath.Join(dir, "zone-*")); len(files) != 3 {
		t.Errorf("%d files of zones: %v; want a.test and two versions of b.test", len(files), files)
	}
	if got := zones(lastGood(t, dir)); got != "a.test@1 b.test@11" {
		t.Errorf("LastGood = %s", got)
	}
}
