package workers_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"selvage/product"
	"selvage/spec"
)

// classes returns a script that exports Durable Object classes of these names.
func classes(names ...string) file {
	code := "import { DurableObject } from 'cloudflare:workers'\n" + hello
	for _, n := range names {
		code += "export class " + n + " extends DurableObject {}\n"
	}
	return esm("index.js", code)
}

// homes returns the namespaces of an account as script.class, with + where they have SQLite.
func (d *desk) homes() string {
	var all []string
	for _, n := range d.account().Namespaces {
		name := n.Script + "." + n.Class
		if n.SQLite {
			name += "+"
		}
		all = append(all, name)
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

func bind(class, script string) string {
	b := `"bindings":[{"type":"durable_object_namespace","name":"DO","class_name":"` + class + `"`
	if script != "" {
		b += `,"script_name":"` + script + `"`
	}
	return b + `}]`
}

func TestMigrations(t *testing.T) {
	d := newDesk(t, nil)
	d.deploy("w", with(`"migrations":{"new_tag":"v1","steps":[{"new_sqlite_classes":["A"]},{"new_classes":["B"]}]},`+bind("A", "")), classes("A", "B"))
	if got := d.homes(); got != "w.A+ w.B" {
		t.Fatalf("namespaces %s", got)
	}
	id := d.account().Namespace("w", "A").ID
	if g := d.ok("GET", "services/w", ""); g.at(t, "default_environment.script.migration_tag") != "v1" {
		t.Errorf("service: %s", g.Body)
	}
	if g := d.ok("GET", "scripts/w/bindings", ""); g.at(t, "0.namespace_id") != id || g.at(t, "0.class_name") != "A" {
		t.Errorf("bindings: %s", g.Body)
	}
	d.deploy("user", with(bind("A", "w")), esm("index.js", hello))

	m := func(old, rest string) string {
		return with(`"migrations":{"old_tag":"` + old + `","new_tag":"v2",` + rest + `}`)
	}
	tests := []struct {
		metadata string
		code     file
		want     int
		says     string
	}{
		{meta, classes("A"), 10064, "class 'B'"},
		{meta, esm("index.js", hello), 10064, "class 'A'"},
		{m("", `"steps":[{"new_classes":["C"]}]`), classes("A", "B", "C"), 10079, "current tag is v1"},
		{m("v0", `"steps":[{"new_classes":["C"]}]`), classes("A", "B", "C"), 10079, "current tag is v1"},
		{m("v1", `"steps":[{"new_classes":["C"]}]`), classes("A", "B"), 10070, "not exported"},
		{m("v1", `"steps":[{"new_classes":["A"]}]`), classes("A", "B"), 10074, "already depended on"},
		{m("v1", `"steps":[{"renamed_classes":[{"from":"A","to":"B"}]}]`), classes("A", "B"), 10074, "already depended on"},
		{m("v1", `"steps":[{"renamed_classes":[{"from":"X","to":"Y"}]}]`), classes("A", "B"), 10021, "no Durable Objects"},
		{m("v1", `"steps":[{"deleted_classes":["X"]}]`), classes("A", "B"), 10021, "no Durable Objects"},
		{m("v1", `"steps":[{"deleted_classes":["B"]}]`), classes("A", "B"), 10061, "still exports"},
		{m("v1", `"steps":[{"deleted_classes":["A"]}]`), classes("B"), 10061, "user"},
		{m("v1", `"steps":[{"transferred_classes":[{"from":"X","from_script":"none","to":"C"}]}]`), classes("A", "B", "C"), 10021, "none"},
		{m("v1", `"steps":[{"new_classes":[""]}]`), classes("A", "B"), 10021, "empty name"},
		{with(`"migrations":{"old_tag":"v1","new_tag":"v2","steps":[{"deleted_classes":["B"]}]},` + bind("B", "")), classes("A"), 10061, "removing the binding"},
	}
	for _, tt := range tests {
		g := d.upload("PUT", "scripts/w", tt.metadata, tt.code)
		if g.code() != tt.want || !strings.Contains(g.Body, tt.says) {
			t.Errorf("%s: code %d, want %d that says %q: %s", tt.metadata, g.code(), tt.want, tt.says, g.Body)
		}
	}
	if got := d.homes(); got != "w.A+ w.B" || d.account().Scripts["w"].MigrationTag != "v1" {
		t.Fatalf("after refusals: %s, tag %s", got, d.account().Scripts["w"].MigrationTag)
	}
	refusal(t, d.upload("POST", "scripts/w/versions", m("v1", `"steps":[{"new_classes":["C"]}]`), classes("A", "B", "C")), 10211, "migrations must be fully applied")
	refusal(t, d.upload("POST", "scripts/w/versions", with(bind("C", "")), classes("A", "B", "C")), 10061, "Did you forget")

	d.deploy("w", m("v1", `"steps":[{"renamed_classes":[{"from":"A","to":"A2"}]},{"deleted_classes":["B"]},{"new_sqlite_classes":["C"]}]`), classes("A2", "C"))
	if got := d.homes(); got != "w.A2+ w.C+" || d.account().Namespace("w", "A2").ID != id {
		t.Fatalf("after renaming: %s", got)
	}
	d.deploy("x", with(`"migrations":{"new_tag":"x1","transferred_classes":[{"from":"A2","from_script":"w","to":"A3"}]}`), classes("A3"))
	if got := d.homes(); got != "w.C+ x.A3+" || d.account().Namespace("x", "A3").ID != id {
		t.Fatalf("after a transfer: %s", got)
	}
	// A version from before the classes changed cannot come back.
	old := d.account().VersionsOf("w")
	refusal(t, d.do("POST", "scripts/w/deployments?force=true", shares(old[len(old)-1].ID, 100)), 10064, "class 'C'")
	// Deleting and making a class anew in one upload wipes it.
	gone := d.account().Namespace("w", "C").ID
	d.deploy("w", with(`"migrations":{"old_tag":"v2","new_tag":"v4","steps":[{"deleted_classes":["C"]},{"new_sqlite_classes":["C"]}]}`), classes("C"))
	if now := d.account().Namespace("w", "C"); now == nil || now.ID == gone || len(d.account().Namespaces) != 2 {
		t.Errorf("class made anew: %v, all %s", now, d.homes())
	}
}

func TestDeleteScript(t *testing.T) {
	d := newDesk(t, nil)
	d.deploy("callee", with(`"migrations":{"new_tag":"v1","new_sqlite_classes":["A"]}`), classes("A"))
	d.deploy("service", with(`"bindings":[{"type":"service","name":"C","service":"callee","entrypoint":"A"}]`), esm("index.js", hello))
	d.deploy("object", with(bind("A", "callee")), esm("index.js", hello))
	d.deploy("tailed", with(`"tail_consumers":[{"service":"callee","environment":"production"}]`), esm("index.js", hello))
	g := d.do("DELETE", "services/callee?force=false", "")
	for _, name := range []string{"service bindings of service", "bindings of object", "tail consumers of tailed"} {
		if g.Success || !strings.Contains(g.Body, name) {
			t.Errorf("delete of a script in use: %s, want %q", g.Body, name)
		}
	}
	refs := d.ok("GET", "scripts/callee/references", "")
	if refs.at(t, "services.incoming.0.service") != "service" || refs.at(t, "durable_objects.0.service") != "object" || refs.at(t, "durable_objects.0.durable_object_namespace_name") != "callee_A" {
		t.Errorf("references: %s", refs.Body)
	}
	if got := d.ok("GET", "scripts/service/references", ""); got.at(t, "services.outgoing.0.service") != "callee" || got.at(t, "services.incoming") != "[]" {
		t.Errorf("references: %s", got.Body)
	}
	if got := d.ok("GET", "tails/by-consumer/callee", ""); got.at(t, "0.producer.service") != "tailed" {
		t.Errorf("tail producers: %s", got.Body)
	}
	if got := d.ok("GET", "workers/callee", ""); got.at(t, "references.workers.0.name") != "service" {
		t.Errorf("worker: %s", got.Body)
	}
	d.ok("DELETE", "services/callee?force=true", "")
	if a := d.account(); a.Scripts["callee"] != nil || len(a.VersionsOf("callee")) != 0 || len(a.Namespaces) != 0 {
		t.Errorf("left after deletion: %v", a)
	}
	refusal(t, d.do("GET", "services/callee", ""), 10090, "callee")
	refusal(t, d.do("DELETE", "scripts/callee", ""), 10007, "callee")
	for _, name := range []string{"service", "object", "tailed"} {
		d.ok("DELETE", "scripts/"+name, "")
	}
	if n := len(d.account().Versions); n != 0 {
		t.Errorf("%d versions left", n)
	}
	// A new script of that name begins anew.
	d.hello("callee")
	if g := d.ok("GET", "scripts/callee/deployments", ""); g.at(t, "deployments.1.id") != "" || g.at(t, "deployments.0.id") == "" {
		t.Errorf("deployments: %s", g.Body)
	}
	if v := d.account().VersionsOf("callee"); len(v) != 1 || v[0].Number != 1 {
		t.Errorf("versions %s", fmt.Sprint(v))
	}
}

func TestDeletingAScriptTakesItsNamesAlong(t *testing.T) {
	d := newDesk(t, nil)
	d.hello("w")
	d.hello("other")
	z := &spec.Zone{ID: spec.NewID(), AccountID: d.owner.AccountID, Name: "site.test", Status: "active", Type: "full", NameServers: []string{"ns1.site.test"}}
	record := &spec.Record{ID: spec.NewID(), ZoneID: z.ID, Name: "w.site.test", Type: "AAAA", Content: "100::", TTL: 1, Proxied: true}
	must(t, d.state.Update(t.Context(), spec.Actor{}, func(tx product.Tx) error {
		for _, n := range []spec.Noun{
			z, record,
			&spec.WorkerDomain{ID: spec.NewID(), AccountID: d.owner.AccountID, ZoneID: z.ID, ZoneName: z.Name, Hostname: "w.site.test", Service: "w", RecordID: record.ID},
			&spec.WorkerRoute{ID: spec.NewID(), ZoneID: z.ID, Pattern: "site.test/w/*", Script: "w"},
			&spec.WorkerRoute{ID: spec.NewID(), ZoneID: z.ID, Pattern: "site.test/*", Script: "other"},
		} {
			if err := tx.Put(n); err != nil {
				return err
			}
		}
		return nil
	}))
	d.ok("DELETE", "workers/"+d.account().Scripts["w"].ID, "")
	left := d.state.Snapshot().Zones[z.ID]
	if len(left.WorkerRoutes) != 1 || left.WorkerRoutes[0].Script != "other" || len(d.account().Domains) != 0 || len(left.Records) != 0 {
		t.Errorf("left: routes %v, domains %v, records %v", left.WorkerRoutes, d.account().Domains, left.Records)
	}
}
