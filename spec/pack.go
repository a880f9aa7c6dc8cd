package spec

import (
	"errors"
	"slices"
	"time"

	"selvage/foundation/fault"
)

// Kinds of nouns around certificates that the node orders or issues itself.
const (
	KindPack              Kind = "certificate_pack"
	KindOriginCertificate Kind = "origin_certificate"
)

// MaxPackHosts is how many names one certificate may be ordered for, as at the public ACME servers.
const MaxPackHosts = 100

// CertificatePack is a standing wish for an ACME certificate: product/certs orders it, renews it,
// and keeps here how that went. The certificate itself is a Certificate with PackID set.
type CertificatePack struct {
	ID           string    `json:"id"` // the zone's own ID for its universal pack
	ZoneID       string    `json:"zone_id"`
	Type         string    `json:"type"`              // universal (made by the node), advanced (ordered through the API)
	Hosts        []string  `json:"hosts"`             // what to order; of a universal pack what was ordered last
	Method       string    `json:"validation_method"` // txt (DNS-01), http (HTTP-01 or TLS-ALPN-01)
	Authority    string    `json:"certificate_authority,omitempty"`
	ValidityDays int       `json:"validity_days,omitempty"`
	Disabled     bool      `json:"disabled,omitempty"` // Universal SSL is switched off
	Failures     int       `json:"failures,omitempty"` // in a row
	LastError    string    `json:"last_error,omitempty"`
	NextTry      time.Time `json:"next_try,omitzero"` // no order before this
	RenewOn      time.Time `json:"renew_on,omitzero"` // zero while nothing was issued
	CreatedOn    time.Time `json:"created_on"`
	ModifiedOn   time.Time `json:"modified_on"`
}

// Key returns the pack's key.
func (p *CertificatePack) Key() Key { return Key{KindPack, p.ZoneID, p.ID} }

// Validate checks type, method and names; product/certs checks that the names are the zone's.
func (p *CertificatePack) Validate() error {
	var faults []error
	if !slices.Contains([]string{"universal", "advanced"}, p.Type) {
		faults = append(faults, fault.New(fault.Invalid, "Certificate pack type %q is not one of universal, advanced.", p.Type).At("type"))
	}
	if !slices.Contains([]string{"txt", "http"}, p.Method) {
		faults = append(faults, fault.New(fault.Invalid, "Validation method %q is not one of txt, http.", p.Method).At("validation_method"))
	}
	if len(p.Hosts) > MaxPackHosts {
		faults = append(faults, fault.New(fault.TooMuch, "%d hosts in one certificate, the limit is %d; order a second one.", len(p.Hosts), MaxPackHosts).At("hosts"))
	}
	for _, h := range p.Hosts {
		if err := CheckHostname(h); err != nil {
			faults = append(faults, fault.New(fault.Invalid, "%q is not a host name: %s.", h, err.Error()).At("hosts"))
		}
	}
	return errors.Join(faults...)
}

// OriginCertificate is a certificate that the node's origin CA issued for an origin server. The
// key never was here: it stays with whoever made the signing request.
type OriginCertificate struct {
	ID                string    `json:"id"`
	AccountID         string    `json:"account_id"`
	ZoneIDs           []string  `json:"zone_ids"` // of the zones that its names are in
	Certificate       string    `json:"certificate"`
	CSR               string    `json:"csr"`
	Hostnames         []string  `json:"hostnames"`
	RequestType       string    `json:"request_type"`       // origin-rsa, origin-ecc
	RequestedValidity int       `json:"requested_validity"` // days
	Serial            string    `json:"serial"`             // hex
	ExpiresOn         time.Time `json:"expires_on"`
	CreatedOn         time.Time `json:"created_on"`
	RevokedAt         time.Time `json:"revoked_at,omitzero"`
}

// Key returns the origin certificate's key. It stands at the top, for its names may be in several
// zones.
func (o *OriginCertificate) Key() Key { return Key{KindOriginCertificate, "", o.ID} }

// Validate checks that there is a certificate with names.
func (o *OriginCertificate) Validate() error {
	if o.Certificate == "" || len(o.Hostnames) == 0 {
		return fault.New(fault.Invalid, "An origin certificate needs its PEM and at least one host name.").At("hostnames")
	}
	return nil
}

func applyPack(e *edit, c Change) {
	key, next := c.Key, c.Noun
	z := e.zone(key.Scope)
	if z == nil {
		return
	}
	z.Packs = replace(z.Packs, key.ID, next, func(p *CertificatePack) string { return p.ID })
}

func applyOriginCertificate(e *edit, c Change) {
	key, next := c.Key, c.Noun
	if next == nil {
		delete(e.next.Origins, key.ID)
		return
	}
	e.next.Origins[key.ID] = next.(*OriginCertificate)
}
