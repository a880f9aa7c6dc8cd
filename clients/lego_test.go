package clients

import (
	"strings"
	"testing"
	"time"

	"github.com/go-acme/lego/v4/challenge/dns01"
	legocloudflare "github.com/go-acme/lego/v4/providers/dns/cloudflare"
)

// TestLego puts and removes an ACME DNS-01 answer with lego's cloudflare provider, which finds the
// zone by asking our DNS for SOA records first.
func TestLego(t *testing.T) {
	n := startNode(t)
	n.call(t, "POST", "/zones", map[string]any{"name": "lego.test", "account": map[string]any{"id": n.AccountID}})
	if err := dns01.AddRecursiveNameservers([]string{"127.0.0.1:" + port(t, n.DNS)})(nil); err != nil {
		t.Fatal(err)
	}
	config := legocloudflare.NewDefaultConfig()
	config.BaseURL, config.AuthToken, config.ZoneToken = n.API, n.Token, n.Token
	config.PropagationTimeout = 10 * time.Second
	p, err := legocloudflare.NewDNSProviderConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Present("deep.www.lego.test", "token", "key-authorization"); err != nil {
		t.Fatal(err)
	}
	info := dns01.GetChallengeInfo("deep.www.lego.test", "key-authorization")
	name := strings.TrimSuffix(info.EffectiveFQDN, ".")
	if got := n.dig(t, name, "TXT"); got != `"`+info.Value+`"` {
		t.Errorf("dig TXT %s = %s, want %q", name, got, info.Value)
	}
	if err := p.CleanUp("deep.www.lego.test", "token", "key-authorization"); err != nil {
		t.Fatal(err)
	}
	if got := n.dig(t, name, "TXT"); got != "" {
		t.Errorf("dig TXT after CleanUp = %s", got)
	}
}
