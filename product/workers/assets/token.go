package assets

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"selvage/foundation/fault"
)

// tokenLife is how long a token is good for.
const tokenLife = time.Hour

// What a token is for.
const (
	forUpload   = "upload"
	forComplete = "complete"
)

// claims are what a token (a JSON Web Token, RFC 7519, signed by HS256) says.
type claims struct {
	Purpose  string `json:"purpose"`
	Account  string `json:"account_id"`
	Script   string `json:"script_name"`
	Manifest string `json:"manifest"` // digest of what the session announced
	ID       string `json:"jti"`      // of the session
	Issued   int64  `json:"iat"`      // seconds
	Expires  int64  `json:"exp"`      // seconds

	// wrangler reads these: it sends each file as it is, in a request of its own, so many at a time.
	Single     bool `json:"wrangler_single_asset_uploads,omitempty"`
	Concurrent int  `json:"edge_kv_upload_concurrency,omitempty"`
}

// concurrentUploads is how many files wrangler sends at a time: each waits for the disk.
const concurrentUploads = 16

var tokenHead = base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"HS256","typ":"JWT"}`))

// sign returns the token of claims, whose times it sets.
func (st *Store) sign(c claims) (string, error) {
	now := st.o.Clock.Now()
	c.Issued, c.Expires = now.Unix(), now.Add(tokenLife).Unix()
	if c.Purpose == forUpload {
		c.Single, c.Concurrent = true, concurrentUploads
	} else {
		c.Single, c.Concurrent = false, 0
	}
	body, err := json.Marshal(c)
	if err != nil {
		return "", err
	}
	signed := tokenHead + "." + base64.RawURLEncoding.EncodeToString(body)
	return signed + "." + base64.RawURLEncoding.EncodeToString(st.mac(signed)), nil
}

func (st *Store) mac(signed string) []byte {
	h := hmac.New(sha256.New, st.key)
	h.Write([]byte(signed))
	return h.Sum(nil)
}

// verify returns the claims of a token of this node that has not run out.
func (st *Store) verify(token, purpose string) (claims, error) {
	var c claims
	at := strings.LastIndexByte(token, '.')
	if at < 0 || !strings.HasPrefix(token, tokenHead+".") {
		return c, fault.New(fault.Unauthenticated, "The token of the asset upload is not valid. Use the jwt that the upload session answered.")
	}
	mac, err := base64.RawURLEncoding.DecodeString(token[at+1:])
	if err != nil || !hmac.Equal(mac, st.mac(token[:at])) {
		return c, fault.New(fault.Unauthenticated, "The token of the asset upload is not valid here. Use the jwt that the upload session answered.")
	}
	body, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(token[:at], tokenHead+"."))
	if err != nil {
		return c, fmt.Errorf("decode a token signed here: %w", err)
	}
	if err := json.Unmarshal(body, &c); err != nil {
		return c, fmt.Errorf("decode a token signed here: %w", err)
	}
	if st.o.Clock.Now().Unix() >= c.Expires {
		return c, fault.New(fault.Unauthenticated, "The token of the asset upload ran out after %v. Start another upload session; files already uploaded are not asked for again.", tokenLife)
	}
	if c.Purpose != purpose {
		if purpose == forComplete {
			return c, fault.New(fault.Invalid, "Not all assets are uploaded yet. Use the jwt that the last upload answered.").At("assets.jwt")
		}
		return c, fault.New(fault.Unauthenticated, "This token completes an upload; it does not upload. Use the jwt that the upload session answered.")
	}
	return c, nil
}

// openKey reads the key at path, or makes one. Two processes that start at once agree on one.
func openKey(path string) ([]byte, error) {
	key, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err := makeKey(path); err != nil {
			return nil, err
		}
		key, err = os.ReadFile(path)
	}
	if err == nil && len(key) != sha256.Size {
		err = fmt.Errorf("%s has %d bytes, not %d; remove it to have another one made", path, len(key), sha256.Size)
	}
	return key, err
}

func makeKey(path string) error {
	f, err := os.CreateTemp(filepath.Dir(path), "key-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	key := make([]byte, sha256.Size)
	rand.Read(key)
	_, err = f.Write(key)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Link(f.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncFolder(filepath.Dir(path))
}

func syncFolder(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}
