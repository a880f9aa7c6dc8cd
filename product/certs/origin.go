package certs

import (
	"cmp"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"selvage/foundation/fault"
	"selvage/product"
	"selvage/spec"
)

// codeHostname is Cloudflare's code for an origin certificate's name outside of the caller's zones.
const codeHostname = 1010

// validities are the days that an origin certificate may be asked for.
var validities = []int{7, 30, 90, 365, 730, 1095, 5475}

func (c *Certs) originRoutes() []product.Route {
	return []product.Route{
		{Method: "GET", Path: "/certificates", Summary: "List the certificates that the origin CA issued for a zone.", Handle: c.listOrigin},
		{Method: "POST", Path: "/certificates", Summary: "Have the origin CA sign a certificate for an origin server.", Handle: c.createOrigin},
		{Method: "GET", Path: "/certificates/{certificate_id}", Summary: "Show a certificate of the origin CA.", Handle: c.getOrigin},
		{Method: "DELETE", Path: "/certificates/{certificate_id}", Summary: "Revoke a certificate of the origin CA.", Handle: c.revokeOrigin},
	}
}

// originView is an origin certificate as the API shows it.
type originView struct {
	ID                string    `json:"id"`
	Certificate       string    `json:"certificate"`
	CSR               string    `json:"csr"`
	Hostnames         []string  `json:"hostnames"`
	RequestType       string    `json:"request_type"`
	RequestedValidity int       `json:"requested_validity"`
	ExpiresOn         time.Time `json:"expires_on"`
	RevokedAt         time.Time `json:"revoked_at,omitzero"`
}

func viewOrigin(o *spec.OriginCertificate) originView {
	return originView{o.ID, o.Certificate, o.CSR, o.Hostnames, o.RequestType, o.RequestedValidity, o.ExpiresOn, o.RevokedAt}
}

// zoneFor returns the zone that host is in, if the caller has p on it, or nil.
func (c *Certs) zoneFor(call *product.Call, host string, p product.Permission) *spec.Zone {
	z := c.table.Load().zone(host)
	if z == nil || !allowed(call, p, z.config.Zone) {
		return nil
	}
	return z.config.Zone
}

func allowed(call *product.Call, p product.Permission, z *spec.Zone) bool {
	return call.Allowed != nil && call.Allowed(p, z.AccountID, z.ID)
}

// mayAll tells whether the caller has p on every zone of an origin certificate that still exists,
// and on one at least.
func mayAll(snap *spec.Snapshot, call *product.Call, o *spec.OriginCertificate, p product.Permission) bool {
	found := false
	for _, id := range o.ZoneIDs {
		z := snap.Zones[id]
		if z == nil {
			continue
		}
		if !allowed(call, p, z.Zone) {
			return false
		}
		found = true
	}
	return found
}

func (c *Certs) listOrigin(_ context.Context, call *product.Call) (product.Reply, error) {
	id := call.Query.Get("zone_id")
	if id == "" {
		return product.Reply{}, fault.New(fault.Invalid, "Say which zone's certificates to list: ?zone_id=...").At("zone_id")
	}
	snap := c.state.Snapshot()
	z := snap.Zones[id]
	if z == nil || !allowed(call, readSSL, z.Zone) {
		return product.Reply{}, fault.New(fault.NotFound, "There is no zone %.40q that you have access to.", id).At("zone_id")
	}
	list := []*spec.OriginCertificate{}
	for _, o := range snap.Origins {
		if slices.Contains(o.ZoneIDs, id) && o.RevokedAt.IsZero() && mayAll(snap, call, o, readSSL) {
			list = append(list, o)
		}
	}
	slices.SortFunc(list, func(a, b *spec.OriginCertificate) int {
		return cmp.Or(b.CreatedOn.Compare(a.CreatedOn), strings.Compare(a.ID, b.ID))
	})
	part, info, err := product.Page(list, call.Query, product.Paging{})
	views := []originView{}
	for _, o := range part {
		views = append(views, viewOrigin(o))
	}
	return product.Reply{Result: views, Info: info}, err
}

// findOrigin returns the origin certificate that the path names, if the caller has p on it.
func findOrigin(snap *spec.Snapshot, call *product.Call, p product.Permission) (*spec.OriginCertificate, error) {
	id := call.Params["certificate_id"]
	o := snap.Origins[id]
	if o == nil || !mayAll(snap, call, o, p) {
		return nil, fault.New(fault.NotFound, "There is no origin certificate %.40q that you have access to.", id)
	}
	return o, nil
}

func (c *Certs) getOrigin(_ context.Context, call *product.Call) (product.Reply, error) {
	o, err := findOrigin(c.state.Snapshot(), call, readSSL)
	if err != nil {
		return product.Reply{}, err
	}
	return product.Reply{Result: viewOrigin(o)}, nil
}

type originBody struct {
	CSR               string   `json:"csr"`
	Hostnames         []string `json:"hostnames"`
	RequestType       string   `json:"request_type"`
	RequestedValidity int      `json:"requested_validity"`
}

