package api

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"selvage/foundation/fault"
	"selvage/product"
	"selvage/spec"
)

// maxTokens is how many tokens a user or an account may have.
const maxTokens = 500

// tokenRoutes are the same operations twice: on the user's tokens and on an account's.
func (a *API) tokenRoutes() []entry {
	var all []entry
	for _, owner := range []struct {
		base, whose string
		read, write product.Permission
	}{
		{"/user/tokens", "your", product.Permission{Group: "API Tokens"}, product.Permission{Group: "API Tokens", Write: true}},
		{"/accounts/{account_id}/tokens", "the account's", product.Permission{Group: "Account API Tokens"}, product.Permission{Group: "Account API Tokens", Write: true}},
	} {
		one := owner.base + "/{token_id}"
		all = append(all, asEntries([]product.Route{
			{Method: "GET", Path: owner.base + "/verify", Summary: "Tell whether the token of this request works.", Handle: a.verifyToken},
			{Method: "GET", Path: owner.base + "/permission_groups", Permission: owner.read, Summary: "List the rights that tokens can have.", Handle: a.listGroups},
			{Method: "GET", Path: owner.base + "/permission_groups/{group_id}", Permission: owner.read, Summary: "Show one right that tokens can have.", Handle: a.getGroup},
			{Method: "GET", Path: owner.base, Permission: owner.read, Summary: "List " + owner.whose + " tokens, without their secrets.", Handle: a.listTokens},
			{Method: "POST", Path: owner.base, Permission: owner.write, Summary: "Create a token; its secret is shown once.", Handle: a.createToken},
			{Method: "GET", Path: one, Permission: owner.read, Summary: "Show one of " + owner.whose + " tokens.", Handle: a.getToken},
			{Method: "PUT", Path: one, Permission: owner.write, Summary: "Change a token's name, status, policies or conditions.", Handle: a.updateToken},
			{Method: "DELETE", Path: one, Permission: owner.write, Summary: "Revoke a token at once.", Handle: a.deleteToken},
			{Method: "PUT", Path: one + "/value", Permission: owner.write, Summary: "Give a token a new secret; the old one stops working.", Handle: a.rollToken},
		})...)
	}
	return all
}

// tokenView is a token as the API shows it.
type tokenView struct {
	ID         string       `json:"id"`
	Name       string       `json:"name"`
	Status     string       `json:"status"` // active, disabled, expired
	IssuedOn   time.Time    `json:"issued_on"`
	ModifiedOn time.Time    `json:"modified_on"`
	LastUsedOn *time.Time   `json:"last_used_on,omitempty"`
	NotBefore  time.Time    `json:"not_before,omitzero"`
	ExpiresOn  time.Time    `json:"expires_on,omitzero"`
	Policies   []policyView `json:"policies"`
	Condition  *condition   `json:"condition,omitempty"`
	Value      string       `json:"value,omitempty"` // the secret, only when it was just made
}

type policyView struct {
	ID        string         `json:"id"`
	Effect    string         `json:"effect"`
	Resources map[string]any `json:"resources"`
	Groups    []groupRef     `json:"permission_groups"`
}

type groupRef struct {
	ID   string         `json:"id"`
	Name string         `json:"name"`
	Meta map[string]any `json:"meta,omitempty"`
}

type condition struct {
	RequestIP *requestIP `json:"request_ip,omitempty"`
}

type requestIP struct {
	In    []string `json:"in,omitempty"`
	NotIn []string `json:"not_in,omitempty"`
}

// tokenBody is what clients send to create or change a token.
type tokenBody struct {
	Name      string       `json:"name"`
	Status    string       `json:"status"`
	Policies  []policyView `json:"policies"`
	Condition *condition   `json:"condition"`
	NotBefore *time.Time   `json:"not_before"`
	ExpiresOn *time.Time   `json:"expires_on"`
}

