package product

import (
	"context"

	"selvage/foundation/fault"
	"selvage/spec"
)

// Metered is a product whose use is counted per account, and may be limited.
type Metered interface {
	Quotas() []Quota
}

// Quota is one thing that is counted. The product itself refuses what would go over, by
// Quota.Check; control/api shows use and limits and lets the operator set them.
type Quota struct {
	Name    string // product and what is counted: kv_bytes
	Summary string // for people: "Bytes of keys, values and metadata in KV."
	Default int64  // the limit unless the operator set another; 0: no limit
	// Used returns how much an account uses now.
	Used func(ctx context.Context, accountID string) (int64, error)
}

// Limit returns the limit that holds for an account; 0 is none.
func (q *Quota) Limit(s *spec.Snapshot, accountID string) int64 {
	return s.Quota(accountID, q.Name, q.Default)
}

// Check returns a fault.TooMuch if used and more together are over the account's limit.
func (q *Quota) Check(s *spec.Snapshot, accountID string, used, more int64) error {
	limit := q.Limit(s, accountID)
	if limit == 0 || used+more <= limit {
		return nil
	}
	return fault.New(fault.TooMuch, "The account's quota %s is %d and %d of it are used: %d more do not fit. Delete something, or ask the operator of this node for more.", q.Name, limit, used, more)
}
