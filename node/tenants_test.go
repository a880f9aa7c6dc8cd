package node_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"selvage/product/hyperdrive/pgtest"
)

// thiefBodies are what is sent to every operation: with what is another's in each place that there is for a name.
func thiefBodies(of *tenant) []string {
	p := of.params
	id := func(format string, name string) string { return fmt.Sprintf(format, p[name]) }
	return []string{
		"", `{}`, `[]`, `{"rules":[]}`, `{"rules":[{"actions":["PutObject","DeleteObject"]}]}`, `{"enabled":true}`,
		id(`{"title":%q}`, "namespace_id"), id(`{"name":%q}`, "bucket_name"), `{"queue_name":"` + of.name + `-queue"}`,
		id(`[%q]`, "key_name"), id(`{"keys":[%q]}`, "key_name"), id(`[{"key":%q,"value":"stolen"}]`, "key_name"), id(`[%q]`, "object_key"),
		fmt.Sprintf(`{"domain":"x.%s.test","zoneId":%q,"enabled":true}`, of.name, of.zone), `{"domain":"x.` + of.name + `.test"}`,
		fmt.Sprintf(`{"bucket":%q,"parentAccessKeyId":%q,"permission":"admin-read-write","ttlSeconds":600}`, p["bucket_name"], of.tokenID),
		`{"sql":"SELECT * FROM t"}`, `{"sql":"DROP TABLE t"}`, `{"batch":[{"sql":"SELECT * FROM t"}]}`,
		`{"output_format":"polling"}`, fmt.Sprintf(`{"output_format":"polling","current_bookmark":%q}`, of.bookmark),
		fmt.Sprintf(`{"action":"ingest","etag":%q,"filename":"%s.%s.sql"}`, of.etag, p["database_id"], of.etag),
		fmt.Sprintf(`{"action":"poll","current_bookmark":%q}`, of.bookmark), `{"read_replication":{"mode":"auto"}}`,
		fmt.Sprintf(`{"type":"http_pull","dead_letter_queue":"%s-queue"}`, of.name), id(`{"type":"worker","script_name":%q}`, "script_name"),
		`{"body":"stolen"}`, `{"messages":[{"body":"stolen"}]}`, `{"batch_size":10}`, `{"delete_messages_permanently":true}`,
		fmt.Sprintf(`{"acks":[{"lease_id":%q}]}`, of.lease), fmt.Sprintf(`{"retries":[{"lease_id":%q}]}`, of.lease), `{"settings":{"delivery_paused":true}}`,
	}
}

// TestTenantsNeverNameEachOther has one tenant ask every operation of the API for what is another's, in every place
// of the path and the body: nothing of it is seen, and nothing of it changes.
func TestTenantsNeverNameEachOther(t *testing.T) {
	t.Parallel()
	pg := pgtest.Start(t)
	node := up(t, t.TempDir(), "--workers-allow", "127.0.0.1/32", "--access-log", "off")
	victim, thief := newTenant(t, node, "victim", pg), newTenant(t, node, "thief", pg)
	before := victim.inventory()
	operations := thief.operations()
	asked := 0
	for _, o := range operations {
		bodies := []string{""}
		if o.keeps() && o.Method != "GET" && o.Method != "HEAD" {
			bodies = thiefBodies(victim)
		}
		for _, path := range theirs(&o, victim, thief) {
			for _, body := range bodies {
				asked++
				r := node.ask(thief.token, o.Method, path.path, body, "cf-r2-storage-class", "Standard")
				if why := stolen(victim, r); why != "" {
					t.Errorf("%s %s %s = %d %s: it %s", o.Method, path.path, body, r.status, r.body, why)
				}
				if path.refuse && (r.status < 400 || r.status >= 500) {
					t.Errorf("%s %s %s = %d %.300s, want a refusal", o.Method, path.path, body, r.status, r.body)
				}
			}
		}
		if r := node.ask("", o.Method, o.at(victim.AccountID, func(name string) string { return victim.params[name] }), ""); r.status < 400 || r.status >= 500 || stolen(victim, r) != "" {
			t.Errorf("without a token %s %s = %d %.300s", o.Method, o.Path, r.status, r.body)
		}
	}
	if asked < 2000 {
		t.Errorf("only %d requests were made: the table of operations is not what it was", asked)
	}
	unchanged(t, victim, before)
}

