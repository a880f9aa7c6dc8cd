package backlog_test

import (
	"os"
	"path/filepath"
	"testing"

	"selvage/engine/state/powercut"
	"selvage/foundation/fault"
	"selvage/product/queues/backlog"
)

// TestFullDisk fills the disk below a queue: sends are refused, what is there is kept and can be looked at, and
// all goes on once there is room.
func TestFullDisk(t *testing.T) {
	err := powercut.OnSmallDisk(t, 64, func(t *testing.T, dir string) {
		db, q, err := openBacklog(filepath.Join(dir, "db"))
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		body := make([]byte, 100_000)
		send := func() error {
			_, err := q.Send([]backlog.Draft{{Body: body}}, noLimit)
			return err
		}
		if err := send(); err != nil {
			t.Fatal(err)
		}
		fill(t, filepath.Join(dir, "filling"))
		if err := send(); fault.KindOf(err) != fault.Unavailable {
			t.Errorf("a send to a full disk = %v, want a fault that says so", err)
		}
		if got, err := q.Peek(9, 1<<20); err != nil || len(got) != 1 || q.Stats().Count != 1 {
			t.Errorf("with a full disk there are %d messages, %v", len(got), err)
		}
		if err := os.Remove(filepath.Join(dir, "filling")); err != nil {
			t.Fatal(err)
		}
		if err := send(); err != nil {
			t.Errorf("a send once there is room = %v", err)
		}
		d, got, err := q.Take(backlog.Wanted{Count: 9, Bytes: 1 << 20})
		if err != nil || len(got) != 2 {
			t.Fatalf("took %d messages, %v; want 2", len(got), err)
		}
		if err := d.Settle(make([]backlog.Verdict, 2), backlog.Policy{}); err != nil || q.Stats().Count != 0 {
			t.Errorf("settled: %v, %d are left", err, q.Stats().Count)
		}
	})
	if err != nil {
		t.Logf("there is no small disk here: %v", err)
	}
}

// fill makes a file that takes what is left of its disk.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size := 1 << 20; size >= 4096; {
		if _, err := f.Write(make([]byte, size)); err != nil {
			size /= 2
		}
	}
	_ = f.Sync()
}
