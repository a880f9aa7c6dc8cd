package node_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"selvage/engine/state/powercut"
)

// TestObjectsSurvivePowerCuts counts on a disk whose power is cut 10 times. What was acknowledged is in
// the databases afterwards, read as a backup would.
func TestObjectsSurvivePowerCuts(t *testing.T) {
	powercut.Cut(t, powercut.Plan{
		Rounds:  10,
		Writing: 150 * time.Millisecond,
		Writer:  func(dir string, round int, ack func(string)) error { return countUntilCut(t, dir, round, ack) },
		Verify:  countsKept,
	})
}

// countUntilCut runs a node on dir and counts with its objects until a request fails.
func countUntilCut(t *testing.T, dir string, round int, ack func(string)) error {
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
		return err
	}
	go func() { p.ended <- p.cmd.Wait() }()
	p.awaitReady(0)
	var s *site
	if round == 0 {
		s = deployObjects(t, p)
	} else {
		s = siteOf(t, p, "objects")
	}
	var mu sync.Mutex // held while acknowledging
	var work sync.WaitGroup
	for _, path := range countedObjects {
		work.Go(func() {
			for {
				status, body, err := s.ask(path)
				var n int
				if _, scan := fmt.Sscanf(body, `{"n":%d,`, &n); err != nil || status != 200 || scan != nil {
					return
				}
				mu.Lock()
				ack(fmt.Sprintf("%s %d", path, n))
				mu.Unlock()
			}
		})
	}
	work.Wait()
	return fmt.Errorf("the objects count no more:\n%s", p.log)
}

// countsKept compares what was acknowledged with the databases. Numbers are acknowledged once.
func countsKept(dir string, acked []string) error {
	most, seen := 0, map[string]bool{}
	for _, name := range acked {
		var n int
		fmt.Sscanf(name[strings.IndexByte(name, ' ')+1:], "%d", &n)
		if seen[name] {
			return fmt.Errorf("%s was acknowledged twice", name)
		}
		seen[name], most = true, max(most, n)
	}
	files, err := filepath.Glob(filepath.Join(dir, "data", "objects", "*", "*", strings.Repeat("?", 64)+".sqlite"))
	if err != nil {
		return err
	}
	highest, sum := 0, 0
	for _, file := range files {
		n, err := storedCount(file)
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		highest, sum = max(highest, n), sum+n
	}
	if highest < most || sum < len(acked) {
		return fmt.Errorf("%d increments up to %d were acknowledged, %d up to %d are stored", len(acked), most, sum, highest)
	}
	return nil
}

// storedCount reads the count in the database of an object, of a class of either kind.
func storedCount(file string) (count int, err error) {
	conn, err := sqlite.OpenConn(file, sqlite.OpenReadWrite)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	sound := ""
	err = sqlitex.ExecuteTransient(conn, "PRAGMA integrity_check", &sqlitex.ExecOptions{ResultFunc: func(s *sqlite.Stmt) error {
		sound += s.ColumnText(0)
		return nil
	}})
	if err != nil || sound != "ok" {
		return 0, fmt.Errorf("integrity check: %s %w", sound, err)
	}
	read := func(query string, found func(s *sqlite.Stmt)) {
		if err == nil {
			err = sqlitex.ExecuteTransient(conn, query, &sqlitex.ExecOptions{ResultFunc: func(s *sqlite.Stmt) error { found(s); return nil }})
		}
	}
	rows, pairs := false, false // neither if the power went before the first write
	read("SELECT name = 'kept' FROM sqlite_schema WHERE name IN ('kept', '_cf_KV')", func(s *sqlite.Stmt) {
		rows, pairs = rows || s.ColumnBool(0), pairs || !s.ColumnBool(0)
	})
	if rows {
		read("SELECT value FROM kept WHERE name = 'n'", func(s *sqlite.Stmt) { count = s.ColumnInt(0) })
		return count, err
	}
	if pairs {
		var value []byte
		read("SELECT value FROM _cf_KV WHERE key = 'n'", func(s *sqlite.Stmt) {
			value = make([]byte, s.ColumnLen(0))
			s.ColumnBytes(0, value)
		})
		if err == nil && value != nil {
			count, err = v8Int(value)
		}
	}
	return count, err
}

// v8Int reads a small number as V8 writes it: after the header the tag I and a zigzag varint.
func v8Int(b []byte) (int, error) {
	at := strings.IndexByte(string(b), 'I')
	if at < 0 {
		return 0, fmt.Errorf("no integer in % x", b)
	}
	n, shift := uint64(0), 0
	for _, x := range b[at+1:] {
		n |= uint64(x&0x7f) << shift
		shift += 7
	}
	return int(n >> 1), nil
}
