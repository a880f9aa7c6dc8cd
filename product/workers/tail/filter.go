package tail

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"

	"selvage/foundation/fault"
	"selvage/product"
)

// Limits of the filters of a session.
const (
	maxFilters = 50
	maxValues  = 100
)

// filter tells whether somebody wants a message.
type filter func(v *view) bool

// filterBody is a filter as the API gets it: an object with one of these.
type filterBody struct {
	SamplingRate *float64  `json:"sampling_rate"`
	Outcome      *[]string `json:"outcome"`
	Method       *[]string `json:"method"`
	Header       *struct {
		Key   string `json:"key"`
		Query string `json:"query"`
	} `json:"header"`
	ClientIP      *[]string `json:"client_ip"`
	Query         *string   `json:"query"`
	ScriptVersion *string   `json:"scriptVersion"`
}

// parseFilters reads filters; a message has to pass all of them. self is the address that stands for
// "self".
func parseFilters(raw []json.RawMessage, self netip.Addr) ([]filter, error) {
	if len(raw) > maxFilters {
		return nil, fault.New(fault.TooMuch, "A tail has %d filters, the limit is %d.", len(raw), maxFilters).At("filters")
	}
	var all []filter
	for i, r := range raw {
		at := fmt.Sprintf("filters[%d]", i)
		var b filterBody
		if err := product.DecodeJSON(r, &b); err != nil {
			if f := fault.All(err); len(f) > 0 {
				return nil, f[0].At(strings.TrimSuffix(at+"."+f[0].Field, "."))
			}
			return nil, err
		}
		parts, err := b.filters(self)
		if err != nil {
			return nil, err.At(at + err.Field)
		}
		if len(parts) == 0 {
			return nil, fault.New(fault.Invalid, "A filter is an object with sampling_rate, outcome, method, header, client_ip, query or scriptVersion.").At(at)
		}
		all = append(all, parts...)
	}
	return all, nil
}

func (b *filterBody) filters(self netip.Addr) ([]filter, *fault.Error) {
	var all []filter
	for _, list := range []*[]string{b.Outcome, b.Method, b.ClientIP} {
		if list != nil && len(*list) > maxValues {
			return nil, fault.New(fault.TooMuch, "A filter has %d values, the limit is %d.", len(*list), maxValues)
		}
	}
	if r := b.SamplingRate; r != nil {
		if *r <= 0 || *r > 1 {
			return nil, fault.New(fault.Invalid, "The sampling rate is %g; it has to be more than 0 and at most 1.", *r).At(".sampling_rate")
		}
		all = append(all, func(*view) bool { return rand.Float64() < *r })
	}
	if o := b.Outcome; o != nil {
		all = append(all, func(v *view) bool { return slices.Contains(*o, v.message.Outcome) })
	}
	if m := b.Method; m != nil {
		all = append(all, func(v *view) bool {
			return slices.ContainsFunc(*m, func(s string) bool { return strings.EqualFold(s, v.fetch().Method) })
		})
	}
	if h := b.Header; h != nil {
		if h.Key == "" {
			return nil, fault.New(fault.Invalid, "A header filter names the header.").At(".header.key")
		}
		key, query := strings.ToLower(h.Key), h.Query
		all = append(all, func(v *view) bool {
			value, ok := v.fetch().Headers[key]
			return ok && strings.Contains(value, query)
		})
	}
	if c := b.ClientIP; c != nil {
		f, err := clientFilter(*c, self)
		if err != nil {
			return nil, err
		}
		all = append(all, f)
	}
	if q := b.Query; q != nil {
		all = append(all, func(v *view) bool { return v.message.mentions(*q) })
	}
	if id := b.ScriptVersion; id != nil {
		all = append(all, func(v *view) bool { return v.message.ScriptVersion != nil && v.message.ScriptVersion.ID == *id })
	}
	return all, nil
}

func clientFilter(list []string, self netip.Addr) (filter, *fault.Error) {
	var wanted []netip.Addr
	for _, s := range list {
		a := self
		if s != "self" {
			var err error
			if a, err = netip.ParseAddr(s); err != nil {
				return nil, fault.New(fault.Invalid, "%.80q is no IP address; give one, or \"self\".", s).At(".client_ip")
			}
		}
		wanted = append(wanted, a.Unmap().WithZone(""))
	}
	return func(v *view) bool {
		a, err := netip.ParseAddr(v.fetch().Headers["cf-connecting-ip"])
		return err == nil && slices.Contains(wanted, a.Unmap())
	}, nil
}

// mentions tells whether text stands in what was logged or thrown.
func (m *message) mentions(text string) bool {
	for _, e := range m.Exceptions {
		if strings.Contains(e.Message, text) || strings.Contains(e.Name, text) {
			return true
		}
	}
	for _, l := range m.Logs {
		var args []any
		if json.Unmarshal(l.Message, &args) != nil {
			continue
		}
		for _, a := range args {
			s, isText := a.(string)
			if !isText {
				raw, _ := encode(a) // came from JSON
				s = string(raw)
			}
			if strings.Contains(s, text) {
				return true
			}
		}
	}
	return false
}
