package node

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"selvage/product/certs"
	"selvage/spec"
)

// Config is what one node is told. Every field has one name, which is its flag (--dns), its
// environment variable (SELVAGE_DNS) and its key in the file (dns); flags win over the
// environment, the environment over the file.
type Config struct {
	Data string // directory that holds everything; created if absent

	API   string // addresses to listen on, host:port; port 0 picks a free one
	HTTP  string
	HTTPS string
	DNS   string
	Admin string

	Advertise   []string // addresses that proxied records answer with; empty: where HTTP listens
	NameServers []string // names given to new zones

	Demo  bool
	Pprof bool

	AccessLog   AccessLogConfig
	Cache       CacheConfig
	MemoryLimit int64 // bytes, 0: three quarters of what the machine or its cgroup has
	Drain       time.Duration
	Log         string // debug, info, warn, error

	Workers WorkersConfig
	Storage StorageConfig

	ACME  certs.ACME // no directory: no certificates are ordered, the local CA signs
	GeoIP string     // path of a MaxMind country database, empty: none

	given map[string]string // what was set away from the defaults by flag or environment, for --takeover
}

// AccessLogConfig is what a node is told about its access log.
type AccessLogConfig struct {
	To   string // file, stdout, off
	Size int64  // bytes of one file before it is rotated
}

// CacheConfig is what a node is told about the cache of responses.
type CacheConfig struct {
	Memory int64 // bytes
	Disk   int64 // bytes; 0: in memory only
}

// WorkersConfig is what a node is told about Workers.
type WorkersConfig struct {
	Runtime string         // path of workerd, off, or empty: looked for
	Domain  string         // under which accounts have subdomains
	Allow   []netip.Prefix // networks with private addresses that Workers may reach
}

// StorageConfig is what a node is told about the products that keep data: where their own clients reach
// them. An empty address is off.
type StorageConfig struct {
	S3                 string
	R2Volume           string // where the content of large objects lies, if not in the data directory
	R2Credentials      string // file with the keys of that place
	R2Domain           string // under which public buckets have names of their own
	HyperdrivePostgres string
	HyperdriveMySQL    string
}

// setting is one field of Config with its name in flags, environment and file.
type setting struct {
	name  string
	value string // default
	kind  string // what --help calls the value: "addr", "size"
	help  string
	set   func(c *Config, v string) error
}

