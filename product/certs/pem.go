package certs

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"slices"
	"strings"
	"time"

	"selvage/foundation/budget"
	"selvage/foundation/fault"
	"selvage/spec"
)

// Kinds of keys, as in spec.Certificate.KeyType.
const (
	keyRSA   = "rsa"
	keyECDSA = "ecdsa"
)

// Limits of an upload.
const (
	maxChainBytes = 64 << 10
	maxKeyBytes   = 16 << 10
	maxChain      = 10 // certificates
	minRSA        = 2048
	maxRSA        = 8192 // a handshake with a larger key costs more than 5 ms of CPU
)

// Codes that Cloudflare documents for uploads.
const (
	codeInvalid    = 1002
	codeTooMany    = 1212
	codeDuplicate  = 1220
	codeNoBrowsers = 1434
)

// upload is a certificate and key that fit each other and a zone.
type upload struct {
	leaf  *x509.Certificate
	chain string // PEM, leaf first, nothing else in it
	key   string // PEM of PKCS #8
	hosts []string
	kind  string
}

// parseUpload reads what a user sent and reports what is wrong with it.
func parseUpload(chainText, keyText, zone string, now time.Time) (*upload, error) {
	chain, chainErr := parseChain(chainText)
	key, keyErr := parseKey(keyText)
	if err := errors.Join(chainErr, keyErr); err != nil {
		return nil, err
	}
	u := &upload{leaf: chain[0], chain: encodeChain(chain), kind: keyECDSA}
	if _, isRSA := keyType(key.Public()); isRSA {
		u.kind = keyRSA
	}
	if public, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool }); !ok || !public.Equal(u.leaf.PublicKey) {
		return nil, invalid("private_key", "The private key does not belong to the certificate %s; upload the key that its signing request was made with.", nameOf(u.leaf))
	}
	if err := checkLeaf(u.leaf, now); err != nil {
		return nil, err
	}
	for _, name := range u.leaf.DNSNames {
		u.hosts = append(u.hosts, strings.ToLower(name))
	}
	if !slices.ContainsFunc(u.hosts, func(h string) bool { return spec.InZone(strings.TrimPrefix(h, "*."), zone) }) {
		return nil, invalid("certificate", "The certificate is for %s, none of which is in the zone %s.", listOf(u.hosts), zone)
	}
	text, err := marshalKey(key)
	if err != nil {
		return nil, err
	}
	u.key = string(text)
	return u, nil
}

func invalid(field, format string, args ...any) error {
	return fault.New(fault.Invalid, format, args...).At(field).WithCode(codeInvalid)
}

// parseChain reads a PEM chain: the leaf, then each certificate's issuer.
func parseChain(text string) ([]*x509.Certificate, error) {
	if err := budget.Check("The certificate's size in bytes", int64(len(text)), maxChainBytes); err != nil {
		return nil, err
	}
	var chain []*x509.Certificate
	for rest := []byte(text); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			if len(bytes.TrimSpace(rest)) > 0 && len(chain) > 0 {
				return nil, invalid("certificate", "There is text after certificate %d that is no PEM block; remove it.", len(chain))
			}
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, invalid("certificate", "The certificate holds a PEM block of type %.40q; only CERTIFICATE belongs there.", block.Type)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, invalid("certificate", "Certificate %d cannot be read: %.200s.", len(chain)+1, err.Error())
		}
		if chain = append(chain, cert); len(chain) > maxChain {
			return nil, invalid("certificate", "The chain has more than %d certificates; leave out those that do not lead from the leaf to a root.", maxChain)
		}
	}
	if len(chain) == 0 {
		return nil, invalid("certificate", "The certificate is not PEM: it begins with -----BEGIN CERTIFICATE-----.")
	}
	for i, cert := range chain[1:] {
		if chain[i].CheckSignatureFrom(cert) != nil {
			return nil, invalid("certificate", "Certificate %d of the chain (%s) did not sign certificate %d (%s); put the leaf first, then its issuer, and so on.", i+2, nameOf(cert), i+1, nameOf(chain[i]))
		}
	}
	return chain, nil
}

func encodeChain(chain []*x509.Certificate) string {
	var b bytes.Buffer
	for _, cert := range chain {
		pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})
	}
	return b.String()
}

// parseKey reads a private key in PKCS #8, PKCS #1 or SEC 1.
func parseKey(text string) (crypto.Signer, error) {
	if err := budget.Check("The private key's size in bytes", int64(len(text)), maxKeyBytes); err != nil {
		return nil, err
	}
	for rest := []byte(text); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return nil, invalid("private_key", "The private key is not PEM: it begins with -----BEGIN PRIVATE KEY-----.")
		}
		if strings.Contains(block.Type, "ENCRYPTED") || block.Headers["DEK-Info"] != "" {
			return nil, invalid("private_key", "The private key is encrypted; decrypt it first: openssl pkey -in key.pem.")
		}
		if block.Type != "PRIVATE KEY" && !strings.HasSuffix(block.Type, " PRIVATE KEY") {
			continue // EC PARAMETERS stand before keys that openssl made
		}
		return decodeKey(block.Bytes)
	}
}

