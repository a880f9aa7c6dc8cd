// Command prisoner stands in a runtime's place and tries to get out. It prints a JSON object: what
// it tried, and "ok" or the error.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

func main() {
	tried := map[string]string{}
	run, objects := "/run", "/objects"
	var rest []string
	for _, arg := range os.Args[1:] {
		switch {
		case arg == "exec":
			// Ends the process if seccomp holds.
			fmt.Println(syscall.Exec(os.Args[0], []string{"x"}, nil))
			return
		case strings.HasPrefix(arg, "run="):
			run = arg[4:]
		case strings.HasPrefix(arg, "objects="):
			objects = arg[8:]
		default:
			rest = append(rest, arg)
		}
	}
	files(tried, run, objects)
	sockets(tried)
	kernel(tried)
	for _, arg := range rest {
		tried[arg] = word(attempt(arg))
	}
	tried["fd 3"] = handed()
	_ = json.NewEncoder(os.Stdout).Encode(tried)
	// Stay, so that the outside can look, until standard input ends.
	_, _ = bufio.NewReader(os.Stdin).ReadByte()
}

// attempt does what an argument asks for: "read PATH", "connect NAME", "signal PID".
func attempt(arg string) error {
	verb, what, _ := strings.Cut(arg, " ")
	switch verb {
	case "read":
		_, err := os.ReadFile(what)
		return err
	case "write":
		return os.WriteFile(what, []byte("x"), 0o600)
	case "connect":
		c, err := net.Dial("unix", what)
		if err == nil {
			c.Close()
		}
		return err
	case "signal":
		pid, _ := strconv.Atoi(what)
		return unix.Kill(pid, 0)
	case "allocate":
		mb, _ := strconv.Atoi(what)
		_, err := unix.Mmap(-1, 0, mb<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
		return err
	}
	return errors.New("what is " + verb)
}

func files(tried map[string]string, run, objects string) {
	var all []string
	err := filepath.WalkDir("/", func(path string, d fs.DirEntry, err error) error {
		if len(all) > 200 {
			return fs.SkipAll
		}
		if err == nil && !d.IsDir() {
			all = append(all, path)
		}
		return nil
	})
	tried["walk"] = word(err)
	tried["files"] = strings.Join(all, " ")
	for name, path := range map[string]string{"write /": "/x", "write /dev": "/dev/x", "write run": run + "/x", "write objects": objects + "/x", "write runtime": os.Args[0]} {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o755)
		tried[name] = word(err)
		if err == nil {
			f.WriteString("data")
			f.Close()
		}
	}
	tried["mknod"] = word(unix.Mknod(run+"/null", unix.S_IFCHR|0o666, 1<<8|3))
	tried["chmod setuid"] = word(os.Chmod(run+"/x", 0o4755))
	tried["symlink"] = word(os.Symlink("/", run+"/link"))
	if f, err := os.Open(run + "/x"); err == nil {
		_, err := unix.Mmap(int(f.Fd()), 0, 4, unix.PROT_READ|unix.PROT_EXEC, unix.MAP_PRIVATE)
		tried["map code from run"] = word(err)
		f.Close()
	}
	if f, err := os.Open(os.Args[0]); err == nil {
		_, err := unix.Mmap(int(f.Fd()), 0, 4, unix.PROT_READ|unix.PROT_EXEC, unix.MAP_PRIVATE)
		tried["map code of the runtime"] = word(err)
		f.Close()
	}
}

func sockets(tried map[string]string) {
	for name, family := range map[string]int{"inet": unix.AF_INET, "inet6": unix.AF_INET6, "netlink": unix.AF_NETLINK, "packet": unix.AF_PACKET, "vsock": unix.AF_VSOCK, "alg": unix.AF_ALG} {
		fd, err := unix.Socket(family, unix.SOCK_DGRAM, 0)
		tried["socket "+name] = word(err)
		if err == nil {
			if family == unix.AF_INET {
				tried["send inet"] = word(unix.Connect(fd, &unix.SockaddrInet4{Port: 53, Addr: [4]byte{127, 0, 0, 1}}))
			}
			unix.Close(fd)
		}
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	tried["socket unix"] = word(err)
	unix.Close(fd)
}

func kernel(tried map[string]string) {
	call := func(name string, number uintptr, args ...uintptr) {
		var a [6]uintptr
		copy(a[:], args)
		_, _, e := unix.RawSyscall6(number, a[0], a[1], a[2], a[3], a[4], a[5])
		tried[name] = word(nil)
		if e != 0 {
			tried[name] = word(e)
		}
	}
	tried["mount"] = word(unix.Mount("x", "/run", "tmpfs", 0, ""))
	tried["chroot"] = word(unix.Chroot("/run"))
	tried["unshare user"] = word(unix.Unshare(unix.CLONE_NEWUSER))
	tried["setuid"] = word(unix.Setuid(1))
	tried["hostname"] = word(unix.Sethostname([]byte("x")))
	call("ptrace", unix.SYS_PTRACE, unix.PTRACE_ATTACH, 1<<20)
	child, _, e := unix.RawSyscall6(unix.SYS_CLONE, uintptr(unix.SIGCHLD)|unix.CLONE_VFORK, 0, 0, 0, 0, 0)
	if e == 0 && child == 0 {
		unix.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
	}
	tried["fork"] = word(nil)
	if e != 0 {
		tried["fork"] = word(e)
	}
	call("clone3", unix.SYS_CLONE3, 0, 0)
	call("bpf", unix.SYS_BPF, 0, 0, 0)
	call("keyctl", unix.SYS_KEYCTL, 0, ^uintptr(2))
	call("perf", unix.SYS_PERF_EVENT_OPEN, 0, 0, 0)
	call("io_uring", unix.SYS_IO_URING_SETUP, 1, 0)
	call("userfaultfd", unix.SYS_USERFAULTFD, 0)
	call("process_vm_readv", unix.SYS_PROCESS_VM_READV, 1, 0, 0, 0, 0)
	call("open_by_handle", unix.SYS_OPEN_BY_HANDLE_AT, 0, 0, 0)
	call("memfd", unix.SYS_MEMFD_CREATE, 0, 0)
	call("settime", unix.SYS_CLOCK_SETTIME, 0, 0)
	var limit unix.Rlimit
	if err := unix.Prlimit(0, unix.RLIMIT_CORE, nil, &limit); err == nil {
		tried["core limit"] = strconv.FormatUint(limit.Max, 10)
	}
	call("raise a limit", unix.SYS_PRLIMIT64, 0, unix.RLIMIT_CORE, uintptr(unsafe.Pointer(&unix.Rlimit{Cur: 1, Max: 1})))
	tried["uid"] = strconv.Itoa(os.Getuid())
	tried["pid"] = strconv.Itoa(os.Getpid())
	var uts unix.Utsname
	if unix.Uname(&uts) == nil {
		tried["host"] = unix.ByteSliceToString(uts.Nodename[:])
	}
}

// handed reads what was written to the first extra file.
func handed() string {
	var b [16]byte
	n, err := unix.Read(3, b[:])
	if err != nil {
		return word(err)
	}
	return string(b[:n])
}

func word(err error) string {
	if err == nil {
		return "ok"
	}
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return unix.ErrnoName(errno)
	}
	return err.Error()
}
