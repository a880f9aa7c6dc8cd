package sandbox

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

const (
	maxFiles   = 65536
	maxThreads = 8192 // of all children of a tenant
)

// limit sets what the kernel counts. The limit of memory is set last of all, by execute: it is
// meant for the runtime, not for us.
func (p *plan) limit() error {
	limits := []struct {
		name  string
		which int
		max   uint64
	}{
		{"core", unix.RLIMIT_CORE, 0},
		{"nofile", unix.RLIMIT_NOFILE, maxFiles},
		{"msgqueue", unix.RLIMIT_MSGQUEUE, 0},
		{"memlock", unix.RLIMIT_MEMLOCK, 0},
		{"nproc", unix.RLIMIT_NPROC, maxThreads},
	}
	for _, l := range limits {
		if l.which == unix.RLIMIT_NPROC && p.ID == 0 {
			continue // counts the processes of the operator's own user as well
		}
		if err := lower(l.which, l.max); err != nil {
			return fmt.Errorf("%s: %w", l.name, err)
		}
	}
	return nil
}

// lower sets a limit, or leaves it where a lower one stands.
func lower(which int, most uint64) error {
	var now unix.Rlimit
	if err := unix.Prlimit(0, which, nil, &now); err != nil {
		return err
	}
	most = min(most, now.Max)
	return unix.Prlimit(0, which, &unix.Rlimit{Cur: most, Max: most}, nil)
}

// dropBounding makes sure that no program executed from here on can have a capability.
func dropBounding() error {
	for c := uintptr(0); c <= 63; c++ {
		if on, err := prctl(unix.PR_CAPBSET_READ, c, 0); err != nil || on == 0 {
			continue // the first number that the kernel does not know ends them
		}
		// Without CAP_SETPCAP it cannot be emptied; no_new_privs then does what it is for.
		if _, err := prctl(unix.PR_CAPBSET_DROP, c, 0); err != nil && os.Geteuid() == 0 {
			return fmt.Errorf("capability %d: %w", c, err)
		}
	}
	return nil
}

// becomeUser changes to the tenant's user and group. The calls are those of one thread: glibc's
// and Go's way of changing all threads is not needed, the others end at exec.
func (p *plan) becomeUser() error {
	if p.ID == 0 {
		return nil
	}
	id := uintptr(p.ID)
	if _, _, e := unix.RawSyscall(unix.SYS_SETGROUPS, 0, 0, 0); e != 0 {
		return fmt.Errorf("groups: %w", e)
	}
	if _, _, e := unix.RawSyscall(unix.SYS_SETRESGID, id, id, id); e != 0 {
		return fmt.Errorf("group %d: %w", id, e)
	}
	if _, _, e := unix.RawSyscall(unix.SYS_SETRESUID, id, id, id); e != 0 {
		return fmt.Errorf("user %d: %w", id, e)
	}
	return nil
}

// noRoot are the securebits that take away what user 0 is to the kernel, locked.
const noRoot = 1<<0 | 1<<1 | 1<<2 | 1<<3 | 1<<6 | 1<<7

// dropPrivileges gives up every capability and the way to any.
func dropPrivileges() error {
	// Only with CAP_SETPCAP; the tenant's user has it no more and needs no such bit.
	_, _ = prctl(unix.PR_SET_SECUREBITS, noRoot, 0)
	if _, err := prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0); err != nil && err != unix.EINVAL {
		return fmt.Errorf("ambient capabilities: %w", err)
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capset(&header, &data[0]); err != nil {
		return fmt.Errorf("capabilities: %w", err)
	}
	if err := noNewPrivileges(); err != nil {
		return err
	}
	// A change of user clears it, so the parent's own setting does not hold any more.
	if _, err := prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0); err != nil {
		return fmt.Errorf("death signal: %w", err)
	}
	return nil
}

// noNewPrivileges makes set-user-ID programs ordinary ones, for ever. Landlock and seccomp ask for it.
func noNewPrivileges() error {
	if _, err := prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0); err != nil {
		return fmt.Errorf("no_new_privs: %w", err)
	}
	return nil
}

// prctl is the system call, for this thread only.
func prctl(option int, arg2, arg3 uintptr) (int, error) {
	r, _, e := unix.RawSyscall6(unix.SYS_PRCTL, uintptr(option), arg2, arg3, 0, 0, 0)
	if e != 0 {
		return 0, e
	}
	return int(r), nil
}
