package workers

import (
	"crypto/tls"
	"encoding/json"

	"selvage/edge"
)

var europeanUnion = map[string]bool{
	"AT": true, "BE": true, "BG": true, "CY": true, "CZ": true, "DE": true, "DK": true, "EE": true, "ES": true, "FI": true, "FR": true, "GR": true, "HR": true, "HU": true,
	"IE": true, "IT": true, "LT": true, "LU": true, "LV": true, "MT": true, "NL": true, "PL": true, "PT": true, "RO": true, "SE": true, "SI": true, "SK": true,
}

var tlsVersions = map[uint16]string{tls.VersionTLS10: "TLSv1", tls.VersionTLS11: "TLSv1.1", tls.VersionTLS12: "TLSv1.2", tls.VersionTLS13: "TLSv1.3"}

// describe returns request.cf of ex as JSON: what the edge knows of a request. Source: Cloudflare's
// "IncomingRequestCfProperties"; what a node cannot know (city, autonomous system, round trip) is left
// out, as it is there for requests from unknown places. It is made for every request, so it is appended and not
// marshalled; only what the client says of itself needs quoting.
func describe(ex *edge.Exchange, pop string) []byte {
	b := make([]byte, 0, 320)
	b = append(append(b, `{"colo":"`...), pop...)
	if ex.Country != "" {
		b = append(append(b, `","country":"`...), ex.Country...)
		if europeanUnion[ex.Country] {
			b = append(b, `","isEUCountry":"1`...)
		}
	}
	b = append(append(b, `","httpProtocol":"`...), ex.Request.Proto...)
	version, cipher := "", ""
	if ex.TLS != nil {
		version, cipher = tlsVersions[ex.TLS.Version], tls.CipherSuiteName(ex.TLS.Cipher)
	}
	b = append(append(b, `","tlsVersion":"`...), version...)
	b = append(append(b, `","tlsCipher":"`...), cipher...)
	b = append(b, `","tlsClientAuth":{"certPresented":"0","certVerified":"NONE","certRevoked":"0"}`...)
	if ex.AcceptEncoding != "" {
		if quoted, err := json.Marshal(ex.AcceptEncoding); err == nil {
			b = append(append(b, `,"clientAcceptEncoding":`...), quoted...)
		}
	}
	return append(b, `,"requestPriority":"","edgeRequestKeepAliveStatus":1}`...)
}
