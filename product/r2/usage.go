package r2

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"selvage/product"
	"selvage/product/r2/store"
	"selvage/spec"
)

// quotas are what is counted of each account.
type quotas struct {
	bytes, objects, buckets product.Quota
}

func newQuotas(p *R2) quotas {
	used := func(of func(u *store.Usage) int64) func(context.Context, string) (int64, error) {
		return func(_ context.Context, accountID string) (int64, error) {
			u, err := p.objects.UsageOf(accountID)
			return of(&u), err
		}
	}
	return quotas{
		bytes:   product.Quota{Name: "r2_bytes", Summary: "Bytes of objects in R2, with those of uploads under way.", Used: used(bytesOf)},
		objects: product.Quota{Name: "r2_objects", Summary: "Objects in R2.", Used: used(func(u *store.Usage) int64 { return u.Objects })},
		buckets: product.Quota{Name: "r2_buckets", Summary: "Buckets of R2.", Default: 1_000_000, Used: func(_ context.Context, accountID string) (int64, error) {
			return int64(len(p.o.State.Snapshot().StorageOf(accountID).Buckets)), nil
		}},
	}
}

func bytesOf(u *store.Usage) int64 { return u.Bytes + u.UploadBytes }

// Quotas returns what is counted of each account.
func (p *R2) Quotas() []product.Quota {
	return []product.Quota{p.quotas.bytes, p.quotas.objects, p.quotas.buckets}
}

// admit refuses what would go over an account's quotas.
func (p *R2) admit(id store.Bucket, more store.Usage) error {
	snap := p.o.State.Snapshot()
	bytes, objects := &p.quotas.bytes, &p.quotas.objects
	if bytes.Limit(snap, id.Account) == 0 && objects.Limit(snap, id.Account) == 0 {
		return nil
	}
	u, err := p.objects.UsageOf(id.Account)
	if err != nil {
		return err
	}
	if grows := bytesOf(&more); grows > 0 {
		if err := bytes.Check(snap, id.Account, bytesOf(&u), grows); err != nil {
			return err
		}
	}
	if more.Objects > 0 {
		return objects.Check(snap, id.Account, u.Objects, more.Objects)
	}
	return nil
}

func (p *R2) usageRoutes() []product.Route {
	return []product.Route{
		{Method: "GET", Path: "/accounts/{account_id}/r2/metrics", Permission: readStorage, Summary: "Show how much an account keeps in R2.", Handle: p.showMetrics},
		{Method: "GET", Path: bucketPath + "/usage", Permission: readStorage, Summary: "Show how much a bucket holds.", Handle: p.showUsage},
	}
}

// classMetrics is what lies in one storage class. "Published" are objects, "uploaded" parts of uploads
// that are not complete.
type classMetrics struct {
	Published stored `json:"published"`
	Uploaded  stored `json:"uploaded"`
}

type stored struct {
	MetadataSize int64 `json:"metadataSize"`
	Objects      int64 `json:"objects"`
	PayloadSize  int64 `json:"payloadSize"`
}

func (p *R2) showMetrics(_ context.Context, c *product.Call) (product.Reply, error) {
	u, err := p.objects.UsageOf(c.Account.ID)
	if err != nil {
		return product.Reply{}, err
	}
	return product.Reply{Result: map[string]classMetrics{
		"standard": {
			Published: stored{u.MetadataBytes, u.Objects - u.InfrequentObjects, u.Bytes - u.InfrequentBytes},
			Uploaded:  stored{0, u.Uploads, u.UploadBytes},
		},
		"infrequentAccess": {Published: stored{0, u.InfrequentObjects, u.InfrequentBytes}},
	}}, nil
}

// usageReply is what a bucket holds, as Cloudflare's dashboard asks for it: numbers are strings.
type usageReply struct {
	End           string `json:"end"`
	PayloadSize   string `json:"payloadSize"`
	MetadataSize  string `json:"metadataSize"`
	ObjectCount   string `json:"objectCount"`
	UploadCount   string `json:"uploadCount"`
	UploadSize    string `json:"uploadSize"`
	InfrequentUse string `json:"infrequentAccessPayloadSize"`
	InfrequentN   string `json:"infrequentAccessObjectCount"`
}

func (p *R2) showUsage(_ context.Context, c *product.Call) (product.Reply, error) {
	b, err := p.bucketOf(c)
	if err != nil {
		return product.Reply{}, err
	}
	u, err := p.objects.Usage(idOf(b))
	if err != nil {
		return product.Reply{}, err
	}
	n := func(v int64) string { return strconv.FormatInt(v, 10) }
	return product.Reply{Result: usageReply{
		asDate(p.o.Clock.Now()), n(u.Bytes), n(u.MetadataBytes), n(u.Objects), n(u.Uploads), n(u.UploadBytes), n(u.InfrequentBytes), n(u.InfrequentObjects),
	}}, nil
}

// Graphs returns the dataset that wrangler shows of a bucket. It is as of now: there is no history.
func (p *R2) Graphs() []product.Graph {
	return []product.Graph{{Name: "r2StorageAdaptiveGroups", Rows: p.storageRows}}
}

func (p *R2) storageRows(_ context.Context, accountID string, q product.GraphQuery) ([]map[string]any, error) {
	name, named := "", false
	for _, f := range q.Filter {
		if text, ok := f.Text(); ok && f.Field == "bucketName" {
			name, named = text, true
		}
	}
	var rows []map[string]any
	all := p.o.State.Snapshot().StorageOf(accountID).Buckets
	for _, b := range sortedBuckets(all) {
		shown := b.Name
		if b.Jurisdiction != "" {
			shown = b.Jurisdiction + "_" + b.Name
		}
		if named && name != shown {
			continue
		}
		u, err := p.objects.Usage(idOf(b))
		if err != nil {
			return nil, err
		}
		rows = append(rows, map[string]any{
			"max":        map[string]any{"objectCount": u.Objects, "payloadSize": u.Bytes, "metadataSize": u.MetadataBytes, "uploadCount": u.Uploads},
			"dimensions": map[string]any{"datetime": asDate(p.o.Clock.Now()), "bucketName": shown, "storageClass": b.StorageClass},
		})
		if q.Limit > 0 && len(rows) == q.Limit {
			break
		}
	}
	return rows, nil
}

func sortedBuckets(all map[string]*spec.Bucket) []*spec.Bucket {
	list := make([]*spec.Bucket, 0, len(all))
	for _, b := range all {
		list = append(list, b)
	}
	slices.SortFunc(list, func(a, b *spec.Bucket) int { return strings.Compare(a.Name, b.Name) })
	return list
}
