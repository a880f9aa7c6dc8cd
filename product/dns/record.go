package dns

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	mdns "github.com/miekg/dns"

	"selvage/foundation/fault"
	"selvage/spec"
)

// recordBody is a record as a request has it. Fields that are absent or null are nil.
type recordBody struct {
	ID       string         `json:"id"` // batch only
	Name     *string        `json:"name"`
	Type     *string        `json:"type"`
	Content  *string        `json:"content"`
	Data     dataObject     `json:"data"`
	TTL      *int           `json:"ttl"`
	Proxied  *bool          `json:"proxied"`
	Priority *uint16        `json:"priority"`
	Comment  *string        `json:"comment"`
	Tags     []string       `json:"tags"`
	Settings *settingsPatch `json:"settings"`
}

type settingsPatch struct {
	IPv4Only     *bool `json:"ipv4_only"`
	IPv6Only     *bool `json:"ipv6_only"`
	FlattenCNAME *bool `json:"flatten_cname"`
}

// echoed are fields of answers that clients send back in requests; they change nothing.
var echoed = []string{"zone_id", "zone_name", "proxiable", "locked", "meta", "private_routing",
	"created_on", "modified_on", "comment_modified_on", "tags_modified_on"}

// recordView is a record as an answer has it.
type recordView struct {
	ID                string          `json:"id"`
	Name              string          `json:"name"`
	Type              string          `json:"type"`
	Content           string          `json:"content"`
	Priority          *uint16         `json:"priority,omitempty"`
	Data              json.RawMessage `json:"data,omitempty"`
	Proxiable         bool            `json:"proxiable"`
	Proxied           bool            `json:"proxied"`
	TTL               int             `json:"ttl"`
	Settings          settingsView    `json:"settings"`
	Meta              struct{}        `json:"meta"`
	Comment           *string         `json:"comment"`
	Tags              []string        `json:"tags"`
	CreatedOn         time.Time       `json:"created_on"`
	ModifiedOn        time.Time       `json:"modified_on"`
	CommentModifiedOn time.Time       `json:"comment_modified_on,omitzero"`
	TagsModifiedOn    time.Time       `json:"tags_modified_on,omitzero"`
}

type settingsView struct {
	IPv4Only     bool  `json:"ipv4_only,omitempty"`
	IPv6Only     bool  `json:"ipv6_only,omitempty"`
	FlattenCNAME *bool `json:"flatten_cname,omitempty"`
}

func viewOf(r *spec.Record) recordView {
	v := recordView{
		ID: r.ID, Name: r.Name, Type: r.Type, Content: r.Content, Priority: r.Priority, Data: r.Data,
		Proxiable: r.Proxiable(), Proxied: r.Proxied, TTL: r.TTL, Tags: r.Tags,
		Settings:  settingsView{IPv4Only: r.Settings.IPv4Only, IPv6Only: r.Settings.IPv6Only},
		CreatedOn: r.CreatedOn, ModifiedOn: r.ModifiedOn, CommentModifiedOn: r.CommentModifiedOn, TagsModifiedOn: r.TagsModifiedOn,
	}
	if r.Comment != "" {
		v.Comment = &r.Comment
	}
	if v.Tags == nil {
		v.Tags = []string{}
	}
	if r.Type == "CNAME" {
		v.Settings.FlattenCNAME = &r.Settings.FlattenCNAME
	}
	return v
}

// record makes a record of what a request sent: a new one, or base with what was sent changed.
func (b *recordBody) record(zone *spec.Zone, base *spec.Record, now time.Time) (*spec.Record, error) {
	r := spec.Record{ID: spec.NewID(), ZoneID: zone.ID, TTL: 1, CreatedOn: now}
	if base != nil {
		r = *base
	}
	r.ModifiedOn = now
	if err := b.apply(&r, zone.Name, now); err != nil {
		return nil, err
	}
	return &r, finish(&r, zone.Name)
}

// whole gives fields that a PUT leaves out their defaults, so that it replaces and not edits.
func (b *recordBody) whole() {
	setDefault(&b.TTL, 1)
	setDefault(&b.Proxied, false)
	setDefault(&b.Comment, "")
	if b.Tags == nil {
		b.Tags = []string{}
	}
	if b.Settings == nil {
		b.Settings = &settingsPatch{}
	}
	setDefault(&b.Settings.IPv4Only, false)
	setDefault(&b.Settings.IPv6Only, false)
	setDefault(&b.Settings.FlattenCNAME, false)
}

func setDefault[T any](p **T, v T) {
	if *p == nil {
		*p = &v
	}
}

// required reports the fields that a new or replaced record cannot do without.
func (b *recordBody) required() error {
	var faults []error
	if b.Type == nil {
		faults = append(faults, fault.New(fault.Invalid, "A record needs a type, such as A or TXT.").At("type").WithCode(codeInvalid))
	}
	if b.Name == nil && b.Data.text("service") == "" {
		faults = append(faults, fault.New(fault.Invalid, "A record needs a name.").At("name").WithCode(9000))
	}
	if b.Content == nil && b.Data == nil {
		faults = append(faults, fault.New(fault.Invalid, "A record needs content, or data for types that have it.").At("content").WithCode(codeInvalid))
	}
	return errors.Join(faults...)
}

