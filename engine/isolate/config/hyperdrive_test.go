package config_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"selvage/engine/isolate/config"
)

// TestHyperdrive has a script read a login and connect with it: the runtime sends CONNECT.
func TestHyperdrive(t *testing.T) {
	dir := t.TempDir()
	l, err := net.Listen("unix", filepath.Join(dir, "db"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	heard := make(chan string, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		in := bufio.NewReader(c)
		r, err := http.ReadRequest(in)
		if err != nil {
			heard <- err.Error()
			return
		}
		fmt.Fprint(c, "HTTP/1.1 200 OK\r\n\r\n")
		said := make([]byte, 5)
		io.ReadFull(in, said)
		fmt.Fprint(c, "world")
		heard <- r.Method + " " + strings.TrimRight(r.Host, "0123456789") + " " + string(said)
	}()
	w := worker("2026-01-01", `export default { async fetch(request, env) {
  const h = env.HD, s = h.connect(), out = s.writable.getWriter();
  await out.write(new TextEncoder().encode("hello"));
  const {value} = await s.readable.getReader().read();
  const url = h.connectionString.replace(h.host, "HOST");
  return new Response([url, h.user, h.password, h.database, h.port, new TextDecoder().decode(value)].join(","));
} }`)
	w.Bindings = []config.Binding{{Name: "HD", Type: config.BindHyperdrive, Service: config.Designator{Name: "db"},
		Login: &config.Login{Scheme: "postgres", Database: "d", User: "u", Password: "p"}}}
	serve(t, &config.Config{
		Services: []config.Service{{Name: "m", Worker: w}, {Name: "internet", Network: &config.Network{}},
			{Name: "db", External: &config.External{Address: "unix:" + filepath.Join(dir, "db"), HTTP: config.HTTP{Proxy: true}}}},
		Sockets: []config.Socket{{Name: "a", Address: "unix:" + filepath.Join(dir, "a"), Service: config.Designator{Name: "m"}}},
	})
	got, _ := get(t, filepath.Join(dir, "a"), "http://h/")
	if want := "postgres://u:p@HOST:5432/d?sslmode=disable,u,p,d,5432,world"; got != want {
		t.Errorf("the script saw %q, want %q", got, want)
	}
	if h := <-heard; !strings.HasPrefix(h, "CONNECT ") || !strings.HasSuffix(h, ".hyperdrive.local: hello") {
		t.Errorf("the database heard %q", h)
	}
}
