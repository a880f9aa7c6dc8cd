package certs

import (
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/mholt/acmez/v3"
	"github.com/mholt/acmez/v3/acme"

	"selvage/foundation/budget"
)

// ACME says where certificates are ordered. The zero value orders none.
type ACME struct {
	Directory string // URL of the ACME server's directory, such as https://acme-v02.api.letsencrypt.org/directory
	Email     string // for the server's operator to write to; empty gives none
	Agree     bool   // to the server's terms of service; orders need it
	CAFile    string // PEM roots that the server's own certificate is verified with; empty means the system's
	EABKeyID  string // external account binding, for servers that ask for it
	EABMACKey string // base64url
}

const (
	orderTimeout  = 5 * time.Minute  // for one order with all its challenges
	serverTimeout = 30 * time.Second // for one HTTP exchange with the ACME server
	maxAnswer     = 1 << 20          // bytes of one answer
)

// server is one ACME server with our account there. Safe for concurrent use.
type server struct {
	config  ACME
	http    *http.Client
	keyFile string

	mu      sync.Mutex // held while the account is registered
	account *acme.Account
}

func newServer(config ACME, dir string) (*server, error) {
	u, err := url.Parse(config.Directory)
	if err != nil || u.Host == "" || u.Scheme != "https" {
		return nil, fmt.Errorf("acme directory %q is not an https URL", config.Directory)
	}
	if !config.Agree {
		return nil, errors.New("acme agree is false: ordering certificates needs your agreement to the terms of service of " + u.Host)
	}
	if (config.EABKeyID == "") != (config.EABMACKey == "") {
		return nil, errors.New("acme external account binding needs both the key ID and the MAC key")
	}
	roots, err := readRoots(config.CAFile)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the ACME accounts' folder: %w", err)
	}
	sum := sha256.Sum256([]byte(config.Directory))
	transport := &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		TLSClientConfig:       &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		ForceAttemptHTTP2:     true,
		MaxIdleConnsPerHost:   4,
		IdleConnTimeout:       time.Minute,
		TLSHandshakeTimeout:   10 * time.Second,
		ResponseHeaderTimeout: serverTimeout,
	}
	return &server{
		config:  config,
		http:    &http.Client{Transport: bounded{transport}, Timeout: serverTimeout},
		keyFile: filepath.Join(dir, u.Hostname()+"-"+hex.EncodeToString(sum[:4])+".key.pem"),
	}, nil
}

func readRoots(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read the roots for the ACME server: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s holds no certificate in PEM", file)
	}
	return pool, nil
}

// bounded keeps a server's answers from filling the memory.
type bounded struct{ next *http.Transport }

// RoundTrip limits the body.
func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := b.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	resp.Body = struct {
		io.Reader
		io.Closer
	}{budget.Reader("The ACME server's answer", resp.Body, maxAnswer), resp.Body}
	return resp, nil
}

func (s *server) client(solvers map[string]acmez.Solver) *acmez.Client {
	return &acmez.Client{
		Client:           &acme.Client{Directory: s.config.Directory, HTTPClient: s.http, UserAgent: "selvage", PollTimeout: orderTimeout / 2},
		ChallengeSolvers: solvers,
	}
}

// signIn returns our account, registering it when this process first needs it: registering a key
// that the server knows returns the account that it has.
func (s *server) signIn(ctx context.Context) (acme.Account, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.account != nil {
		return *s.account, nil
	}
	key, err := s.accountKey()
	if err != nil {
		return acme.Account{}, fmt.Errorf("read the ACME account key: %w", err)
	}
	account := acme.Account{TermsOfServiceAgreed: true, PrivateKey: key}
	if s.config.Email != "" {
		account.Contact = []string{"mailto:" + s.config.Email}
	}
	client := s.client(nil)
	if s.config.EABKeyID != "" {
		if err := account.SetExternalAccountBinding(ctx, client.Client, acme.EAB{KeyID: s.config.EABKeyID, MACKey: s.config.EABMACKey}); err != nil {
			return acme.Account{}, fmt.Errorf("bind the external account: %w", err)
		}
	}
	account, err = client.NewAccount(ctx, account)
	if err != nil {
		return acme.Account{}, fmt.Errorf("register the ACME account: %w", err)
	}
	s.account = &account
	return account, nil
}

