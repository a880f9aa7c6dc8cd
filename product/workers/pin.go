package workers

import "selvage/product"

var _ product.Pinner = (*Workers)(nil)

// Pin keeps code and assets from being swept, for a backup.
func (w *Workers) Pin() (unpin func()) { return w.o.Blobs.Pin() }
