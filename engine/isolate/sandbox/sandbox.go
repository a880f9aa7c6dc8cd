// Package sandbox starts a runtime for foreign code behind walls: namespaces, a private root, a user
// of its own, no capability, Landlock, seccomp and resource limits.
//
// The walls are built by our own program: Command starts it again under a hidden name, Main
// recognises that, builds the walls around itself and then becomes the runtime. So the process that
// Command describes is the runtime, with nothing of ours in between. Inside, the file system holds
// the runtime with its libraries, four devices, RunDir and Objects, and nothing else: all I/O goes
// through the sockets in RunDir and the files handed over.
//
// A wall that the host forbids is left out and said in the Report of Probe; a wall that the report
// promises and that cannot be built ends the start.
package sandbox

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
)

// Names of the walls, as they stand in a Report.
const (
	WallUser     = "user"            // a user ID per tenant, or a user namespace if the node is not root
	WallPID      = "pid namespace"   // no other process can be seen or signalled
	WallMount    = "private root"    // a mount namespace with a root that holds only what is needed
	WallIPC      = "ipc namespace"   // no System V memory, no message queues of others
	WallUTS      = "uts namespace"   // the host's name is not visible
	WallNet      = "net namespace"   // no network, no abstract unix sockets of others
	WallLandlock = "landlock"        // the kernel checks every path once more
	WallSeccomp  = "seccomp"         // only the system calls that a runtime needs, unix sockets only
	WallCgroup   = "cgroup memory"   // memory.max of an own cgroup
	WallPrivs    = "no privileges"   // no capability, none to be gained
	WallLimits   = "resource limits" // memory, files, no core dumps
)

// Spec says what to start and what it may reach.
type Spec struct {
	Runtime string   // path of the executable
	Args    []string // its arguments, without its name
	RunDir  string   // directory for its sockets; must exist
	Objects string   // directory it may keep files in; empty: none
	Tenant  string   // whose code it runs: children of other tenants get other user IDs

	// MemoryBytes is how much private memory the process may have; 0 is no limit.
	MemoryBytes int64
	ExtraFiles  []*os.File // become file descriptors 3, 4, ...
	// Walls is what Probe found. The zero value probes at each Command, which takes long.
	Walls Report
}

// hidden is the name under which our program runs to build the walls.
const hidden = "selvage-isolate"

// plan is what Command tells the process that builds the walls.
type plan struct {
	Probe     bool
	Walls     []string // to be built, by name
	Runtime   string
	Libraries []string
	Loader    string
	Args      []string
	Run       string
	Objects   string
	ID        int // user and group to become, 0: stay
	Data      uint64
	Keep      int // first file descriptor that is not handed on

	rules int // Landlock's rule set, once it is made
	file  int // the runtime, once it is open
}

// Command returns the command that runs spec behind the walls of spec.Walls. The caller sets
// standard input and output, starts it from a goroutine that is not locked to its thread (the child
// dies with the thread that started it) and calls Release when it has ended.
// RunDir, the sockets in it and Objects are given to the tenant's user; for sockets made later see Own.
func Command(ctx context.Context, spec Spec) (*exec.Cmd, error) {
	walls := spec.Walls
	if len(walls.Walls) == 0 {
		walls = Probe(ctx)
	}
	spec.Walls = walls
	runtimePath, err := filepath.Abs(spec.Runtime)
	if err != nil {
		return nil, err
	}
	if runtimePath, err = filepath.EvalSymlinks(runtimePath); err != nil {
		return nil, fmt.Errorf("find the runtime: %w", err)
	}
	p := plan{
		Walls: walls.on(), Runtime: runtimePath, Args: spec.Args,
		ID: walls.id(spec.Tenant), Keep: 3 + len(spec.ExtraFiles),
	}
	if p.Loader, p.Libraries, err = libraries(runtimePath); err != nil {
		return nil, fmt.Errorf("find the libraries of %s: %w", runtimePath, err)
	}
	if p.Run, err = filepath.Abs(spec.RunDir); err != nil {
		return nil, err
	}
	if spec.Objects != "" {
		if p.Objects, err = filepath.Abs(spec.Objects); err != nil {
			return nil, err
		}
	}
	if spec.MemoryBytes > 0 {
		p.Data = uint64(spec.MemoryBytes) + reserved()
	}
	if err := spec.handOver(p.ID); err != nil {
		return nil, err
	}
	cmd, err := command(ctx, p, walls.cloneFlags())
	if err != nil {
		return nil, err
	}
	cmd.ExtraFiles = spec.ExtraFiles
	if walls.Has(WallCgroup) && spec.MemoryBytes > 0 {
		if err := enclose(cmd, walls.Cgroup, spec.MemoryBytes); err != nil {
			return nil, fmt.Errorf("make a cgroup: %w", err)
		}
	}
	return cmd, nil
}

