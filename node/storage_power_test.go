package node_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"selvage/engine/state/powercut"
)

// TestStoredSurvivesPowerCuts writes to every product through a Worker on a disk whose power is cut 10
// times. What was acknowledged is there afterwards.
func TestStoredSurvivesPowerCuts(t *testing.T) {
	powercut.Cut(t, powercut.Plan{
		Rounds:  10,
		Writing: 400 * time.Millisecond,
		Writer:  func(dir string, round int, ack func(string)) error { return storeUntilCut(t, dir, round, ack) },
		Verify:  func(dir string, acked []string) error { return numbersKept(t, dir, acked) },
	})
}

// upOnDisk runs a node on a small disk, in a process that plays a part of a test of durability.
func upOnDisk(t *testing.T, dir string) (*process, error) {
	for _, line := range os.Environ() {
		if name, _, _ := strings.Cut(line, "="); strings.HasPrefix(name, "SELVAGE_POWERCUT") {
			os.Unsetenv(name) // the node knows no such setting
		}
	}
	p := &process{t: t, dir: filepath.Join(dir, "data"), log: &logBuffer{}, ended: make(chan error, 1)}
	os.Remove(filepath.Join(p.dir, "node.json"))
	p.cmd = exec.Command(program, append([]string{"up", "--data", p.dir, "--cache-disk", "0", "--access-log", "off"}, freePorts...)...)
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() { p.ended <- p.cmd.Wait() }()
	p.awaitReady(0)
	return p, nil
}

func storeUntilCut(t *testing.T, dir string, round int, ack func(string)) error {
	p, err := upOnDisk(t, dir)
	if err != nil {
		return err
	}
	var n *numbers
	if round == 0 {
		n = deployNumbers(t, p)
	} else {
		n = &numbers{t: t, site: siteOf(t, p, "numbers"), acked: map[string][]int64{}}
	}
	for i := range storedIn {
		n.next[i].Store(int64(round) * 1_000_000)
	}
	n.ack = func(product string, i int64) { ack(fmt.Sprintf("%s %d", product, i)) }
	n.start(1)
	<-p.ended
	return errors.New("the node ended")
}

// numbersKept starts a node on what the power cut left and asks for everything.
func numbersKept(t *testing.T, dir string, names []string) error {
	p, err := upOnDisk(t, dir)
	if err != nil {
		return err
	}
	defer func() {
		p.cmd.Process.Kill()
		<-p.ended
		removeRunDir(p.dir)
	}()
	acked := map[string][]int64{}
	for _, name := range names {
		var product string
		var i int64
		if _, err := fmt.Sscanf(name, "%s %d", &product, &i); err != nil {
			return err
		}
		acked[product] = append(acked[product], i)
	}
	n := &numbers{t: t, site: siteOf(t, p, "numbers")}
	n.check(acked)
	if t.Failed() {
		return fmt.Errorf("something acknowledged is missing\n%s", p.log)
	}
	return nil
}
