package spec

import (
	"encoding/json"
	"strings"
	"time"
)

// AuditEntry is one change to one noun: written in the same step as the change, never changed after.
type AuditEntry struct {
	ID      string          `json:"id"`      // 32 hex digits, in the order of time
	Version uint64          `json:"version"` // the snapshot version that the change made
	When    time.Time       `json:"when"`
	Actor   Actor           `json:"actor"`
	Action  string          `json:"action"` // create, update, delete
	Kind    Kind            `json:"kind"`
	NounID  string          `json:"noun_id"`
	Account string          `json:"account,omitempty"`   // ID of the account that owns the noun; empty for users and their tokens
	Zone    string          `json:"zone,omitempty"`      // ID of the zone that the noun is or is in
	Name    string          `json:"zone_name,omitempty"` // the zone's name at that time
	Old     json.RawMessage `json:"old,omitempty"`       // redacted noun before; none for create
	New     json.RawMessage `json:"new,omitempty"`       // redacted noun after; none for delete
}

// AuditQuery narrows an audit log. Zero fields do not narrow.
type AuditQuery struct {
	Account     string
	User        string    // ID of the actor
	Actor       string    // email address, IP address or token ID of the actor
	Action      string    // create, update, delete
	Zone        string    // ID or name
	NounID      string    // of what was changed
	ID          string    // of one entry
	After       string    // ID of an entry: those that follow it in the order asked for
	Since       time.Time // entries at or after it
	Before      time.Time // entries before it
	OldestFirst bool      // the default is newest first
}

// Matches tells whether an entry is asked for, ID, After and times left aside.
func (q *AuditQuery) Matches(e *AuditEntry) bool {
	a := &e.Actor
	return (q.Account == "" || q.Account == e.Account) &&
		(q.User == "" || q.User == a.UserID) &&
		(q.Actor == "" || strings.EqualFold(q.Actor, a.Email) || q.Actor == a.TokenID || a.IP.IsValid() && q.Actor == a.IP.String()) &&
		(q.Action == "" || q.Action == e.Action) &&
		(q.Zone == "" || q.Zone == e.Zone || strings.EqualFold(q.Zone, e.Name)) &&
		(q.NounID == "" || q.NounID == e.NounID)
}
