package sourcemap_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"selvage/product/workers/tail/sourcemap"
)

func TestFind(t *testing.T) {
	const two = `{"version":3,"sources":["../src/a.ts","b.ts"],"sourceRoot":"","mappings":"AAAA,SAAS;;EACP,IAAC;ACAA"}`
	for name, tt := range map[string]struct {
		doc          string
		line, column int
		want         string
	}{
		"start of a line":               {two, 0, 0, "src/a.ts:0:0"},
		"between two":                   {two, 0, 5, "src/a.ts:0:0"},
		"at a segment":                  {two, 0, 9, "src/a.ts:0:9"},
		"behind the last of a line":     {two, 0, 900, "src/a.ts:0:9"},
		"line without segments":         {two, 1, 0, ""},
		"before the first of a line":    {two, 2, 1, ""},
		"columns begin anew":            {two, 2, 2, "src/a.ts:1:2"},
		"sources go on":                 {two, 3, 0, "b.ts:1:3"},
		"behind the end":                {two, 99, 0, ""},
		"root":                          {`{"version":3,"sourceRoot":"/app/","sources":["x.ts"],"mappings":"AAAA"}`, 0, 0, "/app/x.ts:0:0"},
		"root leads up":                 {`{"version":3,"sourceRoot":"../..","sources":["./src/x.ts"],"mappings":"AAAA"}`, 0, 0, "src/x.ts:0:0"},
		"address":                       {`{"version":3,"sourceRoot":"/app","sources":["webpack://x/./a.js"],"mappings":"AAAA"}`, 0, 0, "webpack://x/./a.js:0:0"},
		"source without a name":         {`{"version":3,"sources":[null],"mappings":"AAAA"}`, 0, 0, ""},
		"from nowhere":                  {`{"version":3,"sources":["a"],"mappings":"AAAA,C"}`, 0, 1, ""},
		"five numbers":                  {`{"version":3,"sources":["a"],"names":["n"],"mappings":"AAACA,EACAA"}`, 0, 2, "a:1:1"},
		"out of order":                  {`{"version":3,"sources":["a"],"mappings":"UAAU,VAAV"}`, 0, 3, "a:0:0"},
		"guard line":                    {")]}'\n" + `{"version":3,"sources":["a"],"mappings":"AAAA"}`, 0, 0, "a:0:0"},
		"sections: first":               {sections, 0, 3, "a:0:0"},
		"sections: second, same line":   {sections, 0, 12, "b:0:0"},
		"sections: second, second line": {sections, 1, 0, "b:1:0"},
		"sections: third":               {sections, 5, 2, "a:0:0"},
	} {
		t.Run(name, func(t *testing.T) {
			m, err := sourcemap.Parse([]byte(tt.doc))
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			if p, ok := m.Find(tt.line, tt.column); ok {
				got = fmt.Sprintf("%s:%d:%d", p.Source, p.Line, p.Column)
			}
			if got != tt.want {
				t.Errorf("Find(%d, %d) = %q, want %q", tt.line, tt.column, got, tt.want)
			}
		})
	}
}

const sections = `{"version":3,"sections":[
	{"offset":{"line":0,"column":0},"map":{"version":3,"sources":["a"],"mappings":"AAAA"}},
	{"offset":{"line":0,"column":10},"map":{"version":3,"sources":["b"],"mappings":"AAAA;AACA"}},
	{"offset":{"line":5,"column":2},"map":{"version":3,"sources":["a"],"mappings":"AAAA"}}]}`

func TestRefused(t *testing.T) {
	nulls := func(n int, s string) string { return strings.TrimSuffix(strings.Repeat(s+",", n), ",") }
	for name, doc := range map[string]string{
		"no JSON":            `{`,
		"version 2":          `{"version":2,"mappings":""}`,
		"no version":         `{"mappings":"AAAA","sources":["a"]}`,
		"no such source":     `{"version":3,"sources":["a"],"mappings":"ACAA"}`,
		"source below 0":     `{"version":3,"sources":["a"],"mappings":"ADAA"}`,
		"column below 0":     `{"version":3,"sources":["a"],"names":["n"],"mappings":"AAAAA,EACDA"}`,
		"line below 0":       `{"version":3,"sources":["a"],"mappings":"AADA"}`,
		"two numbers":        `{"version":3,"sources":["a"],"mappings":"AA"}`,
		"six numbers":        `{"version":3,"sources":["a"],"mappings":"AAAAAA"}`,
		"no digit":           `{"version":3,"sources":["a"],"mappings":"A!AA"}`,
		"endless number":     `{"version":3,"sources":["a"],"mappings":"gggggggggggA"}`,
		"cut number":         `{"version":3,"sources":["a"],"mappings":"g"}`,
		"column out of file": `{"version":3,"sources":["a"],"mappings":"+/////B,+/////B,+/////B"}`,
		"sections unordered": `{"version":3,"sections":[{"offset":{"line":2,"column":0},"map":{"version":3}},{"offset":{"line":1,"column":0},"map":{"version":3}}]}`,
		"sections nested":    `{"version":3,"sections":[{"offset":{"line":0,"column":0},"map":{"version":3,"sections":[]}}]}`,
		"sections no list":   `{"version":3,"sections":{}}`,
		"sources no list":    `{"version":3,"sources":"a"}`,
		"too many sources":   `{"version":3,"mappings":"","sources":[` + nulls(100_001, "null") + `]}`,
		"too many sections":  `{"version":3,"sections":[` + nulls(10_001, `{"map":{"version":3}}`) + `]}`,
	} {
		if _, err := sourcemap.Parse([]byte(doc)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"version":3,"sources":["a"],"mappings":"AAAA,SAAS;;EACP,IAAC"}`), 0, 0)
	f.Add([]byte(sections), 5, 2)
	f.Add([]byte(`{"version":3,"sources":["a"],"mappings":"gggggggggggA"}`), 1, -1)
	f.Fuzz(func(t *testing.T, data []byte, line, column int) {
		m, err := sourcemap.Parse(data)
		if err != nil {
			return
		}
		if p, ok := m.Find(line, column); ok && (p.Source == "" || p.Line < 0 || p.Column < 0) {
			t.Errorf("Find(%d, %d) = %+v", line, column, p)
		}
		if m.Size() > 64+40*len(data) {
			t.Errorf("%d bytes became %d", len(data), m.Size())
		}
	})
}

func BenchmarkParse(b *testing.B) {
	doc, _ := json.Marshal(map[string]any{"version": 3, "sources": []string{"a.ts"}, "mappings": strings.Repeat("AAAA,SAAS,IAAI;", 100_000)})
	b.SetBytes(int64(len(doc)))
	for b.Loop() {
		if _, err := sourcemap.Parse(doc); err != nil {
			b.Fatal(err)
		}
	}
}
