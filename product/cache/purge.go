package cache

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"selvage/edge"
	"selvage/foundation/fault"
	"selvage/product"
	"selvage/product/cache/storage"
	"selvage/spec"
)

const (
	// maxPurge is the most things that one call purges.
	maxPurge = 500

	maxTags     = 1000     // of one response; more are ignored
	maxTagBytes = 16 << 10 // of all Cache-Tag fields of one response; what is beyond is ignored
	maxTagLen   = 1024

	// codePurge is the v4 API's number for a purge that does not say what.
	codePurge = 1012
)

// Routes returns the purge operation.
func (c *Cache) Routes() []product.Route {
	return []product.Route{{
		Method: "POST", Path: "/zones/{zone_id}/purge_cache",
		Permission: product.Permission{Group: "Cache Purge", Write: true},
		Summary:    "Purge cached content: everything, or by URL, tag, host or prefix.",
		MaxBody:    4 << 20,
		Handle:     c.purge,
	}}
}

type purgeRequest struct {
	Everything *bool             `json:"purge_everything"`
	Files      []json.RawMessage `json:"files"`
	Tags       []string          `json:"tags"`
	Hosts      []string          `json:"hosts"`
	Prefixes   []string          `json:"prefixes"`
}

// purgeFile is a URL with the request fields that its cache key depends on.
type purgeFile struct {
	URL     string            `json:"url"`
	Headers map[string]string `json:"headers"`
}

func (c *Cache) purge(ctx context.Context, call *product.Call) (product.Reply, error) {
	began := time.Now()
	var in purgeRequest
	if err := call.Decode(&in); err != nil {
		return product.Reply{}, err
	}
	list, err := c.purgeList(call.Zone, &in)
	if err != nil {
		return product.Reply{}, err
	}
	if err := c.store.Purge(list); err != nil {
		return product.Reply{}, err
	}
	for _, p := range list {
		c.metrics.purges.WithLabelValues(string(p.Kind)).Inc()
	}
	c.metrics.purgeTime.Observe(time.Since(began).Seconds())
	return product.Reply{Result: map[string]string{"id": call.Zone.Zone.ID}}, nil
}

func (c *Cache) purgeList(z *spec.ZoneConfig, in *purgeRequest) ([]storage.Purge, error) {
	kinds := 0
	for _, given := range []bool{in.Everything != nil, in.Files != nil, in.Tags != nil, in.Hosts != nil, in.Prefixes != nil} {
		if given {
			kinds++
		}
	}
	if kinds != 1 {
		return nil, fault.New(fault.Invalid, "Request must contain exactly one of \"purge_everything\", \"files\", \"tags\", \"hosts\" or \"prefixes\"; it has %d of them.", kinds).WithCode(codePurge)
	}
	if in.Everything != nil {
		if !*in.Everything {
			return nil, fault.New(fault.Invalid, "purge_everything is false: nothing is asked for. Send true, or name what to purge.").At("purge_everything").WithCode(codePurge)
		}
		return []storage.Purge{{Kind: storage.PurgeZone, Zone: z.Zone.ID}}, nil
	}
	if in.Files != nil {
		return c.purgeFiles(z, in.Files)
	}
	if in.Tags != nil {
		return purgeEach(z, "tags", in.Tags, storage.PurgeTag, checkTag)
	}
	if in.Hosts != nil {
		return purgeEach(z, "hosts", in.Hosts, storage.PurgeHost, checkHost)
	}
	return purgeEach(z, "prefixes", in.Prefixes, storage.PurgePrefix, checkPrefix)
}

// countOf checks how many things a call names.
func countOf(field string, n int) error {
	if n == 0 {
		return fault.New(fault.Invalid, "%s is empty; name what to purge.", field).At(field).WithCode(codePurge)
	}
	if n > maxPurge {
		return fault.New(fault.TooMuch, "%s has %d entries, the limit is %d a call.", field, n, maxPurge).At(field)
	}
	return nil
}

func purgeEach(z *spec.ZoneConfig, field string, values []string, kind storage.PurgeKind, check func(z *spec.Zone, v string) (string, error)) ([]storage.Purge, error) {
	if err := countOf(field, len(values)); err != nil {
		return nil, err
	}
	var list []storage.Purge
	var faults []error
	for i, v := range values {
		v, err := check(z.Zone, v)
		if err != nil {
			faults = append(faults, under(fmt.Sprintf("%s[%d]", field, i), err))
			continue
		}
		list = append(list, storage.Purge{Kind: kind, Zone: z.Zone.ID, Value: v})
	}
	return list, errors.Join(faults...)
}

func checkTag(_ *spec.Zone, v string) (string, error) {
	if v == "" || len(v) > maxTagLen || strings.ContainsFunc(v, func(r rune) bool { return r <= ' ' || r > '~' || r == ',' }) {
		return "", fault.New(fault.Invalid, "A tag has 1 to %d printable ASCII characters without spaces and commas.", maxTagLen)
	}
	return strings.ToLower(v), nil
}

