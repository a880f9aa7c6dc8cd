package spec

import (
	"errors"

	"selvage/foundation/fault"
)

// MaxRecordContent is the most octets a record's content may have: a TXT record's wire form has to
// fit a DNS message with room to spare. Cloudflare allows 2,048 for TXT; we allow more.
const MaxRecordContent = 16384

// Validate checks name, TTL, comment and tags; contents are product/dns's to check.
func (r *Record) Validate() error {
	var faults []error
	if err := CheckHostname(r.Name); err != nil {
		faults = append(faults, fault.New(fault.Invalid, "Record name %.80q is not a host name: %s.", r.Name, err.Error()).At("name").WithCode(9000))
	}
	if r.TTL != 1 && (r.TTL < 30 || r.TTL > 86400) {
		faults = append(faults, fault.New(fault.Invalid, "TTL is %d; it must be 1 (automatic) or from 30 to 86400 seconds.", r.TTL).At("ttl").WithCode(9021))
	}
	if len(r.Content) > MaxRecordContent {
		faults = append(faults, fault.New(fault.TooMuch, "Content has %d octets, the limit is %d.", len(r.Content), MaxRecordContent).At("content").WithCode(9005))
	}
	if len(r.Comment) > 500 {
		faults = append(faults, fault.New(fault.Invalid, "The comment has %d characters, the limit is 500.", len(r.Comment)).At("comment").WithCode(9305))
	}
	if len(r.Tags) > 20 {
		faults = append(faults, fault.New(fault.Invalid, "The record has %d tags, the limit is 20.", len(r.Tags)).At("tags").WithCode(9306))
	}
	if r.Proxied && !r.Proxiable() {
		faults = append(faults, fault.New(fault.Invalid, "Records of type %s cannot be proxied; only A, AAAA and CNAME can.", r.Type).At("proxied").WithCode(9004))
	}
	return errors.Join(faults...)
}
