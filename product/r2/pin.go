package r2

import "selvage/product"

var _ product.Pinner = (*R2)(nil)

// Pin keeps the content of objects from being removed, for a backup.
func (p *R2) Pin() (unpin func()) { return p.objects.Pin() }
