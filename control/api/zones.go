package api

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"selvage/foundation/fault"
	"selvage/product"
	"selvage/spec"
)

func (a *API) zoneRoutes() []entry {
	read, write := product.Permission{Group: "Zone"}, product.Permission{Group: "Zone", Write: true}
	return asEntries([]product.Route{
		{Method: "GET", Path: "/zones", Summary: "List the zones that you may read.", Handle: a.listZones},
		{Method: "POST", Path: "/zones", Permission: write, Summary: "Add a zone to an account.", Handle: a.createZone},
		{Method: "GET", Path: "/zones/{zone_id}", Permission: read, Summary: "Show a zone.", Handle: a.getZone},
		{Method: "PATCH", Path: "/zones/{zone_id}", Permission: write, Summary: "Pause a zone or change its type.", Handle: a.editZone},
		{Method: "DELETE", Path: "/zones/{zone_id}", Permission: write, Summary: "Delete a zone and everything in it.", Handle: a.deleteZone},
		{Method: "PUT", Path: "/zones/{zone_id}/activation_check", Permission: write, Summary: "Check a zone's delegation again.", Handle: a.checkZone},
	})
}

// zoneView is a zone as the API shows it. Fields without a meaning here have the value that
// Cloudflare shows where they do not apply.
type zoneView struct {
	ID                  string         `json:"id"`
	Name                string         `json:"name"`
	Status              string         `json:"status"`
	Paused              bool           `json:"paused"`
	Type                string         `json:"type"`
	DevelopmentMode     int            `json:"development_mode"` // seconds left; negative: since it ended
	NameServers         []string       `json:"name_servers"`
	OriginalNameServers []string       `json:"original_name_servers"`
	OriginalRegistrar   *string        `json:"original_registrar"`
	OriginalDNSHost     *string        `json:"original_dnshost"`
	ModifiedOn          time.Time      `json:"modified_on"`
	CreatedOn           time.Time      `json:"created_on"`
	ActivatedOn         *time.Time     `json:"activated_on"`
	Meta                map[string]any `json:"meta"`
	Owner               map[string]any `json:"owner"`
	Account             accountRef     `json:"account"`
	Tenant              map[string]any `json:"tenant"`
	TenantUnit          map[string]any `json:"tenant_unit"`
	Permissions         []string       `json:"permissions"`
	Plan                plan           `json:"plan"`
}

type accountRef struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

type plan struct {
	ID                string  `json:"id"`
	Name              string  `json:"name"`
	Price             float64 `json:"price"`
	Currency          string  `json:"currency"`
	Frequency         string  `json:"frequency"`
	LegacyID          string  `json:"legacy_id"`
	IsSubscribed      bool    `json:"is_subscribed"`
	CanSubscribe      bool    `json:"can_subscribe"`
	LegacyDiscount    bool    `json:"legacy_discount"`
	ExternallyManaged bool    `json:"externally_managed"`
}

// freePlan is what every zone has: nothing here costs anything. The ID is Cloudflare's.
var freePlan = plan{ID: "0feeeeeeeeeeeeeeeeeeeeeeeeeeeeee", Name: "Free Website", Currency: "USD", LegacyID: "free"}

func (a *API) viewZone(c *product.Call, z *spec.ZoneConfig, accounts map[string]*spec.Account) zoneView {
	zone := z.Zone
	v := zoneView{
		ID: zone.ID, Name: zone.Name, Status: zone.Status, Paused: zone.Paused, Type: zone.Type,
		DevelopmentMode: a.developmentMode(z.Settings),
		NameServers:     append([]string{}, zone.NameServers...),
		ModifiedOn:      zone.ModifiedOn, CreatedOn: zone.CreatedOn,
		Meta: map[string]any{
			"step": 2, "custom_certificate_quota": 100, "page_rule_quota": 0, "phishing_detected": false,
			"cdn_only": false, "dns_only": false, "foundation_dns": false,
		},
		Owner:  map[string]any{"id": nil, "type": "user", "email": nil},
		Tenant: map[string]any{"id": nil, "name": nil}, TenantUnit: map[string]any{"id": nil},
		Permissions: a.zonePermissions(c, zone),
		Plan:        freePlan,
	}
	if !zone.ActivatedOn.IsZero() {
		v.ActivatedOn = &zone.ActivatedOn
	}
	if acc := accounts[zone.AccountID]; acc != nil {
		v.Account = accountRef{acc.ID, acc.Name}
	}
	if at, why := a.held(zone.ID); why != nil {
		v.Meta["selvage"] = map[string]any{"held": true, "version": z.Version, "version_in_effect": at, "error": why.Error()}
	}
	return v
}

