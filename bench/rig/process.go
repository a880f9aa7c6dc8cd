package rig

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// CPU returns the user and system time that a process and its descendants have used, with those that
// ended.
func CPU(pid int) time.Duration { return used(Tree(pid), 4) }

// OwnCPU returns the user and system time that these processes have used themselves.
func OwnCPU(pids ...int) time.Duration { return used(pids, 2) }

// used adds up the first fields of utime, stime, cutime, cstime; the latter are of children that
// ended and were waited for.
func used(pids []int, fields int) time.Duration {
	const tick = time.Second / 100 // USER_HZ is 100 on every Linux that Go runs on
	var ticks int64
	for _, p := range pids {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p))
		if err != nil {
			continue
		}
		// The command's name may hold anything; fields count from behind its parenthesis.
		for _, f := range strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))[11 : 11+fields] {
			n, _ := strconv.ParseInt(f, 10, 64)
			ticks += n
		}
	}
	return time.Duration(ticks) * tick
}

// RSS returns the resident memory of a process and its descendants in bytes.
func RSS(pid int) int64 {
	var sum int64
	for _, p := range Tree(pid) {
		data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/statm", p))
		if fields := strings.Fields(string(data)); len(fields) > 1 {
			pages, _ := strconv.ParseInt(fields[1], 10, 64)
			sum += pages * int64(os.Getpagesize())
		}
	}
	return sum
}

// Memory is what processes hold, in bytes. PSS counts a page shared by two processes half to each.
type Memory struct{ RSS, PSS, PrivateDirty int64 }

// MemoryOf adds up the memory of processes. It asks the kernel to walk all their pages: dear.
func MemoryOf(pids ...int) Memory {
	var m Memory
	for _, p := range pids {
		data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", p))
		for line := range strings.Lines(string(data)) {
			name, value, _ := strings.Cut(line, ":")
			kb, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
			switch name {
			case "Rss":
				m.RSS += kb << 10
			case "Pss":
				m.PSS += kb << 10
			case "Private_Dirty":
				m.PrivateDirty += kb << 10
			}
		}
	}
	return m
}

// Tree returns pid and its descendants.
func Tree(pid int) []int {
	all := []int{pid}
	for i := 0; i < len(all); i++ {
		threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", all[i]))
		for _, t := range threads {
			data, _ := os.ReadFile(t)
			for _, f := range strings.Fields(string(data)) {
				child, _ := strconv.Atoi(f)
				all = append(all, child)
			}
		}
	}
	return all
}
