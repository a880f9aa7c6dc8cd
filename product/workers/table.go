package workers

import (
	"maps"
	"slices"
	"strings"
	"sync"

	"selvage/edge"
	"selvage/product"
	"selvage/spec"
)

// table is where requests go. Immutable; its next version shares what did not change.
type table struct {
	from     *spec.Snapshot
	routes   map[string][]route         // by zone ID
	domains  map[string]destination     // by custom domain
	subs     map[string]string          // account ID by the ID of its subdomain's zone
	accounts map[string]*accountScripts // by account ID

	names func() map[string]*spec.ZoneConfig // zones by name; made when first asked for
	homes sync.Map                           // *spec.ZoneConfig by destination; see home
}

func newTable(from *spec.Snapshot) *table {
	return &table{from: from, routes: map[string][]route{}, names: sync.OnceValue(func() map[string]*spec.ZoneConfig {
		names := make(map[string]*spec.ZoneConfig, len(from.Zones))
		for _, z := range from.Zones {
			names[z.Zone.Name] = z
		}
		return names
	})}
}

// destination is a script by name.
type destination struct{ account, script string }

// with returns the table of next; faults blame zones.
func (w *Workers) with(t *table, next *spec.Snapshot) (*table, []error) {
	made := newTable(next)
	made.routes, made.domains, made.subs, made.accounts = maps.Clone(t.routes), t.domains, t.subs, t.accounts
	var faults []error
	for id, z := range next.Changed(t.from) {
		if z == nil || len(z.WorkerRoutes) == 0 {
			delete(made.routes, id)
			continue
		}
		list, err := compileRoutes(z.WorkerRoutes)
		if err != nil {
			faults = append(faults, &product.ZoneError{ZoneID: id, Err: err})
			continue
		}
		made.routes[id] = list
	}
	w.addAccounts(made, t, next)
	return made, faults
}

// addAccounts makes the scripts of accounts that changed.
func (w *Workers) addAccounts(made, t *table, next *spec.Snapshot) {
	changed := false
	for id, a := range next.Workers {
		changed = changed || t.from.Workers[id] != a
	}
	for id := range t.from.Workers {
		changed = changed || next.Workers[id] == nil
	}
	if !changed {
		return
	}
	made.domains, made.subs, made.accounts = map[string]destination{}, map[string]string{}, map[string]*accountScripts{}
	for id, a := range next.Workers {
		for host, d := range a.Domains {
			made.domains[host] = destination{id, d.Service}
		}
		if a.Subdomain != nil {
			made.subs[a.Subdomain.ZoneID] = id
		}
		old := t.accounts[id]
		if old != nil && old.from == a {
			made.accounts[id] = old
			continue
		}
		made.accounts[id] = w.newAccountScripts(id, a)
	}
}

// choice is the script that a request goes to.
type choice struct {
	script  *script
	version string // asked for by a preview address: an ID or the beginning of one
	domain  bool   // reached as an origin: by custom domain or subdomain, not by a route
}

// choose finds the script for a request of a zone. skip is the caller's script if the request is a
// subrequest: a script's own fetch never meets the script again by a route, nor does it meet a
// custom domain of itself.
func (t *table) choose(ex *edge.Exchange, skip *destination) (choice, bool) {
	account := ex.Zone.Zone.AccountID
	if skip == nil || !t.routed(ex, skip) {
		for i, r := range t.routes[ex.Zone.Zone.ID] {
			if !r.matches(&ex.Request) {
				continue
			}
			if r.script == "" {
				return choice{}, false
			}
			if s := t.find(account, t.routes[ex.Zone.Zone.ID][i].script); s != nil {
				return choice{script: s}, true
			}
			break
		}
	}
	if d, ok := t.domains[ex.Request.Host]; ok && d.account == account && (skip == nil || *skip != d) {
		if s := t.find(d.account, d.script); s != nil {
			return choice{script: s, domain: true}, true
		}
	}
	c, ok := t.onSubdomain(ex)
	if ok && skip != nil && *skip == (destination{account, c.script.worker.Name}) {
		return choice{}, false
	}
	return c, ok
}

// routed tells whether a zone's routes lead to the script that sends a subrequest: then they are
// passed by, and what is behind them answers.
func (t *table) routed(ex *edge.Exchange, from *destination) bool {
	return from.account == ex.Zone.Zone.AccountID && slices.ContainsFunc(t.routes[ex.Zone.Zone.ID], func(r route) bool { return r.script == from.script })
}

// onSubdomain finds SCRIPT.SUBDOMAIN and VERSION-SCRIPT.SUBDOMAIN.
func (t *table) onSubdomain(ex *edge.Exchange) (choice, bool) {
	account, ok := t.subs[ex.Zone.Zone.ID]
	if !ok {
		return choice{}, false
	}
	label, ok := strings.CutSuffix(ex.Request.Host, "."+ex.Zone.Zone.Name)
	if !ok || strings.Contains(label, ".") {
		return choice{}, false
	}
	if s := t.find(account, label); s != nil && s.worker.OnSubdomain {
		return choice{script: s, domain: true}, true
	}
	version, name, ok := strings.Cut(label, "-")
	if s := t.find(account, name); ok && s != nil && s.worker.Previews && len(version) == 8 {
		return choice{script: s, version: version, domain: true}, true
	}
	return choice{}, false
}

func (t *table) find(account, name string) *script {
	if a := t.accounts[account]; a != nil {
		return a.scripts[name]
	}
	return nil
}

// home returns a zone with a route or custom domain that leads to a script, the same one each time,
// or nil if there is none.
func (t *table) home(d destination) *spec.ZoneConfig {
	if z, ok := t.homes.Load(d); ok {
		return z.(*spec.ZoneConfig)
	}
	var found *spec.ZoneConfig
	for id, routes := range t.routes {
		z := t.from.Zones[id]
		leads := z != nil && z.Zone.AccountID == d.account && slices.ContainsFunc(routes, func(r route) bool { return r.script == d.script })
		if leads && (found == nil || z.Zone.Name < found.Zone.Name) {
			found = z
		}
	}
	for _, domain := range t.from.WorkersOf(d.account).Domains {
		if z := t.from.Zones[domain.ZoneID]; domain.Service == d.script && z != nil && (found == nil || z.Zone.Name < found.Zone.Name) {
			found = z
		}
	}
	t.homes.Store(d, found)
	return found
}

// zoneOfHost returns the account's zone with the longest name that a host is in, or nil.
func (t *table) zoneOfHost(accountID, host string) *spec.ZoneConfig {
	for {
		if z := t.names()[host]; z != nil && z.Zone.AccountID == accountID {
			return z
		}
		_, above, ok := strings.Cut(host, ".")
		if !ok {
			return nil
		}
		host = above
	}
}
