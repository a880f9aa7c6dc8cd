package isolate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"selvage/engine/isolate/sandbox"
)

// process is a runtime that waits for its configuration, or has it.
type process struct {
	cmd     *exec.Cmd
	dir     string // its run directory, as we see it
	spec    sandbox.Spec
	walled  bool
	config  *os.File // its stdin
	control *os.File // it reports here that it listens
	said    *said
	done    chan struct{} // closed when it has ended
	state   *os.ProcessState
}

// start says how a process begins.
type start struct {
	tenant  string // empty for a spare, which gets an identity of its own
	objects string
	lock    *os.File // handed on, to be held as long as the process lives; may be nil
	public  bool     // without what the runtime calls experimental, as our dispatcher is
}

// launch starts a process that waits for its configuration.
func (h *Host) launch(s start) (*process, error) {
	id := h.serial.Add(1)
	p := &process{dir: filepath.Join(h.dir, "c"+strconv.FormatUint(id, 10)), said: &said{}, done: make(chan struct{})}
	if err := os.MkdirAll(p.dir, 0o711); err != nil { // somebody may clean up /run
		return nil, err
	}
	if s.tenant == "" {
		s.tenant = "spare " + strconv.FormatUint(id, 10)
	}
	if err := p.start(h, s); err != nil {
		p.remove()
		return nil, fmt.Errorf("start %s: %w", h.o.Runtime, err)
	}
	return p, nil
}

func (p *process) start(h *Host, s start) (err error) {
	var ends []*os.File // the child's
	defer func() {
		for _, f := range ends {
			f.Close()
		}
		if err != nil {
			p.closePipes()
		}
	}()
	in, config, err := os.Pipe()
	if err != nil {
		return err
	}
	ends, p.config = append(ends, in), config
	control, out, err := os.Pipe()
	if err != nil {
		return err
	}
	ends, p.control = append(ends, out), control
	stderr, say, err := os.Pipe()
	if err != nil {
		return err
	}
	ends = append(ends, say)
	p.spec = sandbox.Spec{
		Runtime: h.o.Runtime, RunDir: p.dir, Objects: s.objects, Tenant: s.tenant, MemoryBytes: 4 * h.o.Memory,
		Args:       []string{"serve", "--binary", "--control-fd=3", "--experimental", "-"},
		ExtraFiles: []*os.File{out}, Walls: h.o.Walls,
	}
	if s.public {
		p.spec.Args = []string{"serve", "--binary", "--control-fd=3", "-"}
	}
	if s.lock != nil {
		p.spec.ExtraFiles = append(p.spec.ExtraFiles, s.lock)
	}
	p.walled = len(h.o.Walls.Walls) > 0
	if p.cmd, err = p.command(); err != nil {
		stderr.Close()
		return err
	}
	p.cmd.Stdin, p.cmd.Stderr = in, say
	if err := h.starter.start(p.cmd); err != nil {
		stderr.Close()
		return err
	}
	h.work.Go(func() { p.wait(stderr) })
	if err := notePID(p.dir, p.cmd.Process.Pid); err != nil {
		p.kill()
		return err
	}
	return nil
}

func (p *process) command() (*exec.Cmd, error) {
	if p.walled {
		return sandbox.Command(context.Background(), p.spec)
	}
	cmd := exec.Command(p.spec.Runtime, p.spec.Args...)
	cmd.Env = []string{"TZ=UTC"}
	cmd.ExtraFiles = p.spec.ExtraFiles
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	return cmd, nil
}

// wait collects what it says until it has ended.
func (p *process) wait(stderr *os.File) {
	io.Copy(p.said, stderr)
	stderr.Close()
	p.cmd.Wait()
	p.state = p.cmd.ProcessState
	if p.walled {
		sandbox.Release(p.cmd)
	}
	close(p.done)
}

// layout says how the process sees its directories.
func (p *process) layout(memory int64) layout {
	l := layout{run: p.dir, objects: p.spec.Objects, memory: memory}
	if p.walled {
		l.run, l.objects = p.spec.Paths()
	}
	return l
}

