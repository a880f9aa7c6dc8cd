package spec

import (
	"crypto/rand"
	"encoding/hex"
	"regexp"
	"slices"
	"strings"
	"time"

	"selvage/foundation/fault"
)

// KindDatabase is the kind of Database, scoped by account.
const KindDatabase Kind = "database"

// Database is a SQL database of D1. Its data lies with the product.
type Database struct {
	ID        string    `json:"uuid"` // see NewUUID
	AccountID string    `json:"account_id"`
	Name      string    `json:"name"` // unique in the account
	CreatedOn time.Time `json:"created_on"`

	// LocationHint and Jurisdiction are kept as they were asked for; a node is in one place.
	LocationHint string `json:"primary_location_hint,omitempty"` // of LocationHints
	Jurisdiction string `json:"jurisdiction,omitempty"`          // of Jurisdictions

	// Replication is the mode of read replication: disabled, the same as empty, or auto.
	Replication string `json:"read_replication,omitempty"`
}

// What may be asked for of a database's place.
var (
	LocationHints = []string{"weur", "eeur", "apac", "oc", "wnam", "enam"}
	Jurisdictions = []string{"eu", "fedramp", "us"}
)

// Modes of read replication.
const (
	ReplicationDisabled = "disabled"
	ReplicationAuto     = "auto"
)

// Key returns the database's key.
func (d *Database) Key() Key { return Key{KindDatabase, d.AccountID, d.ID} }

// databaseName keeps out what a URL's path or a shell would take for something else.
var databaseName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_. -]{0,254}$`)

// Validate checks the name and what was asked for. A name that looks like an ID is refused: databases
// are found by either.
func (d *Database) Validate() error {
	switch {
	case d.Name == "" || len(d.Name) > 255:
		return fault.New(fault.Invalid, "The name of a database has 1 to 255 bytes, this one has %d.", len(d.Name)).At("name")
	case !databaseName.MatchString(d.Name):
		return fault.New(fault.Invalid, "The name %.80q is not valid for a database: it has letters, digits, underscores, hyphens, dots and spaces, and begins with a letter, a digit or an underscore.", d.Name).At("name")
	case IsUUID(strings.ToLower(d.Name)):
		return fault.New(fault.Invalid, "The name %q looks like the ID of a database; choose another.", d.Name).At("name")
	case d.LocationHint != "" && !slices.Contains(LocationHints, d.LocationHint):
		return fault.New(fault.Invalid, "The primary_location_hint %.40q is not known; use one of %s.", d.LocationHint, strings.Join(LocationHints, ", ")).At("primary_location_hint")
	case d.Jurisdiction != "" && !slices.Contains(Jurisdictions, d.Jurisdiction):
		return fault.New(fault.Invalid, "The jurisdiction %.40q is not known; use one of %s.", d.Jurisdiction, strings.Join(Jurisdictions, ", ")).At("jurisdiction")
	case d.Replication != "" && d.Replication != ReplicationDisabled && d.Replication != ReplicationAuto:
		return fault.New(fault.Invalid, "The mode of read replication is %.40q; it is auto or disabled.", d.Replication).At("read_replication.mode")
	}
	return nil
}

// NewUUID returns a random UUID (RFC 9562, version 4), the form of IDs that are no 32 hex digits.
func NewUUID() string {
	var b [16]byte
	rand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	h := hex.EncodeToString(b[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// IsUUID tells whether s has the form that NewUUID gives: lower-case hex digits and hyphens.
func IsUUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if i == 8 || i == 13 || i == 18 || i == 23 {
			if c != '-' {
				return false
			}
			continue
		}
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// DatabaseByName returns the account's database called name, or nil.
func (a *AccountStorage) DatabaseByName(name string) *Database {
	for _, d := range a.Databases {
		if d.Name == name {
			return d
		}
	}
	return nil
}
