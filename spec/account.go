package spec

import (
	"net/netip"
	"time"

	"selvage/foundation/fault"
)

// Kinds of nouns that say who may do what.
const (
	KindAccount Kind = "account"
	KindUser    Kind = "user"
	KindToken   Kind = "token"
)

// Account owns zones and everything else.
type Account struct {
	ID        string    `json:"id"`
	Name      string    `json:"name"`
	Type      string    `json:"type"` // standard
	CreatedOn time.Time `json:"created_on"`

	AbuseContactEmail string `json:"abuse_contact_email,omitempty"`
}

// Key returns the account's key.
func (a *Account) Key() Key { return Key{KindAccount, "", a.ID} }

// Validate checks the name.
func (a *Account) Validate() error {
	if a.Name == "" || len(a.Name) > 100 {
		return fault.New(fault.Invalid, "An account's name has 1 to 100 characters.").At("name")
	}
	return nil
}

// User is a person who owns tokens. A node makes one at its first start.
type User struct {
	ID        string    `json:"id"`
	Email     string    `json:"email"`
	Accounts  []string  `json:"accounts"` // IDs of the accounts the user is a member of
	CreatedOn time.Time `json:"created_on"`

	FirstName  string    `json:"first_name,omitempty"`
	LastName   string    `json:"last_name,omitempty"`
	Telephone  string    `json:"telephone,omitempty"`
	Country    string    `json:"country,omitempty"`
	Zipcode    string    `json:"zipcode,omitempty"`
	ModifiedOn time.Time `json:"modified_on,omitzero"`
}

// Key returns the user's key.
func (u *User) Key() Key { return Key{KindUser, "", u.ID} }

// Validate checks the address.
func (u *User) Validate() error {
	if u.Email == "" {
		return fault.New(fault.Invalid, "A user needs an email address.").At("email")
	}
	return nil
}

// Token is an API token at rest: everything but the secret, of which only the hash is kept.
type Token struct {
	ID         string        `json:"id"`
	UserID     string        `json:"user_id,omitempty"`    // owner of a user token
	AccountID  string        `json:"account_id,omitempty"` // owner of an account token
	Name       string        `json:"name"`
	Hash       string        `json:"hash"`   // hex SHA-256 of the secret
	Status     string        `json:"status"` // active, disabled
	Policies   []TokenPolicy `json:"policies"`
	AllowIPs   []string      `json:"allow_ips,omitempty"` // CIDR; empty allows all
	DenyIPs    []string      `json:"deny_ips,omitempty"`
	NotBefore  time.Time     `json:"not_before,omitzero"`
	ExpiresOn  time.Time     `json:"expires_on,omitzero"`
	IssuedOn   time.Time     `json:"issued_on"`
	ModifiedOn time.Time     `json:"modified_on"`
}

// TokenPolicy grants or denies permission groups on resources, as in Cloudflare's API tokens.
type TokenPolicy struct {
	ID     string `json:"id"`
	Effect string `json:"effect"` // allow, deny
	// Resources maps "com.cloudflare.api.account.<id>", "com.cloudflare.api.account.zone.<id>" or the
	// same with "*" to "*", or an account to the zones below it.
	Resources map[string]any `json:"resources"`
	Groups    []string       `json:"groups"` // IDs of permission groups
}

// Key returns the token's key.
func (t *Token) Key() Key { return Key{KindToken, "", t.ID} }

// Validate checks name, addresses and policies.
func (t *Token) Validate() error {
	if t.Name == "" || len(t.Name) > 120 {
		return fault.New(fault.Invalid, "A token's name has 1 to 120 characters.").At("name")
	}
	for _, list := range [][]string{t.AllowIPs, t.DenyIPs} {
		for _, s := range list {
			if _, err := netip.ParsePrefix(s); err != nil {
				return fault.New(fault.Invalid, "%q is not a CIDR such as 192.0.2.0/24.", s).At("condition.request_ip")
			}
		}
	}
	if len(t.Policies) == 0 {
		return fault.New(fault.Invalid, "A token needs at least one policy.").At("policies")
	}
	return nil
}

// Actor is who makes a change: recorded in the audit log.
type Actor struct {
	TokenID string     `json:"token_id,omitempty"`
	UserID  string     `json:"user_id,omitempty"`
	Email   string     `json:"email,omitempty"`
	IP      netip.Addr `json:"ip,omitzero"`
	Via     string     `json:"via"` // api, node (the node itself: first start, certificate renewal)
}
