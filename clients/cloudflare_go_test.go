package clients

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cloudflare/cloudflare-go/v6"
	"github.com/cloudflare/cloudflare-go/v6/cache"
	"github.com/cloudflare/cloudflare-go/v6/dns"
	"github.com/cloudflare/cloudflare-go/v6/option"
	"github.com/cloudflare/cloudflare-go/v6/rulesets"
	"github.com/cloudflare/cloudflare-go/v6/user"
	"github.com/cloudflare/cloudflare-go/v6/zones"
)

func sdk(n *node) *cloudflare.Client {
	return cloudflare.NewClient(option.WithBaseURL(n.API+"/"), option.WithAPIToken(n.Token), option.WithMaxRetries(0))
}

// TestCloudflareGo walks a zone's life with Cloudflare's own Go SDK.
func TestCloudflareGo(t *testing.T) {
	n := startNode(t)
	c, ctx := sdk(n), t.Context()

	verified, err := c.User.Tokens.Verify(ctx)
	if err != nil || verified.Status != user.TokenVerifyResponseStatusActive {
		t.Fatalf("Verify() = %+v, %v", verified, err)
	}
	zone, err := c.Zones.New(ctx, zones.ZoneNewParams{
		Account: cloudflare.F(zones.ZoneNewParamsAccount{ID: cloudflare.F(n.AccountID)}),
		Name:    cloudflare.F("sdk.test"),
		Type:    cloudflare.F(zones.TypeFull),
	})
	if err != nil {
		t.Fatal(err)
	}
	if zone.Name != "sdk.test" || zone.Account.ID != n.AccountID || len(zone.NameServers) == 0 {
		t.Errorf("New() = %+v", zone)
	}
	if _, err := c.Zones.New(ctx, zones.ZoneNewParams{
		Account: cloudflare.F(zones.ZoneNewParamsAccount{ID: cloudflare.F(n.AccountID)}),
		Name:    cloudflare.F("sdk.test"),
	}); err == nil || !strings.Contains(err.Error(), "1061") {
		t.Errorf("New() of a zone that exists = %v, want error 1061", err)
	}
	listed, err := c.Zones.List(ctx, zones.ZoneListParams{Name: cloudflare.F("sdk.test")})
	if err != nil || len(listed.Result) != 1 || listed.Result[0].ID != zone.ID {
		t.Errorf("List(name) = %+v, %v", listed, err)
	}
	t.Run("records", func(t *testing.T) { sdkRecords(t, n, c, zone.ID) })
	t.Run("settings", func(t *testing.T) { sdkSettings(t, c, zone.ID) })
	t.Run("rulesets", func(t *testing.T) { sdkRulesets(t, c, zone.ID) })
	t.Run("purge", func(t *testing.T) { sdkPurge(t, c, zone.ID) })

	if _, err := c.Zones.Delete(ctx, zones.ZoneDeleteParams{ZoneID: cloudflare.F(zone.ID)}); err != nil {
		t.Error(err)
	}
	if _, err := c.Zones.Get(ctx, zones.ZoneGetParams{ZoneID: cloudflare.F(zone.ID)}); err == nil {
		t.Error("Get() of a deleted zone succeeded")
	}
}

