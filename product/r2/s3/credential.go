package s3

import (
	"cmp"
	"net/http"
	"slices"
	"strings"

	"selvage/spec"
)

// Right is something that a credential may or may not do. They are R2's four: reading and writing of
// objects, and of buckets and their configuration.
type Right uint8

// The rights.
const (
	ReadObjects Right = iota
	WriteObjects
	ReadBuckets
	WriteBuckets
)

// Credential is what an access key ID stands for. Immutable.
type Credential struct {
	Secret string // that requests are signed with
	Actor  spec.Actor
	// Accounts are those that its owner can reach, as IDs.
	Accounts []string
	// Allows tells whether it has a right on a bucket, or on all of an account's if the name is empty.
	Allows func(r Right, accountID, bucket string) bool
	// Only bounds a temporary credential further; nil: not.
	Only *Scope
}

// Scope is what a temporary credential is bounded to.
type Scope struct {
	Bucket     string // by name; no other exists for it
	Prefixes   []string
	Objects    []string // keys; without any and without prefixes it is all keys
	Operations []string // such as GetObject; empty: what its rights allow
}

// holds tells whether a key is within the scope.
func (s *Scope) holds(key string) bool {
	return s == nil || len(s.Prefixes)+len(s.Objects) == 0 || slices.Contains(s.Objects, key) || s.under(key)
}

// under tells whether all keys with a prefix are within the scope.
func (s *Scope) under(prefix string) bool {
	if s == nil || len(s.Prefixes)+len(s.Objects) == 0 {
		return true
	}
	return slices.ContainsFunc(s.Prefixes, func(p string) bool { return strings.HasPrefix(prefix, p) })
}

// admit finds out who sent the request and checks the signature.
func (x *request) admit() error {
	s, refusal := readSignature(x.r, x.query, x.start)
	if refusal != nil {
		return refusal
	}
	x.sign = s
	cred, err := x.s.o.Lookup(s.id, s.session, x.client)
	if err != nil {
		return err
	}
	if refusal := checkPayload(s.payload); refusal != nil {
		return refusal
	}
	if refusal := s.verify(x.r, x.target, &x.s.keys, cred.Secret); refusal != nil {
		x.s.metrics.refused.Inc()
		return refusal
	}
	if refusal := s.everythingSigned(x.r.Header); refusal != nil {
		return refusal
	}
	if s.presigned {
		s.hoist(x.r.Header, x.query)
	}
	x.cred = cred
	return nil
}

// hoist makes headers of those that a presigned URL carries in its query, where SDKs put them. Those of
// checksums stay where they are: SDKs compute them of no body at all.
func (s *signature) hoist(h http.Header, query map[string][]string) {
	for name, values := range query {
		lower := strings.ToLower(name)
		if !strings.HasPrefix(lower, "x-amz-") || len(values) == 0 || strings.HasPrefix(lower, "x-amz-checksum") || strings.HasPrefix(lower, "x-amz-sdk-") {
			continue
		}
		switch lower {
		case "x-amz-algorithm", "x-amz-credential", "x-amz-date", "x-amz-expires", "x-amz-signedheaders", "x-amz-signature", "x-amz-security-token", "x-amz-content-sha256":
			continue
		}
		if h.Get(name) == "" {
			h.Set(name, values[0])
		}
	}
}

// findBucket finds the account and the bucket that the request is about.
//
// The host may name the account. If it does not and the credential is good for several, the bucket's
// name decides; one that several of them have is refused. Without a bucket, or with one that none has,
// it is the oldest account.
func (x *request) findBucket(snap *spec.Snapshot) error {
	accounts := x.reachable(snap)
	if x.target.account != "" {
		accounts = slices.DeleteFunc(accounts, func(a *spec.Account) bool { return a.ID != x.target.account })
	}
	if len(accounts) == 0 {
		return accessDenied("the credential has no rights on R2 in this account.")
	}
	x.account = accounts[0].ID
	if x.bucket == "" {
		return nil
	}
	for _, a := range accounts {
		b := snap.StorageOf(a.ID).Buckets[x.bucket]
		if b == nil {
			continue
		}
		if x.found != nil {
			return invalidRequest("Several accounts that this credential is good for have a bucket with this name: say which by the host name <account ID>.r2.<host>.")
		}
		x.found, x.account = b, a.ID
	}
	return nil
}

// reachable returns the accounts in which the credential may do anything, the oldest first.
func (x *request) reachable(snap *spec.Snapshot) []*spec.Account {
	var accounts []*spec.Account
	for _, id := range x.cred.Accounts {
		a := snap.Accounts[id]
		if a == nil {
			continue
		}
		bucket := x.bucket
		if x.cred.Only != nil {
			bucket = x.cred.Only.Bucket
		}
		any := slices.ContainsFunc([]Right{ReadObjects, WriteObjects, ReadBuckets, WriteBuckets}, func(r Right) bool { return x.cred.Allows(r, id, bucket) })
		if any {
			accounts = append(accounts, a)
		}
	}
	slices.SortFunc(accounts, func(a, b *spec.Account) int {
		return cmp.Or(a.CreatedOn.Compare(b.CreatedOn), strings.Compare(a.ID, b.ID))
	})
	return accounts
}

// permit checks that the credential has the right that the operation asks for, and says whether the
// bucket exists only to those that may know.
func (x *request) permit() error {
	o := x.cred.Only
	if o != nil && (x.bucket != o.Bucket || len(o.Operations) > 0 && !slices.Contains(o.Operations, x.op.name)) {
		return accessDenied("the temporary credential is not for this operation or bucket.")
	}
	if !x.cred.Allows(x.op.right, x.account, x.bucket) {
		return accessDenied("the credential lacks the right to this operation.")
	}
	if x.bucket != "" && x.found == nil && !x.op.makes {
		return noBucket()
	}
	if x.key != "" && !o.holds(x.key) {
		return accessDenied("the temporary credential is not for this key.")
	}
	return nil
}

// readable tells whether the credential may read an object of a bucket: the source of a copy.
func (x *request) readable(bucket, key string) bool {
	o := x.cred.Only
	return (o == nil || bucket == o.Bucket && o.holds(key)) && x.cred.Allows(ReadObjects, x.account, bucket)
}
