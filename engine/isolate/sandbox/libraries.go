package sandbox

import (
	"debug/elf"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// libraries returns the loader of an executable and the shared libraries it needs, with those that
// they need. They are looked for where the loader looks on the distributions that glibc programs
// are made for; a statically linked one has none.
func libraries(executable string) (loader string, files []string, err error) {
	f, err := elf.Open(executable)
	if err != nil {
		return "", nil, err
	}
	defer f.Close()
	if loader, err = interpreter(f); err != nil || loader == "" {
		return "", nil, err
	}
	dirs := libraryDirs(f.Machine, loader)
	wanted, err := f.ImportedLibraries()
	if err != nil {
		return "", nil, err
	}
	// glibc loads it by name when a thread is cancelled or an exception crosses C code.
	optional := "libgcc_s.so.1"
	seen := []string{filepath.Base(loader)}
	for wanted = append(wanted, optional); len(wanted) > 0; wanted = wanted[1:] {
		name := wanted[0]
		if slices.Contains(seen, name) {
			continue
		}
		seen = append(seen, name)
		path, more, err := findLibrary(name, dirs, f.Machine)
		if err != nil {
			if name == optional {
				continue
			}
			return "", nil, err
		}
		files = append(files, path)
		wanted = append(wanted, more...)
	}
	return loader, files, nil
}

// interpreter returns the path of the program that loads f, empty if there is none.
func interpreter(f *elf.File) (string, error) {
	for _, p := range f.Progs {
		if p.Type != elf.PT_INTERP {
			continue
		}
		path, err := io.ReadAll(io.LimitReader(p.Open(), 4096))
		if err != nil {
			return "", err
		}
		return strings.TrimRight(string(path), "\x00"), nil
	}
	return "", nil
}

func libraryDirs(machine elf.Machine, loader string) []string {
	triplet := map[elf.Machine]string{elf.EM_X86_64: "x86_64-linux-gnu", elf.EM_AARCH64: "aarch64-linux-gnu"}[machine]
	return []string{"/lib/" + triplet, "/usr/lib/" + triplet, "/lib64", "/usr/lib64", "/lib", "/usr/lib", filepath.Dir(loader)}
}

// findLibrary returns where name lies and which libraries it needs in turn.
func findLibrary(name string, dirs []string, machine elf.Machine) (path string, needs []string, err error) {
	for _, dir := range dirs {
		path := filepath.Join(dir, name)
		if _, err := os.Stat(path); err != nil {
			continue
		}
		f, err := elf.Open(path)
		if err != nil {
			continue // not a library, such as a linker script
		}
		needs, err := f.ImportedLibraries()
		fits := f.Machine == machine
		f.Close()
		if err == nil && fits {
			return path, needs, nil
		}
	}
	return "", nil, fmt.Errorf("the shared library %s is not in %s", name, strings.Join(dirs, ", "))
}