func (b *recordBody) apply(r *spec.Record, zone string, now time.Time) error {
	if b.Type != nil {
		r.Type = strings.ToUpper(*b.Type)
	}
	if formats[r.Type] == nil {
		return fault.New(fault.Invalid, "There are no records of type %.20q here; use one of %s.", r.Type, strings.Join(typeOrder, ", ")).At("type").WithCode(codeInvalid)
	}
	if err := b.applyName(r, zone); err != nil {
		return err
	}
	if b.Priority != nil {
		r.Priority = b.Priority
	}
	if b.Content != nil {
		r.Content = *b.Content
	}
	if b.Data != nil {
		content, priority, err := readData(r.Type, b.Data)
		if err != nil {
			return err
		}
		r.Content = content
		if priority != nil {
			r.Priority = priority
		}
	}
	set(&r.TTL, b.TTL)
	set(&r.Proxied, b.Proxied)
	if b.Comment != nil && *b.Comment != r.Comment {
		r.Comment, r.CommentModifiedOn = *b.Comment, now
	}
	if b.Tags != nil && !slices.Equal(b.Tags, r.Tags) {
		r.Tags, r.TagsModifiedOn = b.Tags, now
	}
	if b.Settings != nil {
		set(&r.Settings.IPv4Only, b.Settings.IPv4Only)
		set(&r.Settings.IPv6Only, b.Settings.IPv6Only)
		set(&r.Settings.FlattenCNAME, b.Settings.FlattenCNAME)
	}
	return nil
}

func set[T any](field *T, v *T) {
	if v != nil {
		*field = *v
	}
}

func (b *recordBody) applyName(r *spec.Record, zone string) error {
	given := ""
	switch {
	case b.Name != nil:
		given = *b.Name
	case r.Name != "":
		return nil
	default: // older clients name SRV records in their data
		given = strings.Trim(b.Data.text("service")+"."+b.Data.text("proto")+"."+b.Data.text("name"), ".")
	}
	name, err := recordName(given, zone)
	if err != nil {
		return fault.New(fault.Invalid, "DNS name %.80q is invalid: %s.", given, err.Error()).At("name").WithCode(9000)
	}
	r.Name = name
	return nil
}

// recordName brings a name to its full form: "@" and names that do not end in the zone's are taken
// relative to it.
func recordName(given, zone string) (string, error) {
	name, err := asciiName(given)
	switch {
	case err != nil:
		return "", err
	case given == "@":
		return zone, nil
	case spec.InZone(name, zone):
	case strings.HasSuffix(given, "."):
		return "", fmt.Errorf("it is outside of zone %s", zone)
	case name == "":
		return "", errors.New("it is empty; use @ for the zone itself")
	default:
		name += "." + zone
	}
	return name, spec.CheckHostname(name)
}

// finish checks a record as a whole and brings its content to the form in which it is stored.
func finish(r *spec.Record, zone string) error {
	c, err := readContent(r.Type, r.Content, r.Priority, zone)
	if err != nil {
		return err
	}
	r.Content, r.Data = c.content(), c.data()
	if !c.format.ranked {
		r.Priority = nil
	}
	if r.Proxied {
		r.TTL = 1
	}
	var faults []error
	if r.Proxied && !r.Proxiable() {
		faults = append(faults, fault.New(fault.Invalid, "This record type cannot be proxied.").At("proxied").WithCode(9004))
	}
	if r.Type == "CNAME" && r.Content == r.Name {
		faults = append(faults, fault.New(fault.Invalid, "CNAME content cannot reference itself.").At("content").WithCode(9039))
	}
	if r.Type == "NS" && strings.HasPrefix(r.Name, "*") {
		faults = append(faults, fault.New(fault.Invalid, "NS records cannot have a wildcard name (RFC 4592, 4.2).").At("name").WithCode(9000))
	}
	if r.Type == "DS" && r.Name == zone {
		faults = append(faults, fault.New(fault.Invalid, "The DS record of %s belongs into the zone above it; here it can stand beside the NS records of a delegation.", zone).At("name").WithCode(9000))
	}
	if r.Type != "CNAME" && r.Settings.FlattenCNAME {
		r.Settings.FlattenCNAME = false
	}
	if r.Settings.IPv4Only && r.Settings.IPv6Only {
		faults = append(faults, fault.New(fault.Invalid, "ipv4_only and ipv6_only cannot both be on.").At("settings").WithCode(codeInvalid))
	}
	faults = append(faults, checkTags(r.Tags)...)
	if len(faults) == 0 {
		return r.Validate()
	}
	return errors.Join(faults...)
}

// checkTags checks that tags are "name:value" or "name".
func checkTags(tags []string) []error {
	var faults []error
	for i, tag := range tags {
		name, value, _ := strings.Cut(tag, ":")
		bad := strings.IndexFunc(name, func(c rune) bool {
			return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_'
		})
		if name == "" || bad >= 0 || len(name) > 32 || len(value) > 100 || strings.ContainsAny(value, ",\r\n") {
			faults = append(faults, fault.New(fault.Invalid, "Tag %.60q is not name:value with a name of 1 to 32 letters, digits, - or _ and a value of up to 100 characters without commas.", tag).At(fmt.Sprintf("tags[%d]", i)).WithCode(9300))
		}
	}
	return faults
}

// identity is what no two records of a zone may share: name, type and data on the wire.
func identity(r *spec.Record) (string, error) {
	c, err := readContent(r.Type, r.Content, r.Priority, "")
	if err != nil {
		return "", err
	}
	e := newEncoder("", mdns.TypeNone, 0)
	if err := c.encode(e); err != nil {
		return "", err
	}
	return r.Type + " " + string(e.set.wire), nil
}
