package r2

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"slices"
	"time"

	"selvage/foundation/fault"
	"selvage/product"
	"selvage/spec"
)

// Bounds of temporary credentials.
const (
	maxTTL        = 7 * 24 * time.Hour
	maxScopes     = 100
	maxScopeBytes = 8 << 10
)

// Permissions of temporary credentials.
const (
	AdminReadWrite  = "admin-read-write"
	AdminReadOnly   = "admin-read-only"
	ObjectReadWrite = "object-read-write"
	ObjectReadOnly  = "object-read-only"
)

func (p *R2) credentialRoutes() []product.Route {
	return []product.Route{{
		Method: "POST", Path: "/accounts/{account_id}/r2/temp-access-credentials", Permission: writeStorage,
		Summary: "Make S3 credentials that expire, for one bucket or a part of it.", Handle: p.createCredentials,
	}}
}

// Session is what a temporary credential stands for. It is nowhere stored: the credential's session
// token holds it, sealed.
type Session struct {
	Parent     string    `json:"p"` // access key ID whose rights it has a part of, while that is good
	Secret     string    `json:"s"` // that requests are signed with
	AccountID  string    `json:"a"`
	BucketID   string    `json:"b"`
	Bucket     string    `json:"n"` // name
	Permission string    `json:"r"`
	Prefixes   []string  `json:"f,omitempty"` // with Objects: which keys; neither: all
	Objects    []string  `json:"o,omitempty"`
	Actions    []string  `json:"t,omitempty"` // operations of S3; empty: all that Permission allows
	Expires    time.Time `json:"e"`
}

// sessionContext is what session tokens are sealed as.
const sessionContext = "r2 session"

func (p *R2) createCredentials(_ context.Context, c *product.Call) (product.Reply, error) {
	var in struct {
		Bucket     string   `json:"bucket"`
		Parent     string   `json:"parentAccessKeyId"`
		Permission string   `json:"permission"`
		TTL        float64  `json:"ttlSeconds"`
		Objects    []string `json:"objects"`
		Prefixes   []string `json:"prefixes"`
	}
	if err := c.Decode(&in); err != nil {
		return product.Reply{}, err
	}
	bad := func(field, format string, args ...any) error {
		return fault.New(fault.Invalid, format, args...).WithCode(codeBadJSON).At(field)
	}
	if in.Bucket == "" {
		return product.Reply{}, bad("bucket", "Name the bucket that the credentials are for.")
	}
	b, err := bucketIn(p.o.State.Snapshot(), c.Account.ID, in.Bucket, c.Header)
	if err != nil {
		return product.Reply{}, err
	}
	size := 0
	for _, s := range slices.Concat(in.Objects, in.Prefixes) {
		size += len(s)
	}
	switch {
	case !slices.Contains([]string{AdminReadWrite, AdminReadOnly, ObjectReadWrite, ObjectReadOnly}, in.Permission):
		return product.Reply{}, bad("permission", "The permission %.40q is not known; known are admin-read-write, admin-read-only, object-read-write and object-read-only.", in.Permission)
	case !(in.TTL >= 1 && in.TTL <= maxTTL.Seconds()):
		return product.Reply{}, bad("ttlSeconds", "ttlSeconds is %v; it is 1 to %v.", in.TTL, maxTTL.Seconds())
	case in.Parent == "" || len(in.Parent) > 64:
		return product.Reply{}, bad("parentAccessKeyId", "Name the access key ID, which is the ID of an API token, whose rights the credentials have a part of.")
	case len(in.Objects)+len(in.Prefixes) > maxScopes || size > maxScopeBytes:
		return product.Reply{}, bad("objects", "Objects and prefixes are at most %d together, of %d bytes; these are %d of %d.", maxScopes, maxScopeBytes, len(in.Objects)+len(in.Prefixes), size)
	case p.o.Seal == nil:
		return product.Reply{}, fault.New(fault.Unsupported, "This node has no key to seal temporary credentials with.")
	}
	if p.barred(c, b.Name, in.Permission) {
		return product.Reply{}, fault.New(fault.Denied, "The token may not use the bucket %s in this way, so it cannot lend that to others.", b.Name)
	}
	s := Session{
		Parent: in.Parent, Secret: spec.NewID() + spec.NewID(), AccountID: c.Account.ID, BucketID: b.ID, Bucket: b.Name, Permission: in.Permission,
		Prefixes: in.Prefixes, Objects: in.Objects, Expires: p.o.Clock.Now().Add(time.Duration(in.TTL * float64(time.Second))).UTC(),
	}
	plain, err := json.Marshal(s)
	if err != nil {
		return product.Reply{}, err
	}
	return product.Reply{Result: map[string]string{
		"accessKeyId": s.Parent, "secretAccessKey": s.Secret,
		"sessionToken": base64.RawURLEncoding.EncodeToString(p.o.Seal.Seal(plain, []byte(sessionContext))),
	}}, nil
}

// barred tells whether a policy of the caller's token takes away on a bucket what permission would lend: the
// parent that is named may be another, which is not held back there.
func (p *R2) barred(c *product.Call, bucket, permission string) bool {
	if p.o.Keys == nil {
		return false
	}
	key, err := p.o.Keys(c.Actor.TokenID, c.Actor.IP)
	if err != nil {
		return true // revoked a moment ago
	}
	all, items := readStorage, readItems
	if permission == AdminReadWrite || permission == ObjectReadWrite {
		all, items = writeStorage, writeItems
	}
	return key.Denied(all, c.Account.ID, bucket) || key.Denied(items, c.Account.ID, bucket)
}

// Session opens a session token. A fault says that it is not one of this node's, that its time is over,
// or that its bucket is gone. Whether its parent is still good is for the caller to see.
func (p *R2) Session(token string) (*Session, error) {
	invalid := fault.New(fault.Unauthenticated, "The session token is not valid.")
	raw, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || p.o.Seal == nil {
		return nil, invalid
	}
	plain, err := p.o.Seal.Open(raw, []byte(sessionContext))
	if err != nil {
		return nil, invalid
	}
	s := new(Session)
	if err := json.Unmarshal(plain, s); err != nil {
		return nil, invalid
	}
	if raw, err := hex.DecodeString(s.Secret); err != nil || len(raw) != 32 {
		return nil, invalid
	}
	if !p.o.Clock.Now().Before(s.Expires) {
		return nil, fault.New(fault.Unauthenticated, "The session token expired at %s.", s.Expires.Format(time.RFC3339))
	}
	if b := p.o.State.Snapshot().StorageOf(s.AccountID).Buckets[s.Bucket]; b == nil || b.ID != s.BucketID {
		return nil, noBucket()
	}
	return s, nil
}
