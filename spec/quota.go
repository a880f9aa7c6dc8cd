package spec

import (
	"maps"
	"regexp"
	"slices"

	"selvage/foundation/fault"
)

// KindQuotas is the kind of Quotas: one per account, its ID is the account's.
const KindQuotas Kind = "quotas"

// Quotas are limits that the operator set for an account in place of the defaults.
type Quotas struct {
	AccountID string           `json:"account_id"`
	Limits    map[string]int64 `json:"limits"` // by the name of the quota, such as kv_bytes; in its unit
}

// Key returns the quotas' key.
func (q *Quotas) Key() Key { return Key{KindQuotas, q.AccountID, q.AccountID} }

var quotaName = regexp.MustCompile(`^[a-z][a-z0-9]*(_[a-z0-9]+)+$`)

// Validate checks that names have the form of a quota's and that no limit is negative; control/api
// knows which there are.
func (q *Quotas) Validate() error {
	for _, name := range slices.Sorted(maps.Keys(q.Limits)) {
		if !quotaName.MatchString(name) {
			return fault.New(fault.Invalid, "The quota name %.80q is not valid: it is a product and what is counted, such as kv_bytes.", name).At(name)
		}
		if q.Limits[name] < 0 {
			return fault.New(fault.Invalid, "The quota %s is %d; it must be 0 or more.", name, q.Limits[name]).At(name)
		}
	}
	return nil
}

// Quota returns the limit that holds for an account: what was set, or def.
func (s *Snapshot) Quota(accountID, name string, def int64) int64 {
	if q := s.StorageOf(accountID).Quotas; q != nil {
		if limit, ok := q.Limits[name]; ok {
			return limit
		}
	}
	return def
}
