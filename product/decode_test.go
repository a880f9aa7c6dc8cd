package product_test

import (
	"encoding/json"
	"errors"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"selvage/foundation/budget"
	"selvage/foundation/fault"
	"selvage/product"
)

type shape struct {
	Name  string          `json:"name"`
	TTL   *int            `json:"ttl"`
	On    bool            `json:"on"`
	Tags  []string        `json:"tags"`
	Rules []rule          `json:"rules"`
	Any   any             `json:"any"`
	Raw   json.RawMessage `json:"raw"`
	When  time.Time       `json:"when"`
	Map   map[string]rule `json:"map"`
	inner
}

type inner struct {
	Below string `json:"below"`
}

type rule struct {
	Expression string `json:"expression"`
	Priority   uint16 `json:"priority"`
}

func TestDecode(t *testing.T) {
	deep := strings.Repeat("[", product.MaxDepth+2) + strings.Repeat("]", product.MaxDepth+2)
	tests := []struct {
		body, field, says string // says "" means accepted
	}{
		{`{"name":"a","ttl":null,"on":true,"tags":["x"],"any":{"deep":[1,{}]},"raw":{"a":1}}`, "", ""},
		{` {"below":"b","when":"2026-01-02T03:04:05Z","map":{"x":{"priority":1}}} `, "", ""},
		{`{"jump_start":{"x":[1]},"rules":[{"logging":true}]}`, "", ""},
		{`{"nam":"a"}`, "nam", "no field nam"},
		{`{"Name":"a"}`, "Name", "no field Name"},
		{`{"rules":[{},{"expresion":"x"}]}`, "rules[1].expresion", "no field rules[1].expresion"},
		{`{"map":{"k":{"x":1}}}`, "map.k.x", "no field map.k.x"},
		{`{"name":"a","name":"b"}`, "name", "twice"},
		{`{"name":1}`, "name", "name must be a string, not a number"},
		{`{"rules":[{"priority":"x"}]}`, "rules[0].priority", "must be a number, not a string"},
		{`{"rules":{}}`, "rules", "must be a list, not an object"},
		{`{"rules":[{"priority":70000}]}`, "rules.priority", "cannot hold"},
		{`{"when":"yesterday"}`, "", "cannot be read"},
		{`[]`, "", "must be an object"},
		{``, "", "no body"},
		{"  \n", "", "no body"},
		{`{"name":"a"`, "", "ends in the middle"},
		{`{"name":"a"} {}`, "", "goes on after"},
		{`{"name":"a"}x`, "", "goes on after"},
		{`{"name":'a'}`, "", "Malformed JSON"},
		{"{\"name\":\"\xff\"}", "", "UTF-8"},
		{`{"any":` + deep + `}`, "", "nested deeper"},
	}
	for _, tt := range tests {
		c := &product.Call{Body: strings.NewReader(tt.body)}
		err := c.Decode(&shape{}, "jump_start", "rules[].logging")
		if tt.says == "" {
			if err != nil {
				t.Errorf("Decode(%s) = %v, want nil", tt.body, err)
			}
			continue
		}
		all := fault.All(err)
		if len(all) == 0 || !strings.Contains(all[0].Message, tt.says) {
			t.Errorf("Decode(%.60s) = %v, want a fault that says %q", tt.body, err, tt.says)
			continue
		}
		if all[0].Field != tt.field && !strings.Contains(tt.says, "deeper") {
			t.Errorf("Decode(%s) blames %q, want %q", tt.body, all[0].Field, tt.field)
		}
	}
}

func TestDecodeReportsAllAndBounds(t *testing.T) {
	c := &product.Call{Body: strings.NewReader(`{"a":1,"b":2,"on":"x"}`)}
	if all := fault.All(c.Decode(&shape{})); len(all) != 3 {
		t.Errorf("Decode reported %d faults, want 3: %v", len(all), all)
	}
	c = &product.Call{Body: budget.Reader("The body", strings.NewReader(`{"name":"`+strings.Repeat("a", 100)+`"}`), 50)}
	if err := c.Decode(&shape{}); fault.KindOf(err) != fault.TooMuch {
		t.Errorf("Decode over the budget = %v, want TooMuch", err)
	}
	if err := (&product.Call{}).Decode(&shape{}); fault.KindOf(err) != fault.Invalid {
		t.Errorf("Decode without a body = %v, want Invalid", err)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(`{"name":"a","rules":[{"expression":"x"}],"map":{"a":{}}}`)
	f.Add(`{"when":"2026-01-02T03:04:05Z","any":[[[[]]]]}`)
	f.Add(`[1,2`)
	f.Fuzz(func(t *testing.T, body string) {
		var v shape
		err := product.DecodeJSON([]byte(body), &v)
		if err == nil && !json.Valid([]byte(body)) {
			t.Errorf("accepted what is not JSON: %q", body)
		}
		if err != nil && len(fault.All(err)) == 0 {
			t.Errorf("error without a kind for %q: %v", body, err)
		}
	})
}

func TestPage(t *testing.T) {
	items := []int{1, 2, 3, 4, 5, 6, 7}
	tests := []struct {
		query string
		want  []int
		info  product.PageInfo
	}{
		{"", items[:3], product.PageInfo{Page: 1, PerPage: 3, TotalPages: 3, Count: 3, TotalCount: 7}},
		{"page=3", items[6:], product.PageInfo{Page: 3, PerPage: 3, TotalPages: 3, Count: 1, TotalCount: 7}},
		{"page=4", []int{}, product.PageInfo{Page: 4, PerPage: 3, TotalPages: 3, TotalCount: 7}},
		{"page=9223372036854775807", []int{}, product.PageInfo{Page: 9223372036854775807, PerPage: 3, TotalPages: 3, TotalCount: 7}},
		{"per_page=1000", items[:5], product.PageInfo{Page: 1, PerPage: 5, TotalPages: 2, Count: 5, TotalCount: 7}},
	}
	for _, tt := range tests {
		q, _ := url.ParseQuery(tt.query)
		got, info, err := product.Page(items, q, product.Paging{Default: 3, Max: 5})
		if err != nil || got == nil || !slices.Equal(got, tt.want) || *info != tt.info {
			t.Errorf("Page(%q) = %v, %+v, %v, want %v, %+v", tt.query, got, info, err, tt.want, tt.info)
		}
	}
	for _, bad := range []string{"page=0", "page=-1", "page=x", "per_page=0", "per_page=99999999999999999999"} {
		q, _ := url.ParseQuery(bad)
		var e *fault.Error
		if _, _, err := product.Page(items, q, product.Paging{}); !errors.As(err, &e) || e.Kind != fault.Invalid {
			t.Errorf("Page(%q) = %v, want Invalid", bad, err)
		}
	}
}

func TestDecodeStopsAtManyFaults(t *testing.T) {
	var b strings.Builder
	for i := range 50_000 {
		b.WriteString(`,"x` + strconv.Itoa(i) + `":[1]`)
	}
	err := product.DecodeJSON([]byte(`{`+b.String()[1:]+`}`), &shape{})
	if n := len(fault.All(err)); n != 20 {
		t.Errorf("reported %d faults, want 20", n)
	}
}

// BenchmarkDecode reads 10,000 entries, the largest batch of DNS records.
func BenchmarkDecode(b *testing.B) {
	body := []byte(`{"rules":[` + strings.Repeat(`{"expression":"true","priority":1},`, 9999) + `{}]}`)
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		var v shape
		if err := product.DecodeJSON(body, &v); err != nil {
			b.Fatal(err)
		}
	}
}
