package sandbox

import (
	"errors"
	"unsafe"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// What the filter answers. A refused call fails with EPERM, as a runtime expects of a locked-down
// host; a call that only an attacker makes ends the process.
const (
	allowed = unix.SECCOMP_RET_ALLOW
	refused = unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)
	unknown = unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)
	deadly  = unix.SECCOMP_RET_KILL_PROCESS
)

// Offsets in struct seccomp_data; arguments are little endian halves of 64 bits.
const (
	atNumber    = 0
	atArch      = 4
	atArguments = 16
)

// plain are the calls that a runtime makes and whose arguments do not matter: its memory, its
// threads, its files (which ones is said by root and Landlock), its sockets (see checked). Those
// that only older machines have are in plainLegacy.
var plain = [...]uint32{
	unix.SYS_READ, unix.SYS_WRITE, unix.SYS_READV, unix.SYS_WRITEV, unix.SYS_PREAD64, unix.SYS_PWRITE64,
	unix.SYS_PREADV, unix.SYS_PWRITEV, unix.SYS_CLOSE, unix.SYS_LSEEK, unix.SYS_DUP, unix.SYS_DUP3, unix.SYS_PIPE2,
	unix.SYS_OPENAT, unix.SYS_FSTAT, sysFstatat, unix.SYS_STATX, unix.SYS_FACCESSAT, unix.SYS_FACCESSAT2,
	unix.SYS_READLINKAT, unix.SYS_GETCWD, unix.SYS_GETDENTS64, unix.SYS_MKDIRAT, unix.SYS_UNLINKAT, unix.SYS_RENAMEAT,
	unix.SYS_RENAMEAT2, unix.SYS_LINKAT, unix.SYS_FTRUNCATE, unix.SYS_FALLOCATE, unix.SYS_FSYNC, unix.SYS_FDATASYNC,
	unix.SYS_FCHMOD, unix.SYS_FCHOWN, unix.SYS_FLOCK, unix.SYS_UTIMENSAT, unix.SYS_STATFS, unix.SYS_FSTATFS,
	unix.SYS_MMAP, unix.SYS_MUNMAP, unix.SYS_MPROTECT, unix.SYS_PKEY_MPROTECT, unix.SYS_PKEY_ALLOC, unix.SYS_PKEY_FREE,
	unix.SYS_MREMAP, unix.SYS_MADVISE, unix.SYS_MSYNC, unix.SYS_BRK, unix.SYS_MEMBARRIER,
	unix.SYS_FUTEX, unix.SYS_SET_ROBUST_LIST, unix.SYS_RSEQ, unix.SYS_SET_TID_ADDRESS, unix.SYS_RESTART_SYSCALL,
	unix.SYS_RT_SIGACTION, unix.SYS_RT_SIGPROCMASK, unix.SYS_RT_SIGRETURN, unix.SYS_RT_SIGTIMEDWAIT, unix.SYS_SIGALTSTACK,
	unix.SYS_SIGNALFD4, unix.SYS_TGKILL, unix.SYS_EXIT, unix.SYS_EXIT_GROUP,
	unix.SYS_GETPID, unix.SYS_GETTID, unix.SYS_GETPPID, unix.SYS_GETUID, unix.SYS_GETEUID, unix.SYS_GETGID, unix.SYS_GETEGID,
	unix.SYS_UNAME, unix.SYS_SYSINFO, unix.SYS_GETRUSAGE, unix.SYS_TIMES, unix.SYS_GETCPU, unix.SYS_GETRANDOM,
	unix.SYS_SCHED_YIELD, unix.SYS_SCHED_GETAFFINITY, unix.SYS_SCHED_GETPARAM, unix.SYS_SCHED_GETSCHEDULER,
	unix.SYS_CLOCK_GETTIME, unix.SYS_CLOCK_GETRES, unix.SYS_CLOCK_NANOSLEEP, unix.SYS_NANOSLEEP, unix.SYS_GETTIMEOFDAY,
	unix.SYS_TIMERFD_CREATE, unix.SYS_TIMERFD_SETTIME, unix.SYS_TIMERFD_GETTIME,
	unix.SYS_PPOLL, unix.SYS_EPOLL_CREATE1, unix.SYS_EPOLL_CTL, unix.SYS_EPOLL_PWAIT, unix.SYS_EPOLL_PWAIT2, unix.SYS_EVENTFD2,
	unix.SYS_CONNECT, unix.SYS_BIND, unix.SYS_LISTEN, unix.SYS_ACCEPT, unix.SYS_ACCEPT4, unix.SYS_SHUTDOWN,
	unix.SYS_SENDTO, unix.SYS_RECVFROM, unix.SYS_SENDMSG, unix.SYS_RECVMSG,
	unix.SYS_GETSOCKOPT, unix.SYS_SETSOCKOPT, unix.SYS_GETSOCKNAME, unix.SYS_GETPEERNAME,
}

