package node

import (
	"cmp"
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"selvage/control/cli"
	"selvage/product"
	"selvage/spec"
)

// demoZone is the name of the demo site. Browsers and curl resolve *.localhost to loopback.
const demoZone = "demo.localhost"

//go:embed demo/index.html
var demoPage string

// newDemoOrigin returns a small origin server, which the edge reaches over loopback like any other.
func newDemoOrigin() *http.Server {
	page := template.Must(template.New("demo").Parse(demoPage))
	var asked atomic.Uint64
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		page.Execute(w, map[string]string{
			"Ray": cmp.Or(r.Header.Get("CF-Ray"), "none: you asked the origin itself"), "Client": cmp.Or(r.Header.Get("CF-Connecting-IP"), r.RemoteAddr),
			"Scheme": cmp.Or(r.Header.Get("X-Forwarded-Proto"), "http"), "Now": time.Now().UTC().Format("15:04:05.000 MST"), "Zone": demoZone,
		})
	})
	mux.HandleFunc("GET /counter.js", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/javascript; charset=utf-8")
		w.Header().Set("Cache-Control", "public, max-age=60")
		fmt.Fprintf(w, "// The origin was asked for this file %d times.\n", asked.Add(1))
	})
	return &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
}

// makeDemo makes what is missing of the demo zone and points its rule at the origin's port. What
// the user changed meanwhile stays.
func (n *Node) makeDemo(ctx context.Context) error {
	_, port, err := net.SplitHostPort(n.sockets["demo"].addr().String())
	if err != nil {
		return err
	}
	account := n.control.accountID(n.state.Snapshot())
	return n.state.Update(ctx, spec.Actor{Via: "node"}, func(tx product.Tx) error {
		now := spec.Timestamp(time.Now())
		z := tx.Snapshot().ZoneByName(demoZone)
		if z == nil {
			var err error
			if z, err = putDemoZone(tx, spec.Zone{AccountID: account, NameServers: n.config.NameServers, CreatedOn: now}); err != nil {
				return err
			}
		}
		rules := spec.Ruleset{
			ID: spec.NewID(), ZoneID: z.Zone.ID, Name: "default", Kind: "zone", Phase: "http_request_origin", Version: 1, LastUpdated: now,
			Rules: []spec.Rule{{
				ID: spec.NewID(), Version: 1, Expression: fmt.Sprintf("http.host eq %q", demoZone), Action: "route", Enabled: true, LastUpdated: now,
				Description:      "The demo origin inside the node listens here.",
				ActionParameters: json.RawMessage(`{"origin":{"port":` + port + `}}`),
			}},
		}
		if old := z.Ruleset(rules.Phase); old != nil {
			if len(old.Rules) == 1 && string(old.Rules[0].ActionParameters) == string(rules.Rules[0].ActionParameters) {
				return nil
			}
			rules.ID, rules.Version = old.ID, old.Version+1
		}
		rules.Rules[0].Ref = rules.Rules[0].ID
		return tx.Put(&rules)
	})
}

func putDemoZone(tx product.Tx, z spec.Zone) (*spec.ZoneConfig, error) {
	z.ID, z.Name, z.Status, z.Type = spec.NewID(), demoZone, "active", "full"
	z.ModifiedOn, z.ActivatedOn = z.CreatedOn, z.CreatedOn
	if err := tx.Put(&z); err != nil {
		return nil, err
	}
	for _, name := range []string{demoZone, "www." + demoZone} {
		r := &spec.Record{
			ID: spec.NewID(), ZoneID: z.ID, Name: name, Type: "A", Content: "127.0.0.1", TTL: 1, Proxied: true,
			Comment: "the demo origin inside the node", CreatedOn: z.CreatedOn, ModifiedOn: z.CreatedOn,
		}
		if err := tx.Put(r); err != nil {
			return nil, err
		}
	}
	return &spec.ZoneConfig{Zone: &z}, nil
}

// printDemo tells who just started the node what to do with it.
func printDemo(w io.Writer, f cli.NodeFile, data string) {
	_, httpPort, _ := net.SplitHostPort(f.HTTP[len("http://"):])
	_, httpsPort, _ := net.SplitHostPort(f.HTTPS[len("https://"):])
	dnsHost, dnsPort, _ := net.SplitHostPort(f.DNS)
	at := ""
	if data != DefaultData() {
		at = " --data " + data
	}
	self := os.Args[0] // as it was called, so that the lines below can be pasted
	fmt.Fprintf(w, `
  Selvage %s is up, with a demo site behind it.

  See it       http://%[2]s:%[3]s/    https://%[2]s:%[4]s/
  With curl    curl -i http://%[2]s:%[3]s/counter.js
               curl -i --cacert %[5]s https://%[2]s:%[4]s/counter.js
  With dig     dig @%[6]s -p %[7]s %[2]s A
  How it is    %[13]s status%[8]s
  Watch        %[13]s tail%[8]s
  Purge        %[13]s purge %[2]s --everything%[8]s

  Your site    %[13]s zone add example.com%[8]s
               %[13]s dns add example.com @ A ADDRESS-OF-YOUR-SERVER --proxied%[8]s
               curl -i --resolve example.com:%[3]s:127.0.0.1 http://example.com:%[3]s/

  A Worker     eval "$(%[13]s dev%[8]s)" && npx wrangler deploy
               %[13]s worker list%[8]s

  Data         %[13]s r2 create photos%[8]s && %[13]s r2 credentials%[8]s
               %[13]s kv, d1, queues, hyperdrive, usage, backup

  Tools that speak Cloudflare's API (wrangler, SDKs, lego, Terraform) work with
               export CLOUDFLARE_API_BASE_URL=%[9]s
               export CLOUDFLARE_API_TOKEN=$(cat %[10]s)
               export CLOUDFLARE_ACCOUNT_ID=%[11]s

  Metrics      %[12]s/metrics
  Stop         Ctrl-C

`, f.Version, demoZone, httpPort, httpsPort, f.CAFile, dnsHost, dnsPort, at, f.API, f.TokenFile, f.AccountID, f.Admin, self)
}
