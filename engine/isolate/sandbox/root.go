package sandbox

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// devices are those that a runtime opens: randomness, and somewhere to write nothing.
var devices = [...]string{"/dev/null", "/dev/zero", "/dev/urandom", "/dev/random"}

// bind is one thing of the outside that is seen inside.
type bind struct {
	from, to string
	flags    uintptr // beside nosuid
	fd       int
}

// makeRoot makes a root of a few bind mounts the only file system of this process. What is bound is
// opened before the new root hides it, so that it may lie anywhere.
func (p *plan) makeRoot() error {
	// Nothing of what follows may travel back to the host.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make the mounts private: %w", err)
	}
	binds := p.binds()
	for i := range binds {
		fd, err := unix.Open(binds[i].from, unix.O_PATH|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("open %s: %w", binds[i].from, err)
		}
		defer unix.Close(fd)
		binds[i].fd = fd
	}
	// RunDir is a directory that is surely there; the new root stands on it until it moves to /.
	root := p.Run
	if err := unix.Mount("isolate", root, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "size=256k,nr_inodes=256,mode=755"); err != nil {
		return fmt.Errorf("mount an empty root: %w", err)
	}
	for _, b := range binds {
		if err := b.mount(root); err != nil {
			return fmt.Errorf("bind %s: %w", b.from, err)
		}
	}
	if err := p.nameSelf(root); err != nil {
		return err
	}
	if err := unix.Chdir(root); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("change the root: %w", err)
	}
	// The old root lies over the new one now.
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("leave the old root: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("make the root read-only: %w", err)
	}
	p.Run = "/run"
	if p.Objects != "" {
		p.Objects = "/objects"
	}
	return nil
}

// nameSelf answers the one question that runtimes ask of /proc, which is not there: where their
// program lies.
func (p *plan) nameSelf(root string) error {
	if p.Runtime == "" {
		return nil
	}
	self := filepath.Join(root, "proc", "self")
	if err := os.MkdirAll(self, 0o755); err != nil {
		return err
	}
	return os.Symlink(p.Runtime, filepath.Join(self, "exe"))
}

func (p *plan) binds() []bind {
	const dataOnly = unix.MS_NODEV | unix.MS_NOEXEC
	binds := []bind{{from: p.Run, to: "/run", flags: dataOnly}}
	for _, d := range devices {
		binds = append(binds, bind{from: d, to: d, flags: unix.MS_NOEXEC})
	}
	if p.Objects != "" {
		binds = append(binds, bind{from: p.Objects, to: "/objects", flags: dataOnly})
	}
	for _, file := range p.code() {
		binds = append(binds, bind{from: file, to: file, flags: unix.MS_RDONLY | unix.MS_NODEV})
	}
	return binds
}

// code returns the files that may be executed or mapped as code.
func (p *plan) code() []string {
	var files []string
	for _, f := range append([]string{p.Runtime, p.Loader}, p.Libraries...) {
		if f != "" {
			files = append(files, f)
		}
	}
	return files
}

// mount binds b below root.
func (b *bind) mount(root string) error {
	var st unix.Stat_t
	if err := unix.Fstat(b.fd, &st); err != nil {
		return err
	}
	target := filepath.Join(root, b.to)
	directory := st.Mode&unix.S_IFMT == unix.S_IFDIR
	parent := target
	if !directory {
		parent = filepath.Dir(target)
	}
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return err
	}
	if !directory {
		f, err := os.OpenFile(target, os.O_CREATE|os.O_RDONLY, 0o644)
		if err != nil {
			return err
		}
		f.Close()
	}
	source := "/proc/self/fd/" + strconv.Itoa(b.fd)
	if err := unix.Mount(source, target, "", unix.MS_BIND, ""); err != nil {
		return err
	}
	// In a user namespace the flags that the host's mount has cannot be taken away, so they are
	// named again.
	var fs unix.Statfs_t
	if err := unix.Fstatfs(b.fd, &fs); err != nil {
		return err
	}
	flags := b.flags | unix.MS_REMOUNT | unix.MS_BIND | unix.MS_NOSUID | uintptr(fs.Flags)&kept
	if fs.Flags&unix.ST_RELATIME != 0 {
		flags |= unix.MS_RELATIME
	}
	return unix.Mount("", target, "", flags, "")
}

// kept are the flags of a mount that statfs names with the numbers that mount takes.
const kept = unix.MS_RDONLY | unix.MS_NODEV | unix.MS_NOEXEC | unix.MS_NOATIME | unix.MS_NODIRATIME

// hideHost gives the child's UTS namespace a name of its own.
func hideHost() error {
	if err := unix.Sethostname([]byte("isolate")); err != nil {
		return err
	}
	return unix.Setdomainname([]byte("(none)"))
}
