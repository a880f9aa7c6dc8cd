package certs

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"selvage/foundation/fault"
	"selvage/product"
	"selvage/spec"
)

// maxCustom is how many uploads one zone may have.
const maxCustom = 100

var (
	readSSL  = product.Permission{Group: "SSL and Certificates"}
	writeSSL = product.Permission{Group: "SSL and Certificates", Write: true}
)

// Routes returns everything that certs serves in the API.
func (c *Certs) Routes() []product.Route {
	return slices.Concat(c.customRoutes(), c.packRoutes(), c.originRoutes())
}

func (c *Certs) customRoutes() []product.Route {
	const all, one = "/zones/{zone_id}/custom_certificates", "/zones/{zone_id}/custom_certificates/{certificate_id}"
	return []product.Route{
		{Method: "GET", Path: all, Permission: readSSL, Summary: "List the uploaded certificates of a zone.", Handle: c.listCustom},
		{Method: "POST", Path: all, Permission: writeSSL, Summary: "Upload a certificate with its private key.", MaxBody: 256 << 10, Handle: c.createCustom},
		{Method: "PUT", Path: all + "/prioritize", Permission: writeSSL, Summary: "Set which uploaded certificates are preferred.", Handle: c.prioritize},
		{Method: "GET", Path: one, Permission: readSSL, Summary: "Show an uploaded certificate.", Handle: c.getCustom},
		{Method: "PATCH", Path: one, Permission: writeSSL, Summary: "Replace an uploaded certificate.", MaxBody: 256 << 10, Handle: c.editCustom},
		{Method: "DELETE", Path: one, Permission: writeSSL, Summary: "Remove an uploaded certificate.", Handle: c.deleteCustom},
	}
}

// customView is an uploaded certificate as the API shows it: without its key.
type customView struct {
	ID           string    `json:"id"`
	ZoneID       string    `json:"zone_id"`
	Hosts        []string  `json:"hosts"`
	Issuer       string    `json:"issuer"`
	Signature    string    `json:"signature"`
	Status       string    `json:"status"` // active, expired
	BundleMethod string    `json:"bundle_method"`
	Priority     int       `json:"priority"`
	ExpiresOn    time.Time `json:"expires_on"`
	UploadedOn   time.Time `json:"uploaded_on"`
	ModifiedOn   time.Time `json:"modified_on"`
}

func (c *Certs) viewCustom(cert *spec.Certificate) customView {
	return customView{
		ID: cert.ID, ZoneID: cert.ZoneID, Hosts: cert.Hosts, Issuer: cert.Issuer, Signature: cert.Signature, Status: c.statusOf(cert),
		BundleMethod: cert.BundleMethod, Priority: cert.Priority,
		ExpiresOn: cert.ExpiresOn, UploadedOn: cert.UploadedOn, ModifiedOn: cert.ModifiedOn,
	}
}

func (c *Certs) statusOf(cert *spec.Certificate) string {
	if c.clock.Now().After(cert.ExpiresOn) {
		return "expired"
	}
	return "active"
}

// customOf returns the uploads of a zone, the preferred ones first.
func customOf(z *spec.ZoneConfig) []*spec.Certificate {
	list := slices.DeleteFunc(slices.Clone(z.Certificates), func(cert *spec.Certificate) bool { return cert.Source != "custom" })
	slices.SortStableFunc(list, func(a, b *spec.Certificate) int { return cmp.Compare(b.Priority, a.Priority) })
	return list
}

func findCustom(z *spec.ZoneConfig, id string) (*spec.Certificate, error) {
	if z != nil {
		for _, cert := range z.Certificates {
			if cert.ID == id && cert.Source == "custom" {
				return cert, nil
			}
		}
	}
	return nil, fault.New(fault.NotFound, "The zone has no uploaded certificate %.40q.", id)
}

func (c *Certs) listCustom(_ context.Context, call *product.Call) (product.Reply, error) {
	views := []customView{}
	for _, cert := range customOf(call.Zone) {
		if s := call.Query.Get("status"); s == "" || s == c.statusOf(cert) {
			views = append(views, c.viewCustom(cert))
		}
	}
	part, info, err := product.Page(views, call.Query, product.Paging{})
	return product.Reply{Result: part, Info: info}, err
}

