package kv

import (
	"context"

	"selvage/product"
	"selvage/product/kv/store"
)

// maxNamespaces is how many namespaces an account may have unless the operator says otherwise.
const maxNamespaces = 1000

// quotas is what is counted of each account.
type quotas struct {
	p                       *KV
	bytes, keys, namespaces product.Quota
}

func (p *KV) newQuotas() quotas {
	return quotas{
		p: p,
		bytes: product.Quota{Name: "kv_bytes", Summary: "Bytes of keys, values and metadata in KV.", Used: func(_ context.Context, accountID string) (int64, error) {
			u, err := p.store.AccountUsage(accountID)
			return u.Bytes, err
		}},
		keys: product.Quota{Name: "kv_keys", Summary: "Keys in KV.", Used: func(_ context.Context, accountID string) (int64, error) {
			u, err := p.store.AccountUsage(accountID)
			return u.Keys, err
		}},
		namespaces: product.Quota{Name: "kv_namespaces", Summary: "Namespaces of KV.", Default: maxNamespaces, Used: func(_ context.Context, accountID string) (int64, error) {
			return int64(len(p.o.State.Snapshot().StorageOf(accountID).Namespaces)), nil
		}},
	}
}

// Quotas returns what is counted of each account.
func (p *KV) Quotas() []product.Quota {
	return []product.Quota{p.quotas.bytes, p.quotas.keys, p.quotas.namespaces}
}

// allow refuses what would make an account use more than it may. What shrinks is never refused.
func (q *quotas) allow(accountID string, used, more store.Usage) error {
	s := q.p.o.State.Snapshot()
	if more.Bytes > 0 {
		if err := q.bytes.Check(s, accountID, used.Bytes, more.Bytes); err != nil {
			return err
		}
	}
	if more.Keys > 0 {
		return q.keys.Check(s, accountID, used.Keys, more.Keys)
	}
	return nil
}