func (c *Certs) createOrigin(ctx context.Context, call *product.Call) (product.Reply, error) {
	b := originBody{RequestedValidity: 5475}
	if err := call.Decode(&b); err != nil {
		return product.Reply{}, err
	}
	csr, err := parseCSR(b.CSR, b.RequestType)
	if err != nil {
		return product.Reply{}, err
	}
	o := &spec.OriginCertificate{ID: spec.NewID(), CSR: b.CSR, RequestType: b.RequestType, RequestedValidity: b.RequestedValidity}
	if err := c.checkOrigin(call, &b, o); err != nil {
		return product.Reply{}, err
	}
	now := c.clock.Now()
	leaf, err := c.origin.issue(request{
		public: csr.PublicKey, hosts: o.Hostnames, now: now, life: time.Duration(b.RequestedValidity) * 24 * time.Hour, clientAuth: true,
	})
	if err != nil {
		return product.Reply{}, fmt.Errorf("sign the origin certificate: %w", err)
	}
	o.Certificate = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf.Raw}))
	o.Serial, o.ExpiresOn, o.CreatedOn = serialText(leaf.SerialNumber), spec.Timestamp(leaf.NotAfter), spec.Timestamp(now)
	if err := c.state.Update(ctx, call.Actor, func(tx product.Tx) error { return tx.Put(o) }); err != nil {
		return product.Reply{}, err
	}
	return product.Reply{Result: viewOrigin(o)}, nil
}

// parseCSR reads a signing request and checks that it is signed, and by the kind of key asked for.
func parseCSR(text, requestType string) (*x509.CertificateRequest, error) {
	want, known := map[string]string{"origin-rsa": keyRSA, "origin-ecc": keyECDSA}[requestType]
	if !known {
		return nil, fault.New(fault.Invalid, "request_type %.40q is not one of origin-rsa, origin-ecc.", requestType).At("request_type")
	}
	if len(text) > maxKeyBytes {
		return nil, fault.New(fault.TooMuch, "The signing request has %d bytes, the limit is %d.", len(text), maxKeyBytes).At("csr")
	}
	block, _ := pem.Decode([]byte(text))
	if block == nil || !strings.HasSuffix(block.Type, "CERTIFICATE REQUEST") {
		return nil, fault.New(fault.Invalid, "The signing request is not PEM: it begins with -----BEGIN CERTIFICATE REQUEST-----.").At("csr")
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, fault.New(fault.Invalid, "The signing request cannot be read: %.200s.", err.Error()).At("csr")
	}
	if err := checkKey(csr.PublicKey, "csr"); err != nil {
		return nil, err
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, fault.New(fault.Invalid, "The signing request is not signed by its own key.").At("csr")
	}
	if got, _ := keyType(csr.PublicKey); got != want {
		return nil, fault.New(fault.Invalid, "request_type is %s, but the signing request has an %s key.", requestType, got).At("request_type")
	}
	return csr, nil
}

// checkOrigin reports everything wrong with a wish for an origin certificate, and fills in its names
// and whose they are.
func (c *Certs) checkOrigin(call *product.Call, b *originBody, o *spec.OriginCertificate) error {
	var faults []error
	if !slices.Contains(validities, b.RequestedValidity) {
		faults = append(faults, fault.New(fault.Invalid, "requested_validity is %d; it is one of %s days.", b.RequestedValidity, strings.Trim(fmt.Sprint(validities), "[]")).At("requested_validity"))
	}
	if len(b.Hostnames) == 0 || len(b.Hostnames) > spec.MaxPackHosts {
		faults = append(faults, fault.New(fault.Invalid, "%d hostnames; a certificate has 1 to %d.", len(b.Hostnames), spec.MaxPackHosts).At("hostnames"))
		return errors.Join(faults...)
	}
	for i, h := range b.Hostnames {
		name := strings.ToLower(strings.TrimSuffix(h, "."))
		field := fmt.Sprintf("hostnames[%d]", i)
		if err := spec.CheckHostname(name); err != nil {
			faults = append(faults, fault.New(fault.Invalid, "%.100q is not a host name: %s.", h, err.Error()).At(field).WithCode(codeHostname))
			continue
		}
		z := c.zoneFor(call, strings.TrimPrefix(name, "*."), writeSSL)
		if z == nil {
			faults = append(faults, fault.New(fault.Invalid, "Failed to validate requested hostname %.100s: This zone is either not part of your account, or you do not have access to it.", h).At(field).WithCode(codeHostname))
			continue
		}
		o.AccountID = cmp.Or(o.AccountID, z.AccountID)
		if !slices.Contains(o.ZoneIDs, z.ID) {
			o.ZoneIDs = append(o.ZoneIDs, z.ID)
		}
		if !slices.Contains(o.Hostnames, name) {
			o.Hostnames = append(o.Hostnames, name)
		}
	}
	return errors.Join(faults...)
}

func (c *Certs) revokeOrigin(ctx context.Context, call *product.Call) (product.Reply, error) {
	id := call.Params["certificate_id"]
	var o spec.OriginCertificate
	err := c.state.Update(ctx, call.Actor, func(tx product.Tx) error {
		old, err := findOrigin(tx.Snapshot(), call, writeSSL)
		if err != nil {
			return err
		}
		o = *old
		if !o.RevokedAt.IsZero() {
			return nil
		}
		o.RevokedAt = spec.Timestamp(c.clock.Now())
		return tx.Put(&o)
	})
	if err != nil {
		return product.Reply{}, err
	}
	return product.Reply{Result: map[string]any{"id": id, "revoked_at": o.RevokedAt}}, nil
}
