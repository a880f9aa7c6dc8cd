package spec

import (
	"time"

	"selvage/foundation/fault"
)

// KindDatabase is the kind of Database, scoped by account.
const KindDatabase Kind = "database"

// Database is a SQL database of D1.
type Database struct {
	ID        string    `json:"uuid"`
	AccountID string    `json:"account_id"`
	Name      string    `json:"name"` // unique in the account
	CreatedOn time.Time `json:"created_on"`
}

// Key returns the database's key.
func (d *Database) Key() Key { return Key{KindDatabase, d.AccountID, d.ID} }

// Validate checks the name.
func (d *Database) Validate() error {
	if d.Name == "" || len(d.Name) > 255 {
		return fault.New(fault.Invalid, "The name of a database has 1 to 255 bytes, this one has %d.", len(d.Name)).At("name")
	}
	return nil
}
