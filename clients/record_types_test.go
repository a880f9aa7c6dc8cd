package clients

import (
	"testing"

	"github.com/cloudflare/cloudflare-go/v6"
	"github.com/cloudflare/cloudflare-go/v6/dns"
	"github.com/cloudflare/cloudflare-go/v6/option"
)

// TestRecordTypes creates a record of each type with cloudflare-go's own type for it, and reads it
// back as that type with the same data.
func TestRecordTypes(t *testing.T) {
	n := startNode(t)
	c := cloudflare.NewClient(option.WithBaseURL(n.API), option.WithAPIToken(n.Token))
	zone := n.call(t, "POST", "/zones", map[string]any{"name": "types.test", "account": map[string]any{"id": n.AccountID}})
	zoneID := zone["id"].(string)
	name, ttl := cloudflare.F("x.types.test"), cloudflare.F(dns.TTL(300))
	for want, body := range map[string]dns.RecordNewParamsBodyUnion{
		"5 5060 sip.types.test": dns.SRVRecordParam{Name: cloudflare.F("_sip._tcp.types.test"), TTL: ttl, Type: cloudflare.F(dns.SRVRecordTypeSRV),
			Data: cloudflare.F(dns.SRVRecordDataParam{Priority: cloudflare.F(10.0), Weight: cloudflare.F(5.0), Port: cloudflare.F(5060.0), Target: cloudflare.F("sip.types.test")})},
		`0 issue "letsencrypt.org"`: dns.CAARecordParam{Name: name, TTL: ttl, Type: cloudflare.F(dns.CAARecordTypeCAA),
			Data: cloudflare.F(dns.CAARecordDataParam{Flags: cloudflare.F(0.0), Tag: cloudflare.F("issue"), Value: cloudflare.F("letsencrypt.org")})},
		"3 1 1 00ff": dns.TLSARecordParam{Name: name, TTL: ttl, Type: cloudflare.F(dns.TLSARecordTypeTLSA),
			Data: cloudflare.F(dns.TLSARecordDataParam{Usage: cloudflare.F(3.0), Selector: cloudflare.F(1.0), MatchingType: cloudflare.F(1.0), Certificate: cloudflare.F("00ff")})},
		`1 . alpn="h3,h2"`: dns.HTTPSRecordParam{Name: name, TTL: ttl, Type: cloudflare.F(dns.HTTPSRecordTypeHTTPS),
			Data: cloudflare.F(dns.HTTPSRecordDataParam{Priority: cloudflare.F(1.0), Target: cloudflare.F("."), Value: cloudflare.F(`alpn="h3,h2"`)})},
		"12345 13 2 00ff": dns.DSRecordParam{Name: name, TTL: ttl, Type: cloudflare.F(dns.DSRecordTypeDS),
			Data: cloudflare.F(dns.DSRecordDataParam{KeyTag: cloudflare.F(12345.0), Algorithm: cloudflare.F(13.0), DigestType: cloudflare.F(2.0), Digest: cloudflare.F("00ff")})},
		`1 "https://types.test/"`: dns.URIRecordParam{Name: name, TTL: ttl, Type: cloudflare.F(dns.URIRecordTypeURI), Priority: cloudflare.F(10.0),
			Data: cloudflare.F(dns.URIRecordDataParam{Weight: cloudflare.F(1.0), Target: cloudflare.F("https://types.test/")})},
		"mail.types.test": dns.MXRecordParam{Name: name, TTL: ttl, Type: cloudflare.F(dns.MXRecordTypeMX), Priority: cloudflare.F(10.0), Content: cloudflare.F("mail.types.test")},
		`"hello world"`:   dns.TXTRecordParam{Name: name, TTL: ttl, Type: cloudflare.F(dns.TXTRecordTypeTXT), Content: cloudflare.F(`"hello world"`)},
	} {
		made, err := c.DNS.Records.New(t.Context(), dns.RecordNewParams{ZoneID: cloudflare.F(zoneID), Body: body})
		if err != nil {
			t.Errorf("create %s: %v", want, err)
			continue
		}
		got, err := c.DNS.Records.Get(t.Context(), made.ID, dns.RecordGetParams{ZoneID: cloudflare.F(zoneID)})
		if err != nil || got.Content != want || got.TTL != 300 || got.AsUnion() == nil {
			t.Errorf("%s came back as %q, TTL %v, %T: %v", want, got.Content, got.TTL, got.AsUnion(), err)
		}
	}
	if got := n.dig(t, "_sip._tcp.types.test", "SRV"); got != "10 5 5060 sip.types.test." {
		t.Errorf("dig SRV = %s", got)
	}
}
