package certs

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"selvage/foundation/fault"
	"selvage/product"
	"selvage/spec"
)

// maxPacks is how many certificates may be ordered for one zone beside its universal one.
const maxPacks = 100

func (c *Certs) packRoutes() []product.Route {
	const all, one = "/zones/{zone_id}/ssl/certificate_packs", "/zones/{zone_id}/ssl/certificate_packs/{pack_id}"
	const universal = "/zones/{zone_id}/ssl/universal/settings"
	return []product.Route{
		{Method: "GET", Path: all, Permission: readSSL, Summary: "List the certificates that the node orders for a zone.", Handle: c.listPacks},
		{Method: "POST", Path: all + "/order", Permission: writeSSL, Summary: "Order a certificate from the ACME server.", Handle: c.orderPack},
		{Method: "GET", Path: all + "/quota", Permission: readSSL, Summary: "Show how many certificates may be ordered for a zone.", Handle: c.packQuota},
		{Method: "GET", Path: one, Permission: readSSL, Summary: "Show an order with its certificate and what went wrong last.", Handle: c.getPack},
		{Method: "PATCH", Path: one, Permission: writeSSL, Summary: "Try a failed order again now.", Handle: c.retryPack},
		{Method: "DELETE", Path: one, Permission: writeSSL, Summary: "Delete an order and its certificate.", Handle: c.deletePack},
		{Method: "GET", Path: universal, Permission: readSSL, Summary: "Show whether the node orders a certificate for the zone by itself.", Handle: c.getUniversal},
		{Method: "PATCH", Path: universal, Permission: writeSSL, Summary: "Switch Universal SSL on or off.", Handle: c.setUniversal},
		{Method: "GET", Path: "/zones/{zone_id}/ssl/verification", Permission: readSSL, Summary: "Show how the validation of a zone's certificates goes.", Handle: c.verification},
	}
}

// packView is a pack as the API shows it.
type packView struct {
	ID                   string            `json:"id"`
	Type                 string            `json:"type"`
	Hosts                []string          `json:"hosts"`
	Status               string            `json:"status"` // active, pending_validation, expired
	ValidationMethod     string            `json:"validation_method"`
	ValidityDays         int               `json:"validity_days,omitempty"`
	CertificateAuthority string            `json:"certificate_authority,omitempty"`
	CloudflareBranding   bool              `json:"cloudflare_branding"`
	PrimaryCertificate   string            `json:"primary_certificate,omitempty"`
	Certificates         []customView      `json:"certificates"`
	ValidationErrors     []validationError `json:"validation_errors,omitempty"`
	ValidationRecords    []struct{}        `json:"validation_records"` // none: the node sets them itself
}

type validationError struct {
	Message string `json:"message"`
}

func (c *Certs) viewPack(z *spec.ZoneConfig, p *spec.CertificatePack) packView {
	v := packView{
		ID: p.ID, Type: p.Type, Hosts: p.Hosts, Status: "pending_validation", ValidationMethod: p.Method, ValidityDays: p.ValidityDays,
		CertificateAuthority: p.Authority, Certificates: []customView{}, ValidationRecords: []struct{}{},
	}
	if v.Hosts == nil {
		_, v.Hosts = plan(z, p)
	}
	if cert := certificateFor(z, p); cert != nil {
		v.Status, v.PrimaryCertificate = c.statusOf(cert), cert.ID
		v.Certificates = append(v.Certificates, c.viewCustom(cert))
	}
	if p.LastError != "" {
		text := p.LastError
		if !p.NextTry.IsZero() {
			text += fmt.Sprintf(" (failed %d times in a row; next try %s)", p.Failures, p.NextTry.Format(time.RFC3339))
		}
		v.ValidationErrors = []validationError{{text}}
	}
	return v
}

