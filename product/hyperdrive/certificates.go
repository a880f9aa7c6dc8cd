package hyperdrive

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"slices"
	"strconv"
	"strings"
	"time"

	"selvage/foundation/fault"
	"selvage/product"
	"selvage/spec"
)

// Bounds of certificates.
const (
	maxCertificates = 1000     // of an account
	maxPEM          = 64 << 10 // of an upload
)

// certificateRoutes serves certificates that databases are verified by, and shown.
func (p *Hyperdrive) certificateRoutes() []product.Route {
	const all, one = "/accounts/{account_id}/mtls_certificates", "/accounts/{account_id}/mtls_certificates/{mtls_certificate_id}"
	return []product.Route{
		{Method: "GET", Path: all, Permission: read, Summary: "List the certificates that an account uploaded: of authorities, and its own as a client.", Handle: p.listCertificates},
		{Method: "POST", Path: all, Permission: write, Summary: "Upload certificates of an authority, or of a client with the key.", Handle: p.uploadCertificate},
		{Method: "GET", Path: one, Permission: read, Summary: "Show a certificate that an account uploaded.", Handle: p.showCertificate},
		{Method: "DELETE", Path: one, Permission: write, Summary: "Delete a certificate that no Hyperdrive configuration names.", Handle: p.deleteCertificate},
	}
}

// certificateReply is a certificate as the API shows it.
type certificateReply struct {
	ID           string    `json:"id"`
	Name         string    `json:"name,omitempty"`
	CA           bool      `json:"ca"`
	Certificates string    `json:"certificates"`
	Issuer       string    `json:"issuer"`
	Serial       string    `json:"serial_number"`
	Signature    string    `json:"signature"`
	UploadedOn   time.Time `json:"uploaded_on"`
	ExpiresOn    time.Time `json:"expires_on"`
}

func certificateOf(m *spec.MTLSCertificate) certificateReply {
	r := certificateReply{ID: m.ID, Name: m.Name, CA: m.CA, Certificates: m.Certificates, UploadedOn: m.UploadedOn}
	if chain, err := parseChain(m.Certificates); err == nil {
		first := chain[0]
		r.Issuer, r.Serial, r.Signature, r.ExpiresOn = first.Issuer.String(), first.SerialNumber.String(), first.SignatureAlgorithm.String(), first.NotAfter
	}
	return r
}

// parseChain reads one certificate or more.
func parseChain(text string) ([]*x509.Certificate, error) {
	var chain []*x509.Certificate
	for rest := []byte(text); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, fault.New(fault.Invalid, "certificates has a PEM block of the type %.40q; all of them are to be CERTIFICATE.", block.Type).At("certificates")
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fault.Wrap(err, fault.Invalid, "certificates has a certificate that cannot be read: number %d.", len(chain)+1).At("certificates")
		}
		chain = append(chain, c)
	}
	if len(chain) == 0 {
		return nil, fault.New(fault.Invalid, "certificates has no certificate in it: give PEM, which begins with -----BEGIN CERTIFICATE-----.").At("certificates")
	}
	return chain, nil
}

func noCertificate(id string) error {
	return fault.New(fault.NotFound, "There is no certificate %.40q on this account: `wrangler cert list` shows those that are.", id)
}

func (p *Hyperdrive) uploadCertificate(ctx context.Context, c *product.Call) (product.Reply, error) {
	var in struct {
		Name         string `json:"name"`
		Certificates string `json:"certificates"`
		PrivateKey   string `json:"private_key"`
		CA           bool   `json:"ca"`
	}
	if err := c.Decode(&in); err != nil {
		return product.Reply{}, err
	}
	if n := len(in.Certificates) + len(in.PrivateKey); n > maxPEM {
		return product.Reply{}, fault.New(fault.TooMuch, "Certificates and key have %d bytes, the limit is %d.", n, maxPEM).At("certificates")
	}
	chain, err := parseChain(in.Certificates)
	if err != nil {
		return product.Reply{}, err
	}
	m := &spec.MTLSCertificate{ID: spec.NewUUID(), AccountID: c.Account.ID, Name: in.Name, CA: in.CA, Certificates: in.Certificates, UploadedOn: spec.Timestamp(p.o.Clock.Now())}
	if err := m.Validate(); err != nil {
		return product.Reply{}, err
	}
	switch {
	case in.CA && in.PrivateKey != "":
		return product.Reply{}, fault.New(fault.Invalid, "An authority's certificate is uploaded without its private_key, which nobody here needs.").At("private_key")
	case in.CA && slices.ContainsFunc(chain, func(c *x509.Certificate) bool { return !c.IsCA }):
		return product.Reply{}, fault.New(fault.Invalid, "certificates has one that is no authority's: with ca all of them have to be.").At("certificates")
	case !in.CA:
		if _, err := tls.X509KeyPair([]byte(in.Certificates), []byte(in.PrivateKey)); err != nil {
			return product.Reply{}, fault.Wrap(err, fault.Invalid, "private_key is not the unencrypted PEM key of the first of the certificates.").At("private_key")
		}
		m.Sealed = p.o.Seal.Seal([]byte(in.PrivateKey), sealContext(m.AccountID, m.ID, "key"))
	}
	err = p.o.State.Update(ctx, c.Actor, func(tx product.Tx) error {
		if n := len(tx.Snapshot().StorageOf(m.AccountID).Certificates); n >= maxCertificates {
			return fault.New(fault.TooMuch, "The account has %d certificates, the limit is %d: delete one.", n, maxCertificates)
		}
		return tx.Put(m)
	})
	if err != nil {
		return product.Reply{}, err
	}
	return product.Reply{Result: certificateOf(m)}, nil
}

