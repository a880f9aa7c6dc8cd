package volume

import (
	"context"
	"io"
	"net/http"
)

// Stored returns an object as the service has it.
func (v *S3) Stored(ctx context.Context, name string) ([]byte, error) {
	res, err := v.do(ctx, &request{method: http.MethodGet, key: v.o.Prefix + name})
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	return io.ReadAll(res.Body)
}

// Store puts an object as it is.
func (v *S3) Store(ctx context.Context, name string, stored []byte) error {
	_, err := v.put(ctx, v.o.Prefix+name, nil, stored)
	return err
}

// UseNames has the volume behave as where the filesystem knows no files without a name.
func (v *Local) UseNames() *Local {
	v.named = true
	return v
}
