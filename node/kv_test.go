package node_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"selvage/engine/state/powercut"
)

// TestKVOnAFullDisk fills the disk below a node that puts values: it says so, goes on reading, loses
// nothing that it acknowledged, and puts again once there is room.
func TestKVOnAFullDisk(t *testing.T) {
	if err := powercut.OnSmallDisk(t, 160, putUntilFull); err != nil {
		t.Logf("there is no small disk here: %v", err)
	}
}

func putUntilFull(t *testing.T, dir string) {
	hideRole()
	p := up(t, filepath.Join(dir, "data"), "--cache-disk", "0", "--access-log", "off")
	namespace := namespaceOf(t, p)
	s := deployKeeper(t, p, namespace)
	filler, err := os.Create(filepath.Join(dir, "filler"))
	must(t, err)
	defer filler.Close()
	acked, refused := map[string]int{}, 0
	for i := 0; refused < 12; i++ {
		if i > 2000 {
			t.Fatal("the disk never filled")
		}
		filler.Write(make([]byte, 2<<20)) // as far as it goes
		key, size := fmt.Sprint("key", i), kvSizes[i%3]
		why := ""
		if i%2 == 0 {
			a, err := s.do("PUT", fmt.Sprintf("/%s?size=%d", key, size), nil)
			must(t, err)
			if a.status != 200 {
				why = a.body
			}
		} else if err := p.putKey("PUT", namespace, key, size); err != nil {
			why = err.Error()
		}
		if why == "" {
			acked[key] = size
			continue
		}
		if refused++; !strings.Contains(why, "503") || !strings.Contains(why, "full") {
			t.Errorf("a put on a full disk is refused with %q", why)
		}
	}
	check := func(when string) {
		t.Helper()
		for key, size := range acked {
			if a := s.get("/" + key); a.body != kept(key, size) {
				t.Errorf("%s: %s is %d, %d bytes, not the %d that were put", when, key, a.status, len(a.body), size)
			}
		}
	}
	check("on the full disk")
	must(t, filler.Truncate(0))
	for deadline := time.Now().Add(20 * time.Second); p.putKey("PUT", namespace, "again", 90_000) != nil; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("there is room again, but nothing can be put")
		}
	}
	acked["again"] = 90_000
	check("with room again")
	t.Logf("%d acknowledged, %d refused", len(acked), refused)
}

// TestKVDamagedFile has a script read a value whose file lost a bit, and one that did not.
func TestKVDamagedFile(t *testing.T) {
	p := up(t, t.TempDir(), "--access-log", "off")
	s := deployKeeper(t, p, namespaceOf(t, p))
	for _, key := range []string{"good", "bad"} {
		if a, err := s.do("PUT", fmt.Sprintf("/%s?size=%d", key, 90_000+len(key)), nil); err != nil || a.status != 200 {
			t.Fatalf("%d %s %v", a.status, a.body, err)
		}
	}
	files, err := filepath.Glob(filepath.Join(p.dir, "kv", "*", "*", strings.Repeat("?", 32)))
	must(t, err)
	for _, file := range files {
		if data, err := os.ReadFile(file); err == nil && len(data) == 90_003 {
			data[10] ^= 4
			must(t, os.WriteFile(file, data, 0o600))
		}
	}
	s.expect("/bad", 500, "") // the script does not catch it
	s.expect("/good", 200, "goodgood")
	if !strings.Contains(p.log.String(), "damaged") {
		t.Errorf("the log says nothing of the damage:\n%s", p.log)
	}
}

// TestKVAfterTakeover puts before and reads after a new process took the node over, which must see what
// the old one wrote and nothing that it kept in memory.
func TestKVAfterTakeover(t *testing.T) {
	dir := t.TempDir()
	p := up(t, dir, "--access-log", "off")
	namespace := namespaceOf(t, p)
	s := deployKeeper(t, p, namespace)
	put := func(size int) {
		t.Helper()
		for _, key := range []string{"a", "b"} {
			if a, err := s.do("PUT", fmt.Sprintf("/%s?size=%d", key, size), nil); err != nil || a.status != 200 {
				t.Fatalf("%d %s %v", a.status, a.body, err)
			}
		}
	}
	put(30)
	next := launch(t, dir, "--access-log", "off", "--takeover")
	next.awaitReady(p.PID)
	s.node.Store(next)
	s.expect("/a", 200, kept("a", 30))
	put(90_000)
	s.expect("/b", 200, kept("b", 90_000))
}
