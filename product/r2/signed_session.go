package r2

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"selvage/foundation/fault"
	"selvage/product"
)

// signedSession is how session tokens begin that the holder of an API token signed himself, without
// asking anybody: base64 of "jwt/".
const signedSession = "and0L"

const maxSignedSession = 16 << 10 // bytes

// signedLocally opens such a session token: a JWT that is signed with the parent's secret access key.
// Source: developers.cloudflare.com/r2/api/s3/temporary-credentials.
func (p *R2) signedLocally(token string, parent *product.SigningKey) (*Session, error) {
	invalid := fault.New(fault.Unauthenticated, "The session token is not valid.")
	raw, err := base64.StdEncoding.DecodeString(token)
	if err != nil {
		raw, err = base64.RawURLEncoding.DecodeString(strings.TrimRight(token, "="))
	}
	jwt, ok := strings.CutPrefix(string(raw), "jwt/")
	parts := strings.Split(jwt, ".")
	if err != nil || !ok || len(parts) != 3 || len(jwt) > maxSignedSession {
		return nil, invalid
	}
	mac := hmac.New(sha256.New, []byte(parent.Secret))
	mac.Write([]byte(parts[0] + "." + parts[1]))
	claimed, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil || !hmac.Equal(mac.Sum(nil), claimed) {
		return nil, invalid
	}
	var head struct {
		Algorithm string `json:"alg"`
	}
	var body struct {
		Subject string   `json:"sub"` // account ID
		Issuer  string   `json:"iss"` // access key ID of the parent
		Bucket  string   `json:"bucket"`
		Scope   string   `json:"scope"`
		Actions []string `json:"actions"`
		Paths   struct {
			Prefixes []string `json:"prefixPaths"`
			Objects  []string `json:"objectPaths"`
		} `json:"paths"`
		Expires   float64 `json:"exp"`
		NotBefore float64 `json:"nbf"`
	}
	now := float64(p.o.Clock.Now().Unix())
	if !decodePart(parts[0], &head) || !decodePart(parts[1], &body) || head.Algorithm != "HS256" ||
		body.Expires <= now || body.Expires > now+maxTTL.Seconds() || body.NotBefore > now {
		return nil, invalid
	}
	if !slices.Contains(parent.Accounts, body.Subject) || body.Bucket == "" || body.Scope == "" && len(body.Actions) == 0 {
		return nil, invalid
	}
	secret := sha256.Sum256([]byte(jwt))
	return &Session{
		Parent: body.Issuer, Secret: hex.EncodeToString(secret[:]), AccountID: body.Subject, Bucket: body.Bucket, Permission: body.Scope, Actions: body.Actions,
		Prefixes: body.Paths.Prefixes, Objects: body.Paths.Objects, Expires: time.Unix(int64(body.Expires), 0).UTC(),
	}, nil
}

func decodePart(part string, v any) bool {
	raw, err := base64.RawURLEncoding.DecodeString(part)
	return err == nil && json.Unmarshal(raw, v) == nil
}