// signOut forgets the account, so that the next order registers it again.
func (s *server) signOut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.account = nil
}

func (s *server) accountKey() (*ecdsa.PrivateKey, error) {
	text, err := os.ReadFile(s.keyFile)
	if errors.Is(err, fs.ErrNotExist) {
		key, err := newKey()
		if err != nil {
			return nil, err
		}
		if text, err = marshalKey(key); err != nil {
			return nil, err
		}
		if err = createFile(s.keyFile, text); errors.Is(err, fs.ErrExist) {
			text, err = os.ReadFile(s.keyFile)
		}
		if err != nil {
			return nil, err
		}
	} else if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("%s holds no PEM; restore it, or move it away to have a new account made", s.keyFile)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w; restore it, or move it away to have a new account made", s.keyFile, err)
	}
	signer, ok := key.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%s holds a %T, not an ECDSA key", s.keyFile, key)
	}
	return signer, nil
}

// reachable tells whether the server is there and itself: after a failed order this says whose
// fault it was.
func (s *server) reachable(ctx context.Context) bool {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.config.Directory, nil)
	if err != nil {
		return false
	}
	resp, err := s.http.Do(r)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	var d acme.Directory
	return resp.StatusCode == http.StatusOK && json.NewDecoder(resp.Body).Decode(&d) == nil && d.NewOrder != "" && d.NewNonce != ""
}

// wanted is one certificate to obtain.
type wanted struct {
	hosts    []string
	replaces *x509.Certificate // nil if it is the first
	solvers  map[string]acmez.Solver
}

// got is what an order brought.
type got struct {
	chain []byte // PEM, leaf first
	key   *ecdsa.PrivateKey
	renew time.Time // what the server suggests (RFC 9773); zero if nothing
}

// obtain orders a certificate and waits for it.
func (s *server) obtain(ctx context.Context, w wanted) (*got, error) {
	ctx, cancel := context.WithTimeout(ctx, orderTimeout)
	defer cancel()
	account, err := s.signIn(ctx)
	if err != nil {
		return nil, err
	}
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	csr, err := acmez.NewCSR(key, w.hosts)
	if err != nil {
		return nil, err
	}
	params, err := acmez.OrderParametersFromCSR(account, csr)
	if err != nil {
		return nil, err
	}
	params.Replaces = w.replaces
	client := s.client(w.solvers)
	chains, err := client.ObtainCertificate(ctx, params)
	if err != nil {
		if p := problemOf(err); p != nil && p.Type == acme.ProblemTypeAccountDoesNotExist {
			s.signOut()
		}
		return nil, err
	}
	if len(chains) == 0 {
		return nil, errors.New("the ACME server issued no certificate")
	}
	g := &got{chain: chains[0].ChainPEM, key: key}
	if block, _ := pem.Decode(g.chain); block != nil {
		g.renew, _ = s.suggested(ctx, block.Bytes)
	}
	return g, nil
}

// suggested asks when the server wants a certificate renewed, and when it wants to be asked again.
// Zero times mean that it does not say.
func (s *server) suggested(ctx context.Context, der []byte) (renew, again time.Time) {
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return time.Time{}, time.Time{}
	}
	info, err := s.client(nil).GetRenewalInfo(ctx, leaf)
	if err != nil {
		return time.Time{}, time.Time{}
	}
	if info.RetryAfter != nil {
		again = *info.RetryAfter
	}
	return info.SelectedTime, again
}

func problemOf(err error) *acme.Problem {
	var p acme.Problem
	if errors.As(err, &p) {
		return &p
	}
	return nil
}
