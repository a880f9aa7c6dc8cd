package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"selvage/foundation/fault"
	"selvage/product"
	"selvage/spec"
)

// rulesetRoutes serve the rulesets of zones. Which phases there are, and who may touch each, is
// known only with the ruleset at hand, so the handlers check permissions themselves.
func (a *API) rulesetRoutes() []entry {
	zone := "/zones/{zone_id}/rulesets"
	one, entrypoint := zone+"/{ruleset_id}", zone+"/phases/{phase}/entrypoint"
	return asEntries([]product.Route{
		{Method: "GET", Path: "/accounts/{account_id}/rulesets", Summary: "List the rulesets of an account: none, rulesets belong to zones here.", Handle: listNoRulesets},
		{Method: "GET", Path: zone, Summary: "List the rulesets of a zone, without their rules.", Handle: a.listRulesets},
		{Method: "POST", Path: zone, Summary: "Create the ruleset of a phase.", Handle: a.createRuleset},
		{Method: "GET", Path: one, Summary: "Show a ruleset.", Handle: a.getRuleset},
		{Method: "PUT", Path: one, Summary: "Replace the rules of a ruleset.", Handle: a.updateRuleset},
		{Method: "DELETE", Path: one, Summary: "Delete a ruleset.", Handle: a.deleteRuleset},
		{Method: "GET", Path: one + "/versions", Summary: "List the versions of a ruleset: the newest is kept.", Handle: a.listVersions},
		{Method: "GET", Path: one + "/versions/{version}", Summary: "Show a version of a ruleset.", Handle: a.getVersion},
		{Method: "GET", Path: entrypoint, Summary: "Show the ruleset that a phase runs.", Handle: a.getRuleset},
		{Method: "PUT", Path: entrypoint, Summary: "Create or replace the ruleset that a phase runs.", Handle: a.updateEntrypoint},
		{Method: "GET", Path: entrypoint + "/versions", Summary: "List the versions of a phase's ruleset: the newest is kept.", Handle: a.listVersions},
		{Method: "GET", Path: entrypoint + "/versions/{version}", Summary: "Show a version of a phase's ruleset.", Handle: a.getVersion},
		{Method: "POST", Path: one + "/rules", Summary: "Add a rule to a ruleset.", Handle: a.addRule},
		{Method: "PATCH", Path: one + "/rules/{rule_id}", Summary: "Change or move a rule.", Handle: a.editRule},
		{Method: "DELETE", Path: one + "/rules/{rule_id}", Summary: "Remove a rule from a ruleset.", Handle: a.removeRule},
	})
}

// phasePermission is the right to read or write the rulesets of a phase.
func phasePermission(p product.RulePhase, write bool) product.Permission {
	group := p.Group
	if group == "" {
		group = "Zone Settings"
	}
	return product.Permission{Group: group, Write: write}
}

// rulesetView is a ruleset as the API shows it; listings leave the rules out.
type rulesetView struct {
	ID          string      `json:"id"`
	Name        string      `json:"name"`
	Description string      `json:"description"`
	Kind        string      `json:"kind"`
	Phase       string      `json:"phase"`
	Version     string      `json:"version"`
	Rules       *[]ruleView `json:"rules,omitempty"`
	LastUpdated time.Time   `json:"last_updated"`
}

type ruleView struct {
	ID               string          `json:"id"`
	Version          string          `json:"version"`
	Action           string          `json:"action"`
	ActionParameters json.RawMessage `json:"action_parameters,omitempty"`
	Expression       string          `json:"expression"`
	Description      string          `json:"description"`
	LastUpdated      time.Time       `json:"last_updated"`
	Ref              string          `json:"ref"`
	Enabled          bool            `json:"enabled"`
}

func viewRuleset(r *spec.Ruleset) rulesetView {
	v := headRuleset(r)
	rules := make([]ruleView, len(r.Rules))
	for i, rule := range r.Rules {
		rules[i] = ruleView{
			ID: rule.ID, Version: strconv.Itoa(rule.Version), Action: rule.Action, ActionParameters: rule.ActionParameters,
			Expression: rule.Expression, Description: rule.Description, LastUpdated: rule.LastUpdated, Ref: rule.Ref, Enabled: rule.Enabled,
		}
	}
	v.Rules = &rules
	return v
}

func headRuleset(r *spec.Ruleset) rulesetView {
	return rulesetView{ID: r.ID, Name: r.Name, Description: r.Description, Kind: r.Kind, Phase: r.Phase, Version: strconv.Itoa(r.Version), LastUpdated: r.LastUpdated}
}

func listNoRulesets(context.Context, *product.Call) (product.Reply, error) {
	return product.Reply{Result: []rulesetView{}}, nil
}

