package isolate_test

import (
	"context"
	"io"
	"net"
	"net/http"

	"selvage/engine/isolate"
)

// serveHTTP answers on l until ctx ends.
func serveHTTP(ctx context.Context, l net.Listener, answer func(method, host, target, proto string) string) {
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, answer(r.Method, r.Host, r.RequestURI, r.Header.Get(isolate.ProtoHeader)))
	})}
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	server.Serve(l)
}