// zonePermissions names the caller's rights on the zone in the words of the older permission model.
func (a *API) zonePermissions(c *product.Call, z *spec.Zone) []string {
	held := []string{}
	for _, p := range []struct{ group, name string }{
		{"Zone", "zone"}, {"Zone Settings", "zone_settings"}, {"DNS", "dns_records"}, {"SSL and Certificates", "ssl"},
	} {
		if c.Allowed(product.Permission{Group: p.group}, z.AccountID, z.ID) {
			held = append(held, "#"+p.name+":read")
		}
		if c.Allowed(product.Permission{Group: p.group, Write: true}, z.AccountID, z.ID) {
			held = append(held, "#"+p.name+":edit")
		}
	}
	return held
}

func (a *API) held(zoneID string) (inEffect uint64, why error) {
	if a.o.Trouble == nil {
		return 0, nil
	}
	return a.o.Trouble(zoneID)
}

// trouble says in a message that a zone's newest version is not in effect.
func (a *API) trouble(zoneID string) []product.Message {
	at, why := a.held(zoneID)
	if why == nil {
		return nil
	}
	return []product.Message{{Code: 10100, Message: fmt.Sprintf("The change is saved but not in effect: the zone stays on version %d until this is mended: %s", at, why)}}
}

func (a *API) listZones(_ context.Context, c *product.Call) (product.Reply, error) {
	snap := a.o.State.Snapshot()
	match := cmp.Or(c.Query.Get("match"), "all")
	if match != "all" && match != "any" {
		return product.Reply{}, fault.New(fault.Invalid, "match is all or any, not %.40q.", match).At("match")
	}
	accountName := func(z *spec.ZoneConfig) string {
		if acc := snap.Accounts[z.Zone.AccountID]; acc != nil {
			return acc.Name
		}
		return ""
	}
	fits := zoneFilter(c.Query, match == "any", accountName)
	var found []*spec.ZoneConfig
	for id, z := range snap.Zones {
		if fits(z) && c.Allowed(product.Permission{Group: "Zone"}, z.Zone.AccountID, id) {
			found = append(found, z)
		}
	}
	if err := sorted(found, c.Query, "name", map[string]func(*spec.ZoneConfig) string{
		"name":         func(z *spec.ZoneConfig) string { return z.Zone.Name },
		"status":       func(z *spec.ZoneConfig) string { return z.Zone.Status + " " + z.Zone.Name },
		"account.id":   func(z *spec.ZoneConfig) string { return z.Zone.AccountID + " " + z.Zone.Name },
		"account.name": func(z *spec.ZoneConfig) string { return accountName(z) + " " + z.Zone.Name },
		"plan.name":    func(z *spec.ZoneConfig) string { return z.Zone.Name },
	}); err != nil {
		return product.Reply{}, err
	}
	found, info, err := product.Page(found, c.Query, product.Paging{})
	if err != nil {
		return product.Reply{}, err
	}
	views := make([]zoneView, len(found))
	for i, z := range found {
		views[i] = a.viewZone(c, z, snap.Accounts)
	}
	return product.Reply{Result: views, Info: info}, nil
}

// zoneFilter returns whether a zone fits the query's filters: all of them, or any.
func zoneFilter(q url.Values, any bool, accountName func(*spec.ZoneConfig) string) func(*spec.ZoneConfig) bool {
	type filter struct {
		want string
		of   func(*spec.ZoneConfig) string
	}
	var filters []filter
	for _, f := range []filter{
		{"name", func(z *spec.ZoneConfig) string { return z.Zone.Name }},
		{"status", func(z *spec.ZoneConfig) string { return z.Zone.Status }},
		{"type", func(z *spec.ZoneConfig) string { return z.Zone.Type }},
		{"account.id", func(z *spec.ZoneConfig) string { return z.Zone.AccountID }},
		{"account.name", accountName},
	} {
		if want := q.Get(f.want); want != "" {
			filters = append(filters, filter{want, f.of})
		}
	}
	return func(z *spec.ZoneConfig) bool {
		for _, f := range filters {
			if matchText(f.want, f.of(z)) == any {
				return any
			}
		}
		return len(filters) == 0 || !any
	}
}

