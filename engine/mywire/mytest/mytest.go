// Package mytest runs a real MariaDB for tests.
package mytest

import (
	"bytes"
	"database/sql"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	_ "github.com/go-sql-driver/mysql" // the driver of sql.Open
)

// Server is a running MariaDB. At Socket root needs no password; the user "app" has the password "secret"
// and all rights on the database "app".
type Server struct {
	Socket string
	Port   int // on 127.0.0.1
	t      testing.TB
	dir    string
	cmd    *exec.Cmd
	out    bytes.Buffer
}

// Start starts a server, which ends with the test.
func Start(t testing.TB) *Server {
	t.Helper()
	dir, err := os.MkdirTemp("", "my") // short, for the names of sockets are bounded
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{t: t, dir: dir, Socket: filepath.Join(dir, "s"), Port: l.Addr().(*net.TCPAddr).Port}
	l.Close()
	t.Cleanup(func() {
		s.Stop()
		os.RemoveAll(dir)
	})
	install := exec.Command("mariadb-install-db", append(s.options(), "--auth-root-authentication-method=normal", "--skip-test-db")...)
	if out, err := install.CombinedOutput(); err != nil {
		t.Fatalf("mariadb-install-db: %v\n%s", err, out)
	}
	s.Run()
	db := s.root()
	defer db.Close()
	for _, q := range []string{"CREATE DATABASE app", "CREATE DATABASE other", "CREATE USER app IDENTIFIED BY 'secret'", "GRANT ALL ON app.* TO app", "GRANT ALL ON other.* TO app", "GRANT PROCESS ON *.* TO app"} {
		if _, err := db.Exec(q); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func (s *Server) options() []string {
	o := []string{"--no-defaults", "--datadir=" + filepath.Join(s.dir, "data")}
	if os.Geteuid() == 0 {
		o = append(o, "--user=root")
	}
	return o
}

// Run runs a server that was stopped, and waits until it answers.
func (s *Server) Run() {
	s.t.Helper()
	s.cmd = exec.Command("mariadbd", append(s.options(), "--socket="+s.Socket, "--bind-address=127.0.0.1", "--port="+strconv.Itoa(s.Port), "--max-allowed-packet=64M", "--max-connections=300")...)
	s.cmd.Stdout, s.cmd.Stderr = &s.out, &s.out
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	db := s.root()
	defer db.Close()
	for began := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		err := db.Ping()
		if err == nil {
			return
		}
		if time.Since(began) > time.Minute {
			s.t.Fatalf("MariaDB does not start: %v\n%s", err, s.out.String())
		}
	}
}

func (s *Server) root() *sql.DB {
	db, err := sql.Open("mysql", "root@unix("+s.Socket+")/")
	if err != nil {
		s.t.Fatal(err)
	}
	return db
}

// Stop kills the server.
func (s *Server) Stop() {
	if s.cmd != nil {
		s.cmd.Process.Kill()
		s.cmd.Wait()
		s.cmd = nil
	}
}