func (c *Certs) getCustom(_ context.Context, call *product.Call) (product.Reply, error) {
	cert, err := findCustom(call.Zone, call.Params["certificate_id"])
	if err != nil {
		return product.Reply{}, err
	}
	return product.Reply{Result: c.viewCustom(cert)}, nil
}

// customBody is what POST and PATCH take. What says where a key may be held is refused rather than
// passed over: who asks for it relies on it.
type customBody struct {
	Certificate     string `json:"certificate"`
	PrivateKey      string `json:"private_key"`
	BundleMethod    string `json:"bundle_method"`
	Type            string `json:"type"`
	Deploy          string `json:"deploy"`
	GeoRestrictions *struct {
		Label string `json:"label"`
	} `json:"geo_restrictions"`
	Policy             string `json:"policy"`
	PolicyRestrictions string `json:"policy_restrictions"`
	CustomCSRID        string `json:"custom_csr_id"`
}

func (b *customBody) check() error {
	var faults []error
	refuse := func(field, format string, args ...any) {
		faults = append(faults, fault.New(fault.Invalid, format, args...).At(field))
	}
	if b.BundleMethod != "" && !slices.Contains([]string{"ubiquitous", "optimal", "force"}, b.BundleMethod) {
		refuse("bundle_method", "bundle_method %.40q is not one of ubiquitous, optimal, force.", b.BundleMethod)
	}
	if b.Type != "" && b.Type != "sni_custom" {
		refuse("type", "type %.40q is not served here: without SNI nobody could tell one tenant from another. Use sni_custom.", b.Type)
	}
	if b.Deploy != "" && b.Deploy != "production" {
		refuse("deploy", "There is no environment %.40q here, only production.", b.Deploy)
	}
	if b.GeoRestrictions != nil || b.Policy != "" || b.PolicyRestrictions != "" {
		refuse("geo_restrictions", "This node cannot restrict where a private key is held; leave geo_restrictions and policy out.")
	}
	if b.CustomCSRID != "" {
		refuse("custom_csr_id", "There are no custom signing requests here; upload the private key.")
	}
	return errors.Join(faults...)
}

func (c *Certs) createCustom(ctx context.Context, call *product.Call) (product.Reply, error) {
	var b customBody
	if err := call.Decode(&b); err != nil {
		return product.Reply{}, err
	}
	if err := b.check(); err != nil {
		return product.Reply{}, err
	}
	now := spec.Timestamp(c.clock.Now())
	u, err := parseUpload(b.Certificate, b.PrivateKey, call.Zone.Zone.Name, now)
	if err != nil {
		return product.Reply{}, err
	}
	cert := &spec.Certificate{
		ID: spec.NewID(), ZoneID: call.Zone.Zone.ID, Source: "custom", BundleMethod: cmp.Or(b.BundleMethod, "ubiquitous"),
		UploadedOn: now, ModifiedOn: now,
	}
	u.describe(cert)
	err = c.state.Update(ctx, call.Actor, func(tx product.Tx) error {
		if err := admit(tx.Snapshot().Zones[cert.ZoneID], cert, ""); err != nil {
			return err
		}
		return tx.Put(cert)
	})
	if err != nil {
		return product.Reply{}, err
	}
	return product.Reply{Result: c.viewCustom(cert)}, nil
}

// admit tells whether cert may stand in its zone, in the place of the one called replaced if any.
func admit(z *spec.ZoneConfig, cert *spec.Certificate, replaced string) error {
	if z == nil {
		return fault.New(fault.NotFound, "The zone is gone.")
	}
	uploads := customOf(z)
	for _, other := range uploads {
		if other.Chain == cert.Chain && other.ID != replaced {
			return fault.New(fault.Conflict, "This certificate has already been submitted: it is %s; delete that one first.", other.ID).At("certificate").WithCode(codeDuplicate)
		}
	}
	if replaced == "" && len(uploads) >= maxCustom {
		return fault.New(fault.TooMuch, "You have reached the maximum number of custom certificates of a zone, which is %d; delete one first.", maxCustom).WithCode(codeTooMany)
	}
	return nil
}