// shownPacks returns the packs that are on, the universal one first.
func shownPacks(z *spec.ZoneConfig) []*spec.CertificatePack {
	packs := slices.DeleteFunc(slices.Clone(z.Packs), func(p *spec.CertificatePack) bool { return p.Disabled })
	slices.SortStableFunc(packs, func(a, b *spec.CertificatePack) int { return strings.Compare(b.Type, a.Type) })
	return packs
}

func findPack(z *spec.ZoneConfig, id string) (*spec.CertificatePack, error) {
	if z != nil {
		for _, p := range shownPacks(z) {
			if p.ID == id {
				return p, nil
			}
		}
	}
	return nil, fault.New(fault.NotFound, "The zone has no certificate pack %.40q.", id)
}

func (c *Certs) listPacks(_ context.Context, call *product.Call) (product.Reply, error) {
	status := call.Query.Get("status")
	if status != "" && status != "all" {
		return product.Reply{}, fault.New(fault.Invalid, "status %.40q is not all.", status).At("status")
	}
	views := []packView{}
	for _, p := range shownPacks(call.Zone) {
		if v := c.viewPack(call.Zone, p); status == "all" || v.Status == "active" {
			views = append(views, v)
		}
	}
	part, info, err := product.Page(views, call.Query, product.Paging{})
	return product.Reply{Result: part, Info: info}, err
}

func (c *Certs) getPack(_ context.Context, call *product.Call) (product.Reply, error) {
	p, err := findPack(call.Zone, call.Params["pack_id"])
	if err != nil {
		return product.Reply{}, err
	}
	return product.Reply{Result: c.viewPack(call.Zone, p)}, nil
}

func (c *Certs) packQuota(_ context.Context, call *product.Call) (product.Reply, error) {
	type quota struct {
		Allocated int `json:"allocated"`
		Used      int `json:"used"`
	}
	return product.Reply{Result: map[string]quota{"advanced": {maxPacks, countAdvanced(call.Zone)}}}, nil
}

func countAdvanced(z *spec.ZoneConfig) int {
	n := 0
	for _, p := range z.Packs {
		if p.Type == "advanced" {
			n++
		}
	}
	return n
}

// needACME refuses what cannot be done on a node that has no ACME server.
func (c *Certs) needACME() error {
	if c.orders != nil {
		return nil
	}
	return fault.New(fault.Unavailable, "This node orders no certificates: its operator has to name an ACME server in its configuration (acme directory, email, agree). Until then hosts get certificates of the node's own CA; you can upload others.")
}

type orderBody struct {
	Type                 string   `json:"type"`
	Hosts                []string `json:"hosts"`
	ValidationMethod     string   `json:"validation_method"`
	ValidityDays         int      `json:"validity_days"`
	CertificateAuthority string   `json:"certificate_authority"`
	CloudflareBranding   bool     `json:"cloudflare_branding"`
}

func (c *Certs) orderPack(ctx context.Context, call *product.Call) (product.Reply, error) {
	var b orderBody
	if err := call.Decode(&b); err != nil {
		return product.Reply{}, err
	}
	if err := c.needACME(); err != nil {
		return product.Reply{}, err
	}
	zone := call.Zone.Zone
	if err := c.checkOrder(&b, zone); err != nil {
		return product.Reply{}, err
	}
	now := spec.Timestamp(c.clock.Now())
	pack := &spec.CertificatePack{
		ID: spec.NewID(), ZoneID: zone.ID, Type: "advanced", Hosts: b.Hosts, Method: b.ValidationMethod,
		Authority: b.CertificateAuthority, ValidityDays: b.ValidityDays, CreatedOn: now, ModifiedOn: now,
	}
	err := c.state.Update(ctx, call.Actor, func(tx product.Tx) error {
		z := tx.Snapshot().Zones[zone.ID]
		if z == nil {
			return fault.New(fault.NotFound, "The zone is gone.")
		}
		if countAdvanced(z) >= maxPacks {
			return fault.New(fault.TooMuch, "The zone has %d certificate packs, which is the limit; delete one first.", maxPacks).WithCode(codeTooMany)
		}
		return tx.Put(pack)
	})
	if err != nil {
		return product.Reply{}, err
	}
	c.orders.wakeUp()
	host := c.orders.server.config.Directory
	if u, err := url.Parse(host); err == nil {
		host = u.Host
	}
	return product.Reply{
		Result:   c.viewPack(call.Zone, pack),
		Messages: []product.Message{{Message: "This node orders from " + host + ", which also decides how long certificates live."}},
	}, nil
}

