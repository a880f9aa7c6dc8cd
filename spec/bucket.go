package spec

import (
	"regexp"
	"time"

	"selvage/foundation/fault"
)

// KindBucket is the kind of Bucket, scoped by account; its ID is the bucket's name.
const KindBucket Kind = "bucket"

// Bucket is a set of objects of R2.
type Bucket struct {
	ID           string    `json:"id"` // 32 hex digits: objects belong to it, so that a name can be used anew
	AccountID    string    `json:"account_id"`
	Name         string    `json:"name"` // unique in the account
	Location     string    `json:"location,omitempty"`
	Jurisdiction string    `json:"jurisdiction,omitempty"`
	StorageClass string    `json:"storage_class"` // of new objects: Standard, InfrequentAccess
	CreatedOn    time.Time `json:"created_on"`
}

// Key returns the bucket's key.
func (b *Bucket) Key() Key { return Key{KindBucket, b.AccountID, b.Name} }

var bucketName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{1,61})[a-z0-9]$`)

// Validate checks the name.
func (b *Bucket) Validate() error {
	if !bucketName.MatchString(b.Name) {
		return fault.New(fault.Invalid, "The bucket name %.80q is not valid: it has 3 to 63 lower-case letters, digits and hyphens and neither begins nor ends with a hyphen.", b.Name).WithCode(10005).At("name")
	}
	return nil
}
