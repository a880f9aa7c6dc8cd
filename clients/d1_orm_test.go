package clients

import (
	"strings"
	"testing"
)

// TestD1Drizzle has a Worker use a database through drizzle-orm.
func TestD1Drizzle(t *testing.T) {
	n := startNode(t)
	p := ormProject(t, n, "d1-orm")
	p.wrangler(t, "deploy")
	p.expect(t, "/", `{"made":[[1,"Ada",false,1.5],[2,"Bob",true,null]],"upsert":[{"id":2,"score":7}],"batch":["two","one"],`+
		`"joined":[{"name":"Ada","n":2},{"name":"Bob","n":0}],"found":["1815-12-10T00:00:00.000Z","00ff",["a",{"b":1}]],`+
		`"refused":"Failed query: insert into \"people\" (\"id\", \"name\", \"score\", \"born\", \"alive\", \"raw\", \"tags\") values (null, ?, null, null, null, null, null)\nparams: Ada `+
		`D1_ERROR: UNIQUE constraint failed: people.name: SQLITE_CONSTRAINT (extended: SQLITE_CONSTRAINT_UNIQUE)","undone":2}`)
}

func ormProject(t *testing.T, n *node, program string) *project {
	t.Helper()
	id := n.call(t, "POST", "/accounts/"+n.AccountID+"/d1/database", map[string]any{"name": program})["uuid"].(string)
	p := newProject(t, n, "wrangler", program, program)
	p.rewrite(t, "wrangler.jsonc", "ID_HERE", id)
	if !strings.Contains(p.host(t), program) {
		t.Fatalf("the Worker would be called %s", p.host(t))
	}
	return p
}
