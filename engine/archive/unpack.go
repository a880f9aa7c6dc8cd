package archive

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"selvage/foundation/fault"
)

// Unpack makes the directory dir of an archive, durably. dir must not exist or be empty; nothing of it
// is there unless the archive was whole.
func Unpack(ctx context.Context, r io.Reader, dir string) (Head, Totals, error) {
	dir = filepath.Clean(dir)
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Head{}, Totals{}, err
	}
	if len(entries) > 0 {
		return Head{}, Totals{}, fault.New(fault.Conflict, "The directory %s is not empty: name another one, or move that one away.", dir)
	}
	aside := dir + ".restoring"
	if err := os.RemoveAll(aside); err != nil {
		return Head{}, Totals{}, err
	}
	if err := os.MkdirAll(aside, 0o700); err != nil {
		return Head{}, Totals{}, err
	}
	defer os.RemoveAll(aside)
	u := unpacker{dir: aside, made: map[string]bool{}}
	h, t, err := Read(ctx, r, u.file)
	if err != nil {
		return h, t, err
	}
	if err := u.settle(); err != nil {
		return h, t, err
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return h, t, err
	}
	if err := os.Rename(aside, dir); err != nil {
		return h, t, err
	}
	return h, t, syncFolder(filepath.Dir(dir))
}

// unpacker writes the files of a backup.
type unpacker struct {
	dir  string
	made map[string]bool // folders, by name in the archive
}

func (u *unpacker) file(f File, r io.Reader) (err error) {
	target := filepath.Join(u.dir, filepath.FromSlash(f.Name))
	if folder := path.Dir(f.Name); !u.made[folder] {
		if err := os.MkdirAll(filepath.Dir(target), 0o700); err != nil {
			return err
		}
		for ; folder != "."; folder = path.Dir(folder) {
			u.made[folder] = true
		}
	}
	out, err := os.OpenFile(target, os.O_WRONLY|os.O_CREATE|os.O_EXCL, f.Mode|0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	if _, err := io.Copy(out, r); err != nil {
		return err
	}
	return out.Sync()
}

// settle makes the folders durable, the inner ones first.
func (u *unpacker) settle() error {
	folders := []string{"."}
	for name := range u.made {
		folders = append(folders, name)
	}
	slices.SortFunc(folders, func(a, b string) int { return strings.Compare(b, a) })
	for _, name := range folders {
		if err := syncFolder(filepath.Join(u.dir, filepath.FromSlash(name))); err != nil {
			return err
		}
	}
	return nil
}

func syncFolder(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
