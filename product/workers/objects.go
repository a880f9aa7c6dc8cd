package workers

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"selvage/foundation/fault"
	"selvage/product"
	"selvage/spec"
)

// objectRoutes show where Durable Objects live.
func (w *Workers) objectRoutes() []product.Route {
	const all, one = "/accounts/{account_id}/workers/durable_objects/namespaces", "/accounts/{account_id}/workers/durable_objects/namespaces/{namespace_id}/objects"
	return []product.Route{
		{Method: "GET", Path: all, Permission: readScripts, Summary: "List the Durable Object namespaces of an account.", Handle: w.listNamespaces},
		{Method: "GET", Path: one, Permission: readScripts, Summary: "List the Durable Objects of a namespace that have stored something.", Handle: w.listObjects},
	}
}

// namespaceReply is a namespace as the API shows it.
type namespaceReply struct {
	ID     string `json:"id"`
	Name   string `json:"name"`
	Script string `json:"script"`
	Class  string `json:"class"`
	SQLite bool   `json:"use_sqlite"`
}

func (w *Workers) listNamespaces(_ context.Context, c *product.Call) (product.Reply, error) {
	list := []namespaceReply{}
	for _, n := range w.o.State.Snapshot().WorkersOf(c.Account.ID).Namespaces {
		list = append(list, namespaceReply{n.ID, n.Script + "_" + n.Class, n.Script, n.Class, n.SQLite})
	}
	slices.SortFunc(list, func(a, b namespaceReply) int { return strings.Compare(a.Name+a.ID, b.Name+b.ID) })
	page, info, err := product.Page(list, c.Query, product.Paging{Default: 100, Max: 1000})
	if err != nil {
		return product.Reply{}, err
	}
	return product.Reply{Result: page, Info: info}, nil
}

type objectReply struct {
	ID        string `json:"id"`
	HasStored bool   `json:"hasStoredData"`
}

// listObjects reads the namespace's folder: each object that has stored something is a database there.
func (w *Workers) listObjects(_ context.Context, c *product.Call) (product.Reply, error) {
	n := w.o.State.Snapshot().WorkersOf(c.Account.ID).Namespaces[c.Params["namespace_id"]]
	if n == nil {
		return product.Reply{}, fault.New(fault.NotFound, "There is no such Durable Object namespace on this account.").WithCode(10066)
	}
	limit := 1000
	if s := c.Query.Get("limit"); s != "" {
		var err error
		if limit, err = strconv.Atoi(s); err != nil || limit < 1 || limit > 10000 {
			return product.Reply{}, fault.New(fault.Invalid, "The limit %.20q is not a number from 1 to 10000.", s).At("limit")
		}
	}
	ids, err := objectIDs(w.namespaceDir(n))
	if err != nil {
		return product.Reply{}, err
	}
	from, found := slices.BinarySearch(ids, c.Query.Get("cursor"))
	if found {
		from++
	}
	list := []objectReply{}
	for _, id := range ids[from:min(len(ids), from+limit)] {
		list = append(list, objectReply{id, true})
	}
	info := &product.PageInfo{Count: len(list), PerPage: limit, TotalCount: len(ids)}
	if from+limit < len(ids) {
		info.Cursor = list[len(list)-1].ID
	}
	return product.Reply{Result: list, Info: info}, nil
}

// namespaceDir is where the engine keeps the objects of a namespace.
func (w *Workers) namespaceDir(n *spec.ObjectNamespace) string {
	return filepath.Join(w.o.ObjectsDir, n.AccountID, n.ID)
}

// objectIDs returns the IDs of the objects with a database in dir, in order. Facets, which belong to
// objects, have a number in their names.
func objectIDs(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, e := range entries {
		if id, ok := strings.CutSuffix(e.Name(), ".sqlite"); ok && len(id) == 64 {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids, nil
}
