package node_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestObjectsMigrate renames a class, transfers it to another script and deletes the other: what is
// kept keeps its data, what is deleted loses it.
func TestObjectsMigrate(t *testing.T) {
	t.Parallel()
	p := up(t, t.TempDir())
	s := deployObjects(t, p)
	for _, path := range countedObjects {
		s.want(path)
	}
	namespaces := p.namespaces()
	rows, pairs := namespaces["objects_Rows"], namespaces["objects_Pairs"]

	// IDs belong to a namespace, and the API lists those that stored something.
	id := s.want("/pairs/idof/a").ID
	if status, body, err := s.ask("/rows/get/" + id); status != 500 || !strings.Contains(body, "TypeError") {
		t.Errorf("an ID of another namespace: %d %q %v", status, body, err)
	}
	if n := s.want("/pairs/add/" + id).N; n != 2 {
		t.Errorf("by its ID the object counts %d, want 2", n)
	}
	unique := s.want("/rows/unique/x").ID
	if n := s.want("/rows/add/" + unique).N; n != 1 {
		t.Errorf("a new unique object counts %d", n)
	}
	var listed []struct{ ID string }
	if err := p.call("GET", "/accounts/"+p.AccountID+"/workers/durable_objects/namespaces/"+rows+"/objects", "", &listed); err != nil || len(listed) != 3 || !slices.ContainsFunc(listed, func(o struct{ ID string }) bool { return o.ID == unique }) {
		t.Errorf("the API lists %v, %v", listed, err)
	}

	renamed := strings.Replace(objectsSource(t, "renamed"), "class Rows", "class Lines", 1)
	must(t, p.upload("objects", renamed, strings.Replace(objectsBindings, `"Rows"`, `"Lines"`, 1),
		`"migrations":{"old_tag":"v1","new_tag":"v2","steps":[{"renamed_classes":[{"from":"Rows","to":"Lines"}]}]}`))
	if a := s.want("/rows/add/a"); a.N != 2 || a.Version != "renamed" {
		t.Errorf("after the class was renamed: %+v", a)
	}

	const heirBindings = `"bindings":[{"type":"durable_object_namespace","name":"rows","class_name":"Heirs"}]`
	must(t, p.upload("heir", strings.Replace(objectsSource(t, "heir"), "class Rows", "class Heirs", 1), heirBindings,
		`"migrations":{"new_tag":"h1","steps":[{"transferred_classes":[{"from":"Lines","from_script":"objects","to":"Heirs"}]}]}`))
	heir := siteOf(t, p, "heir")
	if a := heir.want("/rows/add/a"); a.N != 3 || a.Version != "heir" || p.namespaces()["heir_Heirs"] != rows {
		t.Errorf("after the class was transferred: %+v", a)
	}

	bare := `export default { fetch() { return new Response("bare") } }`
	must(t, p.upload("objects", bare, `"migrations":{"old_tag":"v2","new_tag":"v3","steps":[{"deleted_classes":["Pairs"]}]}`))
	p.emptied(pairs)
	if a := heir.want("/rows/add/a"); a.N != 4 {
		t.Errorf("after another class was deleted: %+v", a)
	}
	must(t, p.call("DELETE", "/accounts/"+p.AccountID+"/workers/scripts/heir?force=true", "", nil))
	p.emptied(rows)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// namespaces returns the IDs of the account's namespaces by name.
func (p *process) namespaces() map[string]string {
	p.t.Helper()
	var list []struct{ ID, Name string }
	must(p.t, p.call("GET", "/accounts/"+p.AccountID+"/workers/durable_objects/namespaces", "", &list))
	ids := map[string]string{}
	for _, n := range list {
		ids[n.Name] = n.ID
	}
	return ids
}

// emptied waits until the storage of a namespace is gone.
func (p *process) emptied(id string) {
	p.t.Helper()
	path := filepath.Join(p.dir, "objects", p.AccountID, id)
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if _, err := os.Stat(path); os.IsNotExist(err) {
			return
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("%s is still there\n%s", path, p.log)
		}
	}
}
