package producttest

import (
	"context"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"selvage/edge"
	"selvage/edge/socket"
	"selvage/engine/isolate"
	"selvage/foundation/observe"
	"selvage/product"
	"selvage/spec"
)

// Bind serves one of a product's bindings as node and runtime do, without a runtime, and returns a
// client to send requests with, whatever host they name.
func Bind(t testing.TB, p product.Binder, user product.BindingUser, b *spec.WorkerBinding) *http.Client {
	t.Helper()
	path := BindSocket(t, p, user, b)
	tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

// BindSocket is Bind for who brings a client, such as a real runtime: it returns the socket's path.
func BindSocket(t testing.TB, p product.Binder, user product.BindingUser, b *spec.WorkerBinding) string {
	t.Helper()
	for _, kind := range p.Bindings() {
		if kind.Type == b.Type {
			return serve(t, &kind, kind.Handle(user, b))
		}
	}
	t.Fatalf("the product has no bindings of type %q", b.Type)
	return ""
}

func serve(t testing.TB, kind *product.BindingType, handle edge.Handler) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "bind") // short, for the names of sockets are bounded
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := &socket.Server{Name: "test", Log: observe.Observer{}.Logger(), CFField: isolate.CFHeader, ProtoField: isolate.ProtoHeader, Handle: handle, Refuse: kind.Refuse}
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() { s.Serve(ctx, l) })
	t.Cleanup(func() {
		cancel()
		done.Wait()
		os.RemoveAll(dir)
	})
	return path
}