// check allows a call if the masked low half of one argument is one of some values.
type check struct {
	call     uint32
	argument uint32
	mask     uint32
	values   []uint32
}

// checked are the calls whose arguments decide.
var checked = [...]check{
	{unix.SYS_SOCKET, 0, 0xffffffff, []uint32{unix.AF_UNIX}},
	{unix.SYS_SOCKETPAIR, 0, 0xffffffff, []uint32{unix.AF_UNIX}},
	// Threads only: no process, no namespace.
	{unix.SYS_CLONE, 0, threadFlags | newNamespaces, []uint32{threadFlags}},
	// Reading limits, not setting them. Half of a pointer is enough: who puts new limits at a multiple
	// of 4 GB can only lower them, as soft and hard ones are the same.
	{unix.SYS_PRLIMIT64, 2, 0xffffffff, []uint32{0}},
	{unix.SYS_PRCTL, 0, 0xffffffff, []uint32{unix.PR_SET_NAME, unix.PR_GET_NAME, unix.PR_SET_VMA, unix.PR_GET_DUMPABLE}},
	{unix.SYS_IOCTL, 1, 0xffffffff, []uint32{unix.TIOCINQ, fionbio, unix.TCGETS}},
	{unix.SYS_FCNTL, 1, 0xffffffff, []uint32{
		unix.F_DUPFD, unix.F_DUPFD_CLOEXEC, unix.F_GETFD, unix.F_SETFD, unix.F_GETFL, unix.F_SETFL,
		unix.F_GETLK, unix.F_SETLK, unix.F_SETLKW, unix.F_OFD_GETLK, unix.F_OFD_SETLK, unix.F_OFD_SETLKW,
	}},
}

const (
	threadFlags   = unix.CLONE_THREAD | unix.CLONE_VM | unix.CLONE_SIGHAND
	newNamespaces = unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWUSER |
		unix.CLONE_NEWPID | unix.CLONE_NEWNET
	fionbio = 0x5421 // FIONBIO, which package unix does not have
)

// filter returns the program that decides over every system call. The one execution that it allows
// is that of the empty path that lies at address: nobody else knows where that is, and a wrong
// guess is the last.
func filter(address uint64) ([]bpf.RawInstruction, error) {
	code := []bpf.Instruction{
		bpf.LoadAbsolute{Off: atArch, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: auditArch, SkipTrue: 1},
		bpf.RetConstant{Val: deadly},
		bpf.LoadAbsolute{Off: atNumber, Size: 4},
	}
	one := func(call, answer uint32) {
		code = append(code, bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: call, SkipTrue: 1}, bpf.RetConstant{Val: answer})
	}
	for _, call := range plain {
		one(call, allowed)
	}
	for _, call := range plainLegacy {
		one(call, allowed)
	}
	for _, c := range checked {
		code = append(code, c.code()...)
	}
	// glibc takes clone where this one, whose flags a filter cannot see, does not exist.
	one(unix.SYS_CLONE3, unknown)
	one(unix.SYS_EXECVE, deadly)
	code = append(code,
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.SYS_EXECVEAT, SkipTrue: 6},
		bpf.LoadAbsolute{Off: atArguments + 8, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: uint32(address), SkipTrue: 3},
		bpf.LoadAbsolute{Off: atArguments + 12, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: uint32(address >> 32), SkipTrue: 1},
		bpf.RetConstant{Val: allowed},
		bpf.RetConstant{Val: deadly},
		bpf.RetConstant{Val: refused},
	)
	return bpf.Assemble(code)
}

// code returns instructions that end with the call's answer, or go on with the call's number if it
// is another call.
func (c *check) code() []bpf.Instruction {
	body := []bpf.Instruction{
		bpf.LoadAbsolute{Off: atArguments + 8*c.argument, Size: 4},
		bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: c.mask},
	}
	for _, v := range c.values {
		body = append(body, bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: v, SkipTrue: 1}, bpf.RetConstant{Val: allowed})
	}
	body = append(body, bpf.RetConstant{Val: refused})
	return append([]bpf.Instruction{bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: c.call, SkipTrue: uint8(len(body))}}, body...)
}

// applyFilter puts a filter over this thread.
func applyFilter(code []bpf.RawInstruction) error {
	if err := noNewPrivileges(); err != nil {
		return err
	}
	prog := unix.SockFprog{Len: uint16(len(code)), Filter: (*unix.SockFilter)(unsafe.Pointer(&code[0]))}
	_, _, e := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&prog)))
	if e != 0 {
		return e
	}
	return nil
}

// tryFilter applies the filter and sees whether it holds.
func tryFilter() error {
	code, err := filter(0)
	if err != nil {
		return err
	}
	if err := applyFilter(code); err != nil {
		return err
	}
	fd, _, e := unix.RawSyscall(unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_STREAM, 0)
	if e == unix.EPERM {
		return nil
	}
	if e == 0 {
		unix.Close(int(fd))
	}
	return errors.New("the filter is accepted and does not hold")
}
