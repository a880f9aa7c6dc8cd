// Package pgtest runs a real PostgreSQL for tests: Debian's, in a temporary directory, on a port of
// its own, as a user without rights.
package pgtest

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Server is a running PostgreSQL. Its superuser is "owner" with Password; pg_hba.conf asks for it by
// SCRAM-SHA-256.
type Server struct {
	t    testing.TB
	bin  string
	dir  string
	Port int
	cmd  *exec.Cmd
	uid  int
	gid  int
	more []string
}

// Password is the superuser's.
const Password = "origin's sécret"

// Start starts a server that is gone when the test ends. settings are "name=value". Without
// PostgreSQL on this machine the test is skipped.
func Start(t testing.TB, settings ...string) *Server {
	t.Helper()
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if len(found) == 0 {
		t.Skip("PostgreSQL is not installed: hack/setup-tests does that")
	}
	s := &Server{t: t, bin: filepath.Dir(found[len(found)-1]), uid: os.Getuid(), gid: os.Getgid(), more: settings}
	if s.uid == 0 { // PostgreSQL does not run as root
		u, err := user.Lookup("nobody")
		if err != nil {
			t.Skip("there is no user nobody to run PostgreSQL as")
		}
		s.uid, _ = strconv.Atoi(u.Uid)
		s.gid, _ = strconv.Atoi(u.Gid)
	}
	var err error
	if s.dir, err = os.MkdirTemp("", "pg"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(s.dir) })
	if err := os.Chown(s.dir, s.uid, s.gid); err != nil {
		t.Fatal(err)
	}
	secret := filepath.Join(s.dir, "password")
	if err := os.WriteFile(secret, []byte(Password), 0o644); err != nil {
		t.Fatal(err)
	}
	s.tool("initdb", "-D", s.Data(), "-U", "owner", "--pwfile="+secret, "--auth=scram-sha-256", "-E", "UTF8", "--locale=C.UTF-8", "-N")
	s.Port = freePort(t)
	s.Up()
	t.Cleanup(s.Kill)
	return s
}

// Data is the directory of the server's files.
func (s *Server) Data() string { return filepath.Join(s.dir, "data") }

// Addr is where the server listens.
func (s *Server) Addr() string { return "127.0.0.1:" + strconv.Itoa(s.Port) }

// URL is a connection string for the superuser, past everything of ours.
func (s *Server) URL() string {
	return fmt.Sprintf("host=127.0.0.1 port=%d user=owner dbname=postgres sslmode=disable password='%s'", s.Port, strings.ReplaceAll(Password, "'", `\'`))
}

func (s *Server) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(s.bin, name), args...)
	cmd.Dir = s.dir
	if os.Getuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(s.uid), Gid: uint32(s.gid)}}
	}
	return cmd
}

func (s *Server) tool(name string, args ...string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if out, err := s.command(ctx, name, args...).CombinedOutput(); err != nil {
		s.t.Fatalf("%s: %v\n%s", name, err, out)
	}
}

// Up starts the server, if it does not run.
func (s *Server) Up() {
	s.t.Helper()
	args := []string{"-D", s.Data(), "-p", strconv.Itoa(s.Port), "-h", "127.0.0.1", "-k", s.dir, "-F", "-c", "shared_buffers=16MB", "-c", "max_connections=200"}
	for _, set := range s.more {
		args = append(args, "-c", set)
	}
	s.cmd = s.command(context.Background(), "postgres", args...)
	log, err := os.OpenFile(filepath.Join(s.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		s.t.Fatal(err)
	}
	defer log.Close()
	s.cmd.Stdout, s.cmd.Stderr = log, log
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		err := s.command(ctx, "pg_isready", "-h", "127.0.0.1", "-p", strconv.Itoa(s.Port)).Run()
		cancel()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			text, _ := os.ReadFile(filepath.Join(s.dir, "log"))
			s.t.Fatalf("PostgreSQL did not start:\n%s", text)
		}
	}
}

// Stop ends the server in good order, but at once (pg_ctl's "fast").
func (s *Server) Stop() { s.end(syscall.SIGINT) }

// Kill ends the server at once (pg_ctl's "immediate"): its processes vanish in the middle of what
// they do.
func (s *Server) Kill() { s.end(syscall.SIGQUIT) }

func (s *Server) end(sig syscall.Signal) {
	if s.cmd == nil || s.cmd.ProcessState != nil {
		return
	}
	_ = s.cmd.Process.Signal(sig)
	_ = s.cmd.Wait()
}

func freePort(t testing.TB) int {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// Own gives files in Data to the server's user.
func (s *Server) Own(names ...string) {
	s.t.Helper()
	for _, n := range names {
		if err := os.Chown(filepath.Join(s.Data(), n), s.uid, s.gid); err != nil {
			s.t.Fatal(err)
		}
	}
}

// Configure restarts the server with further settings.
func (s *Server) Configure(settings ...string) {
	s.t.Helper()
	s.Stop()
	s.more = append(s.more, settings...)
	s.Up()
}

// Access replaces pg_hba.conf by lines.
func (s *Server) Access(lines ...string) {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join(s.Data(), "pg_hba.conf"), []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		s.t.Fatal(err)
	}
	s.Stop() // a reload tells not when it is done
	s.Up()
}
