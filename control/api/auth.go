package api

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"selvage/product"
	"selvage/spec"
)

// hashToken returns what is stored of a token's secret.
func hashToken(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}

// admit authenticates the caller and checks the route's permission on the zone or account that the
// path names. What the token cannot see does not exist for it.
func (a *API) admit(x *exchange, r *http.Request, c *product.Call) error {
	k, err := a.authenticate(x, r)
	if err != nil {
		return verifyAnswer(x.route, err)
	}
	x.key = k
	c.Actor = k.actor(x.client)
	snap := a.o.State.Snapshot()
	if id, ok := c.Params["zone_id"]; ok {
		z := snap.Zones[id]
		if z == nil || !k.sees(scope{account: z.Zone.AccountID, zone: id}) {
			return noRoute(r)
		}
		x.zone, c.Zone, c.Account = z, z, snap.Accounts[z.Zone.AccountID]
	}
	if id, ok := c.Params["account_id"]; ok {
		c.Account = snap.Accounts[id]
		if c.Account == nil || !k.sees(scope{account: id}) {
			return noRoute(r)
		}
	}
	c.Allowed = func(p product.Permission, accountID, zoneID string) bool {
		if z := snap.Zones[zoneID]; z != nil && accountID == "" {
			accountID = z.Zone.AccountID
		}
		return k.allows(p, a.groups.scope(p, scope{account: accountID, zone: zoneID}))
	}
	return a.permit(k, x.route, c)
}

// permit checks the route's permission on what the path names.
func (a *API) permit(k *key, e *entry, c *product.Call) error {
	p := e.Permission
	var s scope
	where := ""
	if c.Account != nil {
		s.account, where = c.Account.ID, " on this account"
	}
	if c.Zone != nil {
		s.zone, where = c.Zone.Zone.ID, " on this zone"
	}
	if k.allows(p, a.groups.scope(p, s)) && !k.barredFromBucket(e, c) {
		return nil
	}
	name := a.groups.byPermission[p].Name
	if where == "" {
		return refuse(http.StatusForbidden, 9109, "Unauthorized to access requested resource: the token lacks the permission %s.", name)
	}
	return refuse(http.StatusForbidden, 10000, "Authentication error: the token lacks the permission %s%s.", name, where)
}

// authenticate finds the token that the request carries and checks that it may be used here and now.
func (a *API) authenticate(x *exchange, r *http.Request) (*key, error) {
	secret, err := bearer(r.Header)
	if err != nil {
		return nil, err
	}
	now := a.o.Clock.Now()
	hash := hashToken(secret)
	k := a.keys.byHash(hash)
	if k == nil || subtle.ConstantTimeCompare([]byte(k.token.Hash), []byte(hash)) != 1 {
		a.metrics.refused.Inc()
		if wait := a.guard.failed(x.client, now); wait > 0 {
			ref := refuse(http.StatusTooManyRequests, 971, "Too many requests with tokens that do not exist came from your address; wait before the next.")
			ref.retryAfter = wait
			return nil, ref
		}
		return nil, refuse(http.StatusForbidden, 9109, "Invalid access token")
	}
	if err := k.usable(now, x.client); err != nil {
		return nil, err
	}
	k.used.Store(now.Unix())
	return k, nil
}

// bearer returns the token in the Authorization field.
func bearer(h http.Header) (string, error) {
	values := h.Values("Authorization")
	if len(values) == 0 {
		if h.Get("X-Auth-Key") != "" || h.Get("X-Auth-Email") != "" {
			return "", badHeaders(6103, "X-Auth-Email and X-Auth-Key are not supported here: create an API token and send it as Authorization: Bearer <token>.")
		}
		return "", refuse(http.StatusBadRequest, 9106, "Missing Authorization header: send Authorization: Bearer <API token>.")
	}
	scheme, token, ok := strings.Cut(values[0], " ")
	token = strings.TrimSpace(token)
	if len(values) > 1 || !ok || !strings.EqualFold(scheme, "Bearer") || !tokenLike(token) {
		return "", badHeaders(6111, "Invalid format for Authorization header")
	}
	return token, nil
}

func badHeaders(code int, message string) error {
	ref := refuse(http.StatusBadRequest, 6003, "Invalid request headers")
	ref.failure.Chain = []product.Message{{Code: code, Message: message}}
	return ref
}

func tokenLike(s string) bool {
	if len(s) < 20 || len(s) > 200 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && c != '_' && c != '-' {
			return false
		}
	}
	return true
}

// verifyAnswer gives the operations that verify a token the answer that Cloudflare's give: 401 with
// code 1000 for any token that does not work.
func verifyAnswer(e *entry, err error) error {
	var ref *refusal
	if !strings.HasSuffix(e.Path, "/tokens/verify") || !errors.As(err, &ref) || ref.status != http.StatusForbidden {
		return err
	}
	return refuse(http.StatusUnauthorized, 1000, "Invalid API Token")
}

// usable tells why a token that exists cannot be used now from this address. Whoever asks has its
// secret, so the reason gives nothing away.
func (k *key) usable(now time.Time, from netip.Addr) error {
	t := k.token
	switch {
	case t.Status != "active":
		return refuse(http.StatusForbidden, 9109, "Invalid access token: it is disabled.")
	case !t.ExpiresOn.IsZero() && !now.Before(t.ExpiresOn):
		return refuse(http.StatusForbidden, 9109, "Invalid access token: it expired on %s.", t.ExpiresOn.Format(time.RFC3339))
	case now.Before(t.NotBefore):
		return refuse(http.StatusForbidden, 9109, "Invalid access token: it is not valid before %s.", t.NotBefore.Format(time.RFC3339))
	}
	contains := func(p netip.Prefix) bool { return p.Contains(from) }
	if len(k.allow) > 0 && !slices.ContainsFunc(k.allow, contains) || slices.ContainsFunc(k.deny, contains) {
		return refuse(http.StatusForbidden, 9109, "Cannot use the access token from location: %s", from)
	}
	return nil
}

// actor is how the audit log names the caller.
func (k *key) actor(from netip.Addr) spec.Actor {
	actor := spec.Actor{TokenID: k.token.ID, IP: from, Via: "api"}
	if k.user != nil {
		actor.UserID, actor.Email = k.user.ID, k.user.Email
	}
	return actor
}
