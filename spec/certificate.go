package spec

import (
	"time"

	"selvage/foundation/fault"
)

// KindCertificate is the kind of edge certificates.
const KindCertificate Kind = "certificate"

// Certificate is an edge certificate of a zone with its private key. The key never leaves through
// the API, the log or the audit log: see Redacted.
type Certificate struct {
	ID           string    `json:"id"`
	ZoneID       string    `json:"zone_id"`
	Source       string    `json:"source"`            // custom (uploaded), acme
	PackID       string    `json:"pack_id,omitempty"` // of the CertificatePack it was ordered for, if acme
	Hosts        []string  `json:"hosts"`             // DNS names of the leaf
	KeyType      string    `json:"key_type"`          // rsa, ecdsa
	Issuer       string    `json:"issuer"`
	Signature    string    `json:"signature"` // SHA256WithRSA, ECDSAWithSHA256, ...
	BundleMethod string    `json:"bundle_method"`
	Chain        string    `json:"chain"`       // PEM, leaf first
	PrivateKey   string    `json:"private_key"` // PEM
	Priority     int       `json:"priority"`
	ExpiresOn    time.Time `json:"expires_on"`
	UploadedOn   time.Time `json:"uploaded_on"`
	ModifiedOn   time.Time `json:"modified_on"`
}

// Key returns the certificate's key.
func (c *Certificate) Key() Key { return Key{KindCertificate, c.ZoneID, c.ID} }

// Validate checks that chain and key are there; product/certs checks that they fit.
func (c *Certificate) Validate() error {
	if c.Chain == "" || c.PrivateKey == "" {
		return fault.New(fault.Invalid, "A certificate needs its chain and its private key in PEM.").At("certificate")
	}
	return nil
}

// Redacted is implemented by nouns with secrets: the audit log stores what Redact returns.
type Redacted interface{ Redact() Noun }

var (
	_ Redacted = (*Certificate)(nil)
	_ Redacted = (*Token)(nil)
)

// Redact returns a copy without the private key.
func (c *Certificate) Redact() Noun { r := *c; r.PrivateKey = ""; return &r }

// Redact returns a copy without the hash.
func (t *Token) Redact() Noun { r := *t; r.Hash = ""; return &r }
