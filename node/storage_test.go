package node_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestStoredSurvivesKills writes to every product through a Worker while the node and the Worker's
// children are killed at random moments, and then asks for everything that was acknowledged.
func TestStoredSurvivesKills(t *testing.T) {
	t.Parallel()
	const kills = 100
	dir := t.TempDir()
	p := up(t, dir)
	n := deployNumbers(t, p)
	stop := n.start(2)
	for range kills {
		n.more(5 + rand.IntN(15))
		time.Sleep(time.Duration(rand.IntN(20_000)) * time.Microsecond)
		if rand.IntN(3) > 0 {
			if err := p.call("POST", "/accounts/"+p.AccountID+"/selvage/workers/scripts/numbers/kill", "{}", nil); err != nil {
				t.Fatal(err)
			}
			continue
		}
		p.stop(syscall.SIGKILL)
		p = up(t, dir)
		n.site.node.Store(p)
	}
	n.enough(5)
	stop()
	acked := n.acknowledged()
	n.check(acked)
	for _, product := range storedIn {
		t.Logf("%s: %d acknowledged through %d kills", product, len(acked[product]), kills)
	}
	if log := p.log.String(); strings.Contains(log, "panic") {
		t.Errorf("the node panicked:\n%s", log)
	}
}

// TestStoredWhileTakenOver replaces the node while a Worker writes to every product: no write fails, and
// none is lost.
func TestStoredWhileTakenOver(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := up(t, dir)
	n := deployNumbers(t, p)
	stop := n.start(2)
	var logs []string
	for range 3 {
		n.enough(20)
		old := p
		p = up(t, dir, "--takeover")
		n.site.node.Store(p)
		if err := old.wait(); err != nil {
			t.Errorf("the node that was taken over: %v", err)
		}
		logs = append(logs, old.log.String())
	}
	n.enough(20)
	stop()
	if len(n.lost) > 0 {
		t.Errorf("%d writes failed while the node was replaced, such as %.1000v\n%v", len(n.lost), n.lost[:min(3, len(n.lost))], logs)
	}
	n.check(n.acknowledged())
}

// TestBackup backs a node up while everything is written to, restores it elsewhere, and asks for what
// had been acknowledged before.
func TestBackup(t *testing.T) {
	t.Parallel()
	p := up(t, t.TempDir())
	n := deployNumbers(t, p)
	stop := n.start(2)
	n.enough(30)
	before := n.acknowledged()
	file, restored := filepath.Join(t.TempDir(), "node.backup"), filepath.Join(t.TempDir(), "restored")
	if out, err := p.command("backup", "create", file); err != nil {
		t.Fatalf("backup create: %v\n%s\n%s", err, out, p.log)
	}
	n.enough(10)
	stop()
	if err := p.stop(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}

	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	refused := func(what string, data []byte) {
		bad := filepath.Join(t.TempDir(), "bad")
		if err := os.WriteFile(bad, data, 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(program, "backup", "restore", bad, "--to", restored).CombinedOutput()
		if err == nil {
			t.Errorf("a backup that is %s was restored: %s", what, out)
		}
		if entries, _ := filepath.Glob(restored + "*"); len(entries) > 0 {
			t.Errorf("a backup that is %s left %v", what, entries)
		}
	}
	refused("cut off", data[:len(data)*2/3])
	flipped := bytes.Clone(data)
	flipped[len(flipped)/2] ^= 4
	refused("damaged", flipped)

	for _, args := range [][]string{{"backup", "verify", file}, {"backup", "restore", file, "--to", restored}} {
		if out, err := exec.Command(program, args...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	if out, err := exec.Command(program, "backup", "restore", file, "--to", restored).CombinedOutput(); err == nil || !strings.Contains(string(out), "not empty") {
		t.Errorf("a backup went over a data directory: %v %s", err, out)
	}
	again := up(t, restored)
	if again.token != p.token {
		t.Error("the restored node has another token")
	}
	n.site.node.Store(again)
	n.check(before)
}

// command runs the command line against the node.
func (p *process) command(args ...string) (string, error) {
	out, err := exec.Command(program, append(args, "--data", p.dir)...).CombinedOutput()
	return string(out), err
}

// eventually tries until there is no error.
func eventually(t testing.TB, try func() error) {
	t.Helper()
	const patience = 60 * time.Second
	for began := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		err := try()
		if err == nil {
			return
		}
		if time.Since(began) > patience {
			t.Fatal(fmt.Errorf("after %v: %w", patience, err))
		}
	}
}
