package isolate

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	maxSocketPath = 107
	lockName      = "lock"
	pidSuffix     = ".pid"
)

// claim returns a directory under runDir that this process alone uses, and the lock that says so.
// Directories of processes that are no more are removed, and their children ended.
func claim(runDir string) (string, *os.File, error) {
	if err := os.MkdirAll(runDir, 0o711); err != nil {
		return "", nil, fmt.Errorf("make the run directory: %w", err)
	}
	if longest := len(runDir) + len("/n999/c4294967295/s999"); longest > maxSocketPath {
		return "", nil, fmt.Errorf("the run directory %q is too long: with names of sockets it has %d bytes, the system's limit is %d", runDir, longest, maxSocketPath)
	}
	dirs, err := filepath.Glob(filepath.Join(runDir, "n*"))
	if err != nil {
		return "", nil, err
	}
	for _, dir := range dirs {
		lock, err := flock(filepath.Join(dir, lockName))
		if err != nil {
			continue // somebody lives there
		}
		clean(dir)
		lock.Close()
	}
	for i := range 1000 {
		dir := filepath.Join(runDir, "n"+strconv.Itoa(i))
		if err := os.Mkdir(dir, 0o711); err != nil {
			if errors.Is(err, os.ErrExist) {
				continue
			}
			return "", nil, err
		}
		lock, err := flock(filepath.Join(dir, lockName))
		if err != nil {
			return "", nil, fmt.Errorf("lock the run directory: %w", err)
		}
		return dir, lock, nil
	}
	return "", nil, fmt.Errorf("1,000 nodes use %q", runDir)
}

// flock opens path and locks it, or fails at once.
func flock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// clean ends the processes whose run directories stand in dir, and removes it.
func clean(dir string) {
	files, _ := filepath.Glob(filepath.Join(dir, "*"+pidSuffix))
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			continue
		}
		pid, began, found := strings.Cut(string(b), " ")
		if n, err := strconv.Atoi(pid); err == nil && found && n > 1 && startTime(n) == began {
			syscall.Kill(n, syscall.SIGKILL)
		}
	}
	os.RemoveAll(dir)
}

// notePID writes which process lives in dir: beside it, as what lives there may write into it. The ID
// may be another's by the time it is read, its start time tells.
func notePID(dir string, pid int) error {
	return os.WriteFile(dir+pidSuffix, []byte(strconv.Itoa(pid)+" "+startTime(pid)), 0o600)
}

// startTime returns when a process began, in ticks since boot, or "" if there is none.
func startTime(pid int) string {
	if f := statFields(pid); len(f) > 19 {
		return f[19]
	}
	return ""
}

// statFields returns the fields of /proc/PID/stat after the program's name: state is the first.
func statFields(pid int) []string {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return nil
	}
	i := bytes.LastIndexByte(b, ')')
	if i < 0 {
		return nil
	}
	return strings.Fields(string(b[i+1:]))
}
