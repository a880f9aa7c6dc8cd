package api

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"

	"selvage/product"
)

// The scopes a permission group can be granted on, and the prefixes of the resources in a policy.
const (
	scopeUser    = "com.cloudflare.api.user"
	scopeAccount = "com.cloudflare.api.account"
	scopeZone    = "com.cloudflare.api.account.zone"
)

// everything is the permission of tokens that may do anything, products of later versions included.
var everything = product.Permission{Group: "All Privileges", Write: true}

// group is a permission group: a right that policies of tokens name by its ID.
type group struct {
	ID         string             `json:"id"`
	Name       string             `json:"name"`
	Scopes     []string           `json:"scopes"`
	permission product.Permission `json:"-"`
}

// groups are the permission groups that this node knows. Read-only once made.
type groups struct {
	all          []*group // sorted by name
	byID         map[string]*group
	byPermission map[product.Permission]*group
}

// known are Cloudflare's own groups with Cloudflare's IDs, so that scripts which name them work.
var known = []struct{ group, scope, read, write string }{
	{"API Tokens", scopeUser, "0cc3a61731504c89b99ec1be78b77aa0", "686d18d5ac6c441c867cbf6771e58a0a"},
	{"Memberships", scopeUser, "3518d0f75557482e952c6762d3e64903", "9201bc6f42d440968aaab0c6f17ebb1d"},
	{"User Details", scopeUser, "8acbe5bb0d54464ab867149d7f7cf8ac", "55a5e17cc99e4a3fa1f3432d262f2e55"},
	{"Account API Tokens", scopeAccount, "eb56a6953c034b9d97dd838155666f06", "5bc3f8b21c554832afc660159ab75fa4"},
	{"Account Settings", scopeAccount, "c1fde68c7bcc44588cbb6ddbc16d6480", "1af1fa2adc104452b74a9a3364202f20"},
	{"Cache Purge", scopeZone, "", "e17beae8b8cb423a99b1730f21238bed"},
	{"Cache Settings", scopeZone, "3245da1cf36c45c3847bb9b483c62f97", "9ff81cbbe65c400b97d92c3c1033cab6"},
	{"D1", scopeAccount, "192192df92ee43ac90f2aeeffce67e35", "09b2857d1c31407795e75e3fed8617a1"},
	{"DNS", scopeZone, "82e64a83756745bbbb1c9c2701bf816b", "4755a26eedb94da69e1066d98aa820be"},
	{"Hyperdrive", scopeAccount, "4d62ccf834df44808bc9283d65c4e4e9", "721b2f51fba74871bd361de65aeb7e03"},
	{"Logs", scopeAccount, "6a315a56f18441e59ed03352369ae956", ""},
	{"Origin", scopeZone, "7b32a91ece3140d4b3c2c56f23fc8e35", "a4308c6855c84eb2873e01b6cc85cbb3"},
	{"Queues", scopeAccount, "84a7755d54c646ca87cd50682a34bf7c", "366f57075ffc42689627bcf8242a1b6d"},
	{"SSL and Certificates", scopeZone, "7b7216b327b04b8fbc8f524e1f9b7531", "c03055bc037c4ea9afb9a9f104b7b721"},
	{"Workers KV Storage", scopeAccount, "8b47d2786a534c08a1f94ee8f9f599ef", "f7f0eda5697f475c90846e879bab8666"},
	{bucketItems, scopeBucket, "6a018a9f2fc74eb6b293b0c548f38b39", "2efd5506f9c8494dacb1fa10a3e7d5b6"},
	{"Workers R2 Storage", scopeAccount, "b4992e1108244f5d8bfbd5744320c2e1", "bf7481a1826f439697cb59a20b22293e"},
	{"Workers Routes", scopeZone, "2072033d694d415a936eaeb94e6405b8", "28f4b596e7d643029c524985477ae49a"},
	{"Workers Scripts", scopeAccount, "1a71c399035b4950a1bd1466bbe4f420", "e086da7e2179491d91ee5f35b3ca210a"},
	{"Workers Tail", scopeAccount, "05880cd1bdc24d8bae0be2136972816b", ""},
	{"Account Analytics", scopeAccount, "b89a480218d04ceb98b4fe57ca29dc1f", ""},
	{"Zone", scopeZone, "c8fed203ed3043cba015a93ad1616f1f", "e6d2666161e84845a636613608cee8d5"},
	{"Zone Settings", scopeZone, "517b21aee92c4d89936c976ba6e4be55", "3030687196b94b638145a3953da2b699"},
}

// newGroups returns the known groups and one for each permission that a route or phase asks for.
func newGroups(entries []entry, phases []product.RulePhase) *groups {
	g := &groups{byID: map[string]*group{}, byPermission: map[product.Permission]*group{}}
	g.add(everything, "", scopeUser, scopeAccount, scopeZone)
	for _, k := range known {
		if k.read != "" {
			g.add(product.Permission{Group: k.group}, k.read, k.scope)
		}
		if k.write != "" {
			g.add(product.Permission{Group: k.group, Write: true}, k.write, k.scope)
		}
	}
	for _, e := range entries {
		if e.Permission.Group == "" {
			continue
		}
		scope := scopeAccount
		if strings.Contains(e.Path, "{zone_id}") {
			scope = scopeZone
		}
		g.add(e.Permission, "", scope)
	}
	for _, p := range phases {
		g.add(phasePermission(p, false), "", scopeZone)
		g.add(phasePermission(p, true), "", scopeZone)
	}
	slices.SortFunc(g.all, func(a, b *group) int { return cmp.Compare(a.Name, b.Name) })
	return g
}

func (g *groups) add(p product.Permission, id string, scopes ...string) {
	if g.byPermission[p] != nil {
		return
	}
	name := groupName(p)
	sum := sha256.Sum256([]byte("permission group " + name))
	own := hex.EncodeToString(sum[:16])
	one := &group{ID: cmp.Or(id, own), Name: name, Scopes: scopes, permission: p}
	g.all = append(g.all, one)
	// Tokens that were made before this node knew Cloudflare's ID name its own.
	g.byID[own], g.byID[one.ID], g.byPermission[p] = one, one, one
}

func groupName(p product.Permission) string {
	switch {
	case p == everything || p.Group == "Cache Purge":
		return p.Group
	case p.Write:
		return p.Group + " Write"
	}
	return p.Group + " Read"
}

// scope returns s, or the scope of the user if p is a right over the user's own things.
func (g *groups) scope(p product.Permission, s scope) scope {
	if one := g.byPermission[p]; one != nil && one.Scopes[0] == scopeUser && p != everything {
		return scope{user: true}
	}
	return s
}