func (a *API) viewToken(k *key) tokenView {
	t := k.token
	v := tokenView{ID: t.ID, Name: t.Name, Status: t.Status, IssuedOn: t.IssuedOn, ModifiedOn: t.ModifiedOn, NotBefore: t.NotBefore, ExpiresOn: t.ExpiresOn}
	if !t.ExpiresOn.IsZero() && !a.o.Clock.Now().Before(t.ExpiresOn) {
		v.Status = "expired"
	}
	if used := k.used.Load(); used != 0 {
		at := time.Unix(used, 0).UTC()
		v.LastUsedOn = &at
	}
	for _, p := range t.Policies {
		pv := policyView{ID: p.ID, Effect: p.Effect, Resources: p.Resources, Groups: []groupRef{}}
		for _, id := range p.Groups {
			ref := groupRef{ID: id}
			if g := a.groups.byID[id]; g != nil {
				ref.Name = g.Name
			}
			pv.Groups = append(pv.Groups, ref)
		}
		v.Policies = append(v.Policies, pv)
	}
	if len(t.AllowIPs)+len(t.DenyIPs) > 0 {
		v.Condition = &condition{RequestIP: &requestIP{In: t.AllowIPs, NotIn: t.DenyIPs}}
	}
	return v
}

// owned returns the tokens that the path is about: the account's, or the user's who asks.
func (a *API) owned(c *product.Call) func(t *spec.Token) bool {
	if id := c.Params["account_id"]; id != "" {
		return func(t *spec.Token) bool { return t.AccountID == id }
	}
	return func(t *spec.Token) bool { return t.UserID != "" && t.UserID == c.Actor.UserID }
}

// namedToken returns the token that the path names.
func (a *API) namedToken(c *product.Call) (*key, error) {
	k := a.keys.token(c.Params["token_id"])
	if k == nil || !a.owned(c)(k.token) {
		return nil, fault.New(fault.NotFound, "There is no token %.40q here.", c.Params["token_id"]).WithCode(1003)
	}
	return k, nil
}

func (a *API) verifyToken(_ context.Context, c *product.Call) (product.Reply, error) {
	k := a.keys.token(c.Actor.TokenID)
	if k == nil || !a.owned(c)(k.token) {
		return product.Reply{}, refuse(401, 1000, "Invalid API Token")
	}
	v := a.viewToken(k)
	return product.Reply{
		Result: struct {
			ID        string    `json:"id"`
			Status    string    `json:"status"`
			NotBefore time.Time `json:"not_before,omitzero"`
			ExpiresOn time.Time `json:"expires_on,omitzero"`
		}{v.ID, v.Status, v.NotBefore, v.ExpiresOn},
		Messages: []product.Message{{Code: 10000, Message: "This API Token is valid and active"}},
	}, nil
}

func (a *API) listGroups(_ context.Context, c *product.Call) (product.Reply, error) {
	found := []*group{}
	for _, g := range a.groups.all {
		name, scope := c.Query.Get("name"), c.Query.Get("scope")
		if (name == "" || strings.EqualFold(g.Name, name)) && (scope == "" || slices.Contains(g.Scopes, scope)) {
			found = append(found, g)
		}
	}
	return product.Reply{Result: found}, nil
}

func (a *API) getGroup(_ context.Context, c *product.Call) (product.Reply, error) {
	g := a.groups.byID[c.Params["group_id"]]
	if g == nil {
		return product.Reply{}, fault.New(fault.NotFound, "There is no permission group %.40q.", c.Params["group_id"])
	}
	return product.Reply{Result: g}, nil
}

func (a *API) listTokens(_ context.Context, c *product.Call) (product.Reply, error) {
	keys := a.keys.list(a.owned(c))
	if c.Query.Get("direction") == "desc" {
		slices.Reverse(keys)
	}
	keys, info, err := product.Page(keys, c.Query, product.Paging{})
	if err != nil {
		return product.Reply{}, err
	}
	views := make([]tokenView, len(keys))
	for i, k := range keys {
		views[i] = a.viewToken(k)
	}
	return product.Reply{Result: views, Info: info}, nil
}

func (a *API) getToken(_ context.Context, c *product.Call) (product.Reply, error) {
	k, err := a.namedToken(c)
	if err != nil {
		return product.Reply{}, err
	}
	return product.Reply{Result: a.viewToken(k)}, nil
}