// checkOrder reports everything that is wrong with an order, and brings its hosts into one form.
func (c *Certs) checkOrder(b *orderBody, zone *spec.Zone) error {
	var faults []error
	refuse := func(field, format string, args ...any) {
		faults = append(faults, fault.New(fault.Invalid, format, args...).At(field))
	}
	if b.Type != "advanced" {
		refuse("type", "type %.40q cannot be ordered, only advanced.", b.Type)
	}
	if !slices.Contains([]string{"txt", "http"}, b.ValidationMethod) {
		refuse("validation_method", "validation_method %.40q is not one of txt, http.", b.ValidationMethod)
	}
	if b.ValidationMethod == "txt" && zone.Type == "partial" {
		refuse("validation_method", "validation_method txt needs a full zone, for which this node answers DNS; use http.")
	}
	if len(b.Hosts) == 0 || len(b.Hosts) > spec.MaxPackHosts {
		refuse("hosts", "%d hosts; order for 1 to %d.", len(b.Hosts), spec.MaxPackHosts)
		return errors.Join(faults...)
	}
	for i, h := range b.Hosts {
		b.Hosts[i] = strings.ToLower(strings.TrimSuffix(h, "."))
		if why := c.refuseHost(b.Hosts[i], zone); why != "" {
			refuse(fmt.Sprintf("hosts[%d]", i), "%.100q %s", h, why)
		}
		if b.ValidationMethod == "http" && strings.HasPrefix(h, "*.") {
			refuse(fmt.Sprintf("hosts[%d]", i), "%.100q is a wildcard, which can only be validated by DNS: use validation_method txt.", h)
		}
	}
	slices.Sort(b.Hosts)
	b.Hosts = slices.Compact(b.Hosts)
	return errors.Join(faults...)
}

// refuseHost returns why a zone cannot have a certificate for a host, or "".
func (c *Certs) refuseHost(host string, zone *spec.Zone) string {
	if err := spec.CheckHostname(host); err != nil {
		return "is not a host name: " + err.Error() + "."
	}
	name := strings.TrimPrefix(host, "*.")
	if !spec.InZone(name, zone.Name) {
		return "is not in the zone " + zone.Name + "."
	}
	if z := c.table.Load().zone(name); z != nil && z.config.Zone.ID != zone.ID {
		return "belongs to the zone " + z.config.Zone.Name + "; order it there."
	}
	return ""
}

// retryPack has a pack tried at once, whatever it waited for.
func (c *Certs) retryPack(ctx context.Context, call *product.Call) (product.Reply, error) {
	var b struct {
		CloudflareBranding bool `json:"cloudflare_branding"`
	}
	if err := call.Decode(&b); err != nil {
		return product.Reply{}, err
	}
	if err := c.needACME(); err != nil {
		return product.Reply{}, err
	}
	var p spec.CertificatePack
	err := c.state.Update(ctx, call.Actor, func(tx product.Tx) error {
		old, err := findPack(tx.Snapshot().Zones[call.Zone.Zone.ID], call.Params["pack_id"])
		if err != nil {
			return err
		}
		p = *old
		p.NextTry, p.ModifiedOn = time.Time{}, spec.Timestamp(c.clock.Now())
		return tx.Put(&p)
	})
	if err != nil {
		return product.Reply{}, err
	}
	c.orders.wakeUp()
	return product.Reply{Result: c.viewPack(call.Zone, &p)}, nil
}

