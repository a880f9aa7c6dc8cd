package r2

import (
	"cmp"
	"context"
	"encoding/base64"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"selvage/foundation/fault"
	"selvage/product"
	"selvage/spec"
)

// Permissions of the API, in the words of Cloudflare's groups.
var (
	readStorage  = product.Permission{Group: "Workers R2 Storage"}
	writeStorage = product.Permission{Group: "Workers R2 Storage", Write: true}
)

const (
	bucketsPath = "/accounts/{account_id}/r2/buckets"
	bucketPath  = bucketsPath + "/{bucket_name}"
)

// Numbers of R2's own faults in the v4 API.
const (
	codeBucketExists   = 10004
	codeBucketName     = 10005
	codeNoBucket       = 10006
	codeNoObject       = 10007
	codeBucketNotEmpty = 10008
	codeManyBuckets    = 10009
	codeInvalidDigest  = 10014
	codeBadArgument    = 10029 // in the query or the header
	codeBadJSON        = 10040
)

func (p *R2) bucketRoutes() []product.Route {
	return []product.Route{
		{Method: "GET", Path: bucketsPath, Permission: readStorage, Summary: "List the R2 buckets of an account.", Handle: p.listBuckets},
		{Method: "POST", Path: bucketsPath, Permission: writeStorage, Summary: "Create an R2 bucket.", Handle: p.createBucket},
		{Method: "GET", Path: bucketPath, Permission: readStorage, Summary: "Show an R2 bucket.", Handle: p.showBucket},
		{Method: "PATCH", Path: bucketPath, Permission: writeStorage, Summary: "Change the storage class of a bucket's new objects.", Handle: p.patchBucket},
		{Method: "DELETE", Path: bucketPath, Permission: writeStorage, Summary: "Delete an R2 bucket that is empty.", Handle: p.deleteBucket},
	}
}

// bucketReply is a bucket as the API shows it.
type bucketReply struct {
	Name         string `json:"name"`
	CreationDate string `json:"creation_date"`
	Location     string `json:"location,omitempty"`
	StorageClass string `json:"storage_class"`
	Jurisdiction string `json:"jurisdiction"`
}

func asBucketReply(b *spec.Bucket) bucketReply {
	return bucketReply{
		Name: b.Name, CreationDate: asDate(b.CreatedOn), Location: b.Location, StorageClass: b.StorageClass,
		Jurisdiction: cmp.Or(b.Jurisdiction, "default"),
	}
}

