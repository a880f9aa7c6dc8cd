package api

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"time"

	"selvage/foundation/fault"
	"selvage/product"
	"selvage/spec"
)

func (a *API) accountRoutes() []entry {
	read, write := product.Permission{Group: "Account Settings"}, product.Permission{Group: "Account Settings", Write: true}
	return asEntries([]product.Route{
		{Method: "GET", Path: "/accounts", Summary: "List the accounts whose settings you may read.", Handle: a.listAccounts},
		{Method: "POST", Path: "/accounts", Permission: write, Summary: "Create an account of which you are a member.", Handle: a.createAccount},
		{Method: "GET", Path: "/accounts/{account_id}", Permission: read, Summary: "Show an account.", Handle: a.getAccount},
		{Method: "PUT", Path: "/accounts/{account_id}", Permission: write, Summary: "Change an account's name and settings.", Handle: a.updateAccount},
		{Method: "DELETE", Path: "/accounts/{account_id}", Permission: write, Summary: "Delete an account that owns no zone.", Handle: a.deleteAccount},
		{Method: "GET", Path: "/accounts/{account_id}/members", Permission: read, Summary: "List the members of an account.", Handle: a.listMembers},
		{Method: "GET", Path: "/accounts/{account_id}/members/{member_id}", Permission: read, Summary: "Show a member of an account.", Handle: a.getMember},
		{Method: "GET", Path: "/accounts/{account_id}/roles", Permission: read, Summary: "List the roles that members can have.", Handle: a.listRoles},
		{Method: "GET", Path: "/accounts/{account_id}/roles/{role_id}", Permission: read, Summary: "Show a role.", Handle: a.getRole},
	})
}

// accountView is an account as the API shows it.
type accountView struct {
	ID        string          `json:"id"`
	Name      string          `json:"name"`
	Type      string          `json:"type"`
	Settings  accountSettings `json:"settings"`
	CreatedOn time.Time       `json:"created_on"`
}

type accountSettings struct {
	EnforceTwoFactor  bool    `json:"enforce_twofactor"`
	AbuseContactEmail *string `json:"abuse_contact_email"`
}

func viewAccount(acc *spec.Account) accountView {
	v := accountView{ID: acc.ID, Name: acc.Name, Type: cmp.Or(acc.Type, "standard"), CreatedOn: acc.CreatedOn}
	if acc.AbuseContactEmail != "" {
		v.Settings.AbuseContactEmail = &acc.AbuseContactEmail
	}
	return v
}

func (a *API) listAccounts(_ context.Context, c *product.Call) (product.Reply, error) {
	var found []*spec.Account
	for _, acc := range a.o.State.Snapshot().Accounts {
		if c.Allowed(product.Permission{Group: "Account Settings"}, acc.ID, "") && matchText(c.Query.Get("name"), acc.Name) {
			found = append(found, acc)
		}
	}
	if err := sorted(found, c.Query, "name", map[string]func(*spec.Account) string{
		"name": func(acc *spec.Account) string { return acc.Name + acc.ID },
		"id":   func(acc *spec.Account) string { return acc.ID },
	}); err != nil {
		return product.Reply{}, err
	}
	found, info, err := product.Page(found, c.Query, product.Paging{})
	if err != nil {
		return product.Reply{}, err
	}
	views := make([]accountView, len(found))
	for i, acc := range found {
		views[i] = viewAccount(acc)
	}
	return product.Reply{Result: views, Info: info}, nil
}

// accountBody is what clients send of an account. Unit names an organization above accounts; there
// is none here.
type accountBody struct {
	Name     string           `json:"name"`
	Type     string           `json:"type"`
	Settings *accountSettings `json:"settings"`
}

func readAccount(c *product.Call, acc *spec.Account) error {
	in := accountBody{Type: acc.Type}
	if err := c.Decode(&in, "id", "created_on", "unit", "managed_by", "settings.default_nameservers", "settings.use_account_custom_ns_by_default", "settings.access_approval_expiry", "settings.api_access_enabled"); err != nil {
		return err
	}
	if in.Type != "" && in.Type != "standard" && in.Type != "enterprise" {
		return fault.New(fault.Invalid, "The type of an account is standard or enterprise, not %.40q.", in.Type).At("type")
	}
	if in.Settings != nil && in.Settings.EnforceTwoFactor {
		return fault.New(fault.Unsupported, "Two-factor authentication cannot be enforced: nobody logs in here with a password, tokens are the only way in.").At("settings.enforce_twofactor")
	}
	acc.Name, acc.Type = in.Name, cmp.Or(in.Type, "standard")
	if in.Settings != nil && in.Settings.AbuseContactEmail != nil {
		acc.AbuseContactEmail = *in.Settings.AbuseContactEmail
	}
	return acc.Validate()
}

