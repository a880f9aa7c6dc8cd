package outbound

import (
	"context"
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"selvage/edge"
	"selvage/edge/socket"
)

// cfOptions are the cf options of fetch() that concern the cache; others are ignored.
type cfOptions struct {
	CacheTTL         *float64           `json:"cacheTtl"`
	CacheTTLByStatus map[string]float64 `json:"cacheTtlByStatus"`
	CacheEverything  bool               `json:"cacheEverything"`
	CacheKey         string             `json:"cacheKey"`
	CacheTags        []string           `json:"cacheTags"`
	CacheControl     string             `json:"cacheControl"` // what the runtime makes of the others, and of cache: "no-store"
}

// maxTTL is the longest lifetime that can be asked for: a year.
const maxTTL = 365 * 24 * time.Hour

// wishOf reads the cf object that came with a request; nil if it asks nothing of the cache. The
// object of an incoming request, which is passed on with it, has other members.
func wishOf(ctx context.Context) *edge.CacheWish {
	blob := socket.CF(ctx)
	if !strings.Contains(blob, `"cache`) {
		return nil
	}
	var in cfOptions
	if json.Unmarshal([]byte(blob), &in) != nil {
		return nil
	}
	w := &edge.CacheWish{Everything: in.CacheEverything, Key: in.CacheKey, Tags: in.CacheTags}
	switch {
	case in.CacheTTL != nil && *in.CacheTTL < 0, in.CacheTTL == nil && strings.Contains(in.CacheControl, "no-store"):
		w.Never = true
	case in.CacheTTL != nil:
		w.Forced, w.TTL, w.Everything = true, seconds(*in.CacheTTL), true
	}
	for codes, ttl := range in.CacheTTLByStatus {
		from, to, ok := statusRange(codes)
		if !ok {
			continue
		}
		w.ByStatus = append(w.ByStatus, edge.StatusTTL{From: from, To: to, TTL: seconds(ttl)})
		w.Everything = true
	}
	if !w.Everything && !w.Never && w.Key == "" && len(w.Tags) == 0 {
		return nil
	}
	return w
}

func seconds(n float64) time.Duration {
	if n < 0 {
		return -1
	}
	return time.Duration(min(n, maxTTL.Seconds()) * float64(time.Second))
}

// statusRange reads "404" and "200-299".
func statusRange(s string) (from, to int, ok bool) {
	a, b, ranged := strings.Cut(s, "-")
	if !ranged {
		b = a
	}
	from, err1 := strconv.Atoi(strings.TrimSpace(a))
	to, err2 := strconv.Atoi(strings.TrimSpace(b))
	return from, to, err1 == nil && err2 == nil && from <= to && from >= 100 && to <= 599
}
