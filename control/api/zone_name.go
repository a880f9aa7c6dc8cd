package api

import (
	"net/netip"
	"strings"

	"golang.org/x/net/idna"
	"golang.org/x/net/publicsuffix"

	"selvage/foundation/fault"
	"selvage/spec"
)

// toASCII is how domain names are registered: mapped, A-labels, only letters, digits and hyphens.
var toASCII = idna.New(idna.MapForLookup(), idna.BidiRule(), idna.StrictDomainName(true), idna.VerifyDNSLength(true))

// zoneName returns the name of a zone as it is stored, in A-labels.
func (a *API) zoneName(in string) (string, error) {
	bad := func(why string) error {
		return fault.New(fault.Invalid, "%.100q is not a domain name that can be a zone: %s.", in, why).WithCode(1049).At("name")
	}
	if in == "" {
		return "", bad("it is empty")
	}
	if len(in) > 4*253 {
		return "", bad("it is longer than 253 octets")
	}
	name, err := toASCII.ToASCII(strings.TrimSuffix(in, "."))
	if err != nil {
		return "", bad(err.Error())
	}
	if err := spec.CheckHostname(name); err != nil {
		return "", bad(err.Error())
	}
	if strings.HasPrefix(name, "*.") {
		return "", bad("it is a wildcard")
	}
	if _, err := netip.ParseAddr(name); err == nil {
		return "", bad("it is an address")
	}
	if a.o.AllowPublicSuffixes {
		return name, nil
	}
	if !strings.Contains(name, ".") {
		return "", bad("it is a top-level domain")
	}
	if suffix, icann := publicsuffix.PublicSuffix(name); icann && suffix == name {
		return "", bad("it is a public suffix, under which others register names")
	}
	return name, nil
}