func (a *API) createToken(ctx context.Context, c *product.Call) (product.Reply, error) {
	t := &spec.Token{ID: spec.NewID(), AccountID: c.Params["account_id"], Status: "active"}
	if t.AccountID == "" {
		t.UserID = c.Actor.UserID
	}
	if err := a.readToken(c, t); err != nil {
		return product.Reply{}, err
	}
	t.IssuedOn = t.ModifiedOn
	secret := newSecret()
	t.Hash = hashToken(secret)
	if err := a.putToken(ctx, c, t, true); err != nil {
		return product.Reply{}, err
	}
	return a.showToken(t.ID, secret)
}

// showToken answers with a token as it is after a change, and its secret if that is new.
func (a *API) showToken(id, secret string) (product.Reply, error) {
	k := a.keys.token(id)
	if k == nil {
		return product.Reply{}, fault.New(fault.NotFound, "The token was revoked meanwhile.").WithCode(1003)
	}
	v := a.viewToken(k)
	v.Value = secret
	return product.Reply{Result: v}, nil
}

func (a *API) updateToken(ctx context.Context, c *product.Call) (product.Reply, error) {
	k, err := a.namedToken(c)
	if err != nil {
		return product.Reply{}, err
	}
	t := *k.token
	if err := a.readToken(c, &t); err != nil {
		return product.Reply{}, err
	}
	if err := a.putToken(ctx, c, &t, false); err != nil {
		return product.Reply{}, err
	}
	return a.showToken(t.ID, "")
}

func (a *API) deleteToken(ctx context.Context, c *product.Call) (product.Reply, error) {
	k, err := a.namedToken(c)
	if err != nil {
		return product.Reply{}, err
	}
	err = a.keys.edit(ctx, a.o.State, c.Actor, func(tx product.Tx) error { return tx.Delete(k.token.Key()) })
	return product.Reply{Result: map[string]string{"id": k.token.ID}}, err
}

func (a *API) rollToken(ctx context.Context, c *product.Call) (product.Reply, error) {
	k, err := a.namedToken(c)
	if err != nil {
		return product.Reply{}, err
	}
	t := *k.token
	secret := newSecret()
	t.Hash = hashToken(secret)
	t.ModifiedOn = spec.Timestamp(a.o.Clock.Now())
	if err := a.putToken(ctx, c, &t, false); err != nil {
		return product.Reply{}, err
	}
	return product.Reply{Result: secret}, nil
}

// putToken stores t; one that is not fresh must still exist.
func (a *API) putToken(ctx context.Context, c *product.Call, t *spec.Token, fresh bool) error {
	return a.keys.edit(ctx, a.o.State, c.Actor, func(tx product.Tx) error {
		old, err := tx.Get(t.Key())
		if err != nil {
			return err
		}
		if old == nil && !fresh {
			return fault.New(fault.NotFound, "The token was revoked meanwhile.").WithCode(1003)
		}
		// Counted here, where one edit follows another: creations at the same time count each other.
		if fresh && len(a.keys.list(a.owned(c))) >= maxTokens {
			return fault.New(fault.TooMuch, "There are %d tokens already, which is the limit; revoke some that are no longer used.", maxTokens).At("name")
		}
		return tx.Put(t)
	})
}

// readToken takes the body over into t. What Cloudflare's clients send back of a token they read
// before is accepted.
func (a *API) readToken(c *product.Call, t *spec.Token) error {
	var in tokenBody
	err := c.Decode(&in, "id", "issued_on", "modified_on", "last_used_on", "value")
	if err != nil {
		return err
	}
	t.Name, t.ModifiedOn = in.Name, spec.Timestamp(a.o.Clock.Now())
	t.NotBefore, t.ExpiresOn = orZero(in.NotBefore), orZero(in.ExpiresOn)
	var faults []error
	if in.Status != "" {
		t.Status = in.Status
	}
	if t.Status == "expired" {
		t.Status = "active" // the status shown of a token whose time is over; its dates say so
	}
	if t.Status != "active" && t.Status != "disabled" {
		faults = append(faults, fault.New(fault.Invalid, "The status of a token is active or disabled, not %.40q.", in.Status).At("status"))
	}
	if !t.ExpiresOn.IsZero() && !t.ExpiresOn.After(t.NotBefore) {
		faults = append(faults, fault.New(fault.Invalid, "The token expires before it becomes valid.").At("expires_on"))
	}
	t.AllowIPs, t.DenyIPs = nil, nil
	if in.Condition != nil && in.Condition.RequestIP != nil {
		ip := in.Condition.RequestIP
		t.AllowIPs, err = prefixes(ip.In, "condition.request_ip.in")
		faults = append(faults, err)
		t.DenyIPs, err = prefixes(ip.NotIn, "condition.request_ip.not_in")
		faults = append(faults, err)
	}
	t.Policies, err = a.readPolicies(in.Policies, t.AccountID)
	faults = append(faults, err, t.Validate())
	return errors.Join(faults...)
}

