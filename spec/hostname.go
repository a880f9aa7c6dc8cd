package spec

import (
	"errors"
	"strings"
)

// CheckHostname reports why name cannot be a zone or host name: lower case A-labels of letters,
// digits, hyphens and underscores, 63 octets each, 253 in all (RFC 1035, 2.3.4), no trailing dot.
// A first label of "*" is a wildcard and allowed (RFC 4592).
func CheckHostname(name string) error {
	if name == "" {
		return errors.New("it is empty")
	}
	if len(name) > 253 {
		return errors.New("it is longer than 253 octets")
	}
	for i, label := range strings.Split(name, ".") {
		if label == "*" && i == 0 {
			continue
		}
		if err := checkLabel(label); err != nil {
			return err
		}
	}
	return nil
}

func checkLabel(label string) error {
	if label == "" {
		return errors.New("it has an empty label")
	}
	if len(label) > 63 {
		return errors.New("label " + label[:16] + "... is longer than 63 octets")
	}
	if label[0] == '-' || label[len(label)-1] == '-' {
		return errors.New("label " + label + " begins or ends with a hyphen")
	}
	for i := range len(label) {
		c := label[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return errors.New("label " + label + " has a character other than a-z, 0-9, - and _")
		}
	}
	return nil
}

// InZone tells whether name is zone itself or below it. Both lower case without trailing dot.
func InZone(name, zone string) bool {
	return name == zone || strings.HasSuffix(name, "."+zone)
}
