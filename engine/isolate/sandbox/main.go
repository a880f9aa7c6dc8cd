package sandbox

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"slices"
)

// exitWalls is the exit status of a child whose walls could not be built.
const exitWalls = 126

// Main builds the walls and becomes the runtime, if this process was started by Command; it
// returns false at once otherwise. The program calls it before anything else, and ends if it says
// true: the walls could not be built, or were only tried.
func Main() bool {
	if len(os.Args) != 2 || os.Args[0] != hidden {
		return false
	}
	// What is dropped is dropped for one thread, the one that becomes the runtime.
	runtime.LockOSThread()
	var p plan
	if err := json.Unmarshal([]byte(os.Args[1]), &p); err != nil {
		complain(fmt.Errorf("read the plan: %w", err))
	}
	if p.Probe {
		p.probe()
		return true
	}
	complain(p.build())
	return true
}

// complain says on standard error why there is no child, and ends the process.
func complain(err error) {
	fmt.Fprintln(os.Stderr, "sandbox:", err)
	os.Exit(exitWalls)
}

// step is one wall as it is built from inside.
type step struct {
	wall string // empty: always to be done
	name string
	run  func() error
}

// steps returns what is to be done, in order: each takes away what the ones before needed.
func (p *plan) steps() []step {
	return []step{
		{WallUTS, "hide the host's name", hideHost},
		{WallMount, "make the private root", p.makeRoot},
		{"", "open the runtime", p.open},
		{WallLandlock, "prepare Landlock", p.prepareLandlock},
		{WallLimits, "set the resource limits", p.limit},
		{WallPrivs, "give up the bounding set", dropBounding},
		{WallUser, "become the tenant's user", p.becomeUser},
		{WallPrivs, "give up all privileges", dropPrivileges},
		{WallLandlock, "apply Landlock", p.landlock},
	}
}

// build does all steps and executes the runtime. It returns only if something fails.
func (p *plan) build() error {
	for _, s := range p.steps() {
		if s.wall != "" && !slices.Contains(p.Walls, s.wall) {
			continue
		}
		if err := s.run(); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return p.execute(slices.Contains(p.Walls, WallSeccomp))
}

// probe does all steps, whichever fail, and says on standard output which did.
func (p *plan) probe() {
	walls := make([]Wall, 0, len(p.Walls))
	for _, name := range p.Walls {
		walls = append(walls, Wall{Name: name, On: true})
	}
	off := func(name string, err error) {
		for i := range walls {
			if walls[i].Name == name && walls[i].On {
				walls[i].On, walls[i].Why = false, reason(err)
			}
		}
	}
	for _, s := range p.steps() {
		if !slices.Contains(p.Walls, s.wall) {
			continue
		}
		if err := s.run(); err != nil {
			off(s.wall, err)
		}
	}
	if slices.Contains(p.Walls, WallSeccomp) {
		if err := tryFilter(); err != nil {
			off(WallSeccomp, err)
		}
	}
	_ = json.NewEncoder(os.Stdout).Encode(walls)
}
