package product

import (
	"context"

	"selvage/engine/archive"
)

// Pinner is a product that keeps files which the node's stores name.
type Pinner interface {
	// Pin keeps files that the stores name from being removed until unpin is called, however long that
	// is: a backup copies the stores first and the files afterwards.
	Pin() (unpin func())
}

// Archiver is a product whose files cannot be copied while it uses them.
type Archiver interface {
	// Folder is the folder of the data directory that only Archive knows how to copy.
	Folder() string
	// Archive adds what is kept in the folder, under names that begin with it. Restored in place they
	// are what New finds.
	Archive(ctx context.Context, w *archive.Writer) error
}
