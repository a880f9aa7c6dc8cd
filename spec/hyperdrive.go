package spec

import (
	"time"

	"selvage/foundation/fault"
)

// KindHyperdrive is the kind of Hyperdrive, scoped by account.
const KindHyperdrive Kind = "hyperdrive"

// Hyperdrive is a pool of connections to a database that the account has elsewhere.
type Hyperdrive struct {
	ID         string           `json:"id"` // 32 hex digits
	AccountID  string           `json:"account_id"`
	Name       string           `json:"name"` // unique in the account
	Origin     HyperdriveOrigin `json:"origin"`
	CreatedOn  time.Time        `json:"created_on"`
	ModifiedOn time.Time        `json:"modified_on"`
}

// HyperdriveOrigin is where the database is and how to log in.
type HyperdriveOrigin struct {
	Scheme   string `json:"scheme"` // postgres, postgresql, mysql
	Host     string `json:"host"`
	Port     int    `json:"port"`
	Database string `json:"database"`
	User     string `json:"user"`
	Sealed   []byte `json:"sealed"` // the password, encrypted; never shown
}

// Key returns the configuration's key.
func (h *Hyperdrive) Key() Key { return Key{KindHyperdrive, h.AccountID, h.ID} }

// Validate checks that there is a name and where the database is.
func (h *Hyperdrive) Validate() error {
	if h.Name == "" || len(h.Name) > 255 {
		return fault.New(fault.Invalid, "The name of a Hyperdrive configuration has 1 to 255 bytes, this one has %d.", len(h.Name)).At("name")
	}
	if h.Origin.Host == "" {
		return fault.New(fault.Invalid, "A Hyperdrive configuration needs the host of its database.").At("origin.host")
	}
	return nil
}

var _ Redacted = (*Hyperdrive)(nil)

// Redact returns a copy without the sealed password.
func (h *Hyperdrive) Redact() Noun {
	r := *h
	r.Origin.Sealed = nil
	return &r
}
