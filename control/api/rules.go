package api

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"selvage/foundation/fault"
	"selvage/product"
	"selvage/spec"
)

// ignoredInRules are fields of rules that clients send back as they read them, or that only
// products which are not here give a meaning.
var ignoredInRules = []string{"version", "last_updated", "categories", "logging", "score_threshold"}

// ruleBody is what clients send of a rule.
type ruleBody struct {
	ID               string          `json:"id"`
	Ref              *string         `json:"ref"`
	Expression       *string         `json:"expression"`
	Action           *string         `json:"action"`
	ActionParameters json.RawMessage `json:"action_parameters"`
	Description      *string         `json:"description"`
	Enabled          *bool           `json:"enabled"`
}

// placedRule is a rule and where in the ruleset it goes.
type placedRule struct {
	ruleBody
	Position *position `json:"position"`
}

// position names a place by a neighbour or by number. An empty before is the first place, an empty
// after the last.
type position struct {
	Before *string `json:"before"`
	After  *string `json:"after"`
	Index  *int    `json:"index"` // from 1
}

// makeRules returns the rules that bodies describe. One that names the ID of an old rule is that
// rule with a new definition; it keeps its version if nothing changed.
func (a *API) makeRules(old []spec.Rule, bodies []ruleBody) ([]spec.Rule, error) {
	byID := map[string]spec.Rule{}
	for _, r := range old {
		byID[r.ID] = r
	}
	rules := make([]spec.Rule, len(bodies))
	seen := map[string]bool{}
	for i, b := range bodies {
		if b.ID != "" && seen[b.ID] {
			return nil, fault.New(fault.Invalid, "The rule %.40s stands there twice.", b.ID).At(fmt.Sprintf("rules[%d].id", i))
		}
		seen[b.ID] = true
		// Other than by PATCH a rule is defined anew: what is left out is unset, not kept.
		before, exists := byID[b.ID]
		fresh := spec.Rule{Enabled: true}
		if exists {
			fresh.ID, fresh.Ref, fresh.Version, fresh.LastUpdated = before.ID, before.Ref, before.Version, before.LastUpdated
		}
		rules[i] = a.defineRule(fresh, before, b)
	}
	return rules, nil
}

// defineRule returns r with what the body says, as a new version if that differs from before.
func (a *API) defineRule(r, before spec.Rule, b ruleBody) spec.Rule {
	set(&r.Ref, b.Ref)
	set(&r.Expression, b.Expression)
	set(&r.Action, b.Action)
	set(&r.Description, b.Description)
	set(&r.Enabled, b.Enabled)
	if b.ActionParameters != nil {
		r.ActionParameters = compact(b.ActionParameters)
	}
	if r.ID == "" {
		r.ID = spec.NewID()
	}
	if r.Ref == "" {
		r.Ref = r.ID
	}
	if r.Version == 0 || !sameRule(r, before) {
		r.Version++
		r.LastUpdated = spec.Timestamp(a.o.Clock.Now())
	}
	return r
}

func set[T any](to, from *T) {
	if from != nil {
		*to = *from
	}
}

// compact takes a null away: it is how some clients say nothing.
func compact(raw json.RawMessage) json.RawMessage {
	var out bytes.Buffer
	if json.Compact(&out, raw) != nil || out.String() == "null" {
		return nil
	}
	return out.Bytes()
}

func sameRule(a, b spec.Rule) bool {
	return a.Ref == b.Ref && a.Expression == b.Expression && a.Action == b.Action && a.Description == b.Description &&
		a.Enabled == b.Enabled && bytes.Equal(a.ActionParameters, b.ActionParameters)
}

func (a *API) readRule(c *product.Call) (placedRule, error) {
	var in placedRule
	err := c.Decode(&in, ignoredInRules...)
	return in, err
}

func (a *API) addRule(ctx context.Context, c *product.Call) (product.Reply, error) {
	in, err := a.readRule(c)
	if err != nil {
		return product.Reply{}, err
	}
	return a.changeRules(ctx, c, func(rules []spec.Rule) ([]spec.Rule, error) {
		in.ID = "" // a new rule gets a new ID
		r := a.defineRule(spec.Rule{Enabled: true}, spec.Rule{}, in.ruleBody)
		return in.Position.insert(rules, r)
	})
}

func (a *API) editRule(ctx context.Context, c *product.Call) (product.Reply, error) {
	in, err := a.readRule(c)
	if err != nil {
		return product.Reply{}, err
	}
	return a.changeRules(ctx, c, func(rules []spec.Rule) ([]spec.Rule, error) {
		i, err := indexOfRule(rules, c.Params["rule_id"])
		if err != nil {
			return nil, err
		}
		r := a.defineRule(rules[i], rules[i], in.ruleBody)
		if in.Position == nil {
			rules[i] = r
			return rules, nil
		}
		return in.Position.insert(slices.Delete(rules, i, i+1), r)
	})
}

func (a *API) removeRule(ctx context.Context, c *product.Call) (product.Reply, error) {
	return a.changeRules(ctx, c, func(rules []spec.Rule) ([]spec.Rule, error) {
		i, err := indexOfRule(rules, c.Params["rule_id"])
		if err != nil {
			return nil, err
		}
		return slices.Delete(rules, i, i+1), nil
	})
}

// changeRules runs change on a copy of the rules of the ruleset that the path names.
func (a *API) changeRules(ctx context.Context, c *product.Call, change func(rules []spec.Rule) ([]spec.Rule, error)) (product.Reply, error) {
	return a.changeRuleset(ctx, c, func(z *spec.ZoneConfig) (*spec.Ruleset, error) {
		old, err := a.findRuleset(c, z, true)
		if err != nil {
			return nil, err
		}
		r := *old
		r.Rules, err = change(slices.Clone(old.Rules))
		return &r, err
	})
}

func indexOfRule(rules []spec.Rule, id string) (int, error) {
	i := slices.IndexFunc(rules, func(r spec.Rule) bool { return r.ID == id })
	if i < 0 {
		return 0, fault.New(fault.NotFound, "could not find rule %.40s", id).WithCode(10002)
	}
	return i, nil
}

// insert puts r where p says, at the end without p.
func (p *position) insert(rules []spec.Rule, r spec.Rule) ([]spec.Rule, error) {
	switch {
	case p == nil:
		return append(rules, r), nil
	case p.Before != nil && p.After == nil && p.Index == nil:
		if *p.Before == "" {
			return slices.Insert(rules, 0, r), nil
		}
		i, err := indexOfRule(rules, *p.Before)
		if err != nil {
			return nil, err
		}
		return slices.Insert(rules, i, r), nil
	case p.After != nil && p.Before == nil && p.Index == nil:
		if *p.After == "" {
			return append(rules, r), nil
		}
		i, err := indexOfRule(rules, *p.After)
		if err != nil {
			return nil, err
		}
		return slices.Insert(rules, i+1, r), nil
	case p.Index != nil && p.Before == nil && p.After == nil:
		if *p.Index < 1 || *p.Index > len(rules)+1 {
			return nil, fault.New(fault.Invalid, "The index is %d; it is from 1 to %d.", *p.Index, len(rules)+1).At("position.index")
		}
		return slices.Insert(rules, *p.Index-1, r), nil
	}
	return nil, fault.New(fault.Invalid, "A position has exactly one of before, after and index.").At("position")
}
