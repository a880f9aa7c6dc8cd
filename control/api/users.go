package api

import (
	"context"
	"time"

	"selvage/foundation/fault"
	"selvage/product"
	"selvage/spec"
)

func (a *API) userRoutes() []entry {
	details := product.Permission{Group: "User Details"}
	memberships := product.Permission{Group: "Memberships"}
	return asEntries([]product.Route{
		{Method: "GET", Path: "/user", Permission: details, Summary: "Show who you are.", Handle: a.getUser},
		{Method: "PATCH", Path: "/user", Permission: product.Permission{Group: "User Details", Write: true}, Summary: "Change your names and contact.", Handle: a.editUser},
		{Method: "GET", Path: "/memberships", Permission: memberships, Summary: "List the accounts you are a member of.", Handle: a.listMemberships},
		{Method: "GET", Path: "/memberships/{membership_id}", Permission: memberships, Summary: "Show one membership.", Handle: a.getMembership},
	})
}

// userView is a user as the API shows it.
type userView struct {
	ID                 string    `json:"id"`
	Email              string    `json:"email"`
	Username           string    `json:"username"`
	FirstName          *string   `json:"first_name"`
	LastName           *string   `json:"last_name"`
	Telephone          *string   `json:"telephone"`
	Country            *string   `json:"country"`
	Zipcode            *string   `json:"zipcode"`
	TwoFactorEnabled   bool      `json:"two_factor_authentication_enabled"`
	TwoFactorLocked    bool      `json:"two_factor_authentication_locked"`
	CreatedOn          time.Time `json:"created_on"`
	ModifiedOn         time.Time `json:"modified_on"`
	Organizations      []string  `json:"organizations"`
	HasProZones        bool      `json:"has_pro_zones"`
	HasBusinessZones   bool      `json:"has_business_zones"`
	HasEnterpriseZones bool      `json:"has_enterprise_zones"`
	Suspended          bool      `json:"suspended"`
	Betas              []string  `json:"betas"`
}

// viewUser shows a user. Nobody logs in here with a password, so there is no second factor either.
func viewUser(u *spec.User) userView {
	v := userView{ID: u.ID, Email: u.Email, Username: u.ID, CreatedOn: u.CreatedOn, ModifiedOn: u.CreatedOn, Organizations: []string{}, Betas: []string{}}
	if !u.ModifiedOn.IsZero() {
		v.ModifiedOn = u.ModifiedOn
	}
	for _, f := range []struct {
		from string
		to   **string
	}{{u.FirstName, &v.FirstName}, {u.LastName, &v.LastName}, {u.Telephone, &v.Telephone}, {u.Country, &v.Country}, {u.Zipcode, &v.Zipcode}} {
		if f.from != "" {
			*f.to = &f.from
		}
	}
	return v
}

// caller returns the user whose token asks.
func (a *API) caller(c *product.Call) (*spec.User, error) {
	u := a.keys.user(c.Actor.UserID)
	if u == nil {
		return nil, refuse(403, 9109, "Unauthorized to access requested resource: the token belongs to an account, not to a user.")
	}
	return u, nil
}

func (a *API) getUser(_ context.Context, c *product.Call) (product.Reply, error) {
	u, err := a.caller(c)
	if err != nil {
		return product.Reply{}, err
	}
	return product.Reply{Result: viewUser(u)}, nil
}

func (a *API) editUser(ctx context.Context, c *product.Call) (product.Reply, error) {
	var in struct {
		FirstName *string `json:"first_name"`
		LastName  *string `json:"last_name"`
		Telephone *string `json:"telephone"`
		Country   *string `json:"country"`
		Zipcode   *string `json:"zipcode"`
	}
	if err := c.Decode(&in); err != nil {
		return product.Reply{}, err
	}
	u, err := a.caller(c)
	if err != nil {
		return product.Reply{}, err
	}
	err = a.changeUser(ctx, c, u.ID, func(u *spec.User) error {
		for _, f := range []struct {
			name string
			from *string
			to   *string
		}{
			{"first_name", in.FirstName, &u.FirstName}, {"last_name", in.LastName, &u.LastName},
			{"telephone", in.Telephone, &u.Telephone}, {"country", in.Country, &u.Country}, {"zipcode", in.Zipcode, &u.Zipcode},
		} {
			if f.from == nil {
				continue
			}
			if len(*f.from) > 60 {
				return fault.New(fault.Invalid, "%s has %d characters, the limit is 60.", f.name, len(*f.from)).At(f.name)
			}
			*f.to = *f.from
		}
		return nil
	})
	if err != nil {
		return product.Reply{}, err
	}
	return product.Reply{Result: viewUser(a.keys.user(u.ID))}, nil
}

// changeUser runs change on a copy of the user and stores it.
func (a *API) changeUser(ctx context.Context, c *product.Call, id string, change func(u *spec.User) error) error {
	return a.keys.edit(ctx, a.o.State, c.Actor, func(tx product.Tx) error {
		n, err := tx.Get(spec.Key{Kind: spec.KindUser, ID: id})
		if err != nil {
			return err
		}
		old, ok := n.(*spec.User)
		if !ok {
			return fault.New(fault.NotFound, "The user is gone.")
		}
		u := *old
		u.ModifiedOn = spec.Timestamp(a.o.Clock.Now())
		if err := change(&u); err != nil {
			return err
		}
		return tx.Put(&u)
	})
}