func decodeKey(der []byte) (crypto.Signer, error) {
	var key any
	var err error
	if key, err = x509.ParsePKCS8PrivateKey(der); err != nil {
		if key, err = x509.ParsePKCS1PrivateKey(der); err != nil {
			key, err = x509.ParseECPrivateKey(der)
		}
	}
	if err != nil {
		return nil, invalid("private_key", "The private key cannot be read as PKCS #8, PKCS #1 or SEC 1.")
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, invalid("private_key", "The private key cannot sign; upload an RSA or ECDSA key.")
	}
	if err := checkKey(signer.Public(), "private_key"); err != nil {
		return nil, err
	}
	return signer, nil
}

// checkKey refuses keys that browsers refuse.
func checkKey(public crypto.PublicKey, field string) error {
	switch k := public.(type) {
	case *rsa.PublicKey:
		if bits := k.N.BitLen(); bits < minRSA || bits > maxRSA {
			return invalid(field, "The RSA key has %d bits; it must have %d to %d.", bits, minRSA, maxRSA)
		}
		return nil
	case *ecdsa.PublicKey:
		if k.Curve == elliptic.P256() || k.Curve == elliptic.P384() {
			return nil
		}
		return fault.New(fault.Invalid, "The ECDSA key is on the curve %s, which not every browser takes; use P-256 or P-384.", k.Curve.Params().Name).At(field).WithCode(codeNoBrowsers)
	}
	return fault.New(fault.Invalid, "Browsers take only RSA and ECDSA keys; this is a %T.", public).At(field).WithCode(codeNoBrowsers)
}

func checkLeaf(leaf *x509.Certificate, now time.Time) error {
	switch {
	case leaf.IsCA && len(leaf.DNSNames) == 0:
		return invalid("certificate", "%s is an authority's certificate, not one for a site.", nameOf(leaf))
	case now.After(leaf.NotAfter):
		return invalid("certificate", "The certificate expired on %s; upload a renewed one.", leaf.NotAfter.UTC().Format(time.RFC3339))
	case now.Before(leaf.NotBefore):
		return invalid("certificate", "The certificate is not valid before %s; upload it then.", leaf.NotBefore.UTC().Format(time.RFC3339))
	case len(leaf.DNSNames) == 0:
		return invalid("certificate", "The certificate has no subject alternative names, so browsers refuse it; have it issued with the host names as DNS names.")
	case len(leaf.DNSNames) > spec.MaxPackHosts:
		return invalid("certificate", "The certificate has %d names, the limit is %d.", len(leaf.DNSNames), spec.MaxPackHosts)
	case len(leaf.ExtKeyUsage) > 0 && !slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageServerAuth) && !slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageAny):
		return invalid("certificate", "The certificate is not for servers; have it issued with the extended key usage serverAuth.")
	}
	return nil
}

func keyType(public crypto.PublicKey) (string, bool) {
	if _, is := public.(*rsa.PublicKey); is {
		return keyRSA, true
	}
	return keyECDSA, false
}

// nameOf names a certificate in an error.
func nameOf(cert *x509.Certificate) string {
	name := cert.Subject.CommonName
	if name == "" && len(cert.DNSNames) > 0 {
		name = cert.DNSNames[0]
	}
	if len(name) > 80 {
		name = name[:80]
	}
	return strings.ToValidUTF8(name, "?")
}

func listOf(hosts []string) string {
	if len(hosts) > 5 {
		hosts = append(slices.Clone(hosts[:5]), "...")
	}
	return strings.ToValidUTF8(strings.Join(hosts, ", "), "?")
}

// describe fills the fields of a stored certificate that its leaf tells.
func (u *upload) describe(cert *spec.Certificate) {
	cert.Hosts, cert.KeyType = u.hosts, u.kind
	cert.Chain, cert.PrivateKey = u.chain, u.key
	cert.Issuer = u.leaf.Issuer.CommonName
	if len(u.leaf.Issuer.Organization) > 0 {
		cert.Issuer = u.leaf.Issuer.Organization[0]
	}
	cert.Issuer = strings.ToValidUTF8(cert.Issuer, "?")
	cert.Signature = signatureName(u.leaf.SignatureAlgorithm)
	cert.ExpiresOn = spec.Timestamp(u.leaf.NotAfter)
}

// signatureName returns the name that the v4 API uses: SHA256WithRSA, ECDSAWithSHA256.
func signatureName(a x509.SignatureAlgorithm) string {
	first, second, _ := strings.Cut(a.String(), "-")
	switch {
	case first == "ECDSA":
		return "ECDSAWith" + second
	case strings.HasPrefix(second, "RSA"):
		return first + "With" + second
	}
	return a.String()
}