func (p *Hyperdrive) listCertificates(_ context.Context, c *product.Call) (product.Reply, error) {
	want := c.Query.Get("ca")
	if _, err := strconv.ParseBool(want); err != nil && want != "" {
		return product.Reply{}, fault.New(fault.Invalid, "ca is %.40q; it is true or false.", want).At("ca")
	}
	all := []certificateReply{}
	for _, m := range p.o.State.Snapshot().StorageOf(c.Account.ID).Certificates {
		if name := c.Query.Get("name"); (name == "" || m.Name == name) && (want == "" || strconv.FormatBool(m.CA) == want) {
			all = append(all, certificateOf(m))
		}
	}
	slices.SortFunc(all, func(a, b certificateReply) int {
		if n := a.UploadedOn.Compare(b.UploadedOn); n != 0 {
			return n
		}
		return strings.Compare(a.ID, b.ID)
	})
	page, info, err := product.Page(all, c.Query, product.Paging{Default: 50, Max: 1000})
	return product.Reply{Result: page, Info: info}, err
}

func (p *Hyperdrive) showCertificate(_ context.Context, c *product.Call) (product.Reply, error) {
	id := c.Params["mtls_certificate_id"]
	m := p.o.State.Snapshot().StorageOf(c.Account.ID).Certificates[id]
	if m == nil {
		return product.Reply{}, noCertificate(id)
	}
	return product.Reply{Result: certificateOf(m)}, nil
}

func (p *Hyperdrive) deleteCertificate(ctx context.Context, c *product.Call) (product.Reply, error) {
	id := c.Params["mtls_certificate_id"]
	var gone *spec.MTLSCertificate
	err := p.o.State.Update(ctx, c.Actor, func(tx product.Tx) error {
		own := tx.Snapshot().StorageOf(c.Account.ID)
		if gone = own.Certificates[id]; gone == nil {
			return noCertificate(id)
		}
		for _, h := range own.Hyperdrives {
			if h.MTLS.CA == id || h.MTLS.Client == id {
				return fault.New(fault.Conflict, "The Hyperdrive configuration %.80q needs this certificate: change or delete that first.", h.Name)
			}
		}
		return tx.Delete(gone.Key())
	})
	if err != nil {
		return product.Reply{}, err
	}
	return product.Reply{Result: certificateOf(gone)}, nil
}

// checkCertificates sees whether what h names is there.
func checkCertificates(own *spec.AccountStorage, h *spec.Hyperdrive) error {
	if id := h.MTLS.CA; id != "" {
		if m := own.Certificates[id]; m == nil || !m.CA {
			return fault.New(fault.Invalid, "There is no authority's certificate %.40q on this account: `wrangler cert upload certificate-authority` makes one.", id).WithCode(codeNoTLS).At("mtls.ca_certificate_id")
		}
		switch h.MTLS.SSLMode {
		case "verify-ca", "verify-full", "VERIFY_CA", "VERIFY_IDENTITY":
		default:
			return fault.New(fault.Invalid, "ca_certificate_id needs an sslmode that verifies: verify-ca or verify-full, for MySQL VERIFY_CA or VERIFY_IDENTITY.").At("mtls.sslmode")
		}
	}
	if id := h.MTLS.Client; id != "" {
		if m := own.Certificates[id]; m == nil || m.CA {
			return fault.New(fault.Invalid, "There is no client's certificate %.40q on this account: `wrangler cert upload mtls-certificate` makes one.", id).WithCode(codeNoTLS).At("mtls.mtls_certificate_id")
		}
		if h.MTLS.SSLMode == "disable" {
			return fault.New(fault.Invalid, "mtls_certificate_id needs TLS: choose another sslmode than disable.").At("mtls.sslmode")
		}
	}
	return nil
}

// trusted returns who may sign the certificate of h's database.
func (p *Hyperdrive) trusted(h *spec.Hyperdrive) *x509.CertPool {
	m := p.o.State.Snapshot().StorageOf(h.AccountID).Certificates[h.MTLS.CA]
	if h.MTLS.CA == "" {
		return p.o.Roots
	}
	pool := x509.NewCertPool() // nobody, if it is gone
	if m != nil {
		pool.AppendCertsFromPEM([]byte(m.Certificates))
	}
	return pool
}

// shown returns what h shows its database of itself; nothing if it has no certificate.
func (p *Hyperdrive) shown(h *spec.Hyperdrive) ([]tls.Certificate, error) {
	if h.MTLS.Client == "" {
		return nil, nil
	}
	m := p.o.State.Snapshot().StorageOf(h.AccountID).Certificates[h.MTLS.Client]
	if m == nil {
		return nil, noCertificate(h.MTLS.Client)
	}
	key, err := p.o.Seal.Open(m.Sealed, sealContext(m.AccountID, m.ID, "key"))
	if err != nil {
		return nil, err
	}
	c, err := tls.X509KeyPair([]byte(m.Certificates), key)
	return []tls.Certificate{c}, err
}