func (c *Certs) deletePack(ctx context.Context, call *product.Call) (product.Reply, error) {
	id := call.Params["pack_id"]
	err := c.state.Update(ctx, call.Actor, func(tx product.Tx) error {
		z := tx.Snapshot().Zones[call.Zone.Zone.ID]
		p, err := findPack(z, id)
		if err != nil {
			return err
		}
		if p.Type == "universal" {
			return fault.New(fault.Conflict, "The universal certificate cannot be deleted; switch Universal SSL off instead: PATCH /zones/%s/ssl/universal/settings.", p.ZoneID)
		}
		return errors.Join(dropIssued(tx, z, p), tx.Delete(p.Key()))
	})
	if err != nil {
		return product.Reply{}, err
	}
	return product.Reply{Result: map[string]string{"id": id}}, nil
}

// dropIssued deletes what was issued for a pack.
func dropIssued(tx product.Tx, z *spec.ZoneConfig, p *spec.CertificatePack) error {
	var errs []error
	for _, cert := range z.Certificates {
		if cert.PackID == p.ID {
			errs = append(errs, tx.Delete(cert.Key()))
		}
	}
	return errors.Join(errs...)
}

type universalSettings struct {
	Enabled bool `json:"enabled"`
}

func (c *Certs) getUniversal(_ context.Context, call *product.Call) (product.Reply, error) {
	return product.Reply{Result: universalSettings{Enabled: !universalOf(call.Zone).Disabled}}, nil
}

// universalOf returns the universal pack of a zone, stored or not.
func universalOf(z *spec.ZoneConfig) *spec.CertificatePack {
	for _, p := range packsOf(z) {
		if p.ID == z.Zone.ID {
			return p
		}
	}
	return newUniversal(z.Zone)
}

func (c *Certs) setUniversal(ctx context.Context, call *product.Call) (product.Reply, error) {
	var b struct {
		Enabled *bool `json:"enabled"`
	}
	if err := call.Decode(&b); err != nil {
		return product.Reply{}, err
	}
	if b.Enabled == nil {
		return product.Reply{}, fault.New(fault.Invalid, "Say whether Universal SSL is on: true or false.").At("enabled")
	}
	err := c.state.Update(ctx, call.Actor, func(tx product.Tx) error {
		z := tx.Snapshot().Zones[call.Zone.Zone.ID]
		if z == nil {
			return fault.New(fault.NotFound, "The zone is gone.")
		}
		old := universalOf(z)
		if old.Disabled == !*b.Enabled {
			return nil
		}
		p := newUniversal(z.Zone)
		p.Disabled, p.CreatedOn, p.ModifiedOn = !*b.Enabled, old.CreatedOn, spec.Timestamp(c.clock.Now())
		if p.Disabled {
			if err := dropIssued(tx, z, p); err != nil {
				return err
			}
		}
		return tx.Put(p)
	})
	if err != nil {
		return product.Reply{}, err
	}
	return product.Reply{Result: universalSettings{Enabled: *b.Enabled}}, nil
}

// verificationView is one host's part of GET ssl/verification.
type verificationView struct {
	Hostname           string `json:"hostname"`
	CertificateStatus  string `json:"certificate_status"` // active, authorizing, expired
	BrandCheck         bool   `json:"brand_check"`
	CertPackUUID       string `json:"cert_pack_uuid"`
	Signature          string `json:"signature,omitempty"`
	ValidationMethod   string `json:"validation_method"`
	VerificationStatus bool   `json:"verification_status"`
}

func (c *Certs) verification(_ context.Context, call *product.Call) (product.Reply, error) {
	views := []verificationView{}
	for _, p := range shownPacks(call.Zone) {
		v := verificationView{CertificateStatus: "authorizing", CertPackUUID: p.ID, ValidationMethod: p.Method}
		if cert := certificateFor(call.Zone, p); cert != nil {
			v.CertificateStatus, v.Signature, v.VerificationStatus = c.statusOf(cert), cert.Signature, true
		}
		for _, v.Hostname = range c.viewPack(call.Zone, p).Hosts {
			views = append(views, v)
		}
	}
	return product.Reply{Result: views}, nil
}
