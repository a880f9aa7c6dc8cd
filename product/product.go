// Package product is the contract between the house and what lives in it. A product prepares
// itself from snapshots aside, commits in one step, and may take part in requests (Phaser) and
// serve things in the API (Resourcer).
package product

import (
	"context"
	"fmt"

	"selvage/edge"
	"selvage/spec"
)

// Product is one thing that Selvage offers: the cache, DNS, the proxy.
type Product interface {
	// Name is one lower-case word, the same as the package's.
	Name() string

	// Prepare makes next ready, off the request path, without effect. An error leaves the last good
	// state in place; one that is or joins ZoneError blames single zones: rollout puts those back to
	// their last good version and calls Prepare again. Calls never overlap.
	Prepare(ctx context.Context, next *spec.Snapshot) (Change, error)

	// Run does background work until ctx ends, then leaves nothing behind.
	Run(ctx context.Context) error
}

// Change is a prepared snapshot. Exactly one of its methods is called, exactly once.
type Change interface {
	// Commit takes effect at once and cannot fail.
	Commit()
	// Discard gives up what was prepared.
	Discard()
}

// Phaser is a product that takes part in requests. Where it stands is for node/pipeline.go to say.
type Phaser interface {
	Phase() edge.Phase
}

// Resourcer is a product that serves things in the API, and so in CLI and docs.
type Resourcer interface {
	Routes() []Route
}

// ZoneError blames one zone for a failed Prepare.
type ZoneError struct {
	ZoneID string
	Err    error // shown to the zone's owner through the API
}

// Error names the zone.
func (e *ZoneError) Error() string { return fmt.Sprintf("zone %s: %v", e.ZoneID, e.Err) }

// Unwrap returns what is wrong with it.
func (e *ZoneError) Unwrap() error { return e.Err }

// Commit is a Change that needs nothing to be discarded: the function takes effect.
func Commit(f func()) Change { return commit(f) }

type commit func()

func (c commit) Commit()  { c() }
func (c commit) Discard() {}

// Ruler is a product that runs phases of rulesets. control/api serves the rulesets themselves.
type Ruler interface {
	RulePhases() []RulePhase
}

// RulePhase is one phase, such as http_request_cache_settings.
type RulePhase struct {
	Name string
	// Group is the permission group that reads and writes rulesets of this phase, such as
	// "Cache Settings"; empty means "Zone Settings".
	Group string
	// Check reports every fault of a ruleset's rules: expressions, actions, parameters, each a fault
	// with a Field such as rules[2].expression.
	Check func(r *spec.Ruleset) error
}
