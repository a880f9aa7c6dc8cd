package dns_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"mime/multipart"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"selvage/control/store"
	"selvage/engine/state"
	"selvage/foundation/fault"
	"selvage/product"
	"selvage/product/dns"
	"selvage/spec"
)

// desk calls the routes of a server on a real store, as control/api would.
type desk struct {
	t      testing.TB
	server *dns.Server
	store  *store.Store
	zone   *spec.Zone
}

func newDesk(t testing.TB, zone string) *desk {
	t.Helper()
	db, err := state.Open(t.TempDir(), state.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	st, err := store.Open(t.Context(), db, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s := dns.New(dns.Options{State: st, Upstreams: []string{"127.0.0.1:1"}})
	st.OnCommit(func(ctx context.Context, snap *spec.Snapshot) error {
		c, err := s.Prepare(ctx, snap)
		if err == nil {
			c.Commit()
		}
		return err
	})
	d := &desk{t: t, server: s, store: st, zone: &spec.Zone{ID: spec.NewID(), AccountID: strings.Repeat("a", 32), Name: zone, Status: "active", Type: "full", NameServers: []string{"ns1." + zone}}}
	account := &spec.Account{ID: d.zone.AccountID, Name: "test"}
	if err := st.Update(t.Context(), spec.Actor{}, func(tx product.Tx) error {
		if err := tx.Put(account); err != nil {
			return err
		}
		return tx.Put(d.zone)
	}); err != nil {
		t.Fatal(err)
	}
	return d
}

// call runs one request, "GET /path?query", and returns its result as JSON.
func (d *desk) call(request, body string) (map[string]any, error) {
	reply, err := d.do(request, http.Header{}, []byte(body))
	if err != nil || reply.Result == nil {
		return nil, err
	}
	data, err := json.Marshal(map[string]any{"result": reply.Result, "info": reply.Info})
	if err != nil {
		d.t.Fatal(err)
	}
	var out map[string]any
	if err := json.Unmarshal(data, &out); err != nil {
		d.t.Fatal(err)
	}
	return out, nil
}

func (d *desk) do(request string, header http.Header, body []byte) (product.Reply, error) {
	d.t.Helper()
	method, rest, _ := strings.Cut(request, " ")
	path, query, _ := strings.Cut(rest, "?")
	q, err := url.ParseQuery(query)
	if err != nil {
		d.t.Fatal(err)
	}
	for _, r := range d.server.Routes() {
		suffix := strings.TrimPrefix(r.Path, "/zones/{zone_id}/dns_records")
		id := strings.TrimPrefix(path, "/")
		literal := suffix == path
		if r.Method != method || !literal && (suffix != "/{record_id}" || id == "" || strings.Contains(id, "/")) {
			continue
		}
		c := &product.Call{Zone: d.store.Snapshot().Zones[d.zone.ID], Query: q, Header: header, Body: bytes.NewReader(body), Params: map[string]string{"record_id": id}}
		return r.Handle(d.t.Context(), c)
	}
	d.t.Fatalf("no route for %s", request)
	return product.Reply{}, nil
}

// create posts a record and returns it.
func (d *desk) create(body string) map[string]any {
	d.t.Helper()
	got, err := d.call("POST ", body)
	if err != nil {
		d.t.Fatalf("create %s: %v", body, err)
	}
	return got["result"].(map[string]any)
}

func (d *desk) importFile(file, proxied string) (map[string]any, error) {
	d.t.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	part, _ := w.CreateFormFile("file", "zone.txt")
	part.Write([]byte(file))
	w.WriteField("proxied", proxied)
	w.Close()
	reply, err := d.do("POST /import", http.Header{"Content-Type": {w.FormDataContentType()}}, b.Bytes())
	if err != nil {
		return nil, err
	}
	data, _ := json.Marshal(reply.Result)
	var out map[string]any
	return out, json.Unmarshal(data, &out)
}

func (d *desk) export() string {
	d.t.Helper()
	reply, err := d.do("GET /export", http.Header{}, nil)
	if err != nil {
		d.t.Fatal(err)
	}
	var b bytes.Buffer
	if err := reply.Raw.Write(d.t.Context(), &b); err != nil {
		d.t.Fatal(err)
	}
	return b.String()
}

func codes(err error) []int {
	var all []int
	for _, f := range fault.All(err) {
		all = append(all, f.Code)
	}
	return all
}

func TestRecordForms(t *testing.T) {
	d := newDesk(t, "example.com")
	for _, c := range []struct{ body, want string }{
		{`{"type":"A","name":"www","content":"192.0.2.1"}`, `www.example.com A "192.0.2.1" ttl 1`},
		{`{"type":"a","name":"WWW2.Example.COM.","content":"192.0.2.1","ttl":120}`, `www2.example.com A "192.0.2.1" ttl 120`},
		{`{"type":"A","name":"@","content":"192.0.2.1","ttl":3600,"proxied":true}`, `example.com A "192.0.2.1" ttl 1 proxied`},
		{`{"type":"AAAA","name":"six","content":"2001:DB8:0::1"}`, `six.example.com AAAA "2001:db8::1" ttl 1`},
		{`{"type":"CNAME","name":"Bücher","content":"Straße.example.net."}`, `xn--bcher-kva.example.com CNAME "xn--strae-oqa.example.net" ttl 1`},
		{`{"type":"CNAME","name":"tozone","content":"@"}`, `tozone.example.com CNAME "example.com" ttl 1`},
		{`{"type":"A","name":"www.example.net","content":"192.0.2.1"}`, `www.example.net.example.com A "192.0.2.1" ttl 1`},
		{`{"type":"A","name":"*","content":"192.0.2.1"}`, `*.example.com A "192.0.2.1" ttl 1`},
		{`{"type":"TXT","name":"t1","content":"plain text; with \"quotes\""}`, `t1.example.com TXT "plain text; with \"quotes\"" ttl 1`},
		{`{"type":"TXT","name":"t2","content":"\"quoted\""}`, `t2.example.com TXT "\"quoted\"" ttl 1`},
		{`{"type":"MX","name":"@","content":"mail.example.com","priority":10}`, `example.com MX "mail.example.com" ttl 1 priority 10`},
		{`{"type":"MX","name":"nomail","content":".","priority":0}`, `nomail.example.com MX "." ttl 1 priority 0`},
		{`{"type":"SRV","name":"_sip._tcp","data":{"priority":10,"weight":5,"port":5060,"target":"sip.example.com"}}`, `_sip._tcp.example.com SRV "5 5060 sip.example.com" ttl 1 priority 10 data {"port":5060,"priority":10,"target":"sip.example.com","weight":5}`},
		{`{"type":"SRV","data":{"service":"_xmpp","proto":"_tcp","name":"example.com","priority":1,"weight":2,"port":3,"target":"x.example.com"}}`, `_xmpp._tcp.example.com SRV "2 3 x.example.com" ttl 1 priority 1 data {"port":3,"priority":1,"target":"x.example.com","weight":2}`},
		{`{"type":"CAA","name":"@","data":{"flags":0,"tag":"issue","value":"letsencrypt.org"}}`, `example.com CAA "0 issue \"letsencrypt.org\"" ttl 1 data {"flags":0,"tag":"issue","value":"letsencrypt.org"}`},
		{`{"type":"CAA","name":"@","content":"0 iodef \"mailto:a@example.com\""}`, `example.com CAA "0 iodef \"mailto:a@example.com\"" ttl 1 data {"flags":0,"tag":"iodef","value":"mailto:a@example.com"}`},
		{`{"type":"HTTPS","name":"h","data":{"priority":1,"target":".","value":"alpn=\"h3,h2\""}}`, `h.example.com HTTPS "1 . alpn=\"h3,h2\"" ttl 1 data {"priority":1,"target":".","value":"alpn=\"h3,h2\""}`},
		{`{"type":"URI","name":"u","priority":10,"data":{"weight":1,"target":"https://example.com/"}}`, `u.example.com URI "1 \"https://example.com/\"" ttl 1 priority 10 data {"target":"https://example.com/","weight":1}`},
		{`{"type":"LOC","name":"l","data":{"lat_degrees":37,"lat_minutes":46,"lat_seconds":46,"lat_direction":"N","long_degrees":122,"long_minutes":23,"long_seconds":35,"long_direction":"W","altitude":10,"size":100,"precision_horz":100,"precision_vert":10}}`,
			`l.example.com LOC "37 46 46 N 122 23 35 W 10m 100m 100m 10m" ttl 1 data {"altitude":10,"lat_degrees":37,"lat_direction":"N","lat_minutes":46,"lat_seconds":46,"long_degrees":122,"long_direction":"W","long_minutes":23,"long_seconds":35,"precision_horz":100,"precision_vert":10,"size":100}`},
		{`{"type":"A","name":"tagged","content":"192.0.2.9","comment":"hello","tags":["team:web"],"settings":{"ipv4_only":false},"zone_id":"x","meta":{"a":1}}`, `tagged.example.com A "192.0.2.9" ttl 1 comment hello tags [team:web]`},
	} {
		if got := describe(d.create(c.body)); got != c.want {
			t.Errorf("create %s:\n got %s\nwant %s", c.body, got, c.want)
		}
	}
}

func describe(r map[string]any) string {
	s := fmt.Sprintf("%s %s %q ttl %v", r["name"], r["type"], r["content"], r["ttl"])
	if r["proxied"] == true {
		s += " proxied"
	}
	if p := r["priority"]; p != nil {
		s += fmt.Sprintf(" priority %v", p)
	}
	if p := r["data"]; p != nil {
		data, _ := json.Marshal(p)
		s += " data " + string(data)
	}
	if p := r["comment"]; p != nil {
		s += fmt.Sprintf(" comment %v tags %v", p, r["tags"])
	}
	return s
}

func TestRecordFaults(t *testing.T) {
	d := newDesk(t, "example.com")
	d.create(`{"type":"A","name":"a","content":"192.0.2.1"}`)
	d.create(`{"type":"CNAME","name":"c","content":"a.example.com"}`)
	d.create(`{"type":"TXT","name":"t","content":"x"}`)
	d.create(`{"type":"NS","name":"sub","content":"ns.example.net"}`)
	d.create(`{"type":"CNAME","name":"p","content":"a.example.com","proxied":true}`)
	d.create(`{"type":"TXT","name":"p","content":"beside a proxied CNAME"}`)
	for _, c := range []struct {
		body  string
		code  int
		field string
	}{
		{`{"type":"A","name":"x","content":"300.1.1.1"}`, 9005, "content"},
		{`{"type":"A","name":"x","content":"::1"}`, 9005, "content"},
		{`{"type":"AAAA","name":"x","content":"192.0.2.1"}`, 9006, "content"},
		{`{"type":"CNAME","name":"x","content":"-bad-.example"}`, 9007, "content"},
		{`{"type":"CNAME","name":"x","content":"x.example.com"}`, 9039, "content"},
		{`{"type":"A","name":"a","content":"192.0.2.1"}`, 81058, ""},
		{`{"type":"A","name":"c","content":"192.0.2.1"}`, 81054, ""},
		{`{"type":"TXT","name":"c","content":"x"}`, 81054, ""},
		{`{"type":"CNAME","name":"a","content":"x.example.net"}`, 81053, ""},
		{`{"type":"CNAME","name":"c","content":"x.example.net"}`, 81053, ""},
		{`{"type":"CNAME","name":"t","content":"x.example.net"}`, 81053, ""},
		{`{"type":"CNAME","name":"sub","content":"x.example.net"}`, 81056, ""},
		{`{"type":"A","name":"x.example.net.","content":"192.0.2.1"}`, 9000, "name"},
		{`{"type":"A","name":"a b","content":"192.0.2.1"}`, 9000, "name"},
		{`{"type":"A","name":"` + strings.Repeat("a", 64) + `","content":"192.0.2.1"}`, 9000, "name"},
		{`{"type":"A","name":"` + strings.Repeat("a.", 130) + `","content":"192.0.2.1"}`, 9000, "name"},
		{`{"type":"A","content":"192.0.2.1"}`, 9000, "name"},
		{`{"type":"SOA","name":"@","content":"x"}`, 1004, "type"},
		{`{"type":"A","name":"x"}`, 1004, "content"},
		{`{"type":"A","name":"x","content":"192.0.2.1","ttl":5}`, 9021, "ttl"},
		{`{"type":"A","name":"x","content":"192.0.2.1","ttl":100000}`, 9021, "ttl"},
		{`{"type":"TXT","name":"x","content":"a","proxied":true}`, 9004, "proxied"},
		{`{"type":"TXT","name":"x","content":"\"open"}`, 1004, "content"},
		{`{"type":"TXT","name":"x","content":"` + strings.Repeat("a", 65536) + `"}`, 1004, "content"},
		{`{"type":"MX","name":"x","content":"m.example.com"}`, 9101, "priority"},
		{`{"type":"SRV","name":"_s._tcp","data":{"priority":1,"weight":1,"port":70000,"target":"a.example"}}`, 1004, "data.port"},
		{`{"type":"SRV","name":"_s._tcp","data":{"priority":1,"weight":1,"target":"a.example"}}`, 9101, "data.port"},
		{`{"type":"SRV","name":"_s._tcp","data":{"priority":1,"weight":1,"port":1,"target":"a.example","colour":"red"}}`, 1004, "data.colour"},
		{`{"type":"CAA","name":"x","data":{"flags":300,"tag":"issue","value":"a"}}`, 1004, "data.flags"},
		{`{"type":"TLSA","name":"x","content":"3 1 1 zz"}`, 1004, "data.certificate"},
		{`{"type":"HTTPS","name":"x","content":"1 . nonsense=;"}`, 1004, "data.value"},
		{`{"type":"NS","name":"*.w","content":"ns.example.net"}`, 9000, "name"},
		{`{"type":"A","name":"x","content":"192.0.2.1","tags":["no good:x"]}`, 9300, "tags[0]"},
		{`{"type":"A","name":"x","content":"192.0.2.1","surprise":1}`, 0, "surprise"},
	} {
		_, err := d.call("POST ", c.body)
		all := fault.All(err)
		if len(all) == 0 || all[0].Code != c.code || all[0].Field != c.field {
			t.Errorf("create %.100s: got %v %v, want code %d at %q", c.body, codes(err), err, c.code, c.field)
		}
	}
	if n := len(d.store.Snapshot().Zones[d.zone.ID].Records); n != 6 {
		t.Errorf("after refused requests the zone has %d records, want 6", n)
	}
}

func TestRecordChanges(t *testing.T) {
	d := newDesk(t, "example.com")
	id := d.create(`{"type":"A","name":"a","content":"192.0.2.1","comment":"first","tags":["a:b"],"ttl":300}`)["id"].(string)
	got, err := d.call("PATCH /"+id, `{"content":"192.0.2.2"}`)
	if err != nil {
		t.Fatal(err)
	}
	if s := describe(got["result"].(map[string]any)); s != `a.example.com A "192.0.2.2" ttl 300 comment first tags [a:b]` {
		t.Errorf("after PATCH: %s", s)
	}
	got, err = d.call("PUT /"+id, `{"type":"MX","name":"b","content":"m.example.com","priority":5}`)
	if err != nil {
		t.Fatal(err)
	}
	if s := describe(got["result"].(map[string]any)); s != `b.example.com MX "m.example.com" ttl 1 priority 5` {
		t.Errorf("after PUT: %s", s)
	}
	// Writing a record over itself is no conflict.
	if _, err := d.call("PUT /"+id, `{"type":"MX","name":"b","content":"m.example.com","priority":5}`); err != nil {
		t.Error(err)
	}
	if _, err := d.call("DELETE /"+id, ""); err != nil {
		t.Fatal(err)
	}
	for _, request := range []string{"GET /" + id, "DELETE /" + id, "PATCH /" + id} {
		if _, err := d.call(request, `{"content":"192.0.2.2"}`); fault.KindOf(err) != fault.NotFound || codes(err)[0] != 81044 {
			t.Errorf("%s of a deleted record: %v", request, err)
		}
	}
}

func TestBatch(t *testing.T) {
	d := newDesk(t, "example.com")
	a := d.create(`{"type":"A","name":"a","content":"192.0.2.1"}`)["id"].(string)
	b := d.create(`{"type":"A","name":"b","content":"192.0.2.1"}`)["id"].(string)
	c := d.create(`{"type":"A","name":"c","content":"192.0.2.1"}`)["id"].(string)
	// The CNAME takes the place that the delete made, and d's content the one that the patch left.
	got, err := d.call("POST /batch", `{"posts":[{"type":"CNAME","name":"a","content":"b.example.com"},{"type":"A","name":"b","content":"192.0.2.1"}],
		"deletes":[{"id":"`+a+`"}],"patches":[{"id":"`+b+`","content":"192.0.2.2"}],"puts":[{"id":"`+c+`","type":"A","name":"d","content":"192.0.2.1"}]}`)
	if err != nil {
		t.Fatal(err)
	}
	result := got["result"].(map[string]any)
	for list, want := range map[string]int{"deletes": 1, "patches": 1, "puts": 1, "posts": 2} {
		if n := len(result[list].([]any)); n != want {
			t.Errorf("batch answered %d %s, want %d", n, list, want)
		}
	}
	// One bad change undoes all.
	before := d.store.Snapshot().Version
	_, err = d.call("POST /batch", `{"posts":[{"type":"A","name":"e","content":"192.0.2.1"},{"type":"A","name":"f","content":"nonsense"}],"deletes":[{"id":"`+b+`"}]}`)
	if all := fault.All(err); len(all) != 1 || all[0].Field != "posts[1].content" {
		t.Errorf("bad batch: %v", err)
	}
	if after := d.store.Snapshot().Version; after != before {
		t.Errorf("a refused batch moved the state from version %d to %d", before, after)
	}
}

func TestLargeBatch(t *testing.T) {
	d := newDesk(t, "example.com")
	var b strings.Builder
	for i := range 10_000 {
		fmt.Fprintf(&b, `,{"type":"A","name":"h%d","content":"10.0.%d.%d","ttl":300}`, i, i/256, i%256)
	}
	if _, err := d.call("POST /batch", `{"posts":[`+b.String()[1:]+`]}`); err != nil {
		t.Fatal(err)
	}
	got, err := d.call("GET ?per_page=5000000", "")
	if err != nil || len(got["result"].([]any)) != 10_000 {
		t.Fatalf("list after the batch: %d records, %v", len(got["result"].([]any)), err)
	}
	_, err = d.call("POST /batch", `{"deletes":[`+strings.Repeat(`{"id":"x"},`, 20_000)+`{"id":"x"}]}`)
	if fault.KindOf(err) != fault.TooMuch {
		t.Errorf("batch of 20,001: %v", err)
	}
}

func TestList(t *testing.T) {
	d := newDesk(t, "example.com")
	for _, body := range []string{
		`{"type":"A","name":"www","content":"192.0.2.1","proxied":true,"comment":"Main site","tags":["env:prod","team:web"]}`,
		`{"type":"A","name":"api","content":"192.0.2.20","ttl":300,"tags":["env:prod"]}`,
		`{"type":"A","name":"dev","content":"198.51.100.1","ttl":60,"comment":"scratch","tags":["env:dev"]}`,
		`{"type":"TXT","name":"www","content":"\"v=spf1\""}`,
		`{"type":"MX","name":"@","content":"mail.example.net","priority":1}`,
	} {
		d.create(body)
	}
	for _, c := range []struct{ query, want string }{
		{"", "api/A dev/A example.com/MX www/A www/TXT"},
		{"name=www.example.com", "www/A www/TXT"},
		{"name=WWW.example.com&type=a", "www/A"},
		{"name.exact=www.example.com", "www/A www/TXT"},
		{"name.startswith=w", "www/A www/TXT"},
		{"name.endswith=i.example.com", "api/A"},
		{"name.contains=ev", "dev/A"},
		{"content=192.0.2.1", "www/A"},
		{"content.exact=192.0.2.20", "api/A"},
		{"content.startswith=192.0.2", "api/A www/A"},
		{"content.contains=SPF", "www/TXT"},
		{"content.endswith=.net", "example.com/MX"},
		{"proxied=true", "www/A"},
		{"proxied=false&type=A", "api/A dev/A"},
		{"comment.present", "dev/A www/A"},
		{"comment.absent=true&type=A", "api/A"},
		{"comment.contains=SITE", "www/A"},
		{"comment.exact=scratch", "dev/A"},
		{"tag=env:prod", "api/A www/A"},
		{"tag.present=team", "www/A"},
		{"tag.absent=env&type=A", ""},
		{"tag.contains=env:ro", "api/A www/A"},
		{"tag.exact=env:dev&tag.present=team", ""},
		{"tag.exact=env:dev&tag.present=team&tag_match=any", "dev/A www/A"},
		{"type=MX&name=api.example.com&match=any", "api/A example.com/MX"},
		{"search=site%20www", "www/A"},
		{"order=type&direction=desc&per_page=2", "www/TXT example.com/MX"},
		{"order=content&type=A", "www/A api/A dev/A"},
		{"order=ttl&type=A&direction=desc", "api/A dev/A www/A"},
		{"per_page=2&page=2", "example.com/MX www/A"},
		{"per_page=2&page=9", ""},
	} {
		got, err := d.call("GET ?"+c.query, "")
		if err != nil {
			t.Errorf("list %s: %v", c.query, err)
			continue
		}
		var names []string
		for _, r := range got["result"].([]any) {
			m := r.(map[string]any)
			names = append(names, strings.TrimSuffix(m["name"].(string), ".example.com")+"/"+m["type"].(string))
		}
		if s := strings.Join(names, " "); s != c.want {
			t.Errorf("list %s: got %q, want %q", c.query, s, c.want)
		}
	}
	for _, query := range []string{"match=some", "order=age", "direction=up", "proxied=maybe", "page=0", "per_page=x"} {
		if _, err := d.call("GET ?"+query, ""); fault.KindOf(err) != fault.Invalid {
			t.Errorf("list %s: %v, want an Invalid fault", query, err)
		}
	}
}

const importedZone = `; a zone as it comes from elsewhere
$ORIGIN example.com.
$TTL 1h
@	IN	SOA	ns.old.example. admin.old.example. (
		2024010101 ; serial
		7200 3600 1209600 3600 )
	IN	NS	ns.old.example.
@	IN	A	192.0.2.1
	IN	MX	10 mail
mail	300	A	192.0.2.25 ; the mail host cf_tags=team:mail,cf-proxied:false
www	CNAME	@	; cf_tags=cf-proxied:true
txt	TXT	"one; two" "three \" four" five
_sip._tcp 2d IN SRV 10 5 5060 sip.example.net.
multi	TXT	( "a"
	"b" )
$ORIGIN deep.example.com.
host	IN 60	AAAA	2001:db8::1
caa	CAA	0 issue "letsencrypt.org"
`

func TestImportExport(t *testing.T) {
	d := newDesk(t, "example.com")
	got, err := d.importFile(importedZone, "false")
	if err != nil {
		t.Fatal(err)
	}
	if got["recs_added"] != 9.0 || got["total_records_parsed"] != 9.0 {
		t.Errorf("import: %v", got)
	}
	text := d.export()
	for _, line := range []string{
		"example.com.\t3600\tIN\tA\t192.0.2.1 ; cf_tags=cf-proxied:false",
		"example.com.\t3600\tIN\tMX\t10 mail.example.com.",
		"mail.example.com.\t300\tIN\tA\t192.0.2.25 ; the mail host cf_tags=team:mail,cf-proxied:false",
		"www.example.com.\t1\tIN\tCNAME\texample.com. ; cf_tags=cf-proxied:true,cf-flatten-cname:false",
		`txt.example.com.` + "\t3600\tIN\tTXT\t" + `"one; two" "three \" four" "five"`,
		"_sip._tcp.example.com.\t86400\tIN\tSRV\t10 5 5060 sip.example.net.",
		`multi.example.com.` + "\t3600\tIN\tTXT\t" + `"a" "b"`,
		"host.deep.example.com.\t60\tIN\tAAAA\t2001:db8::1 ; cf_tags=cf-proxied:false",
		`caa.deep.example.com.` + "\t3600\tIN\tCAA\t" + `0 issue "letsencrypt.org"`,
	} {
		if !slices.Contains(strings.Split(text, "\n"), line) {
			t.Errorf("export lacks %q", line)
		}
	}
	// What was exported says the same to another zone, and importing it twice changes nothing.
	other := newDesk(t, "example.com")
	got, err = other.importFile(text, "true")
	if err != nil || got["recs_added"] != 9.0 {
		t.Fatalf("import of the export: %v %v", got, err)
	}
	got, err = other.importFile(text, "true")
	if err != nil || got["recs_added"] != 0.0 {
		t.Errorf("second import: %v %v", got, err)
	}
	if again := other.export(); body(again) != body(text) {
		t.Errorf("export of the import differs:\n%s\nwant\n%s", again, text)
	}
}

// body leaves out what says when and at which version a zone was exported.
func body(export string) string {
	var kept []string
	for line := range strings.Lines(export) {
		if !strings.HasPrefix(line, ";; Exported") && !strings.Contains(line, "\tSOA\t") {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "")
}

func TestImportFaults(t *testing.T) {
	d := newDesk(t, "example.com")
	_, err := d.importFile("a A 192.0.2.1\nb A nonsense\n$INCLUDE /etc/passwd\n$GENERATE 1-1000000 h$ A 10.0.0.$\nc HINFO a b\nd TXT \"open\ne A 192.0.2.5\nx.other.org. A 192.0.2.1\nc2 CNAME a\nc2 CNAME b\n)\n", "false")
	var lines []string
	for _, f := range fault.All(err) {
		at, _, _ := strings.Cut(f.Message, ":")
		lines = append(lines, at)
	}
	if got := strings.Join(lines, ","); got != "Line 2,Line 3,Line 4,Line 5,Line 6,Line 8,Line 11" {
		t.Errorf("bad lines: %s\n%v", got, err)
	}
	_, err = d.importFile("a A 192.0.2.1\nc2 CNAME a\n\nc2 CNAME b\n", "false")
	if all := fault.All(err); len(all) != 1 || !strings.HasPrefix(all[0].Message, "Line 4:") {
		t.Errorf("conflicting lines: %v", err)
	}
	if n := len(d.store.Snapshot().Zones[d.zone.ID].Records); n != 0 {
		t.Errorf("a refused import left %d records", n)
	}
	if _, err := d.do("POST /import", http.Header{"Content-Type": {"application/json"}}, []byte(`{}`)); fault.KindOf(err) != fault.Invalid {
		t.Errorf("import of JSON: %v", err)
	}
}

func TestLargeImport(t *testing.T) {
	d := newDesk(t, "example.com")
	var b strings.Builder
	for i := 0; b.Len() < 10<<20; i++ {
		fmt.Fprintf(&b, "host%06d IN TXT \"%s\"\n", i, strings.Repeat("x", 150))
	}
	n := strings.Count(b.String(), "\n")
	got, err := d.importFile(b.String(), "false")
	if err != nil || got["recs_added"] != float64(n) {
		t.Fatalf("import of 10 MiB with %d records: %v %v", n, got, err)
	}
	_, err = d.importFile(strings.Repeat("a A 192.0.2.1\n", dns.MaxRecords+1), "false")
	if fault.KindOf(err) != fault.TooMuch || !strings.Contains(err.Error(), "100000") {
		t.Errorf("import of too many: %v", err)
	}
}

// BenchmarkChange is a record edited through the API in a zone of 10,000: on disk and in effect.
func BenchmarkChange(b *testing.B) {
	d := newDesk(b, "example.com")
	var posts strings.Builder
	for i := range 10_000 {
		fmt.Fprintf(&posts, `,{"type":"A","name":"h%d","content":"10.0.%d.%d","ttl":300}`, i, i/256, i%256)
	}
	if _, err := d.call("POST /batch", `{"posts":[`+posts.String()[1:]+`]}`); err != nil {
		b.Fatal(err)
	}
	id := d.create(`{"type":"A","name":"edited","content":"192.0.2.1"}`)["id"].(string)
	for i := 0; b.Loop(); i++ {
		if _, err := d.call("PATCH /"+id, fmt.Sprintf(`{"content":"192.0.2.%d"}`, i%250+2)); err != nil {
			b.Fatal(err)
		}
	}
}
