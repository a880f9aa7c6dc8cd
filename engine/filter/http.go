package filter

// The fields of an HTTP exchange.
const (
	HTTPHost Field = iota + 1
	HTTPMethod
	HTTPURI
	HTTPPath
	HTTPExtension
	HTTPQuery
	HTTPArgs
	HTTPArgNames
	HTTPArgValues
	HTTPFullURI
	HTTPHeaders
	HTTPHeaderNames
	HTTPHeaderValues
	HTTPCookie
	HTTPCookies
	HTTPUserAgent
	HTTPReferer
	HTTPForwardedFor
	HTTPVersion
	HTTPLanguages
	HTTPTimeSeconds
	HTTPTimeMillis
	ClientIP
	ClientCountry
	ClientSecure
	TLSVersion
	TLSCipher
	ZoneName
	RayID
	ResponseCode
	ResponseMediaType
	ResponseHeaders
	ResponseHeaderNames
	ResponseHeaderValues
)

// HTTPFields are the fields that a request has before there is a response, with the names that
// Cloudflare documents. ip.geoip.country is the older name of ip.src.country; the raw.* fields are
// the same as their plain ones because requests are not normalised.
var HTTPFields = []FieldDef{
	{"http.host", HTTPHost, String},
	{"http.request.method", HTTPMethod, String},
	{"http.request.uri", HTTPURI, String},
	{"http.request.uri.path", HTTPPath, String},
	{"http.request.uri.path.extension", HTTPExtension, String},
	{"http.request.uri.query", HTTPQuery, String},
	{"http.request.uri.args", HTTPArgs, MapOf(ArrayOf(String))},
	{"http.request.uri.args.names", HTTPArgNames, ArrayOf(String)},
	{"http.request.uri.args.values", HTTPArgValues, ArrayOf(String)},
	{"http.request.full_uri", HTTPFullURI, String},
	{"http.request.headers", HTTPHeaders, MapOf(ArrayOf(String))},
	{"http.request.headers.names", HTTPHeaderNames, ArrayOf(String)},
	{"http.request.headers.values", HTTPHeaderValues, ArrayOf(String)},
	{"http.request.accepted_languages", HTTPLanguages, ArrayOf(String)},
	{"http.request.cookies", HTTPCookies, MapOf(ArrayOf(String))},
	{"http.request.version", HTTPVersion, String},
	{"http.request.timestamp.sec", HTTPTimeSeconds, Int},
	{"http.request.timestamp.msec", HTTPTimeMillis, Int},
	{"http.cookie", HTTPCookie, String},
	{"http.referer", HTTPReferer, String},
	{"http.user_agent", HTTPUserAgent, String},
	{"http.x_forwarded_for", HTTPForwardedFor, String},
	{"ip.src", ClientIP, IP},
	{"ip.src.country", ClientCountry, String},
	{"ip.geoip.country", ClientCountry, String},
	{"ssl", ClientSecure, Bool},
	{"cf.tls_version", TLSVersion, String},
	{"cf.tls_cipher", TLSCipher, String},
	{"cf.zone.name", ZoneName, String},
	{"cf.ray_id", RayID, String},
	{"raw.http.request.full_uri", HTTPFullURI, String},
	{"raw.http.request.uri", HTTPURI, String},
	{"raw.http.request.uri.path", HTTPPath, String},
	{"raw.http.request.uri.query", HTTPQuery, String},
}

// ResponseFields are the fields that come with the response, for phases that run after it.
var ResponseFields = []FieldDef{
	{"http.response.code", ResponseCode, Int},
	{"http.response.content_type.media_type", ResponseMediaType, String},
	{"http.response.headers", ResponseHeaders, MapOf(ArrayOf(String))},
	{"http.response.headers.names", ResponseHeaderNames, ArrayOf(String)},
	{"http.response.headers.values", ResponseHeaderValues, ArrayOf(String)},
}

// RequestSchema returns the schema of phases that run before the response.
func RequestSchema() *Schema { return NewSchema(HTTPFields...) }

// ResponseSchema returns the schema of phases that run after the response.
func ResponseSchema() *Schema {
	return NewSchema(append(append([]FieldDef(nil), HTTPFields...), ResponseFields...)...)
}
