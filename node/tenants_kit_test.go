package node_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"selvage/product/hyperdrive/pgtest"
)

// tenant is an account with one of everything that products keep, and a token of its own.
type tenant struct {
	process       // as which it calls the API: with its account and token
	name, tokenID string
	words         string            // stand in everything that it keeps
	params        map[string]string // what the parameters of the API's paths name of it
	zone, dead    string            // a zone's ID; the name of the queue of its dead letters
	bookmark      string            // of its database
	lease, etag   string            // of a message it pulled, of a file it imports
}

// names are parameters that say which of an account's things is meant by a name or a key: another account may
// have one that is called the same.
var names = map[string]bool{"key_name": true, "object_key": true, "bucket_name": true, "script_name": true, "secret_name": true, "domain": true, "name": true}

// newTenant makes an account with a token that has all rights there, and one of everything.
func newTenant(t testing.TB, p *process, name string, pg *pgtest.Server) *tenant {
	t.Helper()
	var account struct{ ID string }
	must(t, p.call("POST", "/accounts", fmt.Sprintf(`{"name":%q}`, name), &account))
	a := &tenant{process: *p, name: name, words: "the words of " + name, params: map[string]string{}}
	a.AccountID = account.ID
	a.tokenID, a.token = a.newToken(p, `{"com.cloudflare.api.account.`+account.ID+`":"*"}`, "All Privileges")
	a.params["token_id"] = a.tokenID
	a.furnish(pg)
	return a
}

// newToken makes a token of the account, as by tells it to, with rights on resources, which are JSON. Rights
// that begin with a minus are denied.
func (a *tenant) newToken(by *process, resources string, rights ...string) (id, secret string) {
	a.t.Helper()
	return a.tokenOf(by, policy{resources, rights})
}

// policy is what a token may do with resources, which are JSON; rights that begin with a minus it may not.
type policy struct {
	resources string
	rights    []string
}

func (a *tenant) tokenOf(by *process, policies ...policy) (id, secret string) {
	a.t.Helper()
	var groups []struct{ ID, Name string }
	must(a.t, by.call("GET", "/accounts/"+a.AccountID+"/tokens/permission_groups", "", &groups))
	var list []string
	for _, one := range policies {
		for _, right := range one.rights {
			effect := "allow"
			if name, denied := strings.CutPrefix(right, "-"); denied {
				effect, right = "deny", name
			}
			for _, g := range groups {
				if g.Name == right {
					list = append(list, fmt.Sprintf(`{"effect":%q,"resources":%s,"permission_groups":[{"id":%q}]}`, effect, one.resources, g.ID))
				}
			}
		}
	}
	var made struct{ ID, Value string }
	must(a.t, by.call("POST", "/accounts/"+a.AccountID+"/tokens", `{"name":"token","policies":[`+strings.Join(list, ",")+`]}`, &made))
	return made.ID, made.Value
}

// everything is the tenant's whole account as a resource.
func (a *tenant) everything() string { return `{"com.cloudflare.api.account.` + a.AccountID + `":"*"}` }

// bucketResource is one bucket of the tenant's as a resource.
func (a *tenant) bucketResource(bucket string) string {
	return `{"com.cloudflare.edge.r2.bucket.` + a.AccountID + `_default_` + bucket + `":"*"}`
}