// asDate writes a time as R2's API does, in milliseconds.
func asDate(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

// jurisdiction returns the one that a call names, and whether it names one.
func jurisdiction(h http.Header) (string, bool) {
	j := strings.ToLower(h.Get("cf-r2-jurisdiction"))
	if j == "default" {
		return "", true
	}
	return j, j != ""
}

// bucketIn finds a bucket of an account, in the jurisdiction that the call names if it names one.
func bucketIn(snap *spec.Snapshot, accountID, name string, h http.Header) (*spec.Bucket, error) {
	b := snap.StorageOf(accountID).Buckets[name]
	if j, named := jurisdiction(h); b == nil || named && j != b.Jurisdiction {
		return nil, noBucket()
	}
	return b, nil
}

func noBucket() error {
	return fault.New(fault.NotFound, "The specified bucket does not exist.").WithCode(codeNoBucket)
}

// bucketOf returns the bucket that a call's path names.
func (p *R2) bucketOf(c *product.Call) (*spec.Bucket, error) {
	return bucketIn(p.o.State.Snapshot(), c.Account.ID, c.Params["bucket_name"], c.Header)
}

// alter stores a changed copy of the bucket that the path names.
func (p *R2) alter(ctx context.Context, c *product.Call, change func(tx product.Tx, b *spec.Bucket) error) (*spec.Bucket, error) {
	var changed spec.Bucket
	err := p.o.State.Update(ctx, c.Actor, func(tx product.Tx) error {
		b, err := bucketIn(tx.Snapshot(), c.Account.ID, c.Params["bucket_name"], c.Header)
		if err != nil {
			return err
		}
		changed = *b
		if err := change(tx, &changed); err != nil {
			return err
		}
		return tx.Put(&changed)
	})
	if err != nil {
		return nil, err
	}
	return &changed, nil
}

const maxBucketPage = 1000

func (p *R2) listBuckets(_ context.Context, c *product.Call) (product.Reply, error) {
	per, err := pageSize(c.Query, maxBucketPage)
	if err != nil {
		return product.Reply{}, err
	}
	if o := c.Query.Get("order"); o != "" && o != "name" {
		return product.Reply{}, fault.New(fault.Invalid, "Buckets are ordered by name, not by %.40q.", o).WithCode(codeBadArgument).At("order")
	}
	descending := c.Query.Get("direction") == "desc"
	j, named := jurisdiction(c.Header)
	var all []*spec.Bucket
	for _, b := range p.o.State.Snapshot().StorageOf(c.Account.ID).Buckets {
		if strings.Contains(b.Name, c.Query.Get("name_contains")) && (!named || b.Jurisdiction == j) {
			all = append(all, b)
		}
	}
	slices.SortFunc(all, func(a, b *spec.Bucket) int {
		if descending {
			a, b = b, a
		}
		return strings.Compare(a.Name, b.Name)
	})
	after := c.Query.Get("start_after")
	if cursor := c.Query.Get("cursor"); cursor != "" {
		raw, err := base64.RawURLEncoding.DecodeString(cursor)
		if err != nil {
			return product.Reply{}, badCursor()
		}
		after = string(raw)
	}
	if after != "" {
		all = all[seek(all, after, descending):]
	}
	info := &product.PageInfo{PerPage: per, Objects: &product.ObjectsInfo{Truncated: len(all) > per}}
	if len(all) > per {
		all = all[:per]
		info.Cursor = base64.RawURLEncoding.EncodeToString([]byte(all[per-1].Name))
	}
	list := make([]bucketReply, len(all))
	for i, b := range all {
		list[i] = asBucketReply(b)
	}
	info.Count = len(list)
	return product.Reply{Result: map[string]any{"buckets": list}, Info: info}, nil
}

// seek returns where the buckets after a name begin.
func seek(all []*spec.Bucket, after string, descending bool) int {
	i := slices.IndexFunc(all, func(b *spec.Bucket) bool {
		if descending {
			return b.Name < after
		}
		return b.Name > after
	})
	if i < 0 {
		return len(all)
	}
	return i
}

func badCursor() error {
	return fault.New(fault.Invalid, "The cursor is not one that a listing here gave: leave it out to begin at the start.").WithCode(codeBadArgument).At("cursor")
}

// pageSize returns per_page, most if it is not given.
func pageSize(q url.Values, most int) (int, error) {
	s := q.Get("per_page")
	if s == "" {
		return most, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 {
		return 0, fault.New(fault.Invalid, "The parameter per_page is %.40q; it must be a whole number from 1 to %d.", s, most).WithCode(codeBadArgument).At("per_page")
	}
	return min(n, most), nil
}

func (p *R2) createBucket(ctx context.Context, c *product.Call) (product.Reply, error) {
	var in struct {
		Name         string `json:"name"`
		LocationHint string `json:"locationHint"`
		StorageClass string `json:"storageClass"`
	}
	if err := c.Decode(&in); err != nil {
		return product.Reply{}, err
	}
	j, _ := jurisdiction(c.Header)
	b := newBucket(c.Account.ID, in.Name, p.o.Clock.Now())
	b.Location, b.Jurisdiction = strings.ToLower(in.LocationHint), j
	b.StorageClass = cmp.Or(in.StorageClass, b.StorageClass)
	if err := (buckets{p}).Create(ctx, c.Actor, b); err != nil {
		return product.Reply{}, err
	}
	return product.Reply{Result: asBucketReply(b)}, nil
}

// newBucket returns a bucket with the defaults of Cloudflare's, not yet stored.
func newBucket(accountID, name string, now time.Time) *spec.Bucket {
	return &spec.Bucket{
		ID: spec.NewID(), AccountID: accountID, Name: name, StorageClass: spec.ClassStandard, CreatedOn: spec.Timestamp(now),
		Lifecycle: spec.DefaultLifecycle(),
	}
}

func (p *R2) showBucket(_ context.Context, c *product.Call) (product.Reply, error) {
	b, err := p.bucketOf(c)
	if err != nil {
		return product.Reply{}, err
	}
	return product.Reply{Result: asBucketReply(b)}, nil
}

func (p *R2) patchBucket(ctx context.Context, c *product.Call) (product.Reply, error) {
	class := c.Header.Get("cf-r2-storage-class")
	if class == "" {
		return product.Reply{}, fault.New(fault.Invalid, "Say the new storage class in the header cf-r2-storage-class: Standard or InfrequentAccess.").WithCode(codeBadArgument)
	}
	b, err := p.alter(ctx, c, func(_ product.Tx, b *spec.Bucket) error {
		b.StorageClass = class
		return nil
	})
	if err != nil {
		return product.Reply{}, err
	}
	return product.Reply{Result: asBucketReply(b)}, nil
}

func (p *R2) deleteBucket(ctx context.Context, c *product.Call) (product.Reply, error) {
	b, err := p.bucketOf(c)
	if err != nil {
		return product.Reply{}, err
	}
	return product.Reply{Result: struct{}{}}, (buckets{p}).Delete(ctx, c.Actor, b)
}
