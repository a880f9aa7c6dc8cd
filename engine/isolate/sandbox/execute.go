package sandbox

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// open goes to RunDir and opens the runtime, while this process is still allowed to pass all
// directories above them.
func (p *plan) open() error {
	if err := unix.Chdir(p.Run); err != nil {
		return err
	}
	fd, err := unix.Open(p.Runtime, unix.O_PATH|unix.O_CLOEXEC, 0)
	p.file = fd
	return err
}

// execute becomes the runtime. It returns only if that fails.
func (p *plan) execute(filtered bool) error {
	// Whatever this process was given beside what is meant for the runtime ends here.
	_ = unix.CloseRange(uint(p.Keep), ^uint(0)>>1, unix.CLOSE_RANGE_CLOEXEC)
	argv, err := syscall.SlicePtrFromStrings(append([]string{p.Runtime}, p.Args...))
	if err != nil {
		return err
	}
	envv := []*byte{nil}
	empty, err := secretPage()
	if err != nil {
		return err
	}
	code, err := filter(uint64(empty))
	if err != nil {
		return err
	}
	if p.Data > 0 {
		if err := lower(unix.RLIMIT_DATA, p.Data); err != nil {
			return fmt.Errorf("limit the memory: %w", err)
		}
	}
	if filtered {
		if err := applyFilter(code); err != nil {
			return fmt.Errorf("apply seccomp: %w", err)
		}
	}
	_, _, e := unix.RawSyscall6(unix.SYS_EXECVEAT, uintptr(p.file), empty, uintptr(unsafe.Pointer(&argv[0])),
		uintptr(unsafe.Pointer(&envv[0])), unix.AT_EMPTY_PATH, 0)
	return fmt.Errorf("execute %s: %w", p.Runtime, e)
}

// secretPage returns an empty string that lies where nobody can guess.
func secretPage() (uintptr, error) {
	var random [8]byte
	if _, err := rand.Read(random[:]); err != nil {
		return 0, err
	}
	hint := uintptr(binary.LittleEndian.Uint64(random[:])) & (1<<46 - 1) &^ 0xfff
	page, _, e := unix.RawSyscall6(unix.SYS_MMAP, hint, 4096, unix.PROT_READ, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS, ^uintptr(0), 0)
	if e != 0 {
		return 0, e
	}
	return page, nil
}