func (a *API) readPolicies(in []policyView, account string) ([]spec.TokenPolicy, error) {
	if len(in) > 100 {
		return nil, fault.New(fault.TooMuch, "The token has %d policies, the limit is 100.", len(in)).At("policies")
	}
	var out []spec.TokenPolicy
	for i, p := range in {
		at := fmt.Sprintf("policies[%d]", i)
		if len(p.Groups) == 0 || len(p.Resources) == 0 {
			return nil, fault.New(fault.Invalid, "A policy needs permission_groups and resources.").At(at)
		}
		policy := spec.TokenPolicy{ID: spec.NewID(), Effect: p.Effect, Resources: p.Resources}
		for j, ref := range p.Groups {
			if a.groups.byID[ref.ID] == nil {
				return nil, fault.New(fault.Invalid, "There is no permission group %.60q; list them at .../tokens/permission_groups.", ref.ID).At(fmt.Sprintf("%s.permission_groups[%d].id", at, j))
			}
			policy.Groups = append(policy.Groups, ref.ID)
		}
		out = append(out, policy)
	}
	rules, err := a.groups.compile(out)
	if err != nil || account == "" {
		return out, err
	}
	for i, r := range rules {
		for _, res := range r.resources {
			if res.user != "" || res.account != "*" && res.account != account {
				return nil, fault.New(fault.Invalid, "A token of an account can only be about that account; its resources name something else.").At(fmt.Sprintf("policies[%d].resources", i))
			}
		}
	}
	return out, nil
}

// prefixes accepts CIDRs and single addresses.
func prefixes(in []string, at string) ([]string, error) {
	var out []string
	for i, s := range in {
		if p, err := netip.ParsePrefix(s); err == nil {
			out = append(out, p.Masked().String())
			continue
		}
		addr, err := netip.ParseAddr(s)
		if err != nil || addr.Zone() != "" {
			return nil, fault.New(fault.Invalid, "%.60q is not an address or CIDR such as 192.0.2.0/24.", s).At(fmt.Sprintf("%s[%d]", at, i))
		}
		out = append(out, netip.PrefixFrom(addr, addr.BitLen()).String())
	}
	return out, nil
}

func orZero(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return spec.Timestamp(*t)
}

// secretChars are 62: a secret of 40 has 238 bits.
const secretChars = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// newSecret returns the secret of a token: "sv_" and 40 random letters and digits. The prefix lets
// scanners of repositories find leaked ones.
func newSecret() string {
	out := make([]byte, 0, 43)
	out = append(out, "sv_"...)
	var b [64]byte
	for len(out) < cap(out) {
		rand.Read(b[:])
		for _, c := range b {
			// 248 is the largest multiple of 62 in a byte: above it the first letters would be likelier.
			if c < 248 && len(out) < cap(out) {
				out = append(out, secretChars[c%62])
			}
		}
	}
	return string(out)
}

// sorted orders items by what the parameters order and direction say; def is the order without any.
func sorted[T any](items []T, q url.Values, def string, orders map[string]func(T) string) error {
	order := cmp.Or(q.Get("order"), def)
	by := orders[order]
	if by == nil {
		return fault.New(fault.Invalid, "Cannot order by %.40q.", order).At("order")
	}
	direction := cmp.Or(q.Get("direction"), "asc")
	if direction != "asc" && direction != "desc" {
		return fault.New(fault.Invalid, "The direction is asc or desc, not %.40q.", direction).At("direction")
	}
	slices.SortStableFunc(items, func(a, b T) int {
		if direction == "desc" {
			a, b = b, a
		}
		return cmp.Compare(by(a), by(b))
	})
	return nil
}
