package workers

import (
	"crypto/tls"
	"encoding/json"
	"testing"

	"selvage/edge"
)

func TestRequestCFIsJSON(t *testing.T) {
	for name, ex := range map[string]*edge.Exchange{
		"plain": {Request: edge.Request{Proto: "HTTP/1.1"}},
		"all": {Country: "DE", AcceptEncoding: "br, \"odd\"\n", TLS: &edge.TLS{Version: tls.VersionTLS13, Cipher: tls.TLS_AES_128_GCM_SHA256},
			Request: edge.Request{Proto: "HTTP/2"}},
	} {
		var cf map[string]any
		if err := json.Unmarshal(describe(ex, "LOCAL"), &cf); err != nil {
			t.Fatalf("%s: %v in %s", name, err, describe(ex, "LOCAL"))
		}
		if cf["colo"] != "LOCAL" || cf["httpProtocol"] != ex.Request.Proto {
			t.Errorf("%s: %v", name, cf)
		}
		if name == "all" && (cf["country"] != "DE" || cf["isEUCountry"] != "1" || cf["tlsVersion"] != "TLSv1.3" || cf["clientAcceptEncoding"] != ex.AcceptEncoding) {
			t.Errorf("%s: %v", name, cf)
		}
	}
}