// attempt is a path that names what is another's.
type attempt struct {
	path   string
	refuse bool // nothing there can be the caller's own
}

// theirs returns the operation's paths with what is the victim's in the place of each parameter, alone and together.
func theirs(o *operation, victim, thief *tenant) []attempt {
	named := func(name string) string { return victim.params[name] }
	all := []attempt{{o.at(victim.AccountID, named), !o.Public}, {o.at(victim.AccountID, func(name string) string { return thief.params[name] }), !o.Public}}
	parameters := o.parameters()
	for set := range 1 << len(parameters) {
		chosen, id := map[string]bool{}, false
		for i, name := range parameters {
			if chosen[name] = set&(1<<i) != 0; chosen[name] && !names[name] {
				id = id || victim.params[name] != ""
			}
		}
		if set == 0 && (len(parameters) > 0 || strings.HasSuffix(o.Path, "/tail")) { // which goes on until its reader leaves
			continue
		}
		all = append(all, attempt{o.at(thief.AccountID, func(name string) string {
			if chosen[name] {
				return victim.params[name]
			}
			return thief.params[name]
		}), id})
	}
	return all
}

// stolen says what of the victim's an answer gives away that the request did not hold.
func stolen(victim *tenant, r reply) string {
	switch {
	case strings.Contains(r.body, victim.words):
		return "tells what is kept"
	case r.status < 300 && strings.Contains(r.body, victim.AccountID):
		return "tells of the account"
	}
	return ""
}

// unchanged compares what a tenant keeps with what it kept.
func unchanged(t *testing.T, a *tenant, before map[string]string) {
	t.Helper()
	for path, now := range a.inventory() {
		if before[path] != now {
			t.Errorf("%s was\n%s\nand is\n%s", path, before[path], now)
		}
	}
}

