package cache_test

import (
	"testing"

	"selvage/product"
	"selvage/product/cache"
	"selvage/product/producttest"
)

func TestProduct(t *testing.T) {
	producttest.Run(t, func(t *testing.T) product.Product { return open(t, cache.Options{Dir: t.TempDir()}) })
}

func open(t testing.TB, o cache.Options) *cache.Cache {
	t.Helper()
	c, err := cache.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}
