package r2

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"

	"selvage/foundation/clock"
	"selvage/product"
)

// TestSignedSessions opens session tokens that the holder of a key signed himself, and refuses all that are not quite so.
func TestSignedSessions(t *testing.T) {
	now := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	p := &R2{o: Options{Clock: clock.Fixed(func() time.Time { return now })}}
	const account = "0123456789abcdef0123456789abcdef"
	parent := &product.SigningKey{Secret: "the parent's", Accounts: []string{account}}
	good := fmt.Sprintf(`{"sub":%q,"iss":"key","bucket":"b","scope":"object-read-only","paths":{"prefixPaths":["a/"],"objectPaths":["o"]},"exp":%d}`, account, now.Unix()+60)
	const hs256 = `{"alg":"HS256"}`
	part := base64.RawURLEncoding.EncodeToString
	jwt := func(secret, head, body string) string {
		text := part([]byte(head)) + "." + part([]byte(body))
		m := hmac.New(sha256.New, []byte(secret))
		m.Write([]byte(text))
		return text + "." + part(m.Sum(nil))
	}
	token := func(jwt string) string { return base64.StdEncoding.EncodeToString([]byte("jwt/" + jwt)) }
	signed := func(body string) string { return token(jwt(parent.Secret, hs256, body)) }
	claim := func(old, now string) string { return signed(strings.Replace(good, old, now, 1)) }
	whole := jwt(parent.Secret, hs256, good)
	for name, text := range map[string]string{"base64": token(whole), "base64 for URLs": part([]byte("jwt/" + whole)), "actions": claim(`"scope":"object-read-only"`, `"actions":["GetObject"]`)} {
		s, err := p.signedLocally(text, parent)
		if err != nil || s.Parent != "key" || s.AccountID != account || s.Bucket != "b" || s.Prefixes[0] != "a/" || s.Objects[0] != "o" || s.Expires.Unix() != now.Unix()+60 {
			t.Errorf("%s: %+v, %v", name, s, err)
		}
		if sum := sha256.Sum256([]byte(whole)); name != "actions" && err == nil && s.Secret != fmt.Sprintf("%x", sum) {
			t.Errorf("%s: the secret is %s", name, s.Secret)
		}
	}
	exp := func(seconds int64) string { return claim(fmt.Sprint(now.Unix()+60), fmt.Sprint(now.Unix()+seconds)) }
	for name, text := range map[string]string{
		"nothing": "", "no base64": "and0L!", "no JWT": token("x"), "two parts": token(whole[:strings.LastIndex(whole, ".")]), "four parts": token(whole + ".x"),
		"another secret": token(jwt("another's", hs256, good)), "no secret": token(jwt("", hs256, good)), "another algorithm": token(jwt(parent.Secret, `{"alg":"HS512"}`, good)),
		"no algorithm": token(jwt(parent.Secret, `{"alg":"none"}`, good)), "not signed": token(whole[:strings.LastIndex(whole, ".")+1]),
		"altered": token(strings.Replace(whole, part([]byte(good)), part([]byte(strings.Replace(good, "read-only", "read-write", 1))), 1)),
		"over":    exp(0), "for more than a week": exp(7*24*3600 + 1), "for ever": claim(fmt.Sprintf(`,"exp":%d`, now.Unix()+60), ""), "not a time": claim(fmt.Sprint(now.Unix()+60), `"soon"`),
		"not yet": claim(`"exp"`, fmt.Sprintf(`"nbf":%d,"exp"`, now.Unix()+1)), "another account": claim(account, strings.Repeat("f", 32)), "no account": claim(account, ""),
		"no bucket": claim(`"bucket":"b"`, `"bucket":""`), "no rights": claim(`"scope":"object-read-only",`, ""), "no object": signed(`[]`), "too long": claim(`"b"`, `"`+strings.Repeat("b", 20<<10)+`"`),
	} {
		if s, err := p.signedLocally(text, parent); err == nil {
			t.Errorf("%s is good: %+v", name, s)
		}
	}
}