// settings is the list of everything that can be configured, in the order --help shows it.
func settings() []setting {
	return []setting{
		{"data", DefaultData(), "dir", "directory that holds everything the node keeps", text(func(c *Config) *string { return &c.Data })},
		{"api", "127.0.0.1:4400", "addr", "where the v4 API listens; port 0 picks a free one", addr(func(c *Config) *string { return &c.API })},
		{"http", ":8080", "addr", "where sites are served in plain HTTP", addr(func(c *Config) *string { return &c.HTTP })},
		{"https", ":8443", "addr", "where sites are served over TLS", addr(func(c *Config) *string { return &c.HTTPS })},
		{"dns", "127.0.0.1:5300", "addr", "where DNS is answered, UDP and TCP", addr(func(c *Config) *string { return &c.DNS })},
		{"admin", "127.0.0.1:9180", "addr", "where /metrics, /healthz and /readyz are; keep it private", addr(func(c *Config) *string { return &c.Admin })},
		{"s3", "127.0.0.1:4430", "addr", "where S3 clients reach the buckets of R2, or off", addrOrOff(func(c *Config) *string { return &c.Storage.S3 })},
		{"r2-volume", "", "url", "S3 service that keeps the content of large objects, s3+https://HOST/BUCKET/PREFIX/ (default: the data directory)", text(func(c *Config) *string { return &c.Storage.R2Volume })},
		{"r2-volume-keys", "", "file", "its keys, in the form of ~/.aws/credentials (default: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY)", text(func(c *Config) *string { return &c.Storage.R2Credentials })},
		{"r2-domain", "r2.localhost", "name", "domain under which public buckets have names of their own: pub-ID.DOMAIN", r2Domain},
		{"hyperdrive-postgres", "127.0.0.1:4432", "addr", "where clients of PostgreSQL reach the pools of Hyperdrive, or off; keep it private", addrOrOff(func(c *Config) *string { return &c.Storage.HyperdrivePostgres })},
		{"hyperdrive-mysql", "127.0.0.1:4406", "addr", "where clients of MySQL reach the pools of Hyperdrive, or off; keep it private", addrOrOff(func(c *Config) *string { return &c.Storage.HyperdriveMySQL })},
		{"advertise", "", "addrs", "comma-separated addresses that proxied DNS records answer with (default: where http listens)", addresses},
		{"name-servers", "ns1.selvage.internal,ns2.selvage.internal", "names", "names under which the world knows this node's DNS: new zones are delegated to them", nameServers},
		{"demo", "false", "bool", "serve the zone demo.localhost from an origin inside the node", boolean(func(c *Config) *bool { return &c.Demo })},
		{"pprof", "false", "bool", "serve /debug/pprof at the admin address", boolean(func(c *Config) *bool { return &c.Pprof })},
		{"log", "info", "level", "what the node logs to stderr: debug, info, warn, error", oneOf(func(c *Config) *string { return &c.Log }, "debug", "info", "warn", "error")},
		{"access-log", "file", "where", "one JSON line per request: file (DIR/logs/access.log), stdout, off", oneOf(func(c *Config) *string { return &c.AccessLog.To }, "file", "stdout", "off")},
		{"access-log-size", "100MiB", "size", "size at which the access log file is rotated; five old ones are kept", size(func(c *Config) *int64 { return &c.AccessLog.Size }, 1<<10)},
		{"cache-memory", "64MiB", "size", "memory for cached responses", size(func(c *Config) *int64 { return &c.Cache.Memory }, 1<<20)},
		{"cache-disk", "10GiB", "size", "disk space for cached responses; 0 caches in memory only", size(func(c *Config) *int64 { return &c.Cache.Disk }, 0)},
		{"memory-limit", "0", "size", "soft limit on the node's memory; 0 is three quarters of the machine or cgroup", size(func(c *Config) *int64 { return &c.MemoryLimit }, 0)},
		{"drain", "30s", "time", "how long requests under way may take to finish when the node stops or is taken over", duration(func(c *Config) *time.Duration { return &c.Drain })},
		{"workerd", "", "file", "runtime of Workers, or off (default: workerd beside this program, which make engines puts there)", text(func(c *Config) *string { return &c.Workers.Runtime })},
		{"workers-domain", "workers.localhost", "name", "domain under which accounts have subdomains for their Workers: NAME.ACCOUNT.DOMAIN", workersDomain},
		{"workers-allow", "", "nets", "comma-separated networks of this side that Workers may reach; private addresses are refused otherwise", networks},
		{"acme-directory", "", "url", "ACME directory to order certificates from (default: none, the local CA signs)", text(func(c *Config) *string { return &c.ACME.Directory })},
		{"acme-agree", "false", "bool", "agree to the terms of service of the ACME server; orders need it", boolean(func(c *Config) *bool { return &c.ACME.Agree })},
		{"acme-email", "", "address", "contact for the operator of the ACME server", text(func(c *Config) *string { return &c.ACME.Email })},
		{"acme-ca-file", "", "file", "PEM roots to verify the ACME server itself with (default: the system's)", text(func(c *Config) *string { return &c.ACME.CAFile })},
		{"acme-eab-key-id", "", "id", "external account binding, for ACME servers that ask for it", text(func(c *Config) *string { return &c.ACME.EABKeyID })},
		{"acme-eab-mac-key", "", "key", "its key, base64url", text(func(c *Config) *string { return &c.ACME.EABMACKey })},
		{"geoip", "", "file", "MaxMind country database for CF-IPCountry; none is shipped", text(func(c *Config) *string { return &c.GeoIP })},
	}
}

// DefaultConfig returns the configuration of `selvage up` without anything set.
func DefaultConfig() Config {
	c := Config{given: map[string]string{}}
	for _, s := range settings() {
		if err := s.set(&c, s.value); err != nil {
			panic(fmt.Sprintf("default of %s: %v", s.name, err))
		}
	}
	return c
}

// DefaultData returns where a node keeps its data unless told otherwise: $XDG_DATA_HOME/selvage or
// ~/.local/share/selvage, /var/lib/selvage for a user without a home.
func DefaultData() string {
	if dir := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "selvage")
	}
	if home, err := os.UserHomeDir(); err == nil && filepath.IsAbs(home) {
		return filepath.Join(home, ".local", "share", "selvage")
	}
	return "/var/lib/selvage"
}

func text(field func(*Config) *string) func(*Config, string) error {
	return func(c *Config, v string) error {
		*field(c) = v
		return nil
	}
}

func boolean(field func(*Config) *bool) func(*Config, string) error {
	return func(c *Config, v string) error {
		b, err := strconv.ParseBool(v)
		if err != nil {
			return fmt.Errorf("%q is not true or false", v)
		}
		*field(c) = b
		return nil
	}
}

func oneOf(field func(*Config) *string, allowed ...string) func(*Config, string) error {
	return func(c *Config, v string) error {
		for _, a := range allowed {
			if v == a {
				*field(c) = v
				return nil
			}
		}
		return fmt.Errorf("%q is not one of %s", v, strings.Join(allowed, ", "))
	}
}

