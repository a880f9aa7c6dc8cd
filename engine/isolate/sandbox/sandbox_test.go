package sandbox_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"selvage/engine/isolate/sandbox"
)

func TestMain(m *testing.M) {
	if sandbox.Main() {
		return
	}
	code := m.Run()
	if program, err := prison(); err == nil && os.Getenv(prisonVariable) == "" {
		os.RemoveAll(filepath.Dir(program))
	}
	os.Exit(code)
}

// report is what this host offers, found out once.
var report = sync.OnceValue(func() sandbox.Report { return sandbox.Probe(context.Background()) })

// prisonVariable names the program for a test process that cannot build it.
const prisonVariable = "SANDBOX_TEST_PRISONER"

// prison is a program that tries to get out, built once.
var prison = sync.OnceValues(func() (string, error) {
	if program := os.Getenv(prisonVariable); program != "" {
		return program, nil
	}
	dir, err := os.MkdirTemp("", "prison-")
	if err != nil {
		return "", err
	}
	cmd := exec.Command("go", "build", "-o", dir, "./testdata/prisoner")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	cmd.Stderr = os.Stderr
	return filepath.Join(dir, "prisoner"), cmd.Run()
})

// cell is a place for one prisoner.
type cell struct {
	t    *testing.T
	spec sandbox.Spec
}