// matchText tells whether got fits a filter: "" fits all; "contains:x", "starts_with:x",
// "ends_with:x", "equal:x" and "not_equal:x" do what they say; anything else is equality. Case does
// not count, except with "contains_case_sensitive:x" and the like.
func matchText(want, got string) bool {
	if want == "" {
		return true
	}
	op, arg, ok := strings.Cut(want, ":")
	if !ok {
		return strings.EqualFold(want, got)
	}
	op, exact := strings.CutSuffix(op, "_case_sensitive")
	if !exact {
		arg, got = strings.ToLower(arg), strings.ToLower(got)
	}
	switch op {
	case "contains":
		return strings.Contains(got, arg)
	case "starts_with":
		return strings.HasPrefix(got, arg)
	case "ends_with":
		return strings.HasSuffix(got, arg)
	case "equal":
		return got == arg
	case "not_equal":
		return got != arg
	}
	return false
}

// createZone adds a zone, which is active at once: on a node that its owner runs, whoever holds a
// token is the one who decides what it serves, and names that are never delegated (in a lab, or
// before the move) have to work too. Other accounts are kept apart by refusing zones below theirs.
func (a *API) createZone(ctx context.Context, c *product.Call) (product.Reply, error) {
	var in struct {
		Name    string `json:"name"`
		Type    string `json:"type"`
		Account struct {
			ID string `json:"id"`
		} `json:"account"`
		Paused bool `json:"paused"`
	}
	// jump_start would scan the old DNS; organization is the old name of account; plans do not exist.
	if err := c.Decode(&in, "jump_start", "organization", "plan", "account.name", "account.type", "account.settings", "account.created_on", "account.managed_by"); err != nil {
		return product.Reply{}, err
	}
	account, err := a.accountFor(c, in.Account.ID)
	if err != nil {
		return product.Reply{}, err
	}
	name, err := a.zoneName(in.Name)
	if err != nil {
		return product.Reply{}, err
	}
	now := spec.Timestamp(a.o.Clock.Now())
	z := &spec.Zone{
		ID: spec.NewID(), AccountID: account.ID, Name: name, Status: "active", Type: cmp.Or(in.Type, "full"), Paused: in.Paused,
		NameServers: a.o.NameServers, CreatedOn: now, ModifiedOn: now, ActivatedOn: now,
	}
	if err := checkType(z.Type); err != nil {
		return product.Reply{}, err
	}
	err = a.o.State.Update(ctx, c.Actor, func(tx product.Tx) error {
		if err := free(tx.Snapshot(), z); err != nil {
			return err
		}
		return tx.Put(z)
	})
	if err != nil {
		return product.Reply{}, err
	}
	return a.showZone(c, z.ID)
}

// free tells whether the zone's name may be used by its account.
func free(snap *spec.Snapshot, z *spec.Zone) error {
	for _, other := range snap.Zones {
		if other.Zone.Name == z.Name {
			return fault.New(fault.Invalid, "%s already exists", z.Name).WithCode(1061).At("name")
		}
		if other.Zone.AccountID != z.AccountID && spec.InZone(z.Name, other.Zone.Name) {
			return fault.New(fault.Invalid, "%s lies below a zone of another account, whose owner would have to add it.", z.Name).WithCode(1099).At("name")
		}
	}
	return nil
}

func checkType(t string) error {
	if t == "full" || t == "partial" {
		return nil
	}
	return fault.New(fault.Unsupported, "The type of a zone is full or partial here, not %.40q.", t).At("type")
}

