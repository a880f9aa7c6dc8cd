package node

import (
	"fmt"
	"net/netip"

	"github.com/oschwald/maxminddb-golang/v2"
)

// countries says from which country a client is, by a database that the operator brings. Without one
// it knows none.
type countries struct{ db *maxminddb.Reader }

func openCountries(path string) (*countries, error) {
	if path == "" {
		return &countries{}, nil
	}
	db, err := maxminddb.Open(path)
	if err != nil {
		return nil, fmt.Errorf("geoip: open the country database: %w", err)
	}
	return &countries{db}, nil
}

// of returns the two letters of a client's country, or nothing if it is not known.
func (c *countries) of(client netip.Addr) string {
	if c.db == nil {
		return ""
	}
	var code string
	if c.db.Lookup(client).DecodePath(&code, "country", "iso_code") != nil {
		return ""
	}
	return code
}
