package api

import (
	"context"
	"time"

	"selvage/foundation/clock"
	"selvage/product"
	"selvage/spec"
)

// Owner is what a node has after its first start.
type Owner struct {
	AccountID string
	UserID    string
	Secret    string // of a new token with all rights; empty if none was made. It cannot be shown again
}

// Bootstrap makes sure that there is an account, a user who is its member, and, if needToken, a
// fresh token of that user with all rights, replacing the one a Bootstrap made before. The node
// calls it before New, with needToken when its token file is missing: then a crash between this and
// writing the file heals at the next start.
func Bootstrap(ctx context.Context, state product.State, c clock.Clock, needToken bool) (Owner, error) {
	var o Owner
	now := spec.Timestamp(c.Now())
	err := state.Update(ctx, spec.Actor{Via: "node"}, func(tx product.Tx) error {
		user, err := firstUser(tx)
		if err != nil {
			return err
		}
		if user == nil {
			user = &spec.User{ID: spec.NewID(), Email: "owner@selvage.internal", CreatedOn: now}
			account := &spec.Account{ID: spec.NewID(), Name: "Selvage", Type: "standard", CreatedOn: now}
			user.Accounts = []string{account.ID}
			if err := tx.Put(account); err != nil {
				return err
			}
			if err := tx.Put(user); err != nil {
				return err
			}
			needToken = true
		}
		o = Owner{UserID: user.ID}
		if len(user.Accounts) > 0 {
			o.AccountID = user.Accounts[0]
		}
		if !needToken {
			return nil
		}
		o.Secret = newSecret()
		return tx.Put(rootToken(user, o.Secret, now))
	})
	return o, err
}

func firstUser(tx product.Tx) (*spec.User, error) {
	var first *spec.User
	for n, err := range tx.List(spec.KindUser, "") {
		if err != nil {
			return nil, err
		}
		if u := n.(*spec.User); first == nil || u.CreatedOn.Before(first.CreatedOn) {
			first = u
		}
	}
	return first, nil
}

// rootToken has the user's own ID, so that there is one at most.
func rootToken(user *spec.User, secret string, now time.Time) *spec.Token {
	all := newGroups(nil, nil).byPermission[everything]
	return &spec.Token{
		ID: user.ID, UserID: user.ID, Name: "node owner", Hash: hashToken(secret), Status: "active",
		Policies: []spec.TokenPolicy{{
			ID: user.ID, Effect: "allow", Groups: []string{all.ID},
			Resources: map[string]any{scopeAccount + ".*": "*", scopeZone + ".*": "*", scopeUser + "." + user.ID: "*"},
		}},
		IssuedOn: now, ModifiedOn: now,
	}
}
