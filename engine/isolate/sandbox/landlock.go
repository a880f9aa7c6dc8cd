package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Rights of Landlock, by what is granted together.
const (
	mayRead    = unix.LANDLOCK_ACCESS_FS_READ_FILE
	mayExecute = unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_EXECUTE
	mayUse     = unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_WRITE_FILE
	mayList    = unix.LANDLOCK_ACCESS_FS_READ_DIR
	mayKeep    = mayUse | mayList | unix.LANDLOCK_ACCESS_FS_REMOVE_DIR | unix.LANDLOCK_ACCESS_FS_REMOVE_FILE |
		unix.LANDLOCK_ACCESS_FS_MAKE_DIR | unix.LANDLOCK_ACCESS_FS_MAKE_REG | unix.LANDLOCK_ACCESS_FS_MAKE_SOCK |
		unix.LANDLOCK_ACCESS_FS_REFER | unix.LANDLOCK_ACCESS_FS_TRUNCATE
)

// handled returns the rights that a version of Landlock's interface knows, all of which are
// refused where no rule grants them.
func handled(version int) unix.LandlockRulesetAttr {
	a := unix.LandlockRulesetAttr{Handled_access_fs: 1<<13 - 1}
	if version >= 2 {
		a.Handled_access_fs |= unix.LANDLOCK_ACCESS_FS_REFER
	}
	if version >= 3 {
		a.Handled_access_fs |= unix.LANDLOCK_ACCESS_FS_TRUNCATE
	}
	if version >= 4 {
		a.Handled_access_net = unix.LANDLOCK_ACCESS_NET_BIND_TCP | unix.LANDLOCK_ACCESS_NET_CONNECT_TCP
	}
	if version >= 5 {
		a.Handled_access_fs |= unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
	}
	if version >= 6 {
		a.Scoped = unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET | unix.LANDLOCK_SCOPE_SIGNAL
	}
	return a
}

// prepareLandlock makes a rule set of the paths of the plan, while this process can still open them.
func (p *plan) prepareLandlock() error {
	version, _, e := unix.RawSyscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if e != 0 {
		return e
	}
	attr := handled(int(version))
	// The three first fields are those that versions up to 6 have; older kernels take a longer
	// structure if what they do not know is zero.
	fd, _, e := unix.RawSyscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), unsafe.Offsetof(attr.Quiet_access_fs), 0)
	if e != 0 {
		return fmt.Errorf("make a rule set: %w", e)
	}
	p.rules = int(fd)
	grant := func(path string, rights uint64) error {
		err := allow(p.rules, path, rights&attr.Handled_access_fs)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("allow %s: %w", path, err)
		}
		return nil
	}
	// The runtime opens / as a directory to start from. In a private root there is nothing to
	// find; without one it can list names, and open no file.
	err := grant("/", mayList)
	for _, d := range devices {
		err = errors.Join(err, grant(d, mayUse))
	}
	for _, file := range p.code() {
		rights := uint64(mayRead)
		if file == p.Runtime || file == p.Loader {
			rights = mayExecute
		}
		err = errors.Join(err, grant(file, rights))
	}
	err = errors.Join(err, grant(p.Run, mayKeep))
	if p.Objects != "" {
		err = errors.Join(err, grant(p.Objects, mayKeep))
	}
	return err
}

// landlock confines this thread, and what it becomes, to the paths of the plan.
func (p *plan) landlock() error {
	if p.rules == 0 {
		return nil // said by prepareLandlock
	}
	if err := noNewPrivileges(); err != nil {
		return err
	}
	if _, _, e := unix.RawSyscall(unix.SYS_LANDLOCK_RESTRICT_SELF, uintptr(p.rules), 0, 0); e != 0 {
		return e
	}
	return nil
}

// allow grants rights on path and what lies below it.
func allow(ruleset int, path string, rights uint64) error {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	rule := unix.LandlockPathBeneathAttr{Allowed_access: rights, Parent_fd: int32(fd)}
	_, _, e := unix.RawSyscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(ruleset), unix.LANDLOCK_RULE_PATH_BENEATH,
		uintptr(unsafe.Pointer(&rule)), 0, 0, 0)
	if e != 0 {
		return e
	}
	return nil
}