func addr(field func(*Config) *string) func(*Config, string) error {
	return func(c *Config, v string) error {
		host, port, err := net.SplitHostPort(v)
		if err != nil {
			return fmt.Errorf("%q is not an address to listen on; write host:port or :port, such as 127.0.0.1:8080", v)
		}
		if n, err := strconv.ParseUint(port, 10, 16); err != nil {
			return fmt.Errorf("port %q in %q is not a number from 0 to 65535", port, v)
		} else if host != "" && host != "localhost" && net.ParseIP(strings.Split(host, "%")[0]) == nil {
			return fmt.Errorf("host %q in %q is not an IP address of this machine; port %d would do with :%d", host, v, n, n)
		}
		*field(c) = v
		return nil
	}
}

func addrOrOff(field func(*Config) *string) func(*Config, string) error {
	set := addr(field)
	return func(c *Config, v string) error {
		if v == "off" {
			*field(c) = ""
			return nil
		}
		return set(c, v)
	}
}

func addresses(c *Config, v string) error {
	c.Advertise = nil
	for part := range strings.SplitSeq(v, ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		if net.ParseIP(part) == nil {
			return fmt.Errorf("%q is not an IP address", part)
		}
		c.Advertise = append(c.Advertise, part)
	}
	return nil
}

func nameServers(c *Config, v string) error {
	c.NameServers = nil
	for part := range strings.SplitSeq(v, ",") {
		name := strings.ToLower(strings.TrimSuffix(strings.TrimSpace(part), "."))
		if err := spec.CheckHostname(name); err != nil {
			return fmt.Errorf("%q is not a host name: %w", part, err)
		}
		c.NameServers = append(c.NameServers, name)
	}
	return nil
}

func workersDomain(c *Config, v string) error {
	name := strings.ToLower(strings.TrimSuffix(v, "."))
	if err := spec.CheckHostname(name); err != nil {
		return fmt.Errorf("%q is not a host name: %w", v, err)
	}
	c.Workers.Domain = name
	return nil
}

func r2Domain(c *Config, v string) error {
	name := strings.ToLower(strings.TrimSuffix(v, "."))
	if err := spec.CheckHostname(name); err != nil {
		return fmt.Errorf("%q is not a host name: %w", v, err)
	}
	c.Storage.R2Domain = name
	return nil
}

func networks(c *Config, v string) error {
	c.Workers.Allow = nil
	for part := range strings.SplitSeq(v, ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		net, err := netip.ParsePrefix(part)
		if err != nil {
			return fmt.Errorf("%q is not a network such as 10.1.0.0/16 or 127.0.0.1/32", part)
		}
		c.Workers.Allow = append(c.Workers.Allow, net)
	}
	return nil
}

func duration(field func(*Config) *time.Duration) func(*Config, string) error {
	return func(c *Config, v string) error {
		d, err := time.ParseDuration(v)
		if err != nil || d < 0 {
			return fmt.Errorf("%q is not a duration such as 30s or 2m", v)
		}
		*field(c) = d
		return nil
	}
}

var sizeUnits = []struct {
	suffix string
	bytes  int64
}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40}, {"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12}, {"B", 1}, {"", 1}}

func size(field func(*Config) *int64, least int64) func(*Config, string) error {
	return func(c *Config, v string) error {
		n, err := parseSize(v)
		if err != nil {
			return err
		}
		if n < least {
			return fmt.Errorf("%s is too small; the least is %d bytes", v, least)
		}
		*field(c) = n
		return nil
	}
}

func parseSize(v string) (int64, error) {
	for _, u := range sizeUnits {
		digits, ok := strings.CutSuffix(v, u.suffix)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(digits), 10, 64)
		if err != nil || n < 0 || n > (1<<62)/u.bytes {
			break
		}
		return n * u.bytes, nil
	}
	return 0, fmt.Errorf("%q is not a size such as 64MiB or 10GB", v)
}

// Validate reports every fault that only shows when the fields are seen together.
func (c *Config) Validate() error {
	var faults []error
	seen := map[string]string{}
	for _, l := range []struct{ name, addr string }{{"api", c.API}, {"http", c.HTTP}, {"https", c.HTTPS}, {"dns", c.DNS}, {"admin", c.Admin}} {
		if strings.HasSuffix(l.addr, ":0") {
			continue
		}
		if other := seen[l.addr]; other != "" {
			faults = append(faults, fmt.Errorf("%s: %s is the address of %s already; give each its own", l.name, l.addr, other))
		}
		seen[l.addr] = l.name
	}
	if c.Data == "" {
		faults = append(faults, errors.New("data: it is empty; name a directory"))
	}
	if c.ACME.Directory == "" && c.ACME != (certs.ACME{}) {
		faults = append(faults, errors.New("acme-directory: other acme settings are given, but no directory to order from"))
	}
	if c.ACME.Directory != "" && !c.ACME.Agree {
		faults = append(faults, errors.New("acme-agree: orders need your agreement to the terms of service of the ACME server; set it to true"))
	}
	return errors.Join(faults...)
}
