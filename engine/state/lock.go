package state

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"selvage/foundation/fault"
)

// dirLock keeps other processes out of a directory. The kernel lets go of it when the process ends,
// however it ends.
type dirLock struct{ file *os.File }

// lockDir takes the lock of dir, waiting at most wait for another process to let go of it.
func lockDir(dir string, wait time.Duration) (*dirLock, error) {
	file, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the lock of %s: %w", dir, err)
	}
	for deadline := time.Now().Add(wait); ; time.Sleep(10 * time.Millisecond) {
		err = unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			break
		}
		if errors.Is(err, unix.EWOULDBLOCK) && time.Now().Before(deadline) {
			continue
		}
		defer file.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fault.New(fault.Conflict, "Another node runs on %s (%s). Stop it first, or choose another directory.", dir, owner(file))
		}
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	}
	// The number is only for people: a full disk must not keep the node from starting.
	if file.Truncate(0) == nil {
		file.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	return &dirLock{file}, nil
}

func owner(file *os.File) string {
	text, _ := io.ReadAll(io.LimitReader(file, 32))
	if pid := strings.TrimSpace(string(text)); pid != "" {
		return "pid " + pid
	}
	return "pid unknown"
}

// release lets go of the directory. A nil lock has nothing to let go of.
func (l *dirLock) release() {
	if l != nil {
		l.file.Close()
	}
}
