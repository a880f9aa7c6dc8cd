package api

import (
	"context"
	"time"

	"selvage/product"
	"selvage/spec"
)

// expireEvery is how late development mode may end.
const expireEvery = time.Minute

// Run ends the development mode of zones after three hours, as Cloudflare does: nobody means to
// leave a site uncached for ever. It returns when ctx ends.
func (a *API) Run(ctx context.Context) error {
	tick := time.NewTicker(expireEvery)
	defer tick.Stop()
	for {
		if err := a.endDevelopment(ctx); err != nil && ctx.Err() == nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (a *API) endDevelopment(ctx context.Context) error {
	over := func(s *spec.Settings) bool { return s.On("development_mode") && a.developmentMode(s) <= 0 }
	for id, z := range a.o.State.Snapshot().Zones {
		if !over(z.Settings) {
			continue
		}
		err := a.o.State.Update(ctx, spec.Actor{Via: "node"}, func(tx product.Tx) error {
			z := tx.Snapshot().Zones[id]
			if z == nil || !over(z.Settings) {
				return nil // deleted or changed meanwhile
			}
			return tx.Put(a.withSettings(z.Settings, map[string]any{"development_mode": "off"}))
		})
		if err != nil {
			return err
		}
	}
	return nil
}
