package spec

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"selvage/foundation/fault"
)

// KindRuleset is the kind of rulesets.
const KindRuleset Kind = "ruleset"

// MaxRules is the most rules a ruleset may have.
const MaxRules = 1000

// Ruleset is an ordered list of rules for one phase of a request, in the form of the v4 API.
// Whether a phase exists and what its actions take is for the product that runs it to check.
type Ruleset struct {
	ID          string    `json:"id"`
	ZoneID      string    `json:"zone_id"`
	Name        string    `json:"name"`
	Description string    `json:"description"`
	Kind        string    `json:"kind"`  // zone (the phase's entry point), custom
	Phase       string    `json:"phase"` // http_request_cache_settings, ...
	Version     int       `json:"version"`
	Rules       []Rule    `json:"rules"`
	LastUpdated time.Time `json:"last_updated"`
}

// Rule is an expression and what to do where it holds.
type Rule struct {
	ID               string          `json:"id"`
	Ref              string          `json:"ref"`
	Version          int             `json:"version"`
	Expression       string          `json:"expression"`
	Action           string          `json:"action"`
	ActionParameters json.RawMessage `json:"action_parameters,omitempty"`
	Description      string          `json:"description,omitempty"`
	Enabled          bool            `json:"enabled"`
	LastUpdated      time.Time       `json:"last_updated"`
}

// Key returns the ruleset's key.
func (r *Ruleset) Key() Key { return Key{KindRuleset, r.ZoneID, r.ID} }

// Validate checks the form; expressions and actions are checked by the product that runs the phase.
func (r *Ruleset) Validate() error {
	if r.Phase == "" {
		return fault.New(fault.Invalid, "A ruleset needs a phase.").At("phase")
	}
	if len(r.Rules) > MaxRules {
		return fault.New(fault.TooMuch, "The ruleset has %d rules, the limit is %d.", len(r.Rules), MaxRules).At("rules")
	}
	var faults []error
	for i, rule := range r.Rules {
		if len(rule.Expression) > 4096 {
			faults = append(faults, fault.New(fault.TooMuch, "The expression has %d characters, the limit is 4096.", len(rule.Expression)).At(fmt.Sprintf("rules[%d].expression", i)))
		}
		if rule.Action == "" {
			faults = append(faults, fault.New(fault.Invalid, "The rule needs an action.").At(fmt.Sprintf("rules[%d].action", i)))
		}
	}
	return errors.Join(faults...)
}