func sdkRecords(t *testing.T, n *node, c *cloudflare.Client, zoneID string) {
	ctx := t.Context()
	made, err := c.DNS.Records.New(ctx, dns.RecordNewParams{
		ZoneID: cloudflare.F(zoneID),
		Body: dns.ARecordParam{
			Name: cloudflare.F("direct"), Type: cloudflare.F(dns.ARecordTypeA),
			Content: cloudflare.F("192.0.2.7"), TTL: cloudflare.F(dns.TTL(120)),
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if made.Name != "direct.sdk.test" || made.Content != "192.0.2.7" || made.Proxied {
		t.Errorf("New() = %+v", made)
	}
	if got := n.dig(t, "direct.sdk.test", "A"); got != "192.0.2.7" {
		t.Errorf("dig after New() = %q", got)
	}
	if _, err := c.DNS.Records.Edit(ctx, made.ID, dns.RecordEditParams{
		ZoneID: cloudflare.F(zoneID),
		Body:   dns.ARecordParam{Name: cloudflare.F("direct.sdk.test"), Type: cloudflare.F(dns.ARecordTypeA), Content: cloudflare.F("192.0.2.8"), TTL: cloudflare.F(dns.TTL(60))},
	}); err != nil {
		t.Fatal(err)
	}
	if got := n.dig(t, "direct.sdk.test", "A"); got != "192.0.2.8" {
		t.Errorf("dig after Edit() = %q", got)
	}
	batch, err := c.DNS.Records.Batch(ctx, dns.RecordBatchParams{
		ZoneID: cloudflare.F(zoneID),
		Posts: cloudflare.F([]dns.RecordBatchParamsPostUnion{
			dns.TXTRecordParam{Name: cloudflare.F("t1"), Type: cloudflare.F(dns.TXTRecordTypeTXT), Content: cloudflare.F(`"hello world"`), TTL: cloudflare.F(dns.TTL1)},
			dns.MXRecordParam{Name: cloudflare.F("@"), Type: cloudflare.F(dns.MXRecordTypeMX), Content: cloudflare.F("mail.example.org"), Priority: cloudflare.F(10.0), TTL: cloudflare.F(dns.TTL1)},
		}),
	})
	if err != nil || len(batch.Posts) != 2 {
		t.Fatalf("Batch() = %+v, %v", batch, err)
	}
	if got := n.dig(t, "sdk.test", "MX"); got != "10 mail.example.org." {
		t.Errorf("dig MX = %q", got)
	}
	pager := c.DNS.Records.ListAutoPaging(ctx, dns.RecordListParams{ZoneID: cloudflare.F(zoneID), PerPage: cloudflare.F(2.0)})
	count := 0
	for pager.Next() {
		count++
	}
	if err := pager.Err(); err != nil || count != 3 {
		t.Errorf("ListAutoPaging() gave %d records, %v; want 3", count, err)
	}
	file, err := c.DNS.Records.Export(ctx, dns.RecordExportParams{ZoneID: cloudflare.F(zoneID)})
	if err != nil || !strings.Contains(*file, "192.0.2.8") {
		t.Errorf("Export() = %v, %v", file, err)
	}
	imported, err := c.DNS.Records.Import(ctx, dns.RecordImportParams{
		ZoneID: cloudflare.F(zoneID), File: cloudflare.F("imported.sdk.test. 300 IN AAAA 2001:db8::1\n"),
	})
	if err != nil || imported.RecsAdded != 1 {
		t.Errorf("Import() = %+v, %v", imported, err)
	}
	if got := n.dig(t, "imported.sdk.test", "AAAA"); got != "2001:db8::1" {
		t.Errorf("dig of the imported record = %q", got)
	}
	if _, err := c.DNS.Records.Delete(ctx, made.ID, dns.RecordDeleteParams{ZoneID: cloudflare.F(zoneID)}); err != nil {
		t.Error(err)
	}
	if got := n.dig(t, "direct.sdk.test", "A"); got != "" {
		t.Errorf("dig after Delete() = %q", got)
	}
}

func sdkSettings(t *testing.T, c *cloudflare.Client, zoneID string) {
	ctx := t.Context()
	if _, err := c.Zones.Settings.Edit(ctx, "always_use_https", zones.SettingEditParams{
		ZoneID: cloudflare.F(zoneID),
		Body:   zones.SettingEditParamsBody{Value: cloudflare.F[any]("on")},
	}); err != nil {
		t.Fatal(err)
	}
	got, err := c.Zones.Settings.Get(ctx, "always_use_https", zones.SettingGetParams{ZoneID: cloudflare.F(zoneID)})
	if err != nil || fmt.Sprint(got.Value) != "on" {
		t.Errorf("Get() = %+v, %v", got, err)
	}
	if _, err := c.Zones.Settings.Edit(ctx, "ssl", zones.SettingEditParams{
		ZoneID: cloudflare.F(zoneID),
		Body:   zones.SettingEditParamsBody{Value: cloudflare.F[any]("sometimes")},
	}); err == nil || !strings.Contains(err.Error(), "flexible") {
		t.Errorf("Edit(ssl, sometimes) = %v; want an error that lists what is allowed", err)
	}
}

func sdkRulesets(t *testing.T, c *cloudflare.Client, zoneID string) {
	ctx := t.Context()
	set, err := c.Rulesets.Phases.Update(ctx, "http_request_cache_settings", rulesets.PhaseUpdateParams{
		ZoneID: cloudflare.F(zoneID),
		Rules: cloudflare.F([]rulesets.PhaseUpdateParamsRuleUnion{rulesets.SetCacheSettingsRuleParam{
			Action:           cloudflare.F(rulesets.SetCacheSettingsRuleActionSetCacheSettings),
			Expression:       cloudflare.F(`http.host eq "sdk.test" and starts_with(http.request.uri.path, "/static/")`),
			ActionParameters: cloudflare.F(rulesets.SetCacheSettingsRuleActionParametersParam{Cache: cloudflare.F(true)}),
			Description:      cloudflare.F("cache what is static"),
		}}),
	})
	if err != nil || len(set.Rules) != 1 {
		t.Fatalf("Update() = %+v, %v", set, err)
	}
	got, err := c.Rulesets.Phases.Get(ctx, "http_request_cache_settings", rulesets.PhaseGetParams{ZoneID: cloudflare.F(zoneID)})
	if err != nil || len(got.Rules) != 1 || got.Version != set.Version {
		t.Errorf("Get() = %+v, %v", got, err)
	}
	_, err = c.Rulesets.Phases.Update(ctx, "http_request_cache_settings", rulesets.PhaseUpdateParams{
		ZoneID: cloudflare.F(zoneID),
		Rules: cloudflare.F([]rulesets.PhaseUpdateParamsRuleUnion{rulesets.SetCacheSettingsRuleParam{
			Action:     cloudflare.F(rulesets.SetCacheSettingsRuleActionSetCacheSettings),
			Expression: cloudflare.F(`http.hots eq "sdk.test"`),
		}}),
	})
	if err == nil || !strings.Contains(err.Error(), "http.host") {
		t.Errorf("Update() with a misspelt field = %v; want an error that suggests http.host", err)
	}
}

func sdkPurge(t *testing.T, c *cloudflare.Client, zoneID string) {
	for name, body := range map[string]cache.CachePurgeParamsBodyUnion{
		"everything": cache.CachePurgeParamsBodyCachePurgeEverything{PurgeEverything: cloudflare.F(true)},
		"tags":       cache.CachePurgeParamsBodyCachePurgeFlexPurgeByTags{Tags: cloudflare.F([]string{"a", "b"})},
		"hosts":      cache.CachePurgeParamsBodyCachePurgeFlexPurgeByHostnames{Hosts: cloudflare.F([]string{"www.sdk.test"})},
		"prefixes":   cache.CachePurgeParamsBodyCachePurgeFlexPurgeByPrefixes{Prefixes: cloudflare.F([]string{"www.sdk.test/img"})},
		"files":      cache.CachePurgeParamsBodyCachePurgeSingleFile{Files: cloudflare.F([]string{"https://www.sdk.test/a.css"})},
	} {
		if _, err := c.Cache.Purge(t.Context(), cache.CachePurgeParams{ZoneID: cloudflare.F(zoneID), Body: body}); err != nil {
			t.Errorf("Purge(%s) = %v", name, err)
		}
	}
}

// dig asks the node's DNS and returns the short answer, lines joined by a comma.
func (n *node) dig(t *testing.T, name, kind string) string {
	t.Helper()
	out := run(t, nil, "dig", "@127.0.0.1", "-p", port(t, n.DNS), "+short", "+norecurse", "+tries=1", "+time=5", name, kind)
	return strings.ReplaceAll(strings.TrimSpace(out), "\n", ",")
}
