package sandbox

import "golang.org/x/sys/unix"

const (
	auditArch  = unix.AUDIT_ARCH_AARCH64
	sysFstatat = unix.SYS_FSTATAT
)

// plainLegacy is empty: arm64 came after the older forms of calls were given up.
var plainLegacy = [...]uint32{}
