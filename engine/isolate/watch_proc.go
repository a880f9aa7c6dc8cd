package isolate

import (
	"bytes"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

func statPath(pid int) string { return "/proc/" + strconv.Itoa(pid) + "/stat" }

// processCPU returns what a process has used so far, to the nanosecond.
func processCPU(pid int) (time.Duration, error) {
	// The clock of another process's CPU time; see clock_getcpuclockid(3).
	const scheduled = 2
	var t unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|scheduled), &t); err != nil {
		return 0, err
	}
	return time.Duration(t.Nano()), nil
}

// status returns the state of the child's main thread as a letter of ps, 0 if it cannot be known,
// and its resident memory in bytes.
func (g *guard) status() (state byte, rss int64) {
	if g.stat == nil {
		return 0, 0
	}
	var buf [1024]byte
	n, err := g.stat.ReadAt(buf[:], 0)
	if n == 0 && err != nil {
		return 0, 0
	}
	// The name may hold anything; the rest begins behind its last bracket.
	_, line, found := bytes.Cut(buf[bytes.LastIndexByte(buf[:n], ')')+1:n], []byte(" "))
	if !found || len(line) == 0 {
		return 0, 0
	}
	state = line[0]
	const rssField = 21 // after the name
	for range rssField {
		if _, line, found = bytes.Cut(line, []byte(" ")); !found {
			return state, 0
		}
	}
	field, _, _ := bytes.Cut(line, []byte(" "))
	pages, _ := strconv.ParseInt(string(field), 10, 64)
	return state, pages * int64(os.Getpagesize())
}