// furnish makes one of everything.
func (a *tenant) furnish(pg *pgtest.Server) {
	t, in := a.t, "/accounts/"+a.AccountID
	t.Helper()
	var zone, space, consumer, config struct {
		ID         string
		UUID       string
		ConsumerID string `json:"consumer_id"`
	}
	var queue, dead struct {
		ID string `json:"queue_id"`
	}
	must(t, a.call("POST", "/zones", fmt.Sprintf(`{"name":"%s.test","account":{"id":%q}}`, a.name, a.AccountID), &zone))
	a.zone = zone.ID
	must(t, a.call("POST", in+"/storage/kv/namespaces", fmt.Sprintf(`{"title":"%s-space"}`, a.name), &space))
	a.set("namespace_id", space.ID, "key_name", a.name+"-key")
	must(t, a.call("PUT", in+"/storage/kv/namespaces/"+space.ID+"/values/"+a.name+"-key", a.words, nil))

	bucket := a.name + "-bucket"
	a.set("bucket_name", bucket, "object_key", a.name+"-object", "domain", "cdn."+a.name+".test")
	must(t, a.call("POST", in+"/r2/buckets", fmt.Sprintf(`{"name":%q}`, bucket), nil))
	must(t, a.call("PUT", in+"/r2/buckets/"+bucket+"/objects/"+a.name+"-object", a.words, nil))
	must(t, a.call("POST", in+"/r2/buckets/"+bucket+"/domains/custom", fmt.Sprintf(`{"domain":"cdn.%s.test","zoneId":%q,"enabled":true}`, a.name, zone.ID), nil))

	must(t, a.call("POST", in+"/queues", fmt.Sprintf(`{"queue_name":"%s-queue"}`, a.name), &queue))
	must(t, a.call("POST", in+"/queues", fmt.Sprintf(`{"queue_name":"%s-dead"}`, a.name), &dead))
	a.dead = a.name + "-dead"
	must(t, a.call("POST", in+"/queues/"+queue.ID+"/consumers", fmt.Sprintf(`{"type":"http_pull","dead_letter_queue":%q,"settings":{"visibility_timeout_ms":3600000}}`, a.dead), &consumer))
	a.set("queue_id", queue.ID, "consumer_id", consumer.ConsumerID)
	must(t, a.call("PUT", in+"/event_notifications/r2/"+bucket+"/configuration/queues/"+dead.ID, `{"rules":[{"actions":["DeleteObject"]}]}`, nil))
	for range 2 {
		must(t, a.call("POST", in+"/queues/"+queue.ID+"/messages", fmt.Sprintf(`{"body":%q,"content_type":"text"}`, a.words), nil))
	}
	var pulled struct {
		Messages []struct {
			Lease string `json:"lease_id"`
		}
	}
	must(t, a.call("POST", in+"/queues/"+queue.ID+"/messages/pull", `{"batch_size":1}`, &pulled))
	a.lease = pulled.Messages[0].Lease

	var database struct{ UUID string }
	must(t, a.call("POST", in+"/d1/database", fmt.Sprintf(`{"name":"%s-database"}`, a.name), &database))
	a.set("database_id", database.UUID)
	must(t, a.call("POST", in+"/d1/database/"+database.UUID+"/query", fmt.Sprintf(`{"sql":"CREATE TABLE t (v); INSERT INTO t VALUES ('%s')"}`, a.words), nil))
	var at struct{ Bookmark string }
	must(t, a.call("GET", in+"/d1/database/"+database.UUID+"/time_travel/bookmark", "", &at))
	a.bookmark, a.etag = at.Bookmark, fmt.Sprintf("%032x", len(a.name))
	must(t, a.call("POST", in+"/d1/database/"+database.UUID+"/import", fmt.Sprintf(`{"action":"init","etag":%q}`, a.etag), nil))

	must(t, a.call("POST", in+"/hyperdrive/configs", fmt.Sprintf(`{"name":%q,"origin":{"scheme":"postgres","host":"127.0.0.1","port":%d,"database":"postgres","user":"owner","password":%q}}`,
		a.name, pg.Port, pgtest.Password), &config))
	a.set("hyperdrive_id", config.ID, "script_name", a.name+"-worker", "secret_name", "SECRET", "name", a.name)
	must(t, a.deployOwn(a.bindings(a)))
}

func (a *tenant) set(pairs ...string) {
	for i := 0; i < len(pairs); i += 2 {
		a.params[pairs[i]] = pairs[i+1]
	}
}

// bindings binds a script to everything of a tenant, each binding by itself.
func (a *tenant) bindings(to *tenant) []string {
	return []string{
		fmt.Sprintf(`{"type":"kv_namespace","name":"KV","namespace_id":%q}`, to.params["namespace_id"]),
		fmt.Sprintf(`{"type":"r2_bucket","name":"BUCKET","bucket_name":%q}`, to.params["bucket_name"]),
		fmt.Sprintf(`{"type":"d1","name":"DB","id":%q}`, to.params["database_id"]),
		fmt.Sprintf(`{"type":"queue","name":"QUEUE","queue_name":"%s-queue"}`, to.name),
		fmt.Sprintf(`{"type":"hyperdrive","name":"HYPERDRIVE","id":%q}`, to.params["hyperdrive_id"]),
	}
}

