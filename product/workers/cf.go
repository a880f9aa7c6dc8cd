package workers

import (
	"crypto/tls"
	"encoding/json"

	"selvage/edge"
)

// requestCF is request.cf: what the edge knows of a request. Source: Cloudflare's
// "IncomingRequestCfProperties"; what a node cannot know (city, autonomous system, round trip) is
// left out, as it is there for requests from unknown places.
type requestCF struct {
	Colo           string        `json:"colo"`
	Country        string        `json:"country,omitempty"`
	IsEU           string        `json:"isEUCountry,omitempty"`
	HTTPProtocol   string        `json:"httpProtocol"`
	TLSVersion     string        `json:"tlsVersion"`
	TLSCipher      string        `json:"tlsCipher"`
	TLSClientAuth  tlsClientAuth `json:"tlsClientAuth"`
	AcceptEncoding string        `json:"clientAcceptEncoding,omitempty"`
	Priority       string        `json:"requestPriority"`
	KeepAlive      int           `json:"edgeRequestKeepAliveStatus"`
}

type tlsClientAuth struct {
	Presented string `json:"certPresented"`
	Verified  string `json:"certVerified"`
	Revoked   string `json:"certRevoked"`
}

var europeanUnion = map[string]bool{
	"AT": true, "BE": true, "BG": true, "CY": true, "CZ": true, "DE": true, "DK": true, "EE": true, "ES": true, "FI": true, "FR": true, "GR": true, "HR": true, "HU": true,
	"IE": true, "IT": true, "LT": true, "LU": true, "LV": true, "MT": true, "NL": true, "PL": true, "PT": true, "RO": true, "SE": true, "SI": true, "SK": true,
}

var tlsVersions = map[uint16]string{tls.VersionTLS10: "TLSv1", tls.VersionTLS11: "TLSv1.1", tls.VersionTLS12: "TLSv1.2", tls.VersionTLS13: "TLSv1.3"}

// describe returns request.cf of ex as JSON.
func describe(ex *edge.Exchange, pop string) []byte {
	cf := requestCF{
		Colo: pop, Country: ex.Country, HTTPProtocol: ex.Request.Proto, AcceptEncoding: ex.AcceptEncoding, KeepAlive: 1,
		TLSClientAuth: tlsClientAuth{"0", "NONE", "0"},
	}
	if europeanUnion[ex.Country] {
		cf.IsEU = "1"
	}
	if ex.TLS != nil {
		cf.TLSVersion, cf.TLSCipher = tlsVersions[ex.TLS.Version], tls.CipherSuiteName(ex.TLS.Cipher)
	}
	data, err := json.Marshal(&cf)
	if err != nil {
		return nil // cannot be: strings and numbers
	}
	return data
}
