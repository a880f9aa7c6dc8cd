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

// TestObjectsOnAFullDisk fills the disk below objects that count: callers get errors, nothing that was
// acknowledged is lost, and with room again all goes on.
func TestObjectsOnAFullDisk(t *testing.T) {
	if err := powercut.OnSmallDisk(t, 96, countUntilFull); err != nil {
		t.Logf("there is no small disk here: %v", err)
	}
}

func countUntilFull(t *testing.T, dir string) {
	for _, line := range os.Environ() {
		if name, _, _ := strings.Cut(line, "="); strings.HasPrefix(name, "SELVAGE_POWERCUT") {
			os.Unsetenv(name) // the node knows no such setting
		}
	}
	p := up(t, filepath.Join(dir, "data"), "--cache-disk", "0", "--access-log", "off")
	s := deployObjects(t, p)
	acked := map[string]int{}
	refused := 0
	filler, err := os.Create(filepath.Join(dir, "filler"))
	must(t, err)
	defer filler.Close()
	for deadline := time.Now().Add(30 * time.Second); refused < 20; {
		if time.Now().After(deadline) {
			t.Fatalf("the disk never filled: %v", acked)
		}
		filler.Write(make([]byte, 1<<20)) // as far as it goes
		for _, path := range []string{"/rows/fill/a", "/pairs/fill/a"} {
			status, body, err := s.ask(path + "?arg=65536")
			if err != nil || status != 200 {
				refused++
				continue
			}
			before := acked[path]
			if acked[path] = countIn(body); acked[path] <= before {
				t.Errorf("%s: %d was acknowledged after %d", path, acked[path], before)
			}
		}
	}
	must(t, filler.Truncate(0))
	for path, n := range acked {
		path = strings.Replace(path, "/fill/", "/add/", 1)
		for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
			status, body, err := s.ask(path)
			if err == nil && status == 200 {
				if got := countIn(body); got <= n {
					t.Errorf("%s: %d were acknowledged, and then %d is next", path, n, got)
				}
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s: there is room, but: %d %.200s %v", path, status, body, err)
			}
		}
	}
	t.Logf("%v acknowledged, %d refused", acked, refused)
}

// countIn returns the number in an object's answer.
func countIn(body string) (n int) {
	fmt.Sscanf(body, `{"n":%d,`, &n)
	return n
}