// TestTenantsNeverReachEachOther names what is another's where the table of operations does not tell that it can be.
func TestTenantsNeverReachEachOther(t *testing.T) {
	t.Parallel()
	pg := pgtest.Start(t)
	node := up(t, t.TempDir(), "--workers-allow", "127.0.0.1/32", "--access-log", "off")
	victim, thief := newTenant(t, node, "victim", pg), newTenant(t, node, "thief", pg)
	before := victim.inventory()
	in, mine, yours := "/accounts/"+thief.AccountID, thief.params, victim.params
	database, queue := in+"/d1/database/"+mine["database_id"], in+"/queues/"+mine["queue_id"]
	for _, tt := range []struct{ method, path, body string }{
		{"PUT", queue + "/consumers/" + mine["consumer_id"], fmt.Sprintf(`{"type":"http_pull","dead_letter_queue":%q}`, victim.dead)},
		{"PUT", queue + "/consumers/" + mine["consumer_id"], fmt.Sprintf(`{"type":"http_pull","dead_letter_queue":%q}`, yours["queue_id"])},
		{"PUT", queue + "/consumers/" + mine["consumer_id"], fmt.Sprintf(`{"type":"worker","script_name":%q}`, yours["script_name"])},
		{"PUT", in + "/event_notifications/r2/" + mine["bucket_name"] + "/configuration/queues/" + yours["queue_id"], `{"rules":[{"actions":["PutObject"]}]}`},
		{"POST", in + "/r2/buckets/" + mine["bucket_name"] + "/domains/custom", fmt.Sprintf(`{"domain":"x.victim.test","zoneId":%q,"enabled":true}`, victim.zone)},
		{"POST", in + "/r2/buckets/" + mine["bucket_name"] + "/domains/custom", `{"domain":"cdn.victim.test","enabled":true}`},
		{"POST", in + "/r2/temp-access-credentials", fmt.Sprintf(`{"bucket":%q,"parentAccessKeyId":%q,"permission":"admin-read-write","ttlSeconds":600}`, yours["bucket_name"], thief.tokenID)},
		{"POST", database + "/time_travel/restore?bookmark=" + victim.bookmark, ""},
		{"POST", database + "/import", fmt.Sprintf(`{"action":"ingest","etag":%q}`, victim.etag)},
		{"GET", "/selvage/backup", ""}, {"HEAD", "/selvage/backup", ""},
		{"PATCH", in + "/selvage/quotas", `{"kv_bytes":0}`}, {"PATCH", "/accounts/" + victim.AccountID + "/selvage/quotas", `{"kv_bytes":1}`},
		{"GET", "/selvage/d1/exports/" + victim.etag, ""}, {"PUT", "/selvage/d1/uploads/" + victim.etag, "DROP TABLE t"},
	} {
		if r := node.ask(thief.token, tt.method, tt.path, tt.body); r.status < 400 || r.status >= 500 || stolen(victim, r) != "" {
			t.Errorf("%s %s %s = %d %.300s, want a refusal", tt.method, tt.path, tt.body, r.status, r.body)
		}
	}
	if r := node.ask(thief.token, "POST", database+"/query", `{"sql":"SELECT 1"}`, "x-cf-d1-session-commit-token", victim.bookmark); r.status != 400 {
		t.Errorf("another's bookmark = %d %s", r.status, r.body)
	}
	for _, query := range []string{
		`{viewer{accounts(filter:{accountTag:"` + victim.AccountID + `"}){r2StorageAdaptiveGroups(limit:10){dimensions{bucketName}}}}}`,
		`{viewer{accounts(filter:{accountTag:"` + victim.AccountID + `"}){d1QueriesAdaptiveGroups(limit:10){dimensions{query databaseId}}}}}`,
		`{viewer{accounts(filter:{accountTag:"` + thief.AccountID + `"}){d1QueriesAdaptiveGroups(limit:10,filter:{databaseId:"` + yours["database_id"] + `"}){dimensions{query databaseId}}}}}`,
		`{viewer{accounts(filter:{accountTag:"` + thief.AccountID + `"}){r2StorageAdaptiveGroups(limit:10,filter:{bucketName:"` + yours["bucket_name"] + `"}){dimensions{bucketName}}}}}`,
	} {
		text, err := json.Marshal(map[string]string{"query": query})
		must(t, err)
		if r := node.ask(thief.token, "POST", "/graphql", string(text)); strings.Contains(r.body, `"dimensions":{`) || strings.Contains(r.body, victim.words) {
			t.Errorf("%s = %d %s", query, r.status, r.body)
		}
	}
	for _, binding := range append(thief.bindings(victim),
		fmt.Sprintf(`{"type":"d1","name":"STOLEN","database_id":%q,"id":%q}`, mine["database_id"], yours["database_id"]),
		fmt.Sprintf(`{"type":"d1","name":"STOLEN","database_id":%q}`, yours["database_id"]), `{"type":"service","name":"STOLEN","service":"victim-worker"}`,
		`{"type":"durable_object_namespace","name":"STOLEN","class_name":"Object","script_name":"victim-worker"}`,
	) {
		if err := thief.deployOwn([]string{binding}); err == nil {
			t.Errorf("a Worker has the binding %s", binding)
		}
	}
	var access struct{ User, Password string }
	must(t, thief.call("GET", in+"/selvage/hyperdrive/configs/"+mine["hyperdrive_id"]+"/credentials", "", &access))
	for user, opens := range map[string]bool{access.User: true, yours["hyperdrive_id"]: false, thief.AccountID: false} {
		c, err := pgx.Connect(t.Context(), strings.Replace(node.HyperdrivePostgres, "://", "://"+user+":"+access.Password+"@", 1)+"/postgres")
		if (err == nil) != opens {
			t.Errorf("the password of one configuration opens %s: %v", user, err)
		}
		if err == nil {
			must(t, c.Close(t.Context()))
		}
	}
	unchanged(t, victim, before)
}