func checkHost(z *spec.Zone, v string) (string, error) {
	host := strings.TrimSuffix(strings.ToLower(v), ".")
	if host != z.Name && !strings.HasSuffix(host, "."+z.Name) {
		return "", fault.New(fault.Invalid, "Host %.100q is not in the zone %s.", v, z.Name)
	}
	return host, nil
}

func checkPrefix(z *spec.Zone, v string) (string, error) {
	if strings.Contains(v, "://") || strings.ContainsAny(v, "?#") {
		return "", fault.New(fault.Invalid, "A prefix is a host and a path, such as www.example.com/images, without scheme, query and fragment.")
	}
	host, path, _ := strings.Cut(v, "/")
	host, err := checkHost(z, host)
	if err != nil {
		return "", err
	}
	path = strings.TrimSuffix(path, "/")
	if strings.Count(path, "/") > 30 {
		return "", fault.New(fault.TooMuch, "The prefix has %d path separators, the limit is 31.", strings.Count(path, "/")+1)
	}
	if path == "" {
		return host, nil
	}
	return host + "/" + path, nil
}

// purgeFiles names each URL twice: as what was stored from it under any key, and by the key that
// it has with the fields given, which others may have been stored under.
func (c *Cache) purgeFiles(config *spec.ZoneConfig, files []json.RawMessage) ([]storage.Purge, error) {
	if err := countOf("files", len(files)); err != nil {
		return nil, err
	}
	z := c.zones.Load().byID.Get(config.Zone.ID)
	if z == nil {
		var err error
		if z, err = compileZone(config, nil); err != nil {
			return nil, err
		}
	}
	var list []storage.Purge
	var faults []error
	for i, raw := range files {
		ex, err := parseFile(config, raw)
		if err != nil {
			faults = append(faults, under(fmt.Sprintf("files[%d]", i), err))
			continue
		}
		p := z.plan(ex)
		key := p.key.key(ex)
		r := &ex.Request
		list = append(list,
			storage.Purge{Kind: storage.PurgeURL, Zone: config.Zone.ID, Value: storage.URLOf(r.Scheme, r.Host, r.URI())},
			storage.Purge{Kind: storage.PurgeKey, Zone: config.Zone.ID, Value: string(key[:])})
	}
	return list, errors.Join(faults...)
}

// parseFile returns the request that an entry of files stands for.
func parseFile(config *spec.ZoneConfig, raw json.RawMessage) (*edge.Exchange, error) {
	var f purgeFile
	if err := json.Unmarshal(raw, &f.URL); err != nil {
		if err := product.DecodeJSON(raw, &f); err != nil {
			return nil, err
		}
	}
	u, err := url.Parse(f.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fault.New(fault.Invalid, "%.200q is not an absolute URL such as https://%s/a.css.", f.URL, config.Zone.Name)
	}
	host, err := checkHost(config.Zone, u.Hostname())
	if err != nil {
		return nil, err
	}
	// Path and query count as they stand in the URL, not as url.Parse understands them.
	_, rest, _ := strings.Cut(f.URL, "://")
	rest, _, _ = strings.Cut(rest, "#")
	path := "/"
	if i := strings.IndexAny(rest, "/?"); i >= 0 {
		path = rest[i:]
	}
	ex := &edge.Exchange{Zone: config, Start: time.Now()}
	ex.Request = edge.Request{Method: "GET", Scheme: u.Scheme, Host: host, Port: u.Port(), Proto: "HTTP/1.1"}
	ex.Request.Path, ex.Request.Query, _ = strings.Cut(path, "?")
	if !strings.HasPrefix(ex.Request.Path, "/") {
		ex.Request.Path = "/" + ex.Request.Path
	}
	for _, name := range sortedKeys(f.Headers) {
		ex.Request.Header.Add(name, f.Headers[name])
		if strings.EqualFold(name, "CF-IPCountry") {
			ex.Country = f.Headers[name]
		}
		if strings.EqualFold(name, "CF-Device-Type") {
			ex.Request.Header.Set("User-Agent", f.Headers[name])
		}
	}
	return ex, nil
}

// tagsOf returns the tags of a response in lower case, within the limits.
func tagsOf(h *edge.Header) []string {
	var tags []string
	left := maxTagBytes
	for _, f := range h.Fields() {
		if !strings.EqualFold(f.Name, "Cache-Tag") {
			continue
		}
		for t := range strings.SplitSeq(f.Value, ",") {
			t = strings.ToLower(strings.TrimSpace(t))
			if left -= len(t) + 1; left < 0 || len(tags) == maxTags {
				break
			}
			if t != "" && len(t) <= maxTagLen && !slices.Contains(tags, t) {
				tags = append(tags, t)
			}
		}
	}
	return tags
}