// accountFor returns the account that a new zone is to belong to. Without an ID it is the only one
// where the caller may create zones.
func (a *API) accountFor(c *product.Call, id string) (*spec.Account, error) {
	accounts := a.o.State.Snapshot().Accounts
	may := func(id string) bool { return c.Allowed(product.Permission{Group: "Zone", Write: true}, id, "*") }
	if id != "" {
		if acc := accounts[id]; acc != nil && may(id) {
			return acc, nil
		}
		return nil, refuse(http.StatusForbidden, 10000, "Authentication error: creating zones needs Zone Write on all zones of the account %.40q.", id)
	}
	var found []*spec.Account
	for id, acc := range accounts {
		if may(id) {
			found = append(found, acc)
		}
	}
	switch len(found) {
	case 0:
		return nil, refuse(http.StatusForbidden, 10000, "Authentication error: creating zones needs Zone Write on all zones of an account.")
	case 1:
		return found[0], nil
	}
	return nil, fault.New(fault.Invalid, "You may create zones in several accounts; say in which with account.id.").At("account.id")
}

func (a *API) getZone(_ context.Context, c *product.Call) (product.Reply, error) {
	reply := product.Reply{Result: a.viewZone(c, c.Zone, a.o.State.Snapshot().Accounts)}
	reply.Messages = a.trouble(c.Zone.Zone.ID)
	return reply, nil
}

// showZone answers with the zone as it is after a change.
func (a *API) showZone(c *product.Call, id string) (product.Reply, error) {
	snap := a.o.State.Snapshot()
	z := snap.Zones[id]
	if z == nil {
		return product.Reply{}, fault.New(fault.NotFound, "The zone was deleted meanwhile.")
	}
	return product.Reply{Result: a.viewZone(c, z, snap.Accounts)}, nil
}

func (a *API) editZone(ctx context.Context, c *product.Call) (product.Reply, error) {
	var in struct {
		Paused            *bool    `json:"paused"`
		Type              *string  `json:"type"`
		VanityNameServers []string `json:"vanity_name_servers"`
	}
	// Plans do not exist here: every zone has everything, whichever is asked for.
	if err := c.Decode(&in, "plan"); err != nil {
		return product.Reply{}, err
	}
	if len(in.VanityNameServers) > 0 {
		return product.Reply{}, fault.New(fault.Unsupported, "Name servers of a zone's own are not supported: all zones have the node's, which name_servers shows.").At("vanity_name_servers")
	}
	if in.Type != nil {
		if err := checkType(*in.Type); err != nil {
			return product.Reply{}, err
		}
	}
	err := a.changeZone(ctx, c, func(z *spec.Zone) {
		if in.Paused != nil {
			z.Paused = *in.Paused
		}
		if in.Type != nil {
			z.Type = *in.Type
		}
	})
	if err != nil {
		return product.Reply{}, err
	}
	return a.showZone(c, c.Zone.Zone.ID)
}

// changeZone runs change on a copy of the zone and stores it, if that makes a difference.
func (a *API) changeZone(ctx context.Context, c *product.Call, change func(z *spec.Zone)) error {
	return a.o.State.Update(ctx, c.Actor, func(tx product.Tx) error {
		old := tx.Snapshot().Zones[c.Zone.Zone.ID]
		if old == nil {
			return fault.New(fault.NotFound, "The zone was deleted meanwhile.")
		}
		z := *old.Zone
		change(&z)
		if z.Paused == old.Zone.Paused && z.Type == old.Zone.Type && slices.Equal(z.NameServers, old.Zone.NameServers) {
			return nil
		}
		z.ModifiedOn = spec.Timestamp(a.o.Clock.Now())
		return tx.Put(&z)
	})
}

func (a *API) deleteZone(ctx context.Context, c *product.Call) (product.Reply, error) {
	id := c.Zone.Zone.ID
	err := a.o.State.Update(ctx, c.Actor, func(tx product.Tx) error { return tx.Delete(c.Zone.Zone.Key()) })
	return product.Reply{Result: map[string]string{"id": id}}, err
}

// checkZone succeeds without effect: zones are active from the start.
func (a *API) checkZone(_ context.Context, c *product.Call) (product.Reply, error) {
	return product.Reply{Result: map[string]string{"id": c.Zone.Zone.ID}}, nil
}