// own lets the process use a socket that was made for it.
func (p *process) own(path string) error {
	if !p.walled {
		return nil
	}
	return p.spec.Own(path)
}

// feed gives the process its configuration and waits until it listens at so many sockets.
func (p *process) feed(ctx context.Context, config []byte, sockets int) error {
	stop := context.AfterFunc(ctx, func() { p.closePipes() })
	defer stop()
	defer p.closePipes()
	if _, err := io.Copy(p.config, bytes.NewReader(config)); err != nil {
		return err
	}
	p.config.Close()
	buf := make([]byte, 0, 4<<10)
	for bytes.Count(buf, []byte("\n")) < sockets {
		n, err := p.control.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if err != nil {
			return err
		}
		if len(buf) == cap(buf) {
			buf = append(buf, 0)[:len(buf)]
		}
	}
	return nil
}

func (p *process) closePipes() {
	for _, f := range []*os.File{p.config, p.control} {
		if f != nil {
			f.Close()
		}
	}
}

func (p *process) pid() int { return p.cmd.Process.Pid }

func (p *process) kill() { p.cmd.Process.Kill() }

// end asks the process to finish, and kills it if it has not after a while.
func (p *process) end(grace time.Duration) {
	p.cmd.Process.Signal(syscall.SIGTERM)
	t := time.NewTimer(grace)
	defer t.Stop()
	select {
	case <-p.done:
	case <-t.C:
		p.kill()
		<-p.done
	}
}

// remove takes its directory away. It has ended, or never began.
func (p *process) remove() {
	p.closePipes()
	if p.cmd != nil && p.cmd.Process != nil {
		<-p.done
	}
	os.RemoveAll(p.dir)
	os.Remove(p.dir + pidSuffix)
}

// said keeps the first and the last of what a process writes to stderr.
type said struct {
	mu    sync.Mutex
	first []byte
	last  []byte
}

const saidSize = 8 << 10 // of each

// Write keeps b, or forgets the middle.
func (s *said) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(b)
	if room := saidSize - len(s.first); room > 0 {
		k := min(room, len(b))
		s.first = append(s.first, b[:k]...)
		b = b[k:]
	}
	s.last = append(s.last, b...)
	if len(s.last) > 2*saidSize {
		s.last = append(s.last[:0], s.last[len(s.last)-saidSize:]...)
	}
	return n, nil
}

// String returns what was kept.
func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.last) == 0 {
		return string(s.first)
	}
	return string(s.first) + "\n...\n" + string(s.last[max(0, len(s.last)-saidSize):])
}

// outOfMemory tells whether the runtime ended since a script's heap was full.
func (s *said) outOfMemory() bool {
	text := s.String()
	for _, sign := range []string{"JavaScript heap out of memory", "Fatal JavaScript", "out of memory", "allocation failed", "Cannot allocate memory"} {
		if strings.Contains(text, sign) {
			return true
		}
	}
	return false
}

// starter starts processes from one thread that lives as long as the host: the kernel ends a child
// when the thread that started it ends, and the runtime of Go ends threads as it likes.
type starter struct {
	requests chan startRequest
	gone     chan struct{}
	once     sync.Once
}

type startRequest struct {
	cmd  *exec.Cmd
	done chan error
}

func newStarter() *starter {
	s := &starter{requests: make(chan startRequest), gone: make(chan struct{})}
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with this goroutine
		for {
			select {
			case r := <-s.requests:
				r.done <- r.cmd.Start()
			case <-s.gone:
				return
			}
		}
	}()
	return s
}

func (s *starter) start(cmd *exec.Cmd) error {
	r := startRequest{cmd: cmd, done: make(chan error, 1)}
	select {
	case s.requests <- r:
		return <-r.done
	case <-s.gone:
		return errors.New("the host is closed")
	}
}

func (s *starter) close() { s.once.Do(func() { close(s.gone) }) }
