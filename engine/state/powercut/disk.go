package powercut

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

const (
	shutdownIoctl      = 0x8004587d // EXT4_IOC_SHUTDOWN: _IOR('X', 125, __u32)
	shutdownNoLogFlush = 2          // EXT4_GOING_FLAGS_NOLOGFLUSH: not even the journal is written
	loopMajor          = 7
)

// Disk is an ext4 filesystem in an image file, mounted below a scratch directory of this process's mount
// namespace. Not safe for concurrent use.
type Disk struct {
	Dir     string // where it is mounted
	scratch string
}

// newDisk makes and mounts a disk. The process must have a mount namespace of its own.
func newDisk(scratch string, mebibytes int) (*Disk, error) {
	d := &Disk{Dir: filepath.Join(scratch, "mnt"), scratch: scratch}
	if err := os.Mkdir(d.Dir, 0o700); err != nil {
		return nil, err
	}
	f, err := os.Create(image(scratch))
	if err != nil {
		return nil, err
	}
	if err := f.Truncate(int64(mebibytes) << 20); err != nil {
		return nil, err
	}
	f.Close()
	if out, err := exec.Command("mkfs.ext4", "-q", "-F", "-m", "0", image(scratch)).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("mkfs.ext4: %w: %s", err, out)
	}
	return d, d.mount()
}

// CutPower makes the filesystem forget what was not synced. All further writes and reads fail until
// Remount.
func (d *Disk) CutPower() error {
	f, err := os.Open(d.Dir)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.IoctlSetPointerInt(int(f.Fd()), shutdownIoctl, shutdownNoLogFlush); err != nil {
		return fmt.Errorf("cut the power: %w", err)
	}
	return nil
}

// Remount mounts the filesystem again, as after a power cut. Nothing below it may be open.
func (d *Disk) Remount() error {
	var err error
	for range 100 { // a process just killed may hold files for a moment
		if err = unix.Unmount(d.Dir, 0); err != unix.EBUSY {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	if err != nil {
		return fmt.Errorf("unmount: %w", err)
	}
	return d.mount()
}

func (d *Disk) mount() error {
	loop, path, err := d.attach()
	if err != nil {
		return err
	}
	// The mount keeps the device; the kernel frees it with the last user, whatever happens to us.
	defer loop.Close()
	if err := unix.Mount(path, d.Dir, "ext4", 0, ""); err != nil {
		return fmt.Errorf("mount: %w", err)
	}
	return nil
}

// attach puts the image on a free loop device.
func (d *Disk) attach() (*os.File, string, error) {
	img, err := os.OpenFile(image(d.scratch), os.O_RDWR, 0)
	if err != nil {
		return nil, "", err
	}
	defer img.Close()
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return nil, "", err
	}
	defer control.Close()
	for try := 0; ; try++ {
		n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return nil, "", fmt.Errorf("find a free loop device: %w", err)
		}
		loop, path, err := d.openLoop(n)
		if err != nil {
			return nil, "", err
		}
		config := &unix.LoopConfig{Fd: uint32(img.Fd()), Info: unix.LoopInfo64{Flags: unix.LO_FLAGS_AUTOCLEAR}}
		if err = unix.IoctlLoopConfigure(int(loop.Fd()), config); err == nil {
			return loop, path, nil
		}
		loop.Close()
		if err != unix.EBUSY || try == 20 { // busy: somebody else was faster
			return nil, "", fmt.Errorf("set up %s: %w", path, err)
		}
	}
}

// openLoop opens loop device n, through a node of our own if /dev has none for it.
func (d *Disk) openLoop(n int) (*os.File, string, error) {
	path := fmt.Sprintf("/dev/loop%d", n)
	if _, err := os.Stat(path); err != nil {
		path = filepath.Join(d.scratch, fmt.Sprintf("loop%d", n))
		if err := unix.Mknod(path, unix.S_IFBLK|0o600, int(unix.Mkdev(loopMajor, uint32(n)))); err != nil && err != unix.EEXIST {
			return nil, "", fmt.Errorf("make a node for loop device %d: %w", n, err)
		}
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	return f, path, err
}