// deployOwn deploys the tenant's Worker with bindings.
func (a *tenant) deployOwn(bindings []string) error {
	source := `export default { async fetch(request, env) { return new Response(await env.KV.get(new URL(request.url).pathname.slice(1))) } }`
	_, err := a.send("PUT", a.AccountID, a.name+"-worker", script{source: source, meta: `"bindings":[` + strings.Join(bindings, ",") + `]`})
	return err
}

// operation is a line of the API's table.
type operation struct {
	Method, Path, Permission string
	Public, Operator         bool
}

// operations returns what the node serves below an account.
func (a *tenant) operations() (all []operation) {
	a.t.Helper()
	var table []operation
	must(a.t, a.call("GET", "/selvage/api", "", &table))
	for _, o := range table {
		if strings.HasPrefix(o.Path, "/accounts/{account_id}/") {
			all = append(all, o)
		}
	}
	return all
}

// keeps tells whether an operation is one of the products that keep data.
func (o *operation) keeps() bool {
	for _, part := range []string{"/storage/kv/", "/r2/", "/d1/", "/queues", "/hyperdrive/", "/selvage/r2/"} {
		if strings.Contains(o.Path, part) {
			return true
		}
	}
	return false
}

// parameters returns the names in the path, without the account.
func (o *operation) parameters() (all []string) {
	for _, part := range strings.Split(o.Path, "/")[3:] {
		if name, ok := strings.CutPrefix(part, "{"); ok {
			all = append(all, strings.TrimSuffix(strings.TrimSuffix(name, "}"), "..."))
		}
	}
	return all
}

// at returns the operation's path with parameters from by; what is not there is something that nobody has.
func (o *operation) at(account string, by func(name string) string) string {
	parts := strings.Split(o.Path, "/")
	parts[2] = account
	for i, part := range parts {
		if name, ok := strings.CutPrefix(part, "{"); ok {
			parts[i] = by(strings.TrimSuffix(strings.TrimSuffix(name, "}"), "..."))
			if parts[i] == "" {
				parts[i] = strings.Repeat("0", 32)
			}
		}
	}
	return strings.Join(parts, "/")
}

// reply is an answer of the API as it came.
type reply struct {
	status int
	body   string
}

// ask sends a request with a token, or without one if that is empty.
func (p *process) ask(token, method, path, body string, fields ...string) reply {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, p.API+path, strings.NewReader(body))
	must(p.t, err)
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i < len(fields); i += 2 {
		req.Header.Set(fields[i], fields[i+1])
	}
	res, err := http.DefaultClient.Do(req)
	must(p.t, err)
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		p.t.Fatalf("%s %s %s: %v", method, path, body, err)
	}
	return reply{res.StatusCode, string(text)}
}

// inventory is all that the API shows of what the tenant keeps, by path.
func (a *tenant) inventory() map[string]string {
	a.t.Helper()
	all := map[string]string{}
	note := func(method, path, body string) {
		r := a.ask(a.token, method, path, body)
		var v struct{ Result json.RawMessage }
		if all[path] = fmt.Sprint(r.status, " ", r.body); json.Unmarshal([]byte(r.body), &v) == nil && v.Result != nil {
			all[path] = fmt.Sprint(r.status, " ", string(v.Result))
		}
	}
	for _, o := range a.operations() {
		if o.Method == "GET" && o.keeps() && !strings.HasSuffix(o.Path, "/usage") && !strings.HasSuffix(o.Path, "/scrub") {
			note("GET", o.at(a.AccountID, func(name string) string { return a.params[name] }), "")
		}
	}
	database := "/accounts/" + a.AccountID + "/d1/database/" + a.params["database_id"]
	rows := a.ask(a.token, "POST", database+"/query", `{"sql":"SELECT * FROM t"}`)
	all["rows"] = fmt.Sprint(rows.status, strings.Contains(rows.body, a.words), strings.Count(rows.body, `"v"`))
	note("POST", "/accounts/"+a.AccountID+"/queues/"+a.params["queue_id"]+"/messages/preview", `{}`)
	return all
}