// createAccount makes an account whose first member is the caller. The right to do so is one over
// all accounts: one over a single account says nothing about others.
func (a *API) createAccount(ctx context.Context, c *product.Call) (product.Reply, error) {
	u, err := a.caller(c)
	if err != nil {
		return product.Reply{}, err
	}
	if k := a.keys.token(c.Actor.TokenID); k == nil || !k.ownsAll() {
		return product.Reply{}, refuse(403, 10000, "Authentication error: creating accounts needs Account Settings Write on com.cloudflare.api.account.*")
	}
	acc := &spec.Account{ID: spec.NewID(), CreatedOn: spec.Timestamp(a.o.Clock.Now())}
	if err := readAccount(c, acc); err != nil {
		return product.Reply{}, err
	}
	err = a.keys.edit(ctx, a.o.State, c.Actor, func(tx product.Tx) error {
		n, err := tx.Get(u.Key())
		if err != nil {
			return err
		}
		member := *n.(*spec.User)
		member.Accounts = append(slices.Clone(member.Accounts), acc.ID)
		if err := tx.Put(acc); err != nil {
			return err
		}
		return tx.Put(&member)
	})
	if err != nil {
		return product.Reply{}, err
	}
	return product.Reply{Result: viewAccount(acc)}, nil
}

// ownsAll tells whether the token may change the settings of any account.
func (k *key) ownsAll() bool {
	p := product.Permission{Group: "Account Settings", Write: true}
	return slices.ContainsFunc(k.rules, func(r rule) bool {
		return !r.deny && r.permits(p) && slices.Contains(r.resources, resource{account: "*"})
	})
}

// operates tells whether the token may do anything with any account. One that an account owns never does,
// whatever its policies say: "any account" is its own there.
func (k *key) operates() bool {
	if k == nil || k.token.AccountID != "" || slices.ContainsFunc(k.rules, func(r rule) bool { return r.deny }) {
		return false
	}
	return slices.ContainsFunc(k.rules, func(r rule) bool { return r.all && slices.Contains(r.resources, resource{account: "*"}) })
}

func (a *API) getAccount(_ context.Context, c *product.Call) (product.Reply, error) {
	return product.Reply{Result: viewAccount(c.Account)}, nil
}

func (a *API) updateAccount(ctx context.Context, c *product.Call) (product.Reply, error) {
	acc := *c.Account
	if err := readAccount(c, &acc); err != nil {
		return product.Reply{}, err
	}
	err := a.o.State.Update(ctx, c.Actor, func(tx product.Tx) error {
		if old, err := tx.Get(acc.Key()); err != nil || old == nil {
			return cmp.Or(err, error(fault.New(fault.NotFound, "The account was deleted meanwhile.")))
		}
		return tx.Put(&acc)
	})
	if err != nil {
		return product.Reply{}, err
	}
	return product.Reply{Result: viewAccount(&acc)}, nil
}

// deleteAccount deletes an account with its tokens. One that owns zones stays: deleting those takes
// sites down, and has to be asked for by name.
func (a *API) deleteAccount(ctx context.Context, c *product.Call) (product.Reply, error) {
	id := c.Account.ID
	err := a.keys.edit(ctx, a.o.State, c.Actor, func(tx product.Tx) error {
		for _, z := range tx.Snapshot().Zones {
			if z.Zone.AccountID == id {
				return fault.New(fault.Conflict, "The account owns the zone %s; delete its zones first.", z.Zone.Name)
			}
		}
		if s := tx.Snapshot().StorageOf(id); len(s.Namespaces)+len(s.Buckets)+len(s.Databases)+len(s.Queues)+len(s.Hyperdrives) > 0 {
			return fault.New(fault.Conflict, "The account has data: %d KV namespaces, %d buckets, %d databases, %d queues and %d Hyperdrive configurations; delete them first.",
				len(s.Namespaces), len(s.Buckets), len(s.Databases), len(s.Queues), len(s.Hyperdrives))
		}
		if len(tx.Snapshot().Accounts) == 1 {
			return fault.New(fault.Conflict, "This is the only account of the node; create another first.")
		}
		for _, k := range a.keys.list(func(t *spec.Token) bool { return t.AccountID == id }) {
			if err := tx.Delete(k.token.Key()); err != nil {
				return err
			}
		}
		for _, u := range a.keys.users() {
			member := *u
			member.Accounts = slices.DeleteFunc(slices.Clone(u.Accounts), func(other string) bool { return other == id })
			if len(member.Accounts) == len(u.Accounts) {
				continue
			}
			if err := tx.Put(&member); err != nil {
				return err
			}
		}
		return tx.Delete(c.Account.Key())
	})
	return product.Reply{Result: map[string]string{"id": id}}, err
}

// superAdministrator is the one role that exists here, with Cloudflare's ID: a member may do all,
// and gives away less by tokens.
const (
	superAdministrator   = "Super Administrator - All Privileges"
	superAdministratorID = "33666b9c79b9a5273fc7344ff42f953d"
)

type role struct {
	ID          string           `json:"id"`
	Name        string           `json:"name"`
	Description string           `json:"description"`
	Permissions map[string]grant `json:"permissions"`
}

type grant struct {
	Read  bool `json:"read"`
	Write bool `json:"write"`
}

func superRole() role {
	return role{ID: superAdministratorID, Name: superAdministrator, Description: "Can change everything of the account.", Permissions: fullGrants()}
}

