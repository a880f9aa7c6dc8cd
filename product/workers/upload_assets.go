package workers

import (
	"context"

	"selvage/product/workers/assets"
)

// readAssets redeems the token that ended the upload of a version's files.
func (d *draft) readAssets(ctx context.Context) error {
	sent := d.meta.Assets
	if sent == nil {
		return nil
	}
	if sent.JWT == "" {
		return invalid("assets.jwt", "Assets need the token that the last of their uploads answered, in assets.jwt.")
	}
	made, err := assets.Configure(sent.Config, d.main != "")
	if err != nil {
		return err
	}
	if made.Manifest, err = d.w.o.Assets.Complete(ctx, d.account, d.script, sent.JWT); err != nil {
		return err
	}
	d.assets = made
	return nil
}
