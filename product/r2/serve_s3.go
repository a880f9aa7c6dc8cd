package r2

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"strings"

	"selvage/foundation/fault"
	"selvage/product"
	"selvage/product/r2/s3"
)

// Rights on the objects of buckets alone; those of readStorage and writeStorage include them.
var (
	readItems  = product.Permission{Group: "Workers R2 Storage Bucket Item"}
	writeItems = product.Permission{Group: "Workers R2 Storage Bucket Item", Write: true}
)

// ServeS3 answers S3 clients on l until ctx ends; then it takes no more connections and returns when
// those there are have finished what they were at. Call it once.
func (p *R2) ServeS3(ctx context.Context, l net.Listener) error {
	return p.front.Serve(ctx, l)
}

// S3 returns what answers S3 clients, for requests that come by another way than ServeS3's.
func (p *R2) S3() http.Handler { return p.front }

// Lookup returns what an access key ID stands for at an address: an API token, or, with a session token,
// the temporary credential that was made of one. Whatever cannot be used is one and the same refusal.
func (p *R2) Lookup(id, session string, from netip.Addr) (*s3.Credential, error) {
	if p.o.Keys == nil {
		return nil, fault.New(fault.Unauthenticated, "This node lets no S3 clients in.")
	}
	key, err := p.o.Keys(id, from)
	if err != nil {
		return nil, err
	}
	c := &s3.Credential{Secret: key.Secret, Actor: key.Actor, Accounts: key.Accounts, Allows: allows(key)}
	if session == "" {
		return c, nil
	}
	s, err := p.Session(session)
	if err != nil && strings.HasPrefix(session, signedSession) {
		s, err = p.signedLocally(session, key)
	}
	if err != nil {
		return nil, badSession()
	}
	if s.Parent != id {
		return nil, badSession()
	}
	c.Secret, c.Accounts = s.Secret, []string{s.AccountID}
	c.Only = &s3.Scope{Bucket: s.Bucket, Prefixes: s.Prefixes, Objects: s.Objects, Operations: s.Actions}
	parent := c.Allows
	c.Allows = func(r s3.Right, accountID, bucket string) bool {
		return accountID == s.AccountID && granted(s.Permission, r) && parent(r, accountID, s.Bucket) && (bucket == "" || bucket == s.Bucket)
	}
	return c, nil
}

// badSession is what R2 says of session tokens that it did not make.
func badSession() error {
	return &s3.Error{Status: 400, Code: "InvalidArgument", Message: "X-Amz-Security-Token"}
}

// allows puts a token's rights in the words of S3's front. What a policy takes away of a bucket's objects is
// taken away, whatever others grant.
func allows(k *product.SigningKey) func(r s3.Right, accountID, bucket string) bool {
	return func(r s3.Right, accountID, bucket string) bool {
		all, items := readStorage, readItems
		if r == s3.WriteObjects || r == s3.WriteBuckets {
			all, items = writeStorage, writeItems
		}
		if r != s3.ReadObjects && r != s3.WriteObjects {
			return k.Allowed(all, accountID, bucket)
		}
		return (k.Allowed(all, accountID, bucket) || k.Allowed(items, accountID, bucket)) && !k.Denied(all, accountID, bucket) && !k.Denied(items, accountID, bucket)
	}
}

// granted tells whether a temporary credential's permission includes a right. One that names operations
// instead is checked by those.
func granted(permission string, r s3.Right) bool {
	switch permission {
	case AdminReadWrite:
		return true
	case AdminReadOnly:
		return r == s3.ReadObjects || r == s3.ReadBuckets
	case ObjectReadWrite, "":
		return r == s3.ReadObjects || r == s3.WriteObjects
	case ObjectReadOnly:
		return r == s3.ReadObjects
	}
	return false
}
