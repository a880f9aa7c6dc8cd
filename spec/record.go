package spec

import (
	"encoding/json"
	"time"
)

// KindRecord is the kind of DNS records.
const KindRecord Kind = "record"

// Record is one DNS record of a zone, with the fields of the v4 API. Which contents a type may
// have is checked by product/dns, which owns the wire format; Validate checks what holds for all.
type Record struct {
	ID       string          `json:"id"`
	ZoneID   string          `json:"zone_id"`
	Name     string          `json:"name"`    // full name, lower case A-labels, no trailing dot; may begin "*."
	Type     string          `json:"type"`    // upper case: A, AAAA, CNAME, ...
	Content  string          `json:"content"` // presentation format without the priority of MX, SRV and URI
	Data     json.RawMessage `json:"data,omitempty"`
	TTL      int             `json:"ttl"` // seconds; 1 is automatic
	Proxied  bool            `json:"proxied"`
	Priority *uint16         `json:"priority,omitempty"`
	Comment  string          `json:"comment,omitempty"`
	Tags     []string        `json:"tags,omitempty"`
	Settings RecordSettings  `json:"settings,omitzero"`

	CreatedOn         time.Time `json:"created_on"`
	ModifiedOn        time.Time `json:"modified_on"`
	CommentModifiedOn time.Time `json:"comment_modified_on,omitzero"`
	TagsModifiedOn    time.Time `json:"tags_modified_on,omitzero"`
}

// RecordSettings are the per-record switches of the v4 API.
type RecordSettings struct {
	IPv4Only     bool `json:"ipv4_only,omitempty"`
	IPv6Only     bool `json:"ipv6_only,omitempty"`
	FlattenCNAME bool `json:"flatten_cname,omitempty"`
}

// Key returns the record's key.
func (r *Record) Key() Key { return Key{KindRecord, r.ZoneID, r.ID} }

// Proxiable tells whether records of this type can be served through the edge.
func (r *Record) Proxiable() bool { return r.Type == "A" || r.Type == "AAAA" || r.Type == "CNAME" }
