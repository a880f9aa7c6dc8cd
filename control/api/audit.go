package api

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"

	"selvage/foundation/fault"
	"selvage/product"
	"selvage/spec"
)

func (a *API) auditRoutes() []entry {
	read := product.Permission{Group: "Account Settings"}
	return asEntries([]product.Route{
		{Method: "GET", Path: "/accounts/{account_id}/audit_logs", Permission: read, Summary: "List changes in an account, newest first.", Handle: a.listAudit},
		{Method: "GET", Path: "/accounts/{account_id}/logs/audit", Permission: read, Summary: "List changes in an account between two times, by cursor.", Handle: a.listAuditByCursor},
		{Method: "GET", Path: "/user/audit_logs", Permission: product.Permission{Group: "User Details"}, Summary: "List the changes that you made, newest first.", Handle: a.listUserAudit},
	})
}

// auditFilters are the query parameters of the first version of the audit log, each with what it
// compares.
var auditFilters = map[string]func(e *spec.AuditEntry) string{
	"id":          func(e *spec.AuditEntry) string { return e.ID },
	"action.type": auditAction,
	"actor.ip":    func(e *spec.AuditEntry) string { return e.Actor.IP.String() },
	"actor.email": func(e *spec.AuditEntry) string { return e.Actor.Email },
	"zone.name":   func(e *spec.AuditEntry) string { return e.Name },
}

// cursorFilters are those of the second version; each also exists as name.not, and takes several
// values.
var cursorFilters = map[string]func(e *spec.AuditEntry) string{
	"id":               func(e *spec.AuditEntry) string { return e.ID },
	"audit_log_id":     func(e *spec.AuditEntry) string { return e.ID },
	"action_type":      func(e *spec.AuditEntry) string { return e.Action },
	"action_result":    func(*spec.AuditEntry) string { return "success" },
	"actor_email":      func(e *spec.AuditEntry) string { return e.Actor.Email },
	"actor_id":         func(e *spec.AuditEntry) string { return e.Actor.UserID },
	"actor_ip_address": func(e *spec.AuditEntry) string { return e.Actor.IP.String() },
	"actor_token_id":   func(e *spec.AuditEntry) string { return e.Actor.TokenID },
	"resource_id":      func(e *spec.AuditEntry) string { return e.NounID },
	"resource_type":    func(e *spec.AuditEntry) string { return string(e.Kind) },
	"zone_id":          func(e *spec.AuditEntry) string { return e.Zone },
	"zone_name":        func(e *spec.AuditEntry) string { return e.Name },
}

// auditAction is an entry's action in the words of the first version of the audit log.
func auditAction(e *spec.AuditEntry) string {
	switch e.Action {
	case "create":
		return "add"
	case "update":
		return "change_setting"
	}
	return e.Action
}

func (a *API) listAudit(ctx context.Context, c *product.Call) (product.Reply, error) {
	return a.auditPage(ctx, c, spec.AuditQuery{Account: c.Account.ID})
}

func (a *API) listUserAudit(ctx context.Context, c *product.Call) (product.Reply, error) {
	u, err := a.caller(c)
	if err != nil {
		return product.Reply{}, err
	}
	return a.auditPage(ctx, c, spec.AuditQuery{User: u.ID})
}

// auditView is an entry in the first version of the audit log.
type auditView struct {
	ID        string         `json:"id"`
	Action    map[string]any `json:"action"`
	Actor     map[string]any `json:"actor"`
	Interface string         `json:"interface"`
	Metadata  map[string]any `json:"metadata"`
	NewValue  string         `json:"newValue"`
	OldValue  string         `json:"oldValue"`
	NewJSON   any            `json:"newValueJson,omitempty"`
	OldJSON   any            `json:"oldValueJson,omitempty"`
	Owner     map[string]any `json:"owner"`
	Resource  map[string]any `json:"resource"`
	When      time.Time      `json:"when"`
}

func viewAudit(e *spec.AuditEntry) auditView {
	v := auditView{
		ID:        e.ID,
		Action:    map[string]any{"type": auditAction(e), "result": true},
		Actor:     map[string]any{"id": e.Actor.UserID, "email": e.Actor.Email, "type": actorType(e)},
		Interface: strings.ToUpper(e.Actor.Via),
		Metadata:  map[string]any{"version": e.Version},
		NewValue:  string(e.New), OldValue: string(e.Old),
		Owner:    map[string]any{"id": e.Account},
		Resource: map[string]any{"id": e.NounID, "type": string(e.Kind)},
		When:     e.When,
	}
	if e.Actor.IP.IsValid() {
		v.Actor["ip"] = e.Actor.IP.String()
	}
	if e.Actor.TokenID != "" {
		v.Metadata["token_id"] = e.Actor.TokenID
	}
	if e.Name != "" {
		v.Metadata["zone_name"] = e.Name
	}
	if e.New != nil {
		v.NewJSON = e.New
	}
	if e.Old != nil {
		v.OldJSON = e.Old
	}
	return v
}

func actorType(e *spec.AuditEntry) string {
	switch {
	case e.Actor.UserID != "":
		return "user"
	case e.Actor.TokenID != "":
		return "account"
	}
	return "system"
}