// editCustom replaces a certificate. As at Cloudflare a new certificate gets a new ID.
func (c *Certs) editCustom(ctx context.Context, call *product.Call) (product.Reply, error) {
	var b customBody
	if err := call.Decode(&b); err != nil {
		return product.Reply{}, err
	}
	if err := b.check(); err != nil {
		return product.Reply{}, err
	}
	if b.Certificate == "" && b.PrivateKey != "" {
		return product.Reply{}, fault.New(fault.Invalid, "A new private key needs its certificate.").At("certificate")
	}
	now := spec.Timestamp(c.clock.Now())
	var cert spec.Certificate
	err := c.state.Update(ctx, call.Actor, func(tx product.Tx) error {
		z := tx.Snapshot().Zones[call.Zone.Zone.ID]
		old, err := findCustom(z, call.Params["certificate_id"])
		if err != nil {
			return err
		}
		cert = *old
		cert.BundleMethod, cert.ModifiedOn = cmp.Or(b.BundleMethod, old.BundleMethod), now
		if b.Certificate == "" {
			return tx.Put(&cert)
		}
		u, err := parseUpload(b.Certificate, cmp.Or(b.PrivateKey, old.PrivateKey), z.Zone.Name, now)
		if err != nil {
			return err
		}
		u.describe(&cert)
		cert.ID, cert.UploadedOn = spec.NewID(), now
		if err := admit(z, &cert, old.ID); err != nil {
			return err
		}
		return errors.Join(tx.Delete(old.Key()), tx.Put(&cert))
	})
	if err != nil {
		return product.Reply{}, err
	}
	return product.Reply{Result: c.viewCustom(&cert)}, nil
}

func (c *Certs) deleteCustom(ctx context.Context, call *product.Call) (product.Reply, error) {
	id := call.Params["certificate_id"]
	err := c.state.Update(ctx, call.Actor, func(tx product.Tx) error {
		cert, err := findCustom(tx.Snapshot().Zones[call.Zone.Zone.ID], id)
		if err != nil {
			return err
		}
		return tx.Delete(cert.Key())
	})
	if err != nil {
		return product.Reply{}, err
	}
	return product.Reply{Result: map[string]string{"id": id}}, nil
}

func (c *Certs) prioritize(ctx context.Context, call *product.Call) (product.Reply, error) {
	var b struct {
		Certificates []struct {
			ID       string `json:"id"`
			Priority int    `json:"priority"`
		} `json:"certificates"`
	}
	if err := call.Decode(&b); err != nil {
		return product.Reply{}, err
	}
	if len(b.Certificates) == 0 {
		return product.Reply{}, fault.New(fault.Invalid, "Name at least one certificate with its priority.").At("certificates")
	}
	if len(b.Certificates) > maxCustom {
		return product.Reply{}, fault.New(fault.TooMuch, "%d certificates, a zone has at most %d.", len(b.Certificates), maxCustom).At("certificates")
	}
	zoneID := call.Zone.Zone.ID
	now := spec.Timestamp(c.clock.Now())
	err := c.state.Update(ctx, call.Actor, func(tx product.Tx) error {
		for _, wish := range b.Certificates {
			old, err := findCustom(tx.Snapshot().Zones[zoneID], wish.ID)
			if err != nil {
				return err
			}
			cert := *old
			cert.Priority, cert.ModifiedOn = wish.Priority, now
			if err := tx.Put(&cert); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return product.Reply{}, err
	}
	views := []customView{}
	if z := c.state.Snapshot().Zones[zoneID]; z != nil {
		for _, cert := range customOf(z) {
			views = append(views, c.viewCustom(cert))
		}
	}
	return product.Reply{Result: views, Info: &product.PageInfo{Page: 1, PerPage: len(views), TotalPages: 1, Count: len(views), TotalCount: len(views)}}, nil
}
