package spec

import (
	"encoding/json"
	"time"
)

// AuditEntry is one change to one noun: written in the same step as the change, never changed after.
type AuditEntry struct {
	ID      string          `json:"id"`      // 32 hex digits
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
	User        string // of the actor
	Since       time.Time
	Before      time.Time
	OldestFirst bool // the default is newest first
}
