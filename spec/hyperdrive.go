package spec

import (
	"strings"
	"time"

	"selvage/foundation/fault"
)

// KindHyperdrive is the kind of Hyperdrive, scoped by account.
const KindHyperdrive Kind = "hyperdrive"

// Hyperdrive is a pool of connections to a database that the account has elsewhere.
type Hyperdrive struct {
	ID         string            `json:"id"` // 32 hex digits
	AccountID  string            `json:"account_id"`
	Name       string            `json:"name"` // unique in the account
	Origin     HyperdriveOrigin  `json:"origin"`
	Caching    HyperdriveCaching `json:"caching"`
	MTLS       HyperdriveMTLS    `json:"mtls"`
	Limit      int               `json:"origin_connection_limit,omitempty"` // 0: the default
	Access     []byte            `json:"access"`                            // the password of the private port, encrypted; never shown
	CreatedOn  time.Time         `json:"created_on"`
	ModifiedOn time.Time         `json:"modified_on"`
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

// HyperdriveCaching says which answers are remembered, and how long. Nil fields are at their defaults.
type HyperdriveCaching struct {
	Disabled bool `json:"disabled,omitempty"`
	MaxAge   *int `json:"max_age,omitempty"`                // seconds; 60
	Stale    *int `json:"stale_while_revalidate,omitempty"` // seconds; 15
}

// Bounds and defaults of caching, in seconds.
const (
	HyperdriveMaxAge = 60
	HyperdriveStale  = 15
	hyperdriveOldest = 3600
)

// HyperdriveMTLS says how the connection to the database is encrypted.
type HyperdriveMTLS struct {
	SSLMode string `json:"sslmode,omitempty"` // disable, require, verify-ca, verify-full; empty: TLS if there is any
	CA      string `json:"ca,omitempty"`      // ID of an MTLSCertificate, in place of those the system trusts
	Client  string `json:"client,omitempty"`  // ID of an MTLSCertificate that the database is shown
}

// Bounds of Hyperdrive.Limit, and its default.
const (
	MinHyperdriveLimit     = 5
	MaxHyperdriveLimit     = 100
	DefaultHyperdriveLimit = 20
)

// Key returns the configuration's key.
func (h *Hyperdrive) Key() Key { return Key{KindHyperdrive, h.AccountID, h.ID} }

// Postgres tells whether the database speaks PostgreSQL's protocol.
func (h *Hyperdrive) Postgres() bool { return h.Origin.Scheme != "mysql" }

// Connections returns how many connections to the database there may be.
func (h *Hyperdrive) Connections() int {
	if h.Limit == 0 {
		return DefaultHyperdriveLimit
	}
	return h.Limit
}

// Validate checks everything but whether the database is there.
func (h *Hyperdrive) Validate() error {
	if h.Name == "" || len(h.Name) > 255 {
		return fault.New(fault.Invalid, "The name of a Hyperdrive configuration has 1 to 255 bytes, this one has %d.", len(h.Name)).At("name")
	}
	if err := h.Origin.validate(); err != nil {
		return err
	}
	for field, v := range map[string]*int{"caching.max_age": h.Caching.MaxAge, "caching.stale_while_revalidate": h.Caching.Stale} {
		if v != nil && (*v < 0 || *v > hyperdriveOldest) {
			return fault.New(fault.Invalid, "%s is %d; it is 0 to %d seconds.", field, *v, hyperdriveOldest).At(field)
		}
	}
	switch mode := h.MTLS.SSLMode; mode {
	case "", "disable", "require", "verify-ca", "verify-full", "REQUIRED", "VERIFY_CA", "VERIFY_IDENTITY":
		if mode != "" && mode != "disable" && (strings.ToUpper(mode) == mode) == h.Postgres() {
			return fault.New(fault.Invalid, "The sslmode %q does not go with the scheme %s: PostgreSQL has require, verify-ca and verify-full, MySQL REQUIRED, VERIFY_CA and VERIFY_IDENTITY.", mode, h.Origin.Scheme).At("mtls.sslmode")
		}
	default:
		return fault.New(fault.Invalid, "There is no sslmode %.40q: PostgreSQL has disable, require, verify-ca and verify-full.", mode).At("mtls.sslmode")
	}
	if h.Limit != 0 && (h.Limit < MinHyperdriveLimit || h.Limit > MaxHyperdriveLimit) {
		return fault.New(fault.Invalid, "origin_connection_limit is %d; it is %d to %d.", h.Limit, MinHyperdriveLimit, MaxHyperdriveLimit).At("origin_connection_limit")
	}
	return nil
}

func (o *HyperdriveOrigin) validate() error {
	switch o.Scheme {
	case "postgres", "postgresql", "mysql":
	default:
		return fault.New(fault.Invalid, "The scheme %.40q is not known: it is postgres, postgresql or mysql.", o.Scheme).At("origin.scheme")
	}
	if o.Host == "" || len(o.Host) > 255 || strings.ContainsAny(o.Host, "/ \x00@") {
		return fault.New(fault.Invalid, "A Hyperdrive configuration needs the host of its database: a name or an address.").At("origin.host")
	}
	if o.Port < 1 || o.Port > 65535 {
		return fault.New(fault.Invalid, "The port of the database is %d; it is 1 to 65535.", o.Port).At("origin.port")
	}
	for field, v := range map[string]string{"database": o.Database, "user": o.User} {
		if v == "" || len(v) > 255 || strings.Contains(v, "\x00") {
			return fault.New(fault.Invalid, "A Hyperdrive configuration needs the %s, of 1 to 255 bytes, to log in with.", field).At("origin." + field)
		}
	}
	return nil
}

var _ Redacted = (*Hyperdrive)(nil)

// Redact returns a copy without the sealed passwords.
func (h *Hyperdrive) Redact() Noun {
	r := *h
	r.Origin.Sealed, r.Access = nil, nil
	return &r
}
