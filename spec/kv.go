package spec

import (
	"time"
	"unicode/utf8"

	"selvage/foundation/fault"
)

// KindKVNamespace is the kind of KVNamespace, scoped by account.
const KindKVNamespace Kind = "kv_namespace"

const maxKVTitle = 512 // bytes

// KVNamespace is a set of keys and values of Workers KV.
type KVNamespace struct {
	ID        string    `json:"id"` // 32 hex digits
	AccountID string    `json:"account_id"`
	Title     string    `json:"title"` // unique in the account
	CreatedOn time.Time `json:"created_on"`
}

// Key returns the namespace's key.
func (n *KVNamespace) Key() Key { return Key{KindKVNamespace, n.AccountID, n.ID} }

// Validate checks the title.
func (n *KVNamespace) Validate() error {
	if n.Title == "" || len(n.Title) > maxKVTitle || !utf8.ValidString(n.Title) {
		return fault.New(fault.Invalid, "The title of a KV namespace has 1 to %d bytes of UTF-8, this one has %d.", maxKVTitle, len(n.Title)).At("title")
	}
	return nil
}