// Paths returns where the child sees RunDir and Objects: /run and /objects in a private root, the
// outside's paths without one. Whoever writes its configuration uses these.
func (s *Spec) Paths() (run, objects string) {
	if s.Walls.Has(WallMount) {
		if s.Objects != "" {
			objects = "/objects"
		}
		return "/run", objects
	}
	return s.RunDir, s.Objects
}

// Own gives path, such as a socket in RunDir made after Command, to the tenant's user.
func (s *Spec) Own(path string) error {
	if id := s.Walls.id(s.Tenant); id != 0 {
		return os.Lchown(path, id, id)
	}
	return nil
}

// handOver makes RunDir and Objects the tenant's. Objects is walked only if it does not belong to
// the tenant yet, as after a restore: everything in it that the child made is its own.
func (s *Spec) handOver(id int) error {
	if id == 0 {
		return nil
	}
	entries, err := os.ReadDir(s.RunDir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := os.Lchown(filepath.Join(s.RunDir, e.Name()), id, id); err != nil {
			return err
		}
	}
	if err := os.Chown(s.RunDir, id, id); err != nil || s.Objects == "" {
		return err
	}
	info, err := os.Stat(s.Objects)
	if err != nil {
		return err
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && int(st.Uid) == id {
		return nil
	}
	// The directory itself comes last: a walk cut short is done again.
	err = filepath.WalkDir(s.Objects, func(path string, _ os.DirEntry, err error) error {
		if err != nil || path == s.Objects {
			return err
		}
		return os.Lchown(path, id, id)
	})
	if err != nil {
		return err
	}
	return os.Chown(s.Objects, id, id)
}

// command describes our own program, started again to build the walls of p.
func command(ctx context.Context, p plan, flags uintptr) (*exec.Cmd, error) {
	arg, err := json.Marshal(p)
	if err != nil {
		return nil, err
	}
	// Not os.Executable: its name may stand for a newer program by now, or for none.
	cmd := exec.CommandContext(ctx, "/proc/self/exe")
	cmd.Args = []string{hidden, string(arg)}
	cmd.Env = []string{"GOGC=off", "GOMAXPROCS=1", "GOTRACEBACK=none"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags, Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if flags&syscall.CLONE_NEWUSER != 0 {
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
	}
	return cmd, nil
}

// The IDs that tenants get: far above what distributions hand out to users and containers, and
// below 2^31, where some file systems stop.
const (
	firstID = 1_100_000_000
	countID = 900_000_000
)

// tenantID returns the user and group ID of a tenant: always the same, as files belong to it.
func tenantID(tenant string, first, count uint32) int {
	h := fnv.New32a()
	h.Write([]byte(tenant))
	return int(first + h.Sum32()%count)
}

// reserved is the private writable memory that the runtime maps without using it, and that RLIMIT_DATA
// counts all the same: V8's code range, its tables, the program's own data, the stacks of its threads
// (one for each core but one, 16 at most), and what tcmalloc takes, by the GiB: the first, and one to go
// on in where the first is in pieces.
func reserved() uint64 {
	const codeRange, data, stack, allocator = 512 << 20, 32 << 20, 8 << 20, 2 << 30
	return codeRange + data + allocator + stack*uint64(min(runtime.NumCPU(), 16))
}