// fullGrants names what members may do in the words of the API's older permission model.
func fullGrants() map[string]grant {
	grants := map[string]grant{}
	for _, name := range []string{"analytics", "audit_logs", "cache_purge", "dns_records", "organization", "ssl", "zone_settings", "zones"} {
		grants[name] = grant{Read: true, Write: true}
	}
	return grants
}

// member is a user seen from the account.
type member struct {
	ID       string     `json:"id"`
	Email    string     `json:"email"`
	Status   string     `json:"status"`
	User     memberUser `json:"user"`
	Roles    []role     `json:"roles"`
	Policies []string   `json:"policies"`
}

type memberUser struct {
	ID               string  `json:"id"`
	Email            string  `json:"email"`
	FirstName        *string `json:"first_name"`
	LastName         *string `json:"last_name"`
	TwoFactorEnabled bool    `json:"two_factor_authentication_enabled"`
}

// memberID is the ID of a user's membership in an account; it needs no noun of its own.
func memberID(user, account string) string {
	sum := sha256.Sum256([]byte("member " + user + " of " + account))
	return hex.EncodeToString(sum[:16])
}

func (a *API) members(account string) []member {
	found := []member{}
	for _, u := range a.keys.users() {
		if !slices.Contains(u.Accounts, account) {
			continue
		}
		v := viewUser(u)
		found = append(found, member{
			ID: memberID(u.ID, account), Email: u.Email, Status: "accepted",
			User:  memberUser{ID: u.ID, Email: u.Email, FirstName: v.FirstName, LastName: v.LastName},
			Roles: []role{superRole()}, Policies: []string{},
		})
	}
	slices.SortFunc(found, func(a, b member) int { return cmp.Compare(a.Email+a.ID, b.Email+b.ID) })
	return found
}

func (a *API) listMembers(_ context.Context, c *product.Call) (product.Reply, error) {
	found, info, err := product.Page(a.members(c.Account.ID), c.Query, product.Paging{})
	return product.Reply{Result: found, Info: info}, err
}

func (a *API) getMember(_ context.Context, c *product.Call) (product.Reply, error) {
	for _, m := range a.members(c.Account.ID) {
		if m.ID == c.Params["member_id"] {
			return product.Reply{Result: m}, nil
		}
	}
	return product.Reply{}, fault.New(fault.NotFound, "There is no member %.40q.", c.Params["member_id"])
}

func (a *API) listRoles(_ context.Context, c *product.Call) (product.Reply, error) {
	found, info, err := product.Page([]role{superRole()}, c.Query, product.Paging{})
	return product.Reply{Result: found, Info: info}, err
}

func (a *API) getRole(_ context.Context, c *product.Call) (product.Reply, error) {
	if c.Params["role_id"] != superAdministratorID {
		return product.Reply{}, fault.New(fault.NotFound, "There is no role %.40q.", c.Params["role_id"])
	}
	return product.Reply{Result: superRole()}, nil
}

// membership is an account seen from the user.
type membership struct {
	ID               string           `json:"id"`
	Status           string           `json:"status"`
	Account          accountView      `json:"account"`
	Roles            []string         `json:"roles"`
	Permissions      map[string]grant `json:"permissions"`
	APIAccessEnabled *bool            `json:"api_access_enabled"`
}

func (a *API) memberships(c *product.Call) ([]membership, error) {
	u, err := a.caller(c)
	if err != nil {
		return nil, err
	}
	found := []membership{}
	accounts := a.o.State.Snapshot().Accounts
	for _, id := range u.Accounts {
		if acc := accounts[id]; acc != nil {
			found = append(found, membership{
				ID: memberID(u.ID, id), Status: "accepted", Account: viewAccount(acc),
				Roles: []string{superAdministrator}, Permissions: fullGrants(),
			})
		}
	}
	return found, nil
}

func (a *API) listMemberships(_ context.Context, c *product.Call) (product.Reply, error) {
	all, err := a.memberships(c)
	if err != nil {
		return product.Reply{}, err
	}
	q := c.Query
	found := []membership{}
	for _, m := range all {
		if matchText(q.Get("account.name"), m.Account.Name) && matchText(q.Get("name"), m.Account.Name) && matchText(q.Get("status"), m.Status) {
			found = append(found, m)
		}
	}
	if err := sorted(found, q, "account.name", map[string]func(membership) string{
		"id":           func(m membership) string { return m.ID },
		"account.name": func(m membership) string { return m.Account.Name + m.ID },
		"status":       func(m membership) string { return m.Status },
	}); err != nil {
		return product.Reply{}, err
	}
	found, info, err := product.Page(found, q, product.Paging{})
	return product.Reply{Result: found, Info: info}, err
}

func (a *API) getMembership(_ context.Context, c *product.Call) (product.Reply, error) {
	all, err := a.memberships(c)
	if err != nil {
		return product.Reply{}, err
	}
	for _, m := range all {
		if m.ID == c.Params["membership_id"] {
			return product.Reply{Result: m}, nil
		}
	}
	return product.Reply{}, fault.New(fault.NotFound, "There is no membership %.40q.", c.Params["membership_id"])
}
