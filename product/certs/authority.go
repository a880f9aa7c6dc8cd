package certs

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"time"

	"selvage/foundation/clock"
)

// localLife is how long a leaf of the local CA lives. Browsers refuse more than 398 days from
// public roots; 90 keeps us far from every such rule, and renewing costs nothing.
const localLife = 90 * 24 * time.Hour

// backdate is how far certificates begin in the past, for clients whose clock is behind.
const backdate = time.Hour

// role says what an authority is for.
type role struct {
	name string
	life time.Duration
}

var (
	localCA  = role{"Selvage Local CA", 10 * 365 * 24 * time.Hour}
	originCA = role{"Selvage Origin CA", 30 * 365 * 24 * time.Hour} // outlives the 15 years an origin may ask for
)

// authority is a root that signs leaves. Safe for concurrent use.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// openAuthority reads an authority, or makes it if there is no file. Two processes may do so at
// once: the first one's is taken by both.
func openAuthority(path string, r role, c clock.Clock) (*authority, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if text, err = makeAuthority(r, c.Now()); err != nil {
			return nil, err
		}
		if err = createFile(path, text); errors.Is(err, fs.ErrExist) {
			text, err = os.ReadFile(path)
		}
	}
	if err != nil {
		return nil, err
	}
	a, err := parseAuthority(text)
	if err == nil && c.Now().After(a.cert.NotAfter) {
		err = fmt.Errorf("it expired on %s", a.cert.NotAfter.Format(time.DateOnly))
	}
	if err != nil {
		return nil, fmt.Errorf("%s cannot be used: %w; restore it from a backup, or move it away to have a new authority made, "+
			"which everybody who trusted the old one has to trust anew", path, err)
	}
	return a, nil
}

func makeAuthority(r role, now time.Time) ([]byte, error) {
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	id, err := keyID(&key.PublicKey)
	if err != nil {
		return nil, err
	}
	// The name carries the key's ID, so that a trust store can hold the roots of several nodes.
	template := &x509.Certificate{
		SerialNumber:          newSerial(),
		Subject:               pkix.Name{Organization: []string{"Selvage"}, CommonName: r.name + " " + hex.EncodeToString(id[:4])},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(r.life),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
		SubjectKeyId:          id,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, fmt.Errorf("sign the root: %w", err)
	}
	secret, err := marshalKey(key)
	if err != nil {
		return nil, err
	}
	return append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), secret...), nil
}

// parseAuthority reads the certificate and the key that makeAuthority wrote.
func parseAuthority(text []byte) (*authority, error) {
	pair, err := tls.X509KeyPair(text, text)
	if err != nil {
		return nil, err
	}
	key, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
	if !ok || !pair.Leaf.IsCA {
		return nil, errors.New("it does not hold an authority with an ECDSA key")
	}
	return &authority{cert: pair.Leaf, key: key}, nil
}

func (a *authority) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})
}

// request says what leaf to issue.
type request struct {
	public     crypto.PublicKey
	hosts      []string
	now        time.Time
	life       time.Duration
	clientAuth bool // origins may show the certificate as a client, too
}

// issue signs a leaf. It never outlives the authority.
func (a *authority) issue(r request) (*x509.Certificate, error) {
	until := r.now.Add(r.life)
	if until.After(a.cert.NotAfter) {
		until = a.cert.NotAfter
	}
	id, err := keyID(r.public)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber:          newSerial(),
		Subject:               pkix.Name{Organization: []string{"Selvage"}},
		NotBefore:             r.now.Add(-backdate),
		NotAfter:              until,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		DNSNames:              r.hosts,
		SubjectKeyId:          id,
	}
	if _, rsa := keyType(r.public); rsa {
		template.KeyUsage |= x509.KeyUsageKeyEncipherment
	}
	if r.clientAuth {
		template.ExtKeyUsage = append(template.ExtKeyUsage, x509.ExtKeyUsageClientAuth)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, r.public, a.key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

func certificateOf(der []byte, key crypto.PrivateKey, leaf *x509.Certificate) tls.Certificate {
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

func newKey() (*ecdsa.PrivateKey, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) }

func marshalKey(key crypto.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode the key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// newSerial returns 127 random bits: positive, and at most 20 octets (RFC 5280, 4.1.2.2).
func newSerial() *big.Int {
	var b [16]byte
	rand.Read(b[:])
	b[0] &= 0x7f
	b[15] |= 1
	return new(big.Int).SetBytes(b[:])
}

func serialText(serial *big.Int) string { return serial.Text(16) }

// keyID returns the first method's identifier of RFC 7093, 2: 160 bits of SHA-256 over the key.
func keyID(public crypto.PublicKey) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil, fmt.Errorf("encode the public key: %w", err)
	}
	sum := sha256.Sum256(der)
	return sum[:20], nil
}

// createFile writes a secret durably and all at once, or returns fs.ErrExist if path is there.
func createFile(path string, text []byte) error {
	temp, err := writeTemp(path, text, 0o600)
	if err != nil {
		return err
	}
	defer os.Remove(temp)
	if err := os.Link(temp, path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// exportFile writes text for everybody to read, if it does not stand there already.
func exportFile(path string, text []byte) error {
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, text) {
		return nil
	}
	temp, err := writeTemp(path, text, 0o644)
	if err != nil {
		return err
	}
	if err := os.Rename(temp, path); err != nil {
		os.Remove(temp)
		return err
	}
	return syncDir(filepath.Dir(path))
}

func writeTemp(path string, text []byte, mode fs.FileMode) (string, error) {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return "", err
	}
	_, err = f.Write(text)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err != nil {
		os.Remove(f.Name())
		return "", fmt.Errorf("write %s: %w", path, err)
	}
	return f.Name(), nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
