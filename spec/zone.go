package spec

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"

	"selvage/foundation/fault"
)

// Kinds of nouns of a zone.
const (
	KindZone     Kind = "zone"
	KindSettings Kind = "settings"
)

// Zone is a domain name and what is below it, owned by one account.
type Zone struct {
	ID          string    `json:"id"`
	AccountID   string    `json:"account_id"`
	Name        string    `json:"name"`   // lower case ASCII (A-labels), no trailing dot
	Status      string    `json:"status"` // pending, active, moved
	Type        string    `json:"type"`   // full, partial
	Paused      bool      `json:"paused"` // DNS only: proxied records answer with their own content
	NameServers []string  `json:"name_servers"`
	CreatedOn   time.Time `json:"created_on"`
	ModifiedOn  time.Time `json:"modified_on"`
	ActivatedOn time.Time `json:"activated_on,omitzero"`
}

// Key returns the zone's key.
func (z *Zone) Key() Key { return Key{KindZone, "", z.ID} }

// Validate checks name, type and status.
func (z *Zone) Validate() error {
	if err := CheckHostname(z.Name); err != nil {
		return fault.New(fault.Invalid, "%q is not a domain name: %s", z.Name, err.Error()).At("name").WithCode(1001)
	}
	if !slices.Contains([]string{"full", "partial"}, z.Type) {
		return fault.New(fault.Invalid, "Zone type %q is not one of full, partial.", z.Type).At("type")
	}
	return nil
}

// Settings is what a zone has set away from the defaults in SettingDefs.
type Settings struct {
	ZoneID     string               `json:"zone_id"`
	Values     map[string]any       `json:"values"` // setting ID to string, float64 or object
	ModifiedOn map[string]time.Time `json:"modified_on"`
}

// SettingDef says what one zone setting may be.
type SettingDef struct {
	ID      string
	Default any      // string or float64
	OneOf   []string // allowed strings, if a string
	Min     float64  // bounds, if a number
	Max     float64
}

// SettingDefs lists the zone settings that exist here, in the order the API lists them.
var SettingDefs = []SettingDef{
	onOff("always_use_https", "off"),
	onOff("brotli", "on"),
	{ID: "browser_cache_ttl", Default: 0.0, Max: 31536000}, // seconds; 0 respects the origin's headers
	{ID: "cache_level", Default: "aggressive", OneOf: []string{"aggressive", "basic", "simplified"}},
	onOff("development_mode", "off"),
	onOff("http2", "on"),
	onOff("ip_geolocation", "on"),
	{ID: "max_upload", Default: 100.0, Min: 1, Max: 5000}, // megabytes of a request body
	{ID: "min_tls_version", Default: "1.2", OneOf: []string{"1.0", "1.1", "1.2", "1.3"}},
	{ID: "origin_max_http_version", Default: "2", OneOf: []string{"1", "2"}},
	{ID: "proxy_read_timeout", Default: 100.0, Min: 1, Max: 6000}, // seconds to the first byte of a response
	onOff("sort_query_string_for_cache", "off"),
	{ID: "ssl", Default: "flexible", OneOf: []string{"off", "flexible", "full", "strict"}},
	onOff("tls_1_3", "on"),
	onOff("websockets", "on"),
}

func onOff(id, def string) SettingDef {
	return SettingDef{ID: id, Default: def, OneOf: []string{"on", "off"}}
}

// FindSetting returns the definition of a setting, or false.
func FindSetting(id string) (SettingDef, bool) {
	for _, d := range SettingDefs {
		if d.ID == id {
			return d, true
		}
	}
	return SettingDef{}, false
}

// Check reports why v cannot be the setting's value. JSON numbers arrive as float64.
func (d SettingDef) Check(v any) error {
	switch v := v.(type) {
	case string:
		if d.OneOf != nil && slices.Contains(d.OneOf, v) {
			return nil
		}
	case float64:
		if d.OneOf == nil && v >= d.Min && v <= d.Max && v == float64(int64(v)) {
			return nil
		}
	}
	shown, _ := json.Marshal(v)
	want := "one of " + strings.Join(d.OneOf, ", ")
	if d.OneOf == nil {
		want = "a whole number from " + strconv.Itoa(int(d.Min)) + " to " + strconv.Itoa(int(d.Max))
	}
	return fault.New(fault.Invalid, "Setting %s cannot be %s; it is %s.", d.ID, shown, want).At("value").WithCode(1007)
}

// DefaultSettings returns the settings of a zone that has set nothing.
func DefaultSettings(zoneID string) *Settings { return &Settings{ZoneID: zoneID} }

// Key returns the key of the zone's settings: one noun a zone.
func (s *Settings) Key() Key { return Key{KindSettings, s.ZoneID, "settings"} }

// Validate checks every value against its definition.
func (s *Settings) Validate() error {
	for id, v := range s.Values {
		d, ok := FindSetting(id)
		if !ok {
			return fault.New(fault.Invalid, "There is no zone setting %q.", id).At("id").WithCode(1006)
		}
		if err := d.Check(v); err != nil {
			return err
		}
	}
	return nil
}

// Value returns the value set, or the default; nil if there is no such setting.
func (s *Settings) Value(id string) any {
	if v, ok := s.Values[id]; ok {
		return v
	}
	d, _ := FindSetting(id)
	return d.Default
}

// On tells whether an on/off setting is on.
func (s *Settings) On(id string) bool { return s.Value(id) == "on" }

// Text returns a string setting.
func (s *Settings) Text(id string) string { v, _ := s.Value(id).(string); return v }

// Number returns a numeric setting.
func (s *Settings) Number(id string) int { v, _ := s.Value(id).(float64); return int(v) }