func newCell(t *testing.T, tenant string, walls sandbox.Report) *cell {
	t.Helper()
	program, err := prison()
	if err != nil {
		t.Fatal(err)
	}
	dir := shortDir(t)
	c := &cell{t, sandbox.Spec{Runtime: program, RunDir: filepath.Join(dir, "run"), Objects: filepath.Join(dir, "objects"), Tenant: tenant, Walls: walls}}
	for _, d := range []string{c.spec.RunDir, c.spec.Objects} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// shortDir returns a directory whose path is short enough for unix sockets, open for other users to
// pass as the node's own must be where there is no private root.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "sb-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// try runs the prisoner with more attempts, lets look see it alive, and returns what it achieved.
func (c *cell) try(look func(pid int), attempts ...string) map[string]string {
	c.t.Helper()
	run, objects := c.spec.Paths()
	c.spec.Args = append([]string{"run=" + run, "objects=" + objects}, attempts...)
	r, w, err := os.Pipe()
	if err != nil {
		c.t.Fatal(err)
	}
	defer r.Close()
	if _, err := w.WriteString("handed"); err != nil {
		c.t.Fatal(err)
	}
	w.Close()
	c.spec.ExtraFiles = []*os.File{r}
	ctx, cancel := context.WithTimeout(c.t.Context(), 30*time.Second)
	defer cancel()
	cmd, err := sandbox.Command(ctx, c.spec)
	if err != nil {
		c.t.Fatal(err)
	}
	defer sandbox.Release(cmd)
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	in, _ := cmd.StdinPipe()
	out, _ := cmd.StdoutPipe()
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	tried := map[string]string{}
	err = json.NewDecoder(out).Decode(&tried)
	if err == nil && look != nil {
		look(cmd.Process.Pid)
	}
	in.Close()
	if werr := cmd.Wait(); err != nil || werr != nil {
		c.t.Fatalf("the prisoner said nothing: %v, %v: %s", err, werr, complaint.String())
	}
	return tried
}

// need fails the test if the host does not let us build all walls: it must, where tests run.
func need(t *testing.T) sandbox.Report {
	t.Helper()
	r := report()
	for _, w := range r.Walls {
		if !w.On && w.Name != sandbox.WallCgroup {
			t.Fatalf("this host has no %s: %s; run the tests as root, where namespaces may be made", w.Name, w.Why)
		}
	}
	return r
}

func TestNothingIsInReach(t *testing.T) {
	c := newCell(t, "tenant", need(t))
	other := newCell(t, "other", need(t))
	other.try(nil)
	abstract, err := net.Listen("unix", "@selvage-sandbox-test-"+strconv.Itoa(os.Getpid()))
	if err != nil {
		t.Fatal(err)
	}
	defer abstract.Close()
	outside, err := net.Listen("unix", filepath.Join(other.spec.RunDir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer outside.Close()

	steal := "read " + filepath.Join(other.spec.RunDir, "x")
	connect, abstractly, signal := "connect "+outside.Addr().String(), "connect "+abstract.Addr().String(), "signal "+strconv.Itoa(os.Getpid())
	tried := c.try(func(pid int) { privileges(t, pid) }, "read /etc/passwd", "read /proc/self/status", steal, connect, abstractly, signal)

	want := map[string]string{
		"write run": "ok", "write objects": "ok", "socket unix": "ok", "map code of the runtime": "ok", "walk": "ok", "fd 3": "handed",
		"write /": "EROFS", "write /dev": "EROFS", "write runtime": "EACCES",
		"map code from run": "EPERM", "mknod": "EPERM", "symlink": "EPERM", "chmod setuid": "EPERM",
		"socket inet": "EPERM", "socket inet6": "EPERM", "socket netlink": "EPERM", "socket packet": "EPERM", "socket vsock": "EPERM", "socket alg": "EPERM",
		"read /etc/passwd": "ENOENT", "read /proc/self/status": "ENOENT", steal: "ENOENT",
		connect: "ENOENT", abstractly: "ECONNREFUSED", signal: "EPERM",
		"mount": "EPERM", "chroot": "EPERM", "unshare user": "EPERM", "setuid": "EPERM", "hostname": "EPERM", "ptrace": "EPERM",
		"fork": "EPERM", "clone3": "ENOSYS", "bpf": "EPERM", "keyctl": "EPERM", "perf": "EPERM", "io_uring": "EPERM", "userfaultfd": "EPERM",
		"process_vm_readv": "EPERM", "open_by_handle": "EPERM", "memfd": "EPERM", "settime": "EPERM", "raise a limit": "EPERM",
		"core limit": "0", "pid": "1", "host": "isolate",
	}
	expect(t, tried, want)
	for _, file := range strings.Fields(tried["files"]) {
		if file != c.spec.Runtime && file != "/proc/self/exe" && !strings.HasPrefix(file, "/dev/") && !strings.HasPrefix(file, "/run/") && !strings.HasPrefix(file, "/objects/") {
			t.Errorf("%s is visible", file)
		}
	}
}

func expect(t *testing.T, tried, want map[string]string) {
	t.Helper()
	for what, answer := range want {
		if tried[what] != answer {
			t.Errorf("%s: %s, want %s", what, tried[what], answer)
		}
	}
}

// privileges looks at a prisoner from outside.
func privileges(t *testing.T, pid int) {
	t.Helper()
	status, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		t.Error(err)
	}
	none := "0000000000000000"
	want := map[string]string{"CapInh": none, "CapPrm": none, "CapEff": none, "CapBnd": none, "CapAmb": none, "NoNewPrivs": "1", "Seccomp": "2"}
	for line := range strings.Lines(string(status)) {
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		if w := want[name]; w != "" && value != w {
			t.Errorf("%s is %s, want %s", name, value, w)
		}
		if os.Geteuid() == 0 && name == "Uid" && (strings.HasPrefix(value, "0\t") || strings.Contains(value, "\t0\t")) {
			t.Errorf("it runs as user %s", value)
		}
	}
}

// Each wall stands for itself: behind the others alone, most doors are shut as well.
func TestWallsDoNotLeanOnSeccomp(t *testing.T) {
	c := newCell(t, "tenant", need(t))
	c.spec.Walls = c.spec.Walls.Without(sandbox.WallSeccomp)
	tried := c.try(nil, "signal "+strconv.Itoa(os.Getpid()))
	expect(t, tried, map[string]string{
		"send inet": "ENETUNREACH", "mount": "EPERM", "chroot": "EPERM", "hostname": "EPERM", "setuid": "EPERM", "mknod": "EACCES",
		"write /": "EROFS", "signal " + strconv.Itoa(os.Getpid()): "ESRCH",
	})
}

func TestExecutionEndsTheChild(t *testing.T) {
	c := newCell(t, "tenant", need(t))
	c.spec.Args = []string{"exec"}
	cmd, err := sandbox.Command(t.Context(), c.spec)
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.Output()
	exit, ok := err.(*exec.ExitError)
	if !ok || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGSYS {
		t.Errorf("execve: %v, %s, want death by SIGSYS", err, out)
	}
}

func TestTenantsHaveUsersOfTheirOwn(t *testing.T) {
	r := need(t)
	one, again, two := newCell(t, "one", r).try(nil)["uid"], newCell(t, "one", r).try(nil)["uid"], newCell(t, "two", r).try(nil)["uid"]
	if os.Geteuid() == 0 && (one != again || one == two || one == "0") {
		t.Errorf("users of tenants one, one, two = %s, %s, %s", one, again, two)
	}
}

func TestMemoryIsLimited(t *testing.T) {
	c := newCell(t, "tenant", need(t))
	c.spec.MemoryBytes = 64 << 20
	expect(t, c.try(nil, "allocate 32", "allocate 4096"), map[string]string{"allocate 32": "ok", "allocate 4096": "ENOMEM"})
}

// TestDegraded leaves out each wall, as a host might, and all of them.
func TestDegraded(t *testing.T) {
	r := need(t)
	var all []string
	for _, w := range r.Walls {
		all = append(all, w.Name)
		t.Run(w.Name, func(t *testing.T) {
			tried := newCell(t, "tenant", r.Without(w.Name)).try(nil)
			expect(t, tried, map[string]string{"write run": "ok", "write objects": "ok", "fd 3": "handed"})
			hello(t, r.Without(w.Name))
		})
	}
	t.Run("all", func(t *testing.T) {
		hello(t, r.Without(all...))
	})
}

func TestChildDiesWithContext(t *testing.T) {
	c := newCell(t, "tenant", need(t))
	ctx, cancel := context.WithCancel(t.Context())
	cmd, err := sandbox.Command(ctx, c.spec)
	if err != nil {
		t.Fatal(err)
	}
	in, _ := cmd.StdinPipe()
	defer in.Close()
	out, _ := cmd.StdoutPipe()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var tried map[string]string
	if err := json.NewDecoder(out).Decode(&tried); err != nil {
		t.Fatal(err)
	}
	cancel()
	_, _ = io.Copy(io.Discard, out)
	if err := cmd.Wait(); err == nil {
		t.Error("it ended well")
	}
}

// TestWithoutRoot runs the tests that matter as a user without rights, who builds the walls in a
// user namespace.
func TestWithoutRoot(t *testing.T) {
	if os.Geteuid() != 0 {
		return // the others are that already
	}
	need(t)
	program, err := prison()
	if err != nil {
		t.Fatal(err)
	}
	runtime, err := filepath.EvalSymlinks(runtimePath())
	if err != nil {
		t.Fatal(err)
	}
	dir := shortDir(t)
	// Where go test and make engines put them, that user may not pass.
	for name, from := range map[string]string{"test": "/proc/self/exe", "prisoner": program, "workerd": runtime} {
		if err := copyProgram(filepath.Join(dir, name), from); err != nil {
			t.Fatal(err)
		}
	}
	const nobody = 65534
	temporary := filepath.Join(dir, "t")
	if err := errors.Join(os.Mkdir(temporary, 0o700), os.Chown(temporary, nobody, nobody)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), filepath.Join(dir, "test"), "-test.run=^(TestNothingIsInReach|TestMemoryIsLimited|TestRuntimeServes)$", "-test.v")
	cmd.Dir = dir
	cmd.Env = []string{prisonVariable + "=" + filepath.Join(dir, "prisoner"), "SELVAGE_WORKERD=" + filepath.Join(dir, "workerd"), "TMPDIR=" + temporary}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	out, err := cmd.CombinedOutput()
	if err != nil || bytes.Count(out, []byte("--- PASS")) != 3 {
		t.Errorf("as user %d: %v\n%s", nobody, err, out)
	}
}

func copyProgram(to, from string) error {
	r, err := os.Open(from)
	if err != nil {
		return err
	}
	defer r.Close()
	w, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(w, r)
	return errors.Join(err, w.Close())
}

// BenchmarkStart measures from the decision to start a program to its end, behind walls and, for
// comparison, without.
func BenchmarkStart(b *testing.B) {
	const program = "/usr/bin/true"
	dir := b.TempDir()
	r := report()
	b.Run("plain", func(b *testing.B) {
		for b.Loop() {
			if err := exec.Command(program).Run(); err != nil {
				b.Fatal(err)
			}
		}
	})
	for _, without := range append([]string{""}, sandbox.WallNet, sandbox.WallMount, sandbox.WallPID) {
		b.Run("walls without "+without, func(b *testing.B) {
			for b.Loop() {
				cmd, err := sandbox.Command(b.Context(), sandbox.Spec{Runtime: program, RunDir: dir, Tenant: "t", Walls: r.Without(without)})
				if err != nil {
					b.Fatal(err)
				}
				if err := cmd.Run(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
