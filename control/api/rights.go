package api

import (
	"fmt"
	"slices"
	"strings"

	"selvage/foundation/fault"
	"selvage/product"
	"selvage/spec"
)

// scope is what a right is asked for: the user, an account itself, a zone of it, all zones of it
// ("*"), one bucket of it, or, when all is empty, anything.
type scope struct {
	user          bool
	account, zone string
	bucket        string
}

// rule is a policy ready to use.
type rule struct {
	deny      bool
	all       bool // of everything
	grants    map[product.Permission]bool
	resources []resource
}

// resource is what a policy is about. "*" is any; an empty zone is the account and all in it.
type resource struct {
	user          string
	account, zone string
	bucket        string // of the account, "*" for each: nothing else of it
}

// compile makes rules of policies. A fault names the part of the policies that is wrong.
func (g *groups) compile(policies []spec.TokenPolicy) ([]rule, error) {
	var rules []rule
	for i, p := range policies {
		at := fmt.Sprintf("policies[%d].", i)
		r := rule{deny: p.Effect == "deny", grants: map[product.Permission]bool{}}
		if !r.deny && p.Effect != "allow" {
			return nil, fault.New(fault.Invalid, "The effect of a policy is allow or deny, not %.40q.", p.Effect).At(at + "effect")
		}
		for _, id := range p.Groups {
			one := g.byID[id]
			if one == nil {
				// A group of a product that this version lacks grants nothing.
				continue
			}
			r.grants[one.permission] = true
			r.all = r.all || one.permission == everything
		}
		for name, value := range p.Resources {
			found, err := parseResource(name, value)
			if err != nil {
				return nil, err.At(at + "resources")
			}
			r.resources = append(r.resources, found...)
		}
		rules = append(rules, r)
	}
	return rules, nil
}

func parseResource(name string, value any) ([]resource, *fault.Error) {
	bad := func(why string) *fault.Error {
		return fault.New(fault.Invalid, "The resource %.120q %s; use com.cloudflare.api.account.<id>, com.cloudflare.api.account.zone.<id> or com.cloudflare.api.user.<id>, each with an ID or *.", name, why)
	}
	nested, isMap := value.(map[string]any)
	if bucket, ok := bucketResource(name); ok && value == "*" {
		return []resource{bucket}, nil
	}
	if !isMap && value != "*" {
		return nil, bad(`has a value other than "*"`)
	}
	if id, ok := strings.CutPrefix(name, scopeZone+"."); ok && !isMap && idOrAny(id) {
		return []resource{{account: "*", zone: id}}, nil
	}
	if id, ok := strings.CutPrefix(name, scopeUser+"."); ok && !isMap && idOrAny(id) {
		return []resource{{user: id}}, nil
	}
	account, ok := strings.CutPrefix(name, scopeAccount+".")
	if !ok || !idOrAny(account) {
		return nil, bad("is not known here")
	}
	if !isMap {
		return []resource{{account: account}}, nil
	}
	var found []resource
	for below, v := range nested {
		id, ok := strings.CutPrefix(below, scopeZone+".")
		switch {
		case v == "*" && below == scopeBucket+".*":
			found = append(found, resource{account: account, bucket: "*"})
		case v == "*" && ok && idOrAny(id):
			found = append(found, resource{account: account, zone: id})
		default:
			return nil, bad("names below it something other than zones and " + scopeBucket + ".*")
		}
	}
	return found, nil
}

func idOrAny(s string) bool { return s == "*" || isID(s) }

// allows tells whether the token has p on s. Deny wins; write includes read.
func (k *key) allows(p product.Permission, s scope) bool {
	if p.Group == "" {
		return true
	}
	if !k.reaches(s) {
		return false
	}
	allowed := false
	for _, r := range k.rules {
		if !r.about(k, s) {
			continue
		}
		if r.deny && s != (scope{}) && r.denies(p) {
			return false
		}
		if !r.deny && r.permits(p) {
			allowed = true
		}
	}
	return allowed
}

// sees tells whether s exists for the token: whether it has any right there at all.
func (k *key) sees(s scope) bool {
	if !k.reaches(s) {
		return false
	}
	if k.token.AccountID != "" && s.zone == "" {
		return true
	}
	return slices.ContainsFunc(k.rules, func(r rule) bool {
		return !r.deny && (r.about(k, s) || s.zone == "" && r.about(k, scope{account: s.account, zone: "*"}))
	})
}

// reaches tells whether s belongs to the token's owner; no policy can go beyond that.
func (k *key) reaches(s scope) bool {
	switch {
	case k.token.AccountID != "":
		return !s.user && (s.account == "" || s.account == k.token.AccountID)
	case k.user == nil:
		return false
	}
	return s.user || s.account == "" || slices.Contains(k.user.Accounts, s.account)
}

func (r *rule) permits(p product.Permission) bool {
	return r.all || r.grants[p] || r.grants[product.Permission{Group: p.Group, Write: true}]
}

// denies: who may not read may not write either.
func (r *rule) denies(p product.Permission) bool {
	return r.all || r.grants[p] || r.grants[product.Permission{Group: p.Group}]
}

func (r *rule) about(k *key, s scope) bool {
	return slices.ContainsFunc(r.resources, func(res resource) bool { return res.covers(k, s) })
}

func (res resource) covers(k *key, s scope) bool {
	if s.user || res.user != "" {
		return s == (scope{}) || s.user && (res.user == "*" || k.user != nil && res.user == k.user.ID)
	}
	if s.account == "" && s.zone == "" {
		return true
	}
	if res.account != "*" && res.account != s.account {
		return false
	}
	if res.bucket != "" && (s.bucket == "" || res.bucket != "*" && res.bucket != s.bucket) {
		return false
	}
	return res.zone == "" || s.zone != "" && (res.zone == "*" || res.zone == s.zone)
}
