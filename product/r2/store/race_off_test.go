//go:build !race

package store_test

const manyParts = 10_000
