package node

import (
	"os"
	"runtime/debug"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// limits are what the machine lets the node have.
type limits struct {
	memory int64  // soft limit of the Go heap and stacks in bytes
	files  uint64 // open files, sockets included
}

// wantFiles is how many files a busy node may need: two sockets for each of many connections.
const wantFiles = 1 << 20

// setLimits tells the runtime how much memory there is, so that a burst makes it collect rather than
// be killed, and raises the limit on open files as far as the system lets it.
func setLimits(c Config) limits {
	l := limits{memory: c.MemoryLimit}
	if l.memory == 0 {
		l.memory = machineMemory() / 4 * 3
	}
	if os.Getenv("GOMEMLIMIT") == "" && l.memory > 0 {
		debug.SetMemoryLimit(l.memory)
	}
	var files unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &files) != nil {
		return l
	}
	wanted := unix.Rlimit{Cur: max(files.Max, wantFiles), Max: max(files.Max, wantFiles)}
	if unix.Setrlimit(unix.RLIMIT_NOFILE, &wanted) != nil {
		// Only root may go over the hard limit; up to it everyone may.
		wanted = unix.Rlimit{Cur: files.Max, Max: files.Max}
		unix.Setrlimit(unix.RLIMIT_NOFILE, &wanted)
	}
	unix.Getrlimit(unix.RLIMIT_NOFILE, &files)
	l.files = files.Cur
	return l
}

// machineMemory returns the bytes this process may use: the cgroup's limit or the machine's memory,
// 0 if neither is known.
func machineMemory() int64 {
	var info unix.Sysinfo_t
	total := int64(0)
	if unix.Sysinfo(&info) == nil {
		total = int64(info.Totalram) * int64(info.Unit)
	}
	for _, path := range []string{"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"} {
		b, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
		if err == nil && n > 0 && (total == 0 || n < total) {
			return n
		}
	}
	return total
}