func (a *API) auditPage(ctx context.Context, c *product.Call, q spec.AuditQuery) (product.Reply, error) {
	if err := auditTimes(c, &q, "desc"); err != nil {
		return product.Reply{}, err
	}
	keep := func(e *spec.AuditEntry) bool {
		for name, value := range auditFilters {
			if want := c.Query.Get(name); want != "" && !strings.EqualFold(want, value(e)) {
				return false
			}
		}
		return c.Query.Get("hide_user_logs") != "true" || e.Kind != spec.KindUser
	}
	// The log may be long and its entries large: all are counted, but only one page is kept.
	_, info, err := product.Page([]auditView{}, c.Query, product.Paging{Default: 100, Max: 1000})
	if err != nil {
		return product.Reply{}, err
	}
	views := []auditView{}
	for e, err := range a.audit(ctx, q) {
		if err != nil {
			return product.Reply{}, err
		}
		if !keep(e) {
			continue
		}
		if info.TotalCount/info.PerPage == info.Page-1 {
			views = append(views, viewAudit(e))
		}
		info.TotalCount++
	}
	info.Count, info.TotalPages = len(views), (info.TotalCount+info.PerPage-1)/info.PerPage
	return product.Reply{Result: views, Info: info}, nil
}

// audit yields the entries of q, nothing if the node keeps no audit log.
func (a *API) audit(ctx context.Context, q spec.AuditQuery) func(yield func(*spec.AuditEntry, error) bool) {
	if a.o.Audit == nil {
		return func(func(*spec.AuditEntry, error) bool) {}
	}
	return a.o.Audit.AuditLog(ctx, q)
}

// auditTimes reads since, before and direction.
func auditTimes(c *product.Call, q *spec.AuditQuery, direction string) error {
	for _, p := range []struct {
		name string
		to   *time.Time
	}{{"since", &q.Since}, {"before", &q.Before}} {
		s := c.Query.Get(p.name)
		if s == "" {
			continue
		}
		t, err := time.Parse(time.RFC3339, s)
		if err != nil {
			if t, err = time.Parse(time.DateOnly, s); err != nil {
				return fault.New(fault.Invalid, "%s is %.40q; it must be a date such as 2026-11-23 or a time such as 2026-11-23T14:30:00Z.", p.name, s).At(p.name)
			}
			if p.name == "before" {
				t = t.AddDate(0, 0, 1) // a date means the whole day
			}
		}
		*p.to = t
	}
	switch cmp.Or(c.Query.Get("direction"), direction) {
	case "asc":
		q.OldestFirst = true
	case "desc":
	default:
		return fault.New(fault.Invalid, "The direction is asc or desc, not %.40q.", c.Query.Get("direction")).At("direction")
	}
	return nil
}

// cursorView is an entry in the second version of the audit log.
type cursorView struct {
	ID       string            `json:"id"`
	Account  map[string]string `json:"account"`
	Action   map[string]any    `json:"action"`
	Actor    map[string]any    `json:"actor"`
	Raw      map[string]any    `json:"raw"`
	Resource map[string]any    `json:"resource"`
	Zone     map[string]string `json:"zone,omitempty"`
}

func (a *API) viewCursor(e *spec.AuditEntry, acc *spec.Account) cursorView {
	v := cursorView{
		ID:      e.ID,
		Account: map[string]string{"id": acc.ID, "name": acc.Name},
		Action:  map[string]any{"description": e.Action + " " + string(e.Kind), "result": "success", "time": e.When, "type": e.Action},
		Actor:   map[string]any{"id": e.Actor.UserID, "context": "api_token", "email": e.Actor.Email, "token_id": e.Actor.TokenID, "type": actorType(e)},
		Raw:     map[string]any{},
		Resource: map[string]any{
			"id": e.NounID, "product": string(e.Kind), "type": string(e.Kind),
			"request": jsonOrNull(e.New), "response": nil, "scope": nil,
		},
	}
	if k := a.keys.token(e.Actor.TokenID); k != nil {
		v.Actor["token_name"] = k.token.Name
	}
	if e.Actor.IP.IsValid() {
		v.Actor["ip_address"] = e.Actor.IP.String()
	}
	if e.Zone != "" {
		v.Zone = map[string]string{"id": e.Zone, "name": e.Name}
	}
	return v
}

func jsonOrNull(raw json.RawMessage) any {
	if raw == nil {
		return nil
	}
	return raw
}

// listAuditByCursor goes on after the entry whose ID is the cursor: entries are never changed or
// removed, so a place in the list stays valid while new ones come.
func (a *API) listAuditByCursor(ctx context.Context, c *product.Call) (product.Reply, error) {
	q := spec.AuditQuery{Account: c.Account.ID}
	if err := auditTimes(c, &q, "desc"); err != nil {
		return product.Reply{}, err
	}
	if q.Since.IsZero() || q.Before.IsZero() {
		return product.Reply{}, fault.New(fault.Invalid, "Say between which times with since and before.").At("since")
	}
	limit := 100
	if s := c.Query.Get("limit"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 || n > 1000 {
			return product.Reply{}, fault.New(fault.Invalid, "limit is %.20q; it must be a whole number from 1 to 1000.", s).At("limit")
		}
		limit = n
	}
	q.After = c.Query.Get("cursor")
	found, more := []cursorView{}, false
	for e, err := range a.audit(ctx, q) {
		if err != nil {
			return product.Reply{}, err
		}
		if !keepByCursor(c, e) {
			continue
		}
		if len(found) == limit {
			more = true
			break
		}
		found = append(found, a.viewCursor(e, c.Account))
	}
	info := &product.PageInfo{Count: len(found), PerPage: limit, Cursors: &product.Cursors{}}
	if more {
		info.Cursors.After = found[len(found)-1].ID
	}
	return product.Reply{Result: found, Info: info}, nil
}

func keepByCursor(c *product.Call, e *spec.AuditEntry) bool {
	for name, value := range cursorFilters {
		if want := c.Query[name]; len(want) > 0 && !slices.Contains(want, value(e)) {
			return false
		}
		if slices.Contains(c.Query[name+".not"], value(e)) {
			return false
		}
	}
	return true
}
