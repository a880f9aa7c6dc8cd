package node_test

import (
	"fmt"
	"strings"
	"testing"
)

// TestUploadsRefused uploads what cannot run. Each is refused with a code and a text that names what is
// wrong, and what is deployed answers on.
func TestUploadsRefused(t *testing.T) {
	t.Parallel()
	p := up(t, t.TempDir())
	s := p.deploy("good", says("still here"))
	const fine = `export default { fetch() { return new Response("no") } };`
	for _, c := range []struct {
		name string
		s    script
		code int
		text string
	}{
		{"syntax", script{source: "export default { fetch( { };"}, 10021, "SyntaxError"},
		{"throws", script{source: "throw new TypeError('at the top');" + fine}, 10021, "at the top"},
		{"no main", script{meta: `"main_module":"other.js"`, source: fine}, 10021, "other.js"},
		{"no import", script{source: `import "./absent.js";` + fine}, 10021, "absent.js"},
		{"wasm", script{source: `import m from "./m.wasm"; new WebAssembly.Instance(m);` + fine, parts: []scriptPart{{"m.wasm", "application/wasm", "no wasm"}}}, 10021, "asm"},
		{"binding", script{source: fine, meta: `"bindings":[{"type":"teapot","name":"T"}]`}, 10021, "teapot"},
		{"flag", script{source: fine, meta: `"compatibility_flags":["no_such_flag"]`}, 10021, "no_such_flag"},
		{"future", script{source: fine, date: "2099-01-01"}, 10021, "2099-01-01"},
		{"large", script{source: fine + "//" + strings.Repeat("x", 100<<20)}, 10027, "the limit is"},
		{"loop", script{source: "for (;;);" + fine}, 10021, "startup exceeded CPU time limit"},
		{"flood", script{source: "const a = []; for (;;) a.push({a: new Array(100).fill(a.length + .5)});" + fine}, 10021, "start"}, // memory or CPU, what ends first
	} {
		t.Run(c.name, func(t *testing.T) {
			e, err := p.send("PUT", p.AccountID, "good", c.s)
			if e.Success || len(e.Errors) == 0 || e.Errors[0].Code != c.code || !strings.Contains(fmt.Sprint(e.Errors), c.text) {
				t.Errorf("answered %.800s %.300v; want the code %d and %q", fmt.Sprint(e.Errors), err, c.code, c.text)
			}
		})
		s.expect("/", 200, "still here")
	}
	if n := len(p.versionsOf(t, "good")); n != 1 {
		t.Errorf("there are %d versions", n)
	}
}
