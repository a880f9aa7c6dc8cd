package semantics

import (
	"strconv"
	"strings"
	"time"
)

// Status is one member of Cache-Status (RFC 9211), ours.
type Status struct {
	Hit       bool
	TTL       time.Duration // remaining freshness, with Hit; negative if stale
	Fwd       string        // why the request went on: bypass, method, uri-miss, vary-miss, stale, partial
	FwdStatus int           // of the response from further on; 0 leaves it out
	Stored    bool
	Collapsed bool
	Detail    string // a token; empty leaves it out
}

// String writes the member as cache sees it.
func (s Status) String() string {
	b := make([]byte, 0, 64)
	b = append(b, "selvage"...)
	if s.Hit {
		b = append(b, "; hit; ttl="...)
		b = strconv.AppendInt(b, int64(s.TTL/time.Second), 10)
	} else {
		b = append(b, "; fwd="...)
		b = append(b, s.Fwd...)
	}
	if s.FwdStatus != 0 {
		b = append(b, "; fwd-status="...)
		b = strconv.AppendInt(b, int64(s.FwdStatus), 10)
	}
	if s.Stored {
		b = append(b, "; stored"...)
	}
	if s.Collapsed {
		b = append(b, "; collapsed"...)
	}
	if s.Detail != "" {
		b = append(b, "; detail="...)
		b = append(b, strings.ReplaceAll(s.Detail, " ", "-")...)
	}
	return string(b)
}
