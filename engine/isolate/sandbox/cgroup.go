package sandbox

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// prepareCgroup makes a directory below this process's own cgroup (version 2) whose children can
// have memory limits. A cgroup holds either processes or limited children, so the node itself
// moves into a leaf of its own, once.
func prepareCgroup(self, mounted string) (string, error) {
	text, err := os.ReadFile(self)
	if err != nil {
		return "", err
	}
	own := ""
	for line := range strings.Lines(string(text)) {
		if path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
			own = filepath.Join(mounted, path)
		}
	}
	if own == "" {
		return "", errors.New("this host has no cgroup v2")
	}
	if filepath.Base(own) == "selvage-node" {
		own = filepath.Dir(own) // the node moved at an earlier start
	}
	controllers, err := os.ReadFile(filepath.Join(own, "cgroup.controllers"))
	if err != nil {
		return "", errors.New("cgroup v2 is not mounted at " + mounted)
	}
	if !strings.Contains(" "+string(controllers)+" ", "memory") {
		return "", errors.New("cgroup v2 has no memory controller here")
	}
	if err := os.Mkdir(filepath.Join(own, "selvage-node"), 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return "", fmt.Errorf("cgroup v2 is not writable: %s", reason(err))
	}
	if err := os.WriteFile(filepath.Join(own, "selvage-node", "cgroup.procs"), []byte("0"), 0); err != nil {
		return "", fmt.Errorf("cgroup v2 is not writable: %s", reason(err))
	}
	children := filepath.Join(own, "selvage-isolates")
	if err := os.Mkdir(children, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return "", fmt.Errorf("cgroup v2 is not writable: %s", reason(err))
	}
	for _, dir := range []string{own, children} {
		if err := os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte("+memory"), 0); err != nil {
			return "", errors.New("the memory controller cannot be delegated: other processes share this cgroup")
		}
	}
	return children, nil
}

// enclose makes a cgroup for a command that is not started yet.
func enclose(cmd *exec.Cmd, parent string, memory int64) error {
	dir, err := os.MkdirTemp(parent, "child-")
	if err != nil {
		return err
	}
	err = os.WriteFile(filepath.Join(dir, "memory.max"), []byte(strconv.FormatInt(memory, 10)), 0)
	if err != nil {
		os.Remove(dir)
		return err
	}
	// Swapping would make everybody wait for the disk; absent where there is no swap.
	_ = os.WriteFile(filepath.Join(dir, "memory.swap.max"), []byte("0"), 0)
	fd, err := syscall.Open(dir, syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0)
	if err != nil {
		os.Remove(dir)
		return err
	}
	cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, fd
	return nil
}

// Release gives back what Command took for cmd, after it ended or if it is never started.
func Release(cmd *exec.Cmd) {
	if cmd == nil || cmd.SysProcAttr == nil || !cmd.SysProcAttr.UseCgroupFD {
		return
	}
	fd := cmd.SysProcAttr.CgroupFD
	if dir, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(fd)); err == nil {
		os.Remove(dir)
	}
	syscall.Close(fd)
	cmd.SysProcAttr.UseCgroupFD = false
}
