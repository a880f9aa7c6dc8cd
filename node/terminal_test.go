package node_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestClosingTheTerminalEndsTheNode starts a node on a terminal of its own and closes that.
func TestClosingTheTerminalEndsTheNode(t *testing.T) {
	ptmx, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer ptmx.Close()
	if err := unix.IoctlSetPointerInt(int(ptmx.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(ptmx.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	tty, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	c := exec.Command(program, "up", "--data", dir, "--api", "127.0.0.1:0", "--http", "127.0.0.1:0", "--https", "127.0.0.1:0",
		"--dns", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--s3", "127.0.0.1:0", "--hyperdrive-postgres", "127.0.0.1:0", "--hyperdrive-mysql", "127.0.0.1:0")
	c.Stdin = tty
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	tty.Close()
	for range 500 {
		if _, err := os.Stat(filepath.Join(dir, "node.json")); err == nil {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	ptmx.Close()
	left := make(chan error, 1)
	go func() { left <- c.Wait() }()
	select {
	case err := <-left:
		if err != nil {
			t.Errorf("the node ended with %v", err)
		}
	case <-time.After(20 * time.Second):
		c.Process.Kill()
		t.Fatal("the node runs on without a terminal")
	}
	if _, err := os.Stat(filepath.Join(dir, "node.json")); err == nil {
		t.Error("a successor runs")
	}
}
