package api

import (
	"net/netip"
	"slices"
	"strings"

	"selvage/foundation/fault"
	"selvage/product"
)

// scopeBucket is the scope of rights on the objects of one bucket of R2. Its resources are named
// ACCOUNT_JURISDICTION_BUCKET.
const scopeBucket = "com.cloudflare.edge.r2.bucket"

// SigningKey returns the token with an ID for a client at an address that signs with it. Every reason
// why it cannot be used is the same fault.Unauthenticated, for nobody has shown yet to know its secret.
func (a *API) SigningKey(id string, from netip.Addr) (*product.SigningKey, error) {
	k, now := a.keys.token(id), a.o.Clock.Now()
	if k == nil || k.usable(now, from) != nil {
		return nil, fault.New(fault.Unauthenticated, "The access key ID is not that of an API token which can be used now from this address.")
	}
	k.used.Store(now.Unix())
	return &product.SigningKey{
		Secret: k.token.Hash, Actor: k.actor(from), Accounts: k.accounts(),
		Allowed: func(p product.Permission, accountID, bucket string) bool {
			return k.allows(p, scope{account: accountID, bucket: bucket})
		},
		Denied: func(p product.Permission, accountID, bucket string) bool {
			return k.denied(p, scope{account: accountID, bucket: bucket})
		},
	}, nil
}

// denied tells whether a policy takes p away on s, whatever others grant.
func (k *key) denied(p product.Permission, s scope) bool {
	return slices.ContainsFunc(k.rules, func(r rule) bool { return r.deny && r.about(k, s) && r.denies(p) })
}

// bucketItems is the group of rights on the objects of single buckets.
const bucketItems = "Workers R2 Storage Bucket Item"

// barredFromBucket tells whether a policy takes the route's permission away on the bucket that the path
// names: a right on the account does not go beyond that. Routes on objects are denied by rights on objects, too.
func (k *key) barredFromBucket(e *entry, c *product.Call) bool {
	bucket := c.Params["bucket_name"]
	if bucket == "" || c.Account == nil {
		return false
	}
	s := scope{account: c.Account.ID, bucket: bucket}
	objects := strings.Contains(e.Path, "{bucket_name}/objects")
	return k.denied(e.Permission, s) || objects && k.denied(product.Permission{Group: bucketItems, Write: e.Permission.Write}, s)
}

// accounts returns those that the token's owner can reach.
func (k *key) accounts() []string {
	switch {
	case k.token.AccountID != "":
		return []string{k.token.AccountID}
	case k.user != nil:
		return k.user.Accounts
	}
	return nil
}

// bucketResource reads the name of a bucket in a policy.
func bucketResource(name string) (resource, bool) {
	rest, ok := strings.CutPrefix(name, scopeBucket+".")
	account, rest, _ := strings.Cut(rest, "_")
	_, bucket, _ := strings.Cut(rest, "_")
	return resource{account: account, bucket: bucket}, ok && isID(account) && bucket != ""
}
