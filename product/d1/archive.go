package d1

import (
	"context"

	"selvage/engine/archive"
	"selvage/engine/sqlite"
	"selvage/foundation/fault"
	"selvage/product"
)

var _ product.Archiver = (*D1)(nil)

// Folder returns where the databases lie in the data directory.
func (p *D1) Folder() string { return "d1" }

// Archive adds each database with its history, as they are at one moment each. Exports and imports under
// way are left out.
func (p *D1) Archive(ctx context.Context, w *archive.Writer) error {
	s, err := p.store()
	if err != nil {
		return err
	}
	for _, account := range p.o.State.Snapshot().Storage {
		for _, d := range account.Databases {
			name := key(d)
			if !s.Exists(name) {
				continue
			}
			err := s.Files(ctx, name, func(f sqlite.File) error {
				return w.Add(ctx, archive.File{Name: "d1/databases/" + name + "/" + f.Name, Size: f.Size, Mode: 0o600}, f.Data)
			})
			if fault.KindOf(err) == fault.NotFound {
				continue // deleted meanwhile
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}