// TestNoTenantIsTheOperator has a tenant give itself a token for "any account", which is its own account's and
// opens nothing else.
func TestNoTenantIsTheOperator(t *testing.T) {
	t.Parallel()
	pg := pgtest.Start(t)
	node := up(t, t.TempDir(), "--workers-allow", "127.0.0.1/32", "--access-log", "off")
	victim, thief := newTenant(t, node, "victim", pg), newTenant(t, node, "thief", pg)
	_, crowned := thief.newToken(&thief.process, `{"com.cloudflare.api.account.*":"*"}`, "All Privileges")
	for _, tt := range []struct{ method, path string }{
		{"GET", "/selvage/backup"}, {"HEAD", "/selvage/backup"}, {"PATCH", "/accounts/" + thief.AccountID + "/selvage/quotas"},
		{"PATCH", "/accounts/" + victim.AccountID + "/selvage/quotas"}, {"POST", "/accounts"}, {"GET", "/accounts/" + victim.AccountID + "/r2/buckets"},
	} {
		if r := node.ask(crowned, tt.method, tt.path, `{}`); r.status != 403 && r.status != 404 {
			t.Errorf("%s %s = %d %.200s, want 403 or 404", tt.method, tt.path, r.status, r.body)
		}
	}
	// The operator himself may ask for the head of a backup, and then for the backup.
	if r := node.ask(node.token, "HEAD", "/selvage/backup", ""); r.status != 200 {
		t.Errorf("HEAD of a backup = %d", r.status)
	}
	if r := node.ask(node.token, "GET", "/selvage/backup", ""); r.status != 200 {
		t.Errorf("the backup after that = %d %.200s", r.status, r.body)
	}
}

// TestTokensReachWhatTheyName asks every operation on data with tokens that lack the right to it, on the tenant's own
// things.
func TestTokensReachWhatTheyName(t *testing.T) {
	t.Parallel()
	pg := pgtest.Start(t)
	node := up(t, t.TempDir(), "--workers-allow", "127.0.0.1/32", "--access-log", "off")
	a := newTenant(t, node, "tenant", pg)
	before := a.inventory()
	groups := map[string]bool{"Workers R2 Storage Bucket Item": true}
	var kept []operation
	for _, o := range a.operations() {
		if o.keeps() && !o.Operator {
			kept = append(kept, o)
			groups[strings.TrimSuffix(strings.TrimSuffix(o.Permission, " Read"), " Write")] = true
		}
	}
	without := func(lacking string) string {
		var rights []string
		for name := range groups {
			if name != lacking {
				rights = append(rights, name+" Write")
			}
		}
		_, secret := a.newToken(node, a.everything(), rights...)
		return secret
	}
	var reads []string
	for name := range groups {
		reads = append(reads, name+" Read")
	}
	_, reader := a.newToken(node, a.everything(), reads...)
	tokens := map[string]string{}
	for name := range groups {
		tokens[name] = without(name)
	}
	_, other := a.newToken(node, a.bucketResource("another-bucket"), "Workers R2 Storage Write", "Workers R2 Storage Bucket Item Write")
	for _, o := range kept {
		group := strings.TrimSuffix(strings.TrimSuffix(o.Permission, " Read"), " Write")
		path := o.at(a.AccountID, func(name string) string { return a.params[name] })
		for who, token := range map[string]string{"one without " + group: tokens[group], "one for another bucket": other} {
			if r := node.ask(token, o.Method, path, `{}`); r.status != 403 {
				t.Errorf("%s: %s %s = %d %.200s, want 403", who, o.Method, path, r.status, r.body)
			}
		}
		if r := node.ask(reader, o.Method, path, `{}`); strings.HasSuffix(o.Permission, " Write") && r.status != 403 {
			t.Errorf("one that reads: %s %s = %d %.200s, want 403", o.Method, path, r.status, r.body)
		}
	}
	unchanged(t, a, before)

	// Who may use all buckets but one may not use that one.
	for _, denied := range []string{"-Workers R2 Storage Read", "-Workers R2 Storage Bucket Item Read"} {
		id, token := a.tokenOf(node, policy{a.everything(), []string{"Workers R2 Storage Write"}}, policy{a.bucketResource(a.params["bucket_name"]), []string{denied}})
		for _, o := range kept {
			if !strings.Contains(o.Path, "{bucket_name}/objects") {
				continue
			}
			path := o.at(a.AccountID, func(name string) string { return a.params[name] })
			if r := node.ask(token, o.Method, path, `[]`); r.status != 403 {
				t.Errorf("%s: %s %s = %d %.200s, want 403", denied, o.Method, path, r.status, r.body)
			}
		}
		body := fmt.Sprintf(`{"bucket":%q,"parentAccessKeyId":%q,"permission":"object-read-only","ttlSeconds":600}`, a.params["bucket_name"], a.tokenID)
		if r := node.ask(token, "POST", "/accounts/"+a.AccountID+"/r2/temp-access-credentials", body); r.status != 403 {
			t.Errorf("%s: credentials of %s's parent = %d %.200s, want 403", denied, id, r.status, r.body)
		}
	}
}
