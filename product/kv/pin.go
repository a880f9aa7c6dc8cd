package kv

import "selvage/product"

var _ product.Pinner = (*KV)(nil)

// Pin keeps the files of large values from being removed, for a backup.
func (p *KV) Pin() (unpin func()) { return p.store.Pin() }
