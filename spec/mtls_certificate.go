package spec

import (
	"time"

	"selvage/foundation/fault"
)

// KindMTLSCertificate is the kind of MTLSCertificate, scoped by account.
const KindMTLSCertificate Kind = "mtls_certificate"

// MTLSCertificate is a certificate that an account has uploaded: of an authority that it trusts, or its
// own as a client. It does not change.
type MTLSCertificate struct {
	ID           string    `json:"id"` // a UUID
	AccountID    string    `json:"account_id"`
	Name         string    `json:"name,omitempty"`
	CA           bool      `json:"ca,omitempty"`
	Certificates string    `json:"certificates"`     // PEM; of a client its own comes first
	Sealed       []byte    `json:"sealed,omitempty"` // private key, PEM; of a client only
	UploadedOn   time.Time `json:"uploaded_on"`
}

// Key returns the certificate's key.
func (m *MTLSCertificate) Key() Key { return Key{KindMTLSCertificate, m.AccountID, m.ID} }

// maxMTLSCertificateName is how long a name may be, in bytes.
const maxMTLSCertificateName = 255

// Validate checks the name; who uploads has read the certificates.
func (m *MTLSCertificate) Validate() error {
	if len(m.Name) > maxMTLSCertificateName {
		return fault.New(fault.Invalid, "The name of a certificate has at most %d bytes, this one has %d.", maxMTLSCertificateName, len(m.Name)).At("name")
	}
	return nil
}

var _ Redacted = (*MTLSCertificate)(nil)

// Redact returns a copy without the sealed key.
func (m *MTLSCertificate) Redact() Noun {
	r := *m
	r.Sealed = nil
	return &r
}
