package node

import (
	"fmt"
	"log/slog"

	"selvage/edge"
	"selvage/product"
)

// pipeline is the story of a request: the phases it meets, in this order, and what happens to it
// if one of them breaks.
var pipeline = []struct {
	product string
	onBreak edge.OnBreak
}{
	{"proxy", edge.Refuse},   // whose host is this, where is its origin; without it nothing is known
	{"certs", edge.Skip},     // answers ACME HTTP-01 challenges
	{"workers", edge.Refuse}, // the site's own code answers, or asks what is below; a site is not served without it
	{"cache", edge.Skip},     // answers from memory or disk, or remembers what the origin says
	{"r2", edge.Refuse},      // the origin of names at which a bucket is public
}

// buildPipeline chains the phases of products in the order above, ending at origin. Around all of
// them stands compression, which belongs to no product: phases see responses as origins send them.
func buildPipeline(log *slog.Logger, products []product.Product, origin edge.Handler) (edge.Handler, error) {
	phases := map[string]edge.Phase{}
	for _, p := range products {
		if ph, ok := p.(product.Phaser); ok {
			phases[p.Name()] = ph.Phase()
		}
	}
	var steps []edge.Step
	for _, s := range pipeline {
		ph, ok := phases[s.product]
		if !ok {
			return nil, fmt.Errorf("pipeline names product %q, which takes no part in requests", s.product)
		}
		delete(phases, s.product)
		steps = append(steps, edge.Step{Phase: ph, OnBreak: s.onBreak})
	}
	for name := range phases {
		return nil, fmt.Errorf("product %q takes part in requests but has no place in node/pipeline.go", name)
	}
	return edge.Compress(edge.Chain(log, steps, origin)), nil
}
