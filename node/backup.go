package node

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"selvage/engine/archive"
	"selvage/foundation/fault"
	"selvage/product"
)

// scratchFolder is where a backup puts copies before it sends them; it goes with the backup, or with
// the next start.
const scratchFolder = "backup.tmp"

// notKept are the entries of the data directory that are no part of a backup: what can be made again,
// what belongs to this process, and the stores, which are copied in a way of their own.
var notKept = map[string]bool{
	"cache": true, "logs": true, "lastgood": true, "node.json": true, lockFile: true, scratchFolder: true, "state": true, "data": true,
}

// backupRoute sends all that the node keeps as one stream.
func (n *Node) backupRoute() product.Route {
	return product.Route{
		Method: "GET", Path: "/selvage/backup", Operator: true,
		Summary: "Download a backup of all state of the node, as `selvage backup create` does.",
		Handle: func(context.Context, *product.Call) (product.Reply, error) {
			// Who asks for the head alone is not sent a backup, and holds up nobody's.
			return product.Reply{Raw: &product.Raw{ContentType: "application/zstd", Write: func(ctx context.Context, w io.Writer) error {
				if !n.control.backups.TryLock() {
					return fault.New(fault.Conflict, "Another backup is under way: wait until it is done.")
				}
				defer n.control.backups.Unlock()
				err := n.backup(ctx, w)
				if err != nil {
					n.log.Error("backup was not finished", "error", err)
				}
				return err
			}}}, nil
		},
	}
}

// backup is one backup being made. Each store is copied as it is at one moment, with all that was
// acknowledged before the backup began; what they name in files is kept until it is copied.
type backup struct {
	n       *Node
	w       *archive.Writer
	scratch string
}

func (n *Node) backup(ctx context.Context, w io.Writer) error {
	scratch := filepath.Join(n.config.Data, scratchFolder)
	if err := os.RemoveAll(scratch); err != nil {
		return err
	}
	if err := os.Mkdir(scratch, 0o700); err != nil {
		return err
	}
	defer os.RemoveAll(scratch)
	began := time.Now()
	out, err := archive.NewWriter(w, archive.Head{Version: Version, Created: began.UTC()})
	if err != nil {
		return err
	}
	b := &backup{n, out, scratch}
	if err := b.write(ctx); err != nil {
		out.Drop()
		return err
	}
	if err := out.Close(); err != nil {
		return err
	}
	n.log.Info("backup sent", "files", out.Totals().Files, "bytes", out.Totals().Bytes, "took", time.Since(began).Round(time.Millisecond))
	return nil
}

func (b *backup) write(ctx context.Context) error {
	folders := map[string]product.Archiver{}
	for _, p := range b.n.parts.all {
		if k, ok := p.(product.Pinner); ok {
			defer k.Pin()()
		}
		if a, ok := p.(product.Archiver); ok {
			folders[a.Folder()] = a
		}
	}
	if err := b.stores(ctx); err != nil {
		return err
	}
	entries, err := os.ReadDir(b.n.config.Data)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if notKept[e.Name()] || folders[e.Name()] != nil {
			continue
		}
		if err := b.tree(ctx, e.Name()); err != nil {
			return err
		}
	}
	for _, a := range folders {
		if err := a.Archive(ctx, b.w); err != nil {
			return err
		}
	}
	return nil
}

// stores adds the store of the configuration and that of data. The files of their copies go as soon as
// they are sent: as long as they lie there, the stores cannot free their space.
func (b *backup) stores(ctx context.Context) error {
	control, data := filepath.Join(b.scratch, "state"), filepath.Join(b.scratch, "data")
	if err := b.n.control.checkpoint(control); err != nil {
		return err
	}
	db, err := b.n.parts.storage.data.DB()
	if err != nil {
		return err
	}
	if err := db.Checkpoint(data); err != nil {
		return err
	}
	for _, dir := range []string{control, data} {
		if err := b.copies(ctx, dir); err != nil {
			return err
		}
	}
	return nil
}

// copies adds the files of a checkpoint and removes them.
func (b *backup) copies(ctx context.Context, dir string) error {
	return filepath.WalkDir(dir, func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(b.scratch, file)
		if err != nil {
			return err
		}
		if err := b.w.AddFile(ctx, filepath.ToSlash(name), file); err != nil {
			return err
		}
		return os.Remove(file)
	})
}

// tree adds a file or folder of the data directory. What is gone when its turn comes was removed by
// somebody: it is no part of the state.
func (b *backup) tree(ctx context.Context, top string) error {
	root := filepath.Join(b.n.config.Data, top)
	return filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		name, err := filepath.Rel(b.n.config.Data, file)
		if err != nil {
			return err
		}
		err = b.file(ctx, filepath.ToSlash(name), file)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
}

// What SQLite keeps is known by its names: to open and close such a file by hand would drop the locks
// that SQLite in this process has on it.
var sqliteSuffixes = []string{".sqlite", ".db"}

// besides are what SQLite keeps beside a database.
var besides = []string{"-wal", "-shm", "-journal"}

func (b *backup) file(ctx context.Context, name, file string) error {
	for _, suffix := range sqliteSuffixes {
		for _, beside := range besides {
			if strings.HasSuffix(file, suffix+beside) {
				return nil // its content comes with the database
			}
		}
		if strings.HasSuffix(file, suffix) {
			return b.w.AddSQLite(ctx, name, file, filepath.Join(b.scratch, "copy"))
		}
	}
	return b.w.AddFile(ctx, name, file)
}

// checkpoint copies the configuration's store.
func (c *control) checkpoint(dir string) error {
	c.turn.Lock()
	defer c.turn.Unlock()
	if c.db == nil {
		return fault.New(fault.Unavailable, "The configuration store is not open: try again.")
	}
	return c.db.Checkpoint(dir)
}
