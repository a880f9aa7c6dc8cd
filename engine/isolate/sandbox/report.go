package sandbox

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Report says which walls this host lets us build.
type Report struct {
	Walls []Wall `json:"walls"`

	// FirstID and CountID are the user IDs that tenants get; 0 if they get none.
	FirstID uint32 `json:"-"`
	CountID uint32 `json:"-"`
	// Cgroup is the directory under which children get cgroups of their own; empty if they get none.
	Cgroup string `json:"-"`
}

// Wall is one of them.
type Wall struct {
	Name string `json:"name"`
	On   bool   `json:"on"`
	Why  string `json:"why,omitempty"` // why it is off, or in which form it is on
}

// Has tells whether a wall stands.
func (r *Report) Has(name string) bool {
	return slices.ContainsFunc(r.Walls, func(w Wall) bool { return w.Name == name && w.On })
}

// Without returns a copy of r in which the named walls are left out.
func (r *Report) Without(names ...string) Report {
	c := *r
	c.Walls = slices.Clone(r.Walls)
	for i := range c.Walls {
		if slices.Contains(names, c.Walls[i].Name) {
			c.Walls[i].On, c.Walls[i].Why = false, "left out on request"
		}
	}
	return c
}

// Missing returns the walls that are off, in words for a log; empty if all stand.
func (r *Report) Missing() string {
	var off []string
	for _, w := range r.Walls {
		if !w.On {
			off = append(off, w.Name+" ("+w.Why+")")
		}
	}
	return strings.Join(off, ", ")
}

func (r *Report) on() []string {
	var names []string
	for _, w := range r.Walls {
		if w.On {
			names = append(names, w.Name)
		}
	}
	return names
}

// id returns the user ID for a tenant, 0 if it gets none.
func (r *Report) id(tenant string) int {
	if r.CountID == 0 || !r.Has(WallUser) {
		return 0
	}
	return tenantID(tenant, r.FirstID, r.CountID)
}

// namespaces are the walls that are built by clone.
var namespaces = [...]struct {
	name string
	flag uintptr
}{
	{WallPID, syscall.CLONE_NEWPID},
	{WallMount, syscall.CLONE_NEWNS},
	{WallIPC, syscall.CLONE_NEWIPC},
	{WallUTS, syscall.CLONE_NEWUTS},
	{WallNet, syscall.CLONE_NEWNET},
}

func (r *Report) cloneFlags() uintptr {
	var flags uintptr
	for _, n := range namespaces {
		if r.Has(n.name) {
			flags |= n.flag
		}
	}
	// Whoever is not root may make the others only in a user namespace.
	if os.Geteuid() != 0 && r.Has(WallUser) {
		flags |= syscall.CLONE_NEWUSER
	}
	return flags
}

// probeTime bounds one probing process: one takes some 10 ms.
const probeTime = 10 * time.Second

// Probe finds out which walls this host lets us build, by building them. It starts our own program
// up to eight times; call it once when the node starts.
func Probe(ctx context.Context) Report {
	dir, err := os.MkdirTemp("", "probe-")
	if err != nil {
		return none(fmt.Errorf("make a directory to try in: %w", err))
	}
	defer os.RemoveAll(dir)
	var r Report
	why := map[string]string{}
	root := os.Geteuid() == 0
	all := slices.Collect(func(yield func(string) bool) {
		for _, n := range namespaces {
			yield(n.name)
		}
	})
	r.Walls = append(r.Walls, Wall{WallUser, true, "a user namespace"})
	if root {
		r.FirstID, r.CountID = tenantRange("/proc/self/uid_map")
		r.Walls[0].Why = fmt.Sprintf("a user ID per tenant, from %d", r.FirstID)
		if r.CountID == 0 {
			r.Walls[0] = Wall{WallUser, false, "this user namespace has no user IDs to give away"}
		}
	}
	for _, name := range append(all, WallPrivs, WallLimits, WallLandlock, WallSeccomp) {
		r.Walls = append(r.Walls, Wall{Name: name, On: true})
	}
	found, err := try(ctx, &r, dir)
	if err != nil {
		// Together they cannot be had: see which can be had alone.
		for _, name := range append([]string{WallUser}, all...) {
			alone := r.Without(slices.DeleteFunc(r.on(), func(n string) bool { return n == name || n == WallUser && !root })...)
			if _, err := try(ctx, &alone, dir); err != nil {
				why[name] = reason(err)
				r.off(name, why[name])
			}
		}
		if found, err = try(ctx, &r, dir); err != nil {
			return none(err)
		}
	}
	for _, w := range found {
		if !w.On {
			r.off(w.Name, w.Why)
		}
	}
	c := Wall{Name: WallCgroup, On: true}
	if r.Cgroup, err = prepareCgroup("/proc/self/cgroup", "/sys/fs/cgroup"); err != nil {
		c.On, c.Why = false, err.Error()
	}
	r.Walls = append(r.Walls, c)
	return r
}

// off leaves a wall out.
func (r *Report) off(name, why string) {
	for i := range r.Walls {
		if r.Walls[i].Name == name && r.Walls[i].On {
			r.Walls[i].On, r.Walls[i].Why = false, why
		}
	}
}

// none is the report of a host where nothing can be found out.
func none(err error) Report {
	var r Report
	for _, name := range []string{WallUser, WallPID, WallMount, WallIPC, WallUTS, WallNet, WallPrivs, WallLimits, WallLandlock, WallSeccomp, WallCgroup} {
		r.Walls = append(r.Walls, Wall{name, false, reason(err)})
	}
	return r
}

// try lets a process of our own build the walls of r and tell which it could.
func try(ctx context.Context, r *Report, dir string) ([]Wall, error) {
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	cmd, err := command(ctx, plan{Probe: true, Walls: r.on(), Run: dir, ID: r.id("probe"), Keep: 3}, r.cloneFlags())
	if err != nil {
		return nil, err
	}
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, bytes.TrimSpace(complaint.Bytes()))
	}
	var walls []Wall
	if err := json.Unmarshal(out.Bytes(), &walls); err != nil {
		return nil, fmt.Errorf("this program does not call sandbox.Main first: %w", err)
	}
	return walls, nil
}

// reason puts an error of the kernel into words.
func reason(err error) string {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		switch errno {
		case syscall.EPERM, syscall.EACCES:
			return "not permitted to this process"
		case syscall.ENOSYS, syscall.EINVAL, syscall.EOPNOTSUPP:
			return "not offered by this kernel"
		case syscall.ENOSPC:
			return "the kernel's limit of namespaces is reached (user.max_*_namespaces)"
		}
	}
	return strings.TrimRight(err.Error(), ": ")
}

// tenantRange reads from the map of user IDs which this process could give to tenants: the range
// of our own if it is there, otherwise the upper part of what is.
func tenantRange(path string) (first, count uint32) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, 0
	}
	for line := range strings.Lines(string(text)) {
		var inside, outside, size uint32
		if n, _ := fmt.Sscan(line, &inside, &outside, &size); n != 3 {
			continue
		}
		end := uint64(inside) + uint64(size)
		if uint64(inside) <= firstID && end >= firstID+countID {
			return firstID, countID
		}
		// A container's usual range: users stand below 20,000, nobody and the dynamic users of
		// systemd from 61,184 up.
		const low, high = 20_000, 60_000
		if inside <= low && end > low+1000 {
			first, count = low, uint32(min(end, high)-low)
		}
	}
	return first, count
}
