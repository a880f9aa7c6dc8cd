package isolate

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
)

// FindRuntime returns the path of the runtime's program: what SELVAGE_WORKERD in environ names,
// else workerd beside the running program, or in its neighbour bin, else the one that `make
// engines` puts into the repository's bin, for tests. environ has the form of os.Environ.
func FindRuntime(environ []string) (string, error) {
	for _, e := range environ {
		if path, ok := strings.CutPrefix(e, "SELVAGE_WORKERD="); ok && path != "" {
			if !executable(path) {
				return "", errors.New("SELVAGE_WORKERD names " + path + ", which is not a program; let it name workerd, or unset it")
			}
			return path, nil
		}
	}
	for _, path := range runtimePlaces() {
		if executable(path) {
			return path, nil
		}
	}
	return "", errors.New("no workerd beside this program; `make engines` puts it into bin, or let SELVAGE_WORKERD name it")
}

func runtimePlaces() []string {
	var places []string
	if self, err := os.Executable(); err == nil {
		if real, err := filepath.EvalSymlinks(self); err == nil {
			self = real
		}
		dir := filepath.Dir(self)
		places = append(places, filepath.Join(dir, "workerd"), filepath.Join(dir, "..", "bin", "workerd"))
	}
	dir, err := os.Getwd()
	for err == nil {
		if _, missing := os.Stat(filepath.Join(dir, "go.mod")); missing == nil {
			places = append(places, filepath.Join(dir, "bin", "workerd"))
		}
		if parent := filepath.Dir(dir); parent != dir {
			dir = parent
			continue
		}
		break
	}
	return places
}

func executable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}
