package pgwire

import (
	"bytes"
	"crypto/hmac"
	"crypto/md5"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/text/unicode/norm"
)

// mechanism is the one that both sides speak (RFC 7677). Channel binding is not offered.
const mechanism = "SCRAM-SHA-256"

// scramRounds is how often a Verifier hashes: what RFC 7677 asks at least, and some clients insist on.
const scramRounds = 4096

var errScram = errors.New("the SCRAM exchange does not follow RFC 5802")

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

func xor(a, b []byte) []byte {
	out := make([]byte, len(a))
	for i := range a {
		out[i] = a[i] ^ b[i]
	}
	return out
}

// prepared is SASLprep (RFC 4013) as far as passwords need it.
func prepared(password string) string {
	for i := range len(password) {
		if password[i] >= 0x80 {
			return norm.NFKC.String(password)
		}
	}
	return password
}

func nonce() string {
	b := make([]byte, 18)
	rand.Read(b) // never fails
	return base64.StdEncoding.EncodeToString(b)
}

// attributes takes a SCRAM message apart.
func attributes(msg string) map[byte]string {
	m := map[byte]string{}
	for part := range strings.SplitSeq(msg, ",") {
		if len(part) >= 2 && part[1] == '=' {
			m[part[0]] = part[2:]
		}
	}
	return m
}

// scramClient is the client's side of one exchange.
type scramClient struct {
	password    string
	bare, nonce string
	signature   []byte // that the server has to give
}

func (c *scramClient) first() string {
	c.nonce = nonce()
	c.bare = "n=,r=" + c.nonce
	return "n,," + c.bare
}

// final answers the server's first message.
func (c *scramClient) final(server string) (string, error) {
	a := attributes(server)
	salt, err := base64.StdEncoding.DecodeString(a['s'])
	rounds, badRounds := strconv.Atoi(a['i'])
	if err != nil || badRounds != nil || rounds < 1 || rounds > 10_000_000 || !strings.HasPrefix(a['r'], c.nonce) || len(a['r']) == len(c.nonce) {
		return "", errScram
	}
	salted, err := pbkdf2.Key(sha256.New, prepared(c.password), salt, rounds, sha256.Size)
	if err != nil {
		return "", err
	}
	key := mac(salted, "Client Key")
	stored := sha256.Sum256(key)
	without := "c=biws,r=" + a['r']
	auth := c.bare + "," + server + "," + without
	c.signature = mac(mac(salted, "Server Key"), auth)
	return without + ",p=" + base64.StdEncoding.EncodeToString(xor(key, mac(stored[:], auth))), nil
}

// verify checks that the server knew the password, too.
func (c *scramClient) verify(server string) error {
	got, err := base64.StdEncoding.DecodeString(attributes(server)['v'])
	if err != nil || c.signature == nil || subtle.ConstantTimeCompare(got, c.signature) != 1 {
		return errors.New("the server could not prove that it knows the password")
	}
	return nil
}

// Verifier is what a server keeps to recognise a password.
type Verifier struct {
	salt           []byte
	stored, server []byte
}

// NewVerifier hashes a password; that takes about a millisecond.
func NewVerifier(password string) *Verifier {
	v := &Verifier{salt: make([]byte, 16)}
	rand.Read(v.salt)
	salted, err := pbkdf2.Key(sha256.New, prepared(password), v.salt, scramRounds, sha256.Size)
	if err != nil { // only for bad parameters
		panic(err)
	}
	stored := sha256.Sum256(mac(salted, "Client Key"))
	v.stored, v.server = stored[:], mac(salted, "Server Key")
	return v
}

// scramServer is the server's side of one exchange.
type scramServer struct {
	v           *Verifier
	bare, first string
	nonce       string
	binding     string // GS2 head
}

// answer takes the client's first message.
func (s *scramServer) answer(client string) (string, error) {
	parts := strings.SplitN(client, ",", 3)
	if len(parts) != 3 || parts[0] != "n" && parts[0] != "y" || len(client) > 1024 {
		return "", errScram
	}
	s.binding, s.bare = parts[0]+","+parts[1]+",", parts[2]
	r := attributes(s.bare)['r']
	if r == "" {
		return "", errScram
	}
	s.nonce = r + nonce()
	s.first = fmt.Sprintf("r=%s,s=%s,i=%d", s.nonce, base64.StdEncoding.EncodeToString(s.v.salt), scramRounds)
	return s.first, nil
}

// finish takes the client's final message; ok tells whether the password is right.
func (s *scramServer) finish(client string) (answer string, ok bool) {
	without, _, found := strings.Cut(client, ",p=")
	a := attributes(client)
	proof, err := base64.StdEncoding.DecodeString(a['p'])
	if !found || err != nil || len(proof) != sha256.Size || a['r'] != s.nonce || a['c'] != base64.StdEncoding.EncodeToString([]byte(s.binding)) {
		return "", false
	}
	auth := s.bare + "," + s.first + "," + without
	key := sha256.Sum256(xor(proof, mac(s.v.stored, auth)))
	if !hmac.Equal(key[:], s.v.stored) {
		return "", false
	}
	return "v=" + base64.StdEncoding.EncodeToString(mac(s.v.server, auth)), true
}

// md5Password is the answer to AuthenticationMD5Password.
func md5Password(user, password string, salt []byte) string {
	inner := md5.Sum([]byte(password + user))
	outer := md5.Sum(bytes.Join([][]byte{[]byte(hex.EncodeToString(inner[:])), salt}, nil))
	return "md5" + hex.EncodeToString(outer[:])
}
