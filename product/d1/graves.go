package d1

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"selvage/engine/sqlite"
	"selvage/spec"
)

// graves are notes of databases whose files have to go if their noun is not there: made before either
// comes or goes, they are what a process that died left undone.
type graves struct{ dir string }

func (g *graves) path(d *spec.Database) string { return filepath.Join(g.dir, d.AccountID+"."+d.ID) }

// dig makes a note, durably.
func (g *graves) dig(d *spec.Database) error {
	if err := os.MkdirAll(g.dir, 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(g.path(d), os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	folder, err := os.Open(g.dir)
	if err != nil {
		return errors.Join(err, f.Close())
	}
	return errors.Join(f.Sync(), f.Close(), folder.Sync(), folder.Close())
}

// fill removes a note. One that stays because this fails does no harm.
func (g *graves) fill(d *spec.Database) { os.Remove(g.path(d)) }

// all returns the databases that there are notes of.
func (g *graves) all() ([]*spec.Database, error) {
	entries, err := os.ReadDir(g.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var all []*spec.Database
	for _, e := range entries {
		if account, id, ok := strings.Cut(e.Name(), "."); ok {
			all = append(all, &spec.Database{AccountID: account, ID: id})
		}
	}
	return all, err
}

// bury removes the files of a database whose noun is gone.
func (p *D1) bury(ctx context.Context, s *sqlite.Store, d *spec.Database) {
	if p.o.State.Snapshot().StorageOf(d.AccountID).Databases[d.ID] != nil {
		return
	}
	if err := s.Delete(ctx, key(d)); err != nil {
		p.o.Observe.Logger().Error("deleted database still has files; they are removed later", "account", d.AccountID, "database", d.ID, "error", err)
		return
	}
	p.graves.fill(d)
	p.figures.drop(d)
	p.usage.drop(d)
}

// sweep does what a process before left undone.
func (p *D1) sweep(ctx context.Context, s *sqlite.Store) {
	all, err := p.graves.all()
	if err != nil {
		p.o.Observe.Logger().Error("notes of deleted databases cannot be read", "error", err)
	}
	for _, d := range all {
		if p.o.State.Snapshot().StorageOf(d.AccountID).Databases[d.ID] != nil {
			p.graves.fill(d) // it was made after all, or was not deleted
			continue
		}
		p.bury(ctx, s, d)
	}
}