// phase returns the phase called name if the caller may read or write its rulesets.
func (a *API) phase(c *product.Call, name string, write bool) (product.RulePhase, error) {
	p, ok := a.phases[name]
	if !ok {
		return p, fault.New(fault.Invalid, "There is no phase %.80q here; there are %s.", name, strings.Join(a.phaseNames(), ", ")).At("phase").WithCode(20004)
	}
	if need := phasePermission(p, write); !c.Allowed(need, c.Zone.Zone.AccountID, c.Zone.Zone.ID) {
		return p, refuse(403, 10000, "Authentication error: the token lacks the permission %s on this zone.", groupName(need))
	}
	return p, nil
}

func (a *API) phaseNames() []string {
	var names []string
	for name := range a.phases {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// findRuleset returns the ruleset that the path names, by ID or by phase, as it is in z.
func (a *API) findRuleset(c *product.Call, z *spec.ZoneConfig, write bool) (*spec.Ruleset, error) {
	if name, ok := c.Params["phase"]; ok {
		if _, err := a.phase(c, name, write); err != nil {
			return nil, err
		}
		if r := z.Ruleset(name); r != nil {
			return r, nil
		}
		return nil, fault.New(fault.NotFound, "could not find entrypoint ruleset in the %s phase", name).WithCode(10003)
	}
	id := c.Params["ruleset_id"]
	for _, r := range z.Rulesets {
		if r.ID == id {
			_, err := a.phase(c, r.Phase, write)
			return r, err
		}
	}
	return nil, fault.New(fault.NotFound, "could not find ruleset %.40s", id).WithCode(10001)
}

func (a *API) listRulesets(_ context.Context, c *product.Call) (product.Reply, error) {
	found := []rulesetView{}
	for _, r := range c.Zone.Rulesets {
		if _, err := a.phase(c, r.Phase, false); err == nil {
			found = append(found, headRuleset(r))
		}
	}
	return product.Reply{Result: found, Info: &product.PageInfo{Count: len(found), PerPage: len(found), Cursors: &product.Cursors{}}}, nil
}

func (a *API) getRuleset(_ context.Context, c *product.Call) (product.Reply, error) {
	r, err := a.findRuleset(c, c.Zone, false)
	if err != nil {
		return product.Reply{}, err
	}
	return product.Reply{Result: viewRuleset(r)}, nil
}

func (a *API) listVersions(_ context.Context, c *product.Call) (product.Reply, error) {
	r, err := a.findRuleset(c, c.Zone, false)
	if err != nil {
		return product.Reply{}, err
	}
	return product.Reply{Result: []rulesetView{headRuleset(r)}}, nil
}

func (a *API) getVersion(_ context.Context, c *product.Call) (product.Reply, error) {
	r, err := a.findRuleset(c, c.Zone, false)
	if err != nil {
		return product.Reply{}, err
	}
	if v := c.Params["version"]; v != strconv.Itoa(r.Version) {
		return product.Reply{}, fault.New(fault.NotFound, "could not find version %.20q of the ruleset; the newest, %d, is the only one kept. The audit log has the others.", v, r.Version).WithCode(10001)
	}
	return product.Reply{Result: viewRuleset(r)}, nil
}

// rulesetBody is what clients send of a ruleset.
type rulesetBody struct {
	Name        *string     `json:"name"`
	Description *string     `json:"description"`
	Kind        string      `json:"kind"`
	Phase       string      `json:"phase"`
	Rules       *[]ruleBody `json:"rules"`
}

func (a *API) readRuleset(c *product.Call) (rulesetBody, error) {
	var in rulesetBody
	ignored := []string{"id", "version", "last_updated"}
	for _, name := range ignoredInRules {
		ignored = append(ignored, "rules[]."+name)
	}
	err := c.Decode(&in, ignored...)
	if err == nil && in.Kind != "" && in.Kind != "zone" {
		err = fault.New(fault.Unsupported, "Rulesets of kind %.40q cannot be created here; use kind zone, the one that a phase runs.", in.Kind).At("kind")
	}
	return in, err
}

func (a *API) createRuleset(ctx context.Context, c *product.Call) (product.Reply, error) {
	in, err := a.readRuleset(c)
	if err != nil {
		return product.Reply{}, err
	}
	if in.Phase == "" || in.Name == nil {
		return product.Reply{}, fault.New(fault.Invalid, "A ruleset needs a name and a phase.").At("phase")
	}
	if _, err := a.phase(c, in.Phase, true); err != nil {
		return product.Reply{}, err
	}
	return a.changeRuleset(ctx, c, func(z *spec.ZoneConfig) (*spec.Ruleset, error) {
		if old := z.Ruleset(in.Phase); old != nil {
			return nil, fault.New(fault.Invalid, "The phase %s has a ruleset already, %s; update that one.", in.Phase, old.ID).WithCode(20217).At("phase")
		}
		r := newRuleset(z, in.Phase)
		return r, a.applyBody(r, in)
	})
}

func newRuleset(z *spec.ZoneConfig, phase string) *spec.Ruleset {
	return &spec.Ruleset{ID: spec.NewID(), ZoneID: z.Zone.ID, Name: "default", Kind: "zone", Phase: phase, Rules: []spec.Rule{}}
}

func (a *API) updateRuleset(ctx context.Context, c *product.Call) (product.Reply, error) {
	in, err := a.readRuleset(c)
	if err != nil {
		return product.Reply{}, err
	}
	return a.changeRuleset(ctx, c, func(z *spec.ZoneConfig) (*spec.Ruleset, error) {
		old, err := a.findRuleset(c, z, true)
		if err != nil {
			return nil, err
		}
		r := *old
		return &r, a.applyBody(&r, in)
	})
}

func (a *API) updateEntrypoint(ctx context.Context, c *product.Call) (product.Reply, error) {
	name := c.Params["phase"]
	if _, err := a.phase(c, name, true); err != nil {
		return product.Reply{}, err
	}
	in, err := a.readRuleset(c)
	if err != nil {
		return product.Reply{}, err
	}
	return a.changeRuleset(ctx, c, func(z *spec.ZoneConfig) (*spec.Ruleset, error) {
		r := newRuleset(z, name)
		if old := z.Ruleset(name); old != nil {
			*r = *old
		}
		return r, a.applyBody(r, in)
	})
}

// applyBody takes the body over into r, a copy. Rules left out stay as they are.
func (a *API) applyBody(r *spec.Ruleset, in rulesetBody) error {
	if in.Phase != "" && in.Phase != r.Phase {
		return fault.New(fault.Invalid, "The phase of a ruleset cannot change; it is %s.", r.Phase).At("phase")
	}
	if in.Name != nil {
		r.Name = *in.Name
	}
	if in.Description != nil {
		r.Description = *in.Description
	}
	if len(r.Name) > 500 || len(r.Description) > 5000 {
		return fault.New(fault.Invalid, "The name or description is too long; the limits are 500 and 5000 octets.").At("name")
	}
	if in.Rules == nil {
		return nil
	}
	rules, err := a.makeRules(r.Rules, *in.Rules)
	r.Rules = rules
	return err
}

// changeRuleset stores what change makes of the zone's rulesets, as a new version, and answers
// with it.
func (a *API) changeRuleset(ctx context.Context, c *product.Call, change func(z *spec.ZoneConfig) (*spec.Ruleset, error)) (product.Reply, error) {
	var next *spec.Ruleset
	err := a.o.State.Update(ctx, c.Actor, func(tx product.Tx) error {
		z := tx.Snapshot().Zones[c.Zone.Zone.ID]
		if z == nil {
			return fault.New(fault.NotFound, "The zone was deleted meanwhile.")
		}
		var err error
		if next, err = change(z); err != nil {
			return err
		}
		next.Version++
		next.LastUpdated = spec.Timestamp(a.o.Clock.Now())
		if err := checkRefs(next.Rules); err != nil {
			return err
		}
		if err := errors.Join(next.Validate(), a.phases[next.Phase].Check(next)); err != nil {
			return err
		}
		return tx.Put(next)
	})
	if err != nil {
		return product.Reply{}, err
	}
	return product.Reply{Result: viewRuleset(next)}, nil
}

func checkRefs(rules []spec.Rule) error {
	seen := map[string]int{}
	for i, r := range rules {
		if j, ok := seen[r.Ref]; ok {
			return fault.New(fault.Invalid, "The ref %.80q is that of rules[%d] already; refs are unique in a ruleset.", r.Ref, j).At(fmt.Sprintf("rules[%d].ref", i))
		}
		seen[r.Ref] = i
	}
	return nil
}

func (a *API) deleteRuleset(ctx context.Context, c *product.Call) (product.Reply, error) {
	err := a.o.State.Update(ctx, c.Actor, func(tx product.Tx) error {
		z := tx.Snapshot().Zones[c.Zone.Zone.ID]
		if z == nil {
			return fault.New(fault.NotFound, "The zone was deleted meanwhile.")
		}
		r, err := a.findRuleset(c, z, true)
		if err != nil {
			return err
		}
		return tx.Delete(r.Key())
	})
	return product.Reply{Status: 204}, err
}
