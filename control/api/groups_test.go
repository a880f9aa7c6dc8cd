package api_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net/netip"
	"testing"

	"selvage/product"
)

// TestBucketRights: policies name one bucket or all of an account, as Cloudflare documents it for R2.
func TestBucketRights(t *testing.T) {
	read, write := product.Permission{Group: "Workers R2 Storage Bucket Item"}, product.Permission{Group: "Workers R2 Storage Bucket Item", Write: true}
	s := newSite(t)
	account := s.owner.AccountID
	for _, tt := range []struct {
		resources           string
		one, other, account bool
	}{
		{`{"com.cloudflare.edge.r2.bucket.` + account + `_default_photos":"*"}`, true, false, false},
		{`{"com.cloudflare.api.account.` + account + `":{"com.cloudflare.edge.r2.bucket.*":"*"}}`, true, true, false},
		{`{"com.cloudflare.api.account.` + account + `":"*"}`, true, true, true},
	} {
		id, _ := s.token("/user/tokens", "", s.policy("allow", tt.resources, "Workers R2 Storage Bucket Item Read"))
		k, err := s.SigningKey(id, netip.MustParseAddr("127.0.0.1"))
		if err != nil {
			t.Fatal(err)
		}
		for bucket, want := range map[string]bool{"photos": tt.one, "other": tt.other, "": tt.account} {
			if got := k.Allowed(read, account, bucket); got != want {
				t.Errorf("%s: reading %q is allowed: %v, want %v", tt.resources, bucket, got, want)
			}
			if k.Allowed(write, account, bucket) {
				t.Errorf("%s: writing %q is allowed", tt.resources, bucket)
			}
		}
	}
}

// TestGroupIDs: scripts name groups by Cloudflare's IDs, and tokens made before this node knew one by
// its own.
func TestGroupIDs(t *testing.T) {
	s := newSite(t, product.Route{
		Method: "GET", Path: "/accounts/{account_id}/hyperdrive/configs", Permission: product.Permission{Group: "Hyperdrive"}, Summary: "List.",
		Handle: func(context.Context, *product.Call) (product.Reply, error) { return product.Reply{}, nil },
	})
	if id := s.idOf("Hyperdrive Read"); id != "4d62ccf834df44808bc9283d65c4e4e9" {
		t.Errorf("the ID of Hyperdrive Read is %s", id)
	}
	sum := sha256.Sum256([]byte("permission group Hyperdrive Read"))
	for _, id := range []string{"4d62ccf834df44808bc9283d65c4e4e9", hex.EncodeToString(sum[:16])} {
		_, secret := s.token("/user/tokens", "", `{"effect":"allow","resources":{"com.cloudflare.api.account.*":"*"},"permission_groups":[{"id":"`+id+`"}]}`)
		if g := s.as(secret, "GET", "/accounts/"+s.owner.AccountID+"/hyperdrive/configs", ""); g.Status != 200 {
			t.Errorf("a token of the group %s = %d %s", id, g.Status, g.Body)
		}
	}
}
