package spec

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"time"

	"selvage/foundation/fault"
)

// KindBucket is the kind of Bucket, scoped by account; its ID is the bucket's name.
const KindBucket Kind = "bucket"

// Storage classes of R2.
const (
	ClassStandard         = "Standard"
	ClassInfrequentAccess = "InfrequentAccess"
)

// Bucket is a set of objects of R2.
type Bucket struct {
	ID           string    `json:"id"` // 32 hex digits: objects belong to it, so that a name can be used anew
	AccountID    string    `json:"account_id"`
	Name         string    `json:"name"` // unique in the account
	Location     string    `json:"location,omitempty"`
	Jurisdiction string    `json:"jurisdiction,omitempty"` // empty: default
	StorageClass string    `json:"storage_class"`          // of new objects: Standard, InfrequentAccess
	CreatedOn    time.Time `json:"created_on"`

	CORS          []CORSRule         `json:"cors,omitempty"`      // nil: none were set
	Lifecycle     []LifecycleRule    `json:"lifecycle,omitempty"` // those of DefaultLifecycle in a new bucket
	Lock          []LockRule         `json:"lock,omitempty"`
	Domains       []BucketDomain     `json:"domains,omitempty"`
	ManagedZone   string             `json:"managed_zone,omitempty"` // ID of the zone of its name under the node's domain; empty: not public there
	Notifications []NotificationRule `json:"notifications,omitempty"`
}

// BucketDomain is a host name at which a bucket is public.
type BucketDomain struct {
	Domain    string    `json:"domain"` // unique on the node
	ZoneID    string    `json:"zone_id"`
	ZoneName  string    `json:"zone_name"`
	Enabled   bool      `json:"enabled"`
	MinTLS    string    `json:"min_tls,omitempty"` // 1.0, 1.1, 1.2, 1.3
	Ciphers   []string  `json:"ciphers,omitempty"` // kept for the client
	RecordID  string    `json:"record_id"`         // of the DNS record that was made for it
	CreatedOn time.Time `json:"created_on"`
}

// NotificationRule says which changes of objects become messages of a queue.
type NotificationRule struct {
	ID          string    `json:"id"` // UUID
	QueueID     string    `json:"queue_id"`
	Prefix      string    `json:"prefix,omitempty"`
	Suffix      string    `json:"suffix,omitempty"`
	Actions     []string  `json:"actions"` // PutObject, CopyObject, DeleteObject, CompleteMultipartUpload, LifecycleDeletion
	Description string    `json:"description,omitempty"`
	CreatedOn   time.Time `json:"created_on"`
}

// Key returns the bucket's key.
func (b *Bucket) Key() Key { return Key{KindBucket, b.AccountID, b.Name} }

var bucketName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{1,61})[a-z0-9]$`)

// bucketLocations are the hints for where a bucket should be; a node is one place and keeps them.
var bucketLocations = []string{"", "apac", "eeur", "enam", "weur", "wnam", "oc"}

var bucketJurisdictions = []string{"", "eu", "fedramp", "fedramp-high"}

// Validate reports every fault of the bucket's fields and rules.
func (b *Bucket) Validate() error {
	var faults []error
	bad := func(code int, field, format string, args ...any) {
		faults = append(faults, fault.New(fault.Invalid, format, args...).WithCode(code).At(field))
	}
	if !bucketName.MatchString(b.Name) {
		bad(10005, "name", "The bucket name %.80q is not valid: it has 3 to 63 lower-case letters, digits and hyphens and neither begins nor ends with a hyphen.", b.Name)
	}
	if !slices.Contains(bucketLocations, b.Location) {
		bad(10040, "locationHint", "The location hint %.40q is not known; known are apac, eeur, enam, oc, weur and wnam.", b.Location)
	}
	if !slices.Contains(bucketJurisdictions, b.Jurisdiction) {
		bad(10040, "jurisdiction", "The jurisdiction %.40q is not known; known are default, eu and fedramp.", b.Jurisdiction)
	}
	if err := CheckStorageClass(b.StorageClass); err != nil {
		faults = append(faults, err)
	}
	faults = append(faults, checkCORS(b.CORS)...)
	faults = append(faults, checkLifecycle(b.Lifecycle)...)
	faults = append(faults, checkLock(b.Lock)...)
	for i := range b.Notifications {
		if err := b.Notifications[i].check(); err != nil {
			faults = append(faults, err.At(fmt.Sprintf("rules[%d]", i)))
		}
	}
	return errors.Join(faults...)
}

// CheckStorageClass refuses what is no storage class.
func CheckStorageClass(class string) error {
	if class != ClassStandard && class != ClassInfrequentAccess {
		return fault.New(fault.Invalid, "The storage class %.40q is not known; known are Standard and InfrequentAccess.", class).WithCode(10062).At("storageClass")
	}
	return nil
}

// NotificationActions are what a rule may name.
func NotificationActions() []string {
	return []string{"PutObject", "CopyObject", "DeleteObject", "CompleteMultipartUpload", "LifecycleDeletion"}
}

func (r *NotificationRule) check() *fault.Error {
	if len(r.Actions) == 0 {
		return fault.New(fault.Invalid, "A notification rule names at least one action.").WithCode(11002)
	}
	known := NotificationActions()
	for _, a := range r.Actions {
		if !slices.Contains(known, a) {
			return fault.New(fault.Invalid, "The action %.40q is not known; known are %v.", a, known).WithCode(11002)
		}
	}
	if len(r.Prefix) > maxRulePrefix || len(r.Suffix) > maxRulePrefix {
		return fault.New(fault.Invalid, "Prefix and suffix of a notification rule have at most %d bytes.", maxRulePrefix).WithCode(11002)
	}
	return nil
}
