package api

import (
	"context"
	"fmt"
	"maps"
	"time"

	"selvage/foundation/fault"
	"selvage/product"
	"selvage/spec"
)

func (a *API) settingRoutes() []entry {
	read, write := product.Permission{Group: "Zone Settings"}, product.Permission{Group: "Zone Settings", Write: true}
	return asEntries([]product.Route{
		{Method: "GET", Path: "/zones/{zone_id}/settings", Permission: read, Summary: "List all settings of a zone.", Handle: a.listSettings},
		{Method: "PATCH", Path: "/zones/{zone_id}/settings", Permission: write, Summary: "Change several settings of a zone, all or none.", Handle: a.editSettings},
		{Method: "GET", Path: "/zones/{zone_id}/settings/{setting_id}", Permission: read, Summary: "Show one setting of a zone.", Handle: a.getSetting},
		{Method: "PATCH", Path: "/zones/{zone_id}/settings/{setting_id}", Permission: write, Summary: "Change one setting of a zone.", Handle: a.editSetting},
	})
}

// settingView is one setting as the API shows it.
type settingView struct {
	ID            string     `json:"id"`
	Value         any        `json:"value"`
	Editable      bool       `json:"editable"`
	ModifiedOn    *time.Time `json:"modified_on"`
	TimeRemaining *int       `json:"time_remaining,omitempty"` // of development_mode, seconds
}

// developmentModeLasts is how long development mode lasts, as at Cloudflare.
const developmentModeLasts = 3 * time.Hour

// developmentMode returns the seconds that development mode still lasts, negative since it ended,
// 0 if it never was on.
func (a *API) developmentMode(s *spec.Settings) int {
	since, was := s.ModifiedOn["development_mode"]
	if !was {
		return 0
	}
	now := a.o.Clock.Now()
	if s.On("development_mode") {
		return int(since.Add(developmentModeLasts).Sub(now) / time.Second)
	}
	return -int(now.Sub(since) / time.Second)
}

func (a *API) viewSetting(s *spec.Settings, id string) settingView {
	v := settingView{ID: id, Value: s.Value(id), Editable: true}
	if at, ok := s.ModifiedOn[id]; ok {
		v.ModifiedOn = &at
	}
	if id == "development_mode" {
		left := max(0, a.developmentMode(s))
		v.TimeRemaining = &left
	}
	return v
}

func (a *API) listSettings(_ context.Context, c *product.Call) (product.Reply, error) {
	all := make([]settingView, len(spec.SettingDefs))
	for i, d := range spec.SettingDefs {
		all[i] = a.viewSetting(c.Zone.Settings, d.ID)
	}
	return product.Reply{Result: all}, nil
}

func (a *API) getSetting(_ context.Context, c *product.Call) (product.Reply, error) {
	id := c.Params["setting_id"]
	if _, ok := spec.FindSetting(id); !ok {
		return product.Reply{}, noSetting(id)
	}
	return product.Reply{Result: a.viewSetting(c.Zone.Settings, id)}, nil
}

func noSetting(id string) *fault.Error {
	return fault.New(fault.Invalid, "There is no zone setting %.60q; list them at /zones/{zone_id}/settings.", id).WithCode(1006)
}

func (a *API) editSetting(ctx context.Context, c *product.Call) (product.Reply, error) {
	id := c.Params["setting_id"]
	if _, ok := spec.FindSetting(id); !ok {
		return product.Reply{}, noSetting(id)
	}
	var in struct {
		Value any `json:"value"`
	}
	if err := c.Decode(&in, "id", "editable", "modified_on", "time_remaining"); err != nil {
		return product.Reply{}, err
	}
	s, err := a.changeSettings(ctx, c, map[string]any{id: in.Value})
	if err != nil {
		return product.Reply{}, err
	}
	return product.Reply{Result: a.viewSetting(s, id)}, nil
}

func (a *API) editSettings(ctx context.Context, c *product.Call) (product.Reply, error) {
	var in struct {
		Items []struct {
			ID    string `json:"id"`
			Value any    `json:"value"`
		} `json:"items"`
	}
	if err := c.Decode(&in, "items[].editable", "items[].modified_on", "items[].time_remaining"); err != nil {
		return product.Reply{}, err
	}
	if len(in.Items) == 0 {
		return product.Reply{}, fault.New(fault.Invalid, "Send the settings to change in items, each with id and value.").At("items")
	}
	values := map[string]any{}
	for i, item := range in.Items {
		at := fmt.Sprintf("items[%d].id", i)
		if _, ok := spec.FindSetting(item.ID); !ok {
			return product.Reply{}, noSetting(item.ID).At(at)
		}
		if _, twice := values[item.ID]; twice {
			return product.Reply{}, fault.New(fault.Invalid, "The setting %s stands there twice.", item.ID).At(at)
		}
		values[item.ID] = item.Value
	}
	s, err := a.changeSettings(ctx, c, values)
	if err != nil {
		return product.Reply{}, err
	}
	changed := make([]settingView, len(in.Items))
	for i, item := range in.Items {
		changed[i] = a.viewSetting(s, item.ID)
	}
	return product.Reply{Result: changed}, nil
}

// changeSettings stores values beside the settings that the zone has.
func (a *API) changeSettings(ctx context.Context, c *product.Call, values map[string]any) (*spec.Settings, error) {
	for id, v := range values {
		if d, _ := spec.FindSetting(id); v == nil {
			return nil, fault.New(fault.Invalid, "The setting %s needs a value.", d.ID).WithCode(1007).At("value")
		}
	}
	var next *spec.Settings
	err := a.o.State.Update(ctx, c.Actor, func(tx product.Tx) error {
		z := tx.Snapshot().Zones[c.Zone.Zone.ID]
		if z == nil {
			return fault.New(fault.NotFound, "The zone was deleted meanwhile.")
		}
		next = a.withSettings(z.Settings, values)
		return tx.Put(next)
	})
	return next, err
}

// withSettings returns a copy of s with values, changed now.
func (a *API) withSettings(s *spec.Settings, values map[string]any) *spec.Settings {
	next := &spec.Settings{ZoneID: s.ZoneID, Values: map[string]any{}, ModifiedOn: map[string]time.Time{}}
	maps.Copy(next.Values, s.Values)
	maps.Copy(next.ModifiedOn, s.ModifiedOn)
	now := spec.Timestamp(a.o.Clock.Now())
	for id, v := range values {
		next.Values[id], next.ModifiedOn[id] = v, now
	}
	return next
}
