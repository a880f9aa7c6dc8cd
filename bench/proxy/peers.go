package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"selvage/bench/rig"
)

// peer is a program under test.
type peer struct {
	name          string
	program       *rig.Program
	plain, secure string // host:port
	admin         string // where Selvage can be profiled; empty for others
	caches        bool
	statusField   string // response header that says HIT; empty if none does
	note          string // why there are no figures for hits
}

// startPeers starts everything that is measured. What it started comes back even with an error.
func startPeers(dir string, originPort int) ([]*peer, error) {
	if err := makeCertificate(dir); err != nil {
		return nil, err
	}
	var peers []*peer
	for _, program := range []struct {
		name  string
		start func(string, int) (*peer, error)
	}{{"selvage", startSelvage}, {"nginx", startNginxPlain}, {"nginx tuned", startNginxTuned}, {"caddy", startCaddy}} {
		if only := os.Getenv("BENCH_PEERS"); only != "" && !slices.Contains(strings.Split(only, ","), program.name) {
			continue
		}
		p, err := program.start(dir, originPort)
		if err != nil {
			return peers, err
		}
		peers = append(peers, p)
		for _, addr := range []string{p.plain, p.secure} {
			if err := p.program.AwaitPort(addr); err != nil {
				return peers, err
			}
		}
	}
	return peers, nil
}

// startSelvage runs a whole node as `selvage up` does: access log and metrics on, configured
// through the API.
func startSelvage(dir string, originPort int) (*peer, error) {
	admin := fmt.Sprintf("127.0.0.1:%d", rig.FreePort())
	n, err := rig.StartNode(testCPU, filepath.Join(dir, "selvage"), "--pprof", "--admin", admin)
	if err != nil {
		return nil, err
	}
	if _, err := n.AddSite(host, originPort); err != nil {
		n.Stop()
		return nil, err
	}
	return &peer{name: "selvage", program: n.Program, plain: rig.Addr(n.HTTP), secure: rig.Addr(n.HTTPS), admin: admin, caches: true, statusField: "CF-Cache-Status"}, nil
}

// startNginxPlain is nginx as most people run it: connections to the origin kept, the rest default.
func startNginxPlain(dir string, originPort int) (*peer, error) {
	return nginxPeer(dir, "nginx", originPort, "access_log "+filepath.Join(dir, "nginx.log")+";")
}

// startNginxTuned has larger buffers, a buffered log and open files remembered.
func startNginxTuned(dir string, originPort int) (*peer, error) {
	return nginxPeer(dir, "nginx tuned", originPort, "access_log "+filepath.Join(dir, "nginx-tuned.log")+` combined buffer=64k flush=1s;
  proxy_buffers 16 32k; proxy_buffer_size 32k; proxy_busy_buffers_size 128k; ssl_buffer_size 16k;
  open_file_cache max=1000 inactive=60s; open_file_cache_valid 60s;`)
}

func nginxPeer(dir, name string, originPort int, settings string) (*peer, error) {
	plain, secure := fmt.Sprintf("127.0.0.1:%d", rig.FreePort()), fmt.Sprintf("127.0.0.1:%d", rig.FreePort())
	file := strings.ReplaceAll(name, " ", "-")
	conf := fmt.Sprintf(`%s
  %s
  sendfile on; keepalive_requests 1000000000;
  proxy_cache_path %s levels=1:2 keys_zone=c:16m max_size=1g inactive=1h use_temp_path=off;
  upstream origin { server 127.0.0.1:%d; keepalive 128; keepalive_requests 1000000000; }
  server {
    listen %s; listen %s ssl http2; server_name %s;
    ssl_certificate %s; ssl_certificate_key %s; ssl_session_cache shared:s:1m;
    proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host;
    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; proxy_set_header X-Forwarded-Proto $scheme;
    location / { proxy_pass http://origin; }
    location /hit/ { proxy_pass http://origin; proxy_cache c; add_header X-Cache $upstream_cache_status; }
  }
}`, nginxHead(dir, file), settings, filepath.Join(dir, file+"-cache"), originPort, plain, secure, host,
		filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"))
	program, err := startNginx(dir, file, testCPU, conf)
	if err != nil {
		return nil, err
	}
	return &peer{name: name, program: program, plain: plain, secure: secure, caches: true, statusField: "X-Cache"}, nil
}

// startCaddy runs Caddy with its log on. Its standard build has no cache.
func startCaddy(dir string, originPort int) (*peer, error) {
	bin := os.Getenv("CADDY_BIN")
	if bin == "" {
		return nil, fmt.Errorf("CADDY_BIN has to name Caddy; bench/proxy/run builds it")
	}
	plain, secure := rig.FreePort(), rig.FreePort()
	conf := filepath.Join(dir, "Caddyfile")
	site := fmt.Sprintf(`log {
		output file %s
	}
	reverse_proxy 127.0.0.1:%d`, filepath.Join(dir, "caddy.log"), originPort)
	err := os.WriteFile(conf, fmt.Appendf(nil, `{
	admin off
	auto_https disable_redirects
	default_bind 127.0.0.1
	storage file_system %s
}
http://%s:%d {
	%s
}
https://%s:%d {
	tls %s %s
	%s
}
`, filepath.Join(dir, "caddy"), host, plain, site, host, secure, filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"), site), 0o644)
	if err != nil {
		return nil, err
	}
	program, err := rig.Start(testCPU, bin, "run", "--config", conf, "--adapter", "caddyfile")
	if err != nil {
		return nil, err
	}
	return &peer{name: "caddy", program: program, plain: fmt.Sprintf("127.0.0.1:%d", plain), secure: fmt.Sprintf("127.0.0.1:%d", secure),
		note: "Caddy's standard build has no cache"}, nil
}

func startNginx(dir, name, cpu, conf string) (*rig.Program, error) {
	file := filepath.Join(dir, name+".conf")
	if err := os.WriteFile(file, []byte(conf), 0o644); err != nil {
		return nil, err
	}
	return rig.Start(cpu, "nginx", "-p", dir, "-c", file)
}

// nginxHead begins a configuration, up to what stands within http; it keeps nginx inside dir.
func nginxHead(dir, name string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "daemon off; worker_processes 1; worker_rlimit_nofile 10000; error_log stderr; pid %s.pid;\n", filepath.Join(dir, name))
	b.WriteString("events { worker_connections 4096; }\nhttp {\n")
	for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		fmt.Fprintf(&b, "  %s_temp_path %s;\n", kind, filepath.Join(dir, name+"-"+kind))
	}
	return b.String()
}

// makeCertificate writes a self-signed P-256 certificate: the kind that Selvage's local CA makes too.
func makeCertificate(dir string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: host}, DNSNames: []string{host},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "cert.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "key.pem"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), 0o600)
}
